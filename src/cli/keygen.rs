//! `vestibule keygen`: a session key, or a key pair that signs.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};

use super::No;
use crate::{
    secret::{KeyPairKind, new_key_pair},
    session::SealingKey,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Write the key to a new file that only its owner can read; an existing file is never touched.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What the key is for.
    #[arg(long, value_name = "KIND", default_value = "session")]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// `key_files` in [session]: seals sessions.
    Session,
    /// `key_files` in [assertion]: signs with ES256.
    Es256,
    /// `key_files` in [assertion]: signs with EdDSA.
    Ed25519,
}

pub(super) fn keygen(options: &Options) -> Result<(), No> {
    let text = match options.kind {
        Kind::Session => SealingKey::random().to_text(),
        Kind::Es256 => new_key_pair(KeyPairKind::Es256),
        Kind::Ed25519 => new_key_pair(KeyPairKind::Ed25519),
    };
    let Some(path) = &options.output else {
        writeln!(io::stdout(), "{}", text.expose())?;
        return Ok(());
    };
    write_new(path, text.expose()).map_err(|error| No::Unwritable {
        path: path.display().to_string(),
        error,
    })
}

fn write_new(path: &Path, key: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{key}")?;
    file.sync_all()
}
