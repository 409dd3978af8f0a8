//! The set of ids that have been seen within a horizon, within a stated memory budget: which records are new.
//! Not a second truth: it is derived from durable frames, and the engine says which those are.
//!
//! Three places, from young to old. *Admitted* ids belong to units that are not durable yet; they are in
//! memory only and are gone after a crash, as their units are. *Settled* ids belong to durable frames; they
//! are in the hot tables, and in `fresh` until the next run is written. *Runs* are sorted files of settled ids,
//! each with a filter in memory. Since nothing that is not settled ever reaches a run, and a life uses only the
//! runs that a durable snapshot names, runs + snapshot + the frames after it give exactly the durable set.
//!
//! The order that the engine keeps:
//! 1. [`Dedup::admit`] for each record, before its unit is staged; [`Dedup::withdraw`] if it never will be;
//! 2. [`Dedup::settle`] with all ids of a frame once that frame is durable (and in recovery, for every frame
//!    behind the snapshot);
//! 3. [`Dedup::maintain`] about every second, and every few ten thousand settled ids;
//! 4. for a snapshot: [`Dedup::checkpoint`] into the snapshot, whose replay begins no later than the first
//!    frame not settled; when the snapshot is durable and older ones are removed, [`Dedup::prune`] with the
//!    states of all snapshots that are kept.
//!
//! Age is counted in time that the process was up and that `maintain` saw pass in small steps, so that a
//! jumping clock cannot make the set forget. What cannot be read back counts as never seen and is counted in
//! [`Damage`]: an event may come twice then, it is never lost.

mod filter;
mod hash;
mod merge;
mod run;
mod table;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::hash::KeyedHash;
use self::merge::{FAN_IN, Merge};
use self::run::{Run, RunState};
use self::table::Table;
use self::write::RunWriter;
use super::disk::Disk;
use crate::domain::{EventId, Ticks};

pub use self::write::RunError;

/// Ids leave in this many portions per horizon, so one may be remembered an eighth longer than asked for.
const EPOCHS_PER_HORIZON: u64 = 8;
/// More time than this between two calls of `maintain` is taken for a jump of the clock.
const LONGEST_STEP: Duration = Duration::from_secs(60);
/// Ids that one `maintain` moves in a merge: some milliseconds.
const MERGE_STEP: usize = 64 * 1024;
/// So many settled ids travel in the snapshot itself; only more of them are worth a file.
const IN_STATE: usize = 1024;
const STATE_VERSION: u8 = 1;

/// How much to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupConfig {
    /// How long an id is remembered at least, in time that the process is up.
    pub horizon: Duration,
    /// Memory for tables, filters and indexes, in bytes. Older filters are given up first (their runs are
    /// then read for each look-up); a budget that is far too small costs time, never correctness.
    pub memory_bytes: usize,
}

impl Default for DedupConfig {
    fn default() -> Self {
        Self { horizon: Duration::from_secs(7 * 86_400), memory_bytes: 128 << 20 }
    }
}

/// What could not be read back, since this set was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Damage {
    /// Blocks of up to 255 ids that could not be read when they were needed (a block may count repeatedly).
    pub blocks: u64,
}

/// What a snapshot holds of the set.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: u8,
    seed: u128,
    uptime: Duration,
    next_number: u64,
    runs: Vec<RunState>,
    /// Ids that are in no run yet.
    fresh: Vec<EventId>,
}

impl State {
    fn decode(bytes: &[u8]) -> io::Result<Self> {
        let state: Self = postcard::from_bytes(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if state.version == STATE_VERSION {
            Ok(state)
        } else {
            let words = format!("dedup state of version {}", state.version);
            Err(io::Error::new(io::ErrorKind::InvalidData, words))
        }
    }
}

/// The set.
#[derive(Debug)]
pub struct Dedup<D: Disk> {
    config: DedupConfig,
    seed: u128,
    hash: KeyedHash,
    admitted: Table,
    /// Settled ids of late: a cache of what is in `fresh` or in runs. `previous` is the one before.
    current: Table,
    previous: Table,
    /// Settled ids that are in no run yet.
    fresh: Vec<EventId>,
    /// From old to young.
    runs: Vec<Run<D::File>>,
    merge: Option<Merge<D::File>>,
    uptime: Duration,
    last_now: Option<Ticks>,
    next_number: u64,
    damaged_before: u64,
}

impl<D: Disk> Dedup<D> {
    /// An empty set. `seed` is a secret of this installation; it travels in the state.
    #[must_use]
    pub fn new(config: DedupConfig, seed: u128) -> Self {
        let hash = KeyedHash::new(seed);
        Self {
            config,
            seed,
            hash,
            admitted: Table::new(hash),
            current: Table::new(hash),
            previous: Table::new(hash),
            fresh: Vec::new(),
            runs: Vec::new(),
            merge: None,
            uptime: Duration::ZERO,
            last_now: None,
            next_number: 0,
            damaged_before: 0,
        }
    }

