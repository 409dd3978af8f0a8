//! The embedded journal's core: synchronous, without threads, clocks or randomness of its own, so that the
//! simulation can drive it. Who calls it, and on which thread, is `embedded`'s business; what is done beside
//! writing (snapshots, removal, the full disk) is in `maintain`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bug::Bug;
use super::codec::{EncodedUnit, Encoder};
use super::durable::WriteError;
use super::frame::FRAME_HEADER;
use super::inventory::Kept;
use super::segment::{SegmentHeader, SegmentWriter};
use super::shared::Shared;
use super::view::{Segment, lock};
use super::{
    Appended, Disk, Health, JournalError, JournalStat, Numbered, Offset, OnFull, ReaderStart, Unit,
};
use crate::domain::{Cursors, DeadLetter, EventId, TicketRecord, Ticks};

/// How far beyond the quota tickets and dead letters may still be written.
const URGENT_MARGIN: u64 = 16 << 20;

/// What a commit came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// Everything staged is durable; the places, in the order of staging (empty if nothing was staged).
    Durable(Vec<Appended>),
    /// The disk or the quota is full. Everything stays staged; call `maintain`, then `commit` again.
    Full(String),
}

/// The embedded journal's core.
pub struct Engine<D: Disk> {
    pub(super) shared: Arc<Shared<D>>,
    pub(super) journal: [u8; 16],
    /// `None` between sealing a segment and beginning the next.
    pub(super) active: Option<SegmentWriter<D::File>>,
    pub(super) next_offset: Offset,
    pub(super) next_sequence: u64,
    pub(super) snapshots: Vec<Kept>,
    pub(super) snapshot_in_this_life: bool,
    pub(super) bytes_since_snapshot: u64,
    pub(super) written_bytes: u64,
    pub(super) staged: Vec<EncodedUnit>,
    pub(super) urgent: Vec<EncodedUnit>,
    /// Cursors on their own, for a planted defect.
    pub(super) stray: Vec<EncodedUnit>,
    pub(super) frame: Vec<u8>,
    pub(super) encoder: Encoder,
    pub(super) closed: bool,
}

impl<D: Disk> std::fmt::Debug for Engine<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({} up to {})", self.shared.journal_id, self.next_offset)
    }
}

impl<D: Disk> Engine<D> {
    /// Takes back [`Engine::admit`] for units that will never be staged.
    pub fn withdraw(&mut self, keys: &[EventId]) {
        lock(&self.shared.state).release(keys);
    }

    /// See [`super::Journal::admit`].
    pub fn admit(&mut self, keys: &[EventId], _now: Ticks) -> Vec<bool> {
        lock(&self.shared.state).admit(keys)
    }

    /// Takes a unit into the next commit.
    pub fn stage(&mut self, unit: Unit) -> Result<(), JournalError> {
        let mut unit = unit;
        if self.shared.planted.is(Bug::CursorsOutsideFrame) && !unit.cursors.is_empty() {
            let cursors = std::mem::take(&mut unit.cursors);
            let stray = self.encode(Unit { cursors, ..Unit::default() })?;
            self.stray.push(stray);
        }
        let unit = self.encode(unit)?;
        self.stage_encoded(unit);
        Ok(())
    }

    fn encode(&mut self, unit: Unit) -> Result<EncodedUnit, JournalError> {
        self.encoder.encode(unit).map_err(|too_large| JournalError::Io {
            segment: "a unit".to_owned(),
            detail: format!("{} bytes are more than a unit may have", too_large.0),
        })
    }

    /// Takes a unit that somebody else has encoded into the next commit.
    pub fn stage_encoded(&mut self, unit: EncodedUnit) {
        self.shared.staged_events.fetch_add(unit.events.len() as u64, Ordering::Relaxed);
        self.staged.push(unit);
    }

    /// Bytes of frames written in this life.
    #[must_use]
    pub const fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// How many units are staged.
    #[must_use]
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Writes everything staged as one frame, syncs it, and only then shows it.
    pub fn commit(&mut self, now: Ticks) -> Result<Commit, JournalError> {
        self.shared.check()?;
        if self.closed {
            return Err(JournalError::Closed);
        }
        if self.staged.is_empty() {
            return Ok(Commit::Durable(Vec::new()));
        }
        if let Some(reason) = self.must_wait() {
            return Ok(Commit::Full(reason));
        }
        for stray in std::mem::take(&mut self.stray) {
            self.write_group(vec![stray], now).map_err(|(error, _)| self.refused(error))?;
        }
        let group = std::mem::take(&mut self.staged);
        match self.write_group(group, now) {
            Ok(appended) => {
                self.shared.staged_events.store(0, Ordering::Relaxed);
                Ok(Commit::Durable(appended))
            }
            Err((WriteError::Full(cause), group)) => {
                self.staged = group;
                let reason = format!("the disk is full: {cause}");
                lock(&self.shared.wellness).disk_full = Some(reason.clone());
                Ok(Commit::Full(reason))
            }
            Err((error, _)) => Err(self.refused(error)),
        }
    }

