//! Connections to one destination that many exchanges share (RFC 9113 §5).
//!
//! Like those of the pool, they belong to the thread that opened them: each thread has a few of its own, and mostly one.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::uri::Scheme;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    UpstreamError,
    dial::{Dialed, Dialer},
    heard::{Heard, Mark, Past},
    pool::{DRAWERS, thread_number},
    upload::RequestBody,
    wire::Wire,
};

/// All connections to a destination.
pub(super) struct Trunk {
    dialer: Dialer,
    drawers: [Drawer; DRAWERS],
}

#[derive(Debug, Default)]
struct Drawer {
    cables: Mutex<Vec<Cable>>,
    /// Held by whoever opens one, so that the others wait for that one and do not open as many.
    opening: tokio::sync::Mutex<()>,
}

/// A connection.
#[derive(Clone, Debug)]
struct Cable {
    sender: SendRequest<RequestBody>,
    traffic: Arc<Traffic>,
}

/// What goes on, and went on, on a connection.
#[derive(Debug)]
struct Traffic {
    streams: AtomicUsize,
    /// As many as the other side takes.
    most: AtomicUsize,
    /// Whether anything was answered on it.
    answered: AtomicBool,
    /// Nothing new begins on it.
    retired: AtomicBool,
    past: Past,
}

/// Connections in one drawer.
const MAX_CABLES: usize = 8;
/// How long a connection is new: nobody closes one for having served enough, or nothing, that soon.
const NEW: Duration = Duration::from_secs(1);
/// Whoever leaves sooner without an answer says nothing about the connection.
const A_WHILE: Duration = Duration::from_secs(1);
/// What counts until the other side has said how many streams it takes, and at most.
const STREAMS: usize = 100;
/// What the other side may send of one answer before somebody has read it, and of all together.
const STREAM_WINDOW: u32 = 256 * 1_024;
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;
/// The largest head of an answer.
const HEADER_LIST: u32 = 64 * 1_024;
/// What is kept of a request that the other side has no room for.
const SEND_BUFFER: usize = 64 * 1_024;
/// How often the other side is asked whether it lives while a stream is open: servers of gRPC take it for an attack
/// when it is more often than every five minutes. The kernel notices sooner when nobody is there.
const PING: Duration = Duration::from_secs(5 * 60 + 10);
const PONG: Duration = Duration::from_secs(20);
/// When the kernel asks on a silent connection, and how long it waits for acknowledgements.
const SILENCE: Duration = Duration::from_secs(20);
/// Between two such questions.
const BETWEEN: Duration = Duration::from_secs(5);

impl Trunk {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            drawers: std::array::from_fn(|_| Drawer::default()),
        }
    }

    /// A stream of one of this thread's connections, or of a new one.
    pub(super) async fn turn(&self, connect: Duration) -> Result<Turn, UpstreamError> {
        match self.drawer().turn(&self.dialer, |_| true) {
            Some(turn) => Ok(turn),
            None => in_time(connect, Box::pin(self.next(|_| true))).await,
        }
    }

    /// A stream of a new connection. Those that need one at the same time share it, and it is the emptiest there is
    /// where no more may be.
    pub(super) async fn fresh(&self, connect: Duration) -> Result<Turn, UpstreamError> {
        let is_new = |cable: &Cable| cable.traffic.past.opened().elapsed() < NEW;
        in_time(connect, Box::pin(self.next(is_new))).await
    }

    /// A stream of any other connection than this one, or of a new one.
    pub(super) async fn another(&self, not: Turn, connect: Duration) -> Result<Turn, UpstreamError> {
        let is_another = |cable: &Cable| !Arc::ptr_eq(&cable.traffic, &not.traffic);
        in_time(connect, Box::pin(self.next(is_another))).await
    }

    async fn next(&self, fits: impl Fn(&Cable) -> bool) -> io::Result<Turn> {
        let drawer = self.drawer();
        let _opening = drawer.opening.lock().await;
        match drawer.turn(&self.dialer, fits) {
            Some(turn) => Ok(turn),
            None => self.connect().await,
        }
    }

    async fn connect(&self) -> io::Result<Turn> {
        let cable = match self.dialer.dial().await? {
            Dialed::Tcp(stream) => {
                watch_for_silence(&stream)?;
                Cable::over(Wire::from(stream)).await?
            }
            Dialed::Tls(stream) => {
                watch_for_silence(stream.get_ref().0)?;
                Cable::over(*stream).await?
            }
            Dialed::Unix(stream) => Cable::over(stream).await?,
        };
        let turn = cable.turn();
        self.drawer().keep(cable);
        Ok(turn)
    }

    /// What the target of a request begins with (RFC 9113 §8.3.1).
    pub(super) fn scheme(&self) -> Scheme {
        match self.dialer.destination.scheme.is_encrypted() {
            true => Scheme::HTTPS,
            false => Scheme::HTTP,
        }
    }

    fn drawer(&self) -> &Drawer {
        let index = thread_number() % DRAWERS;
        self.drawers.get(index).unwrap_or(&self.drawers[0])
    }
}

impl fmt::Debug for Trunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trunk")
            .field("destination", &self.dialer.destination)
            .finish_non_exhaustive()
    }
}

async fn in_time<T>(limit: Duration, work: Pin<Box<impl Future<Output = io::Result<T>>>>) -> Result<T, UpstreamError> {
    let done = timeout(limit, work).await.map_err(|_| UpstreamError::TimedOut)?;
    done.map_err(|error| UpstreamError::Unreachable(error.to_string()))
}

