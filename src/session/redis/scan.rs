//! Goes through the sessions of a server, or of every master of a cluster.

use std::collections::HashSet;

use bytes::Bytes;
use redis::{RedisResult, Value};

use super::{
    connector::{Connector, Link},
    keys::Keys,
    settings::Host,
};

type Listed = Vec<(Box<str>, Bytes)>;

/// Keys that the server looks at in one step.
const STEP: usize = 500;
/// Steps after which the search ends: a server that is full of other things is not searched for ever.
const MAX_STEPS: usize = 2_000;

/// At most `limit` sessions and their labels.
pub(super) async fn list(connector: &Connector, keys: &Keys, limit: usize, link: Link) -> RedisResult<Listed> {
    let mut links = Vec::new();
    match &link {
        Link::Server(_) => links.push(link.clone()),
        Link::Cluster(_) => {
            for node in masters(link.clone()).await? {
                links.push(connector.open_node(&node).await?);
            }
        }
    }
    let mut found = HashSet::new();
    for mut node in links {
        find(keys, limit, &mut node, &mut found).await?;
    }
    labels(keys, found, link).await
}

/// A step may bring an id a second time.
async fn find(keys: &Keys, limit: usize, node: &mut Link, found: &mut HashSet<Box<str>>) -> RedisResult<()> {
    let mut cursor = 0_u64;
    for _ in 0..MAX_STEPS {
        if found.len() >= limit {
            break;
        }
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(keys.all_sessions());
        command.arg("COUNT").arg(STEP);
        let (next, names): (u64, Vec<String>) = command.query_async(node).await?;
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
