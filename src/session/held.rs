//! A session, and where it is kept.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use super::{KeyId, Ticket};
use crate::{
    identity::{ClaimNames, Identity, Proof, Words},
    oauth::token::Login,
    secret::{Fingerprint, random_text},
    time::Timestamp,
};

/// A login that lasts.
#[derive(Clone, Debug)]
pub struct Session {
    /// New at every login, so that none can be planted (I15).
    pub id: Box<str>,
    pub login: Arc<Login>,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    /// Where the person was then, as far as trusted proxies say; unknown to older releases.
    pub started_from: Option<IpAddr>,
    pub seen_from: Option<IpAddr>,
    /// Made when it is first asked for, and shared by the requests that bring the same cookie.
    identity: OnceLock<Arc<Identity>>,
    indices: OnceLock<Box<[Fingerprint]>>,
}

impl Session {
    pub fn begin(login: Login, now: Timestamp) -> Self {
        Self::of(random_text::<16>().into(), login.into(), now, now)
    }

    pub(super) fn of(id: Box<str>, login: Arc<Login>, started_at: Timestamp, seen_at: Timestamp) -> Self {
        Self {
            id,
            login,
            started_at,
            seen_at,
            started_from: None,
            seen_from: None,
            identity: OnceLock::new(),
            indices: OnceLock::new(),
        }
    }

    /// The same session, begun from this address.
    pub fn started_from(self, address: IpAddr) -> Self {
        Self {
            started_from: Some(address),
            seen_from: Some(address),
            ..self
        }
    }

    /// The same session, seen from this address.
    pub fn seen_from(self, address: IpAddr) -> Self {
        Self {
            seen_from: Some(address),
            ..self
        }
    }

    /// The same session with fresh tokens; its lifetime goes on as it was.
    pub fn renewed(&self, login: Arc<Login>, now: Timestamp) -> Self {
        self.anew(login, now)
    }

    /// The same session as seen now.
    pub fn seen(&self, now: Timestamp) -> Self {
        self.anew(self.login.clone(), now)
    }

    /// The same session with less to remember.
    pub(super) fn with(&self, login: Login) -> Self {
        self.anew(login.into(), self.seen_at)
    }

    fn anew(&self, login: Arc<Login>, seen_at: Timestamp) -> Self {
        Self {
            started_from: self.started_from,
            seen_from: self.seen_from,
            ..Self::of(self.id.clone(), login, self.started_at, seen_at)
        }
    }

    /// Under what it is found; worked out once.
    pub(super) fn indices(&self, work_out: impl FnOnce() -> Box<[Fingerprint]>) -> &[Fingerprint] {
        self.indices.get_or_init(work_out)
    }

    /// Who logged in, until `expires_at`.
    pub fn identity(&self, names: &ClaimNames, expires_at: Timestamp, now: Timestamp) -> Arc<Identity> {
        let identity = || Arc::new(self.new_identity(names, expires_at, now));
        self.identity.get_or_init(identity).clone()
    }

    fn new_identity(&self, names: &ClaimNames, expires_at: Timestamp, now: Timestamp) -> Identity {
        let login = &self.login;
        Identity {
            provider: login.provider.clone(),
            issuer: login.issuer.clone(),
            subject: login.subject.clone(),
            proof: Proof::Session,
            username: names.username(&login.claims, now),
            email: names.email(&login.claims, now),
            groups: names.groups(&login.claims),
            groups_unknown: names.groups_unknown(&login.claims),
            scopes: login.scopes.clone(),
            claims: login.claims.clone(),
            expires_at,
            words: Words::default(),
        }
    }
}

/// A session, and where it is kept.
#[derive(Debug)]
pub struct Held {
    pub session: Arc<Session>,
    pub place: Place,
    /// The key of the cookie that led to it.
    pub sealed_by: KeyId,
}

impl Held {
    /// The same, without what was worked out of it under another configuration.
    pub fn afresh(&self) -> Self {
        Self {
            session: self.session.seen(self.session.seen_at).into(),
            place: self.place.clone(),
            sealed_by: self.sealed_by,
        }
    }
}

/// Where a session is kept.
#[derive(Clone, Debug)]
pub enum Place {
    Browser,
    Store {
        ticket: Ticket,
        version: u64,
        tenant: Box<str>,
    },
}

impl Place {
    /// What the store calls the session.
    pub fn id_in_store(&self) -> Option<&str> {
        match self {
            Self::Browser => None,
            Self::Store { ticket, .. } => Some(&ticket.id),
        }
    }
}

/// A session as the browser brought it.
#[derive(Debug)]
pub struct Presented {
    pub held: Arc<Held>,
    /// Whether it should be kept anew: its idle time moved on, or its key is an old one.
    pub stale: bool,
}
