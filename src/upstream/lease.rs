//! A connection in use by one exchange.

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::SizeHint;
use tokio_util::task::AbortOnDropHandle;

use super::{
    http1::{Broken, Connection, Upgraded},
    pool::Pool,
    upload::RequestBody,
};
use crate::time::Alarm;

/// A connection; dropping it closes the connection, whatever is still being sent there.
pub(super) struct Lease {
    held: Held,
    /// For waits of the exchange.
    pub(super) alarm: Alarm,
    pool: Arc<Pool>,
    /// It served another request before, so the other side may be closing it.
    pub(super) used: bool,
}

/// Who drives a connection.
enum Held {
    /// Whoever waits for the answer.
    Alone(Box<Connection>),
    /// A task sends what is left of an upload while somebody reads the answer: a client may take nothing before it has
    /// sent all.
    Both(Arc<Mutex<Box<Connection>>>, AbortOnDropHandle<()>),
}

impl Lease {
    pub(super) fn of(connection: Box<Connection>, alarm: Alarm, pool: Arc<Pool>, used: bool) -> Self {
        Self {
            held: Held::Alone(connection),
            alarm,
            pool,
            used,
        }
    }

    /// Begins an exchange; the body is taken out of the request. What is given back is for the head of the answer.
    pub(super) fn begin(&mut self, request: &mut Request<RequestBody>) -> Response<()> {
        self.with(|connection| connection.begin(request))
    }

    /// Waits for the head of the answer; the alarm is for who waits no longer than so long.
    pub(super) fn answer<'a>(
        &'a mut self,
        answer: &'a mut Response<()>,
    ) -> (&'a mut Alarm, impl Future<Output = Result<(), Broken>>) {
        let held = &mut self.held;
        let answered = poll_fn(move |cx| held.with(|connection| connection.poll_answer(answer, cx)));
        (&mut self.alarm, answered)
    }

    /// Sees to it that what is left of the request is sent while its answer is read. Its headers are not needed any more.
    pub(super) fn answered(self, headers: HeaderMap) -> Self {
        let Held::Alone(mut connection) = self.held else {
            return self;
        };
        connection.reuse(headers);
        if connection.has_no_rest() {
            let held = Held::Alone(connection);
            return Self { held, ..self };
        }
        let shared = Arc::new(Mutex::new(connection));
        let sending = shared.clone();
        let rest = tokio::spawn(poll_fn(move |cx| lock(&sending).poll_rest(cx)));
        let held = Held::Both(shared, AbortOnDropHandle::new(rest));
        Self { held, ..self }
    }

    /// Whether the request is still being sent.
    pub(super) fn is_sending(&self) -> bool {
        matches!(&self.held, Held::Both(_, rest) if !rest.is_finished())
    }

    /// Waits until the request is sent, or cannot be.
    pub(super) async fn sent(&mut self) {
        if let Held::Both(_, rest) = &mut self.held {
            let _ = rest.await;
        }
    }

    /// The body of a request of which nothing was sent.
    pub(super) fn take_untouched(&mut self) -> Option<RequestBody> {
        self.with(Connection::take_untouched)
    }

    /// The next data of the answer's body.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        self.with(|connection| connection.poll_data(cx))
    }

    /// Whether nothing of the answer is still to come.
    pub(super) fn is_over(&self) -> bool {
        self.look(Connection::is_over)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.look(Connection::size_hint)
    }

    pub(super) fn give_back(self) {
        match self.held {
            Held::Alone(connection) => self.pool.keep(connection, self.alarm),
            Held::Both(shared, rest) if rest.is_finished() => {
                // The task has let go of it.
                if let Ok(connection) = Arc::try_unwrap(shared) {
                    let connection = connection.into_inner().unwrap_or_else(PoisonError::into_inner);
                    self.pool.keep(connection, self.alarm);
                }
            }
            Held::Both(..) => {}
        }
    }

    /// The connection after a 101; absent where it is still being sent to.
    pub(super) fn upgraded(self) -> Option<Upgraded> {
        match self.held {
            Held::Alone(connection) => Some(connection.upgraded()),
            Held::Both(..) => None,
        }
    }

    /// Whether anything of an answer came.
    pub(super) fn has_heard(&self) -> bool {
        self.look(Connection::has_heard)
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Connection) -> T) -> T {
        self.held.with(work)
    }

    fn look<T>(&self, work: impl FnOnce(&Connection) -> T) -> T {
        match &self.held {
            Held::Alone(connection) => work(connection),
            Held::Both(shared, _) => work(&lock(shared)),
        }
    }
}

impl Held {
    fn with<T>(&mut self, work: impl FnOnce(&mut Connection) -> T) -> T {
        match self {
            Self::Alone(connection) => work(connection),
            Self::Both(shared, _) => work(&mut lock(shared)),
        }
    }
}

fn lock(shared: &Mutex<Box<Connection>>) -> MutexGuard<'_, Box<Connection>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}
