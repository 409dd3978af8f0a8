//! What is in the journal's directory: the files by kind, their headers, which of them are leftovers. What to make of a
//! segment's inside is `recovery`'s and `walk`'s business.

use std::collections::BTreeSet;
use std::io;

use super::disk::Disk;
use super::durable::TEMPORARY;
use super::error::OpenError;
use super::positions::{Positions, parse_positions_name, read_positions};
use super::scan::read_header;
use super::segment::{BadHeader, SEGMENT_VERSION, SegmentHeader, parse_segment_name};
use super::snapshot::{BadSnapshot, Snapshot, parse_snapshot_name, snapshot_name};

/// A snapshot that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) number: u64,
    pub(crate) next_offset: u64,
    pub(crate) next_sequence: u64,
    /// State of the dedup set, whose files it needs.
    pub(crate) dedup: Vec<u8>,
}

/// What is in the directory, by kind.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) segments: Vec<(u64, u64, String, u64)>,
    pub(crate) snapshots: Vec<(u64, String)>,
    pub(crate) positions: Vec<(u64, String)>,
    pub(crate) temporary: Vec<String>,
}

impl Files {
    pub(crate) fn list<D: Disk>(disk: &D) -> io::Result<Self> {
        let mut files = Self::default();
        for (name, bytes) in disk.list()? {
            if name.ends_with(TEMPORARY) {
                files.temporary.push(name);
            } else if let Some((number, offset)) = parse_segment_name(&name) {
                files.segments.push((number, offset, name, bytes));
            } else if let Some(number) = parse_snapshot_name(&name) {
                files.snapshots.push((number, name));
            } else if let Some(number) = parse_positions_name(&name) {
                files.positions.push((number, name));
            }
        }
        files.segments.sort_unstable();
        files.snapshots.sort_unstable();
        files.positions.sort_unstable();
        files.temporary.sort_unstable();
        Ok(files)
    }

    /// Whether a journal has been here.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.snapshots.is_empty()
    }

    pub(crate) fn highest_number(&self) -> u64 {
        let segments = self.segments.iter().map(|(number, ..)| *number);
        let snapshots = self.snapshots.iter().map(|(number, _)| *number);
        let positions = self.positions.iter().map(|(number, _)| *number);
        segments.chain(snapshots).chain(positions).max().unwrap_or_default()
    }
}

/// A segment with its header, in the course of judging.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) header: SegmentHeader,
    pub(crate) header_crc: u32,
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// The header cannot be read; what is known comes from the name.
    pub(crate) headless: bool,
}

/// The id of the journal in `disk`: `None` where there is no journal.
pub fn journal_id_of<D: Disk>(disk: &D) -> Result<Option<[u8; 16]>, OpenError> {
    let files = Files::list(disk).map_err(OpenError::io("list the journal's directory"))?;
    for (_, _, name, _) in files.segments.iter().rev() {
        let file = disk.open(name).map_err(OpenError::io(format!("open {name}")))?;
        if let Ok((header, _)) =
            read_header(&file).map_err(OpenError::io(format!("read {name}")))?
        {
            return Ok(Some(header.journal));
        }
    }
    for (_, name) in files.snapshots.iter().rev() {
        if let Ok(snapshot) = Snapshot::read(disk, name) {
            return Ok(Some(snapshot.journal));
        }
    }
    Ok(None)
}

pub(crate) type Snapshots = (Option<Snapshot>, Vec<Kept>, Vec<String>);

/// The newest snapshot that can be read, all that can be read (oldest first), and the names of the others.
pub(crate) fn read_snapshots<D: Disk>(disk: &D, files: &Files) -> Result<Snapshots, OpenError> {
    let mut newest = None;
    let mut kept = Vec::new();
    let mut bad = Vec::new();
    for (number, name) in files.snapshots.iter().rev() {
        match Snapshot::read(disk, name) {
            Ok(snapshot) => {
                let (next_offset, next_sequence) = (snapshot.next_offset, snapshot.next_sequence);
                let dedup = snapshot.dedup.clone();
                kept.insert(0, Kept { number: *number, next_offset, next_sequence, dedup });
                newest = newest.or(Some(snapshot));
            }
            Err(BadSnapshot::TooNew(found)) => {
                return Err(OpenError::TooNew { file: name.clone(), found, known: 1 });
            }
            // What cannot be read now may be read later: only what was read can be judged.
            Err(BadSnapshot::Unread(cause)) => {
                return Err(OpenError::Io { action: format!("read {name}"), cause });
            }
            Err(BadSnapshot::Damaged(detail)) => {
                tracing::warn!(snapshot = %name, %detail, "a snapshot is damaged; an older one is used");
                bad.push(name.clone());
            }
        }
    }
    // More than two are leftovers of a crash.
    while kept.len() > 2 {
        bad.push(snapshot_name(kept.remove(0).number));
    }
    Ok((newest, kept, bad))
}

