//! Sessions in the memory of this process: gone when it ends, and known to no other.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use moka::{Entry, Expiry, ops::compute::Op, sync::Cache};
use tokio::sync::broadcast;

use super::{
    marks::Marks,
    store::{Answer, Counts, Ended, Record, Replaced, SessionStore},
};
use crate::{secret::Fingerprint, time::Timestamp};

/// A store that forgets what is not used, and the least used when it is full.
#[derive(Debug)]
pub struct MemoryStore {
    sessions: Cache<Box<str>, Kept<Session>>,
    /// Which sessions stand under an index.
    indices: Cache<Fingerprint, Kept<Ids>>,
    ended: Marks,
    locks: Cache<Box<str>, Kept<Box<str>>>,
    used: Cache<Fingerprint, Kept<()>>,
    endings: broadcast::Sender<Ended>,
}

type Ids = Arc<Mutex<HashSet<Box<str>>>>;

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

/// Markers are small; a flood of them must not push each other out before their time.
const MAX_MARKERS: u64 = 100_000;
const MAX_ENDINGS: usize = 100_000;
const MAX_LOCKS: u64 = 10_000;
/// Endings that a listener may be behind.
const ENDINGS: usize = 1_024;

impl MemoryStore {
    /// For so many bytes of sessions, keys and bookkeeping included.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            sessions: Cache::builder()
                .max_capacity(max_bytes)
                .weigher(weight)
                .expire_after(ByLife)
                .build(),
            indices: Cache::builder().max_capacity(MAX_MARKERS).expire_after(ByLife).build(),
            ended: Marks::new(MAX_ENDINGS),
            locks: Cache::builder().max_capacity(MAX_LOCKS).expire_after(ByLife).build(),
            used: Cache::builder().max_capacity(MAX_MARKERS).expire_after(ByLife).build(),
            endings: broadcast::channel(ENDINGS).0,
        }
    }
}

impl MemoryStore {
    /// Makes a session findable for so long at least.
    fn make_findable(&self, id: &str, indices: &[Fingerprint], life: Duration) {
        for index in indices {
            self.indices.entry(*index).and_compute_with(|entry| {
                let kept = entry.map_or_else(|| Kept::new(Arc::default(), life), Entry::into_value);
                lock(&kept.value).insert(id.into());
                // It is found as long as the one among its sessions that lives longest.
                let life = life.max(kept.left());
                Op::Put(Kept::new(kept.value, life))
            });
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
    fn take(&self, id: &str) -> Option<Session> {
        let kept = self.sessions.remove(id)?;
        (!kept.left().is_zero()).then_some(kept.value)
    }
}

/// What the cache itself takes for an entry, in bytes.
const OVERHEAD: usize = 400;

#[expect(clippy::borrowed_box, reason = "the cache lends its keys as they are")]
fn weight(_: &Box<str>, kept: &Kept<Session>) -> u32 {
    let record = &kept.value.record;
    let bytes = record.sealed.len().saturating_add(record.label.len());
    u32::try_from(bytes.saturating_add(OVERHEAD)).unwrap_or(u32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now<T: Send + 'static>(value: T) -> Answer<'static, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl SessionStore for MemoryStore {
    fn create<'a>(&'a self, id: &'a str, record: Record, indices: &'a [Fingerprint], life: Duration) -> Answer<'a, ()> {
        self.make_findable(id, indices, life);
        let value = Session {
            record,
            indices: indices.into(),
        };
        self.sessions.insert(id.into(), Kept::new(value, life));
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
                self.make_findable(id, &indices, life);
                Op::Put(Kept::new(Session { record, indices }, life))
            }
        });
        now(replaced)
    }

    fn index<'a>(&'a self, id: &'a str, indices: &'a [Fingerprint], life: Duration) -> Answer<'a, bool> {
        let mut is_there = false;
        self.sessions.entry(id.into()).and_compute_with(|entry| {
            let Some(mut kept) = entry.map(Entry::into_value) else {
                return Op::Nop;
            };
            is_there = true;
            self.make_findable(id, indices, life);
            kept.value.indices = indices.into();
            Op::Put(Kept::new(kept.value.clone(), kept.left()))
        });
        now(is_there)
    }

    fn end<'a>(&'a self, id: &'a str) -> Answer<'a, bool> {
        let session = self.take(id);
        for index in session.iter().flat_map(|session| session.indices.iter()) {
            if let Some(ids) = self.indices.get(index) {
                lock(&ids.value).remove(id);
            }
        }
        // Nobody may be listening.
        let _ = self.endings.send(Ended::Session(id.into()));
        now(session.is_some())
    }

    fn end_all<'a>(&'a self, index: &'a Fingerprint, at: Timestamp, life: Duration) -> Answer<'a, usize> {
        self.ended.note(*index, at, life);
        let ids = self
            .indices
            .remove(index)
            .map(|kept| std::mem::take(&mut *lock(&kept.value)));
        let mut found: usize = 0;
        for id in ids.into_iter().flatten() {
            found = found.saturating_add(usize::from(self.take(&id).is_some()));
            let _ = self.endings.send(Ended::Session(id));
        }
        let _ = self.endings.send(Ended::Before { index: *index, at });
        now(found)
    }

    fn ended_at<'a>(&'a self, indices: &'a [Fingerprint]) -> Answer<'a, Option<Timestamp>> {
        now(self.ended.ended_at(indices))
    }

    fn none_ended(&self, indices: &[Fingerprint]) -> bool {
        self.ended.none_of(indices)
    }

    fn list(&self, limit: usize) -> Answer<'_, Vec<(Box<str>, Bytes)>> {
        let listed = self.sessions.iter().take(limit);
        now(listed
            .map(|(id, kept)| (Box::clone(&id), kept.value.record.label))
            .collect())
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
