//! `vestibule sessions`: which there are, and that some end.

mod table;

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;

use self::table::Listed;
use super::{
    No,
    admin::{Admin, Tell, encoded, tell},
};

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
        /// A session, as the list names it; one in sixty-four begins with a hyphen.
        #[arg(conflicts_with_all = FILTERS, allow_hyphen_values = true)]
        id: Option<String>,
        #[command(flatten)]
        which: Which,
    },
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

impl Tell for Ended {
    fn text(&self) -> String {
        match self.ended {
            None => String::new(),
            Some(1) => "1 session ended\n".to_owned(),
            Some(ended) => format!("{ended} sessions ended\n"),
        }
    }

    fn note(&self) -> Option<String> {
        self.note.clone()
    }
}

impl Tell for Listed {
    fn text(&self) -> String {
        self.to_string()
    }

    fn note(&self) -> Option<String> {
        self.note.clone()
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
