//! Every store of sessions passes the same tests, whatever it stands on.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::broadcast::Receiver, time::timeout};
use vestibule::{
    secret::{Fingerprint, FingerprintKey, random_text},
    session::{
        MemoryStore, RedisSettings, RedisStore,
        store::{Ended, Record, Replaced, SessionStore},
    },
    time::Timestamp,
};

pub(crate) const LIFE: Duration = Duration::from_secs(60);
/// Long enough to be seen, short enough to be waited for.
const SHORT: Duration = Duration::from_secs(1);

/// Two replicas of the gateway on one store.
#[derive(Clone, Debug)]
pub(crate) struct Replicas {
    pub(crate) here: Arc<dyn SessionStore>,
    pub(crate) there: Arc<dyn SessionStore>,
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_contract() {
    let store: Arc<dyn SessionStore> = Arc::new(MemoryStore::new(64 * 1024 * 1024));
    let replicas = Replicas {
        here: store.clone(),
        there: store,
    };
    keeps_the_contract(replicas).await;
}

impl Replicas {
    pub(crate) async fn on(url: &str) -> Self {
        Self::with(patient(RedisSettings::parse(url).unwrap())).await
    }

    pub(crate) async fn with(settings: RedisSettings) -> Self {
        let replicas = Self::unheard(settings);
        let Self { here, there } = &replicas;
        until_one_hears_the_other(here, there).await;
        until_one_hears_the_other(there, here).await;
        replicas
    }

