//! Follows the journal and enters its rows into the book; keeps the book on disk; lets the checks run beside it.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;

use super::book::{Account, Book, Entry};
use super::key::Keys;
use super::state::{self, LedgerState};
use super::{Ledger, Shared};
use crate::domain::Event;
use crate::journal::{JournalError, Offset};
use crate::pipeline::PipelineError;
use crate::pipeline::status::State;

/// The part's name on the board.
pub(super) const PART: &str = "ledger";

/// Raw bytes of journal that are read at once.
const READ_BYTES: usize = 1 << 20;

/// How often the book is written to disk while it changes.
const SAVE_EVERY: Duration = Duration::from_secs(60);

pub(super) async fn run(ledger: Ledger, stop: watch::Receiver<bool>) -> Result<(), PipelineError> {
    let shared = shared(ledger, stop);
    let ended = tokio::try_join!(shared.follow(), shared.check_often(), shared.save_often());
    shared.save().await;
    ended.map(|_| ())
}

/// A life with one round of checks, for tests.
#[cfg(test)]
pub(super) async fn one_life(
    ledger: Ledger,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
) -> Result<(), PipelineError> {
    let shared = shared(ledger, stopped);
    let checks = async {
        shared.catch_up().await;
        shared.round().await?;
        stop.send_replace(true);
        Ok(())
    };
    tokio::try_join!(shared.follow(), checks)?;
    shared.save().await;
    Ok(())
}

fn shared(ledger: Ledger, stop: watch::Receiver<bool>) -> Shared {
    let (book, position) = start(&ledger);
    let shared = Shared {
        config: ledger.config,
        journal: ledger.journal,
        clock: ledger.clock,
        metrics: ledger.metrics,
        status: ledger.status,
        reckoners: ledger.reckoners,
        names: ledger.names,
        refill: ledger.refill,
        file: ledger.file,
        book: Mutex::new(book),
        position: watch::Sender::new(position),
        stop,
    };
    shared.status.set(PART, State::Ready);
    for name in shared.names.values() {
        shared.metrics.ledger.init(name);
    }
    shared.show();
    shared
}

/// The book of the last life, if it is about this journal; else an empty one and the journal's beginning.
fn start(ledger: &Ledger) -> (Book, Offset) {
    let stat = ledger.journal.stat();
    let anew = |why: &str| {
        tracing::warn!(file = %ledger.file.display(), why, "the ledger is counted anew from the journal");
        (Book::default(), stat.first)
    };
    match state::load(&ledger.file) {
        Ok(None) => (Book::default(), stat.first),
        Ok(Some(state)) if state.journal_id != stat.journal_id => {
            anew("it is about another journal")
        }
        Ok(Some(state)) if state.position > stat.next => anew("it is ahead of the journal"),
        Ok(Some(state)) => (state.book, state.position),
        Err(why) => anew(&why),
    }
}

impl Shared {
    /// Enters what the journal has, until the end.
    async fn follow(&self) -> Result<(), PipelineError> {
        let mut watermark = self.journal.watermark();
        let mut keys = Keys::default();
        let whole = self.journal.stat().first == 0;
        while !self.is_stopping() {
            let from = *self.position.borrow();
            watermark.borrow_and_update();
            let read = match self.journal.read(from, READ_BYTES).await {
                Ok(read) => read,
                Err(JournalError::Truncated { first, .. }) => {
                    tracing::warn!(from, first, "journal that the ledger had not counted is gone");
                    self.book().skipped(self.clock.now());
                    self.position.send_replace(first);
                    continue;
                }
                Err(error @ (JournalError::Damaged { .. } | JournalError::Io { .. })) => {
                    self.status.set(PART, State::Degraded(error.to_string()));
                    tracing::error!(%error, "the ledger cannot read on");
                    self.stopped().await;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            let Some(last) = read.last() else {
                tokio::select! {
                    changed = watermark.changed() => {
                        if changed.is_err() {
                            return Err(JournalError::Closed.into());
                        }
                    }
                    () = self.stopped() => {}
                }
                continue;
            };
            let next = last.offset + 1;
            {
                let mut book = self.book();
                for numbered in &read {
                    enter(&mut book, &mut keys, &numbered.event, whole);
                }
                // Before the book is let go of: what is saved must belong together.
                self.position.send_replace(next);
            }
        }
        Ok(())
    }

    /// Looks for hours that are due, again and again.
    async fn check_often(&self) -> Result<(), PipelineError> {
        let pause = Duration::from_secs(self.config.interval_seconds);
        self.catch_up().await;
        while !self.is_stopping() {
            self.round().await?;
            let _ = tokio::time::timeout(pause, self.stopped()).await;
        }
        Ok(())
    }

    async fn save_often(&self) -> Result<(), PipelineError> {
        while tokio::time::timeout(SAVE_EVERY, self.stopped()).await.is_err() {
            self.save().await;
            self.show();
        }
        Ok(())
    }

    /// Writes the book to disk. A disk that takes nothing costs counting again after the next start.
    async fn save(&self) {
        let state = {
            let book = self.book();
            LedgerState {
                journal_id: self.journal.stat().journal_id,
                position: *self.position.borrow(),
                saved: self.clock.now(),
                book: book.clone(),
            }
        };
        let file = self.file.clone();
        let written = tokio::task::spawn_blocking(move || {
            state::encode(&state).and_then(|bytes| state::replace(&file, &bytes))
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, file = %self.file.display(), "the ledger was not saved")
            }
            Err(error) => tracing::warn!(%error, "saving the ledger was cut off"),
        }
    }
}

/// Enters an event, if it is a row of a table.
fn enter(book: &mut Book, keys: &mut Keys, event: &Event, whole: bool) {
    let Some(key) = keys.of(event) else { return };
    let account: Account = (event.tenant.to_string(), event.table.name().to_owned());
    match (event.occurred, event.ingested) {
        (Some(occurred), Some(ingested)) => {
            let arrival = event.arrival.unwrap_or_default();
            book.enter(&account, &Entry { occurred, ingested, arrival, key }, whole);
        }
        _ => book.enter_undated(&account),
    }
}
