//! A record that could not become an event, or an event that a sink refused: kept, counted and replayable,
//! never dropped.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::EventId;
use super::ticks::Ticks;

/// Why. The first four are all the ways in which a record fails to become an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeadLetterReason {
    /// Not a JSON object: cut, binary, another encoding, or another JSON type.
    NotJsonObject,
    /// Over the size cap.
    OverSizeCap,
    /// Nested deeper than the limit.
    TooDeep,
    /// A parser panicked on it (a defect of ours that must not stop its neighbours).
    ParserPanic,
    /// A sink's far end refused the event for good.
    SinkRejected,
    /// An event is larger than the sink's far end takes.
    SinkOversize,
}

impl DeadLetterReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::NotJsonObject,
        Self::OverSizeCap,
        Self::TooDeep,
        Self::ParserPanic,
        Self::SinkRejected,
        Self::SinkOversize,
    ];

    /// The word in listings and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotJsonObject => "not_json_object",
            Self::OverSizeCap => "over_size_cap",
            Self::TooDeep => "too_deep",
            Self::ParserPanic => "parser_panic",
            Self::SinkRejected => "sink_rejected",
            Self::SinkOversize => "sink_oversize",
        }
    }
}

impl fmt::Display for DeadLetterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A dead letter as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// For a refused event the event's id; for a record a hash of source, position and bytes, so that the
    /// same poison fetched twice is one dead letter.
    pub id: EventId,
    /// Why.
    pub reason: DeadLetterReason,
    /// One sentence for a person: what was tried and what came back. No secrets, no bytes of the record.
    pub detail: Box<str>,
    /// The source it came from; empty for a refused event.
    pub source: Box<str>,
    /// The sink that refused it; empty for a record.
    pub sink: Box<str>,
    /// The tenant, where known.
    pub tenant: Box<str>,
    /// Where the record was (`Position` as text), or the event's journal offset.
    pub position: Box<str>,
    /// When it was refused.
    pub at: Ticks,
    /// Length of the whole record in bytes.
    pub length: u64,
    /// BLAKE3 of the whole record.
    pub hash: [u8; 32],
    /// The record, or its first 4 KiB where it is over the size cap.
    pub bytes: Vec<u8>,
}
