//! The book: for each tenant and table, hour by hour of `Timestamp`, which identities have come and what is known
//! of their completeness. Pure: times come in as arguments, nothing is asked and nothing is written here.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::LedgerConfig;
use super::hour::{Hour, Proof};
use crate::domain::{Arrival, Ticks, ticks::TICKS_PER_SECOND};

/// Ticks in an hour.
pub const HOUR: i64 = 3600 * TICKS_PER_SECOND;

/// How many hours back an hour without any row is still looked for: a daemon that was off for longer has gap
/// records and backfills to speak for it.
const REACH_HOURS: i64 = 168;

/// How long an hour that could not be verified is tried again after its last check was due.
const GRACE_HOURS: i64 = 24;

/// A row farther than this from its arrival has no hour here: its clock is wrong.
const PAST_HOURS: i64 = 40 * 24;
const FUTURE_HOURS: i64 = 48;

/// What a key costs in memory, with the table around it.
const KEY_BYTES: u64 = 16;

/// Of whom and what: an Entra tenant id and a table's name.
pub type Account = (String, String);

/// One row, as far as the book is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its `Timestamp`.
    pub occurred: Ticks,
    /// When it came here.
    pub ingested: Ticks,
    /// How it came.
    pub arrival: Arrival,
    /// Its identity without revision, hashed.
    pub key: u64,
}

/// The hours of one tenant's table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pages {
    /// The first hour that can be proven: those before had begun when the ledger did.
    pub since: i64,
    /// By hours since 1970.
    pub hours: BTreeMap<i64, Hour>,
    /// Rows without a usable `Timestamp`.
    pub undated: u64,
}

/// All of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Book {
    /// By tenant and table.
    pub accounts: BTreeMap<Account, Pages>,
    /// Keys held in all hours together.
    pub keys: u64,
}

/// An hour that is to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Whose.
    pub account: Account,
    /// Which, in hours since 1970.
    pub hour: i64,
}

impl Due {
    /// The first instant of the hour.
    #[must_use]
    pub const fn from(&self) -> Ticks {
        Ticks(self.hour * HOUR)
    }

    /// The first instant after it.
    #[must_use]
    pub const fn to(&self) -> Ticks {
        Ticks((self.hour + 1) * HOUR)
    }
}

/// What checking an hour came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The far end was asked and has this many identities.
    Counted {
        /// How many.
        theirs: u64,
        /// Events that a refill has brought.
        refilled: u64,
    },
    /// It could not be asked.
    Unverified(String),
}

/// The hour that `at` is in.
#[must_use]
pub const fn hour_of(at: Ticks) -> i64 {
    at.0.div_euclid(HOUR)
}

impl Book {
    /// Enters a row. `whole` says whether the journal reaches back to its beginning: if it does not, an hour
    /// counts as begun until the first row that is still there *came*, not happened.
    pub fn enter(&mut self, account: &Account, entry: &Entry, whole: bool) {
        let hour = hour_of(entry.occurred);
        let came = hour_of(entry.ingested);
        let pages = self.accounts.entry(account.clone()).or_insert_with(|| Pages {
            since: if whole { hour + 1 } else { hour.max(came) + 1 },
            ..Pages::default()
        });
        if hour < came - PAST_HOURS || hour > came + FUTURE_HOURS {
            pages.undated += 1;
            return;
        }
        let since = pages.since;
        let page = pages.hours.entry(hour).or_insert_with(|| Hour::new(hour >= since));
        self.keys += u64::from(page.enter(entry.key, entry.arrival));
    }

    /// Counts a row that has no hour.
    pub fn enter_undated(&mut self, account: &Account) {
        if let Some(pages) = self.accounts.get_mut(account) {
            pages.undated += 1;
        }
    }

    /// Opens the hours in which nothing came, lets go of keys and hours that are too old, and keeps within the
    /// memory.
    pub fn turn(&mut self, now: Ticks, config: &LedgerConfig) {
        let current = hour_of(now);
        let last = config.last_check_hours();
        let mut keys = self.keys;
        for pages in self.accounts.values_mut() {
            for hour in pages.since.max(current - REACH_HOURS)..current {
                pages.hours.entry(hour).or_insert_with(|| Hour::new(true));
            }
            let oldest = current - i64::from(config.keep_days) * 24;
            pages.hours.retain(|hour, page| {
                let kept = *hour >= oldest;
                if !kept {
                    keys -= page.let_go();
                }
                kept
            });
            for (hour, page) in pages.hours.range_mut(..current - last - GRACE_HOURS) {
                if *hour < current - REACH_HOURS || page.checks > 0 {
                    keys -= page.let_go();
                }
            }
        }
        self.keys = keys;
        while self.keys > config.memory_bytes / KEY_BYTES && self.give_up_oldest(now) {}
    }

