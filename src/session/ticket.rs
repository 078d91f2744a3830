//! Tickets: what a browser holds of a session that a store keeps, and the key that opens it there.

use std::net::IpAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Session,
    seal::{Context, KeyId, KeyRing, SealingKey},
    store::Record,
    stored,
};
use crate::{
    identity::{ProviderId, Subject},
    secret::{Secret, random_text},
    time::Timestamp,
};

/// The name of a session in the store, and a key that only the browser has: a stolen store opens nothing.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub id: Box<str>,
    key: SealingKey,
    /// The key of the ring that the browser's ticket is sealed under.
    pub sealed_by: KeyId,
    /// The same, when it is an old one.
    pub(super) old_key: Option<KeyId>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    id: Box<str>,
    #[serde(rename = "k")]
    key: String,
}

const VERSION: u32 = 1;

impl Ticket {
    /// For a new session.
    pub(super) fn issue(ring: &KeyRing) -> Self {
        Self {
            id: random_text::<16>().into(),
            key: SealingKey::random(),
            sealed_by: ring.first(),
            old_key: None,
        }
    }

    /// As the browser keeps it.
    pub(super) fn seal(&self, ring: &KeyRing, cookie: &str, tenant: &str) -> Option<String> {
        let written = Written {
            v: VERSION,
            id: self.id.clone(),
            key: self.key.to_text().expose().to_owned(),
        };
        ring.seal(context("ticket", cookie, tenant), &serde_json::to_vec(&written).ok()?)
    }

    pub(super) fn open(ring: &KeyRing, cookie: &str, tenant: &str, text: &str) -> Option<Self> {
        let opened = ring.open(context("ticket", cookie, tenant), text)?;
        let written: Written = serde_json::from_slice(&opened.plaintext).ok()?;
        let key = SealingKey::from_text(Secret::new(written.key).expose())?;
        (written.v == VERSION).then_some(Self {
            id: written.id,
            key,
            sealed_by: opened.key,
            old_key: opened.old_key,
        })
    }

    /// A session as the store keeps it; it opens at this version and under this id only.
    pub(super) fn record(&self, session: &Session, version: u64, ring: &KeyRing, tenant: &str) -> Option<Record> {
        let name = self.name(version);
        let sealed = self
            .ring()?
            .seal(context("record", &name, tenant), &stored::write(session))?;
        Some(Record {
            version,
            sealed: Bytes::from(sealed),
            label: Bytes::from(Label::of(session).seal(ring, self)?),
        })
    }

    /// `None` for a record that was changed by somebody else than a gateway, or by a newer one (F-25, F-28).
    pub(super) fn read(&self, record: &Record, tenant: &str) -> Option<Session> {
        let name = self.name(record.version);
        let text = std::str::from_utf8(&record.sealed).ok()?;
        let opened = self.ring()?.open(context("record", &name, tenant), text)?;
        stored::read(&opened.plaintext)
    }

    fn ring(&self) -> Option<KeyRing> {
        KeyRing::new(std::slice::from_ref(&self.key))
    }

    fn name(&self, version: u64) -> String {
        format!("{} {version}", self.id)
    }
}

fn context<'a>(purpose: &'a str, name: &'a str, tenant: &'a str) -> Context<'a> {
    Context { purpose, name, tenant }
}

/// What an administrator is shown of a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Label {
    pub provider: ProviderId,
    pub subject: Subject,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_from: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_from: Option<IpAddr>,
}

/// Between a sealed label and the id of the other key that the browser's ticket may be under.
const ALSO: u8 = b'.';

impl Label {
    /// Sealed with the first key, and marked with the old one as long as the browser is not known to have a ticket under
    /// the first: who takes the old key out ends no session whose label names only others.
    fn seal(&self, ring: &KeyRing, ticket: &Ticket) -> Option<String> {
        let mut text = ring.seal(context("label", &ticket.id, ""), &serde_json::to_vec(self).ok()?)?;
        if let Some(old_key) = ticket.old_key {
            text.push(char::from(ALSO));
            text.push_str(&old_key.to_text());
        }
        Some(text)
    }

    /// Whether a session of this label ends when the old keys are taken out of the ring; nothing is opened for that.
    pub(super) fn needs_old_key(ring: &KeyRing, label: &[u8]) -> bool {
        let (sealed, also) = parts(label);
        let keys = [KeyId::of_sealed(sealed), also.and_then(KeyId::from_text)];
        keys.into_iter().flatten().any(|key| ring.is_old(key))
    }

    pub(super) fn open(ring: &KeyRing, id: &str, label: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(parts(label).0).ok()?;
        let opened = ring.open(context("label", id, ""), text)?;
        serde_json::from_slice(&opened.plaintext).ok()
    }

    fn of(session: &Session) -> Self {
        Self {
            provider: session.login.provider.clone(),
            subject: session.login.subject.clone(),
            started_at: session.started_at,
            seen_at: session.seen_at,
            started_from: session.started_from,
            seen_from: session.seen_from,
        }
    }
}

/// What is sealed, and the other key.
fn parts(label: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = label.splitn(2, |byte| *byte == ALSO);
    (parts.next().unwrap_or_default(), parts.next())
}
