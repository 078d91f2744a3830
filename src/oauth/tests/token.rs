//! The token endpoint's requests and answers (RFC 6749 §4.1.3, §5, §6).

use std::time::Duration;

use http::{Method, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::{
    NOW, answer, answer_as, claims, id_token,
    signer::{jwk, key_set, sign},
    with,
};
use crate::{
    identity::{Claims, Issuer, ProviderId, Scopes, Subject, TokenError},
    oauth::{
        answer::AnswerError,
        client::{ClientAuth, ClientRegistration},
        token::{Login, TokenResponse, refresh_request, refreshed, renewed},
    },
    secret::Secret,
};

fn good() -> Value {
    json!({ "token_type": "Bearer", "access_token": "a", "expires_in": 300, "refresh_token": "r", "id_token": "i" })
}

fn changed(changes: &Value) -> Result<TokenResponse, AnswerError> {
    TokenResponse::read(&answer(200, &with(&good(), changes)))
}

fn exposed(secret: Option<&Secret>) -> Option<&str> {
    secret.map(Secret::expose)
}

#[test]
fn a_good_answer_is_read() {
    let tokens = changed(&json!({ "scope": "openid email" })).unwrap();
    assert_eq!(tokens.access_token.expose(), "a");
    assert_eq!(tokens.expires_in, Some(Duration::from_secs(300)));
    assert_eq!(exposed(tokens.refresh_token.as_ref()), Some("r"));
    assert_eq!(exposed(tokens.id_token.as_ref()), Some("i"));
    assert_eq!(tokens.scopes, Some(Scopes::parse("openid email")));
}

#[test]
fn n_033_the_token_type_is_bearer_in_any_case() {
    for kind in ["Bearer", "bearer", "BEARER"] {
        assert!(changed(&json!({ "token_type": kind })).is_ok(), "{kind}");
    }
    for kind in [
        json!(null),
        json!("DPoP"),
        json!("mac"),
        json!(""),
        json!(1),
        json!(["Bearer"]),
    ] {
        assert!(
            matches!(changed(&json!({ "token_type": kind })), Err(AnswerError::Nonsense(_))),
            "{kind}"
        );
    }
}

#[test]
fn n_034_how_long_the_token_is_good_does_not_wrap() {
    let seconds = |value: Value| {
        changed(&json!({ "expires_in": value }))
            .unwrap()
            .expires_in
            .map(|time| time.as_secs())
    };
    assert_eq!(seconds(json!(3600)), Some(3600));
    assert_eq!(seconds(json!("3600")), Some(3600));
    assert_eq!(seconds(json!(0)), None, "it would be over before it came");
    let decade = Some(10 * 365 * 86_400);
    assert_eq!(seconds(json!(u64::MAX)), decade);
    assert_eq!(seconds(json!(9_007_199_254_740_993_u64)), decade);
    for value in [
        json!(null),
        json!(-1),
        json!(1e300),
        json!("soon"),
        json!("-5"),
        json!(true),
        json!([3600]),
    ] {
        assert_eq!(seconds(value.clone()), None, "{value}");
    }
}

#[test]
fn n_035_an_answer_without_access_token_is_none() {
    for token in [
        json!(null),
        json!(""),
        json!(1),
        json!(["a"]),
        json!("a\nb"),
        json!("å"),
        json!("a\u{7f}"),
    ] {
        assert!(
            matches!(
                changed(&json!({ "access_token": token })),
                Err(AnswerError::Nonsense(_))
            ),
            "{token}"
        );
    }
    for name in ["refresh_token", "id_token"] {
        for token in [json!(""), json!(1), json!("a\r\nb")] {
            assert!(changed(&json!({ name: token })).is_err(), "{name}: {token}");
        }
        assert!(changed(&json!({ name: null })).is_ok(), "{name}");
    }
}

#[test]
fn n_035_an_answer_that_is_no_json_object_is_none() {
    let good = good().to_string();
    for content_type in [
        "",
        "text/html",
        "text/plain; charset=utf-8",
        "application/x-www-form-urlencoded",
    ] {
        assert!(
            TokenResponse::read(&answer_as(200, content_type, &good)).is_err(),
            "{content_type}"
        );
    }
    for content_type in [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/json;charset=utf-8",
    ] {
        assert!(
            TokenResponse::read(&answer_as(200, content_type, &good)).is_ok(),
            "{content_type}"
        );
    }
    for body in ["", "[]", "null", "<html>", "access_token=a&token_type=Bearer"] {
        assert!(
            TokenResponse::read(&answer_as(200, "application/json", body)).is_err(),
            "{body}"
        );
    }
    let twice = r#"{"token_type":"Bearer","access_token":"a","access_token":"b"}"#;
    assert!(TokenResponse::read(&answer_as(200, "application/json", twice)).is_err());
}

#[test]
fn n_035_a_success_that_is_also_an_error_is_none() {
    for error in [json!("invalid_grant"), json!(1), json!("")] {
        assert!(
            matches!(changed(&json!({ "error": error })), Err(AnswerError::Nonsense(_))),
            "{error}"
        );
    }
}

#[test]
fn n_035_a_refusal_is_told_by_its_code() {
    let refusal = |status, code: &str| TokenResponse::read(&answer(status, &json!({ "error": code }))).unwrap_err();
    for code in [
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "unauthorized_client",
        "unsupported_grant_type",
    ] {
        let AnswerError::Refused(told) = refusal(400, code) else {
            panic!("{code}");
        };
        assert_eq!(told, code);
    }
    assert_eq!(refusal(400, "<script>"), AnswerError::Refused("other"));
    assert_eq!(refusal(400, "invalid_client"), AnswerError::Credentials);
    assert_eq!(refusal(401, "invalid_client"), AnswerError::Credentials);
    assert_eq!(refusal(401, "invalid_grant"), AnswerError::Refused("invalid_grant"));
}

#[test]
fn n_038_only_a_refusal_says_that_a_grant_is_over() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let error = TokenResponse::read(&answer(status, &json!({ "error": "invalid_grant" }))).unwrap_err();
        assert_eq!(error, AnswerError::Overloaded(StatusCode::from_u16(status).unwrap()));
    }
    for status in [201, 204, 301, 302, 307, 404, 405] {
        let error = TokenResponse::read(&answer(status, &good())).unwrap_err();
        assert_eq!(error, AnswerError::Unexpected(StatusCode::from_u16(status).unwrap()));
    }
    assert_eq!(
        TokenResponse::read(&answer_as(401, "text/html", "no")).err(),
        Some(AnswerError::Credentials)
    );
    let odd = TokenResponse::read(&answer_as(400, "text/html", "no")).unwrap_err();
    assert_eq!(odd, AnswerError::Unexpected(StatusCode::BAD_REQUEST));
}

