//! What is known of each ticket, as the journal has it, and what only this life of the process knows beside
//! that. It decides what the next step for a ticket is; it takes none.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::{TicketKey, TicketRecord, TicketState};

/// One ticket.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The latest record.
    pub(super) record: TicketRecord,
    /// Whether it is certain that nothing was created so far. Never true for what an earlier life left.
    pub(super) surely_absent: bool,
    /// When the outcome became unknown, on the monotonic clock of this life.
    pub(super) unknown_since: Duration,
    /// Look-ups since then that found nothing.
    pub(super) looked_up: u32,
    /// How many tickets had been created when this one first failed.
    pub(super) created_before: Option<u64>,
}

/// What to do about an event, given what is known of its ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nobody has heard of it: journal the intent, then create.
    Announce,
    /// Create: nothing is there yet, or sending again does no harm.
    Create,
    /// Look it up.
    LookUp,
    /// Its search lags: not before this time has passed.
    Wait(Duration),
    /// It is there.
    Done,
    /// It was refused; the far end's words.
    Refused(Box<str>),
    /// Nobody can find out: a person must.
    Person,
}

/// All tickets of one sink.
#[derive(Debug, Default)]
pub(super) struct Book {
    tickets: HashMap<TicketKey, Entry>,
}

impl Book {
    /// As an earlier life left it. An intent without a result means that the answer was lost.
    pub(super) fn read(records: Vec<TicketRecord>, now: Duration) -> Self {
        let tickets = records.into_iter().map(|mut record| {
            if record.state == TicketState::Intent {
                record.state = TicketState::Unknown;
            }
            let entry = Entry {
                surely_absent: false,
                unknown_since: now,
                looked_up: 0,
                created_before: None,
                record,
            };
            (entry.record.key.clone(), entry)
        });
        Self { tickets: tickets.collect() }
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.tickets.get_mut(key)
    }

    /// Notes a ticket that was just announced.
    pub(super) fn announce(&mut self, record: TicketRecord) {
        let entry = Entry {
            surely_absent: true,
            unknown_since: Duration::ZERO,
            looked_up: 0,
            created_before: None,
            record,
        };
        self.tickets.insert(entry.record.key.clone(), entry);
    }

    /// What to do next. `lag` is how long the far end's search may lag, if it has one.
    pub(super) fn next(
        &self,
        key: &str,
        idempotent: bool,
        lag: Option<Duration>,
        now: Duration,
    ) -> Step {
        let Some(entry) = self.tickets.get(key) else { return Step::Announce };
        match &entry.record.state {
            TicketState::Open { .. } | TicketState::Closed => Step::Done,
            TicketState::Refused { detail } => Step::Refused(detail.clone()),
            TicketState::Intent | TicketState::Unknown if idempotent || entry.surely_absent => {
                Step::Create
            }
            TicketState::Intent | TicketState::Unknown => match lag {
                None => Step::Person,
                // Twice, and the second time after the lag: what is not found then is not there.
                Some(lag) => {
                    let waited = now.saturating_sub(entry.unknown_since);
                    match entry.looked_up {
                        0 => Step::LookUp,
                        1 if waited < lag => Step::Wait(lag.saturating_sub(waited)),
                        1 => Step::LookUp,
                        _ => Step::Create,
                    }
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Ticks;

    const LAG: Option<Duration> = Some(Duration::from_secs(30));

    fn record(state: TicketState) -> TicketRecord {
        TicketRecord { sink: "t".into(), key: "k".into(), state, attempts: 1, at: Ticks(0) }
    }

    #[track_caller]
    fn check(book: &Book, idempotent: bool, lag: Option<Duration>, now: u64, expected: Step) {
        assert_eq!(book.next("k", idempotent, lag, Duration::from_secs(now)), expected);
    }

    /// Rows I8 and I14 of the fault matrix.
    #[test]
    fn an_intent_of_an_earlier_life_is_unknown_and_who_may_settle_it_depends_on_the_far_end() {
        for state in [TicketState::Intent, TicketState::Unknown] {
            let book = Book::read(vec![record(state)], Duration::ZERO);
            check(&book, true, None, 0, Step::Create);
            check(&book, false, LAG, 0, Step::LookUp);
            check(&book, false, None, 0, Step::Person);
        }
    }

    /// Row I9 of the fault matrix.
    #[test]
    fn what_was_not_found_is_looked_up_again_after_the_lag_before_it_is_created() {
        let mut book = Book::read(vec![record(TicketState::Unknown)], Duration::from_secs(100));
        book.get_mut("k").unwrap().looked_up = 1;
        check(&book, false, LAG, 110, Step::Wait(Duration::from_secs(20)));
        check(&book, false, LAG, 130, Step::LookUp);
        book.get_mut("k").unwrap().looked_up = 2;
        check(&book, false, LAG, 130, Step::Create);
    }

    #[test]
    fn settled_tickets_are_left_alone() {
        let open = TicketState::Open { reference: "INC1".into() };
        for state in [open, TicketState::Closed] {
            let book = Book::read(vec![record(state)], Duration::ZERO);
            check(&book, false, None, 0, Step::Done);
        }
        let book =
            Book::read(vec![record(TicketState::Refused { detail: "no".into() })], Duration::ZERO);
        check(&book, true, LAG, 0, Step::Refused("no".into()));
        check(&Book::default(), true, LAG, 0, Step::Announce);
    }
}