fn watch_for_silence(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let asked = TcpKeepalive::new().with_time(SILENCE).with_interval(BETWEEN);
    socket.set_tcp_keepalive(&asked)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENCE))?;
    Ok(())
}

impl Drawer {
    /// Of the first fitting connection that has room; where there is none and no more may be, of the one with the fewest.
    fn turn(&self, dialer: &Dialer, fits: impl Fn(&Cable) -> bool) -> Option<Turn> {
        let mut cables = self.cables();
        // What is under way on one that is outdated goes on, and then it closes.
        cables.retain(|cable| cable.is_good() && !dialer.is_outdated(cable.traffic.past.opened()));
        let roomy = cables.iter().find(|cable| fits(cable) && cable.has_room());
        let emptiest = || {
            cables
                .iter()
                .min_by_key(|cable| (!fits(cable), cable.traffic.streams.load(Ordering::Relaxed)))
        };
        let cable = match roomy {
            None if cables.len() >= MAX_CABLES => emptiest(),
            roomy => roomy,
        };
        cable.map(Cable::turn)
    }

    fn keep(&self, cable: Cable) {
        let mut cables = self.cables();
        if cables.len() < MAX_CABLES {
            cables.push(cable);
        }
    }

    fn cables(&self) -> MutexGuard<'_, Vec<Cable>> {
        self.cables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cable {
    async fn over<S>(stream: S) -> io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let past = Past::begin();
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_max_send_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(false)
            .handshake(TokioIo::new(Heard::new(stream, past.clone())));
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        let traffic = Arc::new(Traffic {
            streams: AtomicUsize::new(0),
            most: AtomicUsize::new(STREAMS),
            answered: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            past,
        });
        let told = traffic.clone();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            // How the connection ends is told to whoever waits for an answer on it.
            let _ = poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx);
                let most = connection.current_max_send_streams().min(STREAMS);
                told.most.store(most, Ordering::Relaxed);
                ended
            })
            .await;
        });
        Ok(Self { sender, traffic })
    }

    /// Whether anything new may begin on it.
    fn is_good(&self) -> bool {
        !self.sender.is_closed() && !self.traffic.retired.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.traffic.streams.load(Ordering::Relaxed) < self.traffic.most.load(Ordering::Relaxed)
    }

    fn turn(&self) -> Turn {
        self.traffic.streams.fetch_add(1, Ordering::Relaxed);
        Turn {
            sender: self.sender.clone(),
            taken: self.traffic.past.mark(),
            taken_at: Instant::now(),
            is_answered: false,
            traffic: self.traffic.clone(),
        }
    }
}

/// One exchange's share of a connection, until its answer has ended.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) sender: SendRequest<RequestBody>,
    traffic: Arc<Traffic>,
    /// When it was taken.
    taken: Mark,
    taken_at: Instant,
    is_answered: bool,
}

impl Turn {
    /// Whether the connection served before, so that the other side may be closing it.
    pub(super) fn is_used(&self) -> bool {
        self.traffic.answered.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&mut self) {
        self.is_answered = true;
        if !self.is_used() {
            self.traffic.answered.store(true, Ordering::Relaxed);
        }
    }

    /// Begins nothing new on the connection; what is under way goes on.
    pub(super) fn retire(&self) {
        self.traffic.retired.store(true, Ordering::Relaxed);
    }

    /// The same after a wait in vain in which the connection brought nothing at all, or never an answer: there may be
    /// nobody behind it any more, though the other machine acknowledges what it gets.
    pub(super) fn retire_if_silent(&self) {
        if !self.is_used() || !self.traffic.past.has_heard(self.taken) {
            self.retire();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Many a client has less patience than the gateway.
        if !self.is_answered && self.taken_at.elapsed() >= A_WHILE {
            self.retire_if_silent();
        }
        self.traffic.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, net::SocketAddr};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::{body::Incoming, server::conn::http2, service::service_fn};
    use tokio::{net::TcpListener, time::sleep};

    use super::*;
    use crate::upstream::{
        DestinationScheme,
        dial::tests::{PATIENCE, by_name},
    };

    /// A server, and how many connections it has.
    async fn serving() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, open) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = open.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let count = count.clone();
                tokio::spawn(async move {
                    let empty = service_fn(async |_: Request<Incoming>| {
                        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                    });
                    let server = http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), empty).await;
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        (address, open)
    }

    async fn until(mut so: impl AsyncFnMut() -> bool) {
        let waited = async {
            while !so().await {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waited).await.expect("it does not come about");
    }

    #[tokio::test]
    async fn f_21_a_connection_that_all_share_does_not_outlive_its_name_for_long() {
        let (dialer, addresses) = by_name(DestinationScheme::H2c, Duration::from_millis(100));
        let trunk = Trunk::new(dialer);
        let ((before, old), (after, new)) = (serving().await, serving().await);
        *addresses.lock().unwrap() = vec![before];
        let mut under_way = trunk.turn(PATIENCE).await.unwrap();
        *addresses.lock().unwrap() = vec![after];
        until(async || {
            drop(trunk.turn(PATIENCE).await.unwrap());
            new.load(Ordering::SeqCst) > 0
        })
        .await;
        // What is under way at the old address goes on there, and then that connection closes.
        assert_eq!(old.load(Ordering::SeqCst), 1);
        let request = Request::get("http://app.test/").body(RequestBody::Empty).unwrap();
        let answer = under_way.sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        drop((under_way, answer));
        until(async || old.load(Ordering::SeqCst) == 0).await;
    }
}
