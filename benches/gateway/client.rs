//! A client that does no more than a measurement needs, and waits for each answer.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// A connection that is kept.
pub(crate) struct Client {
    stream: TcpStream,
    host: SocketAddr,
    /// What was read of a body together with its head.
    read: Vec<u8>,
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

impl Client {
    pub(crate) fn connect(host: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(host).map_err(|error| format!("no connection: {error}"))?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Ok(Self {
            stream,
            host,
            read: Vec::new(),
        })
    }

    /// Asks, and reads the whole answer.
    pub(crate) fn get(&mut self, path: &str) -> Result<(), String> {
        let length = self.ask("GET", path, "")?;
        self.skip(length)
    }

    /// Asks with more header lines, and reads the head of the answer; says how long its body is.
    pub(crate) fn ask(&mut self, method: &str, path: &str, lines: &str) -> Result<u64, String> {
        self.begin(method, path, lines)?;
        self.head("200").map(|head| length(&head))
    }

    /// Sends the head of a request.
    pub(crate) fn begin(&mut self, method: &str, path: &str, lines: &str) -> Result<(), String> {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", self.host);
        self.send(request.as_bytes())
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| error.to_string())
    }

    /// Sends zeros as fast as they are taken, until then.
    pub(crate) fn send_until(&mut self, end: Instant) -> Result<(), String> {
        let piece = [0; 64 * 1_024];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.stream.set_write_timeout(Some(left)).unwrap();
            match self.stream.write(&piece) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.to_string()),
                _ => {}
            }
        }
    }

    pub(crate) fn receive_exactly(&mut self, buffer: &mut [u8]) -> Result<(), String> {
        self.stream.read_exact(buffer).map_err(|error| error.to_string())
    }

    /// Reads the head of an answer that must have this status.
    pub(crate) fn head(&mut self, status: &str) -> Result<String, String> {
        let mut buffer = [0; 4_096];
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                let head = String::from_utf8_lossy(&std::mem::replace(&mut self.read, rest)).into_owned();
                let is_right = head.split(' ').nth(1) == Some(status);
                return if is_right {
                    Ok(head)
                } else {
                    Err(format!("the answer is {head}"))
                };
            }
            let length = self.receive(&mut buffer)?;
            self.read.extend_from_slice(&buffer[..length]);
        }
    }

    /// Reads so many bytes of a body.
    pub(crate) fn skip(&mut self, mut bytes: u64) -> Result<(), String> {
        let mut buffer = [0; 64 * 1_024];
        let read = self.read.len().min(usize::try_from(bytes).unwrap());
        self.read.drain(..read);
        bytes -= read as u64;
        while bytes > 0 {
            let most = buffer.len().min(usize::try_from(bytes).unwrap());
            bytes -= self.receive(&mut buffer[..most])? as u64;
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        match self.stream.read(buffer) {
            Ok(0) => Err("the connection is closed".to_owned()),
            Ok(length) => Ok(length),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn length(head: &str) -> u64 {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().map_or(0, |(_, value)| value.trim().parse().unwrap())
}
