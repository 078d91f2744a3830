//! Where sessions are kept: `store`, and the table of each kind.

use super::{
    file::{self, Store},
    load::Load,
    read::{At, Field},
    report::Span,
};
use crate::{
    secret::Secret,
    session::{RedisSettings, StoreSettings},
};

/// Holds about forty thousand sessions of 1 KiB of claims and tokens.
const MEMORY_BYTES: u64 = 128 * 1024 * 1024;

pub(super) fn settings(here: Span, table: &file::Session, load: &mut Load<'_>) -> Option<StoreSettings> {
    let kind = table.store.value().copied().unwrap_or(Store::Cookie);
    let tables: [(&[Store], _, _); 2] = [
        (&[Store::Memory], "memory", table.memory.at()),
        (&[Store::Redis, Store::Cookie], "redis", table.redis.at()),
    ];
    for (owners, name, at) in tables {
        if let Some(at) = at.filter(|_| !owners.contains(&kind)) {
            let message = format!("[session.{name}] means nothing: sessions are not kept there");
            let instead = format!("write store = \"{name}\" in [session], or leave the table out");
            load.findings.problem(at, message, instead);
        }
    }
    match kind {
        Store::Cookie if table.redis.is_absent() => Some(StoreSettings::Cookie { shared: None }),
        Store::Cookie => redis(here, &table.redis, load).map(|redis| StoreSettings::Cookie {
            shared: Some(Box::new(redis)),
        }),
        Store::Memory => {
            let max_bytes = table.memory.value().and_then(|memory| memory.max_bytes.value());
            Some(StoreSettings::Memory {
                max_bytes: max_bytes.map_or(MEMORY_BYTES, |size| size.0),
            })
        }
        Store::Redis => redis(here, &table.redis, load).map(|redis| StoreSettings::Redis(Box::new(redis))),
    }
}

fn redis(here: Span, field: &Field<file::RedisStore>, load: &mut Load<'_>) -> Option<RedisSettings> {
    let instead = "write url_file = \"redis.url\" in [session.redis], a file with redis://user:password@host:6379/0";
    let Field::Given(table) = field else {
        if field.is_absent() {
            load.findings
                .problem(here, "store = \"redis\" without [session.redis]", instead);
        }
        return None;
    };
    let At { at, value: table } = table;
    let (place, url) = match (table.url_file.given(), table.url_env.given()) {
        (Some(file), None) => (file.at, load.secret_file(file)),
        (None, Some(variable)) => (variable.at, load.secret_variable(variable)),
        (Some(_), Some(variable)) => {
            load.findings
                .problem(variable.at, "[session.redis] has two URLs", "keep one of them");
            return None;
        }
        (None, None) => {
            load.findings
                .problem(*at, "[session.redis] does not say where Redis is", instead);
            return None;
        }
    };
    let trust = load.trust(&table.ca_file);
    let settings = url.and_then(|url| parsed(&url, place, load));
    let mut settings = prefixed(settings?, &table.key_prefix, load)?;
    settings.trust = trust?;
    if let Some(timeout) = table.timeout.value() {
        settings.timeout = timeout.0;
    }
    Some(settings)
}

fn parsed(url: &Secret, place: Span, load: &mut Load<'_>) -> Option<RedisSettings> {
    RedisSettings::parse(url.expose())
        .map_err(|error| {
            let message = format!("the URL of Redis cannot be used: {error}");
            let instead = "write redis://user:password@host:6379/0, redis+sentinel://host1,host2/master or \
                           redis+cluster://host1,host2; rediss for TLS";
            load.findings.problem(place, message, instead);
        })
        .ok()
}

fn prefixed(settings: RedisSettings, prefix: &Field<String>, load: &mut Load<'_>) -> Option<RedisSettings> {
    let Some(prefix) = prefix.given() else {
        return Some(settings);
    };
    settings
        .with_key_prefix(&prefix.value)
        .map_err(|error| {
            let message = format!("`key_prefix` cannot be used: {error}");
            load.findings
                .problem(prefix.at, message, "write one like \"vestibule:\"");
        })
        .ok()
}
