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
use crate::session::store::{Counts, StoreError};

type Listed = Vec<(Box<str>, Bytes)>;

/// Keys that the server looks at in one step.
const STEP: usize = 500;
/// Steps after which the search ends: a server that is full of other things is not searched for ever.
const MAX_STEPS: usize = 2_000;

/// At most `limit` sessions and their labels.
pub(super) async fn list(connector: &Connector, keys: &Keys, limit: usize, link: Link) -> RedisResult<Listed> {
    let mut found = HashSet::new();
    for mut node in nodes(connector, link.clone()).await? {
        find(keys, limit, &mut node, &mut found).await?;
    }
    labels(keys, found, link).await
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
async fn labelled(keys: &Keys, cursor: u64, node: &mut Link) -> RedisResult<(u64, Vec<(String, Bytes)>)> {
    let (next, names) = step(keys, cursor, node).await?;
    let mut ask = redis::pipe();
    for name in &names {
        ask.cmd("HGET").arg(name).arg("l");
    }
    let labels: Vec<Option<Bytes>> = match names.is_empty() {
        true => Vec::new(),
        false => ask.query_async(node).await?,
    };
    let labelled = names.into_iter().zip(labels);
    Ok((
        next,
        labelled.filter_map(|(name, label)| Some((name, label?))).collect(),
    ))
}

/// The names of some sessions, and where to go on; nowhere at 0.
async fn step(keys: &Keys, cursor: u64, node: &mut Link) -> RedisResult<(u64, Vec<String>)> {
    let mut command = redis::cmd("SCAN");
    command.arg(cursor).arg("MATCH").arg(keys.all_sessions());
    command.arg("COUNT").arg(STEP).query_async(node).await
}

/// A step may bring an id a second time.
async fn find(keys: &Keys, limit: usize, node: &mut Link, found: &mut HashSet<Box<str>>) -> RedisResult<()> {
    let mut cursor = 0_u64;
    for _ in 0..MAX_STEPS {
        if found.len() >= limit {
            break;
        }
        let (next, names) = step(keys, cursor, node).await?;
        let room = limit.saturating_sub(found.len());
        let ids = names.iter().filter_map(|name| keys.id_of(name)).map(Box::from);
        found.extend(ids.take(room));
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    Ok(())
}

/// One that ended since it was found has no label any more.
async fn labels(keys: &Keys, ids: HashSet<Box<str>>, mut link: Link) -> RedisResult<Listed> {
    let mut listed = Vec::with_capacity(ids.len());
    for id in ids {
        let mut command = redis::cmd("HGET");
        command.arg(keys.session(&id)).arg("l");
        if let Some(label) = command.query_async(&mut link).await? {
            listed.push((id, label));
        }
    }
    Ok(listed)
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
