//! What a source hands over: bytes, their layout and their place. Cutting them into records is
//! `normalize`'s business.

use super::event::Position;
use super::raw::Raw;
use super::table::Table;
use super::ticks::Ticks;

/// How the bytes of a chunk are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// A message of the Streaming API: `{"records":[…]}`, a bare array, or one record.
    Streaming,
    /// Lines (NDJSON) of streaming records, as the Storage transport writes them.
    StreamingLines,
    /// One bare row of the table named.
    Row(Table),
    /// Lines (NDJSON), each a bare row of the table named.
    RowLines(Table),
    /// The answer to a hunting query whose rows are those of the table named: Graph's `{"schema":[…],"results":[…]}`
    /// or the older API's `{"Schema":[…],"Results":[…]}`.
    Hunting(Table),
    /// A page of Graph's `/security/incidents` (`{"value":[…]}`), a bare array, or one incident.
    Incidents {
        /// Whether the alerts that are expanded in it become events of their own. Off where the `alerts` source
        /// is on: then only that one emits them.
        alerts: bool,
    },
    /// A page of Graph's `/security/alerts_v2` (`{"value":[…]}`), a bare array, or one alert.
    Alerts,
    /// A content blob of the Management Activity API: an array of audit records, or one of them.
    Activity,
    /// Lines (NDJSON), each a user's report of a mail from a third-party tool, with the names of
    /// `normalize::submission` as keys.
    Submissions,
}

/// Some bytes as a source gave them; normalizing cuts them into records.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The bytes, unchanged.
    pub raw: Raw,
    /// Their layout.
    pub shape: Shape,
    /// Where they were.
    pub position: Position,
    /// When the far end says that it wrote them, if it does (a Kafka message's timestamp).
    pub observed: Option<Ticks>,
    /// Whether it was fetched on purpose for a time that has passed: a backfill or a refill.
    pub backfill: bool,
}
