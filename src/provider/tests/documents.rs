//! Metadata and keys: fetched once for all who wait, again when there is reason to, and kept through an outage.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{BearerKind, Reply, Server, after, all, jwts::token, keys, metadata, nothing_more, one, subject, well};
use crate::{
    identity::TokenError,
    oauth::{
        authorization::{Account, LoginSecrets},
        tests::NOW,
    },
    provider::{BearerError, Provider, ProviderError},
    secret::Secret,
    time::Timestamp,
};

const OIDC: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

async fn begin(provider: &Arc<Provider>, now: Timestamp) -> Result<(), ProviderError> {
    let secrets = LoginSecrets {
        state: "s".into(),
        nonce: "n".into(),
        code_verifier: Secret::new("v"),
    };
    let request = provider.authorization_request(
        secrets,
        "https://app.example.com/back".into(),
        "/".into(),
        Default::default(),
        Account::Any,
        now,
    );
    request.await.map(drop)
}

#[tokio::test]
async fn n_056_discovery_is_tried_again_after_pauses_of_one_to_thirty_seconds() {
    let server = Server::new(|_| Reply::Unreachable);
    let provider = one(BearerKind::Jwt, &server);
    assert!(matches!(
        begin(&provider, NOW).await,
        Err(ProviderError::Unavailable { .. })
    ));
    let mut now = 0;
    for (tries, pause) in [1, 2, 4, 8, 16, 30, 30].into_iter().enumerate() {
        assert!(begin(&provider, after(now + pause - 1)).await.is_err());
        assert_eq!(server.calls(OIDC), tries + 1, "{pause}");
        now += pause;
        assert!(begin(&provider, after(now)).await.is_err());
        assert_eq!(server.calls(OIDC), tries + 2, "{pause}");
    }
    server.behaves(well(nothing_more));
    assert!(begin(&provider, after(now + 30)).await.is_ok());
    assert!(begin(&provider, after(now + 31)).await.is_ok());
    assert_eq!(server.calls(OIDC), 9);
}

#[tokio::test]
async fn n_057_the_second_place_is_tried_where_the_first_has_nothing_good() {
    for first in [
        Reply::Answer(404, json!({})),
        Reply::Answer(200, metadata("https://evil.example")),
    ] {
        let mut first = Some(first);
        let server = Server::new(move |path| match path {
            OIDC => first.take().unwrap(),
            _ => Reply::Answer(200, metadata("https://id.example.com")),
        });
        assert!(begin(&one(BearerKind::Jwt, &server), NOW).await.is_ok());
        assert_eq!((server.calls(OIDC), server.calls(OAUTH)), (1, 1));
    }
}

#[tokio::test]
async fn n_056_the_metadata_of_another_issuer_is_not_used() {
    let server = Server::new(|_| Reply::Answer(200, metadata("https://id.example.com/")));
    assert!(matches!(
        begin(&one(BearerKind::Jwt, &server), NOW).await,
        Err(ProviderError::Unavailable { .. })
    ));
}

#[tokio::test]
async fn n_002_a_provider_without_s256_is_not_used_for_a_login() {
    let server = Server::new(|_| {
        let mut metadata = metadata("https://id.example.com");
        metadata["code_challenge_methods_supported"] = json!(["plain"]);
        Reply::Answer(200, metadata)
    });
    assert!(matches!(
        begin(&one(BearerKind::Jwt, &server), NOW).await,
        Err(ProviderError::Nonsense { .. })
    ));
}

#[tokio::test]
async fn many_who_wait_share_one_discovery() {
    let server = Server::new(|_| Reply::Later(Duration::from_millis(20), metadata("https://id.example.com")));
    let provider = one(BearerKind::Jwt, &server);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let provider = provider.clone();
            tokio::spawn(async move { begin(&provider, NOW).await })
        })
        .collect();
    for begun in waiting {
        begun.await.unwrap().unwrap();
    }
    assert_eq!(server.calls(OIDC), 1);
}

#[tokio::test]
async fn a_fetch_outlives_whoever_asked_for_it() {
    let server = Server::new(|_| Reply::Later(Duration::from_millis(50), metadata("https://id.example.com")));
    let provider = one(BearerKind::Jwt, &server);
    let impatient = tokio::time::timeout(Duration::from_millis(5), begin(&provider, NOW)).await;
    assert!(impatient.is_err());
    begin(&provider, NOW).await.unwrap();
    assert_eq!(server.calls(OIDC), 1);
}

#[tokio::test]
async fn a_fetch_that_panics_frees_those_who_wait() {
    let server = Server::new(|_| Reply::Panic);
    let provider = one(BearerKind::Jwt, &server);
    let (first, second) = tokio::join!(begin(&provider, NOW), begin(&provider, NOW));
    assert!(matches!(
        (first, second),
        (
            Err(ProviderError::Unavailable { .. }),
            Err(ProviderError::Unavailable { .. })
        )
    ));
    server.behaves(well(nothing_more));
    begin(&provider, NOW).await.unwrap();
}

