//! The ledger on disk: one file in the data directory, replaced as a whole. A file that is missing, torn or of
//! another journal costs nothing but reading the journal again.
//!
//! Layout: a line that names the format, a CRC-32C of the rest (4 bytes, little endian), then the state.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::book::Book;
use crate::domain::Ticks;
use crate::journal::Offset;

const MAGIC: &[u8] = b"postern ledger 1\n";

/// The file's name in the data directory.
pub const FILE: &str = "ledger.state";

/// Everything that is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LedgerState {
    /// The journal that it is about.
    pub journal_id: String,
    /// Up to where that has been counted.
    pub position: Offset,
    /// When it was written.
    pub saved: Ticks,
    /// The book.
    pub book: Book,
}

/// The file in `data_dir`.
#[must_use]
pub fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// Reads the file; `None` where there is none that can be used, with the reason where there should be one.
///
/// # Errors
/// In words.
pub fn load(path: &Path) -> Result<Option<LedgerState>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let rest = bytes.strip_prefix(MAGIC).ok_or("it is of another format")?;
    let (sum, body) = rest.split_first_chunk::<4>().ok_or("it is cut off")?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
        return Err("its checksum is wrong".to_owned());
    }
    let mut state: LedgerState = postcard::from_bytes(body).map_err(|error| error.to_string())?;
    state.book.recount();
    Ok(Some(state))
}

/// The bytes of the file.
///
/// # Errors
/// Where the state cannot be written down (a defect).
pub fn encode(state: &LedgerState) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(state).map_err(io::Error::other)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Puts `bytes` in the place of the file: whole or not at all, and durable.
///
/// # Errors
/// Of the disk.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
