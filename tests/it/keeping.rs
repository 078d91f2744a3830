//! What holds of a session wherever it is kept.

use std::time::Duration;

use vestibule::demo::authorization_server::User;

use crate::support::{
    browser::{Browser, client},
    house::House,
    redis::{InRedis, Redis, redis_is_installed},
};

const COOKIE: &str = "store = \"cookie\"";
const MEMORY: &str = "store = \"memory\"";
/// As strict as it gets: every request reads the store.
const MEMORY_READ_EVERY_TIME: &str = "store = \"memory\"\nread_cache = \"0s\"";

/// These places, and Redis where there is one.
fn with_redis<'a>(places: &[&'a str], redis: &'a Option<InRedis>) -> Vec<&'a str> {
    let redis = redis.as_ref().map(|redis| redis.keys.as_str());
    places.iter().copied().chain(redis).collect()
}

async fn logged_in(keeping: &str) -> (House, Browser) {
    let house = House::open_keeping(keeping).await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/")).await;
    assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200, "{keeping}");
    (house, alice)
}

#[tokio::test]
async fn a_session_lasts_idles_and_ends() {
    let redis = InRedis::start();
    for keeping in with_redis(&[COOKIE, MEMORY, MEMORY_READ_EVERY_TIME], &redis) {
        let (house, mut alice) = logged_in(keeping).await;
        for _ in 0..3 {
            house.clock.advance(Duration::from_secs(25 * 60));
            assert_eq!(alice.fetch(&house.url("/")).await.status, 200, "{keeping}");
        }
        house.clock.advance(Duration::from_secs(31 * 60));
        assert_eq!(alice.fetch(&house.url("/")).await.status, 401, "{keeping}");
    }
}

#[tokio::test]
async fn a_copied_cookie_ends_with_the_sign_out() {
    for keeping in [COOKIE, MEMORY_READ_EVERY_TIME] {
        let (house, mut alice) = logged_in(keeping).await;
        let mut thief = Browser::new();
        thief.cookies = alice.cookies.clone();
        assert_eq!(thief.fetch(&house.url("/")).await.status, 200, "{keeping}");
        alice.post(&house.url("/oauth2/sign_out"), &[]).await;
        assert_eq!(thief.fetch(&house.url("/")).await.status, 401, "{keeping}");
    }
}

#[tokio::test]
async fn tokens_are_refreshed_once_however_many_ask() {
    let redis = InRedis::start();
    for keeping in with_redis(&[COOKIE, MEMORY, MEMORY_READ_EVERY_TIME], &redis) {
        let (house, alice) = logged_in(keeping).await;
        let client = client();
        for generation in 1..=5 {
            let calls = house.token_calls();
            // Five minutes is the token's life, one minute ahead is the time to act.
            house.clock.advance(Duration::from_secs(4 * 60 + 5));
            let cookie = alice.session_cookie();
            let ask = |_| {
                let request = client
                    .get(house.url("/"))
                    .header("cookie", format!("vestibule={cookie}"));
                tokio::spawn(async move { request.send().await.unwrap() })
            };
            let mut fresh = None;
            for answer in (0..30).map(ask).collect::<Vec<_>>() {
                let answer = answer.await.unwrap();
                assert_eq!(answer.status(), 200, "{keeping}, generation {generation}");
                fresh = answer
                    .headers()
                    .get("set-cookie")
                    .map(|value| value.to_str().unwrap().to_owned())
                    .or(fresh);
            }
            assert_eq!(house.token_calls(), calls + 1, "{keeping}, generation {generation}");
            if keeping == COOKIE {
                break;
            }
        }
    }
}

#[tokio::test]
async fn who_was_taken_out_of_a_group_is_out_after_the_next_refresh() {
    let redis = InRedis::start();
    for keeping in with_redis(&[COOKIE, MEMORY], &redis) {
        let house = House::open_keeping(keeping).await;
        let mut admin = Browser::new();
        let form = admin.open(&house.url("/admin/")).await;
        assert_eq!(admin.log_in(&form, "admin", "admin").await.status, 200, "{keeping}");
        house.provider.add_user(User::named("admin"));
        assert_eq!(
            admin.fetch(&house.url("/admin/")).await.status,
            200,
            "{keeping}: nobody has heard of it yet"
        );
        // Nobody goes on with a token that is over.
        house.clock.advance(Duration::from_secs(5 * 60 + 5));
        assert_eq!(admin.fetch(&house.url("/admin/")).await.status, 403, "{keeping}");
        assert_eq!(
            admin.fetch(&house.url("/")).await.status,
            200,
            "{keeping}: and still somebody"
        );
    }
}

#[tokio::test]
async fn a_login_that_cannot_be_kept_is_begun_again_and_leads_where_it_was_to_lead() {
    if !redis_is_installed() {
        return;
    }
    let mut redis = Redis::start();
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("redis.url");
    std::fs::write(&url, redis.url()).unwrap();
    let house = House::open_keeping(&format!("store = \"redis\"\nredis = {{ url_file = {url:?} }}")).await;
    let mut alice = Browser::new();
    let form = alice.open(&house.url("/deep?a=1")).await;
    redis.kill();
    let page = alice.log_in(&form, "alice", "alice").await;
    assert_eq!((page.status.as_u16(), page.header("retry-after")), (503, "5"));
    assert!(page.text.contains("You are not logged in"), "{}", page.text);
    let again = "/oauth2/start?rd=%2Fdeep%3Fa%3D1";
    assert!(page.text.replace("&#x2f;", "/").contains(again), "{}", page.text);
    redis.restart();
    let since = std::time::Instant::now();
    loop {
        let page = alice.open(&house.url(again)).await;
        if page.status == 200 {
            assert_eq!(page.json()["target"], "/deep?a=1");
            break;
        }
        assert_eq!(page.status, 503);
        assert!(since.elapsed() < Duration::from_secs(5), "it does not recover");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn n_038_what_the_provider_refuses_ends_and_what_it_does_not_answer_does_not() {
    let redis = InRedis::start();
    for keeping in with_redis(&[COOKIE, MEMORY], &redis) {
        let (house, mut alice) = logged_in(keeping).await;
        house.stop_provider().await;
        house.clock.advance(Duration::from_secs(4 * 60 + 30));
        assert_eq!(
            alice.fetch(&house.url("/")).await.status,
            200,
            "{keeping}: the token lasts a while"
        );
        house.clock.advance(Duration::from_secs(60));
        assert_eq!(alice.fetch(&house.url("/")).await.status, 503, "{keeping}");
        house.start_provider().await;
        house.clock.advance(Duration::from_secs(3));
        assert_eq!(
            alice.fetch(&house.url("/")).await.status,
            200,
            "{keeping}: nothing was lost"
        );
        house.forget_refresh_tokens();
        house.clock.advance(Duration::from_secs(5 * 60));
        assert_eq!(alice.fetch(&house.url("/")).await.status, 401, "{keeping}");
    }
}
