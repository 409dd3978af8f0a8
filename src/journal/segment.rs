//! The segment: a file of frames. How it is begun and sealed, and how its parts are found again; what to make of a
//! part that is not valid is `recovery`'s business.
//!
//! ```text
//! segment = header (80 bytes) · frames · footer, once it is sealed
//! header  = magic "PosternS" · version u8 · 7 × 0 · journal id [16] · number u64 · replaces u64
//!           · salt u64 · first offset u64 · first sequence u64 · 4 × 0 · CRC u32
//! footer  = index entries (offset u64 · position u64), about one in 64 KiB · trailer (80 bytes)
//! trailer = magic "PosternE" · salt u64 · next offset u64 · next sequence u64 · first written at i64
//!           · last written at i64 · index position u64 · index entries u32 · CRC of the last frame u32
//!           · 8 × 0 · CRC of the index u32 · CRC of the trailer u32
//! ```
//!
//! The name is `segment-<number>-<first offset>.log`, both in 20 decimal digits. Numbers only grow and do not come
//! from a clock. `replaces` names the segment whose frames a recovery copied into this one, 0 if none: where both
//! exist, the older one is a leftover.
//!
//! | broken | what happens |
//! |---|---|
//! | the file is missing below the cut of the snapshot | normal: it was removed |
//! | the file is missing elsewhere | damage of that range of offsets |
//! | header | damage: it was synced before the file got its name |
//! | footer of a segment that is not the last | the frames are scanned instead; `verify` reports it |
//! | footer of the last segment | the segment counts as not sealed |

use std::io;

use super::bug::{Bug, Planted};
use super::bytes::{Take, length32, position, size};
use super::disk::{Disk, DiskFile};
use super::durable::{WriteError, append_full, is_full, read_full, sync_file, write_whole};
use super::frame::{FRAME_HEADER, FrameHeader};
use crate::domain::Ticks;

/// Version of the segment format that this build writes.
pub(crate) const SEGMENT_VERSION: u8 = 1;
/// Length of a segment's header.
pub(crate) const SEGMENT_HEADER: usize = 80;
const TRAILER: usize = 80;
const HEADER_MAGIC: [u8; 8] = *b"PosternS";
const TRAILER_MAGIC: [u8; 8] = *b"PosternE";
/// One index entry for about this many bytes of frames.
const INDEX_EVERY: u64 = 64 << 10;

/// The id of a journal, made when it was created.
pub(crate) type JournalId = [u8; 16];

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) journal: JournalId,
    pub(crate) number: u64,
    pub(crate) replaces: u64,
    pub(crate) salt: u64,
    pub(crate) first_offset: u64,
    pub(crate) first_sequence: u64,
}

/// Why a header was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// A newer version wrote it.
    TooNew(u8),
    /// It is damaged.
    Damaged,
}

impl SegmentHeader {
    pub(crate) fn name(&self) -> String {
        segment_name(self.number, self.first_offset)
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER);
        out.extend_from_slice(&HEADER_MAGIC);
        out.extend_from_slice(&[SEGMENT_VERSION, 0, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.journal);
        for field in [self.number, self.replaces, self.salt, self.first_offset, self.first_sequence]
        {
            out.extend_from_slice(&field.to_le_bytes());
        }
        // What remains before the checksum is reserved.
        out.resize(SEGMENT_HEADER - 4, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; also returns its checksum, which the first frame repeats.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, u32), BadHeader> {
        let fields = || {
            let covered = bytes.get(..SEGMENT_HEADER - 4)?;
            let crc = Take(bytes.get(SEGMENT_HEADER - 4..)?).u32()?;
            let mut rest = Take(covered);
            let magic = rest.array::<8>()?;
            let version = rest.u8()?;
            rest.bytes(7)?;
            let header = Self {
                journal: rest.array()?,
                number: rest.u64()?,
                replaces: rest.u64()?,
                salt: rest.u64()?,
                first_offset: rest.u64()?,
                first_sequence: rest.u64()?,
            };
            (magic == HEADER_MAGIC && crc == crc32c::crc32c(covered))
                .then_some((version, header, crc))
        };
        match fields() {
            Some((SEGMENT_VERSION, header, crc)) => Ok((header, crc)),
            Some((version, ..)) => Err(BadHeader::TooNew(version)),
            None => Err(BadHeader::Damaged),
        }
    }
}

/// A segment's file name.
pub(crate) fn segment_name(number: u64, first_offset: u64) -> String {
    format!("segment-{number:020}-{first_offset:020}.log")
}

/// The number and first offset in a segment's file name.
pub(crate) fn parse_segment_name(name: &str) -> Option<(u64, u64)> {
    let (number, offset) = name.strip_prefix("segment-")?.strip_suffix(".log")?.split_once('-')?;
    (number.len() == 20 && offset.len() == 20).then_some(())?;
    Some((number.parse().ok()?, offset.parse().ok()?))
}

/// Where an event's frame is found, or an earlier one close to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) offset: u64,
    pub(crate) position: u64,
}

