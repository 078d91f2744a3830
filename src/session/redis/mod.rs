//! Sessions in Redis or Valkey: shared by all replicas, and there when one of them starts anew.

mod breaker;
mod connector;
mod keys;
mod line;
mod listener;
mod log;
mod once;
mod scan;
mod settings;
mod shared;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::RedisResult;
pub use settings::{RedisSettings, RedisSettingsError};
pub use shared::SharedEndings;
use tokio::{sync::broadcast, task::AbortHandle};

use self::{
    connector::{Connector, Link},
    keys::Keys,
    line::{Again, Line},
};
use super::store::{Answer, Counts, Ended, Listing, Record, Replaced, SessionStore, StoreError};
use crate::{secret::Fingerprint, time::Timestamp};

/// A store that all replicas share; needs Redis 6 or Valkey.
#[derive(Debug)]
pub struct RedisStore {
    line: Arc<Line>,
    keys: Keys,
    endings: broadcast::Sender<Ended>,
    listener: AbortHandle,
    timeout: Duration,
}

/// Endings that a listener may be behind.
const ENDINGS: usize = 1_024;
/// Sessions that are ended with one command.
const BATCH: isize = 500;
/// A list is for a person who waits.
const LIST_TIMEOUTS: u32 = 20;
/// Nobody waits for one step of counting.
const STEP_TIMEOUTS: u32 = 4;

impl RedisStore {
    /// A store that connects when it is first needed, so that a gateway can start before its Redis.
    ///
    /// # Panics
    /// Outside of a Tokio runtime, which runs the task that listens for endings.
    pub fn connect(settings: RedisSettings) -> Self {
        let timeout = settings.timeout;
        let keys = Keys::new(&settings.key_prefix);
        let connector = Connector::new(Arc::new(settings), timeout.saturating_mul(2));
        let endings = broadcast::channel(ENDINGS).0;
        let listening = listener::listen(connector.clone(), keys.clone(), endings.clone());
        Self {
            line: Line::new(connector, timeout),
            keys,
            endings,
            listener: tokio::spawn(listening).abort_handle(),
            timeout,
        }
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl SessionStore for RedisStore {
    fn create<'a>(&'a self, id: &'a str, record: Record, indices: &'a [Fingerprint], life: Duration) -> Answer<'a, ()> {
        let (keys, record) = (&self.keys, Arc::new(record));
        Box::pin(self.line.ask(Again::Always, move |mut link| {
            let record = record.clone();
            async move {
                // Found before it is there: a session that could not be found could not be ended.
                let findable = index(keys, id, indices.iter().copied(), life, &mut link).await?;
                let mut script = keys::CREATE.key(keys.session(id));
                script.arg(record.version).arg(&*record.sealed).arg(&*record.label);
                script.arg(together(indices)).arg(millis(life)).arg(millis(findable));
                script.invoke_async(&mut link).await
            }
        }))
    }

    fn read<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Record>> {
        Box::pin(self.line.ask(Again::Always, move |mut link| async move {
            let mut command = redis::cmd("HMGET");
            command.arg(self.keys.session(id)).arg(&["v", "d", "l"]);
            let fields: [Option<Bytes>; 3] = command.query_async(&mut link).await?;
            Ok(record(fields))
        }))
    }

    fn replace<'a>(&'a self, id: &'a str, seen: u64, record: Record, life: Duration) -> Answer<'a, Replaced> {
        let (keys, record) = (&self.keys, Arc::new(record));
        Box::pin(self.line.ask(Again::IfUndone, move |mut link| {
            let record = record.clone();
            async move {
                let mut script = keys::REPLACE.key(keys.session(id));
                script.arg(seen).arg(record.version).arg(&*record.sealed);
                script.arg(&*record.label).arg(millis(life));
                match script.invoke_async(&mut link).await? {
                    0 => return Ok(Replaced::Gone),
                    1 => return Ok(Replaced::Changed),
                    2 => return Ok(Replaced::Done),
                    _ => {}
                }
                let mut command = redis::cmd("HGET");
                let known: Option<Vec<u8>> = command.arg(keys.session(id)).arg("i").query_async(&mut link).await?;
                if let Some(indices) = known {
                    reindex(keys, id, &indices, life, &mut link).await?;
                }
                Ok(Replaced::Done)
            }
        }))
    }

