//! Names of which somebody must have one, arranged for people who have hundreds.

use std::{fmt, ops::Deref};

/// A list of names that is quick to ask whether it has one of many others: a few nanoseconds for each, however long it is.
#[derive(Clone, Default)]
pub struct Names {
    names: Vec<Box<str>>,
    /// Places in `names`, from 1, where their prints say; 0: nothing. At least three quarters are free.
    slots: Vec<u32>,
}

impl Names {
    /// Whether one of these is in the list.
    pub(super) fn has_any(&self, held: &[Box<str>]) -> bool {
        held.iter().any(|name| self.has(name))
    }

    fn has(&self, name: &str) -> bool {
        let mut places = probes(name, self.slots.len()).map_while(|slot| self.name_at(slot));
        places.any(|listed| *listed == *name)
    }

    fn name_at(&self, slot: usize) -> Option<&str> {
        let place = usize::try_from(*self.slots.get(slot)?).ok()?.checked_sub(1)?;
        self.names.get(place).map(|name| &**name)
    }
}

impl From<Vec<Box<str>>> for Names {
    fn from(names: Vec<Box<str>>) -> Self {
        let size = match names.len() {
            0 => 0,
            count => count.saturating_mul(4).next_power_of_two(),
        };
        let mut slots = vec![0; size];
        for (name, place) in names.iter().zip(1..) {
            let is_free = |slot: &usize| slots.get(*slot) == Some(&0);
            let free = probes(name, size).find(is_free);
            if let Some(slot) = free.and_then(|slot| slots.get_mut(slot)) {
                *slot = place;
            }
        }
        Self { names, slots }
    }
}

/// The slots where a name may stand: first its own, then all that follow it; `size` is zero or a power of two.
fn probes(name: &str, size: usize) -> impl Iterator<Item = usize> {
    let last = size.wrapping_sub(1);
    // The upper half is what the multiplication has mixed.
    let own = usize::try_from(print(name) >> 32).unwrap_or_default();
    (0..size).map(move |step| own.wrapping_add(step) & last)
}

/// Names of groups differ at their ends, whichever it is. Nothing is lost but time where they do not.
fn print(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (
            0,
            bytes.iter().fold(0, |print: u64, byte| print << 8 | u64::from(*byte)),
        ),
    };
    let length = u64::try_from(bytes.len()).unwrap_or_default();
    let ends = last ^ first.rotate_left(27) ^ length;
    // The last letters stand highest, and a multiplication carries upwards only.
    (ends ^ (ends >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Deref for Names {
    type Target = [Box<str>];

    fn deref(&self) -> &Self::Target {
        &self.names
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.names.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_has_what_a_plain_list_has(
            listed in prop::collection::vec("[ab]{0,3}(team-|/wiki/)?[ab]{0,9}", 0..40),
            held in prop::collection::vec("[ab]{0,3}(team-|/wiki/)?[ab]{0,9}", 0..40),
        ) {
            let boxed = |list: &[String]| list.iter().map(|name| name.as_str().into()).collect::<Vec<Box<str>>>();
            let names = Names::from(boxed(&listed));
            let held = boxed(&held);
            prop_assert_eq!(names.has_any(&held), held.iter().any(|name| names.contains(name)));
            prop_assert!(listed.iter().all(|name| names.has(name)));
        }
    }
}
