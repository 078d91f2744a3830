//! Goes through the sessions of a server, or of every master of a cluster.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use redis::{RedisResult, Value};
use tokio::time::timeout;

use super::{
    connector::{Connector, Link},
    keys::Keys,
    settings::Host,
};
use crate::session::store::{Counts, Listing, StoreError};

type Labelled = Vec<(Box<str>, Bytes)>;

/// Keys that the server looks at in one step.
const STEP: usize = 500;
/// Steps after which the search ends: a server that is full of other things is not searched for ever.
const MAX_STEPS: usize = 2_000;

/// At most `limit` sessions and their labels.
pub(super) async fn list(connector: &Connector, keys: &Keys, limit: usize, link: Link) -> RedisResult<Listing> {
    let mut search = Search {
        keys,
        limit,
        seen: HashSet::new(),
        found: Vec::new(),
    };
    let mut complete = true;
    for mut node in nodes(connector, link).await? {
        complete &= search.through(&mut node).await?;
    }
    Ok(Listing {
        found: search.found,
        complete,
    })
}

/// What was found so far, on whatever node.
struct Search<'a> {
    keys: &'a Keys,
    limit: usize,
    /// A step may bring an id a second time.
    seen: HashSet<Box<str>>,
    found: Labelled,
}

impl Search<'_> {
    /// Goes through a node; says whether it came to the end.
    async fn through(&mut self, node: &mut Link) -> RedisResult<bool> {
        let mut cursor = 0_u64;
        for _ in 0..MAX_STEPS {
            let (next, names) = step(self.keys, cursor, node).await?;
            let ids = names.iter().filter_map(|name| self.keys.id_of(name)).map(Box::from);
            let new: Vec<Box<str>> = ids.filter(|id| self.seen.insert(Box::clone(id))).collect();
            let labelled = labels(self.keys, new, node).await?;
            let room = self.limit.saturating_sub(self.found.len());
            let all = labelled.len() <= room;
            self.found.extend(labelled.into_iter().take(room));
            cursor = next;
            if cursor == 0 || !all {
                return Ok(all);
            }
        }
        Ok(false)
    }
}

/// In one step, because a person waits; one that ended since it was found has no label, nor one that just moved away.
async fn labels(keys: &Keys, ids: Vec<Box<str>>, node: &mut Link) -> RedisResult<Labelled> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut steps = redis::pipe();
    steps.ignore_errors();
    for id in &ids {
        steps.cmd("HGET").arg(keys.session(id)).arg("l");
    }
    let labels: Vec<RedisResult<Option<Bytes>>> = steps.query_async(node).await?;
    let labelled = ids.into_iter().zip(labels);
    Ok(labelled
        .filter_map(|(id, label)| Some((id, label.ok().flatten()?)))
        .collect())
}

/// The server, or a connection to every master of a cluster.
pub(super) async fn nodes(connector: &Connector, link: Link) -> RedisResult<Vec<Link>> {
    if let Link::Server(_) = link {
        return Ok(vec![link]);
    }
    let mut nodes = Vec::new();
    for node in masters(link).await? {
        nodes.push(connector.open_node(&node).await?);
    }
    Ok(nodes)
}

/// How many sessions have a label that is counted; `None` when there is more than can be looked at.
///
/// Each step may take so long, and is no request of anybody: when it takes too long, the connection stays.
pub(super) async fn count(
    keys: &Keys,
    nodes: Vec<Link>,
    step: Duration,
    is_counted: Counts<'_>,
) -> Result<Option<usize>, StoreError> {
    let mut counted = HashSet::new();
    for mut node in nodes {
        let mut cursor = 0;
        for number in 1.. {
            let (next, found) = match timeout(step, labelled(keys, cursor, &mut node)).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => return Err(StoreError::Unavailable(error.to_string())),
                Err(_) => return Err(StoreError::TimedOut),
            };
            let found = found.into_iter().filter(|(_, label)| is_counted(label));
            counted.extend(found.map(|(name, _)| name));
            cursor = next;
            if cursor == 0 {
                break;
            }
            if number >= MAX_STEPS || counted.len() > MAX_COUNTED {
                return Ok(None);
            }
        }
    }
    Ok(Some(counted.len()))
}

/// A step may bring a name a second time, so that names are kept; so many at most.
const MAX_COUNTED: usize = 100_000;

/// One step: the names of some sessions, with their labels.
async fn labelled(keys: &Keys, cursor: u64, node: &mut Link) -> RedisResult<(u64, Labelled)> {
    let (next, names) = step(keys, cursor, node).await?;
    let ids = names.iter().filter_map(|name| keys.id_of(name)).map(Box::from);
    Ok((next, labels(keys, ids.collect(), node).await?))
}

/// The names of some sessions, and where to go on; nowhere at 0.
async fn step(keys: &Keys, cursor: u64, node: &mut Link) -> RedisResult<(u64, Vec<String>)> {
    let mut command = redis::cmd("SCAN");
    command.arg(cursor).arg("MATCH").arg(keys.all_sessions());
    command.arg("COUNT").arg(STEP).query_async(node).await
}

/// The nodes that have slots: each entry has a first and a last slot, the master, and its replicas.
async fn masters(mut link: Link) -> RedisResult<Vec<Host>> {
    let mut command = redis::cmd("CLUSTER");
    let slots: Vec<Vec<Value>> = command.arg("SLOTS").query_async(&mut link).await?;
    let mut masters: Vec<Host> = Vec::new();
    for master in slots.iter().filter_map(|range| host(range.get(2)?)) {
        if !masters.contains(&master) {
            masters.push(master);
        }
    }
    Ok(masters)
}

fn host(node: &Value) -> Option<Host> {
    let Value::Array(node) = node else { return None };
    match (node.first()?, node.get(1)?) {
        (Value::BulkString(name), Value::Int(port)) => Some(Host {
            name: String::from_utf8(name.clone()).ok()?,
            port: u16::try_from(*port).ok()?,
        }),
        _ => None,
    }
}
