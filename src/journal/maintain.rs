//! What the engine does beside writing: sealing by age, snapshots, removing segments, the quota, the full disk.

use std::io;
use std::sync::atomic::Ordering;

use super::bug::Bug;
use super::codec::Effects;
use super::dedup::RunError;
use super::durable::WriteError;
use super::engine::Engine;
use super::gap::backlog_dropped;
use super::inventory::Kept;
use super::port::JournalError;
use super::snapshot::{Snapshot, parse_snapshot_name};
use super::view::{Segment, lock};
use super::{Disk, Offset};
use crate::domain::Ticks;

/// A segment that holds something is sealed when its first frame is this old, so that a quiet journal also
/// forgets.
const SEAL_AFTER_SECONDS: i64 = 86_400;
/// From this share of the quota on, delivered segments go although retention has not passed, and so does the
/// backlog of readers that allow it.
const PRESSURE_PERCENT: u64 = 90;

/// What counts towards the quota. The dedup set's files do not: they follow from the horizon, no reader can make
/// room there, and so they must not be able to fill the quota for good.
pub(super) fn quota_bytes(files: &[(String, u64)]) -> u64 {
    files.iter().filter(|(name, _)| !name.starts_with("dedup-")).map(|(_, bytes)| bytes).sum()
}

fn run_failed(error: RunError) -> WriteError {
    match error {
        RunError::Write(cause) if super::durable::is_full(&cause) => WriteError::Full(cause),
        RunError::Write(cause) => WriteError::Poison(format!("write the dedup set: {cause}")),
        RunError::Sync(cause) => WriteError::Poison(format!("sync the dedup set: {cause}")),
    }
}

impl<D: Disk> Engine<D> {
    /// Rolls, takes snapshots, removes segments, enforces the quota, recovers from a full disk. To be called
    /// about every second, and when a commit answers [`super::Commit::Full`].
    pub fn maintain(&mut self, now: Ticks) -> Result<(), JournalError> {
        self.shared.check()?;
        {
            let mut state = lock(&self.shared.state);
            state.expire(&self.shared.config, now);
            let done = state.dedup.maintain(&*self.shared.disk, now);
            drop(state);
            self.settle(done.map_err(run_failed))?;
        }
        self.flush_positions()?;
        let done = self.maintain_files(now);
        self.settle(done)?;
        self.relieve(now)?;
        self.count_bytes();
        Ok(())
    }

    fn maintain_files(&mut self, now: Ticks) -> Result<(), WriteError> {
        if self.active.as_ref().is_some_and(|active| {
            active.chain.end.next_offset > active.chain.header.first_offset
                && active.chain.end.first_at < now.plus_seconds(-SEAL_AFTER_SECONDS)
        }) {
            self.seal(now)?;
            self.ensure_active(now)?;
        }
        self.remove_delivered(now)?;
        if self.bytes_since_snapshot >= self.shared.config.segment_limit() {
            self.write_snapshot(self.shared.view.first(), 0)?;
        }
        self.drop_backlogs(now)
    }

    /// A full disk is no failure here: it is noted, and everything is tried again later.
    fn settle(&mut self, done: Result<(), WriteError>) -> Result<(), JournalError> {
        match done {
            Ok(()) => Ok(()),
            Err(WriteError::Full(cause)) => {
                let reason = format!("the disk is full: {cause}");
                lock(&self.shared.wellness).disk_full.get_or_insert(reason);
                Ok(())
            }
            Err(error) => Err(self.refused(error)),
        }
    }

    fn count_bytes(&self) {
        if let Ok(files) = self.shared.disk.list() {
            let bytes = quota_bytes(&files);
            self.shared.bytes.store(bytes, Ordering::Relaxed);
        }
    }

    fn under_pressure(&self) -> bool {
        let limit = self.shared.config.quota_bytes / 100 * PRESSURE_PERCENT;
        let wellness = lock(&self.shared.wellness);
        self.shared.bytes.load(Ordering::Relaxed) > limit
            || wellness.disk_full.is_some()
            || wellness.quota_full.is_some()
    }

