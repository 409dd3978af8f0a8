//! The file that says how far the delivery is: which file, how long, and the journal offset behind it.
//! Written anew and renamed each time, so that it is either the old one or the new one, never a mixture.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::Ticks;
use crate::journal::Offset;

/// The layout's version. A newer one is refused.
const VERSION: u32 = 1;

/// What is known to be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    version: u32,
    /// Number of the current file.
    pub(super) sequence: u64,
    /// How many of its bytes count.
    pub(super) length: u64,
    /// Journal offset of the first event that is not in the files.
    pub(super) next: Offset,
    /// When the current file was begun.
    pub(super) began: Ticks,
}

impl Position {
    pub(super) const fn new(sequence: u64, next: Offset, began: Ticks) -> Self {
        Self { version: VERSION, sequence, length: 0, next, began }
    }

    /// Reads it; `None` if there is none.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let invalid = |detail: String| io::Error::new(io::ErrorKind::InvalidData, detail);
        let position: Self =
            serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
        if position.version != VERSION {
            return Err(invalid(format!("version {} is not known here", position.version)));
        }
        Ok(Some(position))
    }

    /// Replaces the file at `path`; durable when it returns.
    pub(super) fn write(&self, path: &Path, directory: &File) -> io::Result<()> {
        let fresh = path.with_extension("position.new");
        let mut text = serde_json::to_vec(self).map_err(io::Error::other)?;
        text.push(b'\n');
        let mut file = File::create(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        directory.sync_all()
    }
}
