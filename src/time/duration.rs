//! Lengths of time as people write them: numbers with units.

use std::{fmt, time::Duration};

/// The sum of numbers with units, like `1h30m`; `None` for anything else.
pub fn read(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = leading_number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(end)?;
        sum = sum.checked_add(match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3_600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            _ => return None,
        })?;
        rest = next;
    }
    Some(sum)
}

/// The number that a text begins with, and the rest.
pub fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

/// A length of time in its two largest units, whole seconds, as [`read`] takes it.
#[derive(Clone, Copy, Debug)]
pub struct Shown(pub Duration);

const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let largest = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(3);
        let mut rest = seconds;
        let mut text = String::new();
        for (unit, name) in UNITS.iter().skip(largest).take(2) {
            let count = rest.checked_div(*unit).unwrap_or(0);
            rest = rest.checked_rem(*unit).unwrap_or(0);
            if count > 0 || text.is_empty() {
                text.push_str(&format!("{count}{name}"));
            }
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_its_two_largest_units() {
        let shown = |seconds| Shown(Duration::from_secs(seconds)).to_string();
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(59), "59s");
        assert_eq!(shown(60), "1m");
        assert_eq!(shown(5_430), "1h30m");
        assert_eq!(shown(3_605), "1h");
        assert_eq!(shown(187_200), "2d4h");
    }

    #[test]
    fn what_is_shown_is_read() {
        for seconds in [0, 61, 7_260, 100_800] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(read(&Shown(duration).to_string()), Some(duration));
        }
    }
}