    /// The set as of [`Dedup::checkpoint`]. Damaged runs do not fail it (see [`Dedup::damage`]); only a state
    /// that cannot be read does, or a directory that cannot be listed.
    pub fn restore(config: DedupConfig, state: &[u8], disk: &D) -> io::Result<Self> {
        let state = State::decode(state)?;
        let mut set = Self::new(config, state.seed);
        set.uptime = state.uptime;
        set.next_number = state.next_number;
        for (name, _) in disk.list()? {
            // Not even the name of a run that no snapshot knows is used again.
            if let Some(number) = run::number_of(&name) {
                set.next_number = set.next_number.max(number + 1);
            }
        }
        for run in state.runs {
            set.add_run(Run::open(run, disk, set.hash));
        }
        set.settle(state.fresh);
        Ok(set)
    }

    /// Marks `id` as seen by a unit that is about to be staged; whether it was new.
    pub fn admit(&mut self, id: EventId) -> bool {
        !self.contains(id) && self.admitted.insert(id)
    }

    /// Takes back [`Dedup::admit`] for a unit that will not be staged.
    pub fn withdraw(&mut self, id: EventId) {
        self.admitted.remove(id);
    }

    /// Whether `id` has been seen, durably or not.
    #[must_use]
    pub fn contains(&self, id: EventId) -> bool {
        if self.admitted.contains(id) || self.current.contains(id) || self.previous.contains(id) {
            return true;
        }
        if self.runs.is_empty() {
            return false;
        }
        let hash = self.hash.of(id);
        self.runs.iter().rev().any(|run| run.contains(id, hash))
    }

    /// The ids of a frame that is durable now, admitted before or not.
    pub fn settle(&mut self, ids: impl IntoIterator<Item = EventId>) {
        for id in ids {
            self.admitted.remove(id);
            if !self.previous.contains(id) && self.current.insert(id) {
                self.fresh.push(id);
            }
        }
    }

    /// Writes, merges and drops runs as needed, a bounded piece of work at a time.
    pub fn maintain(&mut self, disk: &D, now: Ticks) -> Result<(), RunError> {
        if self.fresh.len() >= self.fresh_limit() {
            self.spill(disk)?;
        }
        self.pass_time(disk, now)?;
        // A quarter is left for what is settled until the next call: beyond it the table would double.
        if self.current.len() >= Table::keys_for(self.config.memory_bytes / 8) / 4 * 3 {
            self.rotate(disk)?;
        }
        self.runs_merge(disk)
    }

