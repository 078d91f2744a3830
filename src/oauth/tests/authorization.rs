//! The authorization request and its response (RFC 6749 §4.1.1, §4.1.2, RFC 7636, RFC 9207).

use std::time::Duration;

use http::{Method, Uri, header};
use serde_json::{Value, json};
use url::Url;

use super::{
    NOW, answer, id_token,
    signer::{jwk, key_set, sign},
    with,
};
use crate::{
    identity::{Issuer, ProviderId, Scopes, Strength, TokenError},
    oauth::{
        authorization::{
            AuthorizationError, AuthorizationRequest, AuthorizationResponse, CodeGrant, LoginSecrets, PendingLogin,
        },
        client::{ClientAuth, ClientRegistration},
        token::{Login, TokenResponse},
    },
    secret::Secret,
    time::Timestamp,
};

/// The example of RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

const ARRIVED_AT: &str = "https://app.example.com/back?x=1";

fn begin(endpoint: &str, names_issuer: Option<()>) -> (String, PendingLogin) {
    let request = AuthorizationRequest {
        provider: &ProviderId::new("corp"),
        issuer: &Issuer::new("https://id.example.com"),
        client_id: "door",
        endpoint: &Url::parse(endpoint).unwrap(),
        scopes: &Scopes::parse("openid email"),
        parameters: &[("prompt".into(), "a&b=c".into())],
        redirect_uri: ARRIVED_AT.into(),
        return_to: "/page?q=1".into(),
        strength: Strength::default(),
        prompt: None,
        response_names_issuer: names_issuer.is_some(),
    };
    let secrets = LoginSecrets {
        state: "login.state".into(),
        nonce: "n-1".into(),
        code_verifier: Secret::new(VERIFIER),
    };
    request.begin(secrets, NOW)
}

fn pending() -> PendingLogin {
    begin("https://id.example.com/authorize", None).1
}

fn after(seconds: i64) -> Timestamp {
    Timestamp::from_unix(NOW.unix() + seconds)
}

fn accept(pending: PendingLogin, query: &str, now: Timestamp) -> Result<CodeGrant, AuthorizationError> {
    pending.accept(AuthorizationResponse::from_query(query)?, ARRIVED_AT, now)
}

#[test]
fn n_001_the_request_has_each_parameter_once() {
    let (location, _) = begin("https://id.example.com/authorize", None);
    assert_eq!(
        location,
        format!(
            "https://id.example.com/authorize?response_type=code&client_id=door\
             &redirect_uri=https%3A%2F%2Fapp.example.com%2Fback%3Fx%3D1&scope=openid+email&state=login.state&nonce=n-1\
             &code_challenge={CHALLENGE}&code_challenge_method=S256&prompt=a%26b%3Dc"
        )
    );
}

#[test]
fn n_007_the_query_of_the_endpoint_is_kept() {
    let (location, _) = begin("https://id.example.com/authorize?p=b2c%20x", None);
    assert!(
        location.starts_with("https://id.example.com/authorize?p=b2c%20x&response_type=code&"),
        "{location}"
    );
}

#[test]
fn the_location_tells_nobody_the_verifier() {
    let (location, pending) = begin("https://id.example.com/authorize", None);
    assert!(!location.contains(VERIFIER));
    assert!(!format!("{pending:?}").contains(VERIFIER));
}

#[test]
fn n_020_a_response_that_came_to_another_redirect_uri_is_another_providers() {
    let response = AuthorizationResponse::from_query("code=c&state=login.state").unwrap();
    let outcome = pending().accept(response, "https://app.example.com/back/other", NOW);
    assert_eq!(outcome.err(), Some(AuthorizationError::Issuer));
}

#[test]
fn n_016_only_the_state_of_the_attempt_is_accepted() {
    assert!(accept(pending(), "code=c&state=login.state", NOW).is_ok());
    for state in [
        "login.other",
        "login.stat",
        "login.state.",
        "LOGIN.STATE",
        "login.state%20",
    ] {
        let outcome = accept(pending(), &format!("code=c&state={state}"), NOW);
        assert_eq!(outcome.err(), Some(AuthorizationError::State), "{state}");
    }
    for query in ["code=c", "code=c&state=", "error=access_denied"] {
        assert_eq!(
            accept(pending(), query, NOW).err(),
            Some(AuthorizationError::Parameter("state")),
            "{query}"
        );
    }
}

