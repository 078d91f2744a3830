//! The `[session]` table.

use std::{path::PathBuf, time::Duration};

use super::{
    file,
    load::Load,
    measure::Timeout,
    read::{At, Field},
    report::Span,
    store,
    value::CookieDomain,
};
use crate::session::{CookieSettings, SealingKey, Settings};

/// The settings, and the domain that routes must be in.
pub(super) fn settings(
    table: Field<file::Session>,
    load: &mut Load<'_>,
) -> Option<(Settings, Option<At<CookieDomain>>)> {
    let here = table.at().unwrap_or_default();
    let table = table.or_default();
    let limits = lifetimes(&table, load);
    let store = store::settings(here, &table, load);
    let ephemeral_keys = table.key_files.is_absent();
    let keys = match table.key_files {
        Field::Given(files) => keys(&files.value.0, load),
        Field::Wrong => None,
        Field::Absent => Some(vec![fresh_key(here, load)]),
    };
    let (cookie, domain) = cookie(table.cookie.or_default());
    let (idle_timeout, max_lifetime) = limits?;
    let settings = Settings {
        keys: keys?,
        ephemeral_keys,
        idle_timeout,
        max_lifetime,
        refresh_before: table.refresh_before.or(Duration::from_secs(60)),
        cookie,
        store: store?,
        keep_access_token: false,
        read_cache: table.read_cache.or(Duration::from_secs(1)),
    };
    Some((settings, domain))
}

fn lifetimes(table: &file::Session, load: &mut Load<'_>) -> Option<(Duration, Duration)> {
    let default = |minutes: u64| Duration::from_secs(minutes.saturating_mul(60));
    let read = |field: &Field<Timeout>| field.value().map(|timeout| timeout.0);
    let max = read(&table.max_lifetime).unwrap_or(default(8 * 60));
    // A short life needs no second number.
    let idle = read(&table.idle_timeout).unwrap_or(default(30).min(max));
    if idle > max {
        let at = table.max_lifetime.at().or(table.idle_timeout.at()).unwrap_or_default();
        let instead = "make `idle_timeout` the shorter one: it ends a session that nobody uses";
        load.findings
            .problem(at, "`idle_timeout` is longer than `max_lifetime`", instead);
        return None;
    }
    Some((idle, max))
}

fn keys(files: &[At<PathBuf>], load: &mut Load<'_>) -> Option<Vec<SealingKey>> {
    let keys: Vec<Option<SealingKey>> = files.iter().map(|file| key(file, load)).collect();
    keys.into_iter().collect()
}

fn key(file: &At<PathBuf>, load: &mut Load<'_>) -> Option<SealingKey> {
    let text = load.secret_file(file)?;
    let key = SealingKey::from_text(text.expose());
    if key.is_none() {
        let message = format!("{} holds no session key", file.value.display());
        let instead = format!("make one: vestibule keygen --output {}", file.value.display());
        load.findings.problem(file.at, message, instead);
    }
    key
}

fn fresh_key(here: Span, load: &mut Load<'_>) -> SealingKey {
    let message = "no `key_files`: sessions end when the gateway restarts, and cannot be shared by several";
    let instead = "run `vestibule keygen --output session.key`, and write key_files = [\"session.key\"] in [session]";
    load.findings.warning(here, message, instead);
    SealingKey::random()
}

fn cookie(table: file::Cookie) -> (CookieSettings, Option<At<CookieDomain>>) {
    let domain = table.domain.given().cloned();
    let default = CookieSettings::default();
    let settings = CookieSettings {
        name: table.name.into_value().map_or(default.name, |name| name.0.into()),
        same_site: table.same_site.or(default.same_site),
        domain: domain.as_ref().map(|domain| domain.value.0.as_str().into()),
    };
    (settings, domain)
}