#[test]
fn n_036_the_scopes_that_were_granted_are_read_or_the_answer_is_none() {
    let scopes = |value: Value| changed(&json!({ "scope": value })).map(|tokens| tokens.scopes);
    assert_eq!(scopes(json!(null)).unwrap(), None);
    assert_eq!(scopes(json!("")).unwrap(), Some(Scopes::default()));
    assert_eq!(
        scopes(json!(["openid", "email"])).unwrap(),
        Some(Scopes::parse("openid email"))
    );
    for value in [json!(1), json!({}), json!(["openid", 1]), json!(true)] {
        assert!(
            matches!(scopes(value.clone()), Err(AnswerError::Nonsense(_))),
            "{value}"
        );
    }
}

#[test]
fn a_refresh_sends_the_token_in_the_body() {
    let client = ClientRegistration {
        client_id: "door".into(),
        auth: ClientAuth::SecretBasic(Secret::new("s")),
    };
    let request = refresh_request(
        &Uri::from_static("https://id.example.com/token"),
        &client,
        &Secret::new("r+1"),
    );
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri(), "https://id.example.com/token");
    assert_eq!(
        request.headers()[header::CONTENT_TYPE],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(request.headers()[header::AUTHORIZATION], "Basic ZG9vcjpz");
    assert_eq!(request.body(), "grant_type=refresh_token&refresh_token=r%2B1");
}

fn login() -> Login {
    Login {
        provider: ProviderId::new("corp"),
        issuer: Issuer::new("https://id.example.com"),
        subject: Subject::new("ann").unwrap(),
        claims: claims(&json!({ "sub": "ann", "name": "Ann", "email": "ann@example.com", "email_verified": true })),
        scopes: Scopes::parse("openid email"),
        access_token: Some(Secret::new("old")),
        access_received_at: NOW.minus(Duration::from_secs(60)),
        access_expires_at: NOW,
        refresh_token: Some(Secret::new("old-r")),
        id_token: Some(Secret::new("old-i")),
    }
}

