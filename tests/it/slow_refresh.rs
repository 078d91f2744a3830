//! A refresh is never in the way of a request that can do without it.

use std::time::{Duration, Instant};

use reqwest::Client;

use crate::support::{
    browser::{Browser, client},
    house::{Fault, House, Place},
    redis::{Redis, redis_is_installed},
};

/// What the provider takes for a refresh.
const SLOWNESS: Duration = Duration::from_secs(4);
/// What a request waits for it at most.
const BOUND: Duration = Duration::from_millis(500);
/// The same on a busy machine.
const SOON: Duration = Duration::from_millis(2_000);

const STORES: [&str; 2] = ["store = \"cookie\"", "store = \"memory\""];

/// Somebody whose tokens are due, at a provider that became slow.
async fn due(session: &str) -> (House, Browser) {
    let house = House::open_keeping(session).await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200, "{session}");
    house.fault(Place::Token, Fault::delay(SLOWNESS));
    // Five minutes is the token's life, one minute ahead is the time to act.
    house.clock.advance(Duration::from_secs(4 * 60 + 5));
    (house, alice)
}

/// The status of a request with this cookie, whether it was given another, and how long it took.
async fn ask(client: Client, url: String, cookie: String) -> (u16, bool, Duration) {
    let begun = Instant::now();
    let request = client.get(url).header("cookie", format!("vestibule={cookie}"));
    let answer = request.send().await.unwrap();
    let has_cookie = answer.headers().contains_key("set-cookie");
    (answer.status().as_u16(), has_cookie, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_refresh_delays_nobody_whose_token_is_good() {
    for session in STORES {
        let (house, mut alice) = due(session).await;
        let client = client();
        let calls = house.token_calls();
        let before = alice.session_cookie();
        let begun = Instant::now();
        let mut rounds = 0;
        while begun.elapsed() + SOON < SLOWNESS {
            let asked: Vec<_> = (0..10)
                .map(|_| tokio::spawn(ask(client.clone(), house.url("/"), before.clone())))
                .collect();
            for answer in asked {
                let (status, has_cookie, took) = answer.await.unwrap();
                assert_eq!(status, 200, "{session}");
                assert!(
                    !has_cookie,
                    "{session}: the old tokens must not come after the new ones"
                );
                assert!(took >= BOUND && took < SOON, "{session}: {took:?}");
            }
            rounds += 1;
        }
        assert!(rounds >= 2, "{session}: {rounds}");
        // It went on without anybody who waits, and whoever asks later has what came of it.
        while alice.session_cookie() == before && begun.elapsed() < 2 * SLOWNESS && session.contains("cookie") {
            assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
        }
        assert!(begun.elapsed() < 2 * SLOWNESS, "{session}: nothing came of it");
        while ask(client.clone(), house.url("/"), alice.session_cookie()).await.2 >= BOUND {
            assert!(begun.elapsed() < 2 * SLOWNESS, "{session}: nothing came of it");
        }
        assert_eq!(house.token_calls(), calls + 1, "{session}: one refresh");
        // Past the end of the first token.
        house.clock.advance(Duration::from_secs(60));
        let (status, _, took) = ask(client.clone(), house.url("/"), alice.session_cookie()).await;
        assert_eq!((status, house.token_calls()), (200, calls + 1), "{session}");
        assert!(took < SLOWNESS / 2, "{session}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_token_is_over_waits_for_the_refresh() {
    for session in STORES {
        let (house, alice) = due(session).await;
        let client = client();
        let calls = house.token_calls();
        house.clock.advance(Duration::from_secs(60));
        let asked: Vec<_> = (0..10)
            .map(|_| tokio::spawn(ask(client.clone(), house.url("/"), alice.session_cookie())))
            .collect();
        for answer in asked {
            let (status, _, took) = answer.await.unwrap();
            assert_eq!(status, 200, "{session}");
            assert!(took > SLOWNESS / 2, "{session}: {took:?}");
        }
        assert_eq!(house.token_calls(), calls + 1, "{session}");
    }
}

#[tokio::test]
async fn the_old_cookie_has_the_new_tokens_for_a_while() {
    let house = House::open_keeping(STORES[0]).await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200);
    house.clock.advance(Duration::from_secs(4 * 60 + 5));
    let (before, calls) = (alice.session_cookie(), house.token_calls());
    assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
    // Also past the end of the token that it holds: its refresh token, used again, would end the session.
    house.clock.advance(Duration::from_secs(58));
    let (status, has_cookie, _) = ask(client(), house.url("/"), before).await;
    assert_eq!((status, has_cookie), (200, true));
    assert_eq!(house.token_calls(), calls + 1);
    assert_eq!(alice.fetch(&house.url("/")).await.status, 200);
}

#[tokio::test]
async fn a_token_that_lives_shorter_than_the_time_ahead_is_not_refreshed_at_every_request() {
    for session in ["store = \"cookie\"", "store = \"memory\""] {
        let house = House::open_keeping(&format!("{session}\nrefresh_before = \"10m\"")).await;
        let mut alice = Browser::new();
        let form = alice.open(&house.url("/")).await;
        assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200, "{session}");
        let calls = house.token_calls();
        let mut refreshes = Vec::new();
        for _ in 0..20 {
            house.clock.advance(Duration::from_secs(30));
            assert_eq!(alice.fetch(&house.url("/")).await.status, 200, "{session}");
            refreshes.push(house.token_calls() - calls);
        }
        // Ten minutes, and each token of five serves half of them.
        assert_eq!(refreshes.last(), Some(&4), "{session}: {refreshes:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_ends_finishes_its_refreshes() {
    if !redis_is_installed() {
        return;
    }
    let redis = Redis::start();
    let url = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(url.path(), redis.url()).unwrap();
    let session = format!("store = \"redis\"\nredis = {{ url_file = {:?} }}", url.path());
    let (house, alice) = due(&session).await;
    let calls = house.token_calls();
    let (status, _, took) = ask(client(), house.url("/"), alice.session_cookie()).await;
    assert_eq!((status, house.token_calls()), (200, calls + 1));
    assert!(took < SLOWNESS, "{took:?}");
    let key = redis.say(&["--scan", "--pattern", "vestibule:s:*"]);
    assert_eq!(redis.say(&["HGET", &key, "v"]), "1", "nothing is written yet");
    house.stop().await;
    assert_eq!(redis.say(&["HGET", &key, "v"]), "2");
}
