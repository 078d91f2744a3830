//! Redis is not well, and two hundred requests a second go on (F-06).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    browser::{Browser, client},
    house::House,
    redis::{Redis, redis_is_installed},
    relay::{Fault, Relay},
};

/// What happened to the requests of one second or so.
#[derive(Debug, Default)]
struct Seen {
    statuses: BTreeMap<u16, usize>,
    redirects: usize,
    deleted_cookies: usize,
    without_retry_after: usize,
}

struct Scene {
    house: House,
    redis: Redis,
    relay: Relay,
    cookie: String,
    alice: Browser,
    _url: tempfile::NamedTempFile,
}

impl Scene {
    async fn open() -> Self {
        let redis = Redis::start();
        let relay = Relay::to(redis.port).await;
        let url = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(url.path(), format!("redis://127.0.0.1:{}", relay.port)).unwrap();
        let path = url.path().to_owned();
        let house = House::open_with(move |_| {
            format!("[session]\nstore = \"redis\"\nread_cache = \"0s\"\n[session.redis]\nurl_file = {path:?}\n")
        })
        .await;
        let mut alice = Browser::new();
        let form = alice.open(&house.url("/")).await;
        assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200);
        Self {
            house,
            redis,
            relay,
            cookie: alice.session_cookie(),
            alice,
            _url: url,
        }
    }

    /// Navigations with the session, two hundred a second, for as long as `during` takes.
    async fn under_load(&self, during: impl Future<Output = ()>) -> Seen {
        let over = Arc::new(AtomicBool::new(false));
        let (url, cookie, stop) = (self.house.url("/"), self.cookie.clone(), over.clone());
        let client = client();
        let load = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            let mut asked = tokio::task::JoinSet::new();
            while !stop.load(Ordering::SeqCst) {
                tick.tick().await;
                let request = client
                    .get(&url)
                    .header("accept", "text/html")
                    .header("cookie", format!("vestibule={cookie}"));
                asked.spawn(async move { request.send().await.unwrap() });
            }
            let mut seen = Seen::default();
            while let Some(answer) = asked.join_next().await {
                let answer = answer.unwrap();
                let status = answer.status();
                *seen.statuses.entry(status.as_u16()).or_default() += 1;
                seen.redirects += usize::from(status.is_redirection());
                let cookies = answer.headers().get_all("set-cookie").iter();
                seen.deleted_cookies += cookies
                    .filter(|line| line.to_str().unwrap().contains("Max-Age=0"))
                    .count();
                seen.without_retry_after += usize::from(status == 503 && !answer.headers().contains_key("retry-after"));
            }
            seen
        });
        during.await;
        over.store(true, Ordering::SeqCst);
        load.await.unwrap()
    }

    /// Until the session counts again.
    async fn recovered(&self) -> Duration {
        let since = Instant::now();
        let client = client();
        loop {
            let request = client
                .get(self.house.url("/"))
                .header("cookie", format!("vestibule={}", self.cookie));
            if request.send().await.unwrap().status() == 200 {
                return since.elapsed();
            }
            assert!(since.elapsed() < Duration::from_secs(20), "it never recovers");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn f_06_nobody_is_sent_to_log_in_and_nobody_loses_a_cookie() {
    if !redis_is_installed() {
        return;
    }
    let scene = Scene::open().await;
    let token = scene.house.jwt("alice");
    for fault in [Fault::BlackHole, Fault::Late(Duration::from_secs(2)), Fault::Reset] {
        let what = format!("{fault:?}");
        let seen = scene
            .under_load(async {
                scene.relay.set(fault);
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                assert_eq!(scene.house.ask(&token).await, 200, "{what}: a JWT needs no store");
                assert_eq!(scene.house.get("/public/").await, 200, "{what}");
                scene.relay.set(Fault::None);
            })
            .await;
        assert_eq!(
            (seen.redirects, seen.deleted_cookies, seen.without_retry_after),
            (0, 0, 0),
            "{what}: {seen:?}"
        );
        assert!(
            seen.statuses.keys().all(|status| matches!(status, 200 | 503)),
            "{what}: {seen:?}"
        );
        assert!(seen.statuses.contains_key(&503), "{what} was not noticed: {seen:?}");
        scene.recovered().await;
    }
}

#[tokio::test]
async fn f_06_an_empty_redis_means_one_login_and_no_loop() {
    if !redis_is_installed() {
        return;
    }
    let mut scene = Scene::open().await;
    scene.redis.say(&["FLUSHALL"]);
    assert_eq!(scene.alice.fetch(&scene.house.url("/")).await.status, 401);
    assert_eq!(
        scene.alice.open(&scene.house.url("/again")).await.status,
        200,
        "the provider knows alice still"
    );
    assert_eq!(scene.alice.fetch(&scene.house.url("/")).await.status, 200);
    scene.redis.kill();
    let down = scene.alice.open(&scene.house.url("/")).await;
    assert_eq!(down.status, 503);
    assert!(down.text.contains("not been logged out"), "{}", down.text);
    scene.redis.restart();
    scene.cookie = scene.alice.session_cookie();
    let page = scene.alice.open(&scene.house.url("/once-more")).await;
    assert!(matches!(page.status.as_u16(), 200 | 503), "{}", page.status);
}
