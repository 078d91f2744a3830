//! A document of the provider that is fetched when it is needed, kept while it is good, and kept when nothing better
//! can be had.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::ProviderError;
use crate::{identity::ProviderId, time::Timestamp};

type Outcome<T> = Result<Arc<T>, ProviderError>;

/// The last good document, and one fetch at a time however many wait for it (I18).
#[derive(Debug)]
pub(super) struct Kept<T> {
    provider: ProviderId,
    state: Arc<Mutex<State<T>>>,
}

/// The same document, for whoever else needs it.
impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self {
            provider: self.provider.clone(),
            state: self.state.clone(),
        }
    }
}

#[derive(Debug)]
struct State<T> {
    good: Option<(Arc<T>, Timestamp)>,
    /// The failures since then.
    failed: Option<Failure>,
    under_way: Option<watch::Receiver<Option<Outcome<T>>>>,
    /// When somebody last asked for something newer than what was here.
    doubted_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Failure {
    error: ProviderError,
    times: u32,
    retry_at: Timestamp,
}

/// What is older is fetched anew, beside the request that notices.
const FRESH: Duration = Duration::from_secs(3_600);
const MAX_PAUSE: u64 = 30;
/// Between two fetches that a token with an unknown key may cause (F-05).
const COOLDOWN: Duration = Duration::from_secs(30);

impl<T: Send + Sync + 'static> Kept<T> {
    pub(super) fn new(provider: ProviderId) -> Self {
        let state = State {
            good: None,
            failed: None,
            under_way: None,
            doubted_at: None,
        };
        Self {
            provider,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The document, however old; the first caller waits for it, and later ones only when there is none.
    ///
    /// # Errors
    /// When there never was one, and fetching it fails or has just failed.
    pub(super) async fn current<F>(&self, now: Timestamp, fetch: F) -> Outcome<T>
    where
        F: Future<Output = Result<T, ProviderError>> + Send + 'static,
    {
        let mut under_way = {
            let mut state = self.lock();
            let waits = state.failed.as_ref().filter(|failure| now < failure.retry_at);
            match (&state.good, waits) {
                (Some((good, at)), _) if now.since(*at) < FRESH => return Ok(good.clone()),
                (Some((good, _)), waits) => {
                    let good = good.clone();
                    if waits.is_none() {
                        self.begin(&mut state, now, fetch);
                    }
                    return Ok(good);
                }
                (None, Some(failure)) => return Err(failure.error.clone()),
                (None, None) => self.begin(&mut state, now, fetch),
            }
        };
        self.result(&mut under_way).await
    }

    /// A document newer than the one that was `seen`; `None` where that one is the best that is to be had for now.
    pub(super) async fn newer<F>(&self, seen: &Arc<T>, now: Timestamp, fetch: F) -> Option<Outcome<T>>
    where
        F: Future<Output = Result<T, ProviderError>> + Send + 'static,
    {
        let mut under_way = {
            let mut state = self.lock();
            match &state.good {
                Some((good, _)) if !Arc::ptr_eq(good, seen) => return Some(Ok(good.clone())),
                _ => {}
            }
            let cooling = state.doubted_at.is_some_and(|at| now.since(at) < COOLDOWN);
            if cooling {
                // Whoever comes while the one fetch is under way waits for it as well.
                live(state.under_way.as_ref())?
            } else {
                state.doubted_at = Some(now);
                self.begin(&mut state, now, fetch)
            }
        };
        Some(self.result(&mut under_way).await)
    }

    /// Joins the fetch that is under way, or starts one in a task of its own.
    fn begin<F>(&self, state: &mut State<T>, now: Timestamp, fetch: F) -> watch::Receiver<Option<Outcome<T>>>
    where
        F: Future<Output = Result<T, ProviderError>> + Send + 'static,
    {
        if let Some(under_way) = live(state.under_way.as_ref()) {
            return under_way;
        }
        let (done, under_way) = watch::channel(None);
        state.under_way = Some(under_way.clone());
        let shared = self.state.clone();
        tokio::spawn(async move {
            let outcome = fetch.await.map(Arc::new);
            lock(&shared).note(&outcome, now);
            let _ = done.send(Some(outcome));
        });
        under_way
    }

    async fn result(&self, under_way: &mut watch::Receiver<Option<Outcome<T>>>) -> Outcome<T> {
        let outcome = under_way.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| outcome.clone()).unwrap_or_else(|| {
            Err(ProviderError::Unavailable {
                provider: self.provider.clone(),
                reason: "the call was cut short".into(),
            })
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }
}

impl<T> State<T> {
    fn note(&mut self, outcome: &Outcome<T>, now: Timestamp) {
        self.under_way = None;
        match outcome {
            Ok(document) => {
                self.good = Some((document.clone(), now));
                self.failed = None;
            }
            Err(error) => {
                let times = self.failed.as_ref().map_or(0, |failure| failure.times);
                let pause = 1_u64.checked_shl(times).unwrap_or(MAX_PAUSE).clamp(1, MAX_PAUSE);
                self.failed = Some(Failure {
                    error: error.clone(),
                    times: times.saturating_add(1).min(10),
                    retry_at: now.plus(Duration::from_secs(pause)),
                });
            }
        }
    }
}

/// A fetch that was cut short answers nobody: it is over.
fn live<T>(under_way: Option<&watch::Receiver<Option<Outcome<T>>>>) -> Option<watch::Receiver<Option<Outcome<T>>>> {
    under_way.filter(|receiver| receiver.has_changed().is_ok()).cloned()
}

/// Nothing that runs under this lock can leave it half done.
fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
