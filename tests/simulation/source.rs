//! The far ends that events come from, with the ground truth of what they ever showed. They know nothing of
//! the journal.

use std::collections::BTreeSet;

use postern::domain::EventId;
use postern::journal::model::Random;

/// How far back a window source is read again, and how late it shows records at most.
const LATENESS: u64 = 40;

/// One record as a far end shows it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its identity; the far end may show it more than once.
    pub key: u64,
    /// The message it belongs to, for every third one.
    pub mail: Option<u64>,
    /// Whether it is something that cannot become an event.
    pub poison: bool,
    occurred: u64,
    visible: u64,
}

/// A page and the cursor behind it.
#[derive(Debug, Clone)]
pub struct Page {
    pub records: Vec<Record>,
    pub cursor: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Records have offsets; what has been committed may be deleted there (an event hub).
    Log,
    /// Polled by time, with an overlap; records show up late and in any order (Graph).
    Window,
}

#[derive(Debug)]
pub struct Source {
    pub name: String,
    style: Style,
    records: Vec<Record>,
    /// Log: everything before has been deleted there, because it was committed.
    deleted: u64,
    next_key: u64,
    /// How many records are made in all.
    limit: u64,
    /// Pages of a window that are still to be taken.
    pages: Vec<Page>,
    /// Windows begun in this life when everything there will ever be was to be seen.
    last_windows: u64,
}

impl Source {
    pub fn new(number: u64, style: Style, limit: u64) -> Self {
        Self {
            name: format!("source{number}"),
            style,
            records: Vec::new(),
            deleted: 0,
            next_key: number * 1_000_000,
            limit,
            pages: Vec::new(),
            last_windows: 0,
        }
    }

    /// Something happens there: new records, and old ones shown again.
    pub fn grow(&mut self, now: u64, repeats: u32, random: &mut Random) {
        for _ in 0..random.between(1, 6) {
            if self.records.len() as u64 >= self.limit {
                return;
            }
            let mut record = Record {
                key: self.next_key,
                mail: (random.below(3) == 0).then_some(self.next_key / 4),
                poison: random.below(12) == 0,
                occurred: now,
                visible: now,
            };
            if !self.records.is_empty() && random.chance(repeats) {
                let again = random.index(self.records.len());
                record = Record { occurred: now, visible: now, ..self.records[again].clone() };
            } else {
                self.next_key += 1;
            }
            if self.style == Style::Window {
                record.visible = now + random.below(LATENESS);
            }
            self.records.push(record);
        }
    }

    /// Nothing will happen any more.
    pub fn end(&mut self) {
        self.limit = 0;
    }

    /// A page behind `cursor`; `None` if there is nothing new. `Err` if what the cursor asks for is gone.
    pub fn poll(
        &mut self,
        cursor: Option<&str>,
        now: u64,
        random: &mut Random,
    ) -> Result<Option<Page>, String> {
        let cursor: u64 = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        match self.style {
            Style::Log => {
                if cursor < self.deleted {
                    return Err(format!("cursor {cursor} is behind {}, committed", self.deleted));
                }
                let count = random.between(1, 9).min(self.records.len() as u64 - cursor);
                let end = cursor + count;
                let records = self.records[cursor as usize..end as usize].to_vec();
                Ok((count > 0).then(|| Page { records, cursor: end.to_string() }))
            }
            Style::Window => {
                if self.pages.is_empty() {
                    let ended = self.limit == 0 && self.records.iter().all(|r| r.visible <= now);
                    self.last_windows += u64::from(ended);
                    self.pages = self.window(cursor, now, random);
                }
                Ok(self.pages.pop())
            }
        }
    }

    /// All of a window, cut into pages; only behind the last one the cursor moves. Last page first.
    fn window(&self, cursor: u64, now: u64, random: &mut Random) -> Vec<Page> {
        let from = cursor.saturating_sub(LATENESS);
        let mut found: Vec<Record> = self
            .records
            .iter()
            .filter(|record| record.visible <= now && record.occurred >= from)
            .cloned()
            .collect();
        // Most polls bring nothing; which of them do not matter as long as it goes on.
        let quiet = found.iter().all(|record| record.occurred < cursor);
        if quiet && self.limit > 0 && random.below(4) != 0 {
            return Vec::new();
        }
        for place in (1..found.len()).rev() {
            found.swap(place, random.index(place + 1));
        }
        let behind = found.iter().map(|r| r.occurred).max().unwrap_or(cursor).max(cursor);
        let mut pages = Vec::new();
        while !found.is_empty() {
            let rest = found.split_off(found.len().min(random.between(1, 12) as usize));
            pages.push(Page { records: found, cursor: cursor.to_string() });
            found = rest;
        }
        if let Some(last) = pages.last_mut() {
            last.cursor = behind.to_string();
        }
        pages.reverse();
        pages
    }

    /// A new life of the reader: pages that were not taken are polled again.
    pub fn forget_pages(&mut self) {
        self.pages.clear();
        self.last_windows = 0;
    }

    /// What is behind a durable cursor may be deleted.
    pub fn commit(&mut self, cursor: &str) {
        if self.style == Style::Log {
            self.deleted = self.deleted.max(cursor.parse().unwrap());
        }
    }

    /// Whether a reader with this cursor has seen everything there will ever be.
    pub fn is_drained(&self, cursor: Option<&str>) -> bool {
        let cursor: u64 = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        match self.style {
            Style::Log => cursor >= self.records.len() as u64,
            // The window before the last has been taken as a whole.
            Style::Window => self.records.is_empty() || self.last_windows >= 2,
        }
    }

    /// The keys of all events that were ever shown, and of all poison.
    pub fn truth(&self) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let keys = |poison: bool| {
            self.records.iter().filter(|r| r.poison == poison).map(|r| r.key).collect()
        };
        (keys(false), keys(true))
    }
}

/// The public id of a record.
pub fn id_of(key: u64) -> EventId {
    id("record", key)
}

/// The dedup key of a mail.
pub fn mail_id(mail: u64) -> EventId {
    id("mail", mail)
}

fn id(space: &str, number: u64) -> EventId {
    let mut random = Random::new(number ^ (space.len() as u64) << 56);
    let mut bytes = [0; 16];
    for half in bytes.as_chunks_mut::<8>().0 {
        *half = random.next_u64().to_le_bytes();
    }
    EventId(bytes)
}