/// What is known of a segment's end; of a sealed one it is in its trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    pub(crate) next_offset: u64,
    pub(crate) next_sequence: u64,
    pub(crate) first_at: Ticks,
    pub(crate) last_at: Ticks,
    /// Where the frames end.
    pub(crate) frames_end: u64,
    pub(crate) last_crc: u32,
}

impl SegmentEnd {
    /// Whether both are the same place behind the same frames.
    pub(crate) const fn same_place(&self, other: &Self) -> bool {
        self.frames_end == other.frames_end
            && self.next_offset == other.next_offset
            && self.next_sequence == other.next_sequence
            && self.last_crc == other.last_crc
    }
}

/// A trailer as it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trailer {
    pub(crate) end: SegmentEnd,
    entries: u32,
    index_crc: u32,
}

impl Trailer {
    fn to_bytes(self, salt: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(TRAILER);
        out.extend_from_slice(&TRAILER_MAGIC);
        out.extend_from_slice(&salt.to_le_bytes());
        out.extend_from_slice(&self.end.next_offset.to_le_bytes());
        out.extend_from_slice(&self.end.next_sequence.to_le_bytes());
        out.extend_from_slice(&self.end.first_at.0.to_le_bytes());
        out.extend_from_slice(&self.end.last_at.0.to_le_bytes());
        out.extend_from_slice(&self.end.frames_end.to_le_bytes());
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(&self.end.last_crc.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.index_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn parse(bytes: &[u8], salt: u64, file_length: u64) -> Option<Self> {
        let covered = bytes.get(..TRAILER - 4)?;
        let crc = Take(bytes.get(TRAILER - 4..)?).u32()?;
        let mut rest = Take(covered);
        let magic = rest.array::<8>()?;
        let found_salt = rest.u64()?;
        let next_offset = rest.u64()?;
        let next_sequence = rest.u64()?;
        let first_at = Ticks(rest.i64()?);
        let last_at = Ticks(rest.i64()?);
        let frames_end = rest.u64()?;
        let entries = rest.u32()?;
        let last_crc = rest.u32()?;
        rest.bytes(8)?;
        let index_crc = rest.u32()?;
        let ends_here =
            frames_end.checked_add(u64::from(entries) * 16 + TRAILER as u64) == Some(file_length);
        let valid = magic == TRAILER_MAGIC
            && found_salt == salt
            && crc == crc32c::crc32c(covered)
            && ends_here;
        let end =
            SegmentEnd { next_offset, next_sequence, first_at, last_at, frames_end, last_crc };
        valid.then_some(Self { end, entries, index_crc })
    }

    /// Reads the trailer at the end of a file; `None` if there is no valid one.
    pub(crate) fn read<F: DiskFile>(file: &F, salt: u64) -> io::Result<Option<Self>> {
        let length = file.length()?;
        let Some(start) = length.checked_sub(TRAILER as u64) else { return Ok(None) };
        let mut bytes = vec![0; TRAILER];
        let read = read_full(file, &mut bytes, start)?;
        Ok(Self::parse(bytes.get(..read).unwrap_or_default(), salt, length))
    }

    /// Reads the index in front of the trailer; `None` if it is damaged.
    pub(crate) fn read_index<F: DiskFile>(&self, file: &F) -> io::Result<Option<Vec<IndexEntry>>> {
        let mut bytes = vec![0; size(self.entries) * 16];
        let read = read_full(file, &mut bytes, self.end.frames_end)?;
        if read < bytes.len() || crc32c::crc32c(&bytes) != self.index_crc {
            return Ok(None);
        }
        let mut rest = Take(&bytes);
        let mut index = Vec::with_capacity(size(self.entries));
        while let (Some(offset), Some(position)) = (rest.u64(), rest.u64()) {
            index.push(IndexEntry { offset, position });
        }
        Ok(Some(index))
    }
}

/// What the next frame follows on, and where frames have been.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) header: SegmentHeader,
    pub(crate) end: SegmentEnd,
    pub(crate) index: Vec<IndexEntry>,
    planted: Planted,
}

impl Chain {
    fn begin(header: SegmentHeader, now: Ticks, planted: Planted) -> (Self, Vec<u8>) {
        let bytes = header.to_bytes();
        let crc = Take(bytes.get(SEGMENT_HEADER - 4..).unwrap_or_default()).u32();
        let mut chain = Self::resume(header, crc.unwrap_or_default(), planted);
        (chain.end.first_at, chain.end.last_at) = (now, now);
        (chain, bytes)
    }

