//! Programs that a test needs and a machine may lack.

use std::process::{Command, Stdio};

/// The Python that Debian installs modules for.
pub const PYTHON: &str = "/usr/bin/python3";

/// Whether all of them are there. Where one is not, says loudly what is left out and how to install it; where
/// `VESTIBULE_TESTS=all` asks for everything, fails instead.
pub fn installed(programs: &[&str], install: &str) -> bool {
    let there = |program: &&str| quietly(Command::new(program).arg("--version")).is_ok();
    match programs.iter().find(|program| !there(program)) {
        Some(absent) => left_out(absent, install),
        None => true,
    }
}

/// The same for a module of Python.
pub fn module_installed(module: &str, install: &str) -> bool {
    let import = quietly(Command::new(PYTHON).args(["-c", &format!("import {module}")]));
    match import.is_ok_and(|status| status.success()) {
        true => true,
        false => left_out(&format!("{PYTHON}: {module}"), install),
    }
}

/// The same for a file that a package brings.
pub fn file_installed(path: &str, install: &str) -> bool {
    std::path::Path::new(path).exists() || left_out(path, install)
}

fn quietly(command: &mut Command) -> std::io::Result<std::process::ExitStatus> {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status()
}

fn left_out(absent: &str, install: &str) -> bool {
    let complaint = format!("`{absent}` is not installed; install it with: {install}");
    assert!(
        std::env::var_os("VESTIBULE_TESTS").is_none_or(|which| which != "all"),
        "{complaint}"
    );
    // Straight to the terminal: what a passing test prints is captured and would not be seen.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("\nLEFT OUT: {complaint}\n").as_bytes());
    false
}
