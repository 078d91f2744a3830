//! What a request costs a Redis: counted by the server, command by command.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{
    browser::Browser,
    house::House,
    redis::{Redis, redis_is_installed},
};

/// Somebody who is logged in, and the server that has the session.
struct Scene {
    house: House,
    redis: Redis,
    alice: Browser,
}

/// How often each command was carried out, those in scripts included.
type Commands = BTreeMap<String, u64>;

impl Scene {
    async fn set(read_cache: &str) -> Self {
        let redis = Redis::start();
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().join("redis.url");
        std::fs::write(&url, redis.url()).unwrap();
        let keys = format!("store = \"redis\"\nread_cache = {read_cache:?}\nredis = {{ url_file = {url:?} }}");
        let house = House::open_keeping(&keys).await;
        let mut alice = Browser::new();
        let form = alice.open(&house.url("/")).await;
        assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200);
        // What the login left behind in memory is not what this is about.
        house.clock.advance(Duration::from_secs(30));
        Self { house, redis, alice }
    }

    /// What these requests of hers cost, one after the other.
    async fn costs(&mut self, paths: &[&str]) -> Commands {
        self.count_anew();
        for path in paths {
            assert_eq!(self.alice.fetch(&self.house.url(path)).await.status, 200, "{path}");
        }
        self.counted()
    }

    fn count_anew(&self) {
        assert_eq!(self.redis.say(&["CONFIG", "RESETSTAT"]), "OK");
    }

    fn counted(&self) -> Commands {
        let report = self.redis.say(&["INFO", "commandstats"]);
        let counted = report.lines().filter_map(count);
        counted.filter(|(command, _)| !is_upkeep(command)).collect()
    }
}

/// Of a line like `cmdstat_hmget:calls=1,usec=3,…`.
fn count(line: &str) -> Option<(String, u64)> {
    let (command, numbers) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
    let calls = numbers.split(',').next()?.parse().ok()?;
    (calls > 0).then(|| (command.to_owned(), calls))
}

/// What belongs to no request: the listener's sign of life, new connections, and the questions of this test.
fn is_upkeep(command: &str) -> bool {
    let command = command.split('|').next().unwrap_or(command);
    [
        "ping",
        "hello",
        "select",
        "subscribe",
        "client",
        "config",
        "info",
        "command",
    ]
    .contains(&command)
}

fn commands<const N: usize>(counts: [(&str, u64); N]) -> Commands {
    counts.map(|(command, count)| (command.to_owned(), count)).into()
}

#[tokio::test]
async fn a_request_asks_redis_once_and_not_again_while_the_answer_is_fresh() {
    if !redis_is_installed() {
        return;
    }
    // Longer than the usual second, so that a slow machine has not forgotten before the next request.
    let mut scene = Scene::set("25s").await;
    assert_eq!(scene.costs(&["/"]).await, commands([("hmget", 1)]));
    assert_eq!(scene.costs(&["/", "/other", "/oauth2/userinfo"]).await, commands([]));
    scene.house.clock.advance(Duration::from_secs(25));
    assert_eq!(scene.costs(&["/"]).await, commands([]));
    scene.house.clock.advance(Duration::from_secs(1));
    assert_eq!(scene.costs(&["/", "/"]).await, commands([("hmget", 1)]));
}

#[tokio::test]
async fn the_strict_ask_redis_once_at_every_request() {
    if !redis_is_installed() {
        return;
    }
    let mut scene = Scene::set("0s").await;
    let costs = scene.costs(&["/", "/other", "/oauth2/userinfo"]).await;
    assert_eq!(costs, commands([("hmget", 3)]));
}

#[tokio::test]
async fn public_routes_and_tokens_ask_redis_nothing() {
    if !redis_is_installed() {
        return;
    }
    let mut scene = Scene::set("0s").await;
    assert_eq!(scene.costs(&["/public"]).await, commands([]));
    let token = scene.house.jwt_with_scope("alice", "things.read");
    scene.count_anew();
    assert_eq!(scene.house.ask(&token).await, 200);
    assert_eq!(scene.counted(), commands([]));
}

#[tokio::test]
async fn once_a_minute_a_session_is_noted_as_seen_beside_the_answer() {
    if !redis_is_installed() {
        return;
    }
    let mut scene = Scene::set("0s").await;
    // The server takes the scripts once.
    scene.house.clock.advance(Duration::from_secs(30));
    scene.costs(&["/"]).await;
    scene.house.clock.advance(Duration::from_secs(60));
    // The second question of the same gateway comes after the note, which is one script.
    let costs = scene.costs(&["/", "/"]).await;
    let counted = ["hmget", "evalsha", "hset"].map(|command| costs[command]);
    assert_eq!(counted, [2, 1, 1], "{costs:?}");
    assert_eq!(scene.costs(&["/", "/"]).await, commands([("hmget", 2)]));
}
