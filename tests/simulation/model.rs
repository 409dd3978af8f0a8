//! What the journal must say: the plainest possible journal, in memory, and the oracle that compares the real
//! one with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use postern::domain::{Cursor, CursorKey, DeadLetter, Event, EventId, Kind, TicketRecord};
use postern::journal::model::ModelDisk;
use postern::journal::{Appended, Engine, JournalError, Numbered, Offset, Unit};

/// The cursor that counts units, so that one number says which units a journal holds.
pub const SERIAL: &str = "serial";
/// The sink whose tickets the model keeps.
pub const TICKET_SINK: &str = "tickets";

/// A broken promise: which item of the oracle, and what was seen.
#[derive(Debug, Clone)]
pub struct Violation {
    pub item: u8,
    pub words: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item {} ({}): {}", self.item, item_name(self.item), self.words)
    }
}

pub fn item_name(item: u8) -> &'static str {
    match item {
        1 => "every event is there",
        2 => "each key once",
        3 => "cursors fit the events",
        4 => "what was durable stays",
        5 => "sinks get order without holes",
        6 => "tickets as recorded",
        7 => "poison becomes dead letters",
        8 => "budgets are kept",
        10 => "it comes to rest",
        11 => "equal seeds, equal traces",
        12 => "every fault struck",
        _ => "it does not fall over",
    }
}

#[macro_export]
macro_rules! ensure {
    ($condition:expr, $item:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::model::Violation { item: $item, words: format!($($words)+) });
        }
    };
}

/// What a sequence of durable units comes to.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub events: Vec<Arc<Event>>,
    pub cursors: BTreeMap<CursorKey, Cursor>,
    pub dead_letters: BTreeMap<EventId, DeadLetter>,
    pub tickets: BTreeMap<Box<str>, TicketRecord>,
    pub seen: BTreeSet<EventId>,
}

impl State {
    fn apply(&mut self, unit: &Unit) {
        for event in &unit.events {
            self.seen.insert(event.id);
            self.events.push(Arc::new(event.clone()));
        }
        self.seen.extend(&unit.mails_seen);
        for letter in &unit.dead_letters {
            self.dead_letters.insert(letter.id, letter.clone());
        }
        for id in &unit.dead_letters_resolved {
            self.dead_letters.remove(id);
        }
        self.cursors.extend(unit.cursors.iter().cloned());
        for ticket in &unit.tickets {
            self.tickets.insert(ticket.key.clone(), ticket.clone());
        }
    }
}

#[derive(Debug, Default)]
pub struct Model {
    /// Durable, as far as anybody was told.
    pub durable: State,
    staged: Vec<Unit>,
    /// Keys of staged units.
    staged_seen: BTreeSet<EventId>,
    /// How many of the staged units a commit has been asked for.
    asked: usize,
    serial: u64,
}

impl Model {
    /// Whether a key is new.
    pub fn is_new(&self, id: EventId) -> bool {
        !self.durable.seen.contains(&id) && !self.staged_seen.contains(&id)
    }

    /// The key has been admitted.
    pub fn admit(&mut self, id: EventId) {
        self.staged_seen.insert(id);
    }

    /// Numbers a unit that is about to be staged, and remembers it.
    pub fn stage(&mut self, unit: &mut Unit) {
        self.serial += 1;
        unit.cursors.push((SERIAL.into(), self.serial.to_string().into()));
        self.staged.push(unit.clone());
    }

    pub fn staged(&self) -> &[Unit] {
        &self.staged
    }

    /// A commit is about to be called.
    pub fn ask(&mut self) {
        self.asked = self.staged.len();
    }

    /// A commit said that everything staged is durable.
    pub fn committed(&mut self, appended: &[Appended]) -> Result<(), Violation> {
        ensure!(
            appended.len() == self.staged.len(),
            4,
            "{} units were staged, {} reported durable",
            self.staged.len(),
            appended.len()
        );
        for (unit, appended) in self.staged.iter().zip(appended) {
            let first = self.durable.events.len() as u64;
            let next = first + unit.events.len() as u64;
            ensure!(
                (appended.first, appended.next) == (first, next),
                4,
                "{appended:?} was reported for {first}..{next}"
            );
            self.durable.apply(unit);
        }
        self.clear_staged();
        Ok(())
    }

    fn clear_staged(&mut self) {
        self.staged.clear();
        self.staged_seen.clear();
        self.asked = 0;
    }

