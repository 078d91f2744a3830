//! `vestibule schema`: the JSON Schema of the file.

use std::io::{self, Write};

use super::No;
use crate::config;

pub(super) fn schema() -> Result<(), No> {
    writeln!(io::stdout(), "{:#}", config::schema())?;
    Ok(())
}