pub(crate) fn newest_positions<D: Disk>(
    disk: &D,
    files: &Files,
    snapshot: Option<&Snapshot>,
) -> Result<Positions, OpenError> {
    let mut newest = snapshot.map(|snapshot| snapshot.positions.clone()).unwrap_or_default();
    for (_, name) in &files.positions {
        let found = read_positions(disk, name).map_err(OpenError::io(format!("read {name}")))?;
        if let Some(found) = found.filter(|found| found.serial >= newest.serial) {
            newest = found;
        }
    }
    Ok(newest)
}

pub(crate) fn read_headers<D: Disk>(disk: &D, files: &Files) -> Result<Vec<Candidate>, OpenError> {
    let mut candidates = Vec::with_capacity(files.segments.len());
    for (number, first_offset, name, bytes) in &files.segments {
        let file = disk.open(name).map_err(OpenError::io(format!("open {name}")))?;
        let read = read_header(&file).map_err(OpenError::io(format!("read {name}")))?;
        let named = |(header, _): &(SegmentHeader, u32)| {
            header.number == *number && header.first_offset == *first_offset
        };
        let (header, header_crc, headless) = match read {
            Ok(found) if named(&found) => (found.0, found.1, false),
            Err(BadHeader::TooNew(found)) => {
                let file = name.clone();
                return Err(OpenError::TooNew { file, found, known: SEGMENT_VERSION });
            }
            Ok(_) | Err(BadHeader::Damaged) => {
                let header = SegmentHeader {
                    journal: [0; 16],
                    number: *number,
                    replaces: 0,
                    salt: 0,
                    first_offset: *first_offset,
                    first_sequence: 0,
                };
                (header, 0, true)
            }
        };
        let (name, bytes) = (name.clone(), *bytes);
        candidates.push(Candidate { header, header_crc, name, bytes, headless });
    }
    // By place, not by number: a repaired segment has a new number.
    candidates.sort_by_key(|candidate| {
        let header = &candidate.header;
        (header.first_offset, header.first_sequence, header.number)
    });
    Ok(candidates)
}

/// Takes out the segments that a recovery has copied into another one.
pub(crate) fn take_replaced(candidates: &mut Vec<Candidate>) -> Vec<String> {
    let replaced: BTreeSet<u64> =
        candidates.iter().map(|candidate| candidate.header.replaces).filter(|n| *n > 0).collect();
    take_if(candidates, |candidate| replaced.contains(&candidate.header.number))
}

/// Takes out the segments that were given up before the snapshot was written; never the last. Frames without
/// events move no offset, so the frames' own count must be below the snapshot's, too.
pub(crate) fn take_below(
    candidates: &mut Vec<Candidate>,
    snapshot: Option<&Snapshot>,
) -> Vec<String> {
    let (offset, sequence) = snapshot.map_or((0, 0), |known| (known.cut, known.next_sequence));
    let followers: Vec<SegmentHeader> =
        candidates.iter().skip(1).map(|candidate| candidate.header).collect();
    let mut nexts = followers.into_iter();
    take_if(candidates, |_| {
        nexts.next().is_some_and(|n| n.first_offset <= offset && n.first_sequence <= sequence)
    })
}

fn take_if(
    candidates: &mut Vec<Candidate>,
    mut out: impl FnMut(&Candidate) -> bool,
) -> Vec<String> {
    let mut names = Vec::new();
    candidates.retain(|candidate| {
        let taken = out(candidate);
        if taken {
            names.push(candidate.name.clone());
        }
        !taken
    });
    names
}