    /// Gives up the keys of the oldest hour that has any; that hour can then not be proven.
    fn give_up_oldest(&mut self, now: Ticks) -> bool {
        let holding = self.accounts.values_mut().flat_map(|pages| pages.hours.iter_mut());
        let oldest = holding.filter(|(_, page)| page.holds_keys()).min_by_key(|(hour, _)| **hour);
        let Some((_, page)) = oldest else { return false };
        let gone = page.let_go();
        self.keys -= gone;
        page.checks = u8::MAX;
        if !matches!(page.proof, Proof::Complete { .. }) {
            let reason = "its keys did not fit into ledger.memory_bytes".to_owned();
            page.proof = Proof::Unverified { at: now, reason };
        }
        gone > 0
    }

    /// Journal that could not be read: no hour that is still open can be proven any more.
    pub fn skipped(&mut self, now: Ticks) {
        for page in self.accounts.values_mut().flat_map(|pages| pages.hours.values_mut()) {
            if page.holds_keys() {
                self.keys -= page.let_go();
                page.checks = u8::MAX;
                let reason = "a part of the journal was gone before it was counted".to_owned();
                page.proof = Proof::Unverified { at: now, reason };
            }
        }
    }

    /// The hours to check now, oldest first within an account.
    #[must_use]
    pub fn due(&self, now: Ticks, config: &LedgerConfig) -> Vec<Due> {
        let mut due = Vec::new();
        for (account, pages) in &self.accounts {
            if !config.covers(&account.1) {
                continue;
            }
            for (hour, page) in pages.hours.range(pages.since..) {
                let stage = config.check_after_hours.get(usize::from(page.checks));
                let time = stage.map(|after| (hour + 1 + i64::from(*after)) * HOUR);
                let is_due = time.is_some_and(|time| now.0 >= time) && now >= page.not_before;
                if is_due && page.holds_keys() {
                    due.push(Due { account: account.clone(), hour: *hour });
                }
            }
        }
        due
    }

    /// How many identities are here for an hour.
    #[must_use]
    pub fn ours(&self, due: &Due) -> u64 {
        self.page(due).map_or(0, |page| page.distinct)
    }

    fn page(&self, due: &Due) -> Option<&Hour> {
        self.accounts.get(&due.account)?.hours.get(&due.hour)
    }

    /// Notes what a check came to, and when to try again where it proved nothing.
    pub fn settle(
        &mut self,
        due: &Due,
        finding: Finding,
        now: Ticks,
        again: Ticks,
        config: &LedgerConfig,
    ) {
        let passed = config
            .check_after_hours
            .iter()
            .take_while(|after| now.0 >= (due.hour + 1 + i64::from(**after)) * HOUR)
            .count();
        let is_last = passed >= config.check_after_hours.len();
        let Some(page) =
            self.accounts.get_mut(&due.account).and_then(|pages| pages.hours.get_mut(&due.hour))
        else {
            return;
        };
        match finding {
            Finding::Unverified(reason) => {
                page.proof = Proof::Unverified { at: now, reason };
                page.not_before = again;
            }
            Finding::Counted { theirs, refilled } => {
                page.refilled += refilled;
                let after_hours = u32::try_from(hour_of(now) - due.hour - 1).unwrap_or(0);
                let ours = page.distinct;
                page.proof = match theirs.cmp(&ours) {
                    std::cmp::Ordering::Equal => Proof::Complete { at: now, after_hours, theirs },
                    std::cmp::Ordering::Greater => Proof::Missing { at: now, theirs },
                    std::cmp::Ordering::Less => Proof::More { at: now, theirs },
                };
                if theirs > ours && is_last {
                    // What could not be brought yet is tried again until the grace is over.
                    page.not_before = again;
                } else {
                    page.checks = u8::try_from(passed).unwrap_or(u8::MAX);
                    if is_last {
                        self.keys -= page.let_go();
                    }
                }
            }
        }
    }

    /// Counts the keys again, after reading a book from outside.
    pub fn recount(&mut self) {
        let pages = self.accounts.values().flat_map(|pages| pages.hours.values());
        self.keys = pages.map(Hour::held).sum();
    }
}

/// The keys of an hour.
pub type Keys = HashSet<u64>;