    /// Takes a unit that [`EncodedUnit::is_urgent`] into the next [`Engine::commit_urgent`].
    pub fn stage_urgent(&mut self, unit: EncodedUnit) {
        debug_assert!(unit.is_urgent(), "only what depends on nothing may overtake");
        self.urgent.push(unit);
    }

    /// Writes what was staged as urgent ahead of everything else, past the quota and with the help of the
    /// reserve: the readers that make room depend on it.
    pub fn commit_urgent(&mut self, now: Ticks) -> Result<Commit, JournalError> {
        self.shared.check()?;
        let mut group = std::mem::take(&mut self.urgent);
        if group.is_empty() {
            return Ok(Commit::Durable(Vec::new()));
        }
        let coming: usize = group.iter().map(EncodedUnit::stored_bytes).sum();
        let after = self.shared.bytes.load(Ordering::Relaxed) + coming as u64;
        if after > self.shared.config.quota_bytes.saturating_add(URGENT_MARGIN) {
            self.urgent = group;
            return Ok(Commit::Full("the journal is far beyond its quota".to_owned()));
        }
        loop {
            match self.write_group(group, now) {
                Ok(appended) => return Ok(Commit::Durable(appended)),
                Err((WriteError::Full(cause), again)) => {
                    group = again;
                    let reason = format!("the disk is full: {cause}");
                    lock(&self.shared.wellness).disk_full.get_or_insert(reason.clone());
                    if !self.shared.spend_reserve() {
                        self.urgent = group;
                        return Ok(Commit::Full(reason));
                    }
                }
                Err((error, _)) => return Err(self.refused(error)),
            }
        }
    }

    /// Why nothing is appended at the moment, if so.
    fn must_wait(&mut self) -> Option<String> {
        let coming: usize = self.staged.iter().map(EncodedUnit::stored_bytes).sum();
        let after = self.shared.bytes.load(Ordering::Relaxed) + coming as u64;
        let mut wellness = lock(&self.shared.wellness);
        if after > self.shared.config.quota_bytes {
            let reason = wellness.quota_full.get_or_insert_with(|| {
                format!("the journal's quota of {} bytes is full", self.shared.config.quota_bytes)
            });
            return Some(reason.clone());
        }
        wellness.quota_full = None;
        wellness.disk_full.clone()
    }

    /// Room that must be there before a full disk counts as usable again.
    pub(super) fn room_wanted(&self) -> u64 {
        const MARGIN: u64 = 64 << 10;
        let staged: usize = self.staged.iter().map(EncodedUnit::stored_bytes).sum();
        staged as u64 + MARGIN
    }

    pub(super) fn refused(&self, error: WriteError) -> JournalError {
        match error {
            WriteError::Poison(reason) => self.shared.poison(reason),
            WriteError::Full(cause) => {
                JournalError::Io { segment: "the journal".to_owned(), detail: cause.to_string() }
            }
        }
    }

    /// Writes units as one frame. On a full disk they come back and nothing has changed.
    pub(super) fn write_group(
        &mut self,
        group: Vec<EncodedUnit>,
        now: Ticks,
    ) -> Result<Vec<Appended>, (WriteError, Vec<EncodedUnit>)> {
        if let Err(error) = self.roll_if_long(now).and_then(|()| self.ensure_active(now)) {
            return Err((error, group));
        }
        let Some(active) = self.active.as_mut() else {
            return Err((WriteError::Poison("there is no segment to write to".into()), group));
        };
        self.frame.clear();
        self.frame.resize(FRAME_HEADER, 0);
        let mut events = 0_usize;
        for unit in &group {
            self.frame.extend_from_slice(&unit.block);
            events += unit.events.len();
        }
        let Ok(events) = u32::try_from(events) else {
            return Err((WriteError::Poison("more events than one frame can hold".into()), group));
        };
        let header = active.chain.make(&mut self.frame, events, 0, now);
        if let Err(error) = active.append(&self.frame, &header) {
            return Err((error, group));
        }
        let written = self.frame.len() as u64;
        self.frame.shrink_to(4 << 20);
        if self.shared.planted.is(Bug::UnsyncedVisible) {
            self.shared.view.remember(
                self.next_offset,
                group.iter().flat_map(|unit| unit.events.iter().cloned()),
            );
            self.shared.view.watermark.advance(header.next_offset());
        }
        if !self.shared.planted.is(Bug::AckBeforeSync)
            && let Err(error) = active.sync()
        {
            return Err((error, group));
        }
        self.shared.bytes.fetch_add(written, Ordering::Relaxed);
        self.bytes_since_snapshot += written;
        self.written_bytes += written;
        Ok(self.publish(group))
    }

