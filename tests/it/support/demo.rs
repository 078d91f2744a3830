//! The demo as a person starts it: the binary, its output, and nothing else.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

pub struct Demo {
    child: Child,
    /// Everything that was printed before it said that it is ready.
    pub banner: String,
    pub port: u16,
}

impl Demo {
    /// Starts `vestibule demo` on four free ports in a row and reads what it prints.
    pub fn start() -> Self {
        let port = four_free_ports();
        let mut child = Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .args(["demo", "--port", &port.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut banner = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.by_ref().map_while(Result::ok) {
            if line.contains("Ctrl-C") {
                break;
            }
            banner.push_str(&line);
            banner.push('\n');
        }
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, banner, port }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The development authorization server.
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port + 2)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Never the same twice, so that two tests do not take each other's.
fn four_free_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 500).unwrap() * 20;
    for _ in 0..2_500 {
        let base = 20_000 + (own + NEXT.fetch_add(4, Ordering::Relaxed)) % 10_000;
        if (base..base + 4).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
    }
    panic!("no four free ports in a row");
}
