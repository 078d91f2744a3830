//! Something behind the gateway is down, slow or mad; the gateway is none of it.

use std::time::Duration;

use crate::support::{
    browser::{Browser, client},
    house::{Fault, House, Place},
    wire,
};

#[tokio::test]
async fn f_01_the_gateway_starts_while_the_provider_is_down_and_recovers_without_a_restart() {
    let house = House::open_without_provider().await;
    let mut alice = Browser::new();
    let page = alice.open(&house.url("/")).await;
    assert_eq!(page.status, 503);
    assert!(
        !page.header("retry-after").is_empty() && page.text.contains("not available"),
        "{}",
        page.text
    );
    assert!(alice.cookies.is_empty());
    let bearer = client()
        .get(house.url("/"))
        .header("authorization", "Bearer opaque-token")
        .send()
        .await
        .unwrap();
    assert_eq!(bearer.status(), 503, "never 401 for what nobody can know");
    assert_eq!(alice.fetch(&house.url("/public/")).await.status, 200);
    assert_eq!(house.admin("/livez").await.0, 200);
    assert_eq!(
        house.admin("/readyz").await.0,
        200,
        "readiness is not tied to the provider"
    );

    house.start_provider().await;
    house.clock.advance(Duration::from_secs(31));
    let form = alice.open(&house.url("/deep?x=1")).await;
    assert_eq!(
        alice.log_in(&form, "alice", "alice").await.json()["target"],
        "/deep?x=1"
    );
}

#[tokio::test]
async fn f_02_sessions_and_known_tokens_outlive_the_provider() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    let (jwt, opaque, unseen) = (house.jwt("alice"), house.opaque("alice"), house.opaque("alice"));
    assert_eq!(house.ask(&jwt).await, 200);
    assert_eq!(house.ask(&opaque).await, 200);

    house.stop_provider().await;
    assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
    assert_eq!(house.ask(&jwt).await, 200);
    assert_eq!(house.ask(&opaque).await, 200, "within its time in the cache");
    assert_eq!(house.ask(&unseen).await, 503);
    // The access token is due for a refresh that nobody answers: the session serves on until the token's end.
    house.clock.advance(Duration::from_secs(4 * 60 + 30));
    assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
    house.clock.advance(Duration::from_secs(60));
    let page = alice.open(&house.url("/")).await;
    assert_eq!(page.status, 503);
    assert!(
        !alice.session_cookie().is_empty(),
        "I19: an outage takes no cookie back"
    );
}

#[tokio::test]
async fn n_038_a_refused_refresh_token_ends_the_session() {
    let house = House::open().await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    alice.log_in(&form, "alice", "alice").await;
    house.forget_refresh_tokens();
    house.clock.advance(Duration::from_secs(5 * 60));
    assert_eq!(alice.fetch(&house.url("/")).await.status, 401);
    assert!(!alice.cookies_named("vestibule").contains(&"vestibule"));
}

#[tokio::test]
async fn f_24_garbage_from_the_provider_is_a_502_and_poisons_nothing() {
    let house = House::open().await;
    let bodies: [(u16, &str, &[u8]); 8] = [
        (200, "text/html", b"<html>hello</html>"),
        (200, "application/json", b""),
        (200, "application/json", b"[]"),
        (200, "application/json", b"{\"access_token\":1}"),
        (200, "application/json", b"{\"error\":\"x\"}"),
        (200, "application/json", b"\xff\xfe\x00"),
        (204, "application/json", b""),
        (302, "text/plain", b""),
    ];
    for (status, content_type, body) in bodies {
        let mut alice = Browser::new();
        let form = alice.open(&house.url("/")).await;
        house.fault(Place::Token, Fault::answer(status, content_type, body));
        let page = alice.log_in(&form, "alice", "alice").await;
        assert_eq!(page.status, 502, "{status} {content_type} {body:?}: {}", page.text);
        assert!(!alice.cookies_named("vestibule").contains(&"vestibule"));
        house.clear_faults();
    }
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    for body in [
        "",
        "[]",
        "{}",
        "{\"active\":\"true\"}",
        "{\"active\":1}",
        "<html>",
        deep.as_str(),
    ] {
        let token = house.opaque("alice");
        house.fault(
            Place::Introspection,
            Fault::answer(200, "application/json", body.as_bytes()),
        );
        let status = house.ask(&token).await;
        assert!(matches!(status, 401 | 502 | 503), "{body:.20}: {status}");
        house.clear_faults();
        house.clock.advance(Duration::from_secs(15));
        assert_eq!(house.ask(&token).await, 200, "{body:.20} was forgotten");
    }
}

