//! Arguments to commands, one file each.

mod admin;
mod behind;
mod check;
mod decisions;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod explain;
mod keygen;
mod notify;
mod rehearsal;
pub mod reload;
pub mod run;
mod schema;
mod sessions;
mod test;
mod watch;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

/// An authentication gateway for applications that cannot log anybody in themselves.
///
/// Vestibule stands in front of an application: it logs browsers in by OpenID Connect, verifies bearer tokens, decides
/// for each route who may pass, and tells the application who they are in headers that nobody else can set.
#[derive(Debug, Parser)]
#[command(name = "vestibule", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit status: 0 done, 1 the answer is no (an invalid file, a failed start), 2 wrong usage.

A whole configuration:

  [provider.corp]
  issuer = \"https://id.example.com/realms/corp\"
  client_id = \"wiki\"
  client_secret_file = \"/run/secrets/client\"

  [route.wiki]
  url = \"https://wiki.example.com\"
  upstream = \"http://127.0.0.1:3000\"";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve what the file says, until SIGTERM or SIGINT.
    Run(ConfigFile),
    /// Load the file, report every problem, and say in words what each route lets in.
    ///
    /// Problems go to standard error, with line, column and what to write instead; the exit status is then 1.
    /// Nothing is sent to anybody.
    Check(check::Options),
    /// Say what would become of a request, and why: which route has it, what is asked and what was found, what the
    /// application would be told.
    ///
    /// Nothing is sent to anybody; the decision is the gateway's own.
    Explain(explain::Options),
    /// Run the `[[test]]` tables of the file: what must become of which requests.
    ///
    /// Nothing is sent to anybody. The exit status is 1 when a test fails.
    Test(ConfigFile),
    /// Ask what is around the gateway whether it fits the file: the providers (metadata, redirect URIs, credentials) and
    /// the applications (whether they believe a header that anybody can write, how large a head they take).
    ///
    /// Nobody is logged in and nothing is changed, but an application may make an account for `vestibule-doctor`, as it
    /// would for whoever else writes its header. Run it on the gateway's machine, and once more on another one: what
    /// stands open there is a hole. The exit status is 1 when something is wrong.
    Doctor(doctor::Options),
    /// Print the JSON Schema of the file, for editors: `#:schema vestibule.schema.json` in its first line.
    Schema,
    /// See and end sessions, by asking a gateway that runs.
    Sessions(sessions::Options),
    /// Say why somebody was refused, by the reference that they were shown, by asking a gateway that runs.
    Decisions(decisions::Options),
    /// Make a session key, for `key_files` in the `[session]` table.
    Keygen(keygen::Options),
    /// Try it: a development authorization server and a sample application, with the gateway in front, in one process.
    ///
    /// Everything listens on loopback; the URL, the users and their passwords are printed.
    #[cfg(feature = "demo")]
    Demo(demo::Options),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration, in TOML.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

/// Reads the arguments and does what they say.
///
/// Wrong usage, `--help` and `--version` end the process here.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(file) => run::run(&file.config),
        Command::Check(options) => check::check(&options),
        Command::Explain(options) => explain::explain(&options),
        Command::Test(file) => test::test(&file.config),
        Command::Doctor(options) => doctor::doctor(&options),
        Command::Schema => schema::schema(),
        Command::Sessions(options) => sessions::sessions(&options),
        Command::Decisions(options) => decisions::decisions(&options),
        Command::Keygen(options) => keygen::keygen(&options),
        #[cfg(feature = "demo")]
        Command::Demo(options) => demo::demo(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(no) => {
            // There is nowhere left to say that standard error is closed.
            let _ = writeln!(io::stderr(), "{no}");
            ExitCode::FAILURE
        }
    }
}

/// Why the answer is no.
#[derive(Debug, thiserror::Error)]
enum No {
    #[error(transparent)]
    Problems(#[from] crate::config::Problems),
    #[error("cannot read {path}: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("{0}")]
    Refused(String),
    #[error("cannot write {path}: {error}")]
    Unwritable { path: String, error: io::Error },
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    #[error("cannot start: {0}")]
    Start(#[from] run::StartError),
    #[error("cannot start: {0}")]
    Log(#[from] crate::telemetry::LogError),
    #[error("every thread of the server has ended; the log says why")]
    Ended,
    #[cfg(feature = "demo")]
    #[error("the demo needs the ports {port} and the three behind it: {error}; choose others with --port")]
    Demo { port: u16, error: io::Error },
}
