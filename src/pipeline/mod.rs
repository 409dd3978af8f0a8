//! Floor 2: the stages between the ports. `intake` brings a source's pages into the journal, `deliver` takes
//! events from the journal to a sink. Neither knows which source or sink it runs.

pub mod backoff;
pub mod deliver;
pub mod intake;
pub mod metrics;
pub mod port;
pub mod status;

use tokio::sync::watch;

pub use port::{AdapterError, Batch, Filter, Limits, Page, Sent, Sink, Source};

use crate::domain::{DeadLetter, DeadLetterReason, Event, Ticks};
use crate::journal::JournalError;

/// What must end the process. Everything else a stage waits out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PipelineError {
    /// The journal takes or gives nothing more.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A source cannot go on.
    #[error("source {name}: {message}")]
    Source {
        /// Its configured name.
        name: String,
        /// The error and its causes.
        message: String,
    },
    /// A sink cannot go on.
    #[error("sink {name}: {message}")]
    Sink {
        /// Its configured name.
        name: String,
        /// The error and its causes.
        message: String,
    },
}

/// Resolves once the stop signal is true, or its sender is gone.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// An event as a dead letter; source, sink and position are the caller's.
pub(crate) fn letter_of(
    event: &Event,
    reason: DeadLetterReason,
    detail: &str,
    at: Ticks,
) -> DeadLetter {
    let bytes = event.raw.as_bytes();
    DeadLetter {
        id: event.id,
        reason,
        detail: detail.into(),
        source: "".into(),
        sink: "".into(),
        tenant: (&*event.tenant).into(),
        position: "".into(),
        at,
        length: bytes.len() as u64,
        hash: *blake3::hash(bytes).as_bytes(),
        bytes: bytes.to_vec(),
    }
}
