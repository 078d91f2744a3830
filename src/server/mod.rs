//! Sockets: accept, limits, drain; the admin listener.

mod address;
mod admin;
mod bind;
mod calm;
mod connection;
mod http2;
mod listen;
mod patience;
mod pipe;
mod protocol;
mod proxied;
mod stream;
pub mod tls;
mod visitor;
mod websocket;
mod workers;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use address::Listen;
pub use protocol::Spoken;

use crate::{gateway::Generations, identity::Peer, telemetry::Metrics, upstream::body::Body};
use admin::Office;
use bind::{Binder, Bound, Listener, SocketFile};
use tls::Front;
use workers::{Entrance, Shared, Stop};

/// What answers requests: the gateway, and stand-ins for it.
pub trait Handle: Send + Sync + 'static {
    /// Answers a request that came from this peer.
    fn handle(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<Body>> + Send;

    /// Sends a request that came in clear text to where it can be made safely.
    fn redirect(&self, request: &Request<Incoming>, peer: &Peer) -> Response<Body>;

    /// Whether the word of whoever is there counts on where others are.
    fn trusts(&self, peer: IpAddr) -> bool;

    /// Is called at the end: waits for what must not be cut off though nobody waits for it.
    fn settle(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Answers whoever runs it, on the admin listener.
    fn administer(&self, request: Request<Incoming>, peer: IpAddr) -> impl Future<Output = Response<Body>> + Send;
}

impl Handle for Generations {
    fn handle(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<Body>> + Send {
        let (parts, body) = request.into_parts();
        // In a box, for it passes through many hands.
        self.handle(Box::new(parts), body, peer)
    }

    fn redirect(&self, request: &Request<Incoming>, peer: &Peer) -> Response<Body> {
        self.redirect(request, peer)
    }

    fn trusts(&self, peer: IpAddr) -> bool {
        self.trusts(peer)
    }

    fn settle(&self) -> impl Future<Output = ()> + Send {
        self.settle()
    }

    fn administer(&self, request: Request<Incoming>, peer: IpAddr) -> impl Future<Output = Response<Body>> + Send {
        self.administer(request, peer)
    }
}

/// Sockets that listen; nothing is accepted until the server starts.
#[derive(Debug)]
pub struct Server<H> {
    shared: Arc<Shared<H>>,
    /// Of each worker.
    listeners: Vec<Vec<(Entrance, Listener)>>,
    admin: Option<Listener>,
    addresses: Addresses,
    files: Vec<SocketFile>,
}

/// Where a server listens; a port 0 of the settings is a real one here, and a socket of systemd where it is.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    pub listen: Vec<Listen>,
    pub redirect: Vec<Listen>,
    pub admin: Option<Listen>,
}

/// An address that cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}: {error}")]
pub struct BindError {
    pub address: Listen,
    pub error: io::Error,
}

impl<H: Handle> Server<H> {
    /// Takes every address of the settings; with a front, what is at `listen` speaks TLS.
    ///
    /// # Errors
    /// The first address that cannot be taken.
    pub fn bind(
        settings: Settings,
        front: Option<Arc<Front>>,
        handler: Arc<H>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BindError> {
        let workers = settings.workers.max(1);
        let mut binder = Binder::new(&settings);
        let mut server = Self {
            listeners: (0..workers).map(|_| Vec::new()).collect(),
            admin: None,
            addresses: Addresses::default(),
            files: Vec::new(),
            shared: Arc::new(Shared {
                handler,
                metrics,
                front,
                limits: settings.limits,
                spoken: settings.spoken,
                proxy_protocol: settings.proxy_protocol,
                drain_delay: settings.drain_delay,
                drain_timeout: settings.drain_timeout,
                permits: Arc::new(Semaphore::new(settings.limits.connections.min(Semaphore::MAX_PERMITS))),
                stop: Stop::default(),
                busy: TaskTracker::new(),
            }),
        };
        let mut bind = |address: &Listen, workers| {
            let bound = binder.bind(address, workers);
            bound.map_err(|error| BindError {
                address: address.clone(),
                error,
            })
        };
        for (entrance, addresses) in [
            (Entrance::Main, &settings.listen),
            (Entrance::Redirect, &settings.redirect),
        ] {
            for address in addresses {
                server.take(entrance, bind(address, workers)?);
            }
        }
        if let Some(address) = &settings.admin
            && let Some((place, mut listeners)) = bind(address, 1)?.pop()
        {
            server.addresses.admin = Some(place);
            server.admin = listeners.pop();
        }
        server.files = binder.into_files();
        Ok(server)
    }

    fn take(&mut self, entrance: Entrance, bound: Vec<Bound>) {
        let addresses = match entrance {
            Entrance::Main => &mut self.addresses.listen,
            Entrance::Redirect => &mut self.addresses.redirect,
        };
        for (place, listeners) in bound {
            addresses.push(place);
            for (worker, listener) in self.listeners.iter_mut().zip(listeners) {
                worker.push((entrance, listener));
            }
        }
    }

    /// Accepts from now on, on threads of its own.
    ///
    /// # Errors
    /// When there are no threads to be had.
    pub fn start(self) -> io::Result<Running> {
        let over = CancellationToken::new();
        let mut running = Running {
            addresses: self.addresses,
            stop: self.shared.stop.clone(),
            over: over.clone(),
            threads: Vec::new(),
            _files: self.files,
        };
        running.threads = workers::start(&self.shared, self.listeners, &over)?;
        if let Some(listener) = self.admin {
            let office = Office {
                handler: self.shared.handler.clone(),
                metrics: self.shared.metrics.clone(),
                draining: running.stop.drain.clone(),
            };
            let work = admin::serve(listener, office, over);
            running
                .threads
                .push(workers::spawn("admin", running.stop.abort.clone(), work, ())?);
        }
        Ok(running)
    }
}

/// A server that serves; dropping it ends it at once.
#[derive(Debug)]
#[must_use = "the server ends when this is dropped"]
pub struct Running {
    addresses: Addresses,
    stop: Stop,
    /// Cancelled when the last worker has ended.
    over: CancellationToken,
    threads: Vec<JoinHandle<()>>,
    /// Removed with this.
    _files: Vec<SocketFile>,
}

impl Running {
    /// Where it listens, each in the order of the settings.
    pub fn places(&self) -> &Addresses {
        &self.addresses
    }

    /// The TCP addresses where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        tcp(&self.addresses.listen)
    }

    /// The TCP addresses where it only sends clients to https.
    pub fn redirect_addresses(&self) -> Vec<SocketAddr> {
        tcp(&self.addresses.redirect)
    }

    pub fn admin_address(&self) -> Option<SocketAddr> {
        tcp(self.addresses.admin.as_slice()).pop()
    }

    /// Begins to end: not ready any more, and soon closed to new connections.
    pub fn drain(&self) {
        self.stop.drain.cancel();
    }

    /// Waits until it has ended, by a drain or by itself.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Drains, and returns when it is over.
    pub async fn stop(mut self) {
        self.drain();
        self.over().await;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.abort.cancel();
    }
}

fn tcp(places: &[Listen]) -> Vec<SocketAddr> {
    let tcp = places.iter().filter_map(|place| match place {
        Listen::Tcp(address) => Some(*address),
        Listen::Unix(_) | Listen::Systemd(_) => None,
    });
    tcp.collect()
}

/// The `[server]` and `[admin]` tables, as far as sockets are concerned.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: Vec<Listen>,
    /// Where clients are sent to https, and nothing else is done.
    pub redirect: Vec<Listen>,
    /// Absent: clear text at `listen`.
    pub tls: Option<tls::Settings>,
    /// Absent: no admin listener.
    pub admin: Option<Listen>,
    /// Who may connect to a Unix socket, as `chmod` has it.
    pub unix_mode: u32,
    /// Whether a connection at `listen` or `redirect` begins with where it comes from, as the proxy in front has it.
    pub proxy_protocol: bool,
    /// Whether another gateway may listen at the same addresses, and be taken over from.
    pub reuse_port: bool,
    /// Threads that serve, each with its own listener; at least 1.
    pub workers: usize,
    /// At `listen`, in clear text; with TLS the handshake tells, and the admin listener speaks HTTP/1 alone.
    pub spoken: Spoken,
    pub limits: Limits,
    /// How long new connections are still taken after SIGTERM, while `/readyz` already says no.
    pub drain_delay: Duration,
    /// How long requests under way may take to finish.
    pub drain_timeout: Duration,
}

/// The `[server.limits]` table, and what is not in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of all workers; more wait in the kernel's queue.
    pub connections: usize,
    /// The head of a request, in bytes; in HTTP/2 each field counts 32 more (RFC 9113 §6.5.2).
    pub header_bytes: usize,
    /// Fields in the head of a request.
    pub header_count: usize,
    /// The longest request target, in bytes.
    pub target_bytes: usize,
    /// From connecting to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From connecting, or from the end of the last response, to the first byte of a request.
    pub keep_alive: Duration,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// How long a connection of HTTP/2 is used; then the client is told to open another.
    pub connection_age: Duration,
    /// How long a client may take nothing of an answer.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_bytes: 32 * 1024,
            header_count: 100,
            target_bytes: 8 * 1024,
            handshake_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            header_timeout: Duration::from_secs(15),
            connection_age: Duration::from_secs(3_600),
            stall: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests;
