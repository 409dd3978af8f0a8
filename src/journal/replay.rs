//! Rebuilding the derived state from a snapshot and the frames behind it.

use super::bug::{Bug, Planted};
use super::bytes::Take;
use super::codec::{Block, Body};
use super::config::JournalConfig;
use super::dedup::{Dedup, RunError};
use super::disk::Disk;
use super::error::OpenError;
use super::recovery::Judged;
use super::scan::{Ending, Found, scan};
use super::shared::Salts;
use super::snapshot::Snapshot;
use super::state::{State, dedup_config};
use crate::domain::Ticks;

/// Puts a snapshot into the state.
pub(crate) fn restore<D: Disk>(state: &mut State<D>, snapshot: &Snapshot) {
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
pub(crate) struct Replay<'a, D: Disk> {
    pub(crate) state: &'a mut State<D>,
    pub(crate) disk: &'a D,
    pub(crate) now: Ticks,
    pub(crate) next: u64,
    pub(crate) planted: Planted,
    pub(crate) bytes: u64,
    pub(crate) keys: usize,
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
pub(crate) fn open_dedup<D: Disk>(
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

pub(crate) fn replay_all<D: Disk>(
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
