//! `vestibule keygen`: a session key.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use super::No;
use crate::session::SealingKey;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Write the key to a new file that only its owner can read; an existing file is never touched.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn keygen(options: &Options) -> Result<(), No> {
    let text = SealingKey::random().to_text();
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
