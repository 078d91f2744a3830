//! Programs that are started for a measurement, and end with it.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
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
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("the process is gone");
        // The name of the program, in parentheses, may hold blanks.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let mut fields = fields.split(' ').skip(11).map(|field| field.parse::<u64>().unwrap());
        let ticks = fields.next().unwrap() + fields.next().unwrap();
        Duration::from_millis(ticks * 1_000 / TICKS)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// # Errors
/// What is not there, and how to get it.
pub(crate) fn all_installed() -> Result<(), String> {
    let programs = [
        ("wrk", "apt-get install wrk"),
        ("nginx", "apt-get install nginx-light"),
        ("setpriv", "apt-get install util-linux"),
        ("taskset", "apt-get install util-linux"),
    ];
    for (program, install) in programs {
        let mut command = Command::new(program);
        let run = command.arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.map_err(|_| format!("`{program}` is not installed; install it with: {install}"))?;
    }
    Ok(())
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
