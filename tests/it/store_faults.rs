//! When Redis fails, nobody waits long, nothing is made up, and all is well soon after.

use std::time::{Duration, Instant};

use vestibule::{
    session::{
        RedisSettings,
        store::{Ended, Replaced, SessionStore},
    },
    time::Timestamp,
};

use crate::{
    stores::{LIFE, Replicas, hears, new_id, new_index, record},
    support::{
        redis::{Redis, redis_is_installed},
        relay::{Fault, Relay},
    },
};

const TIMEOUT: Duration = Duration::from_millis(250);
const RECOVERY: Duration = Duration::from_secs(2);

/// A store, the wire to its Redis, and a session in it.
struct Scene {
    redis: Redis,
    relay: Relay,
    replicas: Replicas,
    id: String,
}

impl Scene {
    async fn set() -> Option<Self> {
        if !redis_is_installed() {
            return None;
        }
        let redis = Redis::start();
        let relay = Relay::to(redis.port).await;
        let settings = RedisSettings::parse(&format!("redis://127.0.0.1:{}", relay.port)).unwrap();
        assert_eq!(settings.timeout, TIMEOUT);
        let replicas = Replicas::with(settings).await;
        let id = new_id();
        replicas.here.create(&id, record(1), &[], LIFE).await.unwrap();
        Some(Self {
            redis,
            relay,
            replicas,
            id,
        })
    }

    fn store(&self) -> &dyn SessionStore {
        &*self.replicas.here
    }

    /// Every question brings an error, and soon.
    async fn fails(&self) {
        let store = self.store();
        let (index, other) = (new_index(), new_id());
        let since = Instant::now();
        store.read(&self.id).await.unwrap_err();
        in_time(since);
        let since = Instant::now();
        store.create(&other, record(1), &[index], LIFE).await.unwrap_err();
        in_time(since);
        let since = Instant::now();
        store.replace(&self.id, 1, record(2), LIFE).await.unwrap_err();
        in_time(since);
        let since = Instant::now();
        store.end_all(&index, Timestamp::from_unix(1), LIFE).await.unwrap_err();
        in_time(since);
        let since = Instant::now();
        store.lock(&self.id, "me", LIFE).await.unwrap_err();
        in_time(since);
    }

    /// By now it is known that it fails: nobody waits but one in a second.
    async fn fails_at_once(&self) {
        let since = Instant::now();
        for _ in 0..100 {
            self.store().read(&self.id).await.unwrap_err();
        }
        assert!(since.elapsed() < 4 * TIMEOUT, "{:?}", since.elapsed());
    }

    async fn recovers(&self) {
        let since = Instant::now();
        while self.store().lock(&new_id(), "me", LIFE).await.is_err() {
            assert!(since.elapsed() < RECOVERY, "it does not recover");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(since.elapsed() < RECOVERY, "{:?}", since.elapsed());
    }

    async fn still_has_the_session(&self) {
        assert_eq!(self.store().read(&self.id).await.unwrap(), Some(record(1)));
    }
}

fn in_time(since: Instant) {
    assert!(since.elapsed() < 2 * TIMEOUT, "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_costs_little() {
    let Some(scene) = Scene::set().await else { return };
    scene.relay.set(Fault::BlackHole);
    scene.fails().await;
    scene.fails_at_once().await;
    scene.relay.set(Fault::None);
    scene.recovers().await;
    scene.still_has_the_session().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_is_no_redis() {
    let Some(scene) = Scene::set().await else { return };
    scene.relay.set(Fault::Late(Duration::from_secs(2)));
    scene.fails().await;
    scene.fails_at_once().await;
    scene.relay.set(Fault::None);
    scene.recovers().await;
    // A change that came late may have been made; the session is there in any case.
    assert!(scene.store().read(&scene.id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_are_overcome() {
    let Some(scene) = Scene::set().await else { return };
    scene.relay.set(Fault::Reset);
    scene.fails().await;
    scene.fails_at_once().await;
    scene.relay.set(Fault::None);
    scene.recovers().await;
    scene.still_has_the_session().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_reset_is_not_even_noticed() {
    let Some(scene) = Scene::set().await else { return };
    for _ in 0..5 {
        scene.redis.say(&["CLIENT", "KILL", "TYPE", "normal"]);
        scene.still_has_the_session().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_became_a_replica_is_left() {
    let Some(scene) = Scene::set().await else { return };
    // Of a master that is not there, so that it keeps what it has.
    scene.redis.say(&["REPLICAOF", "127.0.0.1", "1"]);
    let store = scene.store();
    for _ in 0..10 {
        let since = Instant::now();
        store.replace(&scene.id, 1, record(2), LIFE).await.unwrap_err();
        store.create(&new_id(), record(1), &[], LIFE).await.unwrap_err();
        in_time(since);
    }
    scene.redis.say(&["REPLICAOF", "NO", "ONE"]);
    scene.recovers().await;
    scene.still_has_the_session().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_has_no_sessions_and_takes_new_ones() {
    let Some(scene) = Scene::set().await else { return };
    let store = scene.store();
    store.replace(&scene.id, 1, record(2), LIFE).await.unwrap();
    scene.redis.say(&["FLUSHALL"]);
    scene.redis.say(&["SCRIPT", "FLUSH"]);
    assert_eq!(store.read(&scene.id).await.unwrap(), None);
    assert_eq!(
        store.replace(&scene.id, 2, record(3), LIFE).await.unwrap(),
        Replaced::Gone
    );
    let id = new_id();
    store.create(&id, record(1), &[new_index()], LIFE).await.unwrap();
    assert_eq!(store.replace(&id, 1, record(2), LIFE).await.unwrap(), Replaced::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_empty_is_used() {
    let Some(mut scene) = Scene::set().await else { return };
    let mut heard = scene.store().endings();
    scene.redis.kill();
    scene.fails().await;
    scene.fails_at_once().await;
    scene.redis.restart();
    scene.recovers().await;
    assert_eq!(scene.store().read(&scene.id).await.unwrap(), None);
    // What ended meanwhile is not known; that something may have is.
    hears(&mut heard, &Ended::Unheard).await;
    let Replicas { here, there } = &scene.replicas;
    crate::stores::until_one_hears_the_other(here, there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_session_is_none() {
    let Some(scene) = Scene::set().await else { return };
    for (version, poison) in [("", "x"), ("-1", "x"), ("one", "x"), ("99999999999999999999", "x")] {
        let id = new_id();
        let key = format!("vestibule:s:{id}");
        scene.redis.say(&["HSET", &key, "v", version, "d", poison, "l", ""]);
        assert_eq!(scene.store().read(&id).await.unwrap(), None, "{version:?}");
    }
    let id = new_id();
    scene.redis.say(&["HSET", &format!("vestibule:s:{id}"), "v", "1"]);
    assert_eq!(scene.store().read(&id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_starts_before_its_redis() {
    if !redis_is_installed() {
        return;
    }
    let mut redis = Redis::start();
    redis.kill();
    let replicas = Replicas::unheard(RedisSettings::parse(&redis.url()).unwrap());
    replicas.here.read("x").await.unwrap_err();
    redis.restart();
    let since = Instant::now();
    while replicas.here.read("x").await.is_err() {
        assert!(since.elapsed() < RECOVERY);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