    /// The chain of a segment that exists, before its first frame.
    pub(crate) fn resume(header: SegmentHeader, header_crc: u32, planted: Planted) -> Self {
        let end = SegmentEnd {
            next_offset: header.first_offset,
            next_sequence: header.first_sequence,
            first_at: Ticks(0),
            last_at: Ticks(0),
            frames_end: SEGMENT_HEADER as u64,
            last_crc: header_crc,
        };
        Self { header, end, index: Vec::new(), planted }
    }

    /// Makes the next frame in `frame`, whose first [`FRAME_HEADER`] bytes are free and whose rest is the payload.
    pub(crate) fn make(&self, frame: &mut [u8], events: u32, flags: u8, at: Ticks) -> FrameHeader {
        let mut header = FrameHeader {
            flags,
            length: length32(frame.len().saturating_sub(FRAME_HEADER)),
            events,
            salt: self.header.salt,
            first_offset: self.end.next_offset,
            sequence: self.end.next_sequence,
            at,
            previous_crc: self.end.last_crc,
            crc: 0,
        };
        header.crc = header.seal(frame, self.planted);
        header
    }

    /// Notes that the frame lies at the end of the file.
    pub(crate) fn advance(&mut self, frame: &FrameHeader) {
        let position = self.end.frames_end;
        let far = self.index.last().is_none_or(|entry| position - entry.position >= INDEX_EVERY);
        if far && frame.events > 0 {
            self.index.push(IndexEntry { offset: frame.first_offset, position });
        }
        if position == SEGMENT_HEADER as u64 {
            self.end.first_at = frame.at;
        }
        self.end.last_at = frame.at;
        self.end.next_offset = frame.next_offset();
        self.end.next_sequence = frame.sequence + 1;
        self.end.last_crc = frame.crc;
        self.end.frames_end = position + frame.frame_length();
    }

    fn footer(&self) -> Vec<u8> {
        let mut footer = Vec::with_capacity(self.index.len() * 16 + TRAILER);
        for entry in &self.index {
            footer.extend_from_slice(&entry.offset.to_le_bytes());
            footer.extend_from_slice(&entry.position.to_le_bytes());
        }
        let trailer = Trailer {
            end: self.end,
            entries: length32(self.index.len()),
            index_crc: crc32c::crc32c(&footer),
        };
        footer.extend_from_slice(&trailer.to_bytes(self.header.salt));
        footer
    }
}

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct SegmentWriter<F> {
    file: F,
    pub(crate) chain: Chain,
    /// Where the file ends: behind the last whole frame.
    length: u64,
}

impl<F: DiskFile> SegmentWriter<F> {
    /// Creates the segment, calling `fill` to put its first frames into it before it gets its name.
    pub(crate) fn create<D: Disk<File = F>>(
        disk: &D,
        header: SegmentHeader,
        now: Ticks,
        planted: Planted,
        fill: impl FnOnce(&mut F, &mut Chain) -> io::Result<()>,
    ) -> Result<Self, WriteError> {
        let (mut chain, bytes) = Chain::begin(header, now, planted);
        let file = write_whole(disk, &header.name(), planted, |file| {
            append_full(file, &bytes)?;
            fill(file, &mut chain)
        })?;
        let length = chain.end.frames_end;
        Ok(Self { file, chain, length })
    }

    /// Appends a frame that [`Chain::make`] made. Not durable before [`SegmentWriter::sync`].
    pub(crate) fn append(&mut self, frame: &[u8], header: &FrameHeader) -> Result<(), WriteError> {
        self.append_or_take_back(frame)?;
        self.chain.advance(header);
        Ok(())
    }

    /// Makes what was appended durable.
    pub(crate) fn sync(&mut self) -> Result<(), WriteError> {
        sync_file(&mut self.file, self.chain.planted)
            .map_err(WriteError::poison(&format!("sync {}", self.chain.header.name())))
    }

    /// Appends the footer and syncs it.
    pub(crate) fn seal(&mut self) -> Result<(), WriteError> {
        let footer = self.chain.footer();
        self.append_or_take_back(&footer)?;
        self.sync()
    }

    /// On a full disk the part that was written is cut off again, and the cut is synced: otherwise it could come
    /// back after a power loss, behind or under what is written next.
    fn append_or_take_back(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let name = || self.chain.header.name();
        match append_full(&mut self.file, bytes) {
            Ok(()) => {
                self.length += position(bytes.len());
                Ok(())
            }
            Err(error) if is_full(&error) => {
                if !self.chain.planted.is(Bug::PartialWriteKept) {
                    self.file
                        .truncate(self.length)
                        .map_err(WriteError::poison(&format!("truncate {}", name())))?;
                    self.sync()?;
                }
                Err(WriteError::Full(error))
            }
            Err(error) => Err(WriteError::Poison(format!("write {}: {error}", name()))),
        }
    }

    /// Bytes of the file.
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }
}
