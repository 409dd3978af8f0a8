//! What a start makes of the files that it finds. Nothing is changed before everything needed has been read and
//! judged; a crash at any call leaves something that the next start makes the same thing of.
//!
//! The order: read snapshots, positions and headers · judge · replay the frames behind the snapshot · remove leftovers
//! · copy the valid frames of an unsealed last segment into a new one (after a kill its bytes may only be in the page
//! cache, and after a failed sync the cache may claim that they are on disk) · begin a new positions file. A segment
//! of a previous life is never appended to.

use std::io;
use std::sync::Arc;

use super::bug::{Bug, Planted};
use super::config::JournalConfig;
use super::disk::Disk;
use super::durable::{WriteError, append_full, read_full};
use super::error::OpenError;
use super::frame::{FRAME_HEADER, FrameHeader};
use super::inventory::{
    Candidate, Files, Kept, newest_positions, read_headers, read_snapshots, take_below,
    take_replaced,
};
use super::positions::Positions;
use super::replay::{Replay, open_dedup, replay_all, restore};
use super::scan::{Ending, Found, Scanned, scan};
use super::segment::{
    JournalId, SEGMENT_HEADER, SegmentEnd, SegmentHeader, SegmentWriter, Trailer,
};
use super::shared::Salts;
use super::snapshot::Snapshot;
use super::state::State;
use super::view::{Damage, Segment};
use crate::domain::Ticks;

/// What recovery hands to the engine.
pub(crate) struct Recovered<D: Disk> {
    pub(crate) journal: JournalId,
    pub(crate) segments: Vec<Segment>,
    pub(crate) active: Option<SegmentWriter<D::File>>,
    pub(crate) next_offset: u64,
    pub(crate) next_sequence: u64,
    /// Above the number of every file that was found.
    pub(crate) next_number: u64,
    pub(crate) state: State<D>,
    pub(crate) positions: Positions,
    pub(crate) snapshots: Vec<Kept>,
    /// Bytes cut from a torn tail.
    pub(crate) tail_cut: Option<u64>,
    pub(crate) replayed_bytes: u64,
}

/// Reads, judges, repairs the tail. `None` for an empty directory.
pub(crate) fn recover<D: Disk>(
    disk: &Arc<D>,
    config: &JournalConfig,
    now: Ticks,
    salts: &mut Salts,
    planted: Planted,
) -> Result<Option<Recovered<D>>, OpenError> {
    let files = Files::list(&**disk).map_err(OpenError::io("list the journal's directory"))?;
    if files.is_empty() {
        // Without events nobody can have got anywhere: else this is what is left of a journal.
        let positions = newest_positions(&**disk, &files, None)?;
        if let Some((name, reader)) = positions.readers.iter().find(|(_, reader)| reader.next > 0) {
            let (witness, position) = (format!("reader {name}"), reader.next);
            return Err(OpenError::Behind { witness, position, end: 0 });
        }
        // A first start that was interrupted: the positions file is made before the first segment.
        let names: Vec<String> = files.positions.into_iter().map(|(_, name)| name).collect();
        remove_all(&**disk, &[files.temporary, names].concat())?;
        return Ok(None);
    }
    let (snapshot, snapshots, bad_snapshots) = read_snapshots(&**disk, &files)?;
    let positions = newest_positions(&**disk, &files, snapshot.as_ref())?;
    let mut candidates = read_headers(&**disk, &files)?;
    let mut leftovers = files.temporary.clone();
    leftovers.extend(bad_snapshots);
    leftovers.extend(take_replaced(&mut candidates));
    leftovers.extend(take_below(&mut candidates, snapshot.as_ref()));
    let journal = candidates.iter().find(|candidate| !candidate.headless);
    let Some(journal) = journal.map(|candidate| candidate.header.journal) else {
        return Err(OpenError::Damaged {
            file: "the journal's directory".to_owned(),
            byte: 0,
            detail: "there is no readable segment".to_owned(),
        });
    };
    let mut judged = judge(&**disk, &candidates, snapshot.as_ref(), planted)?;
    let keep_from = behind_forgotten_hole(&judged.segments, snapshot.as_ref(), &positions);
    leftovers.extend(judged.segments.drain(..keep_from).map(|segment| segment.name));

    let dedup = open_dedup(&**disk, config, snapshot.as_ref(), salts)?;
    let mut state = State::new(config, dedup);
    let start = snapshot.as_ref().map_or(0, |snapshot| snapshot.next_sequence);
    if let Some(snapshot) = &snapshot {
        restore(&mut state, snapshot);
    }
    let mut replay =
        Replay { state: &mut state, next: start, planted, bytes: 0, keys: 0, disk: &**disk, now };
    replay_all(&**disk, &judged, start, &mut replay, planted)?;
    let (reached, replayed_bytes) = (replay.next, replay.bytes);
    witness(&judged, start, reached, &positions)?;

    // Judged and read: from here on files change.
    let next_number = files.highest_number() + 1;
    let (active, tail_cut) =
        renew_tail(disk, &mut judged, journal, next_number, salts.next(), now, planted)?;
    leftovers.extend(judged.replaced.take());
    remove_all(&**disk, &leftovers)?;
    Ok(Some(Recovered {
        journal,
        segments: judged.segments,
        active,
        next_offset: judged.end.next_offset,
        next_sequence: judged.end.next_sequence,
        next_number: next_number + 1,
        state,
        positions,
        snapshots,
        tail_cut,
        replayed_bytes,
    }))
}