#[tokio::test]
async fn a_fetch_whose_runtime_ends_frees_those_who_wait() {
    let server = Server::new(|_| Reply::Never);
    let provider = one(BearerKind::Jwt, &server);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let theirs = provider.clone();
    runtime.spawn(async move { begin(&theirs, NOW).await });
    while server.under_way() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ours = tokio::spawn(async move { begin(&provider, NOW).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    runtime.shutdown_background();
    let freed = tokio::time::timeout(Duration::from_secs(5), ours).await.unwrap();
    assert!(matches!(freed.unwrap(), Err(ProviderError::Unavailable { .. })));
    assert_eq!(server.calls(OIDC), 1);
}

#[tokio::test]
async fn keys_and_metadata_are_kept_through_an_outage() {
    let server = Server::new(well(nothing_more));
    let providers = all(&[one(BearerKind::Jwt, &server)]);
    assert_eq!(subject(&providers, &token("a", NOW), NOW).await.unwrap(), "ann");
    server.behaves(|_| Reply::Unreachable);
    for hours in 1..50 {
        let now = after(hours * 3_600);
        assert_eq!(subject(&providers, &token("a", now), now).await.unwrap(), "ann");
    }
    server.behaves(|path| match path {
        "/keys" => Reply::Answer(200, json!({ "keys": [] })),
        _ => Reply::Answer(503, json!({})),
    });
    let now = after(100 * 3_600);
    assert_eq!(subject(&providers, &token("a", now), now).await.unwrap(), "ann");
}

#[tokio::test]
async fn old_keys_are_fetched_anew_beside_the_request() {
    let server = Server::new(well(nothing_more));
    let providers = all(&[one(BearerKind::Jwt, &server)]);
    for (seconds, calls) in [(0, 1), (3_599, 1), (3_600, 2)] {
        let now = after(seconds);
        assert_eq!(subject(&providers, &token("a", now), now).await.unwrap(), "ann");
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(server.calls("/keys"), calls, "{seconds}");
    }
}

#[tokio::test]
async fn a_new_key_is_found_at_once() {
    let server = Server::new(well(nothing_more));
    let providers = all(&[one(BearerKind::Jwt, &server)]);
    subject(&providers, &token("a", NOW), NOW).await.unwrap();
    server.behaves(|_| Reply::Answer(200, keys(&["a", "b"])));
    assert_eq!(
        subject(&providers, &token("b", after(1)), after(1)).await.unwrap(),
        "ann"
    );
    assert_eq!(server.calls("/keys"), 2);
}

#[tokio::test]
async fn unknown_keys_cause_one_fetch_in_thirty_seconds_and_are_not_held_against_the_token() {
    let server = Server::new(well(nothing_more));
    let providers = all(&[one(BearerKind::Jwt, &server)]);
    subject(&providers, &token("a", NOW), NOW).await.unwrap();
    let early = token("b", after(30));
    for (seconds, calls) in [(0, 2), (1, 2), (29, 2), (30, 3), (59, 3)] {
        let now = after(seconds);
        let verdict = subject(&providers, &early, now).await;
        assert!(
            matches!(verdict, Err(BearerError::Token(TokenError::UnknownKey))),
            "{seconds}"
        );
        let other = subject(&providers, &token(&format!("x{seconds}"), now), now).await;
        assert!(
            matches!(other, Err(BearerError::Token(TokenError::UnknownKey))),
            "{seconds}"
        );
        assert_eq!(server.calls("/keys"), calls, "{seconds}");
    }
    server.behaves(|_| Reply::Answer(200, keys(&["b"])));
    assert_eq!(subject(&providers, &early, after(60)).await.unwrap(), "ann");
}

#[tokio::test]
async fn many_unknown_keys_at_once_wait_for_one_fetch() {
    let server = Server::new(well(nothing_more));
    let providers = all(&[one(BearerKind::Jwt, &server)]);
    subject(&providers, &token("a", NOW), NOW).await.unwrap();
    server.behaves(|_| Reply::Later(Duration::from_millis(30), keys(&["b"])));
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let providers = providers.clone();
            tokio::spawn(async move { subject(&providers, &token("b", NOW), NOW).await })
        })
        .collect();
    for verdict in waiting {
        assert_eq!(verdict.await.unwrap().unwrap(), "ann");
    }
    assert_eq!(server.calls("/keys"), 2);
}

#[tokio::test]
async fn signing_out_here_does_not_need_the_provider() {
    let server = Server::new(|_| Reply::Unreachable);
    let provider = one(BearerKind::Jwt, &server);
    assert_eq!(
        provider
            .end_session_url(None, "https://app.example.com/", "s", NOW)
            .await,
        None
    );
    server.behaves(well(nothing_more));
    let url = provider
        .end_session_url(None, "https://app.example.com/", "s", after(1))
        .await
        .unwrap();
    assert!(url.starts_with("https://id.example.com/bye?client_id=door&"), "{url}");
}
