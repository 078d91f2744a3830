//! How long and how much: durations and sizes, with their units.

use std::time::Duration;

use super::read::{FromText, Wrong, wrong};
use crate::{time::duration, upstream::assertion::LONGEST_LIFE};

/// A length of time; no longer than a year, so that no arithmetic on it can overflow.
impl FromText for Duration {
    const EXAMPLE: &'static str = "\"30s\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let instead =
            "write a number and a unit, like \"250ms\", \"30s\", \"5m\", \"1h30m\" or \"7d\"; at most \"366d\"";
        let bad = || wrong(format!("is not a duration: \"{text}\""), instead);
        let longest = Self::from_secs(366 * 86_400);
        duration::read(text)
            .filter(|duration| *duration <= longest)
            .ok_or_else(bad)
    }
}

/// A limit of a wait: longer than nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeout(pub(super) Duration);

impl FromText for Timeout {
    const EXAMPLE: &'static str = "\"30s\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let duration = Duration::from_text(text)?;
        let instead = "a wait needs a limit: write one like \"30s\"";
        (!duration.is_zero())
            .then_some(Self(duration))
            .ok_or_else(|| wrong("leaves no time at all", instead))
    }
}

/// How often somebody is asked whether they are well.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckInterval(pub(super) Duration);

impl FromText for CheckInterval {
    const EXAMPLE: &'static str = "\"10s\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let duration = Duration::from_text(text)?;
        (duration >= Duration::from_millis(50))
            .then_some(Self(duration))
            .ok_or_else(|| wrong("asks too often", "write \"50ms\" or more; \"10s\" is usual"))
    }
}

/// How long ago a login may be: a minute at least, for it takes its time to come back from one.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoginAge(pub(super) Duration);

impl FromText for LoginAge {
    const EXAMPLE: &'static str = "\"15m\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let duration = Duration::from_text(text)?;
        (duration >= Duration::from_secs(60))
            .then_some(Self(duration))
            .ok_or_else(|| wrong("is shorter than a login takes", "write \"1m\" or more"))
    }
}

/// How long a signed assertion is good.
#[derive(Clone, Copy, Debug)]
pub(super) struct AssertionLife(pub(super) Duration);

impl FromText for AssertionLife {
    const EXAMPLE: &'static str = "\"60s\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let duration = Duration::from_text(text)?;
        (Duration::from_secs(10)..=LONGEST_LIFE)
            .contains(&duration)
            .then_some(Self(duration))
            .ok_or_else(|| wrong("is no life for an assertion", "write \"10s\" to \"60s\""))
    }
}

/// How far two clocks may differ: 120 seconds at most (N-075).
#[derive(Clone, Copy, Debug)]
pub(super) struct Skew(pub(super) Duration);

impl FromText for Skew {
    const EXAMPLE: &'static str = "\"30s\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let duration = Duration::from_text(text)?;
        (duration <= Duration::from_secs(120))
            .then_some(Self(duration))
            .ok_or_else(|| {
                wrong(
                    "is more than a clock may be off",
                    "write \"120s\" or less, and mind the clock",
                )
            })
    }
}

/// A number of bytes between two limits, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<const MIN: u64, const MAX: u64> Size<MIN, MAX> {
    pub(super) fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> FromText for Size<MIN, MAX> {
    const EXAMPLE: &'static str = "\"32KiB\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let size = size(text).ok_or_else(|| {
            let instead = "write a number and a unit, like \"512B\", \"32KiB\", \"10MiB\" or \"1GiB\"";
            wrong(format!("is not a size: \"{text}\""), instead)
        })?;
        (MIN..=MAX)
            .contains(&size)
            .then_some(Self(size))
            .ok_or_else(|| wrong("is out of range", format!("write a size from \"{MIN}B\" to \"{MAX}B\"")))
    }
}

fn size(text: &str) -> Option<u64> {
    let (number, unit) = duration::leading_number(text)?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_sum_of_numbers_with_units() {
        let seconds = |text| Duration::from_text(text).map(|duration| duration.as_secs()).ok();
        assert_eq!(seconds("30s"), Some(30));
        assert_eq!(seconds("1h30m"), Some(5_400));
        assert_eq!(seconds("7d"), Some(604_800));
        assert_eq!(seconds("0s"), Some(0));
        for bad in [
            "",
            "30",
            "s",
            "30 s",
            "-5s",
            "1.5h",
            "5y",
            "367d",
            "99999999999999999999s",
            "30s x",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_size_has_a_binary_unit() {
        let bytes = |text| Size::<1, { 1 << 40 }>::from_text(text).map(|size| size.0).ok();
        assert_eq!(bytes("512B"), Some(512));
        assert_eq!(bytes("32KiB"), Some(32 * 1024));
        for bad in [
            "",
            "32",
            "32kB",
            "KiB",
            "0B",
            "99999999999999999999GiB",
            "18446744073709551615KiB",
        ] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