    fn index<'a>(&'a self, id: &'a str, indices: &'a [Fingerprint], life: Duration) -> Answer<'a, bool> {
        Box::pin(self.line.ask(Again::Always, move |mut link| async move {
            let mut command = redis::cmd("EXISTS");
            let is_there: bool = command.arg(self.keys.session(id)).query_async(&mut link).await?;
            if !is_there {
                return Ok(false);
            }
            reindex(&self.keys, id, &together(indices), life, &mut link).await
        }))
    }

    fn end<'a>(&'a self, id: &'a str) -> Answer<'a, bool> {
        let ended = [Ended::Session(id.into())];
        Box::pin(async move {
            let was_there = self.line.ask(Again::IfUndone, |link| self.take(id, link)).await?;
            self.tell(&ended).await?;
            Ok(was_there)
        })
    }

    fn end_all<'a>(&'a self, index: &'a Fingerprint, at: Timestamp, life: Duration) -> Answer<'a, usize> {
        Box::pin(async move {
            let mark = |mut link| async move {
                let mut script = keys::MARK.key(self.keys.ended(index));
                script.arg(at.unix()).arg(millis(life)).invoke_async(&mut link).await
            };
            self.line.ask::<(), _>(Again::Always, mark).await?;
            let mut found: usize = 0;
            loop {
                let (ids, ended) = self
                    .line
                    .ask(Again::IfUndone, |link| self.take_some(index, link))
                    .await?;
                if ids.is_empty() {
                    break;
                }
                found = found.saturating_add(ended);
                let ids: Vec<_> = ids.into_iter().map(|id| Ended::Session(id.into())).collect();
                self.tell(&ids).await?;
            }
            self.tell(&[Ended::Before { index: *index, at }]).await?;
            Ok(found)
        })
    }

    fn ended_at<'a>(&'a self, indices: &'a [Fingerprint]) -> Answer<'a, Option<Timestamp>> {
        Box::pin(async move {
            if indices.is_empty() {
                return Ok(None);
            }
            let ask = |mut link| async move {
                let mut command = redis::cmd("MGET");
                for index in indices {
                    command.arg(self.keys.ended(index));
                }
                let ended: Vec<Option<i64>> = command.query_async(&mut link).await?;
                Ok(ended.into_iter().flatten().max().map(Timestamp::from_unix))
            };
            self.line.ask(Again::Always, ask).await
        })
    }

    /// Only Redis knows.
    fn none_ended(&self, _: &[Fingerprint]) -> bool {
        false
    }

    fn list(&self, limit: usize) -> Answer<'_, Listing> {
        let patience = self.timeout.saturating_mul(LIST_TIMEOUTS);
        Box::pin(self.line.ask_patiently(patience, Again::Always, move |link| {
            scan::list(self.line.connector(), &self.keys, limit, link)
        }))
    }

    fn count<'a>(&'a self, is_counted: Counts<'a>) -> Answer<'a, Option<usize>> {
        let step = self.timeout.saturating_mul(STEP_TIMEOUTS);
        Box::pin(async move {
            let patience = self.timeout.saturating_mul(LIST_TIMEOUTS);
            let nodes = |link| scan::nodes(self.line.connector(), link);
            let nodes = self.line.ask_patiently(patience, Again::Always, nodes).await?;
            scan::count(&self.keys, nodes, step, is_counted).await
        })
    }

    fn lock<'a>(&'a self, id: &'a str, holder: &'a str, life: Duration) -> Answer<'a, bool> {
        let key = self.keys.lock(id);
        Box::pin(async move { once::set_new(&self.line, &key, holder, life).await })
    }

    fn unlock<'a>(&'a self, id: &'a str, holder: &'a str) -> Answer<'a, ()> {
        Box::pin(self.line.ask(Again::Always, move |mut link| async move {
            let mut script = keys::UNLOCK.key(self.keys.lock(id));
            script.arg(holder).invoke_async(&mut link).await
        }))
    }

    fn first_use<'a>(&'a self, what: &'a Fingerprint, life: Duration) -> Answer<'a, bool> {
        let key = self.keys.used(what);
        Box::pin(async move { once::set_new(&self.line, &key, "", life).await })
    }

    fn is_used<'a>(&'a self, what: &'a Fingerprint) -> Answer<'a, bool> {
        let key = self.keys.used(what);
        Box::pin(async move { once::is_set(&self.line, &key).await })
    }

    fn endings(&self) -> broadcast::Receiver<Ended> {
        self.endings.subscribe()
    }
}

