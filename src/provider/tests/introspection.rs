//! Tokens that are asked about: once for all who want to know, and remembered no longer than is right.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{BearerKind, Reply, Server, after, all, jwts::token, nothing_more, one, opened, settings, subject, well};
use crate::{
    identity::TokenError,
    oauth::tests::{
        NOW,
        signer::{encoded, sign_text},
    },
    provider::{BearerError, Providers},
};

fn active() -> Value {
    json!({ "active": true, "sub": "ann", "aud": "api", "exp": NOW.unix() + 20 })
}

/// A provider that introspects and says this of every token.
fn saying(mut say: impl FnMut() -> Reply + Send + 'static) -> (Arc<Server>, Arc<Providers>) {
    let server = Server::new(well(move |_| say()));
    let providers = all(&[one(BearerKind::Introspection, &server)]);
    (server, providers)
}

fn is_inactive(verdict: &Result<String, BearerError>) -> bool {
    matches!(verdict, Err(BearerError::Token(TokenError::Inactive)))
}

fn is_unknown(verdict: &Result<String, BearerError>) -> bool {
    matches!(verdict, Err(BearerError::Provider(_)))
}

/// Waits until the call is there that others shall meet.
async fn under_way(server: &Server) {
    while server.under_way() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_who_want_to_know_at_once_make_one_call() {
    let (server, providers) = saying(|| Reply::Later(Duration::from_millis(50), active()));
    let waiting: Vec<_> = (0..500)
        .map(|_| {
            let providers = providers.clone();
            tokio::spawn(async move { subject(&providers, "opaque", NOW).await })
        })
        .collect();
    for verdict in waiting {
        assert_eq!(verdict.await.unwrap().unwrap(), "ann");
    }
    assert_eq!(server.calls("/introspect"), 1);
}

#[tokio::test]
async fn those_who_leave_half_way_leave_one_call_and_its_answer() {
    let (server, providers) = saying(|| Reply::Later(Duration::from_millis(60), active()));
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let providers = providers.clone();
            tokio::spawn(async move {
                tokio::time::timeout(Duration::from_millis(10), subject(&providers, "opaque", NOW)).await
            })
        })
        .collect();
    for left in waiting {
        assert!(left.await.unwrap().is_err());
    }
    assert_eq!(subject(&providers, "opaque", NOW).await.unwrap(), "ann");
    assert_eq!(server.calls("/introspect"), 1);
}

#[tokio::test]
async fn n_087_n_091_a_good_answer_is_used_until_the_token_ends() {
    let (server, providers) = saying(|| Reply::Answer(200, active()));
    for seconds in [0, 10, 19] {
        assert_eq!(
            subject(&providers, "opaque", after(seconds)).await.unwrap(),
            "ann",
            "{seconds}"
        );
    }
    assert_eq!(server.calls("/introspect"), 1);
    let over = subject(&providers, "opaque", after(20)).await;
    assert!(matches!(over, Err(BearerError::Token(TokenError::Expired))), "{over:?}");
    assert_eq!(server.calls("/introspect"), 2);
}

#[tokio::test]
async fn n_087_who_is_let_in_stays_no_longer_than_the_token() {
    let (_, providers) = saying(|| Reply::Answer(200, active()));
    let allowed: Vec<_> = providers.iter().map(|provider| provider.id().clone()).collect();
    let identity = providers.authenticate_bearer(&allowed, "opaque", NOW).await.unwrap();
    assert_eq!(identity.expires_at, after(20));
}

#[tokio::test]
async fn n_091_a_good_answer_is_used_no_longer_than_the_cache_time() {
    let (server, providers) = saying(|| Reply::Answer(200, json!({ "active": true, "sub": "ann", "aud": "api" })));
    for (seconds, calls) in [(0, 1), (59, 1), (60, 2), (119, 2), (120, 3)] {
        assert_eq!(
            subject(&providers, "opaque", after(seconds)).await.unwrap(),
            "ann",
            "{seconds}"
        );
        assert_eq!(server.calls("/introspect"), calls, "{seconds}");
    }
}

#[tokio::test]
async fn n_091_a_bad_answer_is_used_for_the_negative_time() {
    let (server, providers) = saying(|| Reply::Answer(200, json!({ "active": false })));
    for (seconds, calls) in [(0, 1), (9, 1), (10, 2)] {
        assert!(
            is_inactive(&subject(&providers, "opaque", after(seconds)).await),
            "{seconds}"
        );
        assert_eq!(server.calls("/introspect"), calls, "{seconds}");
    }
    server.behaves(|_| Reply::Answer(200, active()));
    assert!(is_inactive(&subject(&providers, "opaque", after(15)).await));
    assert_eq!(subject(&providers, "another", after(15)).await.unwrap(), "ann");
}

