//! `vestibule sessions`: which there are, and that some end.

mod table;

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, runtime::Builder, time::timeout};

use self::table::Listed;
use super::No;
use crate::secret::Secret;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the sessions that the store keeps; sessions in cookies are known to browsers only.
    List {
        #[command(flatten)]
        admin: Admin,
        #[command(flatten)]
        which: Which,
    },
    /// End one session, all of a person or of a provider (also those in cookies), or what a filter finds in the store.
    Revoke {
        #[command(flatten)]
        admin: Admin,
        /// A session, as the list names it.
        #[arg(conflicts_with_all = FILTERS)]
        id: Option<String>,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
struct Admin {
    /// The admin listener of the gateway.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4181")]
    admin: String,
    /// The file that `token_file` in [admin] names.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Print the answer as JSON, for programs.
    #[arg(long)]
    json: bool,
}

const FILTERS: [&str; 6] = [
    "provider",
    "subject",
    "address",
    "older_than",
    "younger_than",
    "idle_for",
];

/// What the sessions have in common.
#[derive(Debug, Args)]
struct Which {
    /// The provider, as the file calls it.
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The person, as the provider's `sub` says.
    #[arg(long, value_name = "SUB")]
    subject: Option<String>,
    /// Where the login or the last request came from: an address, or a network like 10.0.0.0/8.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Who logged in so long ago, or longer: 30m, 8h, 7d.
    #[arg(long, value_name = "DURATION")]
    older_than: Option<String>,
    /// Who logged in less than so long ago.
    #[arg(long, value_name = "DURATION")]
    younger_than: Option<String>,
    /// Who was not seen for so long.
    #[arg(long, value_name = "DURATION")]
    idle_for: Option<String>,
}

const PATIENCE: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 16 * 1024 * 1024;

pub(super) fn sessions(options: &Options) -> Result<(), No> {
    match &options.command {
        Command::List { admin, which } => tell::<Listed>(admin, &admin.asked(Method::GET, &which.path())?),
        Command::Revoke { admin, id: None, which } => {
            tell::<Ended>(admin, &admin.asked(Method::DELETE, &which.path())?)
        }
        Command::Revoke {
            admin, id: Some(id), ..
        } => {
            let path = format!("/sessions/{}", encoded(id));
            tell::<Ended>(admin, &admin.asked(Method::DELETE, &path)?)
        }
    }
}

/// What is answered to who asks that sessions end.
#[derive(Debug, Deserialize)]
struct Ended {
    /// Unknown of sessions in cookies; the note says so.
    ended: Option<usize>,
    note: Option<String>,
}

/// An answer that people can read.
trait Tell: for<'a> Deserialize<'a> {
    fn text(&self) -> String;

    /// What else there is to know.
    fn note(&self) -> Option<&str>;
}

impl Tell for Ended {
    fn text(&self) -> String {
        match self.ended {
            None => String::new(),
            Some(1) => "1 session ended\n".to_owned(),
            Some(ended) => format!("{ended} sessions ended\n"),
        }
    }

    fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
}

impl Tell for Listed {
    fn text(&self) -> String {
        self.to_string()
    }

    fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
}

/// The answer goes to standard output, and the note of one for people to standard error.
fn tell<T: Tell>(admin: &Admin, answer: &str) -> Result<(), No> {
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
    fn asked(&self, method: Method, path: &str) -> Result<String, No> {
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
    let stream = TokioIo::new(TcpStream::connect(admin).await?);
    let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, admin)
        .header(header::AUTHORIZATION, format!("Bearer {}", token.expose()))
        .body(Empty::<bytes::Bytes>::new())
        .map_err(io::Error::other)?;
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

impl Which {
    fn path(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let values = [
            &self.provider,
            &self.subject,
            &self.address,
            &self.older_than,
            &self.younger_than,
            &self.idle_for,
        ];
        for (name, value) in FILTERS.into_iter().zip(values) {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        format!("/sessions?{}", query.finish())
    }
}

fn encoded(id: &str) -> String {
    form_urlencoded::byte_serialize(id.as_bytes()).collect()
}
