//! Which HTTP a client speaks.
//!
//! Without TLS only its first bytes tell. They are looked at, not taken away, so that whoever serves the connection
//! reads it from the beginning. With TLS the handshake tells (RFC 7301), and nothing here is needed.

use std::{io, time::Duration};

use tokio::time::timeout;

use super::{Limits, pipe::Pipe};

/// What may be spoken on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spoken {
    #[default]
    Http1,
    /// Also HTTP/2 in clear text, with whoever knows beforehand (RFC 9113 §3.3).
    Either,
}

/// What is spoken on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// What a client of HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Protocol {
    /// Waits until the client has said it.
    ///
    /// # Errors
    /// When the client is silent for longer than it may, or breaks off.
    pub(super) async fn of(pipe: &mut Pipe, limits: &Limits) -> io::Result<Self> {
        if pipe.ahead().is_empty() && within(limits.keep_alive, pipe.fetch(PREFACE.len())).await? == 0 {
            return Ok(Self::Http1);
        }
        within(limits.header_timeout, heard(pipe)).await
    }
}

pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn heard(pipe: &mut Pipe) -> io::Result<Protocol> {
    loop {
        if let Some(protocol) = protocol_of(pipe.ahead()) {
            return Ok(protocol);
        }
        let missing = PREFACE.len().saturating_sub(pipe.ahead().len());
        if pipe.fetch(missing).await? == 0 {
            return Ok(Protocol::Http1);
        }
    }
}

/// Which of the two begins like this, once it is clear; no method of HTTP/1 that the gateway forwards begins as the
/// preface does.
fn protocol_of(seen: &[u8]) -> Option<Protocol> {
    match seen.get(..PREFACE.len()).unwrap_or(seen) {
        begun if begun == PREFACE => Some(Protocol::Http2),
        begun if PREFACE.starts_with(begun) => None,
        _ => Some(Protocol::Http1),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncWriteExt as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn the_preface_is_told_from_every_request_that_begins_like_it() {
        let of = protocol_of;
        assert_eq!(of(PREFACE), Some(Protocol::Http2));
        for begun in [0, 1, 3, 23] {
            assert_eq!(of(&PREFACE[..begun]), None);
        }
        for other in ["G", "POST / HTTP", "PRI * HTTP/1.1\r\n\r\nSM\r\n", "PRI /"] {
            assert_eq!(of(other.as_bytes()), Some(Protocol::Http1), "{other}");
        }
    }

    #[tokio::test]
    async fn it_is_heard_byte_by_byte_and_nothing_of_it_is_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let mut stream = Pipe::from(listener.accept().await.unwrap().0);
        let limits = Limits::default();
        let speak = async {
            for byte in PREFACE {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (heard, ()) = tokio::join!(Protocol::of(&mut stream, &limits), speak);
        assert_eq!(heard.unwrap(), Protocol::Http2);
        let mut read = [0; PREFACE.len()];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut read)
            .await
            .unwrap();
        assert_eq!(&read, PREFACE);
    }

    #[tokio::test]
    async fn who_breaks_off_in_the_middle_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = Pipe::from(listener.accept().await.unwrap().0);
        client.write_all(&PREFACE[..9]).await.unwrap();
        drop(client);
        let limits = Limits::default();
        let heard = timeout(Duration::from_secs(5), Protocol::of(&mut stream, &limits));
        assert_eq!(heard.await.unwrap().unwrap(), Protocol::Http1);
    }
}
