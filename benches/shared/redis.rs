//! A Redis server for a measurement, on a free port, without persistence; it ends with the bench.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// A `redis-server` on another processor than the first.
pub(crate) struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    /// # Errors
    /// When it is not installed: how to get it.
    pub(crate) fn start() -> Result<Self, String> {
        let version = Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        version
            .map_err(|_| "`redis-server` is not installed; install it with: apt-get install redis-server".to_owned())?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // However the bench ends, nothing that it started stays.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "taskset", "-c", "1", "redis-server"]);
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let redis = Self {
            process: process.map_err(|error| format!("`setpriv` does not start: {error}"))?,
            port,
        };
        redis.wait();
        Ok(redis)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn wait(&self) {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "redis-server does not listen"
            );
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
