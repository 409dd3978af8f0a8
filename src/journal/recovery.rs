//! What a start makes of the files that it finds. Nothing is changed before everything needed has been read and
//! judged; a crash at any call leaves something that the next start makes the same thing of.
//!
//! The order: read snapshots, positions and headers · judge · replay the frames behind the snapshot · remove leftovers
//! · copy the valid frames of an unsealed last segment into a new one (after a kill its bytes may only be in the page
//! cache, and after a failed sync the cache may claim that they are on disk) · begin a new positions file. A segment
//! of a previous life is never appended to.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::bug::{Bug, Planted};
use super::bytes::Take;
use super::codec::{Block, Body};
use super::config::JournalConfig;
use super::dedup::{Dedup, RunError};
use super::disk::Disk;
use super::error::OpenError;
use super::frame::{FRAME_HEADER, FrameHeader};
use super::positions::{Positions, parse_positions_name, read_positions};
use super::scan::{Ending, Found, Scanned, read_header, scan};
use super::segment::{
    BadHeader, JournalId, SEGMENT_HEADER, SEGMENT_VERSION, SegmentEnd, SegmentHeader,
    SegmentWriter, TEMPORARY, Trailer, WriteError, append_full, parse_segment_name,
};
use super::shared::Salts;
use super::snapshot::{BadSnapshot, Snapshot, parse_snapshot_name, snapshot_name};
use super::state::{State, dedup_config};
use super::view::{Damage, Segment};
use crate::domain::Ticks;

/// A snapshot that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) number: u64,
    pub(crate) next_offset: u64,
    pub(crate) next_sequence: u64,
    /// State of the dedup set, whose files it needs.
    pub(crate) dedup: Vec<u8>,
}

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

/// What is in the directory, by kind.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) segments: Vec<(u64, u64, String, u64)>,
    pub(crate) snapshots: Vec<(u64, String)>,
    pub(crate) positions: Vec<(u64, String)>,
    temporary: Vec<String>,
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

/// What is known of the segments after looking at their ends.
#[derive(Debug)]
struct Judged {
    segments: Vec<Segment>,
    headers: Vec<Candidate>,
    /// Where the journal ends.
    end: SegmentEnd,
    /// Whether the last segment was sealed and synced in the previous life.
    sealed: bool,
    ending: Ending,
    replaced: Option<String>,
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

fn restore<D: Disk>(state: &mut State<D>, snapshot: &Snapshot) {
    let effects = super::codec::Effects {
        cursors: snapshot.cursors.clone(),
        tickets: snapshot.tickets.clone(),
        dead_letters: snapshot.dead_letters.clone(),
        ..Default::default()
    };
    state.apply(effects, false);
    state.dead_letters_expired = snapshot.dead_letters_expired;
}

/// Applies frames to the state.
struct Replay<'a, D: Disk> {
    state: &'a mut State<D>,
    disk: &'a D,
    now: Ticks,
    next: u64,
    planted: Planted,
    bytes: u64,
    keys: usize,
}

impl<D: Disk> Replay<'_, D> {
    fn frame(&mut self, found: &Found<'_>, file: &str) -> Result<(), OpenError> {
        let header = &found.header;
        if header.sequence < self.next {
            return Ok(());
        }
        let damaged = |detail: String| OpenError::Damaged {
            file: file.to_owned(),
            byte: found.position,
            detail,
        };
        if header.sequence != self.next && !header.is_hole() {
            return Err(damaged(format!(
                "frames from {} on are missing, and the state cannot be rebuilt without them",
                self.next
            )));
        }
        self.next = header.sequence + 1;
        self.bytes += header.frame_length();
        let mut payload = Take(found.payload);
        while !payload.0.is_empty() {
            let block = Block::take(&mut payload).map_err(damaged)?;
            let body = block.body().map_err(damaged)?;
            let effects = Body::parse(&body).and_then(|body| body.effects()).map_err(damaged)?;
            let with_keys = !self.planted.is(Bug::DedupOutsideFrame);
            self.keys += effects.ids.len() + effects.mails_seen.len();
            self.state.apply(effects, with_keys);
        }
        if self.keys >= KEYS_PER_MAINTAIN {
            self.keys = 0;
            self.state.dedup.maintain(self.disk, self.now).map_err(run_failed)?;
        }
        Ok(())
    }
}

/// Keeps the dedup set within its budget during a long replay.
const KEYS_PER_MAINTAIN: usize = 50_000;

fn run_failed(error: RunError) -> OpenError {
    match error {
        RunError::Write(cause) => OpenError::io("write a part of the dedup set")(cause),
        RunError::Sync(cause) => OpenError::io("sync a part of the dedup set")(cause),
    }
}

/// The dedup set of the snapshot; an empty one where there is no snapshot.
fn open_dedup<D: Disk>(
    disk: &D,
    config: &JournalConfig,
    snapshot: Option<&Snapshot>,
    salts: &mut Salts,
) -> Result<Dedup<D>, OpenError> {
    let config = dedup_config(config);
    if let Some(snapshot) = snapshot {
        return Dedup::restore(config, &snapshot.dedup, disk)
            .map_err(OpenError::io("read the dedup set's state in the snapshot"));
    }
    let dedup = Dedup::new(config, salts.next_u128());
    // Files of it that no snapshot knows are leftovers.
    dedup.prune(disk, &[]).map_err(OpenError::io("remove leftovers of the dedup set"))?;
    Ok(dedup)
}

fn replay_all<D: Disk>(
    disk: &D,
    judged: &Judged,
    start: u64,
    replay: &mut Replay<'_, D>,
    planted: Planted,
) -> Result<(), OpenError> {
    for segment in judged.segments.iter().filter(|segment| segment.end.next_sequence > start) {
        let name = &segment.name;
        let damaged = |byte: u64, detail: &str| OpenError::Damaged {
            file: name.clone(),
            byte,
            detail: detail.to_owned(),
        };
        let header = judged.headers.iter().find(|known| known.header.number == segment.number);
        let Some(candidate) = header.filter(|_| segment.damage.is_none()) else {
            return Err(damaged(0, "the segment's header is not valid"));
        };
        let file = disk.open(name).map_err(OpenError::io(format!("open {name}")))?;
        let scanned =
            scan(&file, &candidate.header, candidate.header_crc, planted, &mut |found| {
                replay.frame(&found, name)
            })?;
        if let Ending::Damaged { detail, .. } = &scanned.ending {
            return Err(damaged(scanned.end.frames_end, detail));
        }
    }
    Ok(())
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

/// Copies the last segment's valid frames into a new one, unless it is known to have been sealed and synced.
#[expect(clippy::too_many_arguments, reason = "everything that a new segment's header says")]
fn renew_tail<D: Disk>(
    disk: &Arc<D>,
    judged: &mut Judged,
    journal: JournalId,
    number: u64,
    salt: u64,
    now: Ticks,
    planted: Planted,
) -> Result<(Option<SegmentWriter<D::File>>, Option<u64>), OpenError> {
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
            super::segment::read_full(&file, &mut garbage, old.end.frames_end)?;
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
