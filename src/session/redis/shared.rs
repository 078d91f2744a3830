//! Endings of sessions that browsers hold, shared by the replicas through Redis.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{broadcast, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{
    RedisSettings,
    connector::Connector,
    keys::Keys,
    line::Line,
    log::{Ending, Entry, From, Log, PAGE},
    once,
};
use crate::{
    secret::Fingerprint,
    session::{
        memory::MemoryStore,
        store::{Answer, Counts, Ended, Listing, Record, Replaced, SessionStore, StoreError},
    },
    time::Timestamp,
};

/// Which of the sessions that browsers hold have ended, on whatever replica; it keeps none itself.
///
/// Requests look into the memory of this replica alone. A task keeps it complete, and when it could not do so for
/// five seconds, nobody knows: every answer is an error then.
#[derive(Debug)]
pub struct SharedEndings {
    here: Arc<MemoryStore>,
    line: Arc<Line>,
    keys: Keys,
    log: Log,
    touch: Arc<Touch>,
    follower: AbortHandle,
    timeout: Duration,
}

/// An ending counts on all replicas within this time.
const PROMISE: Duration = Duration::from_secs(5);
/// How often the log is read.
const ROUND: Duration = Duration::from_millis(500);
/// How soon it is tried again; whether Redis is asked at all is up to the line.
const RETRY: Duration = Duration::from_millis(100);

impl SharedEndings {
    /// Connects by itself, so that a gateway can start before its Redis.
    ///
    /// # Panics
    /// Outside of a Tokio runtime, which runs the task that reads the log.
    pub fn connect(settings: RedisSettings) -> Self {
        let timeout = settings.timeout;
        let keys = Keys::new(&settings.key_prefix);
        let connector = Connector::new(Arc::new(settings), timeout.saturating_mul(2));
        let line = Line::new(connector, timeout);
        let log = Log::new(line.clone(), &keys);
        let here = Arc::new(MemoryStore::new(0));
        let touch = Arc::new(Touch::default());
        let follower = Follower {
            log: log.clone(),
            here: here.clone(),
            touch: touch.clone(),
            seen: None,
        };
        Self {
            here,
            line,
            keys,
            log,
            touch,
            follower: tokio::spawn(follower.run()).abort_handle(),
            timeout,
        }
    }

    /// Waits for the log to be read for the first time, and for nothing later.
    async fn known(&self) -> Result<(), StoreError> {
        if self.touch.is_complete() {
            return Ok(());
        }
        let mut tried = self.touch.tried.subscribe();
        let _ = timeout(self.timeout, tried.wait_for(|tried| *tried)).await;
        match self.touch.is_complete() {
            true => Ok(()),
            false => Err(StoreError::Unavailable(
                "endings elsewhere may not have been heard of".into(),
            )),
        }
    }
}

impl Drop for SharedEndings {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// Until when the list of this replica is complete.
#[derive(Debug)]
struct Touch {
    begun: Instant,
    /// In milliseconds from the beginning on; 0 when it never was.
    complete_at: AtomicU64,
    /// Whether the log was asked for, with whatever success.
    tried: watch::Sender<bool>,
}

impl Default for Touch {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            complete_at: AtomicU64::new(0),
            tried: watch::Sender::new(false),
        }
    }
}

impl Touch {
    fn is_complete(&self) -> bool {
        let complete_at = self.complete_at.load(Ordering::Acquire);
        complete_at > 0 && self.begun.elapsed().saturating_sub(Duration::from_millis(complete_at)) <= PROMISE
    }

    /// All that was told until then is known.
    fn completed(&self, until: Instant) {
        let until = until.saturating_duration_since(self.begun).as_millis();
        let until = u64::try_from(until).unwrap_or(u64::MAX).max(1);
        self.complete_at.store(until, Ordering::Release);
        self.tried.send_replace(true);
    }
}

/// Reads the log for ever.
struct Follower {
    log: Log,
    here: Arc<MemoryStore>,
    touch: Arc<Touch>,
    /// The last place that was read.
    seen: Option<i64>,
}

impl Follower {
    async fn run(mut self) {
        let mut refusing = false;
        loop {
            let caught_up = self.catch_up().await;
            let pause = match caught_up {
                Ok(until) => {
                    self.touch.completed(until);
                    if std::mem::take(&mut refusing) {
                        info!("endings of sessions are heard of again");
                    }
                    ROUND
                }
                Err(error) => {
                    self.touch.tried.send_replace(true);
                    if !refusing && !self.touch.is_complete() {
                        refusing = true;
                        warn!(%error, "endings of sessions are not heard of; requests with a session fail");
                    }
                    RETRY
                }
            };
            sleep(pause).await;
        }
    }

    /// Reads what is new, or everything where it stopped is not there any more; says until when all is known.
    async fn catch_up(&mut self) -> Result<Instant, StoreError> {
        let Some(seen) = self.seen else {
            return self.read_all().await;
        };
        let asked = Instant::now();
        let entries = self.log.read(From::At(seen)).await?;
        match entries.split_first() {
            Some(((place, _), new)) if *place == seen => {
                self.take_in(new);
                if entries.len() < PAGE {
                    return Ok(asked);
                }
                self.read_on(|_| {}).await
            }
            // Emptied, or the log of a server that had not heard all when it took over.
            _ => self.read_all().await,
        }
    }

