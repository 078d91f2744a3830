//! What an authorization server says of itself, and the two messages that need nothing else: userinfo and logout.

use http::{Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use url::Url;

use super::{answer, answer_as, claims, with};
use crate::{
    identity::{Issuer, Subject},
    oauth::{
        answer::AnswerError,
        discovery::{self, Metadata, trustworthy},
        jwt::Algorithm,
        logout, userinfo,
    },
    secret::Secret,
};

const ISSUER: &str = "https://id.example.com/corp";

fn good() -> Value {
    json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://id.example.com/authorize?p=1",
        "token_endpoint": "https://id.example.com/token",
        "jwks_uri": "https://keys.example.com/keys",
    })
}

fn changed(changes: &Value) -> Result<Metadata, AnswerError> {
    Metadata::read(&answer(200, &with(&good(), changes)), &Issuer::new(ISSUER))
}

#[test]
fn n_057_the_document_is_sought_at_both_places() {
    for (issuer, oidc, oauth) in [
        (
            "https://id.example.com",
            "https://id.example.com/.well-known/openid-configuration",
            "https://id.example.com/.well-known/oauth-authorization-server",
        ),
        (
            "https://id.example.com/",
            "https://id.example.com/.well-known/openid-configuration",
            "https://id.example.com/.well-known/oauth-authorization-server",
        ),
        (
            "https://id.example.com:8443/realms/a%20b/",
            "https://id.example.com:8443/realms/a%20b/.well-known/openid-configuration",
            "https://id.example.com:8443/.well-known/oauth-authorization-server/realms/a%20b",
        ),
    ] {
        let requests = discovery::requests(&Issuer::new(issuer));
        let places: Vec<_> = requests.iter().map(|request| request.uri().to_string()).collect();
        assert_eq!(places, [oidc, oauth]);
        assert!(
            requests
                .iter()
                .all(|request| request.method() == Method::GET && request.headers().len() == 1)
        );
    }
    assert!(discovery::requests(&Issuer::new("no url")).is_empty());
}

#[test]
fn n_056_the_document_names_the_issuer_to_the_byte() {
    assert!(changed(&json!({})).is_ok());
    for issuer in [
        json!(null),
        json!(1),
        json!([ISSUER]),
        json!("https://id.example.com/corp/"),
        json!("https://id.example.com/Corp"),
        json!("https://ID.example.com/corp"),
        json!("http://id.example.com/corp"),
        json!("https://id.example.com:443/corp"),
    ] {
        assert!(
            matches!(changed(&json!({ "issuer": issuer })), Err(AnswerError::Nonsense(_))),
            "{issuer}"
        );
    }
}

#[test]
fn n_058_an_endpoint_is_https_or_this_machine() {
    for name in [
        "authorization_endpoint",
        "token_endpoint",
        "userinfo_endpoint",
        "introspection_endpoint",
        "jwks_uri",
    ] {
        for endpoint in [
            json!("http://id.example.com/x"),
            json!("http://localhost.example.com/"),
            json!("http://127.0.0.1.example.com/"),
            json!("https://id.example.com/#x"),
            json!("https://id.example.com/#"),
            json!("https://ann@id.example.com/"),
            json!("https://:pw@id.example.com/"),
            json!("ftp://id.example.com/"),
            json!("javascript:alert(1)"),
            json!("file:///etc/passwd"),
            json!("/token"),
            json!("//id.example.com/token"),
            json!(""),
            json!(1),
            json!([]),
        ] {
            assert!(changed(&json!({ name: endpoint })).is_err(), "{name}: {endpoint}");
        }
        assert!(changed(&json!({ name: null })).is_ok(), "{name}");
    }
}

#[test]
fn n_058_this_machine_may_do_without_tls() {
    for url in [
        "http://localhost/",
        "http://127.0.0.1:9000/x",
        "http://127.9.9.9/",
        "http://[::1]:1/",
        "http://2130706433/",
    ] {
        assert!(trustworthy(url).is_some(), "{url}");
    }
    for url in [
        "http://0.0.0.0/",
        "http://[::]/",
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://[::ffff:10.0.0.1]/",
    ] {
        assert!(trustworthy(url).is_none(), "{url}");
    }
}

