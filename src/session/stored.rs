//! A session as bytes: versioned, so that the next release reads this one's.
//!
//! A member that may be absent can be added without another version: a release that does not know it leaves it out.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Session;
use crate::{
    identity::{Claims, Issuer, ProviderId, Scopes, Subject},
    oauth::token::Login,
    secret::Secret,
    time::Timestamp,
};

const VERSION: u32 = 1;

/// The members that a reader of any version needs to know whether it can read the rest.
#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

/// Short names: this travels with every request.
#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    id: Box<str>,
    #[serde(rename = "p")]
    provider: ProviderId,
    #[serde(rename = "i")]
    issuer: Issuer,
    #[serde(rename = "s")]
    subject: Subject,
    #[serde(rename = "c")]
    claims: Claims,
    #[serde(rename = "o")]
    scopes: Scopes,
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    /// Absent in what was written before it was noted.
    #[serde(rename = "g")]
    access_received_at: Option<Timestamp>,
    #[serde(rename = "e")]
    access_expires_at: Timestamp,
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(rename = "h", skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
    #[serde(rename = "b")]
    started_at: Timestamp,
    #[serde(rename = "l")]
    seen_at: Timestamp,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    started_from: Option<IpAddr>,
    /// Absent where it is the same.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    seen_from: Option<IpAddr>,
}

pub(super) fn write(session: &Session) -> Vec<u8> {
    let exposed = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    let login = &*session.login;
    let stored = Stored {
        v: VERSION,
        id: session.id.clone(),
        provider: login.provider.clone(),
        issuer: login.issuer.clone(),
        subject: login.subject.clone(),
        claims: login.claims.clone(),
        scopes: login.scopes.clone(),
        access_token: exposed(&login.access_token),
        access_received_at: Some(login.access_received_at),
        access_expires_at: login.access_expires_at,
        refresh_token: exposed(&login.refresh_token),
        id_token: exposed(&login.id_token),
        started_at: session.started_at,
        seen_at: session.seen_at,
        started_from: session.started_from,
        seen_from: session.seen_from.filter(|_| session.seen_from != session.started_from),
    };
    // Strings, numbers and maps of them: there is nothing here that JSON cannot say.
    serde_json::to_vec(&stored).unwrap_or_default()
}

/// `None` for bytes that this version cannot read (F-25, F-28).
pub(super) fn read(bytes: &[u8]) -> Option<Session> {
    let stored: Stored = match serde_json::from_slice(bytes) {
        Ok(stored) => stored,
        Err(_) => {
            let newer = serde_json::from_slice::<Versioned>(bytes).is_ok_and(|stored| stored.v != VERSION);
            tracing::debug!(newer, "ignored a session that cannot be read");
            return None;
        }
    };
    if stored.v != VERSION {
        return None;
    }
    let login = Login {
        provider: stored.provider,
        issuer: stored.issuer,
        subject: stored.subject,
        claims: stored.claims,
        scopes: stored.scopes,
        access_token: stored.access_token.map(Secret::new),
        access_received_at: stored.access_received_at.unwrap_or(stored.started_at),
        access_expires_at: stored.access_expires_at,
        refresh_token: stored.refresh_token.map(Secret::new),
        id_token: stored.id_token.map(Secret::new),
    };
    let mut session = Session::of(stored.id, login.into(), stored.started_at, stored.seen_at);
    session.started_from = stored.started_from;
    session.seen_from = stored.seen_from.or(stored.started_from);
    Some(session)
}

impl Session {
    pub(super) fn without_id_token(&self) -> Self {
        self.with(Login {
            id_token: None,
            ..(*self.login).clone()
        })
    }

    pub(super) fn without_id_and_access_token(&self) -> Self {
        self.with(Login {
            id_token: None,
            access_token: None,
            ..(*self.login).clone()
        })
    }
}
