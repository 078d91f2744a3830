//! Connections to one destination, kept for the next request.
//!
//! A connection belongs to the runtime of the thread that opened it, and so do the idle ones: each thread looks into a
//! drawer of its own, and no two wait for each other.

use std::{
    cell::Cell,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{
    UpstreamError,
    again::Again,
    body::RequestBody,
    dial::{Dialed, Dialer},
    heard::{Heard, Mark, Past},
    wire::Wire,
};
use crate::time::Alarm;

pub(super) struct Pool {
    dialer: Dialer,
    drawers: [Mutex<Vec<Idle>>; DRAWERS],
}

struct Idle {
    sender: SendRequest<RequestBody>,
    past: Past,
    alarm: Alarm,
    breaker: Breaker,
    since: Instant,
}

pub(super) const DRAWERS: usize = 32;
/// Idle connections in one drawer.
const MAX_IDLE: usize = 64;
/// Shorter than most servers keep an idle connection.
const IDLE: Duration = Duration::from_secs(50);
/// The most that hyper reads of a body, or keeps to be written, at once; one whose reader is slow takes two to four times as much.
/// No head of an answer may be longer.
const BUFFER: usize = 240 * 1_024;

impl Pool {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            drawers: [const { Mutex::new(Vec::new()) }; DRAWERS],
        }
    }

    /// A connection from this thread's drawer, or a new one; for a second attempt, a new one in any case.
    pub(super) async fn lease(self: &Arc<Self>, again: &Again, connect: Duration) -> Result<Lease, UpstreamError> {
        let idle = match again.is_spent() {
            true => None,
            false => self.idle(),
        };
        match idle {
            Some(Idle {
                sender,
                past,
                alarm,
                breaker,
                ..
            }) => Ok(Lease {
                sender,
                taken: past.mark(),
                past,
                alarm,
                breaker,
                pool: self.clone(),
                used: true,
            }),
            None => self.open(connect).await,
        }
    }

    /// A connection that nothing was sent on.
    pub(super) async fn open(self: &Arc<Self>, connect: Duration) -> Result<Lease, UpstreamError> {
        // In a box, for most requests need no new connection and are spared the room.
        let opened = timeout(connect, Box::pin(self.connect()));
        let opened = opened.await.map_err(|_| UpstreamError::TimedOut)?;
        let (sender, past, breaker) = opened.map_err(|error| UpstreamError::Unreachable(error.to_string()))?;
        Ok(Lease {
            sender,
            taken: past.mark(),
            past,
            alarm: Alarm::default(),
            breaker,
            pool: self.clone(),
            used: false,
        })
    }

    async fn connect(&self) -> io::Result<Opened> {
        match self.dialer.dial().await? {
            Dialed::Tcp(stream) => handshake(Wire::from(stream)).await,
            Dialed::Tls(stream) => handshake(*stream).await,
            Dialed::Unix(stream) => handshake(stream).await,
        }
    }

    /// The connection that was used last, so that those that are not needed grow old and go.
    fn idle(&self) -> Option<Idle> {
        let mut drawer = self.drawer();
        while let Some(idle) = drawer.pop() {
            if idle.sender.is_ready() && idle.since.elapsed() < IDLE && !self.dialer.is_outdated(idle.past.opened()) {
                return Some(idle);
            }
        }
        None
    }

    fn keep(&self, sender: SendRequest<RequestBody>, past: Past, alarm: Alarm, breaker: Breaker) {
        if sender.is_closed() || self.dialer.is_outdated(past.opened()) {
            return;
        }
        let since = Instant::now();
        let mut drawer = self.drawer();
        let is_aged = |idle: &&Idle| since.duration_since(idle.since) >= IDLE;
        let aged = drawer.iter().take_while(is_aged).count();
        drawer.drain(..aged);
        if drawer.len() < MAX_IDLE {
            drawer.push(Idle {
                sender,
                past,
                alarm,
                breaker,
                since,
            });
        }
    }

    fn drawer(&self) -> MutexGuard<'_, Vec<Idle>> {
        let index = thread_number() % DRAWERS;
        let drawer = self.drawers.get(index).unwrap_or(&self.drawers[0]);
        drawer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("destination", &self.dialer.destination)
            .finish_non_exhaustive()
    }
}

type Opened = (SendRequest<RequestBody>, Past, Breaker);

async fn handshake<S>(stream: S) -> io::Result<Opened>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let past = Past::begin();
    let stream = Heard::new(stream, past.clone());
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER);
    let (sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // How the connection ends is told to whoever waits for an answer on it.
    let connection = tokio::spawn(async move { drop(connection.with_upgrades().await) });
    let breaker = Breaker {
        connection: connection.abort_handle(),
        is_armed: false,
    };
    Ok((sender, past, breaker))
}

pub(super) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.with(|number| match number.get() {
        Some(number) => number,
        None => {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            number.set(Some(next));
            next
        }
    })
}

/// Once it is armed, dropping it closes the connection, whatever is still being sent there: where the other side takes
/// nothing, no end of the upload is noticed.
struct Breaker {
    connection: AbortHandle,
    is_armed: bool,
}

impl Drop for Breaker {
    fn drop(&mut self) {
        if self.is_armed {
            self.connection.abort();
        }
    }
}

/// A connection that is in use by one exchange.
pub(super) struct Lease {
    pub(super) sender: SendRequest<RequestBody>,
    past: Past,
    /// When it was taken.
    taken: Mark,
    /// For waits of the exchange.
    pub(super) alarm: Alarm,
    breaker: Breaker,
    pool: Arc<Pool>,
    /// It served another request before, so the other side may be closing it.
    pub(super) used: bool,
}

impl Lease {
    /// Closes the connection with the exchange, unless it is given back, where there is an upload.
    pub(super) fn carry(&mut self, request: &Request<RequestBody>) {
        self.breaker.is_armed = matches!(request.body(), RequestBody::Upload(_));
    }

    pub(super) fn give_back(mut self) {
        self.breaker.is_armed = false;
        self.pool.keep(self.sender, self.past, self.alarm, self.breaker);
    }

    /// Whether anything of an answer came.
    pub(super) fn has_heard(&self) -> bool {
        self.past.has_heard(self.taken)
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{net::TcpListener, time::sleep};

    use super::*;
    use crate::upstream::{
        DestinationScheme,
        dial::tests::{PATIENCE, by_name},
    };

    async fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn f_21_a_name_that_leads_elsewhere_is_followed_by_connections_that_were_kept() {
        let (dialer, addresses) = by_name(DestinationScheme::Http, Duration::from_millis(100));
        let pool = Arc::new(Pool::new(dialer));
        let ((_old, before), (new, after)) = (listening().await, listening().await);
        *addresses.lock().unwrap() = vec![before];
        let mut kept = pool.lease(&Again::default(), PATIENCE).await.unwrap();
        kept.sender.ready().await.unwrap();
        kept.give_back();
        assert!(pool.lease(&Again::default(), PATIENCE).await.unwrap().used);
        let mut kept = pool.open(PATIENCE).await.unwrap();
        kept.sender.ready().await.unwrap();
        kept.give_back();
        *addresses.lock().unwrap() = vec![after];
        let moved = async {
            loop {
                pool.lease(&Again::default(), PATIENCE).await.unwrap().give_back();
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = new.accept() => {}
            () = moved => {}
            () = sleep(PATIENCE) => panic!("the old address is asked for ever"),
        }
    }
}