#[tokio::test]
async fn i_13_a_token_that_is_for_nobody_in_particular_is_not_for_us() {
    let house = House::open().await;
    let token = house.opaque("alice");
    let claims = |audience: &str| format!("{{\"active\":true,\"sub\":\"alice\"{audience}}}");
    house.fault(
        Place::Introspection,
        Fault::answer(200, "application/json", claims("").as_bytes()),
    );
    assert_eq!(house.ask(&token).await, 401);
    house.clock.advance(Duration::from_secs(11));
    let ours = claims(",\"aud\":[\"https://wiki.example.com\"]");
    house.fault(
        Place::Introspection,
        Fault::answer(200, "application/json", ours.as_bytes()),
    );
    assert_eq!(house.ask(&token).await, 200);
}

#[tokio::test]
async fn n_089_credentials_of_ours_that_are_refused_are_our_problem() {
    let house = House::open().await;
    let token = house.opaque("alice");
    for status in [401, 403, 500, 503] {
        house.fault(Place::Introspection, Fault::answer(status, "application/json", b"{}"));
        assert_eq!(house.ask(&token).await, 503, "{status}");
        house.clock.advance(Duration::from_secs(2));
    }
}

#[tokio::test]
async fn f_03_a_provider_that_never_answers_is_given_up_on() {
    let house = House::open().await;
    let token = house.opaque("alice");
    house.fault(Place::Introspection, Fault::delay(Duration::from_secs(60)));
    let answer = tokio::time::timeout(wire::PATIENCE, house.ask(&token)).await;
    assert_eq!(answer.expect("no answer within ten seconds"), 503);
}

#[tokio::test]
async fn f_04_new_keys_are_found_at_once_and_old_ones_do_not_linger() {
    let house = House::open().await;
    assert_eq!(house.ask(&house.jwt("alice")).await, 200);
    let fetched = house.key_fetches();
    house.rotate_keys();
    let after = house.jwt("alice");
    assert_eq!(house.ask(&after).await, 200, "nobody notices a rotation");
    assert_eq!(house.key_fetches(), fetched + 1);
    assert_eq!(house.ask(&house.jwt("alice")).await, 200);
    assert_eq!(house.key_fetches(), fetched + 1);
}

#[tokio::test]
async fn f_04_broken_keys_never_replace_good_ones() {
    let house = House::open().await;
    let token = house.jwt("alice");
    assert_eq!(house.ask(&token).await, 200);
    for body in ["{}", "<html>", "{\"keys\":[]}", "{\"keys\":5}"] {
        house.fault(Place::Keys, Fault::answer(200, "application/json", body.as_bytes()));
        house.clock.advance(Duration::from_secs(31));
        house.ask_with_unknown_key().await;
        let fresh = house.jwt("alice");
        assert_eq!(house.ask(&fresh).await, 200, "{body}");
        house.clear_faults();
    }
}

#[tokio::test]
async fn f_05_a_flood_of_unknown_keys_fetches_once() {
    let house = House::open().await;
    assert_eq!(house.ask(&house.jwt("alice")).await, 200);
    let fetched = house.key_fetches();
    for _ in 0..200 {
        assert_eq!(house.ask_with_unknown_key().await, 401);
    }
    assert!(
        house.key_fetches() <= fetched + 1,
        "{} fetches",
        house.key_fetches() - fetched
    );
    assert_eq!(house.ask(&house.jwt("alice")).await, 200);
}

#[tokio::test]
async fn f_07_an_upstream_that_is_gone_is_a_502_and_its_return_is_noticed() {
    let mut house = House::open().await;
    assert_eq!(house.get("/public/").await, 200);
    house.stop_upstream().await;
    assert_eq!(house.get("/public/").await, 502);
    house.start_upstream().await;
    assert_eq!(house.get("/public/").await, 200);
}

#[tokio::test]
async fn a_flood_of_bad_tokens_leaves_a_working_gateway() {
    // It comes from everywhere: no address is held against it.
    let unlimited = "\n[server.limits]\nfailed_credentials_per_minute = 0\n";
    let house = House::open_with(|_| unlimited.to_owned()).await;
    let good = house.jwt("alice");
    for round in 0..20 {
        let tokens: Vec<_> = (0..100).map(|index| format!("bad-{round}-{index}")).collect();
        let statuses = house.ask_each(&tokens).await;
        // The provider is asked by so many at once; who finds no place is told to come back.
        assert!(
            statuses.iter().all(|status| matches!(status, 401 | 503)),
            "{statuses:?}"
        );
    }
    assert_eq!(house.ask(&good).await, 200);
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200);
}

#[tokio::test]
async fn i_20_no_secret_stands_in_the_metrics_and_they_count() {
    let house = House::open().await;
    let token = house.jwt("alice");
    house.ask(&token).await;
    house.get("/public/").await;
    let (status, metrics) = house.admin("/metrics").await;
    assert_eq!(status, 200);
    assert!(
        metrics.contains("route=\"public\"") && metrics.contains("decision=\"allow\""),
        "{metrics}"
    );
    assert!(!metrics.contains(&token) && !metrics.contains("s3cret"));
}
