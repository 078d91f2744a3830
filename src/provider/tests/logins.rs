//! Codes and refresh tokens over the wire, and what userinfo adds.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{BearerKind, Reply, Server, after, nothing_more, opened, settings, well};
use crate::{
    identity::{ClaimNames, ClaimPath},
    oauth::{
        authorization::{Account, AuthorizationResponse, CodeGrant, LoginSecrets},
        tests::{NOW, signer::sign, with},
        token::Login,
    },
    provider::{Provider, ProviderError, UseUserinfo},
    secret::Secret,
};

/// What the token endpoint answers: an ID token of `key_id` with these claims changed.
fn tokens(key_id: &str, changes: &Value) -> Value {
    let now = NOW.unix();
    let claims = json!({
        "iss": "https://id.example.com", "aud": "door", "sub": "ann", "nonce": "n", "iat": now, "exp": now + 300,
    });
    let id_token = sign(&json!({ "alg": "ES256", "kid": key_id }), &with(&claims, changes));
    json!({ "token_type": "Bearer", "access_token": "a", "refresh_token": "r", "id_token": id_token })
}

fn provider(userinfo: UseUserinfo, server: &Arc<Server>) -> Arc<Provider> {
    let mut settings = settings("corp", "https://id.example.com", BearerKind::Jwt);
    settings.userinfo = userinfo;
    settings.wanted_claims = vec![ClaimPath::parse("groups").unwrap()];
    opened(settings, server)
}

async fn grant(provider: &Arc<Provider>) -> CodeGrant {
    let secrets = LoginSecrets {
        state: "s".into(),
        nonce: "n".into(),
        code_verifier: Secret::new("v"),
    };
    let begun = provider.authorization_request(
        secrets,
        "https://app.example.com/back".into(),
        "/".into(),
        Default::default(),
        Account::Any,
        NOW,
    );
    let (_, pending) = begun.await.unwrap();
    pending
        .accept(
            AuthorizationResponse::from_query("code=c&state=s").unwrap(),
            "https://app.example.com/back",
            NOW,
        )
        .unwrap()
}

async fn login(provider: &Arc<Provider>) -> Result<Login, ProviderError> {
    provider.redeem(grant(provider).await, NOW).await
}

/// Logs in where the token endpoint and userinfo answer this.
async fn login_with(token: Reply, userinfo: Reply) -> Result<Login, ProviderError> {
    let (mut token, mut userinfo) = (Some(token), Some(userinfo));
    let server = Server::new(well(move |path| match path {
        "/token" => token.take().unwrap(),
        _ => userinfo.take().unwrap(),
    }));
    login(&provider(UseUserinfo::Auto, &server)).await
}

fn good() -> Reply {
    Reply::Answer(200, tokens("a", &json!({})))
}

#[tokio::test]
async fn userinfo_is_asked_when_the_file_says_so_or_something_is_missing() {
    for (when, groups, calls) in [
        (UseUserinfo::Never, json!(null), 0),
        (UseUserinfo::Auto, json!(["ops"]), 0),
        (UseUserinfo::Auto, json!(null), 1),
        (UseUserinfo::Always, json!(["ops"]), 1),
    ] {
        let answered = tokens("a", &json!({ "groups": groups }));
        let server = Server::new(well(move |path| match path {
            "/token" => Reply::Answer(200, answered.clone()),
            _ => Reply::Answer(200, json!({ "sub": "ann", "groups": ["more"] })),
        }));
        let login = login(&provider(when, &server)).await.unwrap();
        assert_eq!(server.calls("/userinfo"), calls, "{when:?}");
        let expected = if groups.is_null() && calls == 1 {
            json!(["more"])
        } else {
            groups
        };
        assert_eq!(
            login.claims.member("groups"),
            Some(&expected).filter(|groups| !groups.is_null()),
            "{when:?}"
        );
    }
}

#[tokio::test]
async fn n_048_userinfo_about_somebody_else_ends_the_login() {
    let other = login_with(good(), Reply::Answer(200, json!({ "sub": "eve", "groups": ["admin"] }))).await;
    assert!(matches!(other, Err(ProviderError::Nonsense { .. })), "{other:?}");
    let refused = login_with(good(), Reply::Answer(401, json!({}))).await;
    assert!(matches!(refused, Err(ProviderError::Nonsense { .. })), "{refused:?}");
    let down = login_with(good(), Reply::Unreachable).await;
    assert!(matches!(down, Err(ProviderError::Unavailable { .. })), "{down:?}");
}

