//! The demo does what it says.

use std::process::Command;

use crate::support::{demo::Demo, programs::installed};

#[test]
fn the_lines_that_the_demo_prints_give_what_they_say() {
    if !installed(&["curl"], "apt-get install -y curl") {
        return;
    }
    let demo = Demo::start();
    let lines: Vec<&str> = demo.banner.lines().collect();
    let mut ran = 0;
    for pair in lines.windows(2).filter(|pair| pair[1].starts_with("curl ")) {
        let (what, promised) = pair[0].strip_prefix("# ").unwrap().rsplit_once(": ").unwrap();
        let output = Command::new("sh").arg("-c").arg(pair[1]).output().unwrap();
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(answer.starts_with(&format!("HTTP/1.1 {promised} ")), "{what}: {answer}");
        ran += 1;
    }
    assert!(ran >= 4, "{}", demo.banner);
    for what in ["no token", "a JWT", "an opaque token", "without the scope"] {
        assert!(demo.banner.contains(what), "{what} is missing: {}", demo.banner);
    }
}
