//! Exchanges that last, and what they hang on: event streams, long answers, WebSockets.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::watcher;
use crate::{
    policy::Permit,
    secret::Fingerprint,
    session::{Ended, Held, Session, Sessions},
    time::{Clock, Timestamp},
    upstream::lifeline::{Cutter, Ground, Lifeline, Watch},
};

/// All exchanges of a gateway that last and that were opened by somebody in particular.
pub(super) struct Streams {
    pub(super) sessions: Arc<Sessions>,
    pub(super) clock: Arc<dyn Clock>,
    open: Mutex<Open>,
    /// How many sessions have one: mostly none, and then nobody has to look.
    open_sessions: AtomicUsize,
    pub(super) watched: AtomicBool,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Open {
    entered: u64,
    by_token: HashMap<u64, (Timestamp, Cutter)>,
    /// By the id of the session.
    by_session: HashMap<Box<str>, Standing>,
}

/// What is known of a session that has exchanges open.
struct Standing {
    held: Arc<Held>,
    /// As far as this replica knows.
    ends_at: Timestamp,
    /// What it is ended by; absent until it was looked whether it had ended before its exchange was noted.
    indices: Option<Vec<Fingerprint>>,
    streams: HashMap<u64, Cutter>,
}

impl Streams {
    pub(super) fn new(sessions: Arc<Sessions>, clock: Arc<dyn Clock>) -> Self {
        Self {
            sessions,
            clock,
            open: Mutex::default(),
            open_sessions: AtomicUsize::new(0),
            watched: AtomicBool::new(false),
        }
    }

    /// For an exchange that somebody in particular may have; what is public hangs on nothing.
    pub(super) fn lifeline(self: &Arc<Self>, permit: &Permit, session: Option<Arc<Held>>) -> Option<Lifeline> {
        let identity = permit.identity()?;
        let ground = match session {
            Some(held) => Ground::Session(held),
            None => Ground::Token {
                ends_at: identity.expires_at,
            },
        };
        Some(Lifeline::new(self.clone(), ground))
    }

    /// Notes that a session was seen: its exchanges last as long as it does.
    pub(super) fn extend(&self, session: &Session) {
        if self.open_sessions.load(Ordering::Relaxed) == 0 {
            return;
        }
        let ends_at = self.sessions.ends_at(session);
        if let Some(standing) = self.open().by_session.get_mut(&session.id) {
            standing.ends_at = standing.ends_at.max(ends_at);
        }
    }

    /// Cuts the exchanges of a session.
    pub(super) fn end(&self, session: &str) {
        if self.open_sessions.load(Ordering::Relaxed) > 0 {
            self.cut_sessions(|standing| &*standing.held.session.id == session);
        }
    }

    /// Cuts the exchanges of the sessions that have just ended.
    pub(super) fn hear(&self, ended: &Ended) {
        self.cut_sessions(|standing| standing.is_among(ended));
    }

    /// Cuts the exchanges whose token is over.
    pub(super) fn cut_tokens(&self, now: Timestamp) {
        self.open().by_token.retain(|_, (ends_at, _)| *ends_at > now);
    }

    /// Cuts the exchanges whose session was over by `now` as far as this replica knows.
    pub(super) fn cut_overdue(&self, now: Timestamp) {
        self.cut_sessions(|standing| standing.ends_at <= now);
    }

    /// From now on nothing is known for sure of any session.
    pub(super) fn doubt(&self) {
        for standing in self.open().by_session.values_mut() {
            standing.indices = None;
        }
    }

    /// The sessions of which it has to be asked whether they are over.
    pub(super) fn doubtful(&self, now: Timestamp) -> Vec<Arc<Held>> {
        let open = self.open();
        let doubtful = open.by_session.values().filter(|standing| standing.is_doubtful(now));
        doubtful.map(|standing| standing.held.clone()).collect()
    }

    /// Notes when a session ends; `None` when it has ended.
    pub(super) fn settle(&self, session: &Session, ends_at: Option<Timestamp>, now: Timestamp) {
        let Some(ends_at) = ends_at else {
            return self.end(&session.id);
        };
        let indices = self.sessions.indices(session);
        if let Some(standing) = self.open().by_session.get_mut(&session.id) {
            standing.ends_at = standing.ends_at.max(ends_at);
            standing.indices = Some(indices.to_vec());
        }
        self.cut_sessions(|standing| standing.held.session.id == session.id && standing.ends_at <= now);
    }

    fn cut_sessions(&self, is_over: impl Fn(&Standing) -> bool) {
        let mut open = self.open();
        open.by_session.retain(|_, standing| !is_over(standing));
        self.count(&open);
    }

    fn count(&self, open: &Open) {
        self.open_sessions.store(open.by_session.len(), Ordering::Relaxed);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn new(held: Arc<Held>, ends_at: Timestamp) -> Self {
        Self {
            held,
            ends_at,
            indices: None,
            streams: HashMap::new(),
        }
    }

    fn is_doubtful(&self, now: Timestamp) -> bool {
        self.indices.is_none() || self.ends_at <= now
    }

    fn is_among(&self, ended: &Ended) -> bool {
        match ended {
            // Which ones, nobody knows.
            Ended::Unheard => false,
            Ended::Session(id) => self.held.place.id_in_store() == Some(&**id),
            Ended::Before { index, at } => {
                let indices = self.indices.iter().flatten();
                self.held.session.started_at <= *at && indices.into_iter().any(|known| known == index)
            }
        }
    }
}

impl Watch for Streams {
    fn enter(self: Arc<Self>, ground: &Ground, cutter: Cutter) -> u64 {
        let number = self.note(ground, cutter);
        watcher::see_to(&self);
        number
    }

    fn leave(&self, ground: &Ground, number: u64) {
        let mut open = self.open();
        match session_of(ground) {
            Err(_) => drop(open.by_token.remove(&number)),
            Ok(held) => {
                let Some(standing) = open.by_session.get_mut(&held.session.id) else {
                    return;
                };
                standing.streams.remove(&number);
                if standing.streams.is_empty() {
                    open.by_session.remove(&held.session.id);
                    self.count(&open);
                }
            }
        }
    }
}

impl Streams {
    fn note(&self, ground: &Ground, cutter: Cutter) -> u64 {
        let mut open = self.open();
        open.entered = open.entered.wrapping_add(1);
        let number = open.entered;
        match session_of(ground) {
            Err(ends_at) => drop(open.by_token.insert(number, (ends_at, cutter))),
            Ok(held) => {
                let ends_at = self.sessions.ends_at(&held.session);
                let standing = open.by_session.entry(held.session.id.clone());
                let standing = standing.or_insert_with(|| Standing::new(held, ends_at));
                standing.ends_at = standing.ends_at.max(ends_at);
                standing.streams.insert(number, cutter);
                self.count(&open);
            }
        }
        number
    }
}

/// The session, or when the token ends; only [`Streams::lifeline`] makes a ground.
fn session_of(ground: &Ground) -> Result<Arc<Held>, Timestamp> {
    match ground {
        Ground::Token { ends_at } => Err(*ends_at),
        // What is unknown is over.
        Ground::Session(session) => session.clone().downcast().map_err(|_| Timestamp::default()),
    }
}