fn remove_all<D: Disk>(disk: &D, names: &[String]) -> Result<(), OpenError> {
    if names.is_empty() {
        return Ok(());
    }
    for name in names {
        match disk.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::io(format!("remove {name}"))(error));
            }
            _ => {}
        }
    }
    disk.sync_directory().map_err(OpenError::io("sync the journal's directory"))
}

/// What is known of the segments after looking at their ends.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) segments: Vec<Segment>,
    pub(crate) headers: Vec<Candidate>,
    /// Where the journal ends.
    pub(crate) end: SegmentEnd,
    /// Whether the last segment was sealed and synced in the previous life.
    pub(crate) sealed: bool,
    pub(crate) ending: Ending,
    pub(crate) replaced: Option<String>,
}

fn judge<D: Disk>(
    disk: &D,
    candidates: &[Candidate],
    snapshot: Option<&Snapshot>,
    planted: Planted,
) -> Result<Judged, OpenError> {
    let mut segments = Vec::with_capacity(candidates.len());
    let mut sealed = false;
    let mut ending = Ending::Clean;
    for (place, candidate) in candidates.iter().enumerate() {
        let next = candidates.get(place + 1).map(|next| next.header);
        let name = &candidate.name;
        let damaged = |byte: u64, detail: &str| OpenError::Damaged {
            file: name.clone(),
            byte,
            detail: detail.to_owned(),
        };
        if candidate.headless {
            let Some(next) = next else {
                return Err(damaged(0, "the header of the last segment is not valid"));
            };
            segments.push(headless(candidate, next));
            continue;
        }
        let file = disk.open(name).map_err(OpenError::io(format!("open {name}")))?;
        let trailer = Trailer::read(&file, candidate.header.salt)
            .map_err(OpenError::io(format!("read {name}")))?;
        let proven = snapshot.is_some_and(|known| known.sealed_through >= candidate.header.number);
        let mut segment = match (trailer, next) {
            (Some(trailer), Some(_)) => {
                Segment::new(&candidate.header, trailer.end, candidate.bytes)
            }
            (Some(trailer), None) if proven => {
                sealed = true;
                Segment::new(&candidate.header, trailer.end, candidate.bytes)
            }
            _ => {
                let scanned: Scanned = scan::<_, OpenError>(
                    &file,
                    &candidate.header,
                    candidate.header_crc,
                    planted,
                    &mut |_| Ok(()),
                )?;
                match (&scanned.ending, next) {
                    (Ending::Damaged { detail, .. }, None) => {
                        return Err(damaged(scanned.end.frames_end, detail));
                    }
                    (found, None) => ending = found.clone(),
                    (_, Some(_)) => {}
                }
                let mut segment = Segment::new(&candidate.header, scanned.end, candidate.bytes);
                let whole = matches!(scanned.ending, Ending::Clean | Ending::Sealed);
                if whole || next.is_none() {
                    segment.index = Some(Arc::new(scanned.index));
                } else {
                    // Readers find their own way around the damage, up to the end of the file.
                    segment.end.frames_end = candidate.bytes;
                    if let Some(next) = next {
                        segment.end.next_offset = next.first_offset;
                        segment.end.next_sequence = next.first_sequence;
                    }
                }
                segment
            }
        };
        if let Some(next) = next.filter(|next| next.first_offset < segment.end.next_offset) {
            // Cannot come about by a crash; the later segment is the truth about its own offsets.
            segment.end.next_offset = next.first_offset;
        }
        segments.push(segment);
    }
    let Some(end) = segments.last().map(|segment| segment.end) else {
        return Err(OpenError::Damaged {
            file: "the journal's directory".to_owned(),
            byte: 0,
            detail: "there is no segment".to_owned(),
        });
    };
    Ok(Judged { segments, headers: candidates.to_vec(), end, sealed, ending, replaced: None })
}

/// A segment without a readable header: whoever needs it stops.
fn headless(candidate: &Candidate, next: SegmentHeader) -> Segment {
    let end = SegmentEnd {
        next_offset: next.first_offset,
        next_sequence: next.first_sequence,
        first_at: Ticks(i64::MAX),
        last_at: Ticks(i64::MAX),
        frames_end: candidate.bytes,
        last_crc: 0,
    };
    let mut segment = Segment::new(&candidate.header, end, candidate.bytes);
    let detail = "the segment's header is not valid".to_owned();
    segment.damage = Some(Damage { byte: 0, offset: candidate.header.first_offset, detail });
    segment
}

