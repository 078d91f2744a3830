//! Where sessions are kept when the browser holds no more than a ticket.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use tokio::sync::broadcast;

use crate::{secret::Fingerprint, time::Timestamp};

/// A session as a store sees it: nothing in it can be read without a key that the store does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// One more with every change.
    pub version: u64,
    /// Opens with the ticket that only the browser has.
    pub sealed: Bytes,
    /// Opens with the gateway's keys: what an administrator is shown.
    pub label: Bytes,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    Done,
    /// Somebody else was faster.
    Changed,
    /// The session has ended.
    Gone,
}

/// Sessions that have just ended, on whatever replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Session(Box<str>),
    /// All that began before, under an index: those of a person, or of a session at the provider.
    Before {
        index: Fingerprint,
        at: Timestamp,
    },
    /// Some may have, and nobody could tell: who holds on to a session has to look.
    Unheard,
}

/// Some sessions that a store keeps, with their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub found: Vec<(Box<str>, Bytes)>,
    /// Whether those are all.
    pub complete: bool,
}

/// Why a store does not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the session store cannot be reached: {0}")]
    Unavailable(String),
    #[error("the session store takes too long")]
    TimedOut,
}

/// An answer that has to be waited for.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Whether a session of this label is counted.
pub type Counts<'a> = &'a (dyn Fn(&[u8]) -> bool + Send + Sync);

/// A place for sessions; every implementation passes the same tests.
///
/// A `life` is how long something is kept at most. All sessions of a replica are in one store.
pub trait SessionStore: Send + Sync + fmt::Debug {
    /// Keeps a new session, findable under its `indices`.
    fn create<'a>(&'a self, id: &'a str, record: Record, indices: &'a [Fingerprint], life: Duration) -> Answer<'a, ()>;

    fn read<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Record>>;

    /// Replaces a session that is still at the version that was `seen`.
    fn replace<'a>(&'a self, id: &'a str, seen: u64, record: Record, life: Duration) -> Answer<'a, Replaced>;

    /// Makes a session findable for so long under these indices, in place of those before; says whether there is one.
    fn index<'a>(&'a self, id: &'a str, indices: &'a [Fingerprint], life: Duration) -> Answer<'a, bool>;

    /// Ends a session everywhere; says whether there was one.
    fn end<'a>(&'a self, id: &'a str) -> Answer<'a, bool>;

    /// Ends all sessions under an index, and those that browsers hold themselves and that began before `at`.
    ///
    /// Says how many were found; `life` is the longest life of those that cannot be found.
    fn end_all<'a>(&'a self, index: &'a Fingerprint, at: Timestamp, life: Duration) -> Answer<'a, usize>;

    /// Since when sessions under any of these indices have ended.
    fn ended_at<'a>(&'a self, indices: &'a [Fingerprint]) -> Answer<'a, Option<Timestamp>>;

    /// Whether it is sure, and known without waiting, that none under these indices have ended; every request asks.
    fn none_ended(&self, indices: &[Fingerprint]) -> bool;

    /// Some sessions and their labels, at most `limit`.
    fn list(&self, limit: usize) -> Answer<'_, Listing>;

    /// How many sessions have a label that is counted; `None` when there are too many to look at all.
    fn count<'a>(&'a self, is_counted: Counts<'a>) -> Answer<'a, Option<usize>>;

    /// Takes the one right to refresh a session for so long, unless somebody else has it.
    fn lock<'a>(&'a self, id: &'a str, holder: &'a str, life: Duration) -> Answer<'a, bool>;

    /// Gives the right back, if it is still this holder's.
    fn unlock<'a>(&'a self, id: &'a str, holder: &'a str) -> Answer<'a, ()>;

    /// Whether something is seen for the first time in so long.
    fn first_use<'a>(&'a self, what: &'a Fingerprint, life: Duration) -> Answer<'a, bool>;

    /// Whether something was seen before, without seeing it.
    fn is_used<'a>(&'a self, what: &'a Fingerprint) -> Answer<'a, bool>;

    /// Tells of sessions as they end; who listens too slowly misses some and has to look.
    fn endings(&self) -> broadcast::Receiver<Ended>;
}
