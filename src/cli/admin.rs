//! Asking a gateway that runs, by its admin listener.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    runtime::Builder,
    time::timeout,
};

use super::No;
use crate::secret::Secret;

/// Which gateway is asked, and how it answers.
#[derive(Debug, Args)]
pub(super) struct Admin {
    /// The admin listener of the gateway; or its Unix socket, as `unix:/run/vestibule/admin.sock`.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4181")]
    admin: String,
    /// The file that `token_file` in [admin] names.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Print the answer as JSON, for programs.
    #[arg(long)]
    json: bool,
}

const PATIENCE: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// An answer that people can read.
pub(super) trait Tell: for<'a> Deserialize<'a> {
    fn text(&self) -> String;

    /// What else there is to know.
    fn note(&self) -> Option<String>;
}

/// The answer goes to standard output, and the note of one for people to standard error.
pub(super) fn tell<T: Tell>(admin: &Admin, answer: &str) -> Result<(), No> {
    if admin.json {
        return Ok(writeln!(io::stdout(), "{answer}")?);
    }
    let read: T = serde_json::from_str(answer)
        .map_err(|error| No::Refused(format!("{} answers what cannot be read: {error}", admin.admin)))?;
    write!(io::stdout(), "{}", read.text())?;
    if let Some(note) = read.note() {
        writeln!(io::stderr(), "note: {note}")?;
    }
    Ok(())
}

impl Admin {
    /// Asks the gateway.
    pub(super) fn asked(&self, method: Method, path: &str) -> Result<String, No> {
        let token = fs::read_to_string(&self.token_file).map_err(|error| No::Unreadable {
            path: self.token_file.display().to_string(),
            error,
        })?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let token = Secret::new(token.trim());
        let answer = runtime.block_on(async {
            let asked = timeout(PATIENCE, ask(&self.admin, method, path, &token)).await;
            asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        });
        match answer {
            Ok((StatusCode::OK, text)) => Ok(text),
            Ok((status, text)) => Err(No::Refused(reason(status, &text))),
            Err(error) => Err(No::Refused(format!(
                "{} does not answer: {error}; name the `listen` of [admin] with --admin",
                self.admin
            ))),
        }
    }
}

/// Why the gateway refuses, in its own words where it has some.
fn reason(status: StatusCode, text: &str) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    match serde_json::from_str::<Refusal>(text) {
        Ok(refusal) => refusal.error,
        Err(_) => format!("this is not the admin listener of a gateway: it answers {status}"),
    }
}

async fn ask(admin: &str, method: Method, path: &str, token: &Secret) -> io::Result<(StatusCode, String)> {
    let socket = admin.strip_prefix("unix:");
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, if socket.is_some() { "localhost" } else { admin })
        .header(header::AUTHORIZATION, format!("Bearer {}", token.expose()))
        .body(Empty::new())
        .map_err(io::Error::other)?;
    match socket {
        Some(socket) => exchange(UnixStream::connect(socket).await?, request).await,
        None => exchange(TcpStream::connect(admin).await?, request).await,
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Empty<Bytes>>,
) -> io::Result<(StatusCode, String)> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(io::Error::other)?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => {
            ended.map_err(io::Error::other)?;
            exchange.await
        }
    }
}

pub(super) fn encoded(id: &str) -> String {
    form_urlencoded::byte_serialize(id.as_bytes()).collect()
}

/// Cells under their names, each column as wide as it has to be.
pub(super) fn columns<const N: usize>(names: [&str; N], lines: impl Iterator<Item = [String; N]>) -> String {
    let lines: Vec<_> = [names.map(str::to_owned)].into_iter().chain(lines).collect();
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |line: &[String; N]| {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}

/// Names are the provider's: none of them may write elsewhere on the screen, or shift a column.
pub(super) fn harmless(text: &str) -> String {
    let moves =
        |letter: char| matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let letter = |letter: char| match letter.is_control() || letter.is_whitespace() || moves(letter) {
        true => letter.escape_unicode().to_string(),
        false => letter.to_string(),
    };
    text.chars().map(letter).collect()
}

/// The same for words, with blanks between them.
pub(super) fn harmless_words(text: &str) -> String {
    text.split(' ').map(harmless).collect::<Vec<_>>().join(" ")
}
