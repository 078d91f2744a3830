//! Sockets: accept, limits, drain; the admin listener.

mod listen;
mod patience;

use std::{net::SocketAddr, time::Duration};

/// The `[server]` and `[admin]` tables, as far as sockets are concerned.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: Vec<SocketAddr>,
    /// Absent: no admin listener.
    pub admin: Option<SocketAddr>,
    /// Threads that serve, each with its own listener; at least 1.
    pub workers: usize,
    pub limits: Limits,
    /// How long new connections are still taken after SIGTERM, while `/readyz` already says no.
    pub drain_delay: Duration,
    /// How long requests under way may take to finish.
    pub drain_timeout: Duration,
}

/// The `[server.limits]` table.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections of all workers; more wait in the kernel's queue.
    pub connections: usize,
    /// The head of a request, in bytes.
    pub header_bytes: usize,
    /// Fields in the head of a request.
    pub header_count: usize,
    /// The longest request target, in bytes.
    pub target_bytes: usize,
    /// From connecting, or from the end of the last response, to the first byte of a request.
    pub keep_alive: Duration,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// Between two pieces of a request body.
    pub body_idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_bytes: 32 * 1024,
            header_count: 100,
            target_bytes: 8 * 1024,
            keep_alive: Duration::from_secs(75),
            header_timeout: Duration::from_secs(15),
            body_idle_timeout: Duration::from_secs(30),
        }
    }
}
