//! Reading everything that can be read, damage or not, without changing anything: what `verify`, `export`, `stat` and
//! `repair` stand on. Works beside a running daemon, whose files come and go meanwhile.

use std::io;

use super::bug::Planted;
use super::bytes::Take;
use super::disk::{Disk, DiskFile as _};
use super::durable::read_full;
use super::error::OpenError;
use super::frame::{FRAME_HEADER, FrameHeader, SALT_AT};
use super::inventory::{
    Candidate, Files, newest_positions, read_headers, read_snapshots, take_below, take_replaced,
};
use super::positions::Positions;
use super::scan::{Found, FrameReader};
use super::segment::{SEGMENT_HEADER, Trailer};
use super::snapshot::Snapshot;

/// The files that make up the journal at this moment, in order.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) files: Files,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) bad_snapshots: Vec<String>,
    pub(crate) positions: Positions,
    pub(crate) segments: Vec<Candidate>,
}

impl Plan {
    /// Looks at the directory. Tries again when a file that was listed has gone.
    pub(crate) fn make<D: Disk>(disk: &D) -> Result<Self, OpenError> {
        const TRIES: usize = 5;
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_make(disk) {
                Err(OpenError::Io { cause, .. })
                    if cause.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
                result => return result,
            }
        }
    }

    fn try_make<D: Disk>(disk: &D) -> Result<Self, OpenError> {
        let files = Files::list(disk).map_err(OpenError::io("list the journal's directory"))?;
        let (snapshot, _, bad_snapshots) = read_snapshots(disk, &files)?;
        let positions = newest_positions(disk, &files, snapshot.as_ref())?;
        let mut segments = read_headers(disk, &files)?;
        take_replaced(&mut segments);
        take_below(&mut segments, snapshot.as_ref());
        Ok(Self { files, snapshot, bad_snapshots, positions, segments })
    }
}

/// What a walk over a segment comes upon.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    /// A valid frame.
    Frame(Found<'a>),
    /// Bytes `from..to` that are no valid frame.
    Bad { from: u64, to: u64, detail: &'static str },
    /// A valid footer: the segment is sealed.
    Footer,
}

/// Shows every valid frame of a segment, and what lies between. A file that has gone shows nothing and is `false`.
pub(crate) fn walk<D: Disk, E: From<io::Error>>(
    disk: &D,
    segment: &Candidate,
    visit: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    let file = match disk.open(&segment.name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let salt = if segment.headless { salt_of_first_frame(&file)? } else { segment.header.salt };
    if segment.headless {
        let (to, detail) = (SEGMENT_HEADER as u64, "the segment's header is not valid");
        visit(Piece::Bad { from: 0, to: to.min(file.length()?), detail })?;
    }
    let trailer = Trailer::read(&file, salt)?;
    let frames_end = match &trailer {
        Some(trailer) => trailer.end.frames_end,
        None => file.length()?,
    };
    let mut reader = FrameReader::new(&file, salt, Planted::default())?;
    let mut at = SEGMENT_HEADER as u64;
    while at < frames_end {
        let detail = match reader.frame_at(at)? {
            Ok(found) => {
                at += found.header.frame_length();
                visit(Piece::Frame(found))?;
                continue;
            }
            Err(detail) => detail,
        };
        let next = reader.next_valid(at + 1)?.filter(|next| *next < frames_end);
        let to = next.unwrap_or(frames_end);
        visit(Piece::Bad { from: at, to, detail })?;
        at = to;
    }
    if let Some(trailer) = trailer {
        if trailer.read_index(&file)?.is_some() {
            visit(Piece::Footer)?;
        } else {
            let (to, detail) = (file.length()?, "the segment's index is not valid");
            visit(Piece::Bad { from: frames_end, to, detail })?;
        }
    }
    Ok(true)
}

/// A segment whose header is damaged still has its salt in every frame.
fn salt_of_first_frame<F: super::disk::DiskFile>(file: &F) -> io::Result<u64> {
    let mut head = [0; FRAME_HEADER];
    read_full(file, &mut head, SEGMENT_HEADER as u64)?;
    let salt = head.get(SALT_AT..).and_then(|rest| Take(rest).u64());
    Ok(FrameHeader::parse(&head).and(salt).unwrap_or_default())
}
