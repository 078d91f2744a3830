//! Programs that are started for a measurement, and end with it.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The processor of what is measured; everything else runs on the other.
const MEASURED: &str = "0";
pub(crate) const OTHERS: &str = "1";

/// Ticks in a second: what Linux tells programs, whatever its own clock does.
const TICKS: u64 = 100;

/// A program that runs until it is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn measured(program: &str, arguments: &[&str]) -> Self {
        Self::start(MEASURED, program, arguments)
    }

    pub(crate) fn other(program: &str, arguments: &[&str]) -> Self {
        Self::start(OTHERS, program, arguments)
    }

    fn start(processor: &str, program: &str, arguments: &[&str]) -> Self {
        // However the bench ends, nothing that it started stays.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "taskset", "-c", processor, program])
            .args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{program} does not start: {error}")))
    }

    pub(crate) fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        let sent = kill.args([signal, &self.0.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the process is gone");
    }

    /// What the process has used of processors so far, in its own code and in the kernel.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.file("stat");
        // The name of the program, in parentheses, may hold blanks.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let mut fields = fields.split(' ').skip(11).map(|field| field.parse::<u64>().unwrap());
        let ticks = fields.next().unwrap() + fields.next().unwrap();
        Duration::from_millis(ticks * 1_000 / TICKS)
    }

    /// How many microseconds of a processor it uses while something is done, for each of the times that it is done.
    ///
    /// # Errors
    /// Those of what is done.
    pub(crate) fn cost(&self, done: impl FnOnce() -> Result<u64, String>) -> Result<f64, String> {
        let before = self.cpu();
        let times = done()?;
        Ok((self.cpu() - before).as_secs_f64() * 1e6 / times as f64)
    }

    /// Bytes of it that are in memory.
    pub(crate) fn memory(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// The most bytes of it that were in memory since the peak was forgotten.
    pub(crate) fn peak(&self) -> f64 {
        self.status("VmHWM:")
    }

    pub(crate) fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.0.id()), "5").expect("the peak stays");
    }

    fn status(&self, name: &str) -> f64 {
        let status = self.file("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kibibytes * 1_024.0
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).expect("the process is gone")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Moves this process to where everything is that is not measured, and lets it have as many files as it may.
///
/// # Errors
/// When the machine has no second processor.
pub(crate) fn make_room() -> Result<(), String> {
    let us = std::process::id().to_string();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(arguments).output().map_err(|error| error.to_string())?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            Ok(())
        } else {
            Err(complaint)
        }
    };
    run("taskset", &["--all-tasks", "-c", "-p", OTHERS, &us])?;
    run("prlimit", &["--pid", &us, &format!("--nofile={}:", most_files())])
}

/// How many files this process may have open at most.
pub(crate) fn most_files() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(4).unwrap().parse().unwrap()
}

/// # Errors
/// What is not there, and how to get it.
pub(crate) fn all_installed() -> Result<(), String> {
    let programs = [
        ("wrk", "apt-get install wrk"),
        ("nginx", "apt-get install nginx-light"),
        ("setpriv", "apt-get install util-linux"),
        ("taskset", "apt-get install util-linux"),
        ("prlimit", "apt-get install util-linux"),
    ];
    for (program, install) in programs {
        if !is_installed(program) {
            return Err(format!("`{program}` is not installed; install it with: {install}"));
        }
    }
    Ok(())
}

pub(crate) fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    let run = command.arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok()
}

/// The program itself, where `tests/run` has put it, not what finds it there.
pub(crate) fn envoy() -> Option<PathBuf> {
    let environment = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/proxies/lib");
    let versions = fs::read_dir(environment).ok()?.filter_map(Result::ok);
    let mut paths = versions.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    paths.find(|path| path.exists())
}

pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn wait_for(address: SocketAddr) {
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "nobody listens at {address}");
        sleep(Duration::from_millis(20));
    }
}