    /// Everything written is durable: derive, make it findable, and last move the watermark.
    fn publish(&mut self, group: Vec<EncodedUnit>) -> Vec<Appended> {
        if let Some(active) = &self.active {
            let (end, length) = (active.chain.end, active.length());
            let index = &active.chain.index;
            self.shared.view.change_segment(active.chain.header.number, |segment| {
                segment.end = end;
                segment.bytes = length;
                if segment.index.as_ref().is_none_or(|known| known.len() != index.len()) {
                    segment.index = Some(Arc::new(index.clone()));
                }
            });
            self.next_sequence = end.next_sequence;
        }
        let mut appended = Vec::with_capacity(group.len());
        let first = self.next_offset;
        let mut recent = Vec::new();
        {
            let mut state = lock(&self.shared.state);
            for unit in group {
                let first = self.next_offset;
                self.next_offset += unit.events.len() as u64;
                appended.push(Appended { first, next: self.next_offset });
                recent.extend(unit.events);
                state.apply(unit.effects, true);
            }
        }
        self.shared.view.remember(first, recent.into_iter());
        self.shared.view.watermark.advance(self.next_offset);
        appended
    }

    /// Seals the segment once it is long enough.
    fn roll_if_long(&mut self, now: Ticks) -> Result<(), WriteError> {
        let limit = self.shared.config.segment_limit();
        match &self.active {
            Some(active) if active.length() >= limit => self.seal(now),
            _ => Ok(()),
        }
    }

    /// Seals the segment; the next write begins a new one.
    pub(super) fn seal(&mut self, _now: Ticks) -> Result<(), WriteError> {
        let Some(active) = self.active.as_mut() else { return Ok(()) };
        let before = active.length();
        active.seal()?;
        let (number, bytes) = (active.chain.header.number, active.length());
        self.shared.bytes.fetch_add(bytes - before, Ordering::Relaxed);
        self.shared.view.change_segment(number, |segment| segment.bytes = bytes);
        self.active = None;
        Ok(())
    }

    /// Begins a segment if there is none.
    pub(super) fn ensure_active(&mut self, now: Ticks) -> Result<(), WriteError> {
        if self.active.is_some() {
            return Ok(());
        }
        let header = SegmentHeader {
            journal: self.journal,
            number: self.shared.number(),
            replaces: 0,
            salt: self.shared.salt(),
            first_offset: self.next_offset,
            first_sequence: self.next_sequence,
        };
        let disk = &*self.shared.disk;
        let writer = SegmentWriter::create(disk, header, now, self.shared.planted, |_, _| Ok(()))?;
        self.shared.bytes.fetch_add(writer.length(), Ordering::Relaxed);
        let mut segment = Segment::new(&header, writer.chain.end, writer.length());
        segment.index = Some(Arc::default());
        self.shared.view.with_segments(|segments| segments.push(segment));
        self.active = Some(writer);
        Ok(())
    }

    /// See [`super::Journal::read`].
    pub fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<Numbered>, JournalError> {
        self.shared.view.read(from, max_bytes)
    }

    /// Offset after the last durable event.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.shared.view.watermark.get()
    }

    /// See [`super::Journal::register_reader`]; durable when it returns.
    pub fn register_reader(
        &mut self,
        name: &str,
        start: ReaderStart,
        on_full: OnFull,
    ) -> Result<Offset, JournalError> {
        self.shared.register_reader(name, start, on_full)
    }

    /// See [`super::Journal::ack`]; durable after [`Engine::flush_positions`].
    pub fn ack(&mut self, reader: &str, next: Offset) {
        self.shared.ack(reader, next);
    }

    /// See [`super::Journal::forget_reader`].
    pub fn forget_reader(&mut self, name: &str) {
        self.shared.forget_reader(name);
    }

    /// Makes the readers' positions durable.
    pub fn flush_positions(&mut self) -> Result<(), JournalError> {
        self.shared.flush_positions()
    }

    /// See [`super::Journal::cursors`].
    #[must_use]
    pub fn cursors(&self, prefix: &str) -> Cursors {
        lock(&self.shared.state).cursors(prefix)
    }

    /// See [`super::Journal::tickets`].
    #[must_use]
    pub fn tickets(&self, sink: &str) -> Vec<TicketRecord> {
        lock(&self.shared.state).tickets(sink)
    }

    /// See [`super::Journal::dead_letters`].
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        lock(&self.shared.state).dead_letters()
    }

    /// See [`super::Journal::stat`].
    #[must_use]
    pub fn stat(&self) -> JournalStat {
        self.shared.stat()
    }

    /// See [`super::Journal::health`].
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// Makes everything staged durable, writes positions and a snapshot, seals the segment.
    pub fn close(&mut self, now: Ticks) -> Result<(), JournalError> {
        let committed = self.commit(now)?;
        self.flush_positions()?;
        self.closed = true;
        if let Commit::Full(reason) = committed {
            return Err(JournalError::Io { segment: "the journal".to_owned(), detail: reason });
        }
        let number = self.active.as_ref().map_or(0, |active| active.chain.header.number);
        // Neither the footer nor the snapshot is needed to open again: on a full disk they are left out.
        match self.seal(now).and_then(|()| self.write_snapshot(self.shared.view.first(), number)) {
            Ok(()) | Err(WriteError::Full(_)) => Ok(()),
            Err(error) => Err(self.refused(error)),
        }
    }
}

pub(crate) fn hex(id: &[u8; 16]) -> String {
    EventId(*id).to_string()
}
