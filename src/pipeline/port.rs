//! The ports of the pipeline: what a source and a sink are to it. Adapters implement these; the pipeline
//! alone decides when they are called.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{Chunk, Cursor, CursorKey, Cursors, DeadLetterReason, Failure, Gap};
use crate::journal::{Numbered, Offset};

/// What one poll brought.
#[derive(Debug, Default)]
pub struct Page {
    /// The data, in order.
    pub chunks: Vec<Chunk>,
    /// The cursors *behind* these chunks: only those that changed.
    pub cursors: Vec<(CursorKey, Cursor)>,
    /// What turned out to be missing.
    pub gaps: Vec<Gap>,
    /// How long the pipeline may wait before it polls again: for sources that ask at intervals. It does not
    /// hold back a stop.
    pub pause: Option<Duration>,
    /// How much is known to be waiting at the far end (messages, where that is its unit), for the lag metric.
    pub backlog: Option<u64>,
    /// What is wrong with a part of the source (one table, one query) while the others go on, for people: the
    /// source is shown as degraded for as long as its pages say so. The source itself logs it once.
    pub trouble: Option<String>,
}

impl Page {
    /// Whether it brought nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.cursors.is_empty() && self.gaps.is_empty()
    }
}

/// What went wrong, sorted: a code to branch on and a chain to print. Never holds a secret.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AdapterError {
    /// What to do about it.
    pub failure: Failure,
    /// Lower case, no full stop: what was tried on what, and what came back.
    pub message: String,
    /// The cause, if there is one to print.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl AdapterError {
    /// An error without a cause beneath it.
    #[must_use]
    pub fn new(failure: Failure, message: impl Into<String>) -> Self {
        Self { failure, message: message.into(), cause: None }
    }

    /// An error with its cause.
    #[must_use]
    pub fn because(
        failure: Failure,
        message: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { failure, message: message.into(), cause: Some(cause.into()) }
    }
}

/// Where events come from.
///
/// One task owns a source and calls it from nowhere else. The cursors that it is given are the durable ones
/// at start, and afterwards those of the pages it returned. A crash costs nothing but fetching again: until
/// the pipeline has made a page durable its cursors do not count.
#[async_trait]
pub trait Source: Send {
    /// The configured name, which begins every cursor key: `<name>/…`.
    fn name(&self) -> &str;

    /// Fetches what comes after `cursors`. It waits for data at most about a second, does not sleep or back
    /// off (the pipeline does, by the error's [`Failure`]), does not commit. Not cancel-safe: the pipeline
    /// never drops it half-way except at the end of the process.
    async fn poll(&mut self, cursors: &Cursors) -> Result<Page, AdapterError>;

    /// Tells the far end how far the *durable* cursors are, best effort. Called after each durable page;
    /// the source limits the rate itself. A failure is logged, nothing else.
    async fn commit(&mut self, cursors: &Cursors) -> Result<(), AdapterError>;

    /// Whether it can be reached and may read, for `check`: one sentence that says what was proven.
    async fn probe(&mut self) -> Result<String, AdapterError>;
}

/// How much a sink takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most events in a batch.
    pub events: usize,
    /// Most raw bytes in a batch (rendered bytes are the sink's own business).
    pub bytes: usize,
    /// How long the runner may wait for a fuller batch.
    pub linger: Duration,
}

/// Some events for a sink, already filtered.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Journal offset at which this batch begins.
    pub from: Offset,
    /// Journal offset at which the next batch will begin. Larger than the last event's offset + 1 where
    /// the filter left events out at the end.
    pub next: Offset,
    /// The events, in journal order. May be empty (all filtered out): a sink that keeps its position at the
    /// far end may want to write it then.
    pub events: Vec<Numbered>,
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The far end has it for good.
    Delivered,
    /// It has not; the same again, not before `after` where the far end named a time.
    Retry {
        /// Earliest time for the next try.
        after: Option<Duration>,
        /// The far end's words, shortened.
        detail: String,
    },
    /// It never will: a dead letter.
    Reject {
        /// Why.
        reason: DeadLetterReason,
        /// The far end's words, shortened.
        detail: String,
    },
}

/// Where events go to.
///
/// One task (the runner) owns a sink. It calls `open`, then `deliver` again and again; after an error with
/// [`Failure::Hold`] it calls `probe` every few minutes until that passes, then `open` again. Order within
/// a batch is the journal's; a batch is not begun before the last one is settled. After a crash the runner
/// continues from the position that `open` returns.
#[async_trait]
pub trait Sink: Send {
    /// The configured name.
    fn name(&self) -> &str;

    /// What it takes at once.
    fn limits(&self) -> Limits;

    /// Connects. `position` is what the journal holds for this sink; the answer is where to begin: the same,
    /// or, for a sink that keeps its position at the far end in the same transaction as the data, that one.
    async fn open(&mut self, position: Offset) -> Result<Offset, AdapterError>;

    /// Delivers. `Ok` holds one [`Sent`] per event of the batch, in order. An error concerns the batch as a
    /// whole: `Retry` (nothing is known to have arrived), `Hold`, or `Fatal`; never `Reject`.
    async fn deliver(&mut self, batch: &Batch) -> Result<Vec<Sent>, AdapterError>;

    /// Whether it can be reached and may write, without writing an event: one sentence for `check`.
    async fn probe(&mut self) -> Result<String, AdapterError>;

    /// Last call at a clean stop: flush and disconnect.
    async fn close(&mut self) -> Result<(), AdapterError>;
}

/// Which events a sink wants. Empty lists mean everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Words of tags; an event with any of them passes. `allowed.*` matches a whole family.
    pub tags: Vec<String>,
    /// Kinds; an event of any of them passes.
    pub kinds: Vec<crate::domain::Kind>,
}

impl Filter {
    /// Whether `event` passes: both lists must agree where both are given.
    #[must_use]
    pub fn passes(&self, event: &crate::domain::Event) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.contains(&event.kind);
        kind && (self.tags.is_empty()
            || self.tags.iter().any(|wanted| match wanted.strip_suffix('*') {
                Some(family) => event.decision.tags.words().any(|word| word.starts_with(family)),
                None => event.decision.tags.contains_word(wanted),
            }))
    }
}

/// A shared name.
pub type Name = Arc<str>;
