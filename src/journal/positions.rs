//! How far each reader is, in a small log of its own. Losing the end of it only makes readers do things again, so
//! it needs no atomicity with anything.
//!
//! ```text
//! file   = magic "PosternR" · salt u64 · records
//! record = length u32 · CRC u32 (of salt, length and body) · body (postcard): every reader, each time
//! ```
//!
//! The name is `positions-<number>`. Each life begins a new file; a file that has grown past its limit is followed by
//! a new one, and the old one is removed after the new one is durable. Reading stops at the first record that does
//! not check; the record with the highest serial number counts, of all files and the snapshot.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::bug::Planted;
use super::bytes::{Take, length32, size};
use super::disk::{Disk, DiskFile};
use super::durable::{WriteError, append_full, is_full, read_full, sync_file, write_whole};
use super::port::{Offset, OnFull};

const MAGIC: [u8; 8] = *b"PosternR";
const HEAD: usize = 16;
/// A new file is begun when the old one is larger than this.
const ROLL_BYTES: u64 = 256 << 10;
/// Largest record that is believed: thousands of readers.
const MAX_RECORD: usize = 1 << 20;

/// Every reader and where it is. The serial number grows with each change that is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Positions {
    pub(crate) serial: u64,
    pub(crate) readers: BTreeMap<String, Reader>,
}

/// One reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reader {
    /// Everything before this is done.
    pub(crate) next: Offset,
    /// Whether its backlog may be dropped.
    pub(crate) drop_backlog: bool,
}

impl Reader {
    pub(crate) const fn new(next: Offset, on_full: OnFull) -> Self {
        Self { next, drop_backlog: matches!(on_full, OnFull::DropBacklog) }
    }
}

/// A positions file's name.
pub(crate) fn positions_name(number: u64) -> String {
    format!("positions-{number:020}")
}

/// The number in a positions file's name.
pub(crate) fn parse_positions_name(name: &str) -> Option<u64> {
    name.strip_prefix("positions-").filter(|digits| digits.len() == 20)?.parse().ok()
}

/// The file that positions are written to.
#[derive(Debug)]
pub(crate) struct PositionsLog<F> {
    file: F,
    number: u64,
    salt: u64,
    length: u64,
}

impl<F: DiskFile> PositionsLog<F> {
    /// Begins a new file that holds `positions`.
    pub(crate) fn create<D: Disk<File = F>>(
        disk: &D,
        number: u64,
        salt: u64,
        positions: &Positions,
        planted: Planted,
    ) -> Result<Self, WriteError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&salt.to_le_bytes());
        bytes.extend_from_slice(&record(salt, positions));
        let file =
            write_whole(disk, &positions_name(number), planted, |file| append_full(file, &bytes))?;
        Ok(Self { file, number, salt, length: bytes.len() as u64 })
    }

    /// Appends a record and syncs it.
    pub(crate) fn append(
        &mut self,
        positions: &Positions,
        planted: Planted,
    ) -> Result<(), WriteError> {
        let bytes = record(self.salt, positions);
        match append_full(&mut self.file, &bytes) {
            Ok(()) => self.length += bytes.len() as u64,
            Err(error) if is_full(&error) => {
                self.file
                    .truncate(self.length)
                    .map_err(WriteError::poison("truncate the positions"))?;
                sync_file(&mut self.file, planted)
                    .map_err(WriteError::poison("sync the positions"))?;
                return Err(WriteError::Full(error));
            }
            Err(error) => return Err(WriteError::Poison(format!("write the positions: {error}"))),
        }
        sync_file(&mut self.file, planted).map_err(WriteError::poison("sync the positions"))
    }

    /// Whether it is time for a new file.
    pub(crate) const fn is_long(&self) -> bool {
        self.length > ROLL_BYTES
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }
}

/// The last good record of a file, if there is one. An error is the disk's, not the file's.
pub(crate) fn read_positions<D: Disk>(disk: &D, name: &str) -> io::Result<Option<Positions>> {
    let file = disk.open(name)?;
    let length = usize::try_from(file.length()?).unwrap_or(usize::MAX).min(64 << 20);
    let mut bytes = vec![0; length];
    let read = read_full(&file, &mut bytes, 0)?;
    Ok(last_record(bytes.get(..read).unwrap_or_default()))
}

fn last_record(bytes: &[u8]) -> Option<Positions> {
    let mut rest = Take(bytes);
    let magic = rest.array::<8>()?;
    let salt = rest.u64()?;
    if magic != MAGIC {
        return None;
    }
    debug_assert_eq!(bytes.len() - rest.0.len(), HEAD, "the head's length");
    let mut last = None;
    while let Some(positions) = next_record(&mut rest, salt) {
        last = Some(positions);
    }
    last
}

fn next_record(rest: &mut Take<'_>, salt: u64) -> Option<Positions> {
    let length = rest.u32().filter(|length| size(*length) <= MAX_RECORD)?;
    let crc = rest.u32()?;
    let body = rest.bytes(size(length))?;
    (crc == checksum(salt, body)).then_some(())?;
    postcard::from_bytes(body).ok()
}

fn record(salt: u64, positions: &Positions) -> Vec<u8> {
    let mut body = Vec::new();
    super::bytes::postcard_into(&mut body, positions);
    let mut out = length32(body.len()).to_le_bytes().to_vec();
    out.extend_from_slice(&checksum(salt, &body).to_le_bytes());
    out.extend_from_slice(&body);
    out
}

fn checksum(salt: u64, body: &[u8]) -> u32 {
    let head = crc32c::crc32c(&salt.to_le_bytes());
    let head = crc32c::crc32c_append(head, &length32(body.len()).to_le_bytes());
    crc32c::crc32c_append(head, body)
}
