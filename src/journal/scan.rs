//! Reading a segment frame by frame, and what to call the place where that ends. It changes nothing: cutting and
//! copying are `recovery`'s and `tools`' business.

use std::io;

use super::bug::{Bug, Planted};
use super::bytes::{position, size};
use super::disk::DiskFile;
use super::durable::read_full;
use super::frame::{FRAME_HEADER, FrameHeader, SALT_AT};
use super::segment::{IndexEntry, SEGMENT_HEADER, SegmentEnd, SegmentHeader, Trailer};

/// A frame that has been read and checked. `position` is where it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) header: FrameHeader,
    pub(crate) payload: &'a [u8],
    pub(crate) position: u64,
}

/// How a segment ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a valid footer.
    Sealed,
    /// Behind a valid frame.
    Clean,
    /// With bytes that are no frame, and nothing valid behind them.
    Torn {
        /// How many bytes that are.
        bytes: u64,
    },
    /// With bytes that are no frame, and valid frames behind them.
    Damaged {
        /// Where the next valid frame begins.
        next_valid: u64,
        /// What is wrong.
        detail: String,
    },
}

/// What a scan found.
#[derive(Debug, Clone)]
pub(crate) struct Scanned {
    pub(crate) end: SegmentEnd,
    pub(crate) index: Vec<IndexEntry>,
    pub(crate) ending: Ending,
}

/// Reads frames one after the other and checks that each follows on the one before.
#[derive(Debug)]
pub(crate) struct FrameReader<'a, F> {
    file: &'a F,
    length: u64,
    salt: u64,
    buffer: Vec<u8>,
    position: u64,
    planted: Planted,
}

impl<'a, F: DiskFile> FrameReader<'a, F> {
    pub(crate) fn new(file: &'a F, salt: u64, planted: Planted) -> io::Result<Self> {
        Ok(Self { file, length: file.length()?, salt, buffer: Vec::new(), position: 0, planted })
    }

    /// Length of the file when the reader was made.
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// The payload of the frame that was read last.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.buffer
    }

    /// Where the frame that was read last begins.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// The frame at `start`, if there is a valid one; its place in the chain is not judged.
    pub(crate) fn frame_at(&mut self, start: u64) -> io::Result<Result<Found<'_>, &'static str>> {
        self.position = start;
        let mut head = [0; FRAME_HEADER];
        if read_full(self.file, &mut head, start)? < FRAME_HEADER {
            return Ok(Err("the frame's header ends early"));
        }
        let Some(header) = FrameHeader::parse(&head) else {
            return Ok(Err("there is no frame's header"));
        };
        if header.salt != self.salt && !self.planted.is(Bug::CrcWithoutSalt) {
            return Ok(Err("the frame belongs to another segment"));
        }
        let payload_start = start + FRAME_HEADER as u64;
        if payload_start.saturating_add(u64::from(header.length)) > self.length {
            return Ok(Err("the frame is longer than the file"));
        }
        self.buffer.clear();
        self.buffer.resize(size(header.length), 0);
        let read = read_full(self.file, &mut self.buffer, payload_start)?;
        if read < self.buffer.len() {
            return Ok(Err("the frame ends early"));
        }
        if !header.matches(&self.buffer, self.planted) {
            return Ok(Err("the frame's checksum is wrong"));
        }
        Ok(Ok(Found { header, payload: &self.buffer, position: start }))
    }

    /// Where the next valid frame begins, from `start` on. Looks for the segment's salt.
    pub(crate) fn next_valid(&mut self, start: u64) -> io::Result<Option<u64>> {
        const WINDOW: usize = 1 << 20;
        let salt = self.salt.to_le_bytes();
        let finder = memchr::memmem::Finder::new(&salt);
        let rest = usize::try_from(self.length.saturating_sub(start)).unwrap_or(WINDOW);
        let mut window = vec![0; WINDOW.min(rest)];
        let mut base = start;
        while base < self.length {
            let read = read_full(self.file, &mut window, base)?;
            let seen = window.get(..read).unwrap_or_default();
            for place in finder.find_iter(seen) {
                let candidate = (base + position(place)).checked_sub(SALT_AT as u64);
                if let Some(candidate) = candidate.filter(|candidate| *candidate >= start)
                    && self.frame_at(candidate)?.is_ok()
                {
                    return Ok(Some(candidate));
                }
            }
            if read < WINDOW {
                break;
            }
            // Overlap, so that a salt on the edge is seen.
            base += position(WINDOW - salt.len() + 1);
        }
        Ok(None)
    }
}

/// Whether `frame` may follow on `end`.
fn follows(end: &SegmentEnd, frame: &FrameHeader) -> Result<(), &'static str> {
    if frame.previous_crc != end.last_crc {
        Err("the frame does not follow on the one before it")
    } else if frame.first_offset != end.next_offset {
        Err("offsets are missing in front of the frame")
    } else if frame.sequence != end.next_sequence
        && !(frame.is_hole() && frame.sequence > end.next_sequence)
    {
        Err("a frame is missing in front of the frame")
    } else {
        Ok(())
    }
}

/// Scans a segment from its first frame, showing each valid frame to `visit`; stops at the first that is not.
pub(crate) fn scan<F: DiskFile, E: From<io::Error>>(
    file: &F,
    header: &SegmentHeader,
    header_crc: u32,
    planted: Planted,
    visit: &mut dyn FnMut(Found<'_>) -> Result<(), E>,
) -> Result<Scanned, E> {
    let mut reader = FrameReader::new(file, header.salt, planted)?;
    let trailer = Trailer::read(file, header.salt)?;
    let mut chain = super::segment::Chain::resume(*header, header_crc, planted);
    let length = reader.length();
    let ending = loop {
        let at = chain.end.frames_end;
        if at == length {
            break Ending::Clean;
        }
        let detail = match reader.frame_at(at)? {
            Ok(found) => match follows(&chain.end, &found.header) {
                Ok(()) => {
                    visit(found)?;
                    chain.advance(&found.header);
                    continue;
                }
                // It is valid in itself, so it was durable, and something in front of it is gone.
                Err(detail) => {
                    break Ending::Damaged { next_valid: at, detail: detail.to_owned() };
                }
            },
            Err(detail) => detail,
        };
        if let Some(trailer) = trailer.filter(|trailer| trailer.end.same_place(&chain.end))
            && trailer.read_index(file)?.is_some()
        {
            break Ending::Sealed;
        }
        break match reader.next_valid(at + 1)? {
            Some(next_valid) => Ending::Damaged { next_valid, detail: detail.to_owned() },
            None => Ending::Torn { bytes: length - at },
        };
    };
    Ok(Scanned { end: chain.end, index: chain.index, ending })
}

/// Reads and checks a segment's header.
pub(crate) fn read_header<F: DiskFile>(
    file: &F,
) -> io::Result<Result<(SegmentHeader, u32), super::segment::BadHeader>> {
    let mut bytes = vec![0; SEGMENT_HEADER];
    let read = read_full(file, &mut bytes, 0)?;
    Ok(SegmentHeader::parse(bytes.get(..read).unwrap_or_default()))
}
