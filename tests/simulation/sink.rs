//! The far ends that events go to. What they were given they keep for ever, so a wrong delivery cannot be taken
//! back.

use std::collections::BTreeMap;

use postern::domain::EventId;
use postern::journal::model::{ModelDisk, Random};
use postern::journal::{Engine, JournalError, Offset, OnFull, ReaderStart};

use crate::ensure;
use crate::model::{Model, Violation};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The position is in the journal only.
    AtLeastOnce,
    /// The position is at the far end, in one transaction with the events.
    Transactional,
}

#[derive(Debug)]
pub struct Sink {
    name: String,
    delivery: Delivery,
    on_full: OnFull,
    /// What the far end has, by offset.
    delivered: BTreeMap<Offset, EventId>,
    /// First offset that it has not.
    far_end: Offset,
    /// Where this life of the reader is.
    position: Offset,
    /// A position that the journal made durable.
    flushed: Offset,
    acked: Offset,
    pub stalled: bool,
    /// Deliveries of something that the far end already had.
    pub repeated: u64,
}

impl Sink {
    pub fn new(number: usize, delivery: Delivery, on_full: OnFull) -> Self {
        Self {
            name: format!("sink{number}"),
            delivery,
            on_full,
            delivered: BTreeMap::new(),
            far_end: 0,
            position: 0,
            flushed: 0,
            acked: 0,
            stalled: false,
            repeated: 0,
        }
    }

    pub fn may_skip(&self) -> bool {
        self.on_full == OnFull::DropBacklog
    }

    /// A new life: where does the journal say that this reader is?
    pub fn register(&mut self, engine: &mut Engine<ModelDisk>) -> Result<bool, Violation> {
        let Ok(position) = engine.register_reader(&self.name, ReaderStart::Beginning, self.on_full)
        else {
            return Ok(false);
        };
        ensure!(
            position <= self.far_end || self.may_skip(),
            5,
            "{} is said to be at {position}, but only {} were delivered",
            self.name,
            self.far_end
        );
        ensure!(
            position >= self.flushed,
            5,
            "{} went back to {position} from {}, which was durable",
            self.name,
            self.flushed
        );
        ensure!(
            self.far_end <= engine.next_offset(),
            4,
            "{} has {} events, the journal only {}",
            self.name,
            self.far_end,
            engine.next_offset()
        );
        if self.may_skip() {
            self.far_end = self.far_end.max(position);
        }
        self.position = match self.delivery {
            Delivery::AtLeastOnce => position,
            Delivery::Transactional => self.far_end.max(position),
        };
        self.acked = position;
        Ok(true)
    }

    /// Reads a batch, delivers it, acks it. `false`: the journal could not be read just now.
    pub fn step(
        &mut self,
        engine: &mut Engine<ModelDisk>,
        model: &Model,
        ack_first: bool,
        random: &mut Random,
    ) -> Result<bool, Violation> {
        let batch = match engine.read(self.position, 1 << random.between(4, 12)) {
            Ok(batch) => batch,
            Err(JournalError::Truncated { first, .. }) if self.may_skip() => {
                self.skip_to(first);
                return Ok(true);
            }
            Err(JournalError::Io { .. } | JournalError::Poisoned(_)) => return Ok(false),
            Err(error) => {
                return Err(Violation { item: 5, words: format!("{}: {error}", self.name) });
            }
        };
        let next = model.check_read(self.position, &batch)?;
        if ack_first {
            engine.ack(&self.name, next);
            self.acked = self.acked.max(next);
            // The far end's answer never comes.
            if random.below(2) == 0 {
                return Ok(true);
            }
        }
        for numbered in &batch {
            match self.delivered.insert(numbered.offset, numbered.event.id) {
                Some(before) => {
                    self.repeated += 1;
                    ensure!(
                        before == numbered.event.id && self.delivery == Delivery::AtLeastOnce,
                        5,
                        "{} was given {before} and then {} for offset {}",
                        self.name,
                        numbered.event.id,
                        numbered.offset
                    );
                }
                None => {
                    ensure!(
                        numbered.offset == self.far_end,
                        5,
                        "{} was given {} after {}",
                        self.name,
                        numbered.offset,
                        self.far_end
                    );
                    self.far_end += 1;
                }
            }
        }
        self.position = next;
        if random.below(3) != 0 {
            engine.ack(&self.name, next);
            self.acked = self.acked.max(next);
        }
        Ok(true)
    }

    fn skip_to(&mut self, first: Offset) {
        self.position = self.position.max(first);
        self.far_end = self.far_end.max(first);
    }

    /// The positions have been made durable.
    pub fn note_flush(&mut self) {
        self.flushed = self.flushed.max(self.acked);
    }

    /// Everything that is durable has been delivered.
    pub fn is_done(&self, model: &Model) -> bool {
        self.position >= model.durable.events.len() as Offset
    }

    /// At the end the far end must have exactly what the journal had.
    pub fn check_complete(&self, model: &Model) -> Result<(), Violation> {
        for (offset, event) in model.durable.events.iter().enumerate() {
            match self.delivered.get(&(offset as Offset)) {
                Some(id) => ensure!(
                    *id == event.id,
                    5,
                    "{} has {id} at {offset}, the journal {}",
                    self.name,
                    event.id
                ),
                None => ensure!(self.may_skip(), 5, "{} never got {offset}", self.name),
            }
        }
        Ok(())
    }

    pub fn oldest_needed(&self) -> Option<Offset> {
        (!self.may_skip()).then_some(self.acked)
    }
}
