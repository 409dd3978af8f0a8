//! The journal's port: what every engine promises and what its users may rely on.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use crate::domain::{Cursor, CursorKey, Cursors, DeadLetter, Event, EventId, TicketRecord, Ticks};

/// A place in the journal: the ordinal of an event, counted from 0 without holes for ever. Dead letters,
/// cursors and ticket records have no offset of their own.
pub type Offset = u64;

/// What is written as one atomic unit: after a crash either all of it is there or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unit {
    /// Events, in order; each gets the next offset. Their ids enter the dedup set.
    pub events: Vec<Event>,
    /// Further keys for the dedup set: message + recipient of mails seen for the first time.
    pub mails_seen: Vec<EventId>,
    /// Records that did not become events, or events that a sink refused.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters that are settled (retried with success, or given up by a person).
    pub dead_letters_resolved: Vec<EventId>,
    /// New cursor values, behind the events of this unit.
    pub cursors: Vec<(CursorKey, Cursor)>,
    /// Ticket changes.
    pub tickets: Vec<TicketRecord>,
}

impl Unit {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.mails_seen.is_empty()
            && self.dead_letters.is_empty()
            && self.dead_letters_resolved.is_empty()
            && self.cursors.is_empty()
            && self.tickets.is_empty()
    }
}

/// Where a durable unit's events are: `first..next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the unit's first event (equal to `next` if it has none).
    pub first: Offset,
    /// Offset after the unit's last event.
    pub next: Offset,
}

/// Why the journal did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// A sync failed (or a rename, or a directory sync): nothing more is accepted in this life of the
    /// process. Nothing that was reported durable is lost; the process must end with exit code 4 and
    /// recover at the next start.
    #[error("the journal is poisoned: {0}")]
    Poisoned(String),
    /// A reader asked for what has been truncated away.
    #[error("offset {asked} is before the journal's first offset {first}")]
    Truncated {
        /// What was asked for.
        asked: Offset,
        /// What is still there.
        first: Offset,
    },
    /// A sealed segment is damaged; only readers that need this range stop.
    #[error(
        "segment {segment} is damaged at byte {byte}: {detail}; readers of offsets from {offset} stop here (see `postern journal verify` and `repair`)"
    )]
    Damaged {
        /// File name.
        segment: String,
        /// Where in the file.
        byte: u64,
        /// First offset that cannot be read.
        offset: Offset,
        /// What is wrong.
        detail: String,
    },
    /// Reading failed at the operating system.
    #[error("cannot read {segment}: {detail}")]
    Io {
        /// File name.
        segment: String,
        /// The operating system's words.
        detail: String,
    },
    /// The journal has been closed.
    #[error("the journal is closed")]
    Closed,
}

/// Resolves when the unit is durable. Dropping it does not take the unit back.
#[derive(Debug)]
pub struct Receipt(pub oneshot::Receiver<Result<Appended, JournalError>>);

impl Future for Receipt {
    type Output = Result<Appended, JournalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(JournalError::Closed)))
    }
}

/// An event with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// The event's offset.
    pub offset: Offset,
    /// The event.
    pub event: std::sync::Arc<Event>,
}

/// Where a reader that the journal does not know yet begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReaderStart {
    /// With the next event that arrives.
    #[default]
    Now,
    /// With the oldest event that is still there.
    Beginning,
    /// With the first event ingested at or after this time.
    Time(Ticks),
}

/// What happens when a reader's backlog fills the journal's quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// Sources are paused until the reader catches up: nothing is lost here.
    #[default]
    PauseSources,
    /// The reader's oldest backlog is dropped and a gap record says from where to where.
    DropBacklog,
}

/// Whether the journal takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ready,
    /// The disk or the quota is full: appends wait, readers go on, it resumes by itself. The text says which.
    Full(String),
    /// See [`JournalError::Poisoned`].
    Poisoned(String),
}

