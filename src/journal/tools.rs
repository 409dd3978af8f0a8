//! What `postern journal verify`, `stat` and `export` do: they read, also beside a running daemon, and change nothing.
//! `repair` is next door.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use serde::Serialize;

use super::bytes::Take;
use super::codec::{Block, Body};
use super::disk::Disk;
use super::engine::hex;
use super::error::OpenError;
use super::inventory::Candidate;
use super::port::Offset;
use super::view::decode;
use super::walk::{Piece, Plan, walk};
use crate::domain::{DeadLetter, Event, EventId};

/// How a segment was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Whole, and closed with a footer.
    Sealed,
    /// The last one: being written, or left behind by a kill; what is after the last whole frame was never confirmed.
    Open,
    /// Every frame is readable, but the footer or the number of events is not as it should be.
    Odd,
    /// Something that was durable cannot be read.
    Damaged,
}

/// One segment, verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentReport {
    /// File name.
    pub name: String,
    /// Offset of its first event.
    pub first: Offset,
    /// Offset after its last readable event.
    pub next: Offset,
    /// Readable frames.
    pub frames: u64,
    /// Readable events.
    pub events: u64,
    /// Events that an earlier repair gave up.
    pub events_given_up: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// How it was found.
    pub condition: Condition,
    /// The first byte that is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad_byte: Option<u64>,
    /// Bytes that are no valid frame.
    pub bad_bytes: u64,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A range of offsets that no file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// First offset that is missing.
    pub from: Offset,
    /// First offset that is there again.
    pub to: Offset,
}

/// What `verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The journal's id.
    pub journal_id: String,
    /// Oldest offset.
    pub first: Offset,
    /// Offset after the last readable event.
    pub next: Offset,
    /// Readable frames.
    pub frames: u64,
    /// Readable events.
    pub events: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The segments, in order.
    pub segments: Vec<SegmentReport>,
    /// Offsets that are missing.
    pub missing: Vec<Missing>,
    /// Snapshots that cannot be read.
    pub bad_snapshots: Vec<String>,
    /// Whether all is well.
    pub sound: bool,
}