    /// Removes segments that every reader has durably passed, once retention has passed or room is short.
    fn remove_delivered(&mut self, now: Ticks) -> Result<(), WriteError> {
        // Frames without events move no offset, so the frames are counted too.
        let Some((cut, sequence)) = self.removable(now) else { return Ok(()) };
        if self.shared.planted.is(Bug::UnlinkBeforeSnapshot) {
            self.remove_below(cut)?;
            return self.write_snapshot(cut, 0);
        }
        // The snapshot says from where on files may be missing, so it comes first. Both snapshots that are kept
        // must be past the cut: whichever is read, what it needs is there.
        while self.snapshots.len() < 2
            || !self.snapshot_in_this_life
            || self.snapshots.iter().any(|kept| kept.next_sequence < sequence)
        {
            self.write_snapshot(self.shared.view.first(), 0)?;
        }
        self.write_snapshot(cut, 0)?;
        self.remove_below(cut)
    }

    /// The offset and the frame below which whole segments may go, if any may.
    fn removable(&self, now: Ticks) -> Option<(Offset, u64)> {
        let floor = self.shared.readers_floor().map_or(self.next_offset, |(floor, _)| floor);
        let retention = i64::from(self.shared.config.retention_days) * 86_400;
        let expired = now.plus_seconds(-retention);
        let pressure = self.under_pressure();
        self.shared.view.with_segments(|segments| {
            let may_go = |segment: &&Segment| {
                segment.end.next_offset <= floor && (pressure || segment.end.last_at < expired)
            };
            // The last one stays even when it is sealed and the next could not be begun: a start needs one.
            let all_but_last = segments.len().saturating_sub(1);
            let last = segments.iter().take(all_but_last).take_while(may_go).last();
            last.map(|segment| (segment.end.next_offset, segment.end.next_sequence))
        })
    }

