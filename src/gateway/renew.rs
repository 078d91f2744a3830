//! Fresh tokens for a session: one refresh per token, however many requests and replicas need it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{Expiry, policy::EvictionPolicy, sync::Cache};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::refresh::Refresh;
use crate::{
    oauth::token::Login,
    provider::{Provider, ProviderError},
    session::{Place, Session, Sessions, StoreError},
    time::Timestamp,
};

/// What became of a refresh.
#[derive(Clone, Debug)]
pub(super) enum Renewal {
    /// The fresh tokens, and where they are kept by now; those of a browser have yet to go there.
    Renewed(Arc<Login>, Place),
    /// The provider refused the refresh token, or now speaks of somebody else: the session is over.
    Ended,
    /// Nobody knows; the session lives on (N-038).
    Failed(ProviderError),
    /// The same, because the store does not answer.
    Unknown(StoreError),
}

/// A refresh under way, or what became of it.
#[derive(Clone, Debug)]
struct Flight {
    begun_at: Timestamp,
    landed: watch::Receiver<Option<Renewal>>,
}

/// A session's refresh token is used once: this is the session, and from when until when the access token that it
/// replaces is good.
type Generation = (Box<str>, Timestamp, Timestamp);

/// How long requests that still carry the old cookie share the result of the refresh.
const GRACE: Duration = Duration::from_secs(60);
/// Longer than any refresh is under way.
const LONGEST: Duration = Duration::from_secs(600);
/// How long a failure stands before the provider is asked again.
const PAUSE: Duration = Duration::from_secs(2);
const MAX_FLIGHTS: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Renewals {
    flights: Cache<Generation, Flight>,
    underway: TaskTracker,
}

impl Default for Renewals {
    fn default() -> Self {
        Self {
            flights: Cache::builder()
                .max_capacity(MAX_FLIGHTS)
                // One that has just begun must not be turned away for one that many asked for.
                .eviction_policy(EvictionPolicy::lru())
                .expire_after(ByLanding)
                .build(),
            underway: TaskTracker::new(),
        }
    }
}

impl Renewals {
    /// Refreshes in a task of its own, which outlives the request: a refresh token that was sent is spent (I18).
    ///
    /// Whoever waits no longer leaves it running; who asks later has its result.
    pub(super) async fn renew(
        &self,
        sessions: &Arc<Sessions>,
        provider: &Arc<Provider>,
        session: &Arc<Session>,
        place: &Place,
        now: Timestamp,
    ) -> Renewal {
        let mut flight = self.flight(sessions, provider, session, place, now);
        let landed = flight.landed.wait_for(Option::is_some).await;
        landed
            .ok()
            .and_then(|renewal| renewal.clone())
            .unwrap_or_else(|| cut_short(provider))
    }

    /// Waits until no refresh is under way: one that is cut off may cost a session.
    pub(super) async fn settle(&self) {
        self.underway.close();
        self.underway.wait().await;
    }

    /// The one refresh of this generation of tokens.
    fn flight(
        &self,
        sessions: &Arc<Sessions>,
        provider: &Arc<Provider>,
        session: &Arc<Session>,
        place: &Place,
        now: Timestamp,
    ) -> Flight {
        let login = &session.login;
        let generation = (session.id.clone(), login.access_received_at, login.access_expires_at);
        let (flights, key) = (self.flights.clone(), generation.clone());
        let take_off = || {
            let refresh = Refresh {
                sessions: sessions.clone(),
                provider: provider.clone(),
                session: session.clone(),
                now,
            };
            let (landing, landed) = watch::channel(None);
            let flight = Flight { begun_at: now, landed };
            let (place, known) = (place.clone(), flight.clone());
            self.underway.spawn(async move {
                let renewal = refresh.run(place, &landing).await;
                landing.send_replace(Some(renewal));
                // The grace begins when there is something to share.
                flights.insert(key, known);
            });
            flight
        };
        // Replaced in one step: whoever looked before a refresh that went well must not undo it, and refresh twice.
        let entry = self.flights.entry(generation);
        entry
            .or_insert_with_if(take_off, |flight| flight.is_over(now))
            .into_value()
    }
}

impl Flight {
    /// Whether it came to nothing, and may be tried again.
    fn is_over(&self, now: Timestamp) -> bool {
        match &*self.landed.borrow() {
            Some(Renewal::Failed(_)) => self.begun_at.plus(PAUSE) <= now,
            // The lock was not to be had; the store knows by itself when it wants to be spared.
            Some(Renewal::Unknown(_)) => true,
            Some(Renewal::Renewed(..) | Renewal::Ended) => false,
            // Nobody is left who could bring it down.
            None => self.landed.has_changed().is_err(),
        }
    }
}

/// A refresh under way is kept, so that there is no second one; its result has a grace.
struct ByLanding;

impl ByLanding {
    fn life(flight: &Flight) -> Duration {
        if flight.landed.borrow().is_some() {
            GRACE
        } else {
            LONGEST
        }
    }
}

impl Expiry<Generation, Flight> for ByLanding {
    fn expire_after_create(&self, _: &Generation, flight: &Flight, _: Instant) -> Option<Duration> {
        Some(Self::life(flight))
    }

    fn expire_after_update(
        &self,
        _: &Generation,
        flight: &Flight,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(Self::life(flight))
    }
}

fn cut_short(provider: &Provider) -> Renewal {
    Renewal::Failed(ProviderError::Unavailable {
        provider: provider.id().clone(),
        reason: "the refresh was cut short".into(),
    })
}
