//! What to say about a word that the vocabulary does not have.

use super::{
    file::File,
    read::{Read, Wrong, wrong},
};

/// Keys that the vocabulary reserves and this version does not know, as paths with `*` for names.
const RESERVED: &[&str] = &[
    "include",
    "telemetry",
    "log.audit_file",
    "provider.*.private_key_file",
    "provider.*.assertion_file",
    "provider.*.tls",
    "provider.*.response_type",
    "provider.*.response_mode",
    "provider.*.pkce",
    "provider.*.par",
    "provider.*.basic",
    "provider.*.bearer.recheck_jwt",
    "provider.*.bearer.introspection_accept",
    "provider.*.bearer.dpop",
    "provider.*.bearer.mtls",
    "route.*.upstream_token",
];

/// What to say about a key that its table does not have.
pub(super) fn unknown_key(key: &str, path: &str, known: &[&str]) -> Wrong {
    if RESERVED.contains(&path) {
        return wrong("this version does not support", "leave it out");
    }
    let instead = match (nearest(key, known), home_of(key)) {
        (Some(near), _) => format!("write `{near}`"),
        (None, Some(table)) => format!("`{key}` belongs in [{table}]"),
        (None, None) => format!("the keys here are {}", listed(known, '`')),
    };
    wrong("unknown key", instead)
}

/// What to say about a word that its list does not have.
pub(super) fn unknown_word(word: &str, known: &[&str]) -> Wrong {
    let instead = match (nearest(word, known), known) {
        (Some(near), _) => format!("write \"{near}\""),
        (None, [only]) => format!("this version knows \"{only}\" only"),
        (None, _) => format!("write one of {}", listed(known, '"')),
    };
    wrong(format!("cannot be \"{word}\""), instead)
}

/// The word that was probably meant: at most a third of it is different.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|candidate| (distance(word, candidate), *candidate));
    let (distance, candidate) = near.min()?;
    (distance <= candidate.len().div_ceil(3).min(3) && distance < candidate.len()).then_some(candidate)
}

fn listed(words: &[&str], quote: char) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{quote}{word}{quote}")).collect();
    quoted.join(", ")
}

/// The first table that has a key of this name.
fn home_of(key: &str) -> Option<String> {
    File::keys_below("").iter().find_map(|path| {
        let table = path.strip_suffix(key)?.strip_suffix('.')?;
        Some(table.replace('*', "NAME"))
    })
}

/// How many characters must be added, removed, replaced or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    strsim::osa_distance(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_reserved_that_is_known() {
        let known = File::keys_below("");
        for reserved in RESERVED {
            let is_it = |known: &&String| {
                let below = known.strip_prefix(reserved);
                below.is_some_and(|below| below.is_empty() || below.starts_with('.'))
            };
            assert_eq!(known.iter().find(is_it), None, "{reserved}");
        }
    }
}
