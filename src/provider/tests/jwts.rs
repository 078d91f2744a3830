//! Signed access tokens: by whose keys they are checked, and how long that is remembered.

use serde_json::json;

use super::{
    BearerKind, Reply, Server, after, all, bearer_settings, keys, metadata, nothing_more, one, opened, settings,
    subject, well,
};
use crate::{
    identity::TokenError,
    oauth::{
        jwt::MAX_LENGTH,
        tests::{NOW, signer::sign},
    },
    provider::{BearerError, EndpointOverrides, Settings},
    time::Timestamp,
};

fn token_of(issuer: &str, key_id: &str, now: Timestamp) -> String {
    let claims = json!({
        "iss": issuer, "aud": "api", "sub": "ann", "client_id": "app", "jti": "1", "iat": now, "exp": now.unix() + 20,
    });
    sign(&json!({ "alg": "ES256", "typ": "at+jwt", "kid": key_id }), &claims)
}

/// A token that is good for twenty seconds.
pub(super) fn token(key_id: &str, now: Timestamp) -> String {
    token_of("https://id.example.com", key_id, now)
}

fn error(verdict: Result<String, BearerError>) -> TokenError {
    match verdict {
        Err(BearerError::Token(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn providers_are_told_apart_by_the_issuer_before_any_key_is_fetched() {
    let (near, far) = (
        Server::new(well(nothing_more)),
        Server::new(|path| match path {
            "/keys" => Reply::Answer(200, keys(&["a"])),
            _ => Reply::Answer(200, metadata("https://far.example.com")),
        }),
    );
    let providers = all(&[
        one(BearerKind::Auto, &near),
        opened(settings("far", "https://far.example.com", BearerKind::Jwt), &far),
    ]);
    assert_eq!(
        error(subject(&providers, &token_of("https://evil.example", "a", NOW), NOW).await),
        TokenError::UnknownIssuer
    );
    assert_eq!((near.calls(""), far.calls("")), (0, 0));
    assert_eq!(
        subject(&providers, &token_of("https://far.example.com", "a", NOW), NOW)
            .await
            .unwrap(),
        "ann"
    );
    assert_eq!(near.calls(""), 0);
}

#[tokio::test]
async fn a_token_counts_only_where_its_provider_is_allowed() {
    let server = Server::new(well(nothing_more));
    let corp = one(BearerKind::Jwt, &server);
    let other = opened(settings("other", "https://other.example.com", BearerKind::Jwt), &server);
    let providers = all(&[corp.clone(), other.clone()]);
    let token = token("a", NOW);
    assert!(
        providers
            .authenticate_bearer(&[corp.id().clone()], &token, NOW)
            .await
            .is_ok()
    );
    let elsewhere = providers.authenticate_bearer(&[other.id().clone()], &token, NOW).await;
    assert!(matches!(elsewhere, Err(BearerError::Token(TokenError::UnknownIssuer))));
    assert!(matches!(
        providers.authenticate_bearer(&[], &token, NOW).await,
        Err(BearerError::Token(_))
    ));
}

#[tokio::test]
async fn n_075_a_remembered_token_ends_with_its_skew_and_not_later() {
    let server = Server::new(well(nothing_more));
    let providers = all(&[one(BearerKind::Jwt, &server)]);
    let token = token("a", NOW);
    for seconds in [0, 19, 20, 49] {
        assert_eq!(
            subject(&providers, &token, after(seconds)).await.unwrap(),
            "ann",
            "{seconds}"
        );
    }
    for seconds in [50, 51, 1_000] {
        assert_eq!(
            error(subject(&providers, &token, after(seconds)).await),
            TokenError::Expired,
            "{seconds}"
        );
    }
}

#[tokio::test]
async fn a_token_is_checked_anew_when_the_cache_time_is_over() {
    let server = Server::new(well(nothing_more));
    let mut settings = settings("corp", "https://id.example.com", BearerKind::Jwt);
    settings.bearer.as_mut().unwrap().cache_ttl = std::time::Duration::from_secs(5);
    let providers = all(&[opened(settings, &server)]);
    let first = token("a", NOW);
    subject(&providers, &first, NOW).await.unwrap();
    server.behaves(|_| Reply::Answer(200, keys(&["b"])));
    assert!(subject(&providers, &token("b", after(1)), after(1)).await.is_ok());
    assert!(subject(&providers, &first, after(4)).await.is_ok());
    assert_eq!(
        error(subject(&providers, &first, after(5)).await),
        TokenError::UnknownKey
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_told_apart() {
    let server = Server::new(well(nothing_more));
    let providers = all(&[one(BearerKind::Jwt, &server)]);
    let mut forged = token("a", NOW);
    let end = forged.pop().unwrap();
    forged.push(if end == 'A' { 'Q' } else { 'A' });
    assert_eq!(error(subject(&providers, &forged, NOW).await), TokenError::Signature);
    assert_eq!(
        error(subject(&providers, &"a".repeat(MAX_LENGTH + 1), NOW).await),
        TokenError::TooLong
    );
    assert_eq!(
        error(subject(&providers, "opaque", NOW).await),
        TokenError::UnknownIssuer
    );
    assert_eq!(
        error(subject(&providers, &token("a", after(60)), NOW).await),
        TokenError::NotYetValid
    );
}

#[tokio::test]
async fn without_keys_nobody_can_tell() {
    let server = Server::new(|_| Reply::Unreachable);
    let providers = all(&[one(BearerKind::Jwt, &server)]);
    assert!(matches!(
        subject(&providers, &token("a", NOW), NOW).await,
        Err(BearerError::Provider(_))
    ));
}

#[tokio::test]
async fn n_061_an_endpoint_of_the_file_wins_over_the_metadata() {
    let server = Server::new(|path| match path {
        "/own" => Reply::Answer(200, keys(&["a"])),
        _ => Reply::Unreachable,
    });
    let settings = Settings {
        bearer: Some(bearer_settings(BearerKind::Jwt)),
        endpoints: EndpointOverrides {
            jwks_uri: Some("https://keys.example.com/own".into()),
            ..EndpointOverrides::default()
        },
        ..settings("corp", "https://id.example.com", BearerKind::Jwt)
    };
    let providers = all(&[opened(settings, &server)]);
    assert_eq!(subject(&providers, &token("a", NOW), NOW).await.unwrap(), "ann");
    assert_eq!(server.calls(""), 1);
}
