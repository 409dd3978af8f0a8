//! The ledger for people and programs: one line for each hour.

use std::collections::BTreeMap;

use serde::Serialize;

use super::book::{Book, HOUR};
use super::hour::{Hour, Proof};
use crate::domain::Ticks;

/// One hour of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The Entra tenant id.
    pub tenant: String,
    /// The table.
    pub table: String,
    /// The first instant of the hour.
    pub hour: Ticks,
    /// `before`, `open`, `complete`, `changed`, `missing`, `more` or `unverified`.
    pub state: &'static str,
    /// Identities that came.
    pub ours: u64,
    /// Identities that the far end has, where it has been asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theirs: Option<u64>,
    /// Rows that came.
    pub rows: u64,
    /// Rows whose identity had come before.
    pub again: u64,
    /// Rows that came late.
    pub late: u64,
    /// Rows that came after the last check.
    pub after: u64,
    /// Events that a refill brought.
    pub refilled: u64,
    /// When the state was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked: Option<Ticks>,
    /// How, or why not.
    pub why: String,
}

/// Every hour, by tenant, table and time.
#[must_use]
pub fn lines(book: &Book) -> Vec<Line> {
    let mut lines = Vec::new();
    for ((tenant, table), pages) in &book.accounts {
        for (hour, page) in &pages.hours {
            let (checked, theirs, why) = proof(page, *hour < pages.since);
            lines.push(Line {
                tenant: tenant.clone(),
                table: table.clone(),
                hour: Ticks(hour * HOUR),
                state: page.state(*hour < pages.since),
                ours: page.distinct,
                theirs,
                rows: page.rows,
                again: page.again,
                late: page.late,
                after: page.after,
                refilled: page.refilled,
                checked,
                why,
            });
        }
    }
    lines
}

/// How many hours of each account are in each state.
#[must_use]
pub fn counts(book: &Book) -> BTreeMap<(&str, &str, &'static str), i64> {
    let mut counts = BTreeMap::new();
    for ((tenant, table), pages) in &book.accounts {
        for (hour, page) in &pages.hours {
            let state = page.state(*hour < pages.since);
            *counts.entry((tenant.as_str(), table.as_str(), state)).or_insert(0) += 1;
        }
    }
    counts
}

fn proof(page: &Hour, before: bool) -> (Option<Ticks>, Option<u64>, String) {
    if before {
        return (None, None, "it had begun before the ledger did".to_owned());
    }
    let refilled = match page.refilled {
        0 => String::new(),
        count => format!(", {count} of them refilled"),
    };
    match &page.proof {
        Proof::Open => (None, None, "not checked yet".to_owned()),
        Proof::Complete { at, after_hours, theirs } => {
            let since = if page.distinct == *theirs { "" } else { "; rows have come since" };
            let why = format!(
                "hunting counted {theirs} distinct, {after_hours} h after the hour{refilled}{since}"
            );
            (Some(*at), Some(*theirs), why)
        }
        Proof::Missing { at, theirs } => {
            let missing = theirs.saturating_sub(page.distinct);
            (Some(*at), Some(*theirs), format!("{missing} are missing{refilled}"))
        }
        Proof::More { at, theirs } => {
            let more = page.distinct.saturating_sub(*theirs);
            (Some(*at), Some(*theirs), format!("{more} more here than hunting has{refilled}"))
        }
        Proof::Unverified { at, reason } => (Some(*at), None, reason.clone()),
    }
}
