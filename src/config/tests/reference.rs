//! The reference is checked against the code both ways.

use std::collections::BTreeSet;

use toml::de::DeValue;

use super::{
    super::{read::Read, *},
    Folder,
};

pub(super) const REFERENCE: &str = include_str!("../../../config/reference.toml");

/// The reference with every key in it: a `#` without a blank after it is taken away.
pub(super) fn with_every_key() -> String {
    let uncommented = |line: &'static str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[') => rest,
        _ => line,
    };
    REFERENCE
        .lines()
        .map(|line| format!("{}\n", uncommented(line)))
        .collect()
}

/// The paths of all values, with `*` for names.
fn paths(table: &DeTable<'_>, path: &[&str], found: &mut BTreeSet<String>) {
    const MAPS: [&str; 10] = [
        "route.*.request_headers.add",
        "route.*.request_headers.set",
        "route.*.response_headers.add",
        "route.*.response_headers.set",
        "provider.*.authorization_params",
        "route.*.identity.headers",
        "route.*.allow.claims",
        "route.*.deny.claims",
        "test.as",
        "test.upstream_headers",
    ];
    for (key, node) in table.iter() {
        let key: &str = key.get_ref();
        let key = if matches!(path, ["provider"] | ["route"]) {
            "*"
        } else {
            key
        };
        let path = [path, &[key]].concat();
        let shown = path.join(".");
        match node.get_ref() {
            DeValue::Table(_) if MAPS.contains(&&*shown) => drop(found.insert(shown)),
            DeValue::Table(table) => paths(table, &path, found),
            DeValue::Array(list) => match list.iter().next().map(|node| node.get_ref()) {
                Some(DeValue::Table(table)) => paths(table, &path, found),
                _ => drop(found.insert(shown)),
            },
            _ => drop(found.insert(shown)),
        }
    }
}

fn load_reference(text: &str) -> Result<Settings, Problems> {
    let folder = Folder::new().with("client.secret", "s3cret\n");
    folder.parse(text)
}

#[test]
fn the_reference_loads() {
    let settings = load_reference(REFERENCE)
        .map_err(|problems| problems.to_string())
        .unwrap();
    assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
}

#[test]
fn the_reference_has_every_key_of_the_code_and_no_other() {
    let text = with_every_key();
    let mut written = BTreeSet::new();
    paths(DeTable::parse(&text).unwrap().get_ref(), &[], &mut written);
    let known = file::File::keys_below("").into_iter().collect();
    let missing: Vec<&String> = BTreeSet::difference(&known, &written).collect();
    let extra: Vec<&String> = BTreeSet::difference(&written, &known).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:?}, unknown {extra:?}"
    );
}

#[test]
fn every_key_of_the_reference_has_a_value_of_its_type() {
    let text = with_every_key();
    let mut findings = Findings::default();
    let file = document(&text, &mut findings);
    assert!(
        file.is_some() && !findings.has_problems(),
        "{}",
        findings.explain("reference.toml", &text).0
    );
}

#[test]
fn the_values_of_the_reference_are_the_defaults() {
    const REQUIRED: [&str; 6] = [
        "issuer",
        "client_id",
        "client_secret_file",
        "audiences",
        "url",
        "upstream",
    ];
    let required = |line: &&str| line.starts_with('[') || REQUIRED.contains(&line.split(' ').next().unwrap_or(""));
    let tables = |line: &&str| !line.starts_with("[route.wiki.identity");
    let least: String = REFERENCE
        .lines()
        .filter(required)
        .filter(tables)
        .map(|line| format!("{line}\n"))
        .collect();
    let text = |file: &str| {
        let mut settings = load_reference(file).map_err(|problems| problems.to_string()).unwrap();
        settings.warnings.clear();
        settings.advice.clear();
        settings.session.keys.clear();
        format!("{settings:#?}")
    };
    let (least, reference) = (text(&least), text(REFERENCE));
    for (default, written) in least.lines().zip(reference.lines()) {
        assert_eq!(default, written);
    }
    assert_eq!(least.len(), reference.len());
}