#[test]
fn n_059_only_a_json_object_with_200_is_metadata() {
    let read = |status, content_type: &str, body: &str| {
        Metadata::read(&answer_as(status, content_type, body), &Issuer::new(ISSUER)).is_ok()
    };
    let good = good().to_string();
    assert!(read(200, "application/json", &good));
    for status in [201, 203, 301, 302, 307, 401, 404, 500, 503] {
        assert!(!read(status, "application/json", &good), "{status}");
    }
    assert!(!read(200, "text/html", &good));
    let twice = format!(r#"{{"issuer":"https://evil.example","issuer":"{ISSUER}"}}"#);
    for body in ["<html>", "", "[]", &format!("{good}{good}"), &twice] {
        assert!(!read(200, "application/json", body), "{body}");
    }
}

#[test]
fn the_members_are_read() {
    let metadata = changed(&json!({
        "id_token_signing_alg_values_supported": ["HS256", "ES256", "none", 7, "RS256"],
        "end_session_endpoint": "https://id.example.com/bye",
    }))
    .unwrap();
    assert_eq!(
        metadata.authorization_endpoint.unwrap().as_str(),
        "https://id.example.com/authorize?p=1"
    );
    assert_eq!(metadata.jwks_uri.unwrap(), "https://keys.example.com/keys");
    assert_eq!(
        metadata.end_session_endpoint.unwrap().as_str(),
        "https://id.example.com/bye"
    );
    assert_eq!(
        metadata.id_token_algorithms,
        Some(vec![Algorithm::ES256, Algorithm::RS256])
    );
    assert_eq!(changed(&json!({})).unwrap().id_token_algorithms, None);
}

#[test]
fn n_002_a_list_of_methods_without_s256_refuses_it() {
    for (methods, refuses) in [
        (json!(null), false),
        (json!(["S256"]), false),
        (json!(["plain", "S256"]), false),
        (json!(["plain"]), true),
        (json!([]), true),
        (json!(["s256"]), true),
    ] {
        let metadata = changed(&json!({ "code_challenge_methods_supported": methods })).unwrap();
        assert_eq!(metadata.refuses_s256, refuses, "{methods}");
    }
}

#[test]
fn n_018_only_true_promises_the_issuer_in_the_response() {
    for (promise, names_issuer) in [
        (json!(true), true),
        (json!(false), false),
        (json!("true"), false),
        (json!(null), false),
    ] {
        let metadata = changed(&json!({ "authorization_response_iss_parameter_supported": promise })).unwrap();
        assert_eq!(metadata.response_names_issuer, names_issuer, "{promise}");
    }
}

#[test]
fn another_account_is_chosen_by_a_login_only_where_nothing_else_is_listed() {
    for (prompts, by_login) in [
        (json!(["none", "login", "consent"]), true),
        (json!(["none", "login", "select_account"]), false),
        (json!(["none"]), false),
        (json!(null), false),
    ] {
        let metadata = changed(&json!({ "prompt_values_supported": prompts })).unwrap();
        assert_eq!(metadata.changes_account_by_login, by_login, "{prompts}");
    }
}

#[test]
fn userinfo_is_asked_with_the_access_token_in_the_header() {
    let endpoint = Uri::from_static("https://id.example.com/me");
    let request = userinfo::request(&endpoint, &Secret::new("a.b-c")).unwrap();
    assert_eq!(request.method(), Method::GET);
    assert_eq!(request.uri(), "https://id.example.com/me");
    assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer a.b-c");
    assert!(!format!("{request:?}").contains("a.b-c"));
    assert!(userinfo::request(&endpoint, &Secret::new("a\r\nHost: evil")).is_err());
}

#[test]
fn n_048_userinfo_is_about_the_same_person() {
    let ann = Subject::new("ann").unwrap();
    let read = |body: &Value| userinfo::read(&answer(200, body), &ann);
    let more = json!({ "sub": "ann", "iss": "https://evil.example", "aud": "x", "name": "Ann" });
    assert_eq!(read(&more), Ok(claims(&json!({ "name": "Ann" }))));
    for sub in [
        json!(null),
        json!("eve"),
        json!("Ann"),
        json!("ann "),
        json!(["ann"]),
        json!(1),
        json!(""),
    ] {
        let body = with(&more, &json!({ "sub": sub }));
        assert!(matches!(read(&body), Err(AnswerError::Nonsense(_))), "{sub}");
    }
}

#[test]
fn n_049_a_signed_userinfo_answer_is_refused() {
    let ann = Subject::new("ann").unwrap();
    assert!(userinfo::read(&answer_as(200, "application/jwt", "e30.e30."), &ann).is_err());
    let unhappy = |status| userinfo::read(&answer(status, &json!({ "sub": "ann" })), &ann).unwrap_err();
    assert_eq!(unhappy(401), AnswerError::Credentials);
    assert_eq!(unhappy(503), AnswerError::Overloaded(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(unhappy(302), AnswerError::Unexpected(StatusCode::FOUND));
}

#[test]
fn the_browser_is_sent_to_sign_out_with_what_names_its_session() {
    let endpoint = Url::parse("https://id.example.com/bye?p=1").unwrap();
    let back = "https://app.example.com/?a=b&c";
    let hint = Secret::new("a.b.c");
    assert_eq!(
        logout::url(&endpoint, "door", Some(&hint), back, "s 1"),
        "https://id.example.com/bye?p=1&id_token_hint=a.b.c&client_id=door\
         &post_logout_redirect_uri=https%3A%2F%2Fapp.example.com%2F%3Fa%3Db%26c&state=s+1"
    );
    assert!(!logout::url(&endpoint, "door", None, back, "s").contains("id_token_hint"));
}
