//! The `[server.tls]` table.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::{
    file,
    load::{Load, Table},
    read::{At, Field},
};
use crate::{
    policy::Host,
    server::Listen,
    server::tls::{Chain, KeyPair, KeyPairError, Settings},
};

/// How long before the end of a certificate somebody should look at why there is no new one.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// What the table says, and where clients are sent to https.
pub(super) fn settings(
    table: Field<file::ServerTls>,
    h2c: &Field<bool>,
    load: &mut Load<'_>,
) -> (Option<Settings>, Vec<At<Listen>>) {
    let Field::Given(At { at, value: table }) = table else {
        return (None, Vec::new());
    };
    if let (Some(true), Some(at)) = (h2c.value(), h2c.at()) {
        let message = "with [server.tls] there is no HTTP/2 in clear text";
        let instead = "leave it out: with TLS, clients that know HTTP/2 are given it";
        load.findings.problem(at, message, instead);
    }
    let here = Table::new("server.tls", at);
    let redirect = table.redirect_listen.into_value().map_or_else(Vec::new, |list| list.0);
    let client_authorities = match &table.client_ca_file {
        Field::Absent => Some(None),
        file => load.trust(file).map(Some),
    };
    let one_given = !table.cert_file.is_absent() || !table.key_file.is_absent();
    let key_pairs = match (table.certificates, one_given) {
        (Field::Absent, _) => key_pair(&here, table.cert_file, table.key_file, load).map(|one| vec![one]),
        (Field::Given(list), false) => key_pairs(list.value.0, load),
        (Field::Wrong, _) => None,
        (Field::Given(list), true) => {
            let message = "`certificates` stands beside `cert_file` and `key_file`";
            let instead = "write all certificates into the list, the one for clients that name no host first";
            load.findings.problem(list.at, message, instead);
            key_pairs(list.value.0, load)
        }
    };
    let settings = key_pairs
        .zip(client_authorities)
        .map(|(key_pairs, client_authorities)| Settings {
            key_pairs,
            min_version: table.min_version.or_default(),
            client_authorities,
        });
    (settings, redirect)
}

/// All of them, or nothing where one is wrong; every one is looked at.
fn key_pairs(tables: Vec<At<file::KeyPair>>, load: &mut Load<'_>) -> Option<Vec<KeyPair>> {
    let key_pairs: Vec<Option<KeyPair>> = tables
        .into_iter()
        .map(|At { at, value: table }| {
            let here = Table::new("server.tls.certificates", at);
            key_pair(&here, table.cert_file, table.key_file, load)
        })
        .collect();
    key_pairs.into_iter().collect()
}

fn key_pair(here: &Table, cert: Field<PathBuf>, key: Field<PathBuf>, load: &mut Load<'_>) -> Option<KeyPair> {
    let cert_at = given(here, "cert_file", cert, "\"tls.crt\"", load);
    let key_at = given(here, "key_file", key, "\"tls.key\"", load);
    let (cert, key) = (cert_at?, key_at?);
    let chain = load.contents(&cert).map(|(pem, _)| pem);
    let key_pem = load.file(&key);
    let (chain, key_pem) = (chain?, key_pem?);
    let mut complain = |file: &At<PathBuf>, error: KeyPairError| {
        let message = format!("{} cannot be used: {error}", file.value.display());
        let instead = "name a file with certificates in PEM, and one with the key of the first";
        load.findings.problem(file.at, message, instead);
    };
    let chain = Chain::from_pem(&cert.value, &chain)
        .map_err(|error| complain(&cert, error))
        .ok()?;
    let key_pair = chain.with_key(&key_pem).map_err(|error| complain(&key, error)).ok()?;
    ending(&cert, &key_pair, load);
    Some(key_pair)
}

/// The value of a key that must be there, and where it stands.
fn given<T>(here: &Table, key: &str, field: Field<T>, example: &str, load: &mut Load<'_>) -> Option<At<T>> {
    let at = field.at().unwrap_or(here.at);
    let value = load.required(here, key, field, example)?;
    Some(At { at, value })
}

fn ending(file: &At<PathBuf>, key_pair: &KeyPair, load: &mut Load<'_>) {
    let end = key_pair.ends_at();
    let file_name = file.value.display();
    let message = if end <= load.now {
        format!("the certificate in {file_name} has ended: clients refuse it")
    } else if end <= load.now.plus(SOON) {
        let days = end.since(load.now).as_secs() / 86_400;
        format!("the certificate in {file_name} ends in {days} days")
    } else {
        return;
    };
    let instead = "put a new one into the file; the gateway takes it up by itself";
    load.findings.warning(file.at, message, instead);
}

/// Whether a certificate is for the host, or for all of a wildcard. Addresses have other names, which are not looked at.
pub(super) fn is_covered(host: &Host, settings: &Settings) -> bool {
    let name = host.to_string();
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return true;
    }
    let wildcard = name.split_once('.').map(|(_, domain)| format!("*.{domain}"));
    let mut hosts = settings.key_pairs.iter().flat_map(KeyPair::hosts);
    hosts.any(|covered| *covered == *name || wildcard.as_deref() == Some(covered))
}
