//! `vestibule run`, as a process of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_vestibule");

pub struct Process {
    pub child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// Read at the start and at the end, and by nobody in between.
    log: BufReader<ChildStdout>,
    first: Vec<String>,
    directory: tempfile::TempDir,
}

impl Process {
    /// Runs a configuration, beside whose file these others stand, and waits until it listens.
    pub fn start(text: &str, files: &[(&str, &str)], address: SocketAddr, admin: SocketAddr) -> Self {
        let run = |file: &Path| {
            let mut command = Command::new(PROGRAM);
            command.args(["run", "--config"]).arg(file).stderr(Stdio::piped());
            command
        };
        Self::start_by(run, text, files, address, admin)
    }

    /// The same, by another command, which is told the file.
    pub fn start_by(
        run: impl FnOnce(&Path) -> Command,
        text: &str,
        files: &[(&str, &str)],
        address: SocketAddr,
        admin: SocketAddr,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let file = directory.path().join("vestibule.toml");
        fs::write(&file, text).unwrap();
        let mut child = run(&file).stdout(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut first = Vec::new();
        while first
            .last()
            .is_none_or(|line: &String| !line.contains("for the operator"))
        {
            let mut line = String::new();
            if log.read_line(&mut line).unwrap() == 0 {
                let mut error = String::new();
                if let Some(mut stderr) = child.stderr.take() {
                    stderr.read_to_string(&mut error).unwrap();
                }
                panic!("it did not start: {error}{}", first.concat());
            }
            first.push(line);
        }
        Self {
            child,
            address,
            admin,
            log,
            first,
            directory,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// What stands in a file beside the configuration.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file there, in place of what was in it.
    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Waits for a line that says this.
    pub fn line_with(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.log.read_line(&mut line).unwrap() > 0,
                "the log ended without {text}"
            );
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Stops it as an operator does, and yields all that it logged.
    pub fn stop(&mut self) -> Vec<String> {
        self.signal("-TERM");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        let first = self.first.iter().map(|line| line.trim_end().to_owned());
        first.chain(rest.lines().map(str::to_owned)).collect()
    }

    /// What it occupies, in KiB.
    pub fn resident(&self) -> u64 {
        self.kib("VmRSS:")
    }

    /// The most that it ever occupied, in KiB.
    pub fn peak(&self) -> u64 {
        self.kib("VmHWM:")
    }

    fn kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// Where nobody listens; never the same twice, and none that the kernel gives to whoever asks for any.
pub fn free_port() -> u16 {
    const FIRST: u16 = 11_000;
    const COUNT: u16 = 9_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 90).unwrap() * 100;
    for _ in 0..COUNT {
        let port = FIRST + (own + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
