//! A journal on a shelf: what is appended is durable at once and can be read. For tests of what stands around a
//! journal; it is no judge of the real engines.

#![allow(dead_code, reason = "shared by several tests, each of which uses a part")]

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use postern::domain::{Cursors, DeadLetter, Event, EventId, TicketRecord};
use postern::journal::{
    Appended, Health, Journal, JournalError, JournalStat, Numbered, Offset, OnFull, ReaderStart,
    Receipt, Unit,
};
use tokio::sync::{oneshot, watch};

/// See the module.
pub struct ShelfJournal {
    id: String,
    inner: Mutex<Inner>,
    watermark: watch::Sender<Offset>,
    health: watch::Sender<Health>,
}

#[derive(Default, Clone)]
struct Inner {
    events: Vec<Numbered>,
    seen: HashSet<EventId>,
    cursors: Cursors,
    readers: BTreeMap<String, Offset>,
    dead_letters: Vec<DeadLetter>,
}

impl ShelfJournal {
    /// An empty one.
    pub fn new(id: &str) -> Arc<Self> {
        Self::with(id, Inner::default())
    }

    fn with(id: &str, inner: Inner) -> Arc<Self> {
        let end = inner.events.len() as Offset;
        Arc::new(Self {
            id: id.to_owned(),
            inner: Mutex::new(inner),
            watermark: watch::channel(end).0,
            health: watch::channel(Health::Ready).0,
        })
    }

    /// A copy, as a backup would hold it.
    pub fn backup(&self) -> Arc<Self> {
        Self::with(&self.id, self.inner.lock().unwrap().clone())
    }

    /// Appends events and returns them with their offsets.
    pub fn put(&self, events: Vec<Event>) -> Vec<Numbered> {
        let mut inner = self.inner.lock().unwrap();
        let first = inner.events.len();
        for event in events {
            inner.seen.insert(event.id);
            let offset = inner.events.len() as Offset;
            inner.events.push(Numbered { offset, event: Arc::new(event) });
        }
        let end = inner.events.len() as Offset;
        let added = inner.events[first..].to_vec();
        drop(inner);
        self.watermark.send_replace(end);
        added
    }

    /// A reader's position.
    pub fn position(&self, reader: &str) -> Offset {
        self.inner.lock().unwrap().readers.get(reader).copied().unwrap_or_default()
    }

    /// The ids of all events.
    pub fn ids(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        inner.events.iter().map(|numbered| numbered.event.id.to_string()).collect()
    }
}

#[async_trait]
impl Journal for ShelfJournal {
    fn admit(&self, keys: &[EventId]) -> Vec<bool> {
        let mut inner = self.inner.lock().unwrap();
        keys.iter().map(|key| inner.seen.insert(*key)).collect()
    }

    async fn append(&self, unit: Unit) -> Result<Receipt, JournalError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut inner = self.inner.lock().unwrap();
            inner.cursors.extend(unit.cursors);
            inner.dead_letters.extend(unit.dead_letters);
        }
        let count = unit.events.len() as Offset;
        self.put(unit.events);
        let next = self.inner.lock().unwrap().events.len() as Offset;
        let _ = sender.send(Ok(Appended { first: next - count, next }));
        Ok(Receipt(receiver))
    }

    fn cursors(&self, prefix: &str) -> Cursors {
        let inner = self.inner.lock().unwrap();
        let with_prefix = inner.cursors.iter().filter(|(key, _)| key.starts_with(prefix));
        with_prefix.map(|(key, cursor)| (key.clone(), cursor.clone())).collect()
    }

    async fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<Numbered>, JournalError> {
        let inner = self.inner.lock().unwrap();
        let mut bytes = 0;
        let rest = inner.events.get(usize::try_from(from).unwrap()..).unwrap_or_default();
        let fits = rest.iter().take_while(|numbered| {
            let first = bytes == 0;
            bytes += numbered.event.raw.len().max(1);
            first || bytes <= max_bytes
        });
        Ok(fits.cloned().collect())
    }

    fn watermark(&self) -> watch::Receiver<Offset> {
        self.watermark.subscribe()
    }

    fn register_reader(
        &self,
        name: &str,
        _: ReaderStart,
        _: OnFull,
    ) -> Result<Offset, JournalError> {
        Ok(*self.inner.lock().unwrap().readers.entry(name.to_owned()).or_insert(0))
    }

    fn ack(&self, reader: &str, next: Offset) {
        self.inner.lock().unwrap().readers.insert(reader.to_owned(), next);
    }

    fn forget_reader(&self, name: &str) {
        self.inner.lock().unwrap().readers.remove(name);
    }

    fn tickets(&self, _: &str) -> Vec<TicketRecord> {
        Vec::new()
    }

    fn dead_letters(&self) -> Vec<DeadLetter> {
        self.inner.lock().unwrap().dead_letters.clone()
    }

    fn stat(&self) -> JournalStat {
        let next = self.inner.lock().unwrap().events.len() as Offset;
        JournalStat { journal_id: self.id.clone(), next, ..JournalStat::default() }
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    async fn close(&self) -> Result<(), JournalError> {
        Ok(())
    }
}