/// Reads every byte of the journal and checks it. `progress` is told the bytes done and the bytes in all.
pub fn verify<D: Disk>(
    disk: &D,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport, OpenError> {
    let plan = Plan::make(disk)?;
    let total = plan.segments.iter().map(|segment| segment.bytes).sum();
    let mut done = 0;
    let mut segments = Vec::new();
    let mut missing = Vec::new();
    let count = plan.segments.len();
    let mut expected: Option<Offset> = None;
    for (place, candidate) in plan.segments.iter().enumerate() {
        progress(done, total);
        let last = place + 1 == count;
        let report = verify_segment(disk, candidate, last)?;
        done += candidate.bytes;
        // Removed by the daemon since it was listed.
        let Some(report) = report else { continue };
        if let Some(from) = expected.filter(|from| *from < report.first) {
            missing.push(Missing { from, to: report.first });
        }
        expected = Some(report.next.max(expected.unwrap_or_default()));
        segments.push(report);
    }
    progress(total, total);
    let sound = missing.is_empty()
        && plan.bad_snapshots.is_empty()
        && segments.iter().all(|segment: &SegmentReport| {
            matches!(segment.condition, Condition::Sealed | Condition::Open)
        });
    let first = segments.first().map_or(0, |segment| segment.first);
    Ok(VerifyReport {
        journal_id: journal_id(&plan),
        first,
        next: expected.unwrap_or(first),
        frames: segments.iter().map(|segment| segment.frames).sum(),
        events: segments.iter().map(|segment| segment.events).sum(),
        bytes: done,
        segments,
        missing,
        bad_snapshots: plan.bad_snapshots,
        sound,
    })
}

fn journal_id(plan: &Plan) -> String {
    let headers = plan.segments.iter().find(|segment| !segment.headless);
    headers.map_or_else(|| "none".to_owned(), |segment| hex(&segment.header.journal))
}

fn verify_segment<D: Disk>(
    disk: &D,
    candidate: &Candidate,
    last: bool,
) -> Result<Option<SegmentReport>, OpenError> {
    let mut report = SegmentReport {
        name: candidate.name.clone(),
        first: candidate.header.first_offset,
        next: candidate.header.first_offset,
        frames: 0,
        events: 0,
        events_given_up: 0,
        bytes: candidate.bytes,
        condition: Condition::Open,
        first_bad_byte: None,
        bad_bytes: 0,
        detail: None,
    };
    let mut expected = (report.first, candidate.header.first_sequence, candidate.header_crc);
    let mut known = !candidate.headless;
    let mut bad_at_end = false;
    let mut footer = false;
    let seen = walk::<_, OpenError>(disk, candidate, &mut |piece| {
        let wrong = match piece {
            Piece::Footer => {
                footer = true;
                None
            }
            Piece::Bad { from, to, detail } => {
                bad_at_end = true;
                known = false;
                report.bad_bytes += to - from;
                Some((from, detail.to_owned()))
            }
            Piece::Frame(found) => {
                bad_at_end = false;
                let header = found.header;
                let position = found.position;
                let odd = known
                    && (header.previous_crc != expected.2
                        || header.first_offset != expected.0
                        || (header.sequence != expected.1 && !header.is_hole()));
                known = true;
                report.frames += 1;
                report.next = header.next_offset();
                expected = (header.next_offset(), header.sequence + 1, header.crc);
                let content = if header.is_hole() {
                    report.events_given_up += u64::from(header.events);
                    Ok(())
                } else {
                    report.events += u64::from(header.events);
                    check_blocks(found.payload, header.events)
                };
                let chain = odd.then(|| "frames are missing in front of this one".to_owned());
                chain.or(content.err()).map(|detail| (position, detail))
            }
        };
        if let Some((byte, detail)) = wrong
            && report.detail.is_none()
        {
            (report.first_bad_byte, report.detail) = (Some(byte), Some(detail));
        }
        Ok(())
    })?;
    if !seen {
        return Ok(None);
    }
    let only_tail = bad_at_end && report.bad_bytes > 0 && last && !candidate.headless;
    report.condition = match (&report.detail, footer) {
        (None, true) => Condition::Sealed,
        (None, false) if last => Condition::Open,
        (None, false) => {
            report.detail = Some("the footer is missing".to_owned());
            Condition::Odd
        }
        // The end of the last segment: cut at the next start, or just being written.
        (Some(_), _) if only_tail && only_the_end(disk, candidate, &report)? => Condition::Open,
        (Some(_), _) => Condition::Damaged,
    };
    Ok(Some(report))
}

/// Whether the first bad byte is also where everything valid ends.
fn only_the_end<D: Disk>(
    disk: &D,
    candidate: &Candidate,
    report: &SegmentReport,
) -> Result<bool, OpenError> {
    let mut behind = false;
    walk::<_, OpenError>(disk, candidate, &mut |piece| {
        if let Piece::Frame(found) = piece {
            behind |= report.first_bad_byte.is_some_and(|bad| found.position >= bad);
        }
        Ok(())
    })?;
    Ok(!behind)
}

fn check_blocks(payload: &[u8], events: u32) -> Result<(), String> {
    let mut rest = Take(payload);
    let mut found = 0;
    while !rest.0.is_empty() {
        let block = Block::take(&mut rest)?;
        let body = block.body()?;
        Body::parse(&body)?;
        found += block.events();
    }
    if found == events {
        Ok(())
    } else {
        Err(format!("the frame says {events} events and holds {found}"))
    }
}

/// What an export comes upon.
#[derive(Debug)]
pub enum Exported<'a> {
    /// An event with its offset.
    Event(Offset, &'a Event),
    /// A dead letter that is kept; they come after the events.
    DeadLetter(&'a DeadLetter),
    /// Offsets that cannot be read, and why.
    Unreadable(Missing, String),
}

/// What to export.
#[derive(Debug, Clone, Copy)]
pub struct ExportRange {
    /// The first offset.
    pub from: Offset,
    /// The offset to stop before.
    pub to: Offset,
    /// Whether dead letters follow.
    pub dead_letters: bool,
}

impl Default for ExportRange {
    fn default() -> Self {
        Self { from: 0, to: Offset::MAX, dead_letters: false }
    }
}

/// Shows every readable event in order, and says what cannot be read; never skips silently.
pub fn export<D: Disk, E: From<OpenError> + From<io::Error>>(
    disk: &D,
    range: ExportRange,
    progress: &mut dyn FnMut(u64, u64),
    show: &mut dyn FnMut(Exported<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let plan = Plan::make(disk)?;
    let total = plan.segments.iter().map(|segment| segment.bytes).sum();
    let mut done = 0;
    let first = plan.segments.first().map_or(0, |segment| segment.header.first_offset);
    let mut next = first;
    let mut letters = DeadLetters::new(&plan);
    for (place, segment) in plan.segments.iter().enumerate() {
        progress(done, total);
        done += segment.bytes;
        let follower = plan.segments.get(place + 1).map(|next| next.header.first_offset);
        let outside = follower.is_some_and(|follower| follower <= range.from)
            || segment.header.first_offset >= range.to;
        if outside && !range.dead_letters {
            next = follower.unwrap_or(next);
            continue;
        }
        let mut why = "the file is missing".to_owned();
        walk::<_, E>(disk, segment, &mut |piece| {
            let found = match piece {
                Piece::Footer => return Ok(()),
                Piece::Bad { from, detail, .. } => {
                    why = format!("{} at byte {from}: {detail}", segment.name);
                    return Ok(());
                }
                Piece::Frame(found) => found,
            };
            let header = found.header;
            report_gap(&mut next, header.first_offset, range, &why, show)?;
            if header.is_hole() {
                why = "given up by a repair".to_owned();
                return report_gap(&mut next, header.next_offset(), range, &why, show);
            }
            let mut payload = Take(found.payload);
            while !payload.0.is_empty() {
                let damaged = |detail: String| OpenError::Damaged {
                    file: segment.name.clone(),
                    byte: found.position,
                    detail,
                };
                let block = Block::take(&mut payload).map_err(damaged)?;
                let end = next + u64::from(block.events());
                if end > range.from && next < range.to {
                    for (event, offset) in decode(&block).map_err(damaged)?.iter().zip(next..) {
                        if (range.from..range.to).contains(&offset) {
                            show(Exported::Event(offset, event))?;
                        }
                    }
                }
                next = end;
                if range.dead_letters && header.sequence >= letters.from_sequence {
                    letters.take(&block).map_err(damaged)?;
                }
            }
            Ok(())
        })?;
        if let Some(follower) = follower {
            report_gap(&mut next, follower, range, &why, show)?;
        }
    }
    progress(total, total);
    if range.dead_letters {
        for letter in letters.kept.values() {
            show(Exported::DeadLetter(letter))?;
        }
    }
    Ok(())
}

fn report_gap<E>(
    next: &mut Offset,
    to: Offset,
    range: ExportRange,
    why: &str,
    show: &mut dyn FnMut(Exported<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let (from, until) = ((*next).max(range.from), to.min(range.to));
    *next = (*next).max(to);
    if from < until {
        show(Exported::Unreadable(Missing { from, to: until }, why.to_owned()))?;
    }
    Ok(())
}

/// The dead letters as the newest snapshot and the frames behind it have them.
struct DeadLetters {
    from_sequence: u64,
    kept: BTreeMap<EventId, DeadLetter>,
}

impl DeadLetters {
    fn new(plan: &Plan) -> Self {
        let snapshot = plan.snapshot.as_ref();
        let letters = snapshot.map(|snapshot| snapshot.dead_letters.clone()).unwrap_or_default();
        Self {
            from_sequence: snapshot.map_or(0, |snapshot| snapshot.next_sequence),
            kept: letters.into_iter().map(|letter| (letter.id, letter)).collect(),
        }
    }

    fn take(&mut self, block: &Block<'_>) -> Result<(), String> {
        let body = block.body()?;
        let effects = Body::parse(&body)?.effects()?;
        self.kept.extend(effects.dead_letters.into_iter().map(|letter| (letter.id, letter)));
        for id in effects.resolved {
            self.kept.remove(&id);
        }
        Ok(())
    }
}

/// What `stat` tells without a running daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The journal's id.
    pub journal_id: String,
    /// Oldest offset.
    pub first: Offset,
    /// Offset after the last event.
    pub next: Offset,
    /// Segments.
    pub segments: u64,
    /// Bytes of all files in the directory.
    pub bytes: u64,
    /// Bytes of the segments.
    pub segment_bytes: u64,
    /// Readers and their positions.
    pub readers: BTreeMap<String, Offset>,
    /// Cursors, as of the newest snapshot.
    pub cursors: BTreeMap<Arc<str>, Arc<str>>,
    /// Tickets remembered, as of the newest snapshot.
    pub tickets: u64,
    /// Dead letters kept, as of the newest snapshot.
    pub dead_letters: u64,
    /// Dead letters given up unresolved.
    pub dead_letters_expired: u64,
    /// The offset up to which the newest snapshot goes.
    pub snapshot_at: Offset,
}

/// Figures from the files: quick, since only the last segment is read.
pub fn stat<D: Disk>(disk: &D) -> Result<Summary, OpenError> {
    let plan = Plan::make(disk)?;
    let files = disk.list().map_err(OpenError::io("list the journal's directory"))?;
    let first = plan.segments.first().map_or(0, |segment| segment.header.first_offset);
    let next = match plan.segments.last() {
        Some(last) => verify_segment(disk, last, true)?.map_or(first, |report| report.next),
        None => 0,
    };
    let snapshot = plan.snapshot.clone().unwrap_or_default();
    let readers = plan.positions.readers.iter();
    Ok(Summary {
        journal_id: journal_id(&plan),
        first,
        next,
        segments: plan.segments.len() as u64,
        bytes: files.iter().map(|(_, bytes)| bytes).sum(),
        segment_bytes: plan.segments.iter().map(|segment| segment.bytes).sum(),
        readers: readers.map(|(name, reader)| (name.clone(), reader.next)).collect(),
        cursors: snapshot.cursors.into_iter().collect(),
        tickets: snapshot.tickets.len() as u64,
        dead_letters: snapshot.dead_letters.len() as u64,
        dead_letters_expired: snapshot.dead_letters_expired,
        snapshot_at: snapshot.next_offset,
    })
}
