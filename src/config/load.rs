//! What every section needs while it is loaded: files, variables, dates, and a place for what is found.

use std::{
    fs::Metadata,
    path::{Path, PathBuf},
};

use jiff::{civil::Date, tz::TimeZone};

use super::{
    file::Exception,
    read::{At, Field},
    report::{Findings, Span},
    sources::Sources,
};
use crate::{
    secret::Secret,
    time::Timestamp,
    trust::{ClientCertificate, TrustRoots},
};

/// What a file may refer to.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Where relative paths begin.
    pub directory: &'a Path,
    /// An environment variable.
    pub variable: fn(&str) -> Option<String>,
}

/// The work on one file.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub(super) surroundings: Surroundings<'a>,
    pub(super) now: Timestamp,
    pub(super) findings: Findings,
    pub(super) sources: Sources,
    /// How many checks the file weakens for now.
    pub(super) exceptions: usize,
}

/// A table as it is called in messages, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) at: Span,
}

impl Table {
    pub(super) fn new(name: impl Into<String>, at: Span) -> Self {
        Self { name: name.into(), at }
    }
}

impl Load<'_> {
    /// The value of a key that must be there.
    pub(super) fn required<T>(&mut self, table: &Table, key: &str, field: Field<T>, example: &str) -> Option<T> {
        if field.is_absent() {
            let message = format!("`{key}` is missing in [{}]", table.name);
            self.findings
                .problem(table.at, message, format!("write it like this: {key} = {example}"));
        }
        field.into_value()
    }

    /// Refuses a list that names something twice.
    pub(super) fn no_twins<T: PartialEq>(&mut self, list: &[At<T>]) {
        for (index, member) in list.iter().enumerate() {
            if let Some(first) = list.iter().take(index).find(|other| other.value == member.value) {
                let message = "this stands in the list twice";
                self.findings
                    .problem(member.at, message, "take one away")
                    .see(first.at, "the first time");
            }
        }
    }

    /// A secret from a file; a line end after it does not count.
    pub(super) fn secret_file(&mut self, path: &At<PathBuf>) -> Option<Secret> {
        let bytes = self.file(path)?;
        let text = String::from_utf8(bytes).ok();
        let secret = text.as_deref().map(|text| text.trim_end_matches(['\r', '\n']));
        let secret = secret.filter(|text| !text.is_empty()).map(Secret::new);
        if secret.is_none() {
            let message = format!("{} holds no secret", path.value.display());
            self.findings
                .problem(path.at, message, "put the secret into the file, as one line of text");
        }
        secret
    }

    pub(super) fn secret_variable(&mut self, name: &At<String>) -> Option<Secret> {
        let value = (self.surroundings.variable)(&name.value).filter(|value| !value.is_empty());
        if value.is_none() {
            let message = format!("the environment variable {} is not set", name.value);
            self.findings
                .problem(name.at, message, "set it for the gateway's process, or use a file");
        }
        value.map(Secret::new)
    }

    /// The certificate authorities of a `ca_file`, or the platform's.
    pub(super) fn trust(&mut self, field: &Field<PathBuf>) -> Option<TrustRoots> {
        let Some(path) = field.given() else {
            return Some(TrustRoots::Platform);
        };
        let (pem, _) = self.contents(path)?;
        let complain = |error| {
            let message = format!("{} cannot be used: {error}", path.value.display());
            self.findings
                .problem(path.at, message, "name a file with certificates in PEM");
        };
        TrustRoots::from_pem(&pem).map_err(complain).ok()
    }

    /// What the gateway proves itself with: a certificate and its key, which come together.
    pub(super) fn certificate(
        &mut self,
        chain: &Field<PathBuf>,
        key: &Field<PathBuf>,
    ) -> Option<Option<ClientCertificate>> {
        let (chain, key) = match (chain, key) {
            (Field::Absent, Field::Absent) => return Some(None),
            (Field::Given(chain), Field::Given(key)) => (chain, key),
            (Field::Given(only), Field::Absent) | (Field::Absent, Field::Given(only)) => {
                let message = "`cert_file` and `key_file` come together";
                self.findings.problem(only.at, message, "write both, or neither");
                return None;
            }
            (Field::Wrong, _) | (_, Field::Wrong) => return None,
        };
        let (pem, secret) = (self.contents(chain), self.file(key));
        let complain = |error| {
            let message = format!("{} and its key cannot be used: {error}", chain.value.display());
            let instead = "name a file with a certificate in PEM, and the file with its private key";
            self.findings.problem(chain.at, message, instead);
        };
        let certificate = ClientCertificate::from_pem(&pem?.0, &secret?);
        certificate.map_err(complain).ok().map(Some)
    }

    /// Until when a weakened check may stay weak; `None` when it may not, or no longer.
    pub(super) fn exception(&mut self, table: &Table, key: &str, field: Field<Exception>) -> Option<Timestamp> {
        let Field::Given(At { at, value: exception }) = field else {
            return None;
        };
        let here = Table::new(format!("{}.{key}", table.name), at);
        let reason = self.required(&here, "reason", exception.reason, "\"why this is accepted\"");
        let until = self.required(&here, "until", exception.until, "\"2027-01-31\"");
        let (reason, last_day) = (reason?, until?);
        let until = end_of(last_day)?;
        if self.now < until {
            self.exceptions = self.exceptions.saturating_add(1);
            let message = format!("`{key}` in [{}] weakens a check until {last_day}: {reason}", table.name);
            self.findings
                .warning(at, message, "take it out as soon as it is not needed");
            Some(until)
        } else {
            let message = format!(
                "`{key}` in [{}] ended on {last_day}; the check is made again",
                table.name
            );
            self.findings.warning(at, message, "take it out");
            None
        }
    }

    /// The bytes of a file that nobody else should read.
    pub(super) fn file(&mut self, path: &At<PathBuf>) -> Option<Vec<u8>> {
        let (bytes, metadata) = self.contents(path)?;
        if is_open_to_everybody(&metadata) {
            let message = format!("every user of this machine can read {}", path.value.display());
            self.findings
                .warning(path.at, message, format!("chmod o-rwx {}", path.value.display()));
        }
        Some(bytes)
    }

    /// The bytes of a file.
    pub(super) fn contents(&mut self, path: &At<PathBuf>) -> Option<(Vec<u8>, Metadata)> {
        let complain = |error| {
            let message = format!("cannot read {}: {error}", path.value.display());
            let instead =
                "name a file that the gateway's user may read; a relative path begins at the configuration file";
            self.findings.problem(path.at, message, instead);
        };
        let read = self.sources.read(&self.surroundings.directory.join(&path.value));
        read.map_err(complain).ok()
    }
}

#[cfg(unix)]
fn is_open_to_everybody(metadata: &Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o004 != 0
}

#[cfg(not(unix))]
fn is_open_to_everybody(_metadata: &Metadata) -> bool {
    false
}

/// The first moment after a day (UTC).
fn end_of(day: Date) -> Option<Timestamp> {
    let midnight = day.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(Timestamp::from_unix(midnight.timestamp().as_second()))
}