#[test]
fn n_016_an_attempt_lasts_ten_minutes() {
    let at = |seconds: i64| accept(pending(), "code=c&state=login.state", after(seconds)).err();
    assert_eq!(at(600), None);
    assert_eq!(at(601), Some(AuthorizationError::Stale));
}

#[test]
fn n_016_a_replica_whose_clock_is_a_little_behind_accepts_the_attempt() {
    let at = |seconds: i64| accept(pending(), "code=c&state=login.state", after(seconds)).err();
    assert_eq!(at(-30), None);
    assert_eq!(at(-31), Some(AuthorizationError::Stale));
}

#[test]
fn n_018_n_019_the_response_is_from_the_issuer_that_was_asked() {
    let named = |query: &str, names_issuer: Option<()>| {
        let (_, pending) = begin("https://id.example.com/authorize", names_issuer);
        accept(pending, &format!("code=c&state=login.state{query}"), NOW).err()
    };
    let wrong = Some(AuthorizationError::Issuer);
    for promised in [None, Some(())] {
        assert_eq!(named("&iss=https%3A%2F%2Fid.example.com", promised), None);
        for issuer in [
            "https://id.example.com/",
            "https://Id.example.com",
            "http://id.example.com",
            "id.example.com",
        ] {
            assert_eq!(named(&format!("&iss={issuer}"), promised), wrong, "{issuer}");
        }
    }
    assert_eq!(named("", None), None);
    assert_eq!(named("", Some(())), wrong);
    assert_eq!(named("&iss=", Some(())), wrong);
}

#[test]
fn n_019_an_error_of_another_issuer_is_not_believed() {
    let query = "error=access_denied&state=login.state&iss=https://evil.example";
    assert_eq!(accept(pending(), query, NOW).err(), Some(AuthorizationError::Issuer));
}

#[test]
fn n_021_a_repeated_parameter_is_refused() {
    for (name, query) in [
        ("code", "code=c&code=c&state=login.state"),
        ("code", "code=c&state=login.state&code="),
        ("code", "c%6Fde=c&code=d&state=login.state"),
        ("state", "code=c&state=login.state&state=login.state"),
        (
            "iss",
            "code=c&state=login.state&iss=https://id.example.com&iss=https://evil.example",
        ),
        ("error", "error=a&error=b&state=login.state"),
    ] {
        assert_eq!(
            accept(pending(), query, NOW).err(),
            Some(AuthorizationError::Parameter(name)),
            "{query}"
        );
    }
}

#[test]
fn n_021_a_response_is_a_code_or_an_error() {
    for query in [
        "",
        "state=login.state",
        "code=&state=login.state",
        "code=c&error=access_denied&state=login.state",
    ] {
        assert_eq!(
            accept(pending(), query, NOW).err(),
            Some(AuthorizationError::Parameter("code")),
            "{query}"
        );
    }
}

#[test]
fn n_005_a_token_in_the_response_is_not_taken_and_n_023_what_is_unknown_is_ignored() {
    let query = "session_state=x&code=c&state=login.state&scope=a&scope=b&access_token=t&id_token=i";
    assert!(accept(pending(), query, NOW).is_ok());
    let query = "access_token=t&id_token=i&state=login.state";
    assert_eq!(
        accept(pending(), query, NOW).err(),
        Some(AuthorizationError::Parameter("code"))
    );
}

#[test]
fn n_022_an_error_is_one_of_the_known_codes() {
    let refused = |code: &str| {
        accept(
            pending(),
            &format!("error={code}&state=login.state&error_description=x"),
            NOW,
        )
        .err()
    };
    for code in [
        "access_denied",
        "login_required",
        "server_error",
        "temporarily_unavailable",
        "invalid_scope",
    ] {
        assert_eq!(refused(code), Some(AuthorizationError::Refused(code)));
    }
    assert_eq!(refused("<script>"), Some(AuthorizationError::Refused("other")));
    let foreign = accept(pending(), "error=access_denied&state=login.x", NOW).err();
    assert_eq!(foreign, Some(AuthorizationError::State));
}