#[tokio::test]
async fn n_089_n_090_a_server_that_cannot_say_is_asked_again_after_a_second() {
    for status in [401, 403, 404, 429, 500, 503] {
        let (server, providers) = saying(move || Reply::Answer(status, active()));
        for _ in 0..20 {
            assert!(is_unknown(&subject(&providers, "opaque", NOW).await), "{status}");
        }
        assert_eq!(server.calls("/introspect"), 1, "{status}");
        server.behaves(|_| Reply::Answer(200, active()));
        assert_eq!(
            subject(&providers, "opaque", after(1)).await.unwrap(),
            "ann",
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_call_that_panics_frees_those_who_wait() {
    let (server, providers) = saying(|| Reply::Panic);
    let (first, second) = tokio::join!(subject(&providers, "opaque", NOW), subject(&providers, "opaque", NOW));
    assert!(is_unknown(&first) && is_unknown(&second));
    server.behaves(|_| Reply::Answer(200, active()));
    assert_eq!(subject(&providers, "opaque", NOW).await.unwrap(), "ann");
}

#[tokio::test]
async fn a_call_whose_runtime_ends_frees_those_who_wait() {
    let (server, providers) = saying(|| Reply::Never);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let theirs = providers.clone();
    runtime.spawn(async move { subject(&theirs, "opaque", NOW).await });
    under_way(&server).await;
    let ours = tokio::spawn(async move { subject(&providers, "opaque", NOW).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    server.behaves(|_| Reply::Answer(200, active()));
    runtime.shutdown_background();
    let freed = tokio::time::timeout(Duration::from_secs(5), ours).await.unwrap();
    assert_eq!(freed.unwrap().unwrap(), "ann");
}

#[tokio::test]
async fn n_092_one_providers_answer_is_not_anothers() {
    let (yes, no) = (
        Server::new(well(|_| Reply::Answer(200, active()))),
        Server::new(|path: &str| match path {
            "/introspect" => Reply::Answer(200, json!({ "active": false })),
            _ => Reply::Answer(200, super::metadata("https://far.example.com")),
        }),
    );
    let near = one(BearerKind::Introspection, &yes);
    let far = opened(
        settings("far", "https://far.example.com", BearerKind::Introspection),
        &no,
    );
    let providers = all(&[far.clone(), near.clone()]);
    assert_eq!(subject(&providers, "opaque", NOW).await.unwrap(), "ann");
    let (near, far) = ([near.id().clone()], [far.id().clone()]);
    assert!(providers.authenticate_bearer(&near, "opaque", NOW).await.is_ok());
    assert!(providers.authenticate_bearer(&far, "opaque", NOW).await.is_err());
    assert_eq!((yes.calls("/introspect"), no.calls("/introspect")), (1, 1));
}

#[tokio::test]
async fn a_provider_that_could_not_be_asked_might_have_known_the_token() {
    let (down, no) = (
        Server::new(|_| Reply::Unreachable),
        Server::new(well(|_| Reply::Answer(200, json!({})))),
    );
    let far = opened(
        settings("far", "https://far.example.com", BearerKind::Introspection),
        &down,
    );
    let near = one(BearerKind::Introspection, &no);
    assert!(is_unknown(
        &subject(&all(&[far.clone(), near.clone()]), "opaque", NOW).await
    ));
    assert!(is_unknown(&subject(&all(&[near.clone(), far]), "opaque", NOW).await));
    assert!(is_inactive(&subject(&all(&[near]), "opaque", NOW).await));
}

#[tokio::test]
async fn a_jwt_that_no_key_here_checks_is_asked_about_where_tokens_are() {
    let signed = Server::new(well(nothing_more));
    let asked = Server::new(|path| match path {
        "/introspect" => Reply::Answer(200, active()),
        _ => Reply::Answer(200, super::metadata("https://far.example.com")),
    });
    let providers = all(&[
        one(BearerKind::Jwt, &signed),
        opened(
            settings("far", "https://far.example.com", BearerKind::Introspection),
            &asked,
        ),
    ]);
    let foreign = [
        sign_text(r#"{"alg":"HS256"}"#, r#"{"iss":"https://far.example.com"}"#, "HS256"),
        sign_text(r#"{"alg":"ES256"}"#, r#"{"sub":"ann"}"#, "ES256"),
        format!("{}.{}.{}", encoded("{}"), "opaque", "x"),
        "opaque".into(),
    ];
    for (calls, token) in foreign.iter().enumerate() {
        assert_eq!(subject(&providers, token, NOW).await.unwrap(), "ann", "{token}");
        assert_eq!((asked.calls("/introspect"), signed.calls("")), (calls + 1, 0));
    }
    // A token of the provider whose keys are known is for nobody else to judge.
    assert!(subject(&providers, &token("a", NOW), NOW).await.is_ok());
    assert!(subject(&providers, &token("unknown", NOW), NOW).await.is_err());
    assert_eq!(asked.calls("/introspect"), foreign.len());
}

#[tokio::test]
async fn of_both_kinds_a_jwt_is_checked_by_keys_and_the_rest_is_asked_about() {
    let server = Server::new(well(|_| Reply::Answer(200, active())));
    let providers = all(&[one(BearerKind::Auto, &server)]);
    subject(&providers, &token("a", NOW), NOW).await.unwrap();
    assert_eq!((server.calls("/keys"), server.calls("/introspect")), (1, 0));
    subject(&providers, "opaque", NOW).await.unwrap();
    assert_eq!((server.calls("/keys"), server.calls("/introspect")), (1, 1));
    let unsigned = sign_text(r#"{"alg":"none"}"#, r#"{"iss":"https://id.example.com"}"#, "none");
    assert!(matches!(
        subject(&providers, &unsigned, NOW).await,
        Err(BearerError::Token(TokenError::Algorithm))
    ));
    assert_eq!(server.calls("/introspect"), 1);
}