/// The place of the first segment that is still wanted. Where files are missing in the middle although the snapshot
/// knows of no cut, but every reader and the snapshot are past it, the snapshot with the cut has been lost and the
/// rest below the hole is a leftover. Otherwise everything stays, and readers stop at the hole.
fn behind_forgotten_hole(
    segments: &[Segment],
    snapshot: Option<&Snapshot>,
    positions: &Positions,
) -> usize {
    let hole = segments.windows(2).rposition(|pair| match pair {
        [before, after] => before.end.next_offset != after.first_offset,
        _ => false,
    });
    let Some(place) = hole.map(|place| place + 1) else { return 0 };
    let start = segments.get(place).map_or(0, |segment| segment.first_offset);
    let snapshot_past = snapshot.is_some_and(|snapshot| snapshot.next_offset >= start);
    let readers_past = positions.readers.values().all(|reader| reader.next >= start);
    if snapshot_past && readers_past { place } else { 0 }
}

/// Refuses a journal that ends before something that was made durable after its end.
fn witness(
    judged: &Judged,
    start: u64,
    reached: u64,
    positions: &Positions,
) -> Result<(), OpenError> {
    let end = judged.end;
    if start > end.next_sequence {
        let witness = "the snapshot (counted in frames)".to_owned();
        return Err(OpenError::Behind { witness, position: start, end: end.next_sequence });
    }
    if reached != end.next_sequence {
        return Err(OpenError::Damaged {
            file: judged.segments.last().map_or_else(String::new, |last| last.name.clone()),
            byte: end.frames_end,
            detail: format!(
                "the frames end at {reached}, but the segments say {}",
                end.next_sequence
            ),
        });
    }
    match positions.readers.iter().find(|(_, reader)| reader.next > end.next_offset) {
        Some((name, reader)) => Err(OpenError::Behind {
            witness: format!("reader {name}"),
            position: reader.next,
            end: end.next_offset,
        }),
        None => Ok(()),
    }
}

/// The segment to go on with, if there is one, and the bytes that were cut off, if any.
type RenewedTail<F> = (Option<SegmentWriter<F>>, Option<u64>);

/// Copies the last segment's valid frames into a new one, unless it is known to have been sealed and synced.
fn renew_tail<D: Disk>(
    disk: &Arc<D>,
    judged: &mut Judged,
    journal: JournalId,
    number: u64,
    salt: u64,
    now: Ticks,
    planted: Planted,
) -> Result<RenewedTail<D::File>, OpenError> {
    if judged.sealed {
        return Ok((None, None));
    }
    let cut = match judged.ending {
        Ending::Torn { bytes } => Some(bytes),
        Ending::Sealed | Ending::Clean | Ending::Damaged { .. } => None,
    };
    if planted.is(Bug::TailNotRewritten) {
        return Ok((None, cut));
    }
    let (Some(old), Some(candidate)) = (judged.segments.pop(), judged.headers.last()) else {
        return Ok((None, cut));
    };
    let header = SegmentHeader {
        journal,
        number,
        replaces: old.number,
        salt: if planted.is(Bug::RecoveryAppends) { old.salt } else { salt },
        first_offset: old.first_offset,
        first_sequence: candidate.header.first_sequence,
    };
    let file = disk.open(&old.name).map_err(OpenError::io(format!("open {}", old.name)))?;
    let writer = SegmentWriter::create(&**disk, header, now, planted, |to, chain| {
        let mut frame = Vec::new();
        let mut copy = |found: Found<'_>| -> io::Result<()> {
            frame.clear();
            frame.resize(FRAME_HEADER, 0);
            frame.extend_from_slice(found.payload);
            let FrameHeader { events, flags, at, sequence, .. } = found.header;
            // Differs from the next in line only behind a hole.
            chain.end.next_sequence = sequence;
            let made = chain.make(&mut frame, events, flags, at);
            append_full(to, &frame)?;
            chain.advance(&made);
            Ok(())
        };
        scan::<_, io::Error>(&file, &candidate.header, candidate.header_crc, planted, &mut copy)?;
        if planted.is(Bug::RecoveryAppends)
            && let Some(bytes) = cut
        {
            let mut garbage = vec![0; usize::try_from(bytes).unwrap_or_default()];
            read_full(&file, &mut garbage, old.end.frames_end)?;
            append_full(to, &garbage)?;
            chain.end.frames_end += bytes;
        }
        Ok(())
    });
    let writer = writer.map_err(|error| match error {
        WriteError::Full(cause) => {
            OpenError::io("copy the end of the journal into a new segment")(cause)
        }
        WriteError::Poison(detail) => OpenError::io(detail)(io::ErrorKind::Other.into()),
    })?;
    let chain = &writer.chain;
    let mut segment = Segment::new(&header, chain.end, writer.length());
    segment.index = Some(Arc::new(chain.index.clone()));
    judged.segments.push(segment);
    judged.end = chain.end;
    judged.replaced = Some(old.name);
    debug_assert!(chain.end.frames_end >= SEGMENT_HEADER as u64, "the header is there");
    Ok((Some(writer), cut))
}
