//! One event: what a record says, plus what was decided about it. The journal stores exactly this;
//! rendering to a schema happens when a sink reads it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::decision::Decision;
use super::id::EventId;
use super::kind::Kind;
use super::raw::Raw;
use super::table::Table;
use super::ticks::Ticks;

/// How an event reached us in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Arrival {
    /// Within the source's normal lag.
    #[default]
    #[serde(rename = "live")]
    Live,
    /// Later than the source's normal lag, by the source itself.
    #[serde(rename = "late")]
    Late,
    /// Fetched on purpose for a time that has passed: a backfill or a refill.
    #[serde(rename = "backfill")]
    Backfill,
}

impl Arrival {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Live, Self::Late, Self::Backfill];

    /// The word in the native format and in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Late => "late",
            Self::Backfill => "backfill",
        }
    }
}

/// Something odd about a record that did not stop it from becoming an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// A word of a closed set, for counting: see the constants below.
    pub code: Cow<'static, str>,
    /// Which column or key, if one can be named.
    pub at: Box<str>,
}

impl Issue {
    /// The first identity column is missing, so all columns went into the id.
    pub const IDENTITY_FALLBACK: &'static str = "identity_fallback";
    /// `Timestamp` is missing or is not a date.
    pub const BAD_TIMESTAMP: &'static str = "bad_timestamp";
    /// A key occurs twice; the last one counts.
    pub const DUPLICATE_KEY: &'static str = "duplicate_key";
    /// Text holds half a surrogate pair; it reads as U+FFFD.
    pub const LONE_SURROGATE: &'static str = "lone_surrogate";
    /// A value has a type that the column never has.
    pub const ODD_TYPE: &'static str = "odd_type";
    /// A column of a typed table that is not known here.
    pub const UNKNOWN_COLUMN: &'static str = "unknown_column";
    /// A word that is not on the column's list.
    pub const UNKNOWN_VALUE: &'static str = "unknown_value";
    /// The record names no table, or one that is not typed here.
    pub const UNKNOWN_TABLE: &'static str = "unknown_table";
    /// The envelope names another tenant than the configuration.
    pub const FOREIGN_TENANT: &'static str = "foreign_tenant";
    /// JSON inside a text column could not be read; the text is kept.
    pub const BAD_INNER_JSON: &'static str = "bad_inner_json";

    /// Every code, for metrics.
    pub const CODES: [&'static str; 10] = [
        Self::IDENTITY_FALLBACK,
        Self::BAD_TIMESTAMP,
        Self::DUPLICATE_KEY,
        Self::LONE_SURROGATE,
        Self::ODD_TYPE,
        Self::UNKNOWN_COLUMN,
        Self::UNKNOWN_VALUE,
        Self::UNKNOWN_TABLE,
        Self::FOREIGN_TENANT,
        Self::BAD_INNER_JSON,
    ];

    /// An issue of `code` at `at`.
    #[must_use]
    pub fn new(code: &'static str, at: &str) -> Self {
        Self { code: Cow::Borrowed(code), at: at.into() }
    }
}

/// Where a record came from, exactly enough for a person to find it again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Position {
    /// Nowhere in particular (standard input, a test).
    #[default]
    None,
    /// A message of a Kafka topic (an event hub).
    Kafka {
        /// Topic, which is the event hub's name.
        topic: Arc<str>,
        /// Partition.
        partition: i32,
        /// Offset of the message.
        offset: i64,
    },
    /// An item of an answer to a request.
    Item {
        /// What was asked for, in words that let a person ask again (never a secret).
        what: Arc<str>,
        /// Which item of the answer, counted from 1; 0 for all of it.
        item: u64,
    },
    /// A place in a file or blob.
    File {
        /// Path or blob name.
        path: Arc<str>,
        /// Line, counted from 1; 0 where lines mean nothing.
        line: u64,
        /// Byte offset of the record's first byte.
        offset: u64,
    },
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("-"),
            Self::Kafka { topic, partition, offset } => write!(f, "{topic}[{partition}]@{offset}"),
            Self::Item { what, item: 0 } => f.write_str(what),
            Self::Item { what, item } => write!(f, "{what} #{item}"),
            Self::File { path, line: 0, offset } => write!(f, "{path}@{offset}"),
            Self::File { path, line, .. } => write!(f, "{path}:{line}"),
        }
    }
}

/// One event. Field names and meanings are those of the native format.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The public identity.
    pub id: EventId,
    /// What sort of thing it is.
    pub kind: Kind,
    /// The table (or record type) it came from.
    pub table: Table,
    /// The Entra tenant id: the envelope's, else the configured one; empty if neither is known.
    pub tenant: Arc<str>,
    /// The source's configured name (its type where it has no name of its own).
    pub source: Arc<str>,
    /// When it happened there (`Timestamp`).
    pub occurred: Option<Ticks>,
    /// When the vendor exported it (the envelope's `time`).
    pub observed: Option<Ticks>,
    /// When it arrived here; `None` only in `postern tag`.
    pub ingested: Option<Ticks>,
    /// How it arrived in time; `None` only in `postern tag`.
    pub arrival: Option<Arrival>,
    /// What belongs together downstream (Kafka key, ticket, join): the message id, the alert id or the
    /// incident id; `None` where the record has none.
    pub key: Option<Box<str>>,
    /// Recipient of a mail row, trimmed and lower-cased.
    pub recipient: Option<Box<str>>,
    /// What tagging said.
    pub decision: Decision,
    /// What was odd.
    pub issues: Vec<Issue>,
    /// The record as the source gave it, byte for byte: for the Streaming API the element of `records`,
    /// for other sources the record itself.
    pub raw: Raw,
    /// Where in `raw` the row is (`properties` of a streaming record), as start and end; the whole of `raw`
    /// for other sources.
    pub row: (u32, u32),
}

impl Event {
    /// The row's bytes inside [`Event::raw`].
    #[must_use]
    pub fn row_bytes(&self) -> &[u8] {
        let (start, end) = self.row;
        self.raw.as_bytes().get(start as usize..end as usize).unwrap_or_default()
    }
}
