//! Exchanges that last, and what they hang on: event streams, long answers, WebSockets.

use std::{
    any::Any,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::{
    rules::{Rules, Whose},
    watcher,
};
use crate::{
    identity::Identity,
    secret::Fingerprint,
    session::{Ended, Held, Session, Sessions},
    time::{Clock, Timestamp},
    upstream::lifeline::{Asked, Cutter, Ground, Holder, Watch},
};

/// All exchanges of a gateway that last.
pub(super) struct Streams {
    /// By which exchanges are judged; changed under the lock only.
    rules: ArcSwap<Rules>,
    pub(super) clock: Arc<dyn Clock>,
    open: Mutex<Open>,
    /// How many sessions have one: mostly none, and then nobody has to look.
    open_sessions: AtomicUsize,
    pub(super) watched: AtomicBool,
    /// Cancelled when the gateway goes away.
    pub(super) leaving: CancellationToken,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Open {
    entered: u64,
    of_anybody: HashMap<u64, Stream>,
    by_token: HashMap<u64, (Arc<Identity>, Stream)>,
    /// By the id of the session.
    by_session: HashMap<Box<str>, Standing>,
}

/// An exchange that lasts; dropping it cuts it.
struct Stream {
    asked: Asked,
    /// Under which it was let in.
    generation: u64,
    _cutter: Cutter,
}

/// What is known of a session that has exchanges open.
struct Standing {
    /// As it was seen last.
    held: Arc<Held>,
    /// As far as this replica knows.
    ends_at: Timestamp,
    /// What it is ended by; absent until it was looked whether it had ended before its exchange was noted.
    indices: Option<Vec<Fingerprint>>,
    streams: HashMap<u64, Stream>,
}

impl Streams {
    pub(super) fn new(rules: Arc<Rules>, clock: Arc<dyn Clock>) -> Self {
        Self {
            rules: ArcSwap::new(rules),
            clock,
            open: Mutex::default(),
            open_sessions: AtomicUsize::new(0),
            watched: AtomicBool::new(false),
            leaving: CancellationToken::new(),
        }
    }

    /// The sessions under the configuration of now.
    pub(super) fn sessions(&self) -> Arc<Sessions> {
        self.rules.load().sessions.clone()
    }

    /// Cuts what these rules refuse, and says how many; from now on, what is noted is judged by them too.
    pub(super) fn follow(&self, rules: Arc<Rules>) -> usize {
        let now = self.clock.now();
        let mut open = self.open();
        let before = open.count();
        self.rules.store(rules.clone());
        open.of_anybody
            .retain(|_, stream| rules.admit(&stream.asked, Whose::Anybody, now));
        open.by_token
            .retain(|_, (identity, stream)| rules.admit(&stream.asked, Whose::Token(identity, stream.generation), now));
        open.by_session.retain(|_, standing| standing.follow(&rules, now));
        self.count(&open);
        before.saturating_sub(open.count())
    }

    /// Notes that a session was seen: its exchanges last as long as it does.
    pub(super) fn extend(&self, held: &Arc<Held>) {
        if self.open_sessions.load(Ordering::Relaxed) == 0 {
            return;
        }
        let ends_at = self.rules.load().sessions.ends_at(&held.session);
        if let Some(standing) = self.open().by_session.get_mut(&held.session.id) {
            standing.held = held.clone();
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

    /// Judges again what was opened with a certificate that is over.
    pub(super) fn cut_certificates(&self, now: Timestamp) {
        let rules = self.rules.load();
        let stays = |stream: &Stream, whose: Whose<'_>| {
            !stream.asked.has_lost_its_certificate(now) || rules.admit(&stream.asked, whose, now)
        };
        let mut open = self.open();
        open.of_anybody.retain(|_, stream| stays(stream, Whose::Anybody));
        open.by_token
            .retain(|_, (identity, stream)| stays(stream, Whose::Token(identity, stream.generation)));
        open.by_session.retain(|_, standing| {
            let held = standing.held.clone();
            standing
                .streams
                .retain(|_, stream| stays(stream, Whose::Session(&held)));
            !standing.streams.is_empty()
        });
        self.count(&open);
    }

    /// Cuts the exchanges whose token is over.
    pub(super) fn cut_tokens(&self, now: Timestamp) {
        self.open()
            .by_token
            .retain(|_, (identity, _)| identity.expires_at > now);
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
        let sessions = self.sessions();
        let indices = sessions.indices(session);
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

impl Open {
    fn count(&self) -> usize {
        let of_sessions: usize = self.by_session.values().map(|standing| standing.streams.len()).sum();
        self.of_anybody
            .len()
            .saturating_add(self.by_token.len())
            .saturating_add(of_sessions)
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

    /// Cuts what these rules refuse; says whether anything is left.
    fn follow(&mut self, rules: &Rules, now: Timestamp) -> bool {
        let held = Arc::new(self.held.afresh());
        self.streams
            .retain(|_, stream| rules.admit(&stream.asked, Whose::Session(&held), now));
        self.ends_at = rules.sessions.ends_at(&held.session);
        // They stand under other keys by now.
        self.indices = None;
        self.held = held;
        !self.streams.is_empty()
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
        match ground.holder {
            // Nothing but a reload ends it, or the end of a certificate.
            Holder::Anybody if !ground.asked.came_with_a_certificate() => {}
            Holder::Anybody | Holder::Token(_) | Holder::Session(_) => watcher::see_to(&self),
        }
        number
    }

    fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }

    fn leave(&self, ground: &Ground, number: u64) {
        let mut open = self.open();
        match &ground.holder {
            Holder::Anybody => drop(open.of_anybody.remove(&number)),
            Holder::Token(_) => drop(open.by_token.remove(&number)),
            Holder::Session(session) => {
                let Some(held) = held(session) else { return };
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
        let rules = self.rules.load();
        open.entered = open.entered.wrapping_add(1);
        let number = open.entered;
        let stream = Stream {
            asked: ground.asked.clone(),
            generation: ground.generation,
            _cutter: cutter,
        };
        // What was let in before the last reload has not been judged by its rules.
        let judge =
            |whose| ground.generation == rules.generation || rules.admit(&ground.asked, whose, self.clock.now());
        match &ground.holder {
            Holder::Anybody if judge(Whose::Anybody) => drop(open.of_anybody.insert(number, stream)),
            Holder::Token(identity) if judge(Whose::Token(identity, ground.generation)) => {
                open.by_token.insert(number, (identity.clone(), stream));
            }
            Holder::Session(session) => {
                let Some(mut held) = held(session) else { return number };
                if ground.generation != rules.generation {
                    held = held.afresh().into();
                }
                if judge(Whose::Session(&held)) {
                    let ends_at = rules.sessions.ends_at(&held.session);
                    let standing = open.by_session.entry(held.session.id.clone());
                    let standing = standing.or_insert_with(|| Standing::new(held, ends_at));
                    standing.ends_at = standing.ends_at.max(ends_at);
                    standing.streams.insert(number, stream);
                    self.count(&open);
                }
            }
            // Dropping it cuts it.
            Holder::Anybody | Holder::Token(_) => drop(stream),
        }
        number
    }
}

/// What a session is here; what is unknown is over.
fn held(session: &Arc<dyn Any + Send + Sync>) -> Option<Arc<Held>> {
    session.clone().downcast().ok()
}
