//! A session key is replaced, and nobody notices.

use std::time::Duration;

use vestibule::session::SealingKey;

use crate::support::{
    fleet::{Fleet, Replica},
    redis::redis_is_installed,
};

const GAUGE: &str = "vestibule_sessions_on_old_key";

/// Waits for the first count after the start.
async fn counts(replica: &Replica, expected: &str) {
    let wait = async {
        while replica.metric(GAUGE).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(5), wait).await;
    assert!(counted.is_ok(), "never {expected}, but {}", replica.metric(GAUGE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gauge_says_when_an_old_key_can_go_and_then_nobody_is_logged_out() {
    if !redis_is_installed() {
        return;
    }
    let mut fleet = Fleet::start().await;
    let (old, new) = (fleet.keys[0].clone(), SealingKey::random());
    fleet.store = "redis";
    let before = fleet.replica().await;
    let (mut alice, mut mallory) = (fleet.logged_in("alice").await, fleet.logged_in("mallory").await);
    counts(&before, "0.0").await;
    drop(before);

    let url = format!("http://{}/", fleet.public);
    fleet.keys = vec![new.clone(), old];
    let switched = fleet.replica().await;
    counts(&switched, "2.0").await;
    for _ in 0..2 {
        assert_eq!(alice.fetch(&url).await.status, 200);
    }
    drop(switched);
    let mut again = fleet.replica().await;
    counts(&again, "1.0").await;
    // What is kept of a visit is written when it has been answered, and counted when a replica starts.
    let counted = async {
        loop {
            assert_eq!(mallory.fetch(&url).await.status, 200);
            drop(again);
            again = fleet.replica().await;
            while again.metric(GAUGE).await == "NaN" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if again.metric(GAUGE).await == "0.0" {
                return;
            }
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(20), counted).await;
    assert!(counted.is_ok(), "mallory's session stays on the old key");

    fleet.keys = vec![new];
    let _after = fleet.replica().await;
    for browser in [&mut alice, &mut mallory] {
        assert_eq!(browser.fetch(&url).await.status, 200, "nobody is logged out");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_nobody_can_tell_at_first() {
    if !redis_is_installed() {
        return;
    }
    let mut fleet = Fleet::start().await;
    fleet.keys.insert(0, SealingKey::random());
    counts(&fleet.replica().await, "NaN").await;
}
