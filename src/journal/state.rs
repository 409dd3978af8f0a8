//! What is derived from the journal's frames: cursors, tickets, dead letters, the dedup set. Always rebuilt from a
//! snapshot and the frames behind it; never a second truth.

use std::collections::BTreeMap;
use std::time::Duration;

use super::codec::Effects;
use super::config::JournalConfig;
use super::dedup::{Dedup, DedupConfig};
use super::disk::Disk;
use crate::domain::{
    Cursor, CursorKey, Cursors, DeadLetter, EventId, TicketRecord, TicketState, Ticks,
};

/// Key of a ticket: sink, external key.
type TicketAt = (Box<str>, Box<str>);

/// The derived state.
pub(crate) struct State<D: Disk> {
    cursors: BTreeMap<CursorKey, Cursor>,
    tickets: BTreeMap<TicketAt, TicketRecord>,
    dead_letters: BTreeMap<u64, DeadLetter>,
    dead_letter_places: BTreeMap<EventId, u64>,
    dead_letter_next: u64,
    dead_letter_bytes: u64,
    /// Dead letters given up unresolved, by age or for want of room, since the journal was created.
    pub(crate) dead_letters_expired: u64,
    pub(crate) dedup: Dedup<D>,
    dead_letter_limit: u64,
}

impl<D: Disk> State<D> {
    pub(crate) fn new(config: &JournalConfig, dedup: Dedup<D>) -> Self {
        Self {
            cursors: BTreeMap::new(),
            tickets: BTreeMap::new(),
            dead_letters: BTreeMap::new(),
            dead_letter_places: BTreeMap::new(),
            dead_letter_next: 0,
            dead_letter_bytes: 0,
            dead_letters_expired: 0,
            dedup,
            dead_letter_limit: config.dead_letter_bytes,
        }
    }

    /// See [`super::Journal::admit`].
    pub(crate) fn admit(&mut self, keys: &[EventId]) -> Vec<bool> {
        keys.iter().map(|key| self.dedup.admit(*key)).collect()
    }

    /// Takes back keys that were admitted and whose unit will never be written.
    pub(crate) fn release(&mut self, keys: &[EventId]) {
        for key in keys {
            self.dedup.withdraw(*key);
        }
    }

    /// What a durable unit changes.
    pub(crate) fn apply(&mut self, effects: Effects, with_keys: bool) {
        if with_keys {
            self.dedup.settle(effects.ids.iter().chain(&effects.mails_seen).copied());
        }
        for letter in effects.dead_letters {
            self.keep_dead_letter(letter);
        }
        for id in effects.resolved {
            self.take_dead_letter(id);
        }
        self.cursors.extend(effects.cursors);
        for ticket in effects.tickets {
            self.tickets.insert((ticket.sink.clone(), ticket.key.clone()), ticket);
        }
    }

    fn keep_dead_letter(&mut self, letter: DeadLetter) {
        // The same poison again: one dead letter, the newer words, the older place.
        let place = match self.dead_letter_places.get(&letter.id) {
            Some(place) => *place,
            None => {
                self.dead_letter_next += 1;
                self.dead_letter_next
            }
        };
        self.take_dead_letter(letter.id);
        self.dead_letter_bytes += weight(&letter);
        self.dead_letter_places.insert(letter.id, place);
        self.dead_letters.insert(place, letter);
        while self.dead_letter_bytes > self.dead_letter_limit && self.dead_letters.len() > 1 {
            let Some((_, oldest)) = self.dead_letters.first_key_value() else { break };
            let id = oldest.id;
            self.take_dead_letter(id);
            self.dead_letters_expired += 1;
        }
    }

    fn take_dead_letter(&mut self, id: EventId) {
        if let Some(place) = self.dead_letter_places.remove(&id)
            && let Some(letter) = self.dead_letters.remove(&place)
        {
            self.dead_letter_bytes = self.dead_letter_bytes.saturating_sub(weight(&letter));
        }
    }

    /// Gives up what is kept for a time only.
    pub(crate) fn expire(&mut self, config: &JournalConfig, now: Ticks) {
        let days = |days: u32| now.plus_seconds(-i64::from(days) * 86_400);
        let letters_before = days(config.dead_letter_days);
        let old: Vec<EventId> = self
            .dead_letters
            .values()
            .filter(|letter| letter.at < letters_before)
            .map(|letter| letter.id)
            .collect();
        for id in old {
            self.take_dead_letter(id);
            self.dead_letters_expired += 1;
        }
        let tickets_before = days(config.ticket_days);
        self.tickets.retain(|_, ticket| {
            let settled = matches!(ticket.state, TicketState::Closed | TicketState::Refused { .. });
            !settled || ticket.at >= tickets_before
        });
    }

    /// See [`super::Journal::cursors`].
    pub(crate) fn cursors(&self, prefix: &str) -> Cursors {
        self.cursors
            .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, cursor)| (key.clone(), cursor.clone()))
            .collect()
    }

    /// See [`super::Journal::tickets`].
    pub(crate) fn tickets(&self, sink: &str) -> Vec<TicketRecord> {
        self.tickets.values().filter(|ticket| &*ticket.sink == sink).cloned().collect()
    }

    /// See [`super::Journal::dead_letters`].
    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.dead_letters.values().cloned().collect()
    }

    pub(crate) fn dead_letter_count(&self) -> u64 {
        self.dead_letters.len() as u64
    }

    /// What a snapshot carries on; the dedup set goes its own way.
    pub(crate) fn effects(&self) -> Effects {
        Effects {
            cursors: self.cursors.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            tickets: self.tickets.values().cloned().collect(),
            dead_letters: self.dead_letters(),
            ..Effects::default()
        }
    }
}

/// Memory that a dead letter takes, about.
fn weight(letter: &DeadLetter) -> u64 {
    (letter.bytes.len() + letter.detail.len() + letter.position.len() + 256) as u64
}

/// How much the dedup set is to remember.
pub(crate) fn dedup_config(config: &JournalConfig) -> DedupConfig {
    DedupConfig {
        horizon: Duration::from_secs(u64::from(config.dedup_days) * 86_400),
        memory_bytes: usize::try_from(config.dedup_memory_bytes).unwrap_or(usize::MAX),
    }
}
