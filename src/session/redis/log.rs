//! The log of endings: who reads it from where they stopped knows all of them, in order.

use std::{sync::Arc, time::Duration};

use super::{
    keys::{self, Keys, from_hex, hex},
    line::{Again, Line},
    millis,
};
use crate::{secret::Fingerprint, session::store::StoreError, time::Timestamp};

/// One key of one server, so that there is one order, in a cluster too.
#[derive(Clone, Debug)]
pub(super) struct Log {
    line: Arc<Line>,
    key: Arc<str>,
}

/// That what began until `at` has ended under an index, for as long as it could live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) index: Fingerprint,
    pub(super) at: Timestamp,
    pub(super) life: Duration,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    Beginning,
    /// With what stands at this place.
    At(i64),
    After(i64),
}

/// What stands in the log at a place; nothing when a later release wrote it.
pub(super) type Entry = (i64, Option<Ending>);

/// More than this at once would keep the server busy.
pub(super) const PAGE: usize = 1_000;
/// As many as a replica remembers.
const LIMIT: usize = 100_000;

impl Log {
    pub(super) fn new(line: Arc<Line>, keys: &Keys) -> Self {
        let key = keys.log().into();
        Self { line, key }
    }

    /// Tells all replicas of an ending; what is older than its life is forgotten.
    pub(super) async fn tell(&self, ending: Ending) -> Result<(), StoreError> {
        self.write(&[ending], millis(ending.life)).await
    }

    /// Tells of endings that the log has lost.
    pub(super) async fn restore(&self, endings: &[Ending]) -> Result<(), StoreError> {
        for some in endings.chunks(PAGE) {
            self.write(some, 0).await?;
        }
        Ok(())
    }

    async fn write(&self, endings: &[Ending], over_after: i64) -> Result<(), StoreError> {
        let write = |mut link| async move {
            let mut script = keys::TELL.key(&*self.key);
            script.arg(LIMIT).arg(over_after);
            for Ending { index, at, life } in endings {
                script.arg(hex(index)).arg(at.unix()).arg(millis(*life));
            }
            script.invoke_async(&mut link).await
        };
        self.line.ask(Again::Always, write).await
    }

    /// At most [`PAGE`] entries, in order.
    pub(super) async fn read(&self, from: From) -> Result<Vec<Entry>, StoreError> {
        let read = |mut link| async move {
            let mut script = keys::READ.key(&*self.key);
            script.arg(LIMIT).arg(from.to_string()).arg(PAGE);
            let answer: (i64, Vec<(String, i64)>) = script.invoke_async(&mut link).await?;
            Ok(answer)
        };
        let (now, entries) = self.line.ask(Again::Always, read).await?;
        Ok(entries
            .into_iter()
            .map(|(text, place)| (place, ending(&text, now)))
            .collect())
    }
}

fn ending(text: &str, now: i64) -> Option<Ending> {
    let mut words = text.split(' ');
    let index = from_hex(words.next()?)?;
    let at = Timestamp::from_unix(words.next()?.parse().ok()?);
    let over: i64 = words.next()?.parse().ok()?;
    let life = u64::try_from(over.saturating_sub(now)).unwrap_or(0);
    Some(Ending {
        index,
        at,
        life: Duration::from_millis(life),
    })
}

impl std::fmt::Display for From {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Beginning => f.write_str("-inf"),
            Self::At(place) => write!(f, "{place}"),
            Self::After(place) => write!(f, "({place}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::random_bytes;

    #[test]
    fn an_ending_is_read_with_what_is_left_of_its_life() {
        let index = Fingerprint::from_bytes(random_bytes());
        let text = format!("{} -7 9000", hex(&index));
        let read = ending(&text, 4_000).unwrap();
        assert_eq!((read.index, read.at.unix(), read.life.as_secs()), (index, -7, 5));
        assert_eq!(ending(&text, 9_001).unwrap().life, Duration::ZERO);
    }

    #[test]
    fn what_makes_no_sense_is_no_ending() {
        let index = hex(&Fingerprint::from_bytes(random_bytes()));
        for text in [
            "",
            "x 1 2",
            &index,
            &format!("{index} 1"),
            &format!("{index} a 1"),
            &format!("{index} 1 b"),
        ] {
            assert_eq!(ending(text, 0), None, "{text}");
        }
    }
}