    /// Takes note of events that the journal added itself: gap records for a backlog that was dropped.
    pub fn adopt_gaps(&mut self, engine: &Engine<ModelDisk>) -> Result<(), Violation> {
        while self.durable.events.len() < engine.next_offset() as usize {
            let at = self.durable.events.len() as Offset;
            if at < engine.stat().first {
                // It has been dropped again with more of the backlog; a later record covers it.
                self.durable.events.push(Arc::new(crate::run::event_of(Kind::Gap, "dropped", at)));
                continue;
            }
            // A read may fail once; if it goes on failing the machine has stopped.
            let Some(found) = (0..3).find_map(|_| engine.read(at, 1).ok()) else { return Ok(()) };
            let Some(Numbered { offset, event }) = found.into_iter().next() else {
                return Err(Violation { item: 5, words: format!("nothing can be read at {at}") });
            };
            ensure!(
                offset == at && event.kind == Kind::Gap,
                4,
                "offset {offset} shows {} of kind {} although no commit said so",
                event.id,
                event.kind
            );
            self.durable.seen.insert(event.id);
            self.durable.events.push(event);
        }
        Ok(())
    }

    /// The journal has been opened again after a life that ended somehow. It must hold everything that was
    /// reported durable, and of the rest all or nothing of the last commit.
    pub fn recovered(&mut self, engine: &Engine<ModelDisk>) -> Result<(), Violation> {
        let cursors = engine.cursors("");
        let found: u64 = cursors.get(SERIAL).map_or(0, |serial| serial.parse().unwrap());
        let durable: u64 =
            self.durable.cursors.get(SERIAL).map_or(0, |serial| serial.parse().unwrap());
        ensure!(found >= durable, 4, "unit {durable} was durable, the journal ends at {found}");
        let more = (found - durable) as usize;
        ensure!(
            more == 0 || more == self.asked,
            4,
            "{more} of the {} units of a commit survived",
            self.asked
        );
        for unit in self.staged.drain(..).take(more) {
            self.durable.apply(&unit);
        }
        self.clear_staged();
        self.serial = found;
        self.compare(engine)
    }

    /// Compares everything that can be seen.
    pub fn compare(&mut self, engine: &Engine<ModelDisk>) -> Result<(), Violation> {
        let known = self.durable.events.len() as Offset;
        ensure!(engine.next_offset() >= known, 4, "{known} events were durable");
        self.adopt_gaps(engine)?;
        let cursors = engine.cursors("");
        ensure!(
            cursors == self.durable.cursors,
            3,
            "cursors are {cursors:?}, should be {:?}",
            self.durable.cursors
        );
        let letters = engine.dead_letters();
        let held: BTreeMap<EventId, &DeadLetter> = letters.iter().map(|l| (l.id, l)).collect();
        ensure!(
            held.len() == letters.len()
                && held.iter().map(|(id, l)| (id, *l)).eq(&self.durable.dead_letters),
            7,
            "{} dead letters, should be {}",
            letters.len(),
            self.durable.dead_letters.len()
        );
        let tickets = engine.tickets(TICKET_SINK);
        ensure!(
            tickets.iter().map(|t| (&t.key, t)).eq(&self.durable.tickets),
            6,
            "tickets are {tickets:?}, should be {:?}",
            self.durable.tickets
        );
        let mut at = engine.stat().first;
        while at < engine.next_offset() {
            match engine.read(at, 4_096) {
                Ok(events) => at = self.check_read(at, &events)?,
                Err(JournalError::Io { .. }) => return Ok(()),
                Err(error) => return Err(Violation { item: 4, words: error.to_string() }),
            }
        }
        Ok(())
    }

    /// What a read returned must be what is durable, in order; says where it ends.
    pub fn check_read(&self, from: Offset, events: &[Numbered]) -> Result<Offset, Violation> {
        let known = self.durable.events.len() as Offset;
        ensure!(
            !events.is_empty() || from >= known,
            5,
            "nothing was read at {from}, below the end at {known}"
        );
        let mut at = from;
        for numbered in events {
            ensure!(numbered.offset == at, 5, "offset {} came at {at}", numbered.offset);
            let Some(expected) = self.durable.events.get(at as usize) else {
                return Err(Violation { item: 4, words: format!("{at} is shown but not durable") });
            };
            ensure!(
                *expected == numbered.event,
                4,
                "offset {at} holds {}, should be {}",
                numbered.event.id,
                expected.id
            );
            at += 1;
        }
        Ok(at)
    }
}
