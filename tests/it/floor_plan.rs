//! A room imports only from floors below its own; rooms on one floor are strangers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The floors, the ground first.
const FLOORS: [&[&str]; 9] = [
    &["time", "secret", "trust", "certificate", "telemetry"],
    &["identity"],
    &["oauth", "policy"],
    &["provider", "upstream", "session"],
    &["gateway"],
    &["server"],
    &["config"],
    &["demo"],
    &["cli", "main", "lib"],
];

/// Crates that few places may know.
const KEPT_TO: [(&str, &[&str]); 6] = [
    ("jsonwebtoken", &["oauth/jwt.rs"]),
    ("hyper_rustls", &["provider/transport.rs"]),
    // One for each direction.
    ("tokio_rustls", &["upstream/dial.rs", "server/tls/"]),
    ("cel", &["policy/expression"]),
    ("toml", &["config/"]),
    ("x509_parser", &["certificate.rs"]),
];

/// What the pure rooms never mention: waiting, sending, clocks and randomness.
const IMPURE: [&str; 8] = [
    "tokio",
    "hyper",
    "async fn",
    "SystemClock",
    "random_",
    "Instant",
    "std::net::Tcp",
    "std::fs",
];

#[test]
fn rooms_import_only_from_below() {
    let floor: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, rooms)| rooms.iter().map(move |room| (*room, floor)))
        .collect();
    for (file, text) in sources() {
        let room = room_of(&file);
        let own = *floor
            .get(room.as_str())
            .unwrap_or_else(|| panic!("{room} stands on no floor"));
        for used in rooms_in(&text) {
            if used == room {
                continue;
            }
            let Some(theirs) = floor.get(used.as_str()) else {
                continue;
            };
            assert!(
                *theirs < own,
                "{}: {room} (floor {}) imports {used} (floor {})",
                file.display(),
                own + 1,
                theirs + 1
            );
        }
    }
}

#[test]
fn some_crates_are_known_in_one_place_only() {
    for (file, text) in sources() {
        let name = file.display().to_string();
        for (library, places) in KEPT_TO {
            let knows = text.contains(&format!("{library}::"));
            assert!(
                !knows || places.iter().any(|place| name.contains(place)),
                "{name} knows {library}, which is for {places:?}"
            );
        }
    }
}

#[test]
fn the_pure_rooms_are_pure() {
    for (file, text) in sources() {
        if !matches!(room_of(&file).as_str(), "oauth" | "policy" | "identity") {
            continue;
        }
        for word in IMPURE {
            assert!(!text.contains(word), "{} mentions {word}", file.display());
        }
    }
}

/// All files and what they say outside their tests.
fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 50, "only {} files", files.len());
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            (path, code)
        })
        .collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && name != "tests" {
            collect(&path, files);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
}

fn room_of(file: &Path) -> String {
    let inside = file
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    let first = inside.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms that `crate::…` leads to, also from within `use crate::{…}`.
fn rooms_in(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for after in text.split("crate::").skip(1) {
        let Some(list) = after.strip_prefix('{') else {
            rooms.push(word(after));
            continue;
        };
        let mut depth = 0_usize;
        let mut start = 0;
        for (index, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    rooms.push(word(&list[start..index]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    rooms.push(word(&list[start..index]));
                    start = index + 1;
                }
                _ => {}
            }
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

fn word(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}
