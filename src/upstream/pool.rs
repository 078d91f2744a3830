//! Connections to one destination, kept for the next request.
//!
//! A connection belongs to the runtime of the thread that opened it, and so do the idle ones: each thread looks into a
//! drawer of its own, and no two wait for each other.

use std::{
    cell::Cell,
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{UpstreamError, again::Again, dial::Dialer, http1::Connection, lease::Lease};
use crate::time::Alarm;

pub(super) struct Pool {
    dialer: Dialer,
    drawers: [Mutex<Drawer>; DRAWERS],
}

/// What one thread keeps.
#[derive(Default)]
struct Drawer {
    idle: Vec<Idle>,
    /// Whether somebody looks after it.
    is_swept: bool,
}

struct Idle {
    connection: Box<Connection>,
    alarm: Alarm,
    since: Instant,
}

pub(super) const DRAWERS: usize = 32;
/// Idle connections in one drawer.
const MAX_IDLE: usize = 64;
/// Shorter than most servers keep an idle connection.
const IDLE: Duration = Duration::from_secs(50);
/// How soon an idle connection is let go that the other side has closed.
const SWEEP: Duration = Duration::from_secs(5);

impl Pool {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            drawers: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// A connection from this thread's drawer, or a new one; for a second attempt, a new one in any case.
    pub(super) async fn lease(self: &Arc<Self>, again: &Again, connect: Duration) -> Result<Lease, UpstreamError> {
        let idle = match again.is_spent() {
            true => None,
            false => self.idle(),
        };
        match idle {
            Some(idle) => Ok(Lease::of(idle.connection, idle.alarm, self.clone(), true)),
            None => self.open(connect).await,
        }
    }

    /// A connection that nothing was sent on.
    pub(super) async fn open(self: &Arc<Self>, connect: Duration) -> Result<Lease, UpstreamError> {
        // In a box, for most requests need no new connection and are spared the room.
        let opened = timeout(connect, Box::pin(self.dialer.dial()));
        let opened = opened.await.map_err(|_| UpstreamError::TimedOut)?;
        let dialed = opened.map_err(|error| UpstreamError::Unreachable(error.to_string()))?;
        let connection = Box::new(Connection::over(dialed));
        Ok(Lease::of(connection, Alarm::default(), self.clone(), false))
    }

    /// The connection that was used last, so that those that are not needed grow old and go.
    fn idle(&self) -> Option<Idle> {
        let mut drawer = self.drawer(thread_number());
        while let Some(mut idle) = drawer.idle.pop() {
            if self.is_fit(&mut idle, Instant::now()) {
                return Some(idle);
            }
        }
        None
    }

    fn is_fit(&self, idle: &mut Idle, now: Instant) -> bool {
        now.duration_since(idle.since) < IDLE
            && !self.dialer.is_outdated(idle.connection.opened())
            && idle.connection.is_quiet()
    }

    /// Keeps a connection for the next request, if it is good for one.
    pub(super) fn keep(self: &Arc<Self>, mut connection: Box<Connection>, alarm: Alarm) {
        if !connection.is_good() || self.dialer.is_outdated(connection.opened()) {
            return;
        }
        connection.rest();
        let number = thread_number();
        let mut drawer = self.drawer(number);
        if drawer.idle.len() < MAX_IDLE {
            drawer.idle.push(Idle {
                connection,
                alarm,
                since: Instant::now(),
            });
        }
        if !mem::replace(&mut drawer.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self), number));
        }
    }

    /// Lets go what nobody can use any more; says whether anything is left.
    fn sweep(&self, number: usize) -> bool {
        let now = Instant::now();
        let mut drawer = self.drawer(number);
        drawer.idle.retain_mut(|idle| self.is_fit(idle, now));
        drawer.is_swept = !drawer.idle.is_empty();
        drawer.is_swept
    }

    fn drawer(&self, number: usize) -> MutexGuard<'_, Drawer> {
        let drawer = self.drawers.get(number % DRAWERS).unwrap_or(&self.drawers[0]);
        drawer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks after a drawer until it is empty.
async fn sweep(pool: Weak<Pool>, number: usize) {
    loop {
        sleep(SWEEP).await;
        if !pool.upgrade().is_some_and(|pool| pool.sweep(number)) {
            return;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("destination", &self.dialer.destination)
            .finish_non_exhaustive()
    }
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
        let kept = pool.lease(&Again::default(), PATIENCE).await.unwrap();
        kept.give_back();
        assert!(pool.lease(&Again::default(), PATIENCE).await.unwrap().used);
        let kept = pool.open(PATIENCE).await.unwrap();
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
