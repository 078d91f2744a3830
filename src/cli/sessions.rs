//! `vestibule sessions`: which there are, and that some end.

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
use tokio::{net::TcpStream, runtime::Builder, time::timeout};

use super::No;
use crate::secret::Secret;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the sessions that the store keeps, as JSON; sessions in cookies are known to browsers only.
    List {
        #[command(flatten)]
        admin: Admin,
        #[command(flatten)]
        whose: Whose,
    },
    /// End one session, all of a person, or all of a provider; also those in cookies.
    Revoke {
        #[command(flatten)]
        admin: Admin,
        /// A session, as the list names it.
        #[arg(conflicts_with_all = ["provider", "subject"], required_unless_present = "provider")]
        id: Option<String>,
        #[command(flatten)]
        whose: Whose,
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
}

#[derive(Debug, Args)]
struct Whose {
    /// The provider, as the file calls it.
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The person, as the provider's `sub` says.
    #[arg(long, value_name = "SUB", requires = "provider")]
    subject: Option<String>,
}

const PATIENCE: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 16 * 1024 * 1024;

pub(super) fn sessions(options: &Options) -> Result<(), No> {
    let (method, path, admin) = match &options.command {
        Command::List { admin, whose } => (Method::GET, whose.path(), admin),
        Command::Revoke { admin, id: None, whose } => (Method::DELETE, whose.path(), admin),
        Command::Revoke {
            admin, id: Some(id), ..
        } => (Method::DELETE, format!("/sessions/{}", encoded(id)), admin),
    };
    let token = fs::read_to_string(&admin.token_file).map_err(|error| No::Unreadable {
        path: admin.token_file.display().to_string(),
        error,
    })?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let token = Secret::new(token.trim());
    let answer = runtime.block_on(async {
        let asked = timeout(PATIENCE, ask(&admin.admin, method, &path, &token)).await;
        asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    });
    match answer {
        Ok((StatusCode::OK, text)) => Ok(writeln!(io::stdout(), "{text}")?),
        Ok((status, text)) => Err(No::Refused(format!("{status}: {text}"))),
        Err(error) => Err(No::Refused(format!("{} does not answer: {error}", admin.admin))),
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

impl Whose {
    fn path(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("provider", &self.provider), ("subject", &self.subject)] {
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