    /// Brings all settled ids into runs, or a few of them into the state itself, which is for a snapshot.
    pub fn checkpoint(&mut self, disk: &D) -> Result<Vec<u8>, RunError> {
        if self.fresh.len() > IN_STATE.min(self.fresh_limit()) {
            self.spill(disk)?;
        }
        let state = State {
            version: STATE_VERSION,
            seed: self.seed,
            uptime: self.uptime,
            next_number: self.next_number,
            runs: self.runs.iter().map(|run| run.state).collect(),
            fresh: self.fresh.clone(),
        };
        postcard::to_stdvec(&state)
            .map_err(|error| RunError::Write(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    /// Removes run files that neither this set nor any of the states in `kept` needs.
    pub fn prune(&self, disk: &D, kept: &[&[u8]]) -> io::Result<()> {
        let mut needed: Vec<u64> = self.runs.iter().map(|run| run.state.number).collect();
        needed.extend(self.merge.as_ref().map(Merge::output_number));
        for state in kept {
            needed.extend(State::decode(state)?.runs.iter().map(|run| run.number));
        }
        for (name, _) in disk.list()? {
            if run::number_of(&name).is_some_and(|number| !needed.contains(&number)) {
                disk.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Ids that are remembered.
    #[must_use]
    pub fn keys(&self) -> u64 {
        let in_runs: u64 = self.runs.iter().map(|run| run.state.keys).sum();
        in_runs + (self.fresh.len() + self.admitted.len()) as u64
    }

    /// Memory in use, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let tables = [&self.admitted, &self.current, &self.previous];
        tables.into_iter().map(Table::memory_bytes).sum::<usize>()
            + self.fresh.capacity() * size_of::<EventId>()
            + self.runs.iter().map(Run::memory_bytes).sum::<usize>()
    }

    /// What could not be read back.
    #[must_use]
    pub fn damage(&self) -> Damage {
        let now: u64 = self.runs.iter().map(Run::damaged_reads).sum();
        Damage { blocks: self.damaged_before + now }
    }

    /// Settled ids that may wait in memory for the next run.
    fn fresh_limit(&self) -> usize {
        (self.config.memory_bytes / 32 / size_of::<EventId>()).clamp(64, 256 * 1024)
    }

    /// Memory that filters and indexes may take: what tables and `fresh` leave.
    fn filter_limit(&self) -> usize {
        self.config.memory_bytes / 16 * 10
    }

    fn epoch_length(&self) -> Duration {
        let part = self.config.horizon.as_millis() / u128::from(EPOCHS_PER_HORIZON);
        Duration::from_millis(u64::try_from(part).unwrap_or(u64::MAX).max(1))
    }

    fn epoch(&self) -> u64 {
        let epoch = self.uptime.as_millis() / self.epoch_length().as_millis();
        u64::try_from(epoch).unwrap_or(u64::MAX)
    }

    /// Ages the set by the time since the last call and drops the runs whose youngest id is past the horizon.
    fn pass_time(&mut self, disk: &D, now: Ticks) -> Result<(), RunError> {
        let last = self.last_now.replace(now).unwrap_or(now);
        let passed = u64::try_from(now.0.saturating_sub(last.0)).unwrap_or(0).saturating_mul(100);
        let step = Duration::from_nanos(passed).min(LONGEST_STEP);
        let before = self.epoch();
        let after = self.uptime + step;
        if after.as_millis() / self.epoch_length().as_millis() > u128::from(before) {
            // Closes the epoch: a run holds ids of one epoch only, and so do the hot tables.
            self.rotate(disk)?;
        }
        self.uptime = after;
        let epoch = self.epoch();
        let merging = |number| self.merge.as_ref().is_some_and(|merge| merge.reads(number));
        let (kept, dropped) = std::mem::take(&mut self.runs).into_iter().partition(|run| {
            run.state.epoch + EPOCHS_PER_HORIZON >= epoch || merging(run.state.number)
        });
        self.runs = kept;
        self.count_damage_of(&dropped);
        Ok(())
    }

    /// Begins a new hot table; the one before the last is forgotten here, its ids are in runs.
    fn rotate(&mut self, disk: &D) -> Result<(), RunError> {
        self.spill(disk)?;
        self.previous = std::mem::replace(&mut self.current, Table::new(self.hash));
        Ok(())
    }

    /// Writes `fresh` as a run.
    fn spill(&mut self, disk: &D) -> Result<(), RunError> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let number = self.take_number();
        let keys = self.fresh.len() as u64;
        let mut writer = RunWriter::create(disk, self.hash, number, self.epoch(), keys)?;
        self.fresh.sort_unstable();
        let written = self.fresh.iter().try_for_each(|id| writer.push(*id));
        match written.and_then(|()| writer.finish(disk)) {
            Ok(run) => {
                self.fresh = Vec::new();
                self.add_run(run);
                Ok(())
            }
            Err(error) => Err(discard(disk, number, error)),
        }
    }

    /// Goes on with a merge, or begins one that is due.
    fn runs_merge(&mut self, disk: &D) -> Result<(), RunError> {
        let mut merge = match self.merge.take() {
            Some(merge) => merge,
            None => {
                let numbers = self.due_for_merge();
                if numbers.is_empty() {
                    return Ok(());
                }
                let number = self.take_number();
                Merge::begin(disk, self.hash, number, &self.runs, &numbers)?
            }
        };
        let number = merge.output_number();
        match merge.step(&self.runs, MERGE_STEP) {
            Ok(false) => self.merge = Some(merge),
            Ok(true) => {
                let inputs: Vec<u64> = self
                    .runs
                    .iter()
                    .map(|run| run.state.number)
                    .filter(|number| merge.reads(*number))
                    .collect();
                let merged = merge.finish(disk).map_err(|error| discard(disk, number, error))?;
                let (dropped, kept) = std::mem::take(&mut self.runs)
                    .into_iter()
                    .partition(|run| inputs.contains(&run.state.number));
                self.runs = kept;
                self.count_damage_of(&dropped);
                self.add_run(merged);
            }
            Err(error) => return Err(discard(disk, number, error)),
        }
        Ok(())
    }

    /// Runs that should become one: all of an epoch that is over, or enough of about one size.
    fn due_for_merge(&self) -> Vec<u64> {
        let now = self.epoch();
        let tier = |run: &RunState| run.keys.max(1).ilog2() / 2;
        for probe in self.runs.iter().map(|run| run.state) {
            let group: Vec<u64> = self
                .runs
                .iter()
                .map(|run| run.state)
                .filter(|run| run.epoch == probe.epoch)
                .filter(|run| run.epoch < now || tier(run) == tier(&probe))
                .map(|run| run.number)
                .collect();
            if group.len() >= if probe.epoch < now { 2 } else { FAN_IN } {
                return group;
            }
        }
        Vec::new()
    }

    /// Takes a run in, and gives up the oldest filters if there are too many now.
    fn add_run(&mut self, run: Run<D::File>) {
        self.runs.push(run);
        self.runs.sort_by_key(|run| (run.state.epoch, run.state.number));
        let limit = self.filter_limit();
        let mut bytes = 0;
        for run in self.runs.iter_mut().rev() {
            bytes += run.memory_bytes();
            if bytes > limit {
                run.filter = None;
            }
        }
    }

    fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    fn count_damage_of(&mut self, dropped: &[Run<D::File>]) {
        self.damaged_before += dropped.iter().map(Run::damaged_reads).sum::<u64>();
    }
}

/// Removes what is left of a run that could not be written; if even that fails, `prune` will do it.
fn discard<D: Disk>(disk: &D, number: u64, error: RunError) -> RunError {
    let _ = disk.remove(&run::temporary_name(number));
    error
}
