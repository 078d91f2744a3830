//! The files that a configuration was read from, to notice that they change.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::secret::{Fingerprint, FingerprintKey};

/// The configuration and every file that it refers to, and what was in each.
#[derive(Clone, Debug)]
pub struct Sources {
    key: FingerprintKey,
    /// Nothing is known of what could not be read.
    seen: Vec<(PathBuf, Option<Fingerprint>)>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            key: FingerprintKey::random(),
            seen: Vec::new(),
        }
    }
}

impl Sources {
    /// The same files as they are now; waits for the disk.
    pub fn again(&self) -> Self {
        let mut again = Self {
            key: self.key.clone(),
            seen: Vec::with_capacity(self.seen.len()),
        };
        for (path, _) in &self.seen {
            // That it cannot be read is noted as well.
            drop(again.read(path));
        }
        again
    }

    /// Whether the same was in the same files.
    pub fn are_as(&self, others: &Self) -> bool {
        self.seen == others.seen
    }

    /// Reads a file, and notes what was in it.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
        let read = read_bounded(path);
        let content = read.as_ref().ok().map(|(bytes, _)| self.key.of(&[bytes]));
        self.seen.push((path.to_owned(), content));
        read
    }

    /// Reads the configuration itself.
    pub(super) fn text(&mut self, path: &Path) -> io::Result<String> {
        let (bytes, _) = self.read(path)?;
        String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
    }
}

/// No configuration, no key and no list of certificates is longer, in bytes.
const LONGEST_FILE: u64 = 4 * 1024 * 1024;

fn read_bounded(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    let length = file.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    if u64::try_from(length).is_ok_and(|length| length < LONGEST_FILE) {
        Ok((bytes, metadata))
    } else {
        Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_goes_or_comes_is_noticed_and_what_is_touched_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::write(&file, "one").unwrap();
        let mut sources = Sources::default();
        sources.read(&file).unwrap();
        sources.read(&other).unwrap_err();
        std::fs::write(&file, "one").unwrap();
        assert!(sources.again().are_as(&sources));
        std::fs::write(&file, "two").unwrap();
        let changed = sources.again();
        assert!(!changed.are_as(&sources) && changed.again().are_as(&changed));
        std::fs::write(&other, "").unwrap();
        let come = changed.again();
        assert!(!come.are_as(&changed));
        std::fs::remove_file(&file).unwrap();
        assert!(!come.again().are_as(&come));
    }

    #[test]
    fn f_12_a_file_that_is_far_too_long_is_not_read_to_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(50 * 1024 * 1024).unwrap();
        let error = Sources::default().read(file.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
