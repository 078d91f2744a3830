//! The schema says what the loader says, as far as a schema can.

use std::{fs, path::PathBuf};

use serde_json::Value;

use super::{super::*, Folder, PROVIDER, ROUTE, reference};

fn json(toml: &str) -> Value {
    toml::from_str(toml).unwrap()
}

/// What is wrong with a file, where and why.
fn complaints(toml: &str) -> Vec<String> {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    let file = json(toml);
    let errors = schema.iter_errors(&file);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn the_reference_with_every_key_and_every_shipped_file_fit_the_schema() {
    let none: [String; 0] = [];
    assert_eq!(complaints(&reference::with_every_key()), none);
    let shipped = ["config", "deploy"].map(|folder| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder));
    let files = shipped.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let files: Vec<_> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        assert_eq!(
            complaints(&fs::read_to_string(&file).unwrap()),
            none,
            "{}",
            file.display()
        );
    }
}

#[test]
fn what_the_loader_refuses_for_its_shape_the_schema_refuses_too() {
    let folder = Folder::new();
    let good = format!("{PROVIDER}{ROUTE}");
    assert!(folder.parse(&good).is_ok() && complaints(&good).is_empty());
    for (more, place) in [
        ("[server]\nlisten = 1", "/server/listen"),
        ("[server]\nlisten = []", "/server/listen"),
        ("[server]\nlimits = { header_count = 5 }", "/server/limits/header_count"),
        ("[session]\nstore = \"disk\"", "/session/store"),
        ("[session]\nstor = \"cookie\"", "/session"),
        ("[route.x]\nurl = \"https://x\"", "/route/x"),
        ("[[test]]\nrequest = \"GET https://x\"", "/test/0"),
        ("[route.wiki.allow]\ngroups = \"staff\"", "/route/wiki/allow/groups"),
    ] {
        let text = format!("{good}{more}\n");
        assert!(folder.parse(&text).is_err(), "{more}");
        let complaints = complaints(&text);
        assert!(
            complaints
                .iter()
                .any(|complaint| complaint.starts_with(&format!("{place}: "))),
            "{more}: {complaints:?}"
        );
    }
}

#[test]
fn what_the_schema_requires_the_loader_requires() {
    let schema = schema();
    let mut required = Vec::new();
    collect(&schema, &mut required);
    assert!(required.contains(&"issuer".to_owned()) && required.contains(&"upstream".to_owned()));
    for key in required {
        let line = |line: &&str| !line.trim_start().starts_with(&format!("{key} ="));
        let text: String = reference::with_every_key()
            .lines()
            .filter(line)
            .map(|line| format!("{line}\n"))
            .collect();
        // Some stand in a table within a line.
        let text = text
            .replace(&format!("{key} = \"the"), "_ = \"the")
            .replace(&format!("{key} = \"2027"), "_ = \"2027");
        let problems = Folder::new().parse(&text).unwrap_err().to_string();
        assert!(problems.contains(&format!("`{key}` is missing")), "{key}: {problems}");
    }
}

fn collect(schema: &Value, required: &mut Vec<String>) {
    let Value::Object(members) = schema else { return };
    if let Some(Value::Array(keys)) = members.get("required") {
        required.extend(keys.iter().map(|key| key.as_str().unwrap().to_owned()));
    }
    members.values().for_each(|member| collect(member, required));
}

#[test]
fn a_key_has_its_comment() {
    let issuer = &schema()["properties"]["provider"]["additionalProperties"]["properties"]["issuer"];
    assert_eq!(
        issuer["description"],
        "The issuer identifier, byte by byte as in the metadata (RFC 8414 §2)."
    );
}