impl RedisStore {
    /// Takes a session out, and out of its indices.
    async fn take(&self, id: &str, mut link: Link) -> RedisResult<bool> {
        let session = self.keys.session(id);
        let indices: Option<Bytes> = keys::END.key(session).invoke_async(&mut link).await?;
        for index in indices.iter().flat_map(|indices| fingerprints(indices)) {
            let mut command = redis::cmd("ZREM");
            command.arg(self.keys.index(&index)).arg(id);
            command.query_async::<()>(&mut link).await?;
        }
        Ok(indices.is_some())
    }

    /// Takes some sessions out that stand under an index; says which those were, and how many lived.
    async fn take_some(&self, index: &Fingerprint, mut link: Link) -> RedisResult<(Vec<String>, usize)> {
        let index = self.keys.index(index);
        let mut command = redis::cmd("ZRANGE");
        command.arg(&index).arg(0).arg(BATCH);
        let ids: Vec<String> = command.query_async(&mut link).await?;
        if ids.is_empty() {
            return Ok((ids, 0));
        }
        let mut command = redis::cmd("DEL");
        for id in &ids {
            command.arg(self.keys.session(id));
        }
        let ended = command.query_async(&mut link).await?;
        // One that begins in this moment stays findable: what was not looked at is not removed.
        let mut command = redis::cmd("ZREM");
        command.arg(&index).arg(&ids);
        command.query_async::<()>(&mut link).await?;
        Ok((ids, ended))
    }

    /// Tells this replica at once, and then all; this one hears it twice.
    async fn tell(&self, ended: &[Ended]) -> Result<(), StoreError> {
        for ended in ended {
            // Nobody may be listening.
            let _ = self.endings.send(ended.clone());
        }
        let text = &listener::write(ended);
        let publish = |mut link| async move {
            let mut command = redis::cmd("PUBLISH");
            command.arg(self.keys.channel()).arg(text).query_async(&mut link).await
        };
        self.line.ask(Again::Always, publish).await
    }
}

/// Indices are made to last for so many lives of a session, which is given another one again and again: a script for
/// each of them at each time would be many.
const LIVES: u32 = 16;

/// Makes a session findable for longer than it lives as it is; says how long.
async fn index(
    keys: &Keys,
    id: &str,
    indices: impl Iterator<Item = Fingerprint>,
    life: Duration,
    link: &mut Link,
) -> RedisResult<Duration> {
    let findable = life.saturating_mul(LIVES);
    for index in indices {
        let mut script = keys::INDEX.key(keys.index(&index));
        script.arg(id).arg(millis(findable)).invoke_async::<()>(link).await?;
    }
    Ok(findable)
}

/// The same for a session that is there, and notes it there; says whether it still was.
async fn reindex(keys: &Keys, id: &str, indices: &[u8], life: Duration, link: &mut Link) -> RedisResult<bool> {
    let findable = index(keys, id, fingerprints(indices), life, link).await?;
    let mut script = keys::REINDEX.key(keys.session(id));
    script.arg(indices).arg(millis(findable)).invoke_async(link).await
}

/// Nothing, when there is no session or somebody else wrote something that is none.
fn record([version, sealed, label]: [Option<Bytes>; 3]) -> Option<Record> {
    Some(Record {
        version: std::str::from_utf8(&version?).ok()?.parse().ok()?,
        sealed: sealed?,
        label: label?,
    })
}

fn together(indices: &[Fingerprint]) -> Vec<u8> {
    indices.iter().flat_map(Fingerprint::as_bytes).copied().collect()
}

fn fingerprints(indices: &[u8]) -> impl Iterator<Item = Fingerprint> {
    let (whole, _) = indices.as_chunks();
    whole.iter().copied().map(Fingerprint::from_bytes)
}

/// Redis counts lives in milliseconds, and takes none that is shorter than one.
fn millis(life: Duration) -> i64 {
    i64::try_from(life.as_millis())
        .unwrap_or(i64::MAX)
        .clamp(1, LONGEST_LIFE)
}

/// A hundred years; Redis refuses lives that end later than it can count.
const LONGEST_LIFE: i64 = 100 * 365 * 24 * 60 * 60 * 1_000;
