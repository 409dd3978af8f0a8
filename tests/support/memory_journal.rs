//! A journal in memory that can die: what is not durable when it does is lost, as it would be in a power cut.
//! It keeps tickets, dead letters and events; it is no judge of the real engines.

#![allow(dead_code, reason = "shared by several tests, each of which uses a part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use postern::domain::{Cursors, DeadLetter, EventId, TicketRecord, TicketState};
use postern::journal::{
    Appended, Health, Journal, JournalError, JournalStat, Numbered, Offset, OnFull, ReaderStart,
    Receipt, Unit,
};
use tokio::sync::{Notify, oneshot, watch};

/// Where the process dies, counted over the units of one state of tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// Never.
    Never,
    /// When the n-th intent from now is about to become durable: it does not.
    BeforeIntent(u32),
    /// As soon as the n-th result (open, refused or unknown) from now is durable.
    AfterResult(u32),
}

/// The journal.
pub struct MemoryJournal {
    inner: Mutex<Inner>,
    watermark: watch::Sender<Offset>,
    health: watch::Sender<Health>,
    /// Told when the process is to be taken for dead.
    pub died: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    units: Vec<Unit>,
    death: Option<Death>,
    dead: bool,
    /// Receipts that never resolve, kept so that they do not report an error either.
    lost: Vec<oneshot::Sender<Result<Appended, JournalError>>>,
}

impl MemoryJournal {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Self::holding(Vec::new())
    }

    fn holding(units: Vec<Unit>) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner { units, ..Inner::default() }),
            watermark: watch::channel(0).0,
            health: watch::channel(Health::Ready).0,
            died: Arc::new(Notify::new()),
        })
    }

    /// The journal that the next life of the process finds.
    pub fn after_death(&self) -> Arc<Self> {
        Self::holding(self.inner.lock().unwrap().units.clone())
    }

    /// Plans a death.
    pub fn die(&self, death: Death) {
        self.inner.lock().unwrap().death = Some(death);
    }

    /// Every durable ticket record, in order.
    pub fn records(&self) -> Vec<TicketRecord> {
        let inner = self.inner.lock().unwrap();
        inner.units.iter().flat_map(|unit| unit.tickets.clone()).collect()
    }
}

/// Counts `death` down by a unit with `states`: whether the process dies before or after it is durable.
fn strikes(death: &mut Option<Death>, unit: &Unit) -> (bool, bool) {
    let intent = unit.tickets.iter().any(|ticket| ticket.state == TicketState::Intent);
    let result = unit.tickets.iter().any(|ticket| ticket.state != TicketState::Intent);
    match death {
        Some(Death::BeforeIntent(count)) if intent => {
            *count = count.saturating_sub(1);
            (*count == 0, false)
        }
        Some(Death::AfterResult(count)) if result => {
            *count = count.saturating_sub(1);
            (false, *count == 0)
        }
        _ => (false, false),
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    fn admit(&self, keys: &[EventId]) -> Vec<bool> {
        vec![true; keys.len()]
    }

    async fn append(&self, unit: Unit) -> Result<Receipt, JournalError> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.inner.lock().unwrap();
        let (before, after) = strikes(&mut inner.death, &unit);
        inner.dead |= before;
        if inner.dead {
            inner.lost.push(sender);
            self.died.notify_one();
            return Ok(Receipt(receiver));
        }
        let first = inner.units.iter().map(|unit| unit.events.len() as u64).sum();
        let next = first + unit.events.len() as u64;
        inner.units.push(unit);
        inner.dead |= after;
        if inner.dead {
            inner.lost.push(sender);
            self.died.notify_one();
        } else {
            let _ = sender.send(Ok(Appended { first, next }));
        }
        Ok(Receipt(receiver))
    }

    fn cursors(&self, _: &str) -> Cursors {
        Cursors::new()
    }

    async fn read(&self, _: Offset, _: usize) -> Result<Vec<Numbered>, JournalError> {
        Ok(Vec::new())
    }

    fn watermark(&self) -> watch::Receiver<Offset> {
        self.watermark.subscribe()
    }

    fn register_reader(&self, _: &str, _: ReaderStart, _: OnFull) -> Result<Offset, JournalError> {
        Ok(0)
    }

    fn ack(&self, _: &str, _: Offset) {}

    fn forget_reader(&self, _: &str) {}

    fn tickets(&self, sink: &str) -> Vec<TicketRecord> {
        let mut latest = BTreeMap::new();
        for record in self.records() {
            if &*record.sink == sink {
                latest.insert(record.key.clone(), record);
            }
        }
        latest.into_values().collect()
    }

    fn dead_letters(&self) -> Vec<DeadLetter> {
        let inner = self.inner.lock().unwrap();
        inner.units.iter().flat_map(|unit| unit.dead_letters.clone()).collect()
    }

    fn stat(&self) -> JournalStat {
        JournalStat::default()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    async fn close(&self) -> Result<(), JournalError> {
        Ok(())
    }
}
