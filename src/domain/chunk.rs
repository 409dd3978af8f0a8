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
}
