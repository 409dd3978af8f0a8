//! What `postern journal repair` does when an operator orders it: keeps every frame that can be read, puts a hole where
//! something cannot, and writes a gap record for each hole. The damaged files stay beside the journal, renamed.
//!
//! Offsets are never given out twice: where a reader or a snapshot has been further than the journal's end, the hole
//! reaches up to there.

use std::sync::Arc;

use serde::Serialize;

use super::bug::Planted;
use super::codec::Effects;
use super::config::JournalConfig;
use super::dedup::Dedup;
use super::disk::Disk;
use super::durable::{WriteError, append_full};
use super::engine::{Commit, Engine};
use super::error::OpenError;
use super::frame::{FLAG_HOLE, FRAME_HEADER};
use super::gap::repaired;
use super::inventory::Candidate;
use super::port::Offset;
use super::segment::{Chain, SegmentHeader, SegmentWriter, segment_name};
use super::shared::Salts;
use super::snapshot::Snapshot;
use super::state::dedup_config;
use super::tools::{Condition, Missing, verify};
use super::walk::{Piece, Plan, walk};
use crate::domain::Ticks;

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct RepairReport {
    /// Segments that were written anew.
    pub segments: Vec<String>,
    /// Offsets that were given up; each has a gap record.
    pub given_up: Vec<Missing>,
    /// How many events that are.
    pub events_given_up: u64,
    /// Whether cursors, tickets and dead letters had to be rebuilt from the frames alone, because no snapshot could
    /// be read.
    pub state_rebuilt: bool,
    /// Where the damaged files are now.
    pub evidence: Vec<String>,
}

/// Ending of the files that a repair puts aside.
const ASIDE: &str = ".damaged";

/// Repairs the journal in `disk`, whose lock the caller holds. A sound journal is only opened and closed.
pub fn repair<D: Disk>(
    disk: &Arc<D>,
    config: JournalConfig,
    now: Ticks,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<RepairReport, OpenError> {
    let plan = Plan::make(&**disk)?;
    let Some(journal) = plan.segments.iter().find(|segment| !segment.headless) else {
        return Err(OpenError::Damaged {
            file: "the journal's directory".to_owned(),
            byte: 0,
            detail: "no segment has a readable header; there is nothing to build on".to_owned(),
        });
    };
    let mut repair = Repair {
        disk: &**disk,
        journal: journal.header.journal,
        number: plan.files.highest_number() + 1,
        salts: Salts(seed),
        now,
        report: RepairReport::default(),
    };
    let found = verify(&**disk, progress)?;
    let count = plan.segments.len();
    let mut sequence = plan.segments.first().map_or(0, |segment| segment.header.first_sequence);
    let mut offset = plan.segments.first().map_or(0, |segment| segment.header.first_offset);
    if repair.needs_state(&plan) {
        repair.write_empty_state(&config, offset, sequence)?;
    }
    for (place, segment) in plan.segments.iter().enumerate() {
        let start = segment.header.first_offset;
        let follower = plan.segments.get(place + 1).map(|next| next.header);
        let first_sequence =
            if segment.headless { sequence } else { segment.header.first_sequence };
        if start > offset {
            repair.fill(offset, sequence, start, first_sequence)?;
        }
        let end = match follower {
            Some(next) => Some((next.first_offset, next.first_sequence)),
            None => witnessed(&plan),
        };
        let report = found.segments.iter().find(|report| report.name == segment.name);
        let damaged = report.is_none_or(|report| report.condition == Condition::Damaged);
        let ended = Reached::of(&**disk, segment)?;
        let short = end.is_some_and(|(to, at)| ended.offset < to || ended.sequence < at);
        if damaged
            || (short && place + 1 == count)
            || (short && ended.offset < end.map_or(0, |e| e.0))
        {
            let reached = repair.rewrite(segment, first_sequence, end)?;
            (offset, sequence) = (reached.offset, reached.sequence);
        } else {
            (offset, sequence) = (ended.offset, ended.sequence);
        }
    }
    repair.note_gaps(disk, config, seed)
}

/// How far something that is durable says that the journal went.
fn witnessed(plan: &Plan) -> Option<(Offset, u64)> {
    let readers = plan.positions.readers.values().map(|reader| reader.next).max();
    let snapshot = plan.snapshot.as_ref().map(|known| (known.next_offset, known.next_sequence));
    let (offset, sequence) = snapshot.unwrap_or_default();
    Some((offset.max(readers.unwrap_or_default()), sequence))
}

/// Where a segment's readable frames end.
#[derive(Debug, Clone, Copy)]
struct Reached {
    offset: Offset,
    sequence: u64,
}

impl Reached {
    fn of<D: Disk>(disk: &D, segment: &Candidate) -> Result<Self, OpenError> {
        let header = segment.header;
        let mut reached = Self { offset: header.first_offset, sequence: header.first_sequence };
        walk::<_, OpenError>(disk, segment, &mut |piece| {
            if let Piece::Frame(found) = piece {
                reached.offset = found.header.next_offset();
                reached.sequence = found.header.sequence + 1;
            }
            Ok(())
        })?;
        Ok(reached)
    }
}

struct Repair<'a, D: Disk> {
    disk: &'a D,
    journal: [u8; 16],
    number: u64,
    salts: Salts,
    now: Ticks,
    report: RepairReport,
}

