//! The one connection of a store: opened when it is needed, and given up when it may lead nowhere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tracing::debug;

use super::{
    breaker::Breaker,
    connector::{Connector, Link},
};
use crate::session::store::StoreError;

/// Asks Redis, within a time limit.
///
/// A connection that was kept leads nowhere after a fail-over: after every failure that may come of one, the connection
/// is given up and the master is looked for anew.
#[derive(Debug)]
pub(super) struct Line {
    connector: Connector,
    state: watch::Sender<State>,
    opened: AtomicU64,
    breaker: Breaker,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum State {
    Closed,
    /// By a task that outlives whoever asked first.
    Opening,
    Open(Open),
    Failed(StoreError),
}

#[derive(Clone, Debug)]
struct Open {
    number: u64,
    link: Link,
}

/// Whether a question may be asked again when the connection broke under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Asked twice it means the same.
    Always,
    /// Only when it certainly had no effect.
    IfUndone,
}

struct Failure {
    error: StoreError,
    /// The connection is of no more use.
    lost: bool,
    /// Nothing came of the question.
    undone: bool,
}

impl Line {
    pub(super) fn new(connector: Connector, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            connector,
            state: watch::Sender::new(State::Closed),
            opened: AtomicU64::new(0),
            breaker: Breaker::default(),
            timeout,
        })
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// An answer, or an error within the usual time.
    pub(super) async fn ask<T, F>(self: &Arc<Self>, again: Again, question: impl Fn(Link) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        self.ask_patiently(self.timeout, again, question).await
    }

    /// An answer that is worth a longer time.
    pub(super) async fn ask_patiently<T, F>(
        self: &Arc<Self>,
        patience: Duration,
        again: Again,
        question: impl Fn(Link) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        if !self.breaker.admits(std::time::Instant::now()) {
            return Err(StoreError::Unavailable("it failed several times in a row".into()));
        }
        let now = Instant::now();
        let deadline = now.checked_add(patience).unwrap_or(now);
        let mut answer = self.ask_once(deadline, &question).await;
        if let Err(failure) = &answer
            && (failure.undone || (failure.lost && again == Again::Always))
        {
            answer = self.ask_once(deadline, &question).await;
        }
        match answer {
            Ok(answer) => {
                self.breaker.succeeded();
                Ok(answer)
            }
            Err(failure) => {
                // Whoever refuses a change answers, and can still be read from.
                if failure.lost && !failure.undone {
                    self.breaker.failed(std::time::Instant::now(), &failure.error);
                }
                Err(failure.error)
            }
        }
    }

    async fn ask_once<T, F>(self: &Arc<Self>, deadline: Instant, question: impl Fn(Link) -> F) -> Result<T, Failure>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let Ok(open) = timeout_at(deadline, self.open()).await else {
            return Err(Failure::late());
        };
        let Open { number, link } = open.map_err(Failure::lost)?;
        let failure = match timeout_at(deadline, question(link)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Failure::of(&error),
            Err(_) => Failure::late(),
        };
        if failure.lost {
            self.hang_up(number);
        }
        Err(failure)
    }

    /// The open connection, or the one that somebody is opening.
    async fn open(self: &Arc<Self>) -> Result<Open, StoreError> {
        loop {
            if let State::Open(open) = &*self.state.borrow() {
                return Ok(open.clone());
            }
            let mut states = self.state.subscribe();
            self.begin_to_open();
            let settled = states.wait_for(|state| !matches!(state, State::Opening)).await;
            match settled.as_deref() {
                Ok(State::Failed(error)) => return Err(error.clone()),
                Err(_) => return Err(StoreError::Unavailable("it is closed".into())),
                Ok(State::Open(_) | State::Opening | State::Closed) => {}
            }
        }
    }

    fn begin_to_open(self: &Arc<Self>) {
        let begins = self.state.send_if_modified(|state| {
            let begins = matches!(state, State::Closed | State::Failed(_));
            if begins {
                *state = State::Opening;
            }
            begins
        });
        if begins {
            let line = self.clone();
            tokio::spawn(async move {
                let state = line.opened().await;
                line.state.send_replace(state);
            });
        }
    }

    async fn opened(&self) -> State {
        // Opening takes some round trips; a stuck one must not delay the next attempt.
        let patience = self.timeout.saturating_mul(3);
        match timeout(patience, self.connector.open()).await {
            Ok(Ok(link)) => State::Open(Open {
                number: self.opened.fetch_add(1, Ordering::Relaxed),
                link,
            }),
            Ok(Err(error)) => State::Failed(StoreError::Unavailable(error.to_string())),
            Err(_) => State::Failed(StoreError::TimedOut),
        }
    }

    fn hang_up(&self, lost: u64) {
        let hung_up = self.state.send_if_modified(|state| {
            let is_lost = matches!(state, State::Open(open) if open.number == lost);
            if is_lost {
                *state = State::Closed;
            }
            is_lost
        });
        if hung_up {
            debug!("gave up a connection to the session store");
        }
    }
}

impl Failure {
    fn lost(error: StoreError) -> Self {
        Self {
            error,
            lost: true,
            undone: false,
        }
    }

    fn late() -> Self {
        Self::lost(StoreError::TimedOut)
    }

    fn of(error: &RedisError) -> Self {
        let undone = is_refused(error);
        let lost = undone || error.is_unrecoverable_error() || error.is_io_error() || is_out_of_order(error);
        Self {
            error: StoreError::Unavailable(error.to_string()),
            lost,
            undone,
        }
    }
}

/// Whether a former master speaks, which changes nothing; inside of a script it has no code of its own.
fn is_refused(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::ExecAbort)
    ) || error.to_string().contains("READONLY")
}

/// Whether the server cannot serve anybody now.
fn is_out_of_order(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::Server(
                ServerErrorKind::BusyLoading | ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown
            )
    )
}
