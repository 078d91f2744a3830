//! Sessions in the memory of this process: gone when it ends, and known to no other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{
    Expiry,
    notification::RemovalCause,
    ops::compute::Op,
    policy::EvictionPolicy,
    sync::{Cache, CacheBuilder},
};
use tokio::{sync::broadcast, task::yield_now};

use super::{
    index::{ENTRY_BYTES, Index},
    marks::Marks,
    store::{Answer, Counts, Ended, Listing, Record, Replaced, SessionStore},
};
use crate::{secret::Fingerprint, time::Timestamp};

/// A store that forgets what is not used, and the least recently used when it is full.
#[derive(Debug)]
pub struct MemoryStore {
    sessions: Cache<Arc<str>, Kept<Session>>,
    index: Arc<Index>,
    ended: Marks,
    locks: Cache<Box<str>, Kept<Box<str>>>,
    used: Cache<Fingerprint, Kept<()>>,
    endings: broadcast::Sender<Ended>,
}

#[derive(Clone, Debug)]
struct Session {
    record: Record,
    indices: Arc<[Fingerprint]>,
}

/// A value, and how long it is kept from when it was written.
#[derive(Clone, Debug)]
struct Kept<V> {
    value: V,
    life: Duration,
    since: Instant,
}

impl<V> Kept<V> {
    fn new(value: V, life: Duration) -> Self {
        Self {
            value,
            life,
            since: Instant::now(),
        }
    }

    fn left(&self) -> Duration {
        self.life.saturating_sub(self.since.elapsed())
    }
}

struct ByLife;

impl<K, V> Expiry<K, Kept<V>> for ByLife {
    fn expire_after_create(&self, _: &K, kept: &Kept<V>, _: Instant) -> Option<Duration> {
        Some(kept.life)
    }

    fn expire_after_update(&self, _: &K, kept: &Kept<V>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.life)
    }
}

const MAX_MARKERS: u64 = 100_000;
const MAX_ENDINGS: usize = 100_000;
const MAX_LOCKS: u64 = 10_000;
/// Endings that a listener may be behind.
const ENDINGS: usize = 1_024;
/// Sessions that are ended before others get their turn.
const BATCH: usize = 500;

impl MemoryStore {
    /// For so many bytes of sessions, keys and bookkeeping included.
    pub fn new(max_bytes: u64) -> Self {
        let index = Arc::new(Index::default());
        let endings = broadcast::channel(ENDINGS).0;
        Self {
            sessions: sessions(max_bytes, index.clone(), endings.clone()),
            index,
            ended: Marks::new(MAX_ENDINGS),
            locks: lasting(MAX_LOCKS).build(),
            used: lasting(MAX_MARKERS).build(),
            endings,
        }
    }

    /// Notes what another replica ended, and tells of it unless it is known.
    pub(super) fn hear(&self, index: Fingerprint, at: Timestamp, life: Duration) {
        if self.ended.note(index, at, life) {
            // Nobody may be listening.
            let _ = self.endings.send(Ended::Before { index, at });
        }
    }

    /// What has ended, and how long each is remembered yet.
    pub(super) fn endings_kept(&self) -> Vec<(Fingerprint, Timestamp, Duration)> {
        self.ended.all()
    }

    /// Takes a session out, unless its life is over: the cache hands out what it has not yet swept.
    fn take(&self, id: &str) -> bool {
        let kept = self.sessions.remove(id);
        kept.is_some_and(|kept| !kept.left().is_zero())
    }
}

/// However a session leaves, its indices leave with it: one that cannot be found cannot be there. What is open under one
/// that others pushed out has to hear of it.
fn sessions(max_bytes: u64, index: Arc<Index>, endings: broadcast::Sender<Ended>) -> Cache<Arc<str>, Kept<Session>> {
    let forget = move |id: Arc<Arc<str>>, kept: Kept<Session>, cause| {
        if cause != RemovalCause::Replaced {
            index.remove(&id, &kept.value.indices);
        }
        if cause == RemovalCause::Size {
            // Nobody may be listening.
            let _ = endings.send(Ended::Session((&**id).into()));
        }
    };
    lasting(max_bytes).weigher(weight).eviction_listener(forget).build()
}

/// What is new is always taken in: whoever logs in must be let in, and what has just ended must not go on.
fn lasting<K, V>(capacity: u64) -> CacheBuilder<K, Kept<V>, Cache<K, Kept<V>>>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(capacity)
        .eviction_policy(EvictionPolicy::lru())
        .expire_after(ByLife)
}

/// What the cache itself takes for an entry, in bytes; measured by `cargo bench --bench memory`.
const OVERHEAD: usize = 700;

/// What a session takes: an allocator's blocks are an eighth larger than what is put into them.
fn weight(_: &Arc<str>, kept: &Kept<Session>) -> u32 {
    let Session { record, indices } = &kept.value;
    let text = record.sealed.len().saturating_add(record.label.len());
    let index = indices.len().saturating_mul(ENTRY_BYTES);
    let parts = [text, text / 8, index, OVERHEAD];
    u32::try_from(parts.into_iter().fold(0, usize::saturating_add)).unwrap_or(u32::MAX)
}

