//! What the papers say must be so: links lead somewhere, and files that are shipped load.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

#[test]
fn every_relative_link_leads_to_a_file() {
    let papers = files(root(), "md");
    assert!(papers.iter().any(|paper| paper.ends_with("README.md")), "{papers:?}");
    let dead: Vec<String> = papers.iter().flat_map(|paper| dead_links(paper)).collect();
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn every_shipped_configuration_loads() {
    let shipped = ["config", "deploy"].map(|folder| files(&root().join(folder), "toml"));
    // The reference names every secret there could be; a test beside its code fills them in.
    let shipped = shipped
        .iter()
        .flatten()
        .filter(|file| !file.ends_with("reference.toml"));
    let refused: Vec<_> = shipped.filter(|file| !check(file).status.success()).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// The shipped files say themselves what they are for.
#[test]
fn every_test_of_a_shipped_configuration_holds() {
    let demo = root().join("config/demo.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    let answer = command.args(["test", "--config"]).arg(&demo).output().unwrap();
    let said = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success() && said.matches("ok  ").count() >= 5, "{said}");
}

/// What somebody who reads the README writes down loads as it stands, and so does what it adds further down.
#[test]
fn the_configuration_of_the_readme_loads() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks: Vec<&str> = readme
        .split("```toml\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .collect();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("client"), "s3cret\n").unwrap();
    let file = folder.path().join("vestibule.toml");
    for count in 1..=blocks.len() {
        let text = blocks[..count].concat().replace("/run/secrets/client", "client");
        fs::write(&file, &text).unwrap();
        let answer = check(&file);
        assert!(
            answer.status.success(),
            "{text}\n{}",
            String::from_utf8_lossy(&answer.stderr)
        );
    }
    assert_eq!(blocks.len(), 2);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn check(file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command.args(["check", "--config"]).arg(file).output().unwrap()
}

/// The files of a folder and all below it that are part of the project.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found
}

fn dead_links(paper: &Path) -> Vec<String> {
    let text = fs::read_to_string(paper).unwrap();
    let prose: String = text.split("```").step_by(2).collect();
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let relative = targets.filter(|target| !target.contains("://"));
    let leads = |target: &&str| {
        let (file, _) = target.split_once('#').unwrap_or((target, ""));
        file.is_empty() || paper.parent().unwrap().join(file).exists()
    };
    relative
        .filter(|target| !leads(target))
        .map(|target| format!("{}: {target}", paper.display()))
        .collect()
}