fn refresh(answered: &Value) -> Result<Login, TokenError> {
    let tokens = TokenResponse::read(&answer(200, answered)).unwrap();
    let (rules, keys) = (id_token::rules(), key_set(&[jwk("ES256")]));
    refreshed(&login(), tokens, &rules, &keys, Duration::from_secs(60), NOW)
}

/// The answer to a refresh that brings an ID token with some claims changed.
fn refresh_with(changes: &Value) -> Result<Login, TokenError> {
    let claims = with(&with(&id_token::good(), &json!({ "nonce": null })), changes);
    let token = sign(&json!({ "alg": "ES256" }), &claims);
    refresh(&json!({ "token_type": "Bearer", "access_token": "new", "id_token": token }))
}

#[test]
fn n_038_a_refresh_keeps_what_the_answer_left_out() {
    let next = refresh(&json!({ "token_type": "Bearer", "access_token": "new" })).unwrap();
    assert_eq!(next.access_token.unwrap().expose(), "new");
    assert_eq!(next.access_expires_at.unix(), NOW.unix() + 60);
    assert_eq!(exposed(next.refresh_token.as_ref()), Some("old-r"));
    assert_eq!(exposed(next.id_token.as_ref()), Some("old-i"));
    assert_eq!(next.scopes, login().scopes);
    assert_eq!(renewed(next.claims, None, login().claims), login().claims);
}

#[test]
fn n_038_a_refresh_replaces_what_the_answer_brought() {
    let brought = json!({ "scope": "openid", "refresh_token": "new-r", "expires_in": 5 });
    let answer = with(&json!({ "token_type": "Bearer", "access_token": "new" }), &brought);
    let next = refresh(&answer).unwrap();
    assert_eq!(exposed(next.refresh_token.as_ref()), Some("new-r"));
    assert_eq!(next.access_expires_at.unix(), NOW.unix() + 5);
    assert_eq!(next.scopes, Scopes::parse("openid"));
    assert_eq!(
        refresh_with(&json!({ "name": "Anna" })).unwrap().claims.text("name"),
        Some("Anna")
    );
}

#[test]
fn n_050_a_refresh_is_about_the_same_person_from_the_same_issuer_for_the_same_client() {
    assert!(refresh_with(&json!({})).is_ok());
    assert!(refresh_with(&json!({ "nonce": "n-1" })).is_ok());
    let cases = [
        (json!({ "sub": "eve" }), TokenError::Claim("sub")),
        (json!({ "sub": null }), TokenError::Claim("sub")),
        (json!({ "iss": "https://evil.example" }), TokenError::UnknownIssuer),
        (json!({ "aud": "other" }), TokenError::Audience),
        (json!({ "exp": NOW.unix() - 30 }), TokenError::Expired),
    ];
    for (changes, error) in cases {
        assert_eq!(refresh_with(&changes).err(), Some(error), "{changes}");
    }
}

#[test]
fn an_address_is_as_verified_as_the_token_says_that_brings_it() {
    let after = |changes: Value| renewed(refresh_with(&changes).unwrap().claims, None, login().claims);
    let changed = after(json!({ "email": "victim@example.com" }));
    assert_eq!(changed.text("email"), Some("victim@example.com"));
    assert_eq!(changed.member("email_verified"), None);
    assert_eq!(after(json!({ "email_verified": true })).text("email"), None);
    let kept = after(json!({}));
    assert_eq!(kept.text("email"), Some("ann@example.com"));
    assert_eq!(kept.member("email_verified"), Some(&json!(true)));
}

#[test]
fn what_userinfo_no_longer_says_is_no_longer_true() {
    let old = claims(&json!({ "sub": "ann", "sid": "s1", "acr": "gold", "groups": ["admins"], "name": "Ann" }));
    let userinfo = Some(claims(&json!({ "name": "Anna" })));
    let now = renewed(Claims::default(), userinfo, old);
    assert_eq!(
        now,
        claims(&json!({ "sub": "ann", "sid": "s1", "acr": "gold", "name": "Anna" }))
    );
}
