//! A service and clients of gRPC, as the library of its makers speaks it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::programs;

/// Whether the library is there.
pub fn installed() -> bool {
    programs::module_installed("grpc", "apt-get install -y python3-grpcio")
}

/// A program whose lines are read one by one; it ends when this is dropped.
struct Script {
    child: Child,
    says: BufReader<ChildStdout>,
    hears: Option<ChildStdin>,
}

impl Script {
    fn run(name: &str, arguments: &[&str]) -> Self {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/it/support/grpc", name]
            .iter()
            .collect();
        let mut child = Command::new(programs::PYTHON)
            .arg(path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            says: BufReader::new(child.stdout.take().unwrap()),
            hears: child.stdin.take(),
            child,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service.
pub struct Service {
    pub address: SocketAddr,
    _script: Script,
}

impl Service {
    pub fn start() -> Self {
        let mut script = Script::run("server.py", &[]);
        let port: u16 = script.line().parse().unwrap();
        Self {
            address: ([127, 0, 0, 1], port).into(),
            _script: script,
        }
    }
}

/// A call under way.
pub struct Call(Script);

impl Call {
    /// With this metadata, as `name=value`.
    pub fn begin(address: SocketAddr, method: &str, metadata: &[&str]) -> Self {
        let (service, method) = method.split_once('/').unwrap();
        let address = address.to_string();
        let mut arguments = vec![&*address, service, method];
        arguments.extend(metadata);
        Self(Script::run("client.py", &arguments))
    }

    pub fn say(&mut self, message: &str) {
        writeln!(self.0.hears.as_mut().unwrap(), "{message}").unwrap();
    }

    /// Has no more to say.
    pub fn finish(&mut self) {
        self.0.hears = None;
    }

    /// The next message, or how the call ended: `= STATUS …`. Waits in a thread of its own.
    pub async fn hear(mut self) -> (Self, String) {
        let heard = tokio::task::spawn_blocking(move || {
            let line = self.0.line();
            (self, line)
        });
        heard.await.unwrap()
    }

    /// Everything that is still said.
    pub async fn rest(mut self) -> Vec<String> {
        self.finish();
        let rest = tokio::task::spawn_blocking(move || self.0.says.by_ref().lines().map(Result::unwrap).collect());
        rest.await.unwrap()
    }
}
