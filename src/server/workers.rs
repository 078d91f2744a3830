//! The threads that serve: each has a runtime and listening sockets of its own, and shares nothing with the others
//! but the handler. No request is handed from one thread to another.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use hyper::service::service_fn;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::{
    Handle, Limits, Spoken,
    bind::Listener,
    connection::{self, Reception},
    listen::{Door, Guest},
    proxied,
    tls::Front,
    visitor::Visitor,
};
use crate::telemetry::Metrics;

/// How long a connection that nobody has asked for anything, or any more, is still listened to when the doors are closed: the
/// request may be on its way.
const LAST_CALL: Duration = Duration::from_secs(1);

/// What all workers have in common.
#[derive(Debug)]
pub(super) struct Shared<H> {
    pub(super) handler: Arc<H>,
    pub(super) metrics: Arc<Metrics>,
    /// Absent: clear text.
    pub(super) front: Option<Arc<Front>>,
    pub(super) limits: Limits,
    pub(super) spoken: Spoken,
    pub(super) proxy_protocol: bool,
    pub(super) drain_delay: Duration,
    pub(super) drain_timeout: Duration,
    /// One for each connection that may be open, over all workers.
    pub(super) permits: Arc<Semaphore>,
    pub(super) stop: Stop,
    /// Those who have somebody to serve.
    pub(super) busy: TaskTracker,
}

/// What a listening socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    Main,
    /// In clear text, to be told where to go instead.
    Redirect,
}

/// How the threads are told to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    /// Finish what is under way.
    pub(super) drain: CancellationToken,
    /// Drop everything.
    pub(super) abort: CancellationToken,
}

/// A thread for each set of listeners.
///
/// # Errors
/// When there is no thread or runtime to be had.
pub(super) fn start<H: Handle>(
    shared: &Arc<Shared<H>>,
    listeners: Vec<Vec<(Entrance, Listener)>>,
    over: &CancellationToken,
) -> io::Result<Vec<JoinHandle<()>>> {
    // Cancels when the last worker, or the last attempt to start one, drops its share.
    let last = Arc::new(over.clone().drop_guard());
    let mut threads = Vec::with_capacity(listeners.len());
    for (number, listeners) in listeners.into_iter().enumerate() {
        let (shared, last) = (shared.clone(), last.clone());
        let abort = shared.stop.abort.clone();
        let work = work(listeners, shared.busy.token(), shared);
        threads.push(spawn(&format!("worker-{number}"), abort, work, last)?);
    }
    shared.busy.close();
    Ok(threads)
}

/// Runs a future on a thread of its own until it ends or is told to abort, and drops `last` at the end.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    abort: CancellationToken,
    work: impl Future<Output = io::Result<()>> + Send + 'static,
    last: T,
) -> io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        run(&runtime, &abort, work);
        // A name that is still being looked up keeps nobody waiting.
        runtime.shutdown_background();
        drop(last);
    };
    thread::Builder::new().name(name.to_owned()).spawn(run)
}

fn run(runtime: &Runtime, abort: &CancellationToken, work: impl Future<Output = io::Result<()>>) {
    if let Some(Err(error)) = runtime.block_on(abort.run_until_cancelled(work)) {
        tracing::error!(%error, "a thread of the server ended");
    }
}

/// Serves until it is time to go, and then waits for those who are still being served.
///
/// What is waited for is sockets, upgraded ones too, and what the handler cannot leave. Other tasks that nobody waits for
/// any more end with the runtime.
async fn work<H: Handle>(
    listeners: Vec<(Entrance, Listener)>,
    busy: TaskTrackerToken,
    shared: Arc<Shared<H>>,
) -> io::Result<()> {
    let (closed, closing, open) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
    for (entrance, listener) in listeners {
        let door = Door::open(listener, shared.permits.clone(), closed.clone())?;
        let received = receive(door, entrance, shared.clone(), closing.clone(), open.clone());
        // In a task that is waited for: it lets in whoever still stands at the door.
        tokio::spawn(open.track_future(received));
    }
    shared.stop.drain.cancelled().await;
    // Whoever balances the load takes a moment to notice that we are leaving, and still sends clients.
    sleep(shared.drain_delay).await;
    closed.cancel();
    open.close();
    let settled = async {
        tokio::join!(shared.handler.settle(), async {
            if timeout(LAST_CALL, open.wait()).await.is_err() {
                closing.cancel();
            }
            open.wait().await;
        });
        // Those who were served last may have begun something.
        shared.handler.settle().await;
    };
    if timeout(shared.drain_timeout, settled).await.is_err() {
        tracing::warn!(
            connections = open.len(),
            "connections are cut off: they took too long to finish"
        );
    }
    drop(busy);
    // A connection to a provider or to a store ends with the thread that opened it, and others may be using it.
    shared.busy.wait().await;
    Ok(())
}

async fn receive<H: Handle>(
    mut door: Door,
    entrance: Entrance,
    shared: Arc<Shared<H>>,
    closing: CancellationToken,
    open: TaskTracker,
) {
    while let Some(guest) = door.next().await {
        let carried = (shared.metrics.connection(), open.token());
        let (shared, closing) = (shared.clone(), closing.clone());
        tokio::spawn(async move {
            let greeting = shared.greet(entrance, guest);
            // When it closes, nothing is under way yet.
            let Some(Some(visitor)) = closing.run_until_cancelled(greeting).await else {
                return;
            };
            let reception = Reception {
                shared: shared.clone(),
                peer: visitor.peer.clone(),
                entrance,
            };
            // In a box, for a connection keeps the room for it while nothing is asked. The box is there first, so that the
            // answer begins in it and is not copied there.
            let service = service_fn(move |request| {
                let room = Box::new_uninit();
                Box::into_pin(Box::write(room, reception.clone().answer(request)))
            });
            connection::serve(visitor, carried, &shared.limits, closing, service).await;
        });
    }
}

impl<H: Handle> Shared<H> {
    /// Begins a connection; none where the client did not get as far as a request.
    async fn greet(&self, entrance: Entrance, guest: Guest) -> Option<Visitor> {
        let peer = guest.peer;
        self.begin(entrance, guest)
            .await
            .inspect_err(|error| tracing::debug!(%peer, %error, "a connection broke"))
            .ok()
    }

    async fn begin(&self, entrance: Entrance, mut guest: Guest) -> io::Result<Visitor> {
        let limits = &self.limits;
        if self.proxy_protocol {
            proxied::unveil(&mut guest, &*self.handler, limits).await?;
        }
        match (entrance, &self.front) {
            (Entrance::Redirect, _) => Ok(Visitor::plain(guest)),
            // In a box, for what a handshake needs is not needed after it.
            (Entrance::Main, Some(front)) => Box::pin(Visitor::behind(front, guest, limits)).await,
            (Entrance::Main, None) => Visitor::in_clear(guest, self.spoken, limits).await,
        }
    }
}
