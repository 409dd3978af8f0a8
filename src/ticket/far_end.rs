//! What a ticket system is to the ticket sink. Each far end is one file that implements [`FarEnd`]; the sink
//! alone decides when it is asked.

use std::time::Duration;

use async_trait::async_trait;

use crate::cloud::http::{Acted, HttpError};
use crate::domain::{DeadLetterReason, Failure};
use crate::pipeline::AdapterError;

/// A ticket to be created.
#[derive(Debug, Clone, Copy)]
pub struct Ticket<'a> {
    /// Its external key.
    pub key: &'a str,
    /// Its text, as JSON (see [`super::body`]).
    pub body: &'a [u8],
}

/// Why a ticket was not created, as far as is known.
#[derive(Debug)]
pub struct FarEndError {
    /// What to do about it. `Reject` concerns this ticket alone, `Hold` the whole far end.
    pub failure: Failure,
    /// Whether the far end may have created it all the same.
    pub acted: Acted,
    /// Whether the next ticket is likely to fare the same: the far end is down, or wants less of us.
    pub whole: bool,
    /// The reason of the dead letter, if it becomes one.
    pub reason: DeadLetterReason,
    /// One sentence.
    pub detail: String,
}

/// A ticket system.
#[async_trait]
pub trait FarEnd: Send {
    /// Whether it takes the external key as an idempotency key: the same create sent again makes no second
    /// ticket. Then an ambiguous outcome is settled by sending again.
    fn idempotent(&self) -> bool;

    /// Whether a ticket can be found by its external key, and how long after its creation it may still be
    /// missing from the answer. `None`: it cannot, and an ambiguous outcome waits for a person.
    fn look_up_lag(&self) -> Option<Duration>;

    /// Creates the ticket: one request, no retry. The answer is the far end's own number or URL; empty where it
    /// tells none.
    async fn create(&mut self, ticket: Ticket<'_>) -> Result<String, FarEndError>;

    /// Finds a ticket by its external key. Called only where [`FarEnd::look_up_lag`] gives a time.
    async fn look_up(&mut self, key: &str) -> Result<Option<String>, FarEndError>;

    /// Whether it can be reached and may write, without creating anything: one sentence.
    async fn probe(&mut self) -> Result<String, AdapterError>;
}

impl From<HttpError> for FarEndError {
    fn from(error: HttpError) -> Self {
        let status = error.status();
        Self {
            failure: error.failure(),
            acted: error.acted(),
            // 500 may be about this ticket; a gateway's codes, throttling and silence are not.
            whole: !matches!(status, Some(400..=428 | 430..=500)),
            reason: match status {
                Some(413) => DeadLetterReason::SinkOversize,
                _ => DeadLetterReason::SinkRejected,
            },
            detail: error.to_string(),
        }
    }
}
