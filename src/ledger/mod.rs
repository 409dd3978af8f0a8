//! Floor 2: the completeness ledger. A reader of the journal that keeps, per tenant, table and hour of `Timestamp`,
//! which identities came, and has somebody independent count the same hour: complete, missing (then refilled),
//! more, or unverified, with the reason. It does not know who counts, nor how rows came here.
//!
//! What it proves: after 1, 24 and 48 hours the far end's number of *different identities* (a row's revision left
//! aside) of an hour equals ours, so a lost row and a doubled one do not cancel out. What it does not: that they
//! are the same ones; two sets of one size and different members would pass.
//!
//! Memory: 8 bytes for each identity of hours that can still be checked, within `memory_bytes`; then counts only.
//! On disk: `state.rs`. Its own position is in the same file, so that a crash costs reading some journal again.

pub mod book;
mod follow;
pub mod hour;
mod key;
pub mod port;
mod reconcile;
pub mod refill;
pub mod report;
pub mod state;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use tokio::sync::watch;

use self::book::Book;
pub use self::port::{ReckonError, Reckoner, Refill};
use crate::journal::{Clock, Journal, Offset};
use crate::pipeline::metrics::Metrics;
use crate::pipeline::status::StatusBoard;
use crate::pipeline::{PipelineError, stopped};

/// `[ledger]`: whether and how completeness is proven.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerConfig {
    /// Whether it runs. Default: where a tenant has a credential, since only then somebody can count.
    pub enabled: Option<bool>,
    /// Which tables are checked. Default (empty): every typed table of which a row has come.
    pub tables: Vec<String>,
    /// After how many hours an hour is checked, in rising order. Default 1, 24 and 48: rows come late.
    pub check_after_hours: Vec<u32>,
    /// Whether hours that miss rows are fetched again. Default true.
    pub refill: bool,
    /// How often it looks for hours that are due, in seconds. Default 300.
    pub interval_seconds: u64,
    /// How many days an hour's counts are kept. Default 30.
    pub keep_days: u32,
    /// Memory for identities, in bytes. Default 32 MiB: two million rows of the last two days. What does not fit
    /// leaves the oldest hours unverified.
    pub memory_bytes: u64,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            enabled: None,
            tables: Vec::new(),
            check_after_hours: vec![1, 24, 48],
            refill: true,
            interval_seconds: 300,
            keep_days: 30,
            memory_bytes: 32 << 20,
        }
    }
}

impl LedgerConfig {
    /// What is wrong with it, if something is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let hours = &self.check_after_hours;
        if hours.is_empty() || hours.len() > 10 || !hours.is_sorted_by(|a, b| a < b) {
            return Some("check_after_hours: expected 1 to 10 rising numbers of hours".to_owned());
        }
        if hours.first() == Some(&0) || hours.last().is_some_and(|last| *last > 168) {
            return Some("check_after_hours: expected hours from 1 to 168".to_owned());
        }
        if self.interval_seconds == 0 || self.keep_days == 0 {
            return Some("interval_seconds and keep_days: expected at least 1".to_owned());
        }
        None
    }

    /// Whether `table` is checked.
    #[must_use]
    pub fn covers(&self, table: &str) -> bool {
        use crate::domain::Table;
        if self.tables.is_empty() {
            return !matches!(Table::from_name(table), Table::Other(_));
        }
        self.tables.iter().any(|wanted| wanted.eq_ignore_ascii_case(table))
    }

    pub(crate) fn last_check_hours(&self) -> i64 {
        self.check_after_hours.last().map_or(48, |last| i64::from(*last))
    }
}

/// Everything that the ledger needs from the process.
pub struct Ledger {
    /// Its configuration.
    pub config: LedgerConfig,
    /// What it reads.
    pub journal: Arc<dyn Journal>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The register.
    pub metrics: Arc<Metrics>,
    /// The board for `/ready`.
    pub status: StatusBoard,
    /// Who counts, by Entra tenant id.
    pub reckoners: BTreeMap<String, Arc<dyn Reckoner>>,
    /// What the tenants are called, by Entra tenant id.
    pub names: BTreeMap<String, String>,
    /// The way of refilled rows.
    pub refill: Arc<dyn Refill>,
    /// Its file.
    pub file: PathBuf,
}

/// What the reader and the checks share.
struct Shared {
    config: LedgerConfig,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    status: StatusBoard,
    reckoners: BTreeMap<String, Arc<dyn Reckoner>>,
    names: BTreeMap<String, String>,
    refill: Arc<dyn Refill>,
    file: PathBuf,
    book: Mutex<Book>,
    /// Up to where the journal is in the book.
    position: watch::Sender<Offset>,
    stop: watch::Receiver<bool>,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A tenant's configured name, for labels.
    fn name_of(&self, tenant: &str) -> &str {
        self.names.get(tenant).map_or("other", String::as_str)
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    async fn stopped(&self) {
        stopped(&mut self.stop.clone()).await;
    }

    /// Waits until everything that is durable now is in the book, or the process ends.
    async fn catch_up(&self) {
        let goal = *self.journal.watermark().borrow();
        let mut position = self.position.subscribe();
        tokio::select! {
            _ = position.wait_for(|position| *position >= goal) => {}
            () = self.stopped() => {}
        }
    }

    /// Writes the figures into the register.
    fn show(&self) {
        let book = self.book();
        self.metrics.ledger.hours.reset();
        for ((tenant, table, state), count) in report::counts(&book) {
            let table = crate::domain::Table::from_name(table);
            let labels = [self.name_of(tenant), table.label(), state];
            self.metrics.ledger.hours.with_label_values(&labels).add(count);
        }
        self.metrics.ledger.keys.set(i64::try_from(book.keys).unwrap_or(i64::MAX));
    }
}

/// Runs the ledger until `stop` turns true; then its state is on disk.
///
/// # Errors
/// Only what ends the process.
pub async fn run(ledger: Ledger, stop: watch::Receiver<bool>) -> Result<(), PipelineError> {
    follow::run(ledger, stop).await
}