#[test]
fn a_pending_login_is_read_as_it_was_written() {
    let (_, before) = begin("https://id.example.com/authorize", Some(()));
    let read = PendingLogin::from_json(&before.to_json()).unwrap();
    assert_eq!(read.to_json(), before.to_json());
    assert_eq!(format!("{read:?}"), format!("{before:?}"));
    assert_eq!((read.provider().as_str(), read.return_to()), ("corp", "/page?q=1"));
    assert_eq!(read.issuer().as_str(), "https://id.example.com");
    assert!(accept(read, "code=c&state=login.state&iss=https://id.example.com", NOW).is_ok());
}

#[test]
fn a_pending_login_of_another_version_is_not_read() {
    let written: Value = serde_json::from_slice(&pending().to_json()).unwrap();
    for changes in [
        json!({ "v": 0 }),
        json!({ "v": 2 }),
        json!({ "v": "1" }),
        json!({ "v": null }),
        json!({ "nonce": null }),
        json!({ "code_verifier": null }),
        json!({ "state": 1 }),
        json!({ "names_issuer": "no" }),
        json!({ "prompt": "none" }),
    ] {
        let bytes = with(&written, &changes).to_string();
        assert!(PendingLogin::from_json(bytes.as_bytes()).is_none(), "{changes}");
    }
    for bytes in ["", "{}", "null", "[]"] {
        assert!(PendingLogin::from_json(bytes.as_bytes()).is_none(), "{bytes}");
    }
}

fn client() -> ClientRegistration {
    ClientRegistration {
        client_id: "door".into(),
        auth: ClientAuth::SecretBasic(Secret::new("s")),
    }
}

#[test]
fn n_027_the_code_is_redeemed_in_the_body_with_the_same_redirect_uri_and_the_verifier() {
    let grant = accept(pending(), "code=a%2Bb+c&state=login.state", NOW).unwrap();
    let request = grant.request(&Uri::from_static("https://id.example.com/token"), &client());
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri(), "https://id.example.com/token");
    assert_eq!(
        request.headers()[header::CONTENT_TYPE],
        "application/x-www-form-urlencoded"
    );
    let redirect_uri = "https%3A%2F%2Fapp.example.com%2Fback%3Fx%3D1";
    let body =
        format!("grant_type=authorization_code&code=a%2Bb+c&redirect_uri={redirect_uri}&code_verifier={VERIFIER}");
    assert_eq!(request.body(), &body);
}

fn finish(answered: &Value) -> Result<Login, TokenError> {
    let grant = accept(pending(), "code=c&state=login.state", NOW).unwrap();
    let tokens = TokenResponse::read(&answer(200, answered)).unwrap();
    let (rules, keys) = (id_token::rules(), key_set(&[jwk("ES256")]));
    grant.finish(&tokens, &rules, &keys, Duration::from_secs(60), NOW)
}

fn tokens(id_token: &Value) -> Value {
    let id_token = sign(&json!({ "alg": "ES256" }), id_token);
    json!({ "token_type": "Bearer", "access_token": "a", "id_token": id_token })
}

#[test]
fn a_finished_login_says_who_it_is_and_what_was_granted() {
    let login = finish(&tokens(&id_token::good())).unwrap();
    assert_eq!((login.provider.as_str(), login.subject.as_str()), ("corp", "ann"));
    assert_eq!(login.scopes, Scopes::parse("openid email"));
    assert_eq!(login.access_expires_at, after(60));
    let narrower = with(
        &tokens(&id_token::good()),
        &json!({ "scope": "openid", "expires_in": 5 }),
    );
    let login = finish(&narrower).unwrap();
    assert_eq!(
        (login.scopes, login.access_expires_at),
        (Scopes::parse("openid"), after(5))
    );
}

#[test]
fn n_045_a_login_without_id_token_or_with_the_nonce_of_another_is_none() {
    let without = with(&tokens(&id_token::good()), &json!({ "id_token": null }));
    assert_eq!(finish(&without).err(), Some(TokenError::Claim("id_token")));
    for nonce in [json!(null), json!("n-2")] {
        let answered = tokens(&with(&id_token::good(), &json!({ "nonce": nonce })));
        assert_eq!(finish(&answered).err(), Some(TokenError::Claim("nonce")), "{nonce}");
    }
}