    /// Two that may not be able to listen.
    pub(crate) fn unheard(settings: RedisSettings) -> Self {
        Self {
            here: Arc::new(RedisStore::connect(settings.clone())),
            there: Arc::new(RedisStore::connect(settings)),
        }
    }
}

/// A store listens soon after it is there, and needs no Redis to be there before.
pub(crate) async fn until_one_hears_the_other(listener: &Arc<dyn SessionStore>, speaker: &Arc<dyn SessionStore>) {
    let mut heard = listener.endings();
    let id = new_id();
    eventually(async || {
        let _ = speaker.end(&id).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        !heard.is_empty()
    })
    .await;
    while heard.try_recv().is_ok() {}
}

pub(crate) async fn keeps_the_contract(replicas: Replicas) {
    what_is_created_is_read_on_every_replica(&replicas).await;
    of_two_changes_at_once_one_is_done(&replicas).await;
    an_ended_session_is_gone_everywhere(&replicas).await;
    all_sessions_of_an_index_end_together(&replicas).await;
    a_session_is_found_under_its_newest_indices(&replicas).await;
    what_ended_before_is_remembered(&replicas).await;
    sessions_are_listed_up_to_a_limit(&replicas).await;
    sessions_are_counted_by_their_labels(&replicas).await;
    a_lock_has_one_holder(&replicas).await;
    a_first_use_is_first_once(&replicas).await;
    tokio::join!(
        a_session_outlives_its_life_never(&replicas),
        a_replaced_session_has_a_life_of_its_own(&replicas),
        a_forgotten_lock_opens(&replicas),
        a_used_thing_is_new_again_after_its_life(&replicas),
        an_end_is_forgotten_after_its_life(&replicas),
    );
    many_tasks_do_not_disturb_each_other(&replicas).await;
}

async fn what_is_created_is_read_on_every_replica(Replicas { here, there }: &Replicas) {
    let id = new_id();
    assert_eq!(here.read(&id).await.unwrap(), None);
    let every_byte = Record {
        version: u64::MAX,
        sealed: (0..=255).collect(),
        label: Bytes::new(),
    };
    here.create(&id, every_byte.clone(), &[], LIFE).await.unwrap();
    assert_eq!(here.read(&id).await.unwrap().as_ref(), Some(&every_byte));
    assert_eq!(there.read(&id).await.unwrap(), Some(every_byte));
}

async fn of_two_changes_at_once_one_is_done(Replicas { here, there }: &Replicas) {
    let id = new_id();
    assert_eq!(here.replace(&id, 0, record(1), LIFE).await.unwrap(), Replaced::Gone);
    assert_eq!(here.read(&id).await.unwrap(), None);
    here.create(&id, record(1), &[], LIFE).await.unwrap();
    for seen in 1..20 {
        let (ours, theirs) = tokio::join!(
            here.replace(&id, seen, record(seen + 1), LIFE),
            there.replace(&id, seen, record(seen + 1), LIFE)
        );
        let outcomes = [ours.unwrap(), theirs.unwrap()];
        assert!(outcomes.contains(&Replaced::Done) && outcomes.contains(&Replaced::Changed));
        assert_eq!(there.read(&id).await.unwrap(), Some(record(seen + 1)));
    }
    assert_eq!(here.replace(&id, 1, record(99), LIFE).await.unwrap(), Replaced::Changed);
    assert_eq!(here.read(&id).await.unwrap(), Some(record(20)));
}

async fn an_ended_session_is_gone_everywhere(Replicas { here, there }: &Replicas) {
    let (id, index) = (new_id(), new_index());
    let (mut heard_here, mut heard_there) = (here.endings(), there.endings());
    here.create(&id, record(1), &[index], LIFE).await.unwrap();
    assert!(there.end(&id).await.unwrap());
    assert!(!here.end(&id).await.unwrap());
    assert_eq!(here.read(&id).await.unwrap(), None);
    assert_eq!(here.replace(&id, 1, record(2), LIFE).await.unwrap(), Replaced::Gone);
    assert_eq!(there.read(&id).await.unwrap(), None);
    hears(&mut heard_here, &Ended::Session(id.as_str().into())).await;
    hears(&mut heard_there, &Ended::Session(id.as_str().into())).await;
    assert_eq!(here.end_all(&index, Timestamp::from_unix(1), LIFE).await.unwrap(), 0);
}

async fn all_sessions_of_an_index_end_together(Replicas { here, there }: &Replicas) {
    let (person, other) = (new_index(), new_index());
    let ids: Vec<String> = (0..3).map(|_| new_id()).collect();
    for id in &ids {
        here.create(id, record(1), &[new_index(), person], LIFE).await.unwrap();
    }
    let spared = new_id();
    here.create(&spared, record(1), &[other], LIFE).await.unwrap();
    let mut heard = here.endings();
    let at = Timestamp::from_unix(1_700_000_000);
    assert_eq!(there.end_all(&person, at, LIFE).await.unwrap(), 3);
    for id in &ids {
        assert_eq!(here.read(id).await.unwrap(), None);
    }
    assert_eq!(here.read(&spared).await.unwrap(), Some(record(1)));
    hears(&mut heard, &Ended::Before { index: person, at }).await;
    assert_eq!(here.end_all(&person, at, LIFE).await.unwrap(), 0);
}

async fn a_session_is_found_under_its_newest_indices(Replicas { here, there }: &Replicas) {
    let (id, old, new) = (new_id(), new_index(), new_index());
    assert!(!here.index(&id, &[new], LIFE).await.unwrap());
    here.create(&id, record(1), &[old], SHORT).await.unwrap();
    assert!(there.index(&id, &[new], SHORT).await.unwrap());
    // It is found as long as it lives, which may now be longer.
    assert_eq!(here.replace(&id, 1, record(2), LIFE).await.unwrap(), Replaced::Done);
    tokio::time::sleep(SHORT).await;
    assert_eq!(there.read(&id).await.unwrap(), Some(record(2)));
    assert_eq!(there.end_all(&new, Timestamp::from_unix(1), LIFE).await.unwrap(), 1);
    assert_eq!(here.read(&id).await.unwrap(), None);
}

async fn what_ended_before_is_remembered(Replicas { here, there }: &Replicas) {
    let (index, unknown) = (new_index(), new_index());
    assert_eq!(here.ended_at(&[]).await.unwrap(), None);
    assert_eq!(here.ended_at(&[index, unknown]).await.unwrap(), None);
    let [early, late] = [1_000, 2_000].map(Timestamp::from_unix);
    here.end_all(&index, early, LIFE).await.unwrap();
    assert!(!here.none_ended(&[unknown, index]) && !there.none_ended(&[index]));
    let second = new_index();
    here.end_all(&second, late, LIFE).await.unwrap();
    // Whoever ends less than somebody did before brings nothing back.
    there.end_all(&second, early, LIFE).await.unwrap();
    assert_eq!(there.ended_at(&[unknown, index]).await.unwrap(), Some(early));
    assert_eq!(there.ended_at(&[index, second]).await.unwrap(), Some(late));
}

async fn sessions_are_listed_up_to_a_limit(Replicas { here, there }: &Replicas) {
    let ids: Vec<String> = (0..5).map(|_| new_id()).collect();
    for id in &ids {
        here.create(id, record(7), &[], LIFE).await.unwrap();
    }
    let listed = there.list(1_000).await.unwrap();
    assert!(listed.complete);
    for id in &ids {
        let found = listed.found.iter().filter(|(listed, _)| **listed == **id);
        assert_eq!(found.map(|(_, label)| label).collect::<Vec<_>>(), [&record(7).label]);
    }
    for limit in [0, 2, 4] {
        let some = there.list(limit).await.unwrap();
        assert_eq!((some.found.len(), some.complete), (limit, false));
    }
}

async fn sessions_are_counted_by_their_labels(Replicas { here, there }: &Replicas) {
    let (first, second) = (record(101), record(102));
    let is_first = |label: &[u8]| *label == *first.label;
    assert_eq!(there.count(&is_first).await.unwrap(), Some(0));
    // More than are looked at in one step.
    let ids: Vec<String> = (0..1_100).map(|_| new_id()).collect();
    for (number, id) in ids.iter().enumerate() {
        let record = if number < 1_000 { &first } else { &second };
        here.create(id, record.clone(), &[], LIFE).await.unwrap();
    }
    assert_eq!(there.count(&is_first).await.unwrap(), Some(1_000));
    assert_eq!(
        there.count(&|label: &[u8]| *label == *second.label).await.unwrap(),
        Some(100)
    );
    here.end(&ids[0]).await.unwrap();
    let changed = here.replace(&ids[1], first.version, second.clone(), LIFE).await;
    assert_eq!(changed.unwrap(), Replaced::Done);
    assert_eq!(there.count(&is_first).await.unwrap(), Some(998));
    for id in &ids {
        here.end(id).await.unwrap();
    }
    assert_eq!(there.count(&|_: &[u8]| false).await.unwrap(), Some(0));
}

async fn a_lock_has_one_holder(Replicas { here, there }: &Replicas) {
    let id = new_id();
    assert!(here.lock(&id, "here", LIFE).await.unwrap());
    assert!(!there.lock(&id, "there", LIFE).await.unwrap());
    assert!(!here.lock(&id, "here", LIFE).await.unwrap());
    there.unlock(&id, "there").await.unwrap();
    assert!(!there.lock(&id, "there", LIFE).await.unwrap());
    here.unlock(&id, "here").await.unwrap();
    assert!(there.lock(&id, "there", LIFE).await.unwrap());
}

async fn a_first_use_is_first_once(Replicas { here, there }: &Replicas) {
    let (what, other) = (new_index(), new_index());
    assert!(!here.is_used(&what).await.unwrap());
    assert!(here.first_use(&what, LIFE).await.unwrap());
    assert!(!there.first_use(&what, LIFE).await.unwrap());
    assert!(there.is_used(&what).await.unwrap());
    assert!(there.first_use(&other, LIFE).await.unwrap());
}

async fn a_session_outlives_its_life_never(Replicas { here, there }: &Replicas) {
    let (id, index) = (new_id(), new_index());
    here.create(&id, record(1), &[index], SHORT).await.unwrap();
    eventually(async || there.read(&id).await.unwrap().is_none()).await;
    assert!(!here.end(&id).await.unwrap());
    assert_eq!(here.replace(&id, 1, record(2), LIFE).await.unwrap(), Replaced::Gone);
    assert_eq!(here.end_all(&index, Timestamp::from_unix(1), LIFE).await.unwrap(), 0);
}

async fn a_replaced_session_has_a_life_of_its_own(Replicas { here, .. }: &Replicas) {
    let (longer, shorter, person) = (new_id(), new_id(), new_index());
    here.create(&longer, record(1), &[person], SHORT).await.unwrap();
    here.replace(&longer, 1, record(2), LIFE).await.unwrap();
    here.create(&shorter, record(1), &[], LIFE).await.unwrap();
    here.replace(&shorter, 1, record(2), SHORT).await.unwrap();
    eventually(async || here.read(&shorter).await.unwrap().is_none()).await;
    assert_eq!(here.read(&longer).await.unwrap(), Some(record(2)));
    assert_eq!(here.end_all(&person, Timestamp::from_unix(1), LIFE).await.unwrap(), 1);
}

async fn a_forgotten_lock_opens(Replicas { here, there }: &Replicas) {
    let id = new_id();
    assert!(here.lock(&id, "forgetful", SHORT).await.unwrap());
    eventually(async || there.lock(&id, "next", LIFE).await.unwrap()).await;
    here.unlock(&id, "forgetful").await.unwrap();
    assert!(!here.lock(&id, "third", LIFE).await.unwrap());
}

async fn a_used_thing_is_new_again_after_its_life(Replicas { here, .. }: &Replicas) {
    let what = new_index();
    assert!(here.first_use(&what, SHORT).await.unwrap());
    eventually(async || !here.is_used(&what).await.unwrap()).await;
    assert!(here.first_use(&what, LIFE).await.unwrap());
}

async fn an_end_is_forgotten_after_its_life(Replicas { here, there }: &Replicas) {
    let index = new_index();
    here.end_all(&index, Timestamp::from_unix(5), SHORT).await.unwrap();
    eventually(async || there.ended_at(&[index]).await.unwrap().is_none()).await;
}

async fn many_tasks_do_not_disturb_each_other(replicas: &Replicas) {
    let person = new_index();
    let tasks = (0..100).map(|_| {
        let Replicas { here, there } = replicas.clone();
        tokio::spawn(async move {
            let id = new_id();
            here.create(&id, record(1), &[person], LIFE).await.unwrap();
            assert_eq!(there.replace(&id, 1, record(2), LIFE).await.unwrap(), Replaced::Done);
            assert_eq!(here.read(&id).await.unwrap(), Some(record(2)));
            assert!(here.lock(&id, "task", LIFE).await.unwrap());
            there.unlock(&id, "task").await.unwrap();
            id
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap());
    }
    let ended = replicas.there.end_all(&person, Timestamp::from_unix(9), LIFE).await;
    assert_eq!(ended.unwrap(), 100);
    for id in ids {
        assert_eq!(replicas.here.read(&id).await.unwrap(), None);
    }
}

/// For what is not about time, on a machine that is busy with other tests.
pub(crate) fn patient(mut settings: RedisSettings) -> RedisSettings {
    settings.timeout = Duration::from_secs(3);
    settings
}

pub(crate) fn new_id() -> String {
    random_text::<16>()
}

pub(crate) fn new_index() -> Fingerprint {
    FingerprintKey::random().of(&[])
}

pub(crate) fn record(version: u64) -> Record {
    Record {
        version,
        sealed: format!("sealed {version}").into(),
        label: format!("label {version}").into(),
    }
}

pub(crate) async fn hears(endings: &mut Receiver<Ended>, expected: &Ended) {
    let heard = async { while endings.recv().await.unwrap() != *expected {} };
    timeout(Duration::from_secs(20), heard)
        .await
        .unwrap_or_else(|_| panic!("nobody told of {expected:?}"));
}

/// Waits until it is so; what a life has to do with is over within a few seconds.
pub(crate) async fn eventually(is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.expect("it never came");
}