/// Figures for metrics, `journal stat` and `/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct JournalStat {
    /// This journal's id, made when it was created.
    pub journal_id: String,
    /// Oldest offset that can be read.
    pub first: Offset,
    /// Offset after the last durable event.
    pub next: Offset,
    /// Segments on disk.
    pub segments: u64,
    /// Bytes of all files but those of the dedup set, which has a budget of its own.
    pub bytes: u64,
    /// The quota for all files, in bytes.
    pub quota_bytes: u64,
    /// Ids in the dedup set, hot and on disk.
    pub dedup_keys: u64,
    /// Bytes of memory that the dedup set holds.
    pub dedup_memory_bytes: u64,
    /// Dead letters that are kept.
    pub dead_letters: u64,
    /// Torn tails that were cut at start, in this life.
    pub tails_repaired: u64,
    /// Bytes that were cut from them.
    pub tail_bytes_cut: u64,
    /// Positions of the readers.
    pub readers: std::collections::BTreeMap<String, Offset>,
}

/// The journal.
///
/// Order: units become durable in the order in which [`Journal::append`] accepted them, and a later unit is
/// never durable without the earlier ones. The exception is a unit with nothing but tickets, dead letters and
/// resolutions: it may overtake units that wait because the journal is full, and is written past the quota,
/// because the readers that make room cannot get on without it. Nobody is shown an event (by [`Journal::read`] or
/// [`Journal::watermark`]) before it is durable.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Marks the keys as seen and says for each whether it was new: `true` = not seen within the horizon.
    /// Equal keys within one call: only the first is new.
    ///
    /// A key that was new must be in a unit that is appended *before* anybody else may act on its being seen,
    /// or a crash could make a duplicate's cursor durable without the original. So callers hold one lock
    /// over `admit` and the `append` that follows (`pipeline::intake` is the only caller).
    fn admit(&self, keys: &[EventId]) -> Vec<bool>;

    /// Takes back [`Journal::admit`] for keys whose unit will never be appended (the append failed or was
    /// abandoned), so that their records are not taken for duplicates when they are fetched again.
    fn withdraw(&self, _keys: &[EventId]) {}

    /// Queues a unit: waits while the queue, the quota or the disk is full (that is the back-pressure; a unit
    /// with nothing but tickets, dead letters and resolutions does not wait for the quota), then
    /// returns a receipt that resolves when the unit is durable. Cancel-safe: dropped before it returns,
    /// nothing was queued.
    async fn append(&self, unit: Unit) -> Result<Receipt, JournalError>;

    /// The durable cursors whose key begins with `prefix`.
    fn cursors(&self, prefix: &str) -> Cursors;

    /// Events from `from` on, in order, at least one if `from` is below the watermark, and then while they fit
    /// into `max_bytes` of raw bytes. Empty at the watermark. Does not wait.
    async fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<Numbered>, JournalError>;

    /// Changes whenever more events are durable: the offset after the last one.
    fn watermark(&self) -> watch::Receiver<Offset>;

    /// Makes a reader known (or finds it again) and returns its position. While it exists, what it has not
    /// acked is kept, within the quota and its `on_full`.
    fn register_reader(
        &self,
        name: &str,
        start: ReaderStart,
        on_full: OnFull,
    ) -> Result<Offset, JournalError>;

    /// Moves a reader's position forward: everything before `next` is done. Durable a little later; after a
    /// crash the reader may be asked to do the last second again.
    fn ack(&self, reader: &str, next: Offset);

    /// Forgets a reader (its sink was removed from the configuration).
    fn forget_reader(&self, name: &str);

    /// The latest durable record of each ticket of `sink`.
    fn tickets(&self, sink: &str) -> Vec<TicketRecord>;

    /// The dead letters that are kept, oldest first.
    fn dead_letters(&self) -> Vec<DeadLetter>;

    /// Figures.
    fn stat(&self) -> JournalStat;

    /// Whether it takes writes.
    fn health(&self) -> watch::Receiver<Health>;

    /// Takes nothing more, makes everything queued durable, writes positions and a snapshot, releases the lock.
    async fn close(&self) -> Result<(), JournalError>;
}

impl fmt::Debug for dyn Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}