fn now<T: Send + 'static>(value: T) -> Answer<'static, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl SessionStore for MemoryStore {
    fn create<'a>(&'a self, id: &'a str, record: Record, indices: &'a [Fingerprint], life: Duration) -> Answer<'a, ()> {
        let id: Arc<str> = id.into();
        // Found before it is there: a session that could not be found could not be ended.
        self.index.insert(&id, indices);
        let value = Session {
            record,
            indices: indices.into(),
        };
        self.sessions.insert(id, Kept::new(value, life));
        now(())
    }

    fn read<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Record>> {
        now(self.sessions.get(id).map(|kept| kept.value.record))
    }

    fn replace<'a>(&'a self, id: &'a str, seen: u64, record: Record, life: Duration) -> Answer<'a, Replaced> {
        let mut replaced = Replaced::Gone;
        self.sessions.entry(id.into()).and_compute_with(|entry| match entry {
            None => Op::Nop,
            Some(entry) if entry.value().value.record.version != seen => {
                replaced = Replaced::Changed;
                Op::Nop
            }
            Some(entry) => {
                replaced = Replaced::Done;
                let indices = entry.into_value().value.indices;
                Op::Put(Kept::new(Session { record, indices }, life))
            }
        });
        now(replaced)
    }

    fn index<'a>(&'a self, id: &'a str, indices: &'a [Fingerprint], _: Duration) -> Answer<'a, bool> {
        let mut is_there = false;
        self.sessions.entry(id.into()).and_compute_with(|entry| {
            let Some(entry) = entry else { return Op::Nop };
            is_there = true;
            let id = entry.key().clone();
            let mut kept = entry.into_value();
            self.index.insert(&id, indices);
            let gone = kept.value.indices.iter().filter(|index| !indices.contains(index));
            self.index.remove(&id, &gone.copied().collect::<Vec<_>>());
            kept.value.indices = indices.into();
            Op::Put(Kept::new(kept.value.clone(), kept.left()))
        });
        now(is_there)
    }

    fn end<'a>(&'a self, id: &'a str) -> Answer<'a, bool> {
        let was_there = self.take(id);
        // Nobody may be listening.
        let _ = self.endings.send(Ended::Session(id.into()));
        now(was_there)
    }

    fn end_all<'a>(&'a self, index: &'a Fingerprint, at: Timestamp, life: Duration) -> Answer<'a, usize> {
        self.ended.note(*index, at, life);
        Box::pin(async move {
            let mut found: usize = 0;
            let mut last: Arc<str> = "".into();
            loop {
                let ids = self.index.some(index, &last, BATCH);
                for id in &ids {
                    found = found.saturating_add(usize::from(self.take(id)));
                    let _ = self.endings.send(Ended::Session((&**id).into()));
                }
                match ids.last() {
                    Some(id) if ids.len() == BATCH => last = id.clone(),
                    _ => break,
                }
                yield_now().await;
            }
            let _ = self.endings.send(Ended::Before { index: *index, at });
            Ok(found)
        })
    }

    fn ended_at<'a>(&'a self, indices: &'a [Fingerprint]) -> Answer<'a, Option<Timestamp>> {
        now(self.ended.ended_at(indices))
    }

    fn none_ended(&self, indices: &[Fingerprint]) -> bool {
        self.ended.none_of(indices)
    }

    fn list(&self, limit: usize) -> Answer<'_, Listing> {
        let mut sessions = self.sessions.iter();
        let listed = sessions.by_ref().take(limit);
        let found = listed
            .map(|(id, kept)| ((&**id).into(), kept.value.record.label))
            .collect();
        let complete = sessions.next().is_none();
        now(Listing { found, complete })
    }

    fn count<'a>(&'a self, is_counted: Counts<'a>) -> Answer<'a, Option<usize>> {
        let counted = self.sessions.iter();
        let counted = counted.filter(|(_, kept)| is_counted(&kept.value.record.label));
        now(Some(counted.count()))
    }

    fn lock<'a>(&'a self, id: &'a str, holder: &'a str, life: Duration) -> Answer<'a, bool> {
        let taken = Kept::new(holder.into(), life);
        now(self.locks.entry(id.into()).or_insert(taken).is_fresh())
    }

    fn unlock<'a>(&'a self, id: &'a str, holder: &'a str) -> Answer<'a, ()> {
        self.locks.entry(id.into()).and_compute_with(|entry| match entry {
            Some(entry) if *entry.value().value == *holder => Op::Remove,
            _ => Op::Nop,
        });
        now(())
    }

    fn first_use<'a>(&'a self, what: &'a Fingerprint, life: Duration) -> Answer<'a, bool> {
        now(self.used.entry(*what).or_insert(Kept::new((), life)).is_fresh())
    }

    fn is_used<'a>(&'a self, what: &'a Fingerprint) -> Answer<'a, bool> {
        now(self.used.contains_key(what))
    }

    fn endings(&self) -> broadcast::Receiver<Ended> {
        self.endings.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::secret::FingerprintKey;

    const ROOM: u64 = 1 << 30;
    /// Longer than a test takes, however busy the machine is.
    const LIFE: Duration = Duration::from_secs(3_600);
    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn record(version: u64) -> Record {
        Record {
            version,
            sealed: Bytes::from(vec![0; 100]),
            label: Bytes::new(),
        }
    }

    /// A provider that everybody comes from, and what only one session has.
    struct Indices {
        key: FingerprintKey,
        provider: Fingerprint,
    }

    impl Indices {
        fn new() -> Self {
            let key = FingerprintKey::random();
            let provider = key.of(&[b"provider"]);
            Self { key, provider }
        }

        fn of(&self, number: u32) -> [Fingerprint; 4] {
            let own = |what: &[u8]| self.key.of(&[what, &number.to_be_bytes()]);
            [self.provider, own(b"subject"), own(b"sid"), own(b"session")]
        }
    }

    async fn filled(max_bytes: u64, indices: &Indices, count: u32) -> MemoryStore {
        let store = MemoryStore::new(max_bytes);
        for number in 0..count {
            create(&store, indices, number, LIFE).await;
        }
        store
    }

    async fn create(store: &MemoryStore, indices: &Indices, number: u32, life: Duration) {
        let (id, indices) = (number.to_string(), indices.of(number));
        store.create(&id, record(1), &indices, life).await.unwrap();
    }

    async fn lives(store: &MemoryStore, number: u32) -> bool {
        store.read(&number.to_string()).await.unwrap().is_some()
    }

    #[tokio::test]
    async fn of_a_hundred_thousand_sessions_each_is_found() {
        const COUNT: u32 = 100_000;
        let indices = Indices::new();
        let store = filled(ROOM, &indices, COUNT).await;
        assert!(store.end("7").await.unwrap());
        for number in (0..COUNT).step_by(1_000) {
            let own = indices.of(number)[1 + number as usize / 1_000 % 3];
            assert_eq!(store.end_all(&own, NOW, LIFE).await.unwrap(), 1, "{number}");
        }
        let ended = store.end_all(&indices.provider, NOW, LIFE).await.unwrap();
        assert_eq!(ended, 99_899);
        for number in 0..COUNT {
            assert!(!lives(&store, number).await, "{number}");
        }
        assert_eq!(store.index.len(), 0);
    }

    #[tokio::test]
    async fn who_is_pushed_out_cannot_be_found_and_who_is_there_can() {
        let indices = Indices::new();
        let store = filled(1 << 20, &indices, 10_000).await;
        store.sessions.run_pending_tasks();
        let there = usize::try_from(store.sessions.entry_count()).unwrap();
        assert!((500..5_000).contains(&there), "{there}");
        assert_eq!(store.index.len(), 4 * there);
        assert_eq!(store.end_all(&indices.provider, NOW, LIFE).await.unwrap(), there);
    }

    #[tokio::test]
    async fn who_is_pushed_out_is_told_of() {
        let indices = Indices::new();
        let store = filled(1 << 20, &indices, 1).await;
        let mut endings = store.endings();
        for number in 1..1_200 {
            create(&store, &indices, number, LIFE).await;
        }
        store.sessions.run_pending_tasks();
        let told = std::iter::from_fn(|| endings.try_recv().ok()).collect::<Vec<_>>();
        assert!(told.contains(&Ended::Session("0".into())), "{told:?}");
    }

    #[tokio::test]
    async fn who_logs_in_is_let_in_however_full_it_is_and_however_busy_the_others_are() {
        let indices = Indices::new();
        let store = filled(1 << 20, &indices, 2_000).await;
        for number in (0..2_000).cycle().take(20_000) {
            lives(&store, number).await;
        }
        for number in 2_000..2_100 {
            create(&store, &indices, number, LIFE).await;
            store.sessions.run_pending_tasks();
            assert!(lives(&store, number).await, "{number}");
        }
    }

    #[tokio::test]
    async fn indices_do_not_outlive_their_sessions() {
        let indices = Indices::new();
        let store = MemoryStore::new(ROOM);
        for number in 0..10 {
            create(&store, &indices, number, Duration::from_millis(20)).await;
        }
        create(&store, &indices, 10, LIFE).await;
        let replaced = store.replace("10", 1, record(2), LIFE).await.unwrap();
        assert_eq!(replaced, Replaced::Done);
        let swept = async {
            while store.index.len() > 4 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                store.sessions.run_pending_tasks();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), swept).await.unwrap();
        assert_eq!(store.end_all(&indices.of(10)[1], NOW, LIFE).await.unwrap(), 1);
        assert_eq!(store.index.len(), 0);
    }

    #[tokio::test]
    async fn the_last_that_ended_counts_however_many_did_before() {
        let indices = Indices::new();
        let store = MemoryStore::new(0);
        for number in 0..100_100 {
            let [_, subject, ..] = indices.of(number);
            store.end_all(&subject, NOW, LIFE).await.unwrap();
        }
        let [_, subject, ..] = indices.of(100_099);
        assert_eq!(store.ended_at(&[subject]).await.unwrap(), Some(NOW));
    }
}
