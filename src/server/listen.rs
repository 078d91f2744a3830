//! The one way to accept.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{SockFilter, SockRef};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    bind::{BACKLOG, Listener, Listening, Owner},
    pipe::Pipe,
};
use crate::identity::OVER_UNIX;

/// `BPF_RET | BPF_K`: a program of the packet filter that keeps so many bytes.
const RETURN: u16 = 0x06;
/// How long accepting rests when the machine is out of something.
const REST: Duration = Duration::from_millis(100);

/// A listening socket in use.
#[derive(Debug)]
pub(super) struct Door {
    listener: Accepting,
    owner: Owner,
    /// How many more are let in at most, once the door is closed.
    last: Option<i32>,
    /// One for each connection that may be open.
    permits: Arc<Semaphore>,
    closing: CancellationToken,
    is_full: bool,
    is_starved: bool,
}

#[derive(Debug)]
enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that was let in; its place is taken until the permit is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) stream: Pipe,
    pub(super) peer: IpAddr,
    pub(super) permit: OwnedSemaphorePermit,
}

impl Door {
    /// # Errors
    /// Outside a runtime with I/O.
    pub(super) fn open(listener: Listener, permits: Arc<Semaphore>, closing: CancellationToken) -> io::Result<Self> {
        Ok(Self {
            owner: listener.owner,
            last: None,
            listener: match listener.socket {
                Listening::Tcp(listener) => Accepting::Tcp(TcpListener::from_std(listener)?),
                Listening::Unix(listener) => Accepting::Unix(UnixListener::from_std(listener)?),
            },
            permits,
            closing,
            is_full: false,
            is_starved: false,
        })
    }

    /// The next connection; none when the door is closed and nobody waits at it any more.
    pub(super) async fn next(&mut self) -> Option<Guest> {
        let closing = self.closing.clone();
        let accepted = match self.last {
            None => closing.run_until_cancelled(self.knock()).await,
            Some(_) => None,
        };
        let (stream, peer) = accepted.or_else(|| self.waiting())?;
        self.seat(stream, peer).await
    }

    /// Whoever the kernel has let in already would be thrown out when the socket closes, so they are let in here too.
    fn waiting(&mut self) -> Option<(Pipe, IpAddr)> {
        if self.owner == Owner::Systemd {
            return None;
        }
        let last = match self.last {
            Some(last) => last,
            None => {
                self.listener.turn_away();
                BACKLOG
            }
        };
        self.last = Some(last.checked_sub(1)?);
        (last > 0).then(|| self.listener.waiting()).flatten()
    }

    /// Takes the connection first and waits for its place then: a place that is held for whoever may come next would
    /// be missing at the other workers' doors.
    async fn seat(&mut self, stream: Pipe, peer: IpAddr) -> Option<Guest> {
        let was_full = std::mem::replace(&mut self.is_full, self.permits.available_permits() == 0);
        if self.is_full && !was_full {
            tracing::warn!("as many connections as allowed are open: others wait");
        }
        let permit = self.permits.clone().acquire_owned().await.ok()?;
        Some(Guest { stream, peer, permit })
    }

    async fn knock(&mut self) -> (Pipe, IpAddr) {
        loop {
            match std::future::poll_fn(|cx| self.listener.poll_accept(cx)).await {
                Ok(accepted) => {
                    self.is_starved = false;
                    return accepted;
                }
                // The client was gone before we came to it.
                Err(error) if is_of_client(&error) => {}
                Err(error) => self.rest(&error).await,
            }
        }
    }

    /// The machine lacks descriptors or memory: trying at once again would only burn its processor too.
    async fn rest(&mut self, error: &io::Error) {
        if !self.is_starved {
            self.is_starved = true;
            tracing::warn!(%error, "cannot accept connections");
        }
        sleep(REST).await;
    }
}

impl Accepting {
    /// Lets the kernel drop whatever comes to a TCP socket from now on. Whoever connects in the moment that is left tries
    /// again by itself a second later, and then finds another gateway at the address, if there is one: without this, that
    /// connection would be reset.
    fn turn_away(&self) {
        const NOTHING: SockFilter = SockFilter::new(RETURN, 0, 0, 0);
        if let Self::Tcp(listener) = self
            && let Err(error) = SockRef::from(listener).attach_filter(&[NOTHING])
        {
            tracing::debug!(%error, "connections of the last moment may be reset");
        }
    }

    /// A connection that nobody has to wait for.
    fn waiting(&self) -> Option<(Pipe, IpAddr)> {
        loop {
            match self.accept() {
                Ok(accepted) => return Some(accepted),
                Err(error) if is_of_client(&error) => {}
                Err(_) => return None,
            }
        }
    }

    /// Asks the kernel itself: the runtime knows of those alone who had come when it last looked.
    fn accept(&self) -> io::Result<(Pipe, IpAddr)> {
        let (socket, address) = match self {
            Self::Tcp(listener) => SockRef::from(listener).accept()?,
            Self::Unix(listener) => SockRef::from(listener).accept()?,
        };
        socket.set_nonblocking(true)?;
        Ok(match address.as_socket() {
            Some(peer) => over_tcp(TcpStream::from_std(socket.into())?, peer),
            None => (UnixStream::from_std(socket.into())?.into(), OVER_UNIX),
        })
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Pipe, IpAddr)>> {
        Poll::Ready(Ok(match self {
            Self::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                over_tcp(stream, peer)
            }
            Self::Unix(listener) => (ready!(listener.poll_accept(cx))?.0.into(), OVER_UNIX),
        }))
    }
}

fn over_tcp(stream: TcpStream, peer: SocketAddr) -> (Pipe, IpAddr) {
    // Without it, a small answer waits for the client's acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection takes no options");
    }
    (stream.into(), peer.ip().to_canonical())
}

fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net, os::unix};

    #[tokio::test]
    async fn whoever_came_before_the_door_closed_is_let_in() {
        let permits = Arc::new(Semaphore::new(10));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("http");
        let tcp = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        tcp.set_nonblocking(true).unwrap();
        let unix = unix::net::UnixListener::bind(&path).unwrap();
        unix.set_nonblocking(true).unwrap();
        // The runtime does not look for them before the doors are closed.
        let _clients = [(); 2].map(|()| (net::TcpStream::connect(address), unix::net::UnixStream::connect(&path)));
        for socket in [Listening::Tcp(tcp), Listening::Unix(unix)] {
            let (closing, owner) = (CancellationToken::new(), Owner::Gateway);
            let mut door = Door::open(Listener { socket, owner }, permits.clone(), closing.clone()).unwrap();
            closing.cancel();
            assert!(door.next().await.is_some() && door.next().await.is_some());
            assert!(door.next().await.is_none());
        }
    }
}
