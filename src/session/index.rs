//! Which sessions of this process stand under an index.

use std::{
    collections::BTreeSet,
    mem::size_of,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::secret::Fingerprint;

/// Ids of sessions by what they are found under: there as long as their session is, and no longer.
///
/// One ordered set instead of a set for each index, because most indices have one session.
#[derive(Debug, Default)]
pub(super) struct Index(Mutex<BTreeSet<Entry>>);

type Entry = (Fingerprint, Arc<str>);

/// What an entry takes: a node of the tree is two thirds full.
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>() * 3 / 2;

impl Index {
    pub(super) fn insert(&self, id: &Arc<str>, indices: &[Fingerprint]) {
        self.lock().extend(indices.iter().map(|index| (*index, id.clone())));
    }

    pub(super) fn remove(&self, id: &Arc<str>, indices: &[Fingerprint]) {
        let mut entries = self.lock();
        for index in indices {
            entries.remove(&(*index, id.clone()));
        }
    }

    /// At most so many ids under an index, in order, that come after one of them.
    pub(super) fn some(&self, index: &Fingerprint, after: &Arc<str>, limit: usize) -> Vec<Arc<str>> {
        let from = Bound::Excluded((*index, after.clone()));
        let entries = self.lock();
        let those = entries.range((from, Bound::Unbounded));
        let those = those.take_while(|(other, _)| other == index).take(limit);
        those.map(|(_, id)| id.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Index {
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}