    fn remove_below(&mut self, cut: Offset) -> Result<(), WriteError> {
        let gone = self.shared.view.with_segments(|segments| {
            let all_but_last = segments.len().saturating_sub(1);
            let below = segments.iter().take(all_but_last);
            let count = below.take_while(|segment| segment.end.next_offset <= cut).count();
            segments.drain(..count).collect::<Vec<_>>()
        });
        for segment in &gone {
            self.shared.view.forget(segment.number);
            match self.shared.disk.remove(&segment.name) {
                Ok(()) => {
                    self.shared.bytes.fetch_sub(
                        segment.bytes.min(self.shared.bytes.load(Ordering::Relaxed)),
                        Ordering::Relaxed,
                    );
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // It is below the cut: the next start removes it.
                Err(error) => {
                    tracing::warn!(segment = %segment.name, %error, "cannot remove a segment");
                }
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.shared.disk.sync_directory().map_err(WriteError::poison("sync the directory"))
    }

    /// Writes a snapshot of everything durable, then removes all but the last two.
    pub(super) fn write_snapshot(
        &mut self,
        cut: Offset,
        sealed_through: u64,
    ) -> Result<(), WriteError> {
        let number = self.shared.number();
        let positions = lock(&self.shared.readers).durable.clone();
        let snapshot = {
            let mut state = lock(&self.shared.state);
            let Effects { cursors, tickets, dead_letters, .. } = state.effects();
            Snapshot {
                journal: self.journal,
                number,
                next_sequence: self.next_sequence,
                next_offset: self.next_offset,
                cut,
                sealed_through,
                positions,
                cursors,
                tickets,
                dead_letters,
                dead_letters_expired: state.dead_letters_expired,
                dedup: state.dedup.checkpoint(&*self.shared.disk).map_err(run_failed)?,
            }
        };
        let bytes = snapshot.write(&*self.shared.disk, self.shared.planted)?;
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        let (next_offset, next_sequence) = (self.next_offset, self.next_sequence);
        self.snapshots.push(Kept { number, next_offset, next_sequence, dedup: snapshot.dedup });
        self.snapshot_in_this_life = true;
        self.bytes_since_snapshot = 0;
        while self.snapshots.len() > 2 {
            self.snapshots.remove(0);
        }
        let oldest = self.snapshots.first().map_or(0, |kept| kept.number);
        if let Ok(files) = self.shared.disk.list() {
            let old = |name: &String| parse_snapshot_name(name).is_some_and(|n| n < oldest);
            for (name, _) in files.iter().filter(|(name, _)| old(name)) {
                // What stays is removed with the next snapshot.
                let _ = self.shared.disk.remove(name);
            }
        }
        let states: Vec<&[u8]> = self.snapshots.iter().map(|kept| &*kept.dedup).collect();
        if let Err(error) = lock(&self.shared.state).dedup.prune(&*self.shared.disk, &states) {
            tracing::warn!(%error, "cannot remove old files of the dedup set");
        }
        Ok(())
    }

    /// When room is short, takes the oldest segment away from readers that allow it, with a gap record for each.
    fn drop_backlogs(&mut self, now: Ticks) -> Result<(), WriteError> {
        while self.over_quota() {
            let active = self.active.as_ref().map(|active| active.chain.header.number);
            let oldest = self.shared.view.with_segments(|segments| segments.first().cloned());
            let Some(oldest) = oldest.filter(|oldest| Some(oldest.number) != active) else {
                return Ok(());
            };
            let to = oldest.end.next_offset;
            let behind: Vec<(String, Offset, bool)> = {
                let readers = lock(&self.shared.readers);
                let all = readers.current.readers.iter();
                all.filter(|(_, reader)| reader.next < to)
                    .map(|(name, reader)| (name.clone(), reader.next, reader.drop_backlog))
                    .collect()
            };
            if let Some((name, ..)) = behind.iter().find(|(.., drop)| !drop) {
                let quota = self.shared.config.quota_bytes;
                let mut wellness = lock(&self.shared.wellness);
                if let Some(reason) = &mut wellness.quota_full {
                    *reason = format!(
                        "the journal's quota of {quota} bytes is full: reader {name} is behind"
                    );
                }
                return Ok(());
            }
            if !behind.is_empty() {
                // The record first: a crash in between says too much, never too little.
                let events = behind
                    .iter()
                    .map(|(name, next, _)| {
                        let from = (*next).max(oldest.first_offset);
                        std::sync::Arc::new(backlog_dropped(name, from, to, now))
                    })
                    .collect();
                let unit = self.encoder.encode_parts(events, Effects::default());
                let Ok(unit) = unit else { return Ok(()) };
                self.write_group(vec![unit], now).map_err(|(error, _)| error)?;
                for (name, ..) in &behind {
                    tracing::warn!(reader = %name, to, "the quota is full: a reader's backlog was dropped");
                    self.shared.ack(name, to);
                }
                if let Err(JournalError::Poisoned(reason)) = self.flush_positions() {
                    return Err(WriteError::Poison(reason));
                }
            }
            let first = self.shared.view.first();
            self.remove_delivered(now)?;
            self.count_bytes();
            if self.shared.view.first() == first {
                return Ok(());
            }
        }
        Ok(())
    }

    fn over_quota(&self) -> bool {
        let limit = self.shared.config.quota_bytes / 100 * PRESSURE_PERCENT;
        self.shared.bytes.load(Ordering::Relaxed) > limit
    }

    /// On a full disk: make room with the reserve's help, and find out whether there is room again.
    fn relieve(&mut self, now: Ticks) -> Result<(), JournalError> {
        let (full, spent) = {
            let wellness = lock(&self.shared.wellness);
            (wellness.disk_full.is_some(), wellness.reserve_spent)
        };
        if full && !spent && self.shared.spend_reserve() {
            self.flush_positions()?;
            let done = self.remove_delivered(now);
            self.settle(done)?;
        }
        match self.shared.fill_reserve() {
            Err(WriteError::Poison(reason)) => return Err(self.shared.poison(reason)),
            Err(WriteError::Full(_)) => return Ok(()),
            Ok(()) if !full => return Ok(()),
            Ok(()) => {}
        }
        let wanted = self.room_wanted();
        if self.shared.disk.free_bytes().is_ok_and(|free| free > wanted) {
            let mut wellness = lock(&self.shared.wellness);
            (wellness.disk_full, wellness.reserve_spent) = (None, false);
        }
        Ok(())
    }
}
