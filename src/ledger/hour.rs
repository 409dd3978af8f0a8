//! One hour of one table: what came, and what is proven about it.

use serde::{Deserialize, Serialize};

use super::book::Keys;
use crate::domain::{Arrival, Ticks};

/// What is known about the completeness of an hour.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Proof {
    /// Not checked yet.
    #[default]
    Open,
    /// The far end has as many identities as we.
    Complete {
        /// When that was proven.
        at: Ticks,
        /// How many hours after the hour's end.
        after_hours: u32,
        /// How many the far end has.
        theirs: u64,
    },
    /// The far end has more, and a refill has not brought them.
    Missing {
        /// When that was found.
        at: Ticks,
        /// How many the far end has.
        theirs: u64,
    },
    /// We have more than the far end.
    More {
        /// When that was found.
        at: Ticks,
        /// How many the far end has.
        theirs: u64,
    },
    /// It could not be checked.
    Unverified {
        /// When that was tried last.
        at: Ticks,
        /// Why.
        reason: String,
    },
}

/// The words for an hour's state: labels of a metric and of the report.
pub const STATES: [&str; 7] =
    ["before", "open", "complete", "changed", "missing", "more", "unverified"];

/// An hour.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Hour {
    /// Identities without revision, while the hour can still be checked.
    keys: Option<Keys>,
    /// How many different ones there were.
    pub distinct: u64,
    /// Rows that came.
    pub rows: u64,
    /// Rows whose identity had come before: a changed verdict, or the row once more.
    pub again: u64,
    /// Rows that came later than their source normally is.
    pub late: u64,
    /// Rows that were fetched on purpose.
    pub backfilled: u64,
    /// Rows that came after the last check, when identities were no longer kept.
    pub after: u64,
    /// Events that refills of this hour brought.
    pub refilled: u64,
    /// How many of the checks are done.
    pub checks: u8,
    /// Not to be checked before.
    pub not_before: Ticks,
    /// What is known.
    pub proof: Proof,
}

impl Hour {
    /// An empty hour; one that `can_be_proven` keeps identities.
    #[must_use]
    pub fn new(can_be_proven: bool) -> Self {
        Self { keys: can_be_proven.then(Keys::new), ..Self::default() }
    }

    /// Enters a row; says whether a key more is held.
    pub fn enter(&mut self, key: u64, arrival: Arrival) -> bool {
        self.rows += 1;
        match arrival {
            Arrival::Live => {}
            Arrival::Late => self.late += 1,
            Arrival::Backfill => self.backfilled += 1,
        }
        let Some(keys) = &mut self.keys else {
            self.after += 1;
            return false;
        };
        let new = keys.insert(key);
        if new {
            self.distinct += 1;
        } else {
            self.again += 1;
        }
        new
    }

    /// Whether its identities are still held.
    #[must_use]
    pub const fn holds_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// How many are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.keys.as_ref().map_or(0, |keys| keys.len() as u64)
    }

    /// Lets go of the identities, keeps the counts; says how many there were.
    pub fn let_go(&mut self) -> u64 {
        self.keys.take().map_or(0, |keys| keys.len() as u64)
    }

    /// The word for its state; `before` where it had begun when the ledger did.
    #[must_use]
    pub const fn state(&self, before: bool) -> &'static str {
        if before {
            return "before";
        }
        match &self.proof {
            Proof::Open => "open",
            Proof::Complete { theirs, .. } if *theirs == self.distinct => "complete",
            // Rows have come since; the next check decides.
            Proof::Complete { .. } => "changed",
            Proof::Missing { .. } => "missing",
            Proof::More { .. } => "more",
            Proof::Unverified { .. } => "unverified",
        }
    }
}
