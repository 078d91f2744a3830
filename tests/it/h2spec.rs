//! What h2spec, a suite of others, finds of RFC 9113 and RFC 7541 in the gateway.

use std::{
    io::{self, Write},
    path::Path,
    process::Command,
};

use crate::support::{authority::Authority, house::House, programs::installed};

/// Where `tests/run` builds it.
const H2SPEC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/h2spec");

/// The cases that fail, in the words of h2spec.
async fn failures(house: &House, flags: &[&str]) -> Vec<String> {
    let mut command = Command::new(H2SPEC);
    command
        .args(["--host", "localhost", "--port", &house.address.port().to_string()])
        .args(["--path", "/public/", "--timeout", "5", "--strict"])
        .args(flags);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("146 tests, "), "{text}{stderr}");
    // It writes what fails below this, and then how many there were.
    let (_, told) = text.split_once("Failures:").unwrap_or_default();
    let failed = told.lines().filter(|line| line.trim_start().starts_with('×'));
    failed.map(|line| line.trim().to_owned()).collect()
}

/// Without Go it cannot be built: then this is left out, loudly, also where everything is asked for.
fn h2spec_is_installed() -> bool {
    if !Path::new(H2SPEC).exists() && Command::new("go").arg("version").output().is_err() {
        // Straight to the terminal, past what captures a passing test.
        let _ = writeln!(io::stderr(), "\nLEFT OUT: h2spec, for there is no Go to build it");
        return false;
    }
    installed(
        &[H2SPEC],
        "GOBIN=$PWD/target/tools go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible",
    )
}

#[tokio::test]
async fn http2_is_spoken_as_h2spec_wants_it() {
    if !h2spec_is_installed() {
        return;
    }
    let authority = Authority::new();
    let encrypted = House::open_at("https://localhost", &authority.tls(&["localhost"]), |_| String::new()).await;
    let in_clear = House::open_at("http://localhost", "server.h2c = true\n", |_| String::new()).await;
    assert_eq!(failures(&encrypted, &["--tls", "--insecure"]).await, [""; 0]);
    // In clear text, what does not begin as HTTP/2 does is HTTP/1, and gets an answer of it.
    assert_eq!(
        failures(&in_clear, &[]).await,
        ["× 2: Sends invalid connection preface"]
    );
}
