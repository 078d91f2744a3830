//! Programs that a test needs and a machine may lack.

use std::process::{Command, Stdio};

/// Whether all of them are there. Where one is not, says loudly what is left out and how to install it; where
/// `VESTIBULE_TESTS=all` asks for everything, fails instead.
pub fn installed(programs: &[&str], install: &str) -> bool {
    let there = |program: &&str| {
        Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    };
    let Some(absent) = programs.iter().find(|program| !there(program)) else {
        return true;
    };
    let complaint = format!("`{absent}` is not installed; install it with: {install}");
    assert!(
        std::env::var_os("VESTIBULE_TESTS").is_none_or(|which| which != "all"),
        "{complaint}"
    );
    // Straight to the terminal: what a passing test prints is captured and would not be seen.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("\nLEFT OUT: {complaint}\n").as_bytes());
    false
}
