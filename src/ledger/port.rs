//! What the ledger asks of others: the far end's own count, its rows, and a way to put rows into the journal.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{Chunk, Table, Ticks};
use crate::pipeline::PipelineError;

/// Why the far end gave no count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReckonError {
    /// It will not until a person changes something: permission, licence, credential.
    Refused(String),
    /// The quota is used up; not before this time, where it named one.
    Busy(Option<Duration>, String),
    /// It could not answer this time.
    Later(String),
}

/// Somebody who can count a tenant's rows independently of how they came here.
#[async_trait]
pub trait Reckoner: Send + Sync {
    /// The far end's own time.
    async fn now(&self, table: &Table) -> Result<Ticks, ReckonError>;

    /// How many different identities, a row's revision left aside, `table` has with a `Timestamp` from `from`
    /// on and before `to`.
    async fn count(&self, table: &Table, from: Ticks, to: Ticks) -> Result<u64, ReckonError>;

    /// All of these rows, marked as fetched on purpose.
    async fn rows(&self, table: &Table, from: Ticks, to: Ticks) -> Result<Vec<Chunk>, ReckonError>;
}

/// The way of refilled rows into the journal: the same gate as for all others.
#[async_trait]
pub trait Refill: Send + Sync {
    /// Appends what is new of `chunks` and says how many events that were, once they are durable.
    ///
    /// An error is only what ends the process.
    async fn refill(&self, tenant: &str, chunks: Vec<Chunk>) -> Result<u64, PipelineError>;
}
