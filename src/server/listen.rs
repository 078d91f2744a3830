//! Listening sockets, and the one way to accept.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// Connections that wait in the kernel for each socket.
const BACKLOG: i32 = 1_024;
/// How long accepting rests when the machine is out of something.
const REST: Duration = Duration::from_millis(100);

/// As many sockets at one address as there are workers; the kernel spreads connections over them.
pub(super) fn bind(address: SocketAddr, all: &[SocketAddr], workers: usize) -> io::Result<Vec<StdListener>> {
    if address.port() != 0 {
        // Sockets that share a port would also share it with another gateway, unnoticed: one that does not must fit.
        socket(address, all, Sharing::Alone)?;
    }
    let first = socket(address, all, Sharing::WithWorkers)?;
    first.listen(BACKLOG)?;
    let mut listeners = vec![StdListener::from(first)];
    let address = listeners.first().map_or(Ok(address), StdListener::local_addr)?;
    for _ in 1..workers {
        let next = socket(address, all, Sharing::WithWorkers)?;
        next.listen(BACKLOG)?;
        listeners.push(next.into());
    }
    Ok(listeners)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    WithWorkers,
}

fn socket(address: SocketAddr, all: &[SocketAddr], sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 as well, unless that has a listener of its own.
        let beside_v4 = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port() && address.port() != 0;
        socket.set_only_v6(all.iter().any(beside_v4))?;
    }
    // A restart need not wait for connections of the past.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::WithWorkers)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A listening socket in use.
#[derive(Debug)]
pub(super) struct Door {
    listener: TcpListener,
    /// One for each connection that may be open.
    permits: Arc<Semaphore>,
    closing: CancellationToken,
    is_full: bool,
    is_starved: bool,
}

/// A connection that was let in; its place is taken until the permit is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: OwnedSemaphorePermit,
}

impl Door {
    /// # Errors
    /// Outside a runtime with I/O.
    pub(super) fn open(listener: StdListener, permits: Arc<Semaphore>, closing: CancellationToken) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            permits,
            closing,
            is_full: false,
            is_starved: false,
        })
    }

    /// The next connection; none when the door closes.
    pub(super) async fn next(&mut self) -> Option<Guest> {
        let closing = self.closing.clone();
        closing.run_until_cancelled(self.accept()).await.flatten()
    }

    /// Takes the connection first and waits for its place then: a place that is held for whoever may come next would
    /// be missing at the other workers' doors.
    async fn accept(&mut self) -> Option<Guest> {
        let (stream, peer) = self.knock().await;
        let was_full = std::mem::replace(&mut self.is_full, self.permits.available_permits() == 0);
        if self.is_full && !was_full {
            tracing::warn!("as many connections as allowed are open: others wait");
        }
        let permit = self.permits.clone().acquire_owned().await.ok()?;
        // Without it, a small answer waits for the client's acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection takes no options");
        }
        Some(Guest { stream, peer, permit })
    }

    async fn knock(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
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

fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