#[tokio::test]
async fn n_035_a_login_fails_as_its_token_endpoint_does() {
    let fails = async |token: Reply| login_with(token, Reply::Unreachable).await.unwrap_err();
    for reply in [
        Reply::Unreachable,
        Reply::Panic,
        Reply::Answer(503, json!({})),
        Reply::Answer(401, json!({ "error": "invalid_client" })),
    ] {
        let error = fails(reply).await;
        assert!(
            matches!(error, ProviderError::Unavailable { .. }) && !error.ends_session(),
            "{error}"
        );
    }
    for reply in [
        Reply::Answer(200, json!({})),
        Reply::Answer(302, json!({})),
        Reply::Answer(200, tokens("a", &json!({ "nonce": "other" }))),
        Reply::Answer(200, tokens("unknown", &json!({}))),
    ] {
        let error = fails(reply).await;
        assert!(
            matches!(error, ProviderError::Nonsense { .. }) && !error.ends_session(),
            "{error}"
        );
    }
    let error = fails(Reply::Answer(400, json!({ "error": "invalid_grant" }))).await;
    assert!(
        matches!(
            error,
            ProviderError::Refused {
                code: "invalid_grant",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_code_that_was_sent_is_redeemed_though_nobody_waits() {
    let server = Server::new(well(|_| {
        Reply::Later(std::time::Duration::from_millis(20), tokens("a", &json!({})))
    }));
    let provider = provider(UseUserinfo::Always, &server);
    let redeemed = provider.redeem(grant(&provider).await, NOW);
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(5), redeemed)
            .await
            .is_err()
    );
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    assert_eq!((server.calls("/token"), server.calls("/userinfo")), (1, 1));
}

async fn refreshed(reply: Reply) -> Result<Login, ProviderError> {
    let server = Server::new(well(|_| Reply::Answer(200, tokens("a", &json!({ "groups": [] })))));
    let provider = provider(UseUserinfo::Never, &server);
    let login = login(&provider).await.unwrap();
    let mut reply = Some(reply);
    server.behaves(well(move |_| reply.take().unwrap()));
    provider.refresh(&login, after(1)).await
}

#[tokio::test]
async fn n_038_only_a_refused_grant_ends_the_session_and_an_outage_never_does() {
    for (reply, ends) in [
        (Reply::Answer(400, json!({ "error": "invalid_grant" })), true),
        (Reply::Answer(400, json!({ "error": "invalid_request" })), false),
        (Reply::Answer(401, json!({ "error": "invalid_client" })), false),
        (Reply::Answer(429, json!({ "error": "invalid_grant" })), false),
        (Reply::Answer(500, json!({ "error": "invalid_grant" })), false),
        (Reply::Answer(200, json!({ "error": "invalid_grant" })), false),
        (Reply::Unreachable, false),
    ] {
        assert_eq!(refreshed(reply).await.unwrap_err().ends_session(), ends);
    }
}

#[tokio::test]
async fn n_050_a_refresh_that_yields_somebody_else_ends_the_session() {
    for changes in [
        json!({ "sub": "eve" }),
        json!({ "aud": "other" }),
        json!({ "iss": "https://evil.example" }),
    ] {
        let error = refreshed(Reply::Answer(200, tokens("a", &changes))).await.unwrap_err();
        assert!(error.ends_session(), "{changes}");
    }
    assert!(refreshed(Reply::Answer(200, tokens("a", &json!({})))).await.is_ok());
}

#[tokio::test]
async fn n_034_a_refresh_that_does_not_say_how_long_lasts_as_long_as_the_file_says() {
    let answer = |more: &Value| with(&json!({ "token_type": "Bearer", "access_token": "b" }), more);
    for (said, seconds) in [
        (json!({}), 60),
        (json!({ "expires_in": 0 }), 60),
        (json!({ "expires_in": 7 }), 7),
    ] {
        let login = refreshed(Reply::Answer(200, answer(&said))).await.unwrap();
        assert_eq!(login.access_expires_at.since(after(1)).as_secs(), seconds, "{said}");
        assert_eq!(login.access_received_at, after(1), "{said}");
    }
}

#[tokio::test]
async fn n_048_userinfo_of_a_refresh_counts_when_it_is_about_the_same_person() {
    for (userinfo, groups) in [
        (
            Reply::Answer(200, json!({ "sub": "ann", "groups": ["guests"] })),
            json!(["guests"]),
        ),
        (Reply::Answer(200, json!({ "sub": "ann" })), json!(null)),
        (
            Reply::Answer(200, json!({ "sub": "eve", "groups": ["admin"] })),
            json!(["staff"]),
        ),
        (Reply::Answer(200, json!({ "groups": ["admin"] })), json!(["staff"])),
        (Reply::Unreachable, json!(["staff"])),
    ] {
        let answers = |userinfo: Reply| {
            let mut userinfo = Some(userinfo);
            well(move |path| match path {
                "/token" => Reply::Answer(200, tokens("a", &json!({}))),
                _ => userinfo.take().unwrap(),
            })
        };
        let server = Server::new(answers(Reply::Answer(
            200,
            json!({ "sub": "ann", "groups": ["staff"] }),
        )));
        let provider = provider(UseUserinfo::Always, &server);
        let before = login(&provider).await.unwrap();
        server.behaves(answers(userinfo));
        let login = provider.refresh(&before, after(1)).await.unwrap();
        assert_eq!(login.subject.as_str(), "ann");
        let expected = Some(&groups).filter(|groups| !groups.is_null());
        assert_eq!(login.claims.member("groups"), expected);
    }
}

#[tokio::test]
async fn without_a_refresh_token_nothing_is_asked() {
    let answered = with(&tokens("a", &json!({})), &json!({ "refresh_token": null }));
    let server = Server::new(well(move |_| Reply::Answer(200, answered.clone())));
    let provider = provider(UseUserinfo::Never, &server);
    let login = login(&provider).await.unwrap();
    server.behaves(nothing_more);
    assert!(provider.refresh(&login, after(1)).await.is_err());
    assert_eq!(server.calls("/token"), 1);
}

/// What Entra ID says of somebody in many groups.
fn overage(changes: &Value) -> Value {
    let elsewhere = json!({
        "_claim_names": { "groups": "src1" },
        "_claim_sources": { "src1": { "endpoint": "https://graph.windows.net/t/users/u/getMemberObjects" } },
    });
    tokens("a", &with(&elsewhere, changes))
}

/// A provider whose groups are listed at `/list`.
fn listing(server: &Arc<Server>) -> Arc<Provider> {
    let mut settings = settings("corp", "https://id.example.com", BearerKind::Jwt);
    settings.userinfo = UseUserinfo::Never;
    settings.endpoints.groups = Some("https://graph.example.com/list".into());
    opened(settings, server)
}

fn answering(token: Value, list: Reply) -> impl FnMut(&str) -> Reply + Send + 'static {
    let mut list = Some(list);
    well(move |path| match path {
        "/token" => Reply::Answer(200, token.clone()),
        "/list" => list.take().unwrap(),
        other => panic!("{other}"),
    })
}

fn some_groups(names: &[&str]) -> Reply {
    Reply::Answer(200, json!({ "value": names }))
}

#[tokio::test]
async fn groups_that_are_elsewhere_are_asked_for_and_their_sources_forgotten() {
    let names = &ClaimNames::default();
    for marked in [overage(&json!({})), tokens("a", &json!({ "hasgroups": true }))] {
        let server = Server::new(answering(marked, some_groups(&["ops", "staff"])));
        let login = login(&listing(&server)).await.unwrap();
        assert_eq!(names.groups(&login.claims).concat(), "opsstaff");
        assert!(!names.groups_unknown(&login.claims));
        assert!(login.claims.member("_claim_sources").is_none());
    }
    // Groups that are told need no asking.
    let server = Server::new(answering(overage(&json!({ "groups": ["guests"] })), Reply::Panic));
    let told = login(&listing(&server)).await.unwrap();
    assert_eq!(names.groups(&told.claims).concat(), "guests");
    assert_eq!(server.calls("/list"), 0);
}

#[tokio::test]
async fn groups_that_nobody_tells_stay_unknown_and_an_outage_is_one() {
    let names = ClaimNames::default();
    let login_with = async |list: Reply| login(&listing(&Server::new(answering(overage(&json!({})), list)))).await;
    for status in [401, 403, 404] {
        let login = login_with(Reply::Answer(status, json!({}))).await.unwrap();
        assert!(names.groups_unknown(&login.claims), "{status}");
    }
    for list in [Reply::Unreachable, Reply::Answer(503, json!({}))] {
        let error = login_with(list).await.unwrap_err();
        assert!(matches!(error, ProviderError::Unavailable { .. }), "{error}");
    }
    let endless = json!({ "value": [], "@odata.nextLink": "https://graph.example.com/list?again" });
    let server = Server::new(well(move |path| match path {
        "/token" => Reply::Answer(200, overage(&json!({}))),
        _ => Reply::Answer(200, endless.clone()),
    }));
    let error = login(&listing(&server)).await.unwrap_err();
    assert!(matches!(error, ProviderError::Nonsense { .. }), "{error}");
    // Nowhere to ask: whom the token names is not this issuer.
    let server = Server::new(well(|_| Reply::Answer(200, overage(&json!({})))));
    let login = login(&provider(UseUserinfo::Never, &server)).await.unwrap();
    assert!(names.groups_unknown(&login.claims));
}

#[tokio::test]
async fn a_refresh_asks_for_the_groups_again_and_an_outage_takes_none_away() {
    let names = ClaimNames::default();
    let no_id_token = with(&overage(&json!({})), &json!({ "id_token": null }));
    for (token, list, groups) in [
        (overage(&json!({})), some_groups(&["guests"]), Some("guests")),
        (no_id_token, some_groups(&["guests"]), Some("guests")),
        (overage(&json!({})), Reply::Unreachable, Some("ops")),
        (overage(&json!({})), Reply::Answer(403, json!({})), None),
    ] {
        let server = Server::new(answering(overage(&json!({})), some_groups(&["ops"])));
        let provider = listing(&server);
        let before = login(&provider).await.unwrap();
        server.behaves(answering(token, list));
        let login = provider.refresh(&before, after(1)).await.unwrap();
        assert_eq!(names.groups(&login.claims).first().map(|group| &**group), groups);
        assert_eq!(names.groups_unknown(&login.claims), groups.is_none());
    }
}