impl<D: Disk> Repair<'_, D> {
    /// Without a snapshot the state can be rebuilt from the first frame on only if that is still there.
    fn needs_state(&self, plan: &Plan) -> bool {
        let first = plan.segments.first().map_or(0, |segment| segment.header.first_sequence);
        plan.snapshot.as_ref().is_none_or(|snapshot| snapshot.next_sequence < first) && first > 0
    }

    fn write_empty_state(
        &mut self,
        config: &JournalConfig,
        next_offset: Offset,
        next_sequence: u64,
    ) -> Result<(), OpenError> {
        let dedup = Dedup::<D>::new(dedup_config(config), self.salts.next_u128())
            .checkpoint(self.disk)
            .map_err(|error| OpenError::io(error.to_string())(std::io::ErrorKind::Other.into()))?;
        let (journal, number) = (self.journal, self.next_number());
        let snapshot =
            Snapshot { journal, number, next_sequence, next_offset, dedup, ..Snapshot::default() };
        snapshot.write(self.disk, Planted::default()).map_err(write_failed)?;
        self.report.state_rebuilt = true;
        Ok(())
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number - 1
    }

    fn header(
        &mut self,
        replaces: u64,
        first_offset: Offset,
        first_sequence: u64,
    ) -> SegmentHeader {
        SegmentHeader {
            journal: self.journal,
            number: self.next_number(),
            replaces,
            salt: self.salts.next(),
            first_offset,
            first_sequence,
        }
    }

    /// A segment in place of a missing one: nothing but a hole.
    fn fill(&mut self, from: Offset, sequence: u64, to: Offset, at: u64) -> Result<(), OpenError> {
        let header = self.header(0, from, sequence);
        let now = self.now;
        let mut writer =
            SegmentWriter::create(self.disk, header, now, Planted::default(), |file, chain| {
                hole(file, chain, to, at, now)
            })
            .map_err(write_failed)?;
        writer.seal().map_err(write_failed)?;
        self.gave_up(from, to);
        self.report.segments.push(header.name());
        Ok(())
    }

    fn gave_up(&mut self, from: Offset, to: Offset) {
        if from < to {
            self.report.given_up.push(Missing { from, to });
            self.report.events_given_up += to - from;
        }
    }

    /// Copies what can be read into a new segment, with holes up to `end`.
    fn rewrite(
        &mut self,
        old: &Candidate,
        first_sequence: u64,
        end: Option<(Offset, u64)>,
    ) -> Result<Reached, OpenError> {
        let header = self.header(old.header.number, old.header.first_offset, first_sequence);
        let (disk, now) = (self.disk, self.now);
        let mut holes = Vec::new();
        let mut writer =
            SegmentWriter::create(disk, header, now, Planted::default(), |file, chain| {
                let mut frame = Vec::new();
                walk::<_, std::io::Error>(disk, old, &mut |piece| {
                    let Piece::Frame(found) = piece else { return Ok(()) };
                    let was = found.header;
                    if was.first_offset < chain.end.next_offset {
                        return Ok(());
                    }
                    let last = if was.is_hole() { chain.end.next_sequence } else { was.sequence };
                    if was.first_offset > chain.end.next_offset || last > chain.end.next_sequence {
                        holes.push((chain.end.next_offset, was.first_offset));
                        hole(file, chain, was.first_offset, last, now)?;
                    }
                    frame.clear();
                    frame.resize(FRAME_HEADER, 0);
                    frame.extend_from_slice(found.payload);
                    chain.end.next_sequence = was.sequence;
                    let made = chain.make(&mut frame, was.events, was.flags, was.at);
                    append_full(file, &frame)?;
                    chain.advance(&made);
                    Ok(())
                })?;
                if let Some((to, at)) = end
                    && (chain.end.next_offset < to || chain.end.next_sequence < at)
                {
                    holes.push((chain.end.next_offset, to));
                    hole(file, chain, to, at, now)?;
                }
                Ok(())
            })
            .map_err(write_failed)?;
        writer.seal().map_err(write_failed)?;
        for (from, to) in holes {
            self.gave_up(from, to);
        }
        let aside = format!("{}{ASIDE}", old.name);
        disk.rename(&old.name, &aside).map_err(OpenError::io(format!("rename {}", old.name)))?;
        disk.sync_directory().map_err(OpenError::io("sync the journal's directory"))?;
        self.report.evidence.push(aside);
        self.report.segments.push(segment_name(header.number, header.first_offset));
        let end = writer.chain.end;
        Ok(Reached { offset: end.next_offset, sequence: end.next_sequence })
    }

    /// Opens the repaired journal and says in it what was given up.
    fn note_gaps(
        self,
        disk: &Arc<D>,
        config: JournalConfig,
        seed: u64,
    ) -> Result<RepairReport, OpenError> {
        let failed = |error: super::JournalError| {
            OpenError::io(error.to_string())(std::io::ErrorKind::Other.into())
        };
        let mut engine = Engine::open(Arc::clone(disk), config, self.now, seed.rotate_left(17))?;
        if !self.report.given_up.is_empty() {
            let gaps = self.report.given_up.iter();
            let events =
                gaps.map(|gap| Arc::new(repaired("journal", gap.from, gap.to, self.now))).collect();
            let unit = engine.encoder.encode_parts(events, Effects::default());
            if let Ok(unit) = unit {
                engine.stage_encoded(unit);
            }
            if let Commit::Full(reason) = engine.commit(self.now).map_err(failed)? {
                return Err(OpenError::io(reason)(std::io::ErrorKind::StorageFull.into()));
            }
        }
        engine.close(self.now).map_err(failed)?;
        Ok(self.report)
    }
}

/// Writes a hole up to the offset `to`, so that the frame with sequence `at` may follow.
fn hole<F: super::disk::DiskFile>(
    file: &mut F,
    chain: &mut Chain,
    to: Offset,
    at: u64,
    now: Ticks,
) -> std::io::Result<()> {
    loop {
        let missing = to.saturating_sub(chain.end.next_offset);
        let events = u32::try_from(missing).unwrap_or(u32::MAX);
        if missing <= u64::from(u32::MAX) {
            chain.end.next_sequence = chain.end.next_sequence.max(at.saturating_sub(1));
        }
        let mut frame = vec![0; FRAME_HEADER];
        let made = chain.make(&mut frame, events, FLAG_HOLE, now);
        append_full(file, &frame)?;
        chain.advance(&made);
        if missing <= u64::from(u32::MAX) {
            return Ok(());
        }
    }
}

fn write_failed(error: WriteError) -> OpenError {
    match error {
        WriteError::Full(cause) => OpenError::io("write a repaired segment")(cause),
        WriteError::Poison(what) => OpenError::io(what)(std::io::ErrorKind::Other.into()),
    }
}
