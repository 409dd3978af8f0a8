//! The frame: one checksummed write, one sync, one transaction. What is inside a frame's payload, `codec` says;
//! where frames lie, `segment` says.
//!
//! ```text
//! frame  = header (64 bytes) · payload
//! header = magic "PfrM" · version u8 · flags u8 · 2 × 0 · payload length u32 · events u32
//!          · segment salt u64 · first offset u64 · batch sequence u64 · written at i64
//!          · CRC of the frame before u32 · 8 × 0 · CRC u32
//! payload= blocks, one for each unit
//! ```
//!
//! The CRC (CRC-32C) covers the header before it and the payload. The salt is 64 random bits of the segment: bytes
//! of an older file, or a frame that somebody hides inside an event, never pass for a frame of this one. The first
//! frame of a segment carries the CRC of the segment's header as "frame before".
//!
//! How each part can be broken, and what happens then:
//!
//! | broken | seen by | what happens |
//! |---|---|---|
//! | any bit of header or payload | CRC; magic, salt, length | the frame is invalid, see below |
//! | the end is missing, zero-filled or torn | length or CRC | the same |
//! | a whole frame is missing in the middle, or repeated | first offset, sequence, CRC of the frame before | the same |
//! | invalid frame in the last segment, nothing valid behind it | | torn tail: cut, counted, logged |
//! | invalid frame with a valid one behind it, or in a sealed segment | | damage: readers stop there; nothing is cut |
//!
//! The rule for the torn tail is exact because a frame is only written after the one before it has been synced:
//! whatever has a valid frame behind it was durable once.
//!
//! Flags: 1 = a **hole**, written by `repair` in place of what could not be read: no payload, `events` offsets that
//! nobody can have any more, and the sequence of the last frame that is missing.

use super::bug::{Bug, Planted};
use super::bytes::{Take, size};
use crate::domain::Ticks;

/// Length of a frame's header.
pub(crate) const FRAME_HEADER: usize = 64;
/// Version of the frame format that this build writes.
pub(crate) const FRAME_VERSION: u8 = 1;
/// Flag of a frame that stands for what a repair had to give up.
pub(crate) const FLAG_HOLE: u8 = 1;
/// Largest payload that is written or believed.
pub(crate) const MAX_PAYLOAD: usize = 0xC000_0000;
/// Where the salt is in the header; a search for frames looks for it.
pub(crate) const SALT_AT: usize = 16;

const MAGIC: [u8; 4] = *b"PfrM";

/// A frame's header, without the parts that are the same in every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) flags: u8,
    pub(crate) length: u32,
    pub(crate) events: u32,
    pub(crate) salt: u64,
    pub(crate) first_offset: u64,
    pub(crate) sequence: u64,
    pub(crate) at: Ticks,
    pub(crate) previous_crc: u32,
    pub(crate) crc: u32,
}

impl FrameHeader {
    /// The offset after the frame's last event.
    pub(crate) fn next_offset(&self) -> u64 {
        self.first_offset.saturating_add(u64::from(self.events))
    }

    /// Whether it is a hole.
    pub(crate) const fn is_hole(&self) -> bool {
        self.flags & FLAG_HOLE != 0
    }

    /// Length of the whole frame.
    pub(crate) const fn frame_length(&self) -> u64 {
        FRAME_HEADER as u64 + self.length as u64
    }

    /// Reads a header without judging it against a payload; `None` if it cannot be one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = Take(bytes);
        if rest.array()? != MAGIC || rest.u8()? != FRAME_VERSION {
            return None;
        }
        let flags = rest.u8()?;
        let padding = rest.array::<2>()?;
        let length = rest.u32()?;
        let events = rest.u32()?;
        // `SALT_AT` bytes so far.
        let salt = rest.u64()?;
        let first_offset = rest.u64()?;
        let sequence = rest.u64()?;
        let at = Ticks(rest.i64()?);
        let previous_crc = rest.u32()?;
        let more_padding = rest.array::<8>()?;
        let crc = rest.u32()?;
        let plausible = padding == [0; 2]
            && more_padding == [0; 8]
            && flags & !FLAG_HOLE == 0
            && size(length) <= MAX_PAYLOAD;
        plausible.then_some(Self {
            flags,
            length,
            events,
            salt,
            first_offset,
            sequence,
            at,
            previous_crc,
            crc,
        })
    }

    /// Whether the checksum is right for these bytes of payload.
    pub(crate) fn matches(&self, payload: &[u8], planted: Planted) -> bool {
        self.checksum(payload, planted) == self.crc
    }

    /// Writes the header, with its checksum, in front of `payload`, which begins at [`FRAME_HEADER`] of `frame`.
    /// Returns the checksum.
    pub(crate) fn seal(mut self, frame: &mut [u8], planted: Planted) -> u32 {
        let Some((head, payload)) = frame.split_at_mut_checked(FRAME_HEADER) else { return 0 };
        self.crc = self.checksum(payload, planted);
        head.copy_from_slice(&self.to_bytes());
        self.crc
    }

    fn checksum(&self, payload: &[u8], planted: Planted) -> u32 {
        let mut header = *self;
        if planted.is(Bug::CrcWithoutSalt) {
            header.salt = 0;
        }
        let bytes = header.to_bytes();
        let covered = bytes.get(..FRAME_HEADER - 4).unwrap_or_default();
        crc32c::crc32c_append(crc32c::crc32c(covered), payload)
    }

    fn to_bytes(self) -> [u8; FRAME_HEADER] {
        let mut out = [0; FRAME_HEADER];
        let parts: [(usize, &[u8]); 11] = [
            (0, &MAGIC),
            (4, &[FRAME_VERSION, self.flags]),
            (8, &self.length.to_le_bytes()),
            (12, &self.events.to_le_bytes()),
            (SALT_AT, &self.salt.to_le_bytes()),
            (24, &self.first_offset.to_le_bytes()),
            (32, &self.sequence.to_le_bytes()),
            (40, &self.at.0.to_le_bytes()),
            (48, &self.previous_crc.to_le_bytes()),
            (52, &[0; 8]),
            (60, &self.crc.to_le_bytes()),
        ];
        for (start, bytes) in parts {
            if let Some(place) = out.get_mut(start..start + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        out
    }
}
