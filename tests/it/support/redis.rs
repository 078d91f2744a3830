//! Real Redis servers: without persistence, on free ports, gone when the test is over.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::programs::installed;

/// A `redis-server` process, as server, Sentinel or node of a cluster.
pub struct Redis {
    pub port: u16,
    process: Child,
    directory: tempfile::TempDir,
    /// What `redis-cli` needs to get in.
    access: Vec<String>,
}

/// Whether there is a Redis to test with.
pub fn redis_is_installed() -> bool {
    installed(&["redis-server", "redis-cli"], "apt-get install -y redis-server")
}

impl Redis {
    /// A server for anybody.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more lines for its configuration; `PORT` and `DIR` stand for its own.
    pub fn start_with(lines: &[&str]) -> Self {
        Self::launch("PORT", lines, &[], &[])
    }

    /// A Sentinel, which writes what it learns into its own file.
    pub fn sentinel(lines: &[&str]) -> Self {
        Self::launch("PORT", lines, &["--sentinel"], &[])
    }

    /// A server that speaks TLS only.
    pub fn start_tls(lines: &[&str], access: &[&str]) -> Self {
        Self::launch("0\ntls-port PORT", lines, &[], access)
    }

    fn launch(port_line: &str, lines: &[&str], arguments: &[&str], access: &[&str]) -> Self {
        let port = free_port();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("redis.conf");
        let mut text = format!("port {port_line}\nbind 127.0.0.1\ndir DIR\nlogfile DIR/log\n");
        if arguments.is_empty() {
            text += "save \"\"\nappendonly no\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n";
        }
        for line in lines {
            text += line;
            text += "\n";
        }
        let text = text
            .replace("PORT", &port.to_string())
            .replace("DIR", directory.path().to_str().unwrap());
        std::fs::write(&file, text).unwrap();
        let redis = Self {
            port,
            process: spawn(&file, arguments),
            directory,
            access: access.iter().map(ToString::to_string).collect(),
        };
        redis.until_it_answers();
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Says something to the server, and what it answers.
    pub fn say(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(&self.access)
            .args(words)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Ends the server as a power cut does.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts a killed server again, empty.
    pub fn restart(&mut self) {
        self.process = spawn(&self.directory.path().join("redis.conf"), &[]);
        self.until_it_answers();
    }

    pub fn until_it_says(&self, words: &[&str], expected: &str) {
        let since = Instant::now();
        while !self.say(words).contains(expected) {
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "{words:?} never brought {expected:?}, but {:?}; the log of the server:\n{}",
                self.say(words),
                std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn until_it_answers(&self) {
        self.until_it_says(&["PING"], "PONG");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(file: &Path, arguments: &[&str]) -> Child {
    Command::new("redis-server")
        .arg(file)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Nodes of a cluster listen 10,000 ports higher too, so the port is a low one.
fn free_port() -> u16 {
    loop {
        let port = 20_000 + u16::from_be_bytes(vestibule::secret::random_bytes()) % 10_000;
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}

/// Keys for a Redis of the test's own, as long as there is one.
pub struct InRedis {
    /// Of `[session]`.
    pub keys: String,
    _redis: Redis,
    _url: tempfile::NamedTempFile,
}

impl InRedis {
    pub fn start() -> Option<Self> {
        if !redis_is_installed() {
            return None;
        }
        let redis = Redis::start();
        let url = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(url.path(), redis.url()).unwrap();
        Some(Self {
            keys: format!("store = \"redis\"\nredis = {{ url_file = {:?} }}", url.path()),
            _redis: redis,
            _url: url,
        })
    }
}
