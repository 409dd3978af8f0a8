//! The snapshot: the derived state up to one frame, so that a start need not read the whole journal, and so that
//! what must outlive segments does. When one is taken, and what may be removed afterwards, `maintain` decides.
//!
//! ```text
//! snapshot = magic "PosternP" · version u8 · 7 × 0 · length u64 · CRC of the body u32 · CRC of what is before u32
//!            · body (postcard)
//! ```
//!
//! The name is `snapshot-<number>`, in 20 digits. Two are kept. One that does not check is passed over for the older
//! one, which means a longer replay; segments are therefore removed only below the older one. Where no snapshot can
//! be read, the journal opens only if it still begins at its first frame.

use serde::{Deserialize, Serialize};

use super::bug::Planted;
use super::bytes::{Take, position, postcard_into};
use super::disk::{Disk, DiskFile};
use super::durable::{WriteError, append_full, read_full, write_whole};
use super::positions::Positions;
use super::segment::JournalId;
use crate::domain::{Cursor, CursorKey, DeadLetter, TicketRecord};

const MAGIC: [u8; 8] = *b"PosternP";
const VERSION: u8 = 1;
const HEAD: usize = 32;
/// Largest body that is believed.
const MAX_BODY: u64 = 1 << 32;

/// The derived state up to `next_sequence`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) journal: JournalId,
    pub(crate) number: u64,
    /// Frames below this are in the snapshot.
    pub(crate) next_sequence: u64,
    /// Events below this are in the snapshot.
    pub(crate) next_offset: u64,
    /// Segments wholly below this offset may have been removed after the snapshot was written.
    pub(crate) cut: u64,
    /// Segments up to this number were sealed and synced before the snapshot was written.
    pub(crate) sealed_through: u64,
    pub(crate) positions: Positions,
    pub(crate) cursors: Vec<(CursorKey, Cursor)>,
    pub(crate) tickets: Vec<TicketRecord>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    pub(crate) dead_letters_expired: u64,
    pub(crate) dedup: Vec<u8>,
}

/// A snapshot's file name.
pub(crate) fn snapshot_name(number: u64) -> String {
    format!("snapshot-{number:020}")
}

/// The number in a snapshot's file name.
pub(crate) fn parse_snapshot_name(name: &str) -> Option<u64> {
    name.strip_prefix("snapshot-").filter(|digits| digits.len() == 20)?.parse().ok()
}

impl Snapshot {
    /// Writes it durably.
    pub(crate) fn write<D: Disk>(&self, disk: &D, planted: Planted) -> Result<u64, WriteError> {
        let mut file = vec![0; HEAD];
        postcard_into(&mut file, self);
        let body = file.get(HEAD..).unwrap_or_default();
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0, 0, 0]);
        head.extend_from_slice(&position(body.len()).to_le_bytes());
        head.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
        let crc = crc32c::crc32c(&head);
        head.extend_from_slice(&crc.to_le_bytes());
        if let Some(place) = file.get_mut(..HEAD) {
            place.copy_from_slice(&head);
        }
        write_whole(disk, &snapshot_name(self.number), planted, |to| append_full(to, &file))?;
        Ok(position(file.len()))
    }

    /// Reads one; says what is wrong with it otherwise.
    pub(crate) fn read<D: Disk>(disk: &D, name: &str) -> Result<Self, BadSnapshot> {
        let damaged = |detail: &str| BadSnapshot::Damaged(detail.to_owned());
        let file = disk.open(name).map_err(BadSnapshot::Unread)?;
        let mut head = vec![0; HEAD];
        let read = read_full(&file, &mut head, 0).map_err(BadSnapshot::Unread)?;
        let parse = || {
            let covered = head.get(..HEAD - 4).filter(|_| read == HEAD)?;
            let mut rest = Take(covered);
            let magic = rest.array::<8>()?;
            let version = rest.u8()?;
            rest.bytes(7)?;
            let length = rest.u64()?;
            let body_crc = rest.u32()?;
            let crc = Take(head.get(HEAD - 4..)?).u32()?;
            (magic == MAGIC && crc == crc32c::crc32c(covered) && length <= MAX_BODY)
                .then_some((version, length, body_crc))
        };
        let (version, length, body_crc) =
            parse().ok_or_else(|| damaged("the head is not valid"))?;
        if version > VERSION {
            return Err(BadSnapshot::TooNew(version));
        }
        let held = file.length().map_err(BadSnapshot::Unread)?;
        if held != HEAD as u64 + length {
            return Err(damaged("the length is wrong"));
        }
        let mut body = vec![0; usize::try_from(length).unwrap_or_default()];
        let read = read_full(&file, &mut body, HEAD as u64).map_err(BadSnapshot::Unread)?;
        if read < body.len() || crc32c::crc32c(&body) != body_crc {
            return Err(damaged("the checksum is wrong"));
        }
        postcard::from_bytes(&body).map_err(|error| BadSnapshot::Damaged(error.to_string()))
    }
}

/// Why a snapshot cannot be used.
#[derive(Debug)]
pub(crate) enum BadSnapshot {
    /// The disk did not give it.
    Unread(std::io::Error),
    /// A newer version wrote it.
    TooNew(u8),
    /// It is damaged.
    Damaged(String),
}
