//! What a backfill will take, asked with one query per table: rows hour by hour, and from those the number of
//! queries. An estimate, not a promise.

use std::fmt;

use crate::domain::Ticks;
use crate::source::hunting::{HuntingClient, HuntingError, Limits, Subject, Window, query};

/// How long hunting keeps rows, in seconds.
const RETENTION: i64 = 30 * 86_400;
/// The calls that every tenant has at least.
const QUERIES_A_MINUTE: u64 = 45;
/// Most seconds that one query asks about.
const LONGEST_STEP: i64 = 86_400;

/// The estimate for one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Estimate {
    /// What will be read: what was asked for, as far as hunting keeps it.
    pub(super) window: Window,
    /// Rows in it.
    pub(super) rows: u64,
    /// Queries that they will take, about.
    pub(super) queries: u64,
    /// Seconds to ask about at once.
    pub(super) step: i64,
    table: String,
    /// What was asked for and is no longer there.
    cut: Option<Window>,
}

impl Estimate {
    /// Asks.
    pub(super) async fn ask(
        client: &HuntingClient,
        subject: &Subject,
        from: Ticks,
        to: Option<Ticks>,
        limits: Limits,
    ) -> Result<Self, HuntingError> {
        let now = client.now(subject).await?;
        let kept = now.plus_seconds(-RETENTION);
        let to = to.unwrap_or(now).min(now);
        let window = Window::new(from.max(kept), to);
        let cut = (from < kept).then(|| Window::new(from, kept.min(to)));
        let text = query::hours_query(subject, window);
        let answer = client.run(&subject.table, &text, query::TIMESPAN).await?;
        let hours: Vec<u64> =
            answer.table().iter_mut().filter_map(|row| row.number("Rows")).collect();
        Ok(Self::of(subject.table.name(), window, cut, &hours, limits))
    }

    fn of(table: &str, window: Window, cut: Option<Window>, hours: &[u64], limits: Limits) -> Self {
        let take = limits.take.max(1) as u64;
        let busiest = hours.iter().copied().max().unwrap_or(0).max(1);
        // Half full at the busiest, so that few answers have to be asked for again in halves.
        let step = i64::try_from(take / 2 / busiest).unwrap_or(24).clamp(1, LONGEST_STEP / 3_600);
        let step = step * 3_600;
        let steps = window.seconds().max(0).unsigned_abs().div_ceil(step.unsigned_abs());
        // An hour that is too full is halved until its parts fit: each halving is a query that brings nothing.
        let splits = hours.iter().map(|rows| {
            let parts = (rows + 1).div_ceil(take).next_power_of_two();
            2 * (parts - 1)
        });
        Self {
            window,
            rows: hours.iter().sum(),
            queries: steps + splits.sum::<u64>(),
            step,
            table: table.to_owned(),
            cut,
        }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cut) = self.cut {
            writeln!(
                f,
                "{}: hunting keeps 30 days, {} to {} is no longer there",
                self.table, cut.from, cut.to
            )?;
        }
        write!(
            f,
            "{}: {} rows from {} to {}; about {} queries, at least {} min at {QUERIES_A_MINUTE} a minute, and some share of the tenant's hunting quota",
            self.table,
            self.rows,
            self.window.from,
            self.window.to,
            self.queries,
            self.queries.div_ceil(QUERIES_A_MINUTE),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_times_are_asked_about_by_the_day_and_full_hours_in_parts() {
        let from = Ticks::parse("2026-08-20").unwrap();
        let window = Window::new(from, from.plus_seconds(2 * 86_400));
        let limits = Limits { take: 5_000, ..Limits::default() };
        let quiet = Estimate::of("EmailEvents", window, None, &[10, 20], limits);
        assert_eq!((quiet.step, quiet.queries, quiet.rows), (86_400, 2, 30));
        let full = Estimate::of("EmailEvents", window, None, &[12_000, 100], limits);
        assert_eq!((full.step, full.queries), (3_600, 48 + 6));
    }
}
