//! `type = "hunting"`: the keys of a source that asks advanced hunting, and what they may hold. Nothing here asks.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};

use super::client::{CountCheck, Limits};
use super::query::{Subject, TIMESTAMP, TimeColumn, is_word};
use crate::domain::Table;

/// Most rows that the far end puts into one answer.
const MOST_ROWS: usize = 100_000;

/// Advanced hunting through Graph: tables, and queries of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HuntingConfig {
    /// Tables to read. Default: the five of mail and clicks, and the two of alerts. A table that the tenant's
    /// licence does not include is looked for again every six hours and is no fault.
    pub tables: Vec<TableName>,
    /// Queries of one's own, each with a name under which its rows arrive.
    pub query: Vec<OwnQuery>,
    /// Seconds from one round of questions to the next. Default 300: seven tables are then 96 queries an hour,
    /// of at least 2,700 that a tenant has.
    pub interval_seconds: u64,
    /// Seconds that the far end gets to settle: a window ends this long before its own present. Default 180.
    pub settle_seconds: u64,
    /// By which time tables are read. Default `auto`.
    pub time: TimeChoice,
    /// Seconds before the end of the last window that are read once more, where time of ingestion is known.
    /// Default 300.
    pub overlap_seconds: u64,
    /// Minutes that a row of a mail table may be late, where only `Timestamp` is known: so much is read again in
    /// every round. Default 60.
    pub mail_lateness_minutes: u64,
    /// Minutes that a row of any other table, or of a query of one's own, may be late, where only a time of the
    /// event is known. Default 1800: rows of alerts have been measured 28 hours behind their `Timestamp`.
    pub lateness_minutes: u64,
    /// Hours before the present with which a table begins that the journal does not know yet. Default 24; hunting
    /// keeps 30 days.
    pub start_hours_back: u64,
    /// Most minutes that one query asks about. Default 60; halved by itself where answers are too large.
    pub step_minutes: u64,
    /// Most rows of one answer, 1 to 100000. Default 5000: an answer with full rows of mail is near 10 MB then.
    pub take: usize,
    /// When an answer is proven by a second query that counts. Default `near_limits`.
    pub count_check: CountCheck,
    /// Hours that are read once more every hour, when nothing else is due. Default 4; 0 is never.
    pub hourly_resweep_hours: u64,
    /// Hours of event time that are read once more every day, when nothing else is due. Default 24; 0 is never.
    pub daily_resweep_hours: u64,
}

impl Default for HuntingConfig {
    fn default() -> Self {
        Self {
            tables: Table::TYPED.iter().map(|table| TableName(table.name().into())).collect(),
            query: Vec::new(),
            interval_seconds: 300,
            settle_seconds: 180,
            time: TimeChoice::default(),
            overlap_seconds: 300,
            mail_lateness_minutes: 60,
            lateness_minutes: 30 * 60,
            start_hours_back: 24,
            step_minutes: 60,
            take: Limits::default().take,
            count_check: CountCheck::default(),
            hourly_resweep_hours: 4,
            daily_resweep_hours: 24,
        }
    }
}

impl HuntingConfig {
    /// What one answer may hold.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits { take: self.take.clamp(1, MOST_ROWS), count_check: self.count_check }
    }

    /// Whether no two tables and no two queries have the same name: they would share a cursor.
    ///
    /// # Errors
    /// Names the one that is there twice.
    pub fn check(&self) -> Result<(), String> {
        let twice = |names: Vec<&TableName>, key: &str| {
            let mut seen = std::collections::BTreeSet::new();
            match names.iter().find(|name| !seen.insert(name.0.to_ascii_lowercase())) {
                Some(name) => Err(format!("{key}: {} is there twice", name.0)),
                None => Ok(()),
            }
        };
        twice(self.tables.iter().collect(), "tables")?;
        twice(self.query.iter().map(|own| &own.name).collect(), "query")
    }

    /// What is asked about, with how late a row may be in seconds, and whether it is somebody's own query.
    #[must_use]
    pub(super) fn subjects(&self) -> Vec<(Subject, i64, bool)> {
        let minutes = |minutes: u64| i64::try_from(minutes.saturating_mul(60)).unwrap_or(i64::MAX);
        let (mail, other) = (minutes(self.mail_lateness_minutes), minutes(self.lateness_minutes));
        let tables = self.tables.iter().map(|name| {
            let table = Table::from_name(&name.0);
            let lateness = match table {
                Table::EmailEvents
                | Table::EmailPostDeliveryEvents
                | Table::EmailUrlInfo
                | Table::EmailAttachmentInfo
                | Table::UrlClickEvents => mail,
                Table::AlertInfo | Table::AlertEvidence | Table::Other(_) => other,
            };
            (Subject::of(table, TimeColumn::timestamp()), lateness, false)
        });
        let own = self.query.iter().map(|own| {
            let split = own.split_column.as_ref().map(|name| &*name.0);
            (Subject::own(&own.name.0, &own.kql, &own.time_column, split), other, true)
        });
        tables.chain(own).collect()
    }
}

/// By which time tables are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeChoice {
    /// By time of ingestion where a table tells it, else by `Timestamp`.
    #[default]
    Auto,
    /// By `Timestamp` always.
    Timestamp,
}

/// A query of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnQuery {
    /// The table that its rows are put under: letters, digits and `_`. The name of a mail or alert table if its
    /// rows are whole rows of that table.
    pub name: TableName,
    /// The query, ending in rows: no `render`, no `take`. Postern adds the window and a limit at its end.
    pub kql: String,
    /// The column of its rows that tells when they happened. Default `Timestamp`.
    #[serde(default = "timestamp")]
    pub time_column: String,
    /// A column by which rows are divided where one second has more of them than an answer holds. Default none.
    pub split_column: Option<TableName>,
}

fn timestamp() -> String {
    TIMESTAMP.to_owned()
}

/// A table's or column's name: a plain word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName(pub Arc<str>);

impl<'de> Deserialize<'de> for TableName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if is_word(&name) && name.len() <= 128 {
            return Ok(Self(name.into()));
        }
        Err(de::Error::custom(format!(
            "found {name:?}, expected a name of letters, digits and _, a letter first"
        )))
    }
}
