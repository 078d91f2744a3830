//! What introspection says of a token (RFC 7662 §2.2, §4).

use http::{Method, Uri, header};
use serde_json::{Value, json};

use super::{
    NOW,
    access_token::{good, rules},
    answer, answer_as, claims, with,
};
use crate::{
    identity::TokenError,
    oauth::{
        access_token::{AccessToken, Rules, from_introspection},
        answer::AnswerError,
        client::{ClientAuth, ClientRegistration},
        introspection::{self, Introspected},
    },
    secret::Secret,
    time::Timestamp,
};

#[test]
fn n_084_the_token_is_asked_about_in_the_body_and_by_this_client() {
    let client = ClientRegistration {
        client_id: "door".into(),
        auth: ClientAuth::SecretBasic(Secret::new("s")),
    };
    let request = introspection::request(
        &Uri::from_static("https://id.example.com/introspect"),
        &client,
        "a+b c&=",
    );
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri(), "https://id.example.com/introspect");
    assert_eq!(request.body(), "token=a%2Bb+c%26%3D&token_type_hint=access_token");
    assert_eq!(request.headers()[header::AUTHORIZATION], "Basic ZG9vcjpz");
    assert_eq!(
        request.headers()[header::CONTENT_TYPE],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(request.headers()[header::ACCEPT], "application/json");
}

#[test]
fn n_094_a_token_that_is_bound_to_a_key_is_no_bearer_token() {
    for bound in [json!({ "jkt": "x" }), json!({ "x5t#S256": "x" }), json!({}), json!(1)] {
        let claims = with(&good(), &json!({ "cnf": bound }));
        assert_eq!(
            introspected(&claims).err(),
            Some(TokenError::SenderConstrained),
            "{bound}"
        );
    }
}

fn introspected(answer: &Value) -> Result<AccessToken, TokenError> {
    from_introspection(Introspected::Active(claims(answer)), &rules(), NOW)
}

#[test]
fn n_085_only_true_is_active() {
    let read = |body: Value| introspection::read(&answer(200, &body));
    for active in [
        json!("true"),
        json!(1),
        json!(null),
        json!([true]),
        json!({}),
        json!(false),
        json!(""),
    ] {
        let body = json!({ "active": active, "sub": "ann", "scope": "admin" });
        assert_eq!(read(body), Ok(Introspected::Inactive), "{active}");
    }
    assert_eq!(read(json!({ "sub": "ann" })), Ok(Introspected::Inactive));
    assert_eq!(
        read(json!({ "active": true, "sub": "ann" })),
        Ok(Introspected::Active(claims(&json!({ "sub": "ann" }))))
    );
    assert_eq!(
        from_introspection(Introspected::Inactive, &rules(), NOW).err(),
        Some(TokenError::Inactive)
    );
}

#[test]
fn n_089_n_090_what_is_no_answer_says_nothing_of_the_token() {
    let active = json!({ "active": true, "sub": "ann" });
    for (status, error) in [(401, AnswerError::Credentials), (403, AnswerError::Credentials)] {
        assert_eq!(introspection::read(&answer(status, &active)), Err(error), "{status}");
    }
    for status in [201, 204, 302, 400, 404, 408, 429, 500, 502, 503] {
        assert!(introspection::read(&answer(status, &active)).is_err(), "{status}");
    }
    for content_type in [
        "",
        "text/html",
        "text/plain",
        "application/token-introspection+jwt",
        "text/json",
    ] {
        assert!(
            introspection::read(&answer_as(200, content_type, &active.to_string())).is_err(),
            "{content_type}"
        );
    }
    for body in [
        "",
        "[]",
        "null",
        "true",
        r#"{"active":false,"active":true}"#,
        r#"{"active":true}}"#,
    ] {
        assert!(
            introspection::read(&answer_as(200, "application/json", body)).is_err(),
            "{body}"
        );
    }
}

#[test]
fn n_087_an_active_token_whose_time_is_over_is_not_good() {
    let end = |seconds: i64| introspected(&with(&good(), &json!({ "exp": NOW.unix() + seconds }))).map(drop);
    assert_eq!(end(1), Ok(()));
    assert_eq!(end(0), Err(TokenError::Expired));
    assert_eq!(end(-1), Err(TokenError::Expired));
}

#[test]
fn i_13_an_answer_that_names_no_audience_is_for_nobody_here_until_the_file_excuses_it() {
    let answer = json!({ "sub": "ann" });
    assert_eq!(introspected(&answer).err(), Some(TokenError::Audience));
    let until = |until: i64| Rules {
        missing_audience_until: Some(Timestamp::from_unix(NOW.unix() + until)),
        ..rules()
    };
    let read = |rules: &Rules| from_introspection(Introspected::Active(claims(&answer)), rules, NOW);
    assert_eq!(read(&until(1)).unwrap().expires_at, None);
    assert_eq!(read(&until(0)).err(), Some(TokenError::Audience));
}

#[test]
fn n_088_what_the_answer_says_is_checked() {
    assert!(introspected(&with(&good(), &json!({ "token_type": "Bearer" }))).is_ok());
    let cases = [
        (json!({ "iss": "https://evil.example" }), TokenError::UnknownIssuer),
        (json!({ "iss": 1 }), TokenError::Claim("iss")),
        (json!({ "aud": "other" }), TokenError::Audience),
        (json!({ "aud": [] }), TokenError::Audience),
        (json!({ "aud": 1 }), TokenError::Claim("aud")),
        (json!({ "exp": "soon" }), TokenError::Claim("exp")),
        (json!({ "nbf": NOW.unix() + 31 }), TokenError::NotYetValid),
        (json!({ "iat": NOW.unix() + 31 }), TokenError::NotYetValid),
        (json!({ "scope": 1 }), TokenError::Claim("scope")),
        (json!({ "sub": 1 }), TokenError::Claim("sub")),
        (json!({ "sub": "" }), TokenError::Claim("sub")),
        (json!({ "token_type": "refresh_token" }), TokenError::Type),
        (json!({ "token_type": "DPoP" }), TokenError::Type),
        (json!({ "token_type": 1 }), TokenError::Type),
    ];
    for (changes, error) in cases {
        assert_eq!(introspected(&with(&good(), &changes)).err(), Some(error), "{changes}");
    }
}

#[test]
fn a_token_without_subject_is_its_clients() {
    let subject = |answer: Value| {
        introspected(&with(&json!({ "aud": "https://api.example.com" }), &answer))
            .map(|token| token.subject.as_str().to_owned())
    };
    assert_eq!(subject(json!({ "client_id": "app" })).unwrap(), "app");
    assert_eq!(subject(json!({ "client_id": "app", "sub": "ann" })).unwrap(), "ann");
    assert_eq!(subject(json!({ "client_id": "" })), Err(TokenError::Claim("sub")));
    assert_eq!(subject(json!({ "username": "ann" })), Err(TokenError::Claim("sub")));
}
