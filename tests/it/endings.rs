//! Sessions in cookies end on all replicas, through a Redis that no request waits for.

use std::time::{Duration, Instant};

use crate::support::{
    fleet::{Fleet, Replica},
    lasting::Lasting,
    redis::redis_is_installed,
    relay::Fault,
};

/// After this time without Redis nobody knows any more what has ended.
const PROMISE: Duration = Duration::from_secs(5);

/// What takes two seconds may take so long where much else runs.
const SLOW_MACHINE: Duration = Duration::from_secs(20);

/// Waits until the replica answers so.
async fn until(replica: &Replica, cookie: &str, expected: u16, patience: Duration) {
    let since = Instant::now();
    while replica.status(cookie).await != expected {
        assert!(since.elapsed() < patience, "never {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The first answer that is not "I cannot know yet".
async fn settled(replica: &Replica, cookie: &str) -> u16 {
    let since = Instant::now();
    loop {
        match replica.status(cookie).await {
            503 => assert!(since.elapsed() < SLOW_MACHINE, "it does not recover"),
            other => return other,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_at_one_replica_is_out_at_all_and_stays_out_when_they_start_anew() {
    if !redis_is_installed() {
        return;
    }
    let fleet = Fleet::start().await;
    let (first, second) = (fleet.replica().await, fleet.other_replica().await);
    let hers = fleet.logged_in("alice").await.session_cookie();
    let his = fleet.logged_in("mallory").await.session_cookie();
    assert_eq!(second.status(&hers).await, 200);

    assert!(first.sign_out(&hers).await.status().is_success());

    assert_eq!(first.status(&hers).await, 401, "at once where it was asked");
    second.until_over(&hers).await;
    drop((first, second));
    let anew = fleet.other_replica().await;
    assert_eq!(
        settled(&anew, &hers).await,
        401,
        "it remembers from the first answer on"
    );
    assert_eq!(settled(&anew, &his).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn n_112_a_back_channel_logout_at_one_replica_ends_all_and_what_is_open_there() {
    ended_by_the_provider("cookie").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n_112_a_back_channel_logout_at_one_replica_ends_all_and_what_is_open_there_where_redis_keeps_it() {
    ended_by_the_provider("redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n_112_one_session_at_the_provider_ends_one_session_at_every_replica() {
    if !redis_is_installed() {
        return;
    }
    for store in ["cookie", "redis"] {
        let mut fleet = Fleet::start().await;
        fleet.store = store;
        let (first, second) = (fleet.replica().await, fleet.other_replica().await);
        let told = format!("http://{}/oauth2/backchannel_logout", fleet.public);
        fleet.provider.register_backchannel_logout("wiki", &told);
        let mut phone = fleet.logged_in("alice").await;
        let laptop = fleet.logged_in("alice").await.session_cookie();
        let on_the_phone = phone.session_cookie();
        until(&second, &on_the_phone, 200, PROMISE).await;
        // At the provider's own page; it tells the first one.
        phone.open(&format!("{}/logout", fleet.provider.issuer())).await;
        second.until_over(&on_the_phone).await;
        for replica in [&first, &second] {
            assert_eq!(replica.status(&laptop).await, 200, "{store}");
        }
    }
}

async fn ended_by_the_provider(store: &'static str) {
    if !redis_is_installed() {
        return;
    }
    let mut fleet = Fleet::start().await;
    fleet.store = store;
    let (first, second) = (fleet.replica().await, fleet.other_replica().await);
    let hers = fleet.logged_in("alice").await.session_cookie();
    let his = fleet.logged_in("mallory").await.session_cookie();
    let open = async |cookie: &str| {
        let credential = format!("Cookie: vestibule={cookie}\r\n");
        Lasting::events_of(second.address, fleet.public, "/live/events", &credential).await
    };
    let (events, mut others) = (open(&hers).await, open(&his).await);

    let token = fleet.logout_token("alice");
    assert_eq!(first.backchannel_logout(&token).await, 200);

    second.until_over(&hers).await;
    events.end().await;
    others.goes_on().await;
    assert_eq!(second.status(&his).await, 200);
    for replica in [&first, &second] {
        assert_eq!(
            replica.backchannel_logout(&token).await,
            400,
            "it counts once, whoever is told"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_06_without_redis_cookies_count_five_seconds_longer_and_nobody_loses_one() {
    if !redis_is_installed() {
        return;
    }
    let fleet = Fleet::start().await;
    let (first, second) = (fleet.replica().await, fleet.other_replica().await);
    let hers = fleet.logged_in("alice").await.session_cookie();
    let his = fleet.logged_in("mallory").await.session_cookie();
    let token = fleet.jwt();
    until(&second, &hers, 200, PROMISE).await;
    for fault in [Fault::BlackHole, Fault::Reset] {
        let begun = Instant::now();
        second.relay.set(fault);
        while begun.elapsed() < Duration::from_secs(3) {
            assert_eq!(second.status(&hers).await, 200, "{fault:?} is not noticed");
        }
        until(&second, &hers, 503, 2 * PROMISE).await;
        println!("{fault:?}: 503 after {:?}", begun.elapsed());

        let cookie = format!("vestibule={hers}");
        let refused = second.get("/", &[("cookie", &cookie), ("accept", "text/html")]).await;
        assert_eq!(refused.status(), 503, "{fault:?}");
        assert!(refused.headers().contains_key("retry-after"));
        assert!(!refused.headers().contains_key("set-cookie"), "the cookie stays");
        let by_token = second.get("/", &[("authorization", &format!("Bearer {token}"))]).await;
        assert_eq!(by_token.status(), 200, "{fault:?}: a JWT needs no list of endings");
        assert_eq!(second.get("/public/", &[]).await.status(), 200, "{fault:?}");

        second.relay.set(Fault::None);
        let since = Instant::now();
        until(&second, &hers, 200, SLOW_MACHINE).await;
        println!("{fault:?}: 200 again after {:?}", since.elapsed());
    }
    second.relay.set(Fault::BlackHole);
    until(&second, &his, 503, 2 * PROMISE).await;
    assert_eq!(first.backchannel_logout(&fleet.logout_token("mallory")).await, 200);
    second.relay.set(Fault::None);
    assert_eq!(
        settled(&second, &his).await,
        401,
        "what ended meanwhile does not come back"
    );
    assert_eq!(settled(&second, &hers).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ended_everywhere_is_5xx_and_can_be_tried_again() {
    if !redis_is_installed() {
        return;
    }
    for store in ["cookie", "redis"] {
        what_cannot_be_ended_is_5xx(store).await;
    }
}

async fn what_cannot_be_ended_is_5xx(store: &'static str) {
    let mut fleet = Fleet::start().await;
    fleet.store = store;
    let (first, second) = (fleet.replica().await, fleet.other_replica().await);
    let hers = fleet.logged_in("alice").await.session_cookie();
    until(&second, &hers, 200, PROMISE).await;
    second.relay.set(Fault::BlackHole);
    let token = fleet.logout_token("alice");
    assert_eq!(second.backchannel_logout(&token).await, 503);
    let refused = second.sign_out(&hers).await;
    assert_eq!(refused.status(), 503);
    assert!(
        !refused.headers().contains_key("set-cookie"),
        "who is not out keeps the cookie"
    );
    assert_eq!(first.status(&hers).await, 200, "nothing was half done");
    if store == "cookie" {
        // Who keeps sessions in Redis cannot tell.
        assert_eq!(second.status(&hers).await, 200);
    }
    second.relay.set(Fault::None);
    let since = Instant::now();
    while second.backchannel_logout(&token).await != 200 {
        assert!(since.elapsed() < SLOW_MACHINE, "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    first.until_over(&hers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_brings_nobody_back_and_is_told_again() {
    if !redis_is_installed() {
        return;
    }
    let mut fleet = Fleet::start().await;
    let (first, second) = (fleet.replica().await, fleet.other_replica().await);
    let hers = fleet.logged_in("alice").await.session_cookie();
    let his = fleet.logged_in("mallory").await.session_cookie();
    assert!(first.sign_out(&hers).await.status().is_success());
    second.until_over(&hers).await;
    fleet.redis.kill();
    fleet.redis.restart();
    fleet.redis.until_it_says(&["EXISTS", "vestibule:endings"], "1");
    for replica in [&first, &second] {
        assert_eq!(settled(replica, &hers).await, 401);
        assert_eq!(settled(replica, &his).await, 200);
    }
    let anew = fleet.other_replica().await;
    assert_eq!(
        settled(&anew, &hers).await,
        401,
        "a new replica learns of it from the others"
    );
    assert_eq!(settled(&anew, &his).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_never_heard_of_endings_lets_nobody_in() {
    if !redis_is_installed() {
        return;
    }
    let mut fleet = Fleet::start().await;
    let first = fleet.replica().await;
    let hers = fleet.logged_in("alice").await.session_cookie();
    fleet.redis.kill();
    let anew = fleet.other_replica().await;
    for _ in 0..3 {
        assert_eq!(anew.status(&hers).await, 503);
    }
    assert_eq!(anew.get("/public/", &[]).await.status(), 200);
    assert_eq!(first.status(&hers).await, 200, "who has heard of them lately does");
    fleet.redis.restart();
    until(&anew, &hers, 200, SLOW_MACHINE).await;
}