    /// Reads everything, and writes what only this replica knows.
    async fn read_all(&mut self) -> Result<Instant, StoreError> {
        self.seen = None;
        let mut there = HashMap::new();
        let until = self
            .read_on(|Ending { index, at, .. }| {
                let known = there.entry(index).or_insert(at);
                *known = at.max(*known);
            })
            .await;
        let until = until.inspect_err(|_| self.seen = None)?;
        let is_lost = |ending: &Ending| there.get(&ending.index).is_none_or(|at| *at < ending.at);
        let here = self.here.endings_kept().into_iter();
        let lost: Vec<Ending> = here
            .map(|(index, at, life)| Ending { index, at, life })
            .filter(|ending| ending.life > NEARLY_OVER && is_lost(ending))
            .collect();
        if !lost.is_empty() {
            info!(endings = lost.len(), "told Redis of endings that it had lost");
            let restored = self.log.restore(&lost).await;
            restored.inspect_err(|_| self.seen = None)?;
        }
        Ok(until)
    }

    async fn read_on(&mut self, mut note: impl FnMut(Ending)) -> Result<Instant, StoreError> {
        loop {
            let asked = Instant::now();
            let from = self.seen.map_or(From::Beginning, From::After);
            let entries = self.log.read(from).await?;
            self.take_in(&entries);
            entries.iter().filter_map(|(_, ending)| *ending).for_each(&mut note);
            if entries.len() < PAGE {
                return Ok(asked);
            }
        }
    }

    fn take_in(&mut self, entries: &[Entry]) {
        for (place, ending) in entries {
            self.seen = Some(*place);
            if let Some(Ending { index, at, life }) = ending.filter(|ending| !ending.life.is_zero()) {
                self.here.hear(index, at, life);
            }
        }
    }
}

/// What ends in this very moment may end a little earlier in Redis.
const NEARLY_OVER: Duration = Duration::from_secs(1);

impl SessionStore for SharedEndings {
    fn create<'a>(&'a self, id: &'a str, record: Record, indices: &'a [Fingerprint], life: Duration) -> Answer<'a, ()> {
        self.here.create(id, record, indices, life)
    }

    fn read<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Record>> {
        self.here.read(id)
    }

    fn replace<'a>(&'a self, id: &'a str, seen: u64, record: Record, life: Duration) -> Answer<'a, Replaced> {
        self.here.replace(id, seen, record, life)
    }

    fn index<'a>(&'a self, id: &'a str, indices: &'a [Fingerprint], life: Duration) -> Answer<'a, bool> {
        self.here.index(id, indices, life)
    }

    fn end<'a>(&'a self, id: &'a str) -> Answer<'a, bool> {
        self.here.end(id)
    }

    /// In Redis first: who hears of an error can try again, and nothing was half done.
    fn end_all<'a>(&'a self, index: &'a Fingerprint, at: Timestamp, life: Duration) -> Answer<'a, usize> {
        Box::pin(async move {
            let index_of = *index;
            self.log
                .tell(Ending {
                    index: index_of,
                    at,
                    life,
                })
                .await?;
            self.here.end_all(index, at, life).await
        })
    }

    fn ended_at<'a>(&'a self, indices: &'a [Fingerprint]) -> Answer<'a, Option<Timestamp>> {
        Box::pin(async move {
            self.known().await?;
            self.here.ended_at(indices).await
        })
    }

    fn none_ended(&self, indices: &[Fingerprint]) -> bool {
        self.touch.is_complete() && self.here.none_ended(indices)
    }

    fn list(&self, limit: usize) -> Answer<'_, Listing> {
        self.here.list(limit)
    }

    fn count<'a>(&'a self, is_counted: Counts<'a>) -> Answer<'a, Option<usize>> {
        self.here.count(is_counted)
    }

    fn lock<'a>(&'a self, id: &'a str, holder: &'a str, life: Duration) -> Answer<'a, bool> {
        self.here.lock(id, holder, life)
    }

    fn unlock<'a>(&'a self, id: &'a str, holder: &'a str) -> Answer<'a, ()> {
        self.here.unlock(id, holder)
    }

    /// What was used here stays used when Redis forgets it.
    fn first_use<'a>(&'a self, what: &'a Fingerprint, life: Duration) -> Answer<'a, bool> {
        let key = self.keys.used(what);
        Box::pin(async move {
            let first = once::set_new(&self.line, &key, "", life).await?;
            Ok(self.here.first_use(what, life).await? && first)
        })
    }

    fn is_used<'a>(&'a self, what: &'a Fingerprint) -> Answer<'a, bool> {
        let key = self.keys.used(what);
        Box::pin(async move { Ok(self.here.is_used(what).await? || once::is_set(&self.line, &key).await?) })
    }

    fn endings(&self) -> broadcast::Receiver<Ended> {
        self.here.endings()
    }
}
