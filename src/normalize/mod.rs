//! Floor 1: from a source's bytes to events. Pure: the same bytes give the same events, whatever the time
//! and the place. It maps; it does not judge (`tagging`) and does not look anything up.
//!
//! Every record becomes either an event with a list of issues, or a dead letter; never nothing.

pub mod canonical;
pub mod column;
pub mod envelope;
pub mod guess;
pub mod identity;
mod record;
pub mod row;
pub mod scan;
pub mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use column::Column;
use envelope::{Cutter, Piece};
use identity::Identity;
use record::{Origin, Recorder};
pub use row::Row;

use crate::domain::{
    Arrival, Chunk, DeadLetter, DeadLetterReason, Decision, Event, EventId, Gap, Kind, Raw, Shape,
    Table, Ticks,
};

/// The largest record that becomes an event.
pub const SIZE_CAP: usize = 4 * 1024 * 1024;

/// What is known about the source of a chunk.
#[derive(Debug, Clone)]
pub struct Context {
    /// The configured Entra tenant id; empty if none is configured (`postern tag`).
    pub tenant: Arc<str>,
    /// The source's name.
    pub source: Arc<str>,
    /// Now; `None` in `postern tag`, where arrival is not told either.
    pub ingested: Option<Ticks>,
    /// The lag in seconds up to which an event counts as `live`.
    pub normal_lag_seconds: i64,
    /// Whether the records were fetched on purpose for a time that has passed.
    pub backfill: bool,
    /// The largest record that becomes an event, normally [`SIZE_CAP`].
    pub size_cap: usize,
}

/// What one record became.
#[derive(Debug)]
pub enum Normalized<'a> {
    /// An event, not yet tagged.
    Event {
        /// The event; its decision is empty.
        event: Event,
        /// Its row, already read.
        row: &'a Row<'a>,
        /// The key of message and recipient, for a row of `EmailEvents` with a message id.
        mail: Option<EventId>,
        /// Whether only the first row of a mail says anything about the verdict at delivery: a row of
        /// `EmailEvents` without `Original*` columns. A later one is for `tagging::as_later_row`.
        first_row_decides: bool,
    },
    /// A record that could not become one.
    DeadLetter(DeadLetter),
}

/// Cuts `chunk` into records and hands what each became to `sink`, in the order of the bytes.
///
/// A panic while a record is read costs that record only. A panic in `sink` is the caller's own.
pub fn each(chunk: &Chunk, context: &Context, sink: &mut dyn FnMut(Normalized<'_>)) {
    let bytes = chunk.raw.as_bytes();
    let mut recorder = Recorder::new(context, chunk);
    match &chunk.shape {
        Shape::Streaming => cut(bytes, &mut recorder, None, 0, sink),
        Shape::Row(table) => cut(bytes, &mut recorder, Some(table), 0, sink),
        Shape::Hunting(_)
        | Shape::RowLines(_)
        | Shape::Incidents { .. }
        | Shape::Alerts
        | Shape::Activity
        | Shape::Submissions => {
            let detail = "no source gives this layout yet".to_owned();
            let reason = DeadLetterReason::NotJsonObject;
            sink(Normalized::DeadLetter(recorder.dead_letter(bytes, 0, reason, detail)));
        }
        Shape::StreamingLines => {
            let mut start = 0;
            let mut line_number = 0;
            while start < bytes.len() {
                let rest = bytes.get(start..).unwrap_or_default();
                let end = memchr::memchr(b'\n', rest).map_or(bytes.len(), |place| start + place);
                let line = bytes.get(start..end).unwrap_or_default();
                if !line.trim_ascii().is_empty() {
                    cut(line, &mut recorder, None, line_number, sink);
                }
                line_number += 1;
                start = end + 1;
            }
        }
    }
}

/// Cuts `bytes` — a bare row where its `table` is named, else streaming records — and makes an event or a dead
/// letter of each piece.
fn cut<'a>(
    bytes: &'a [u8],
    recorder: &mut Recorder<'_>,
    table: Option<&Table>,
    line: u64,
    sink: &mut dyn FnMut(Normalized<'_>),
) {
    let size_cap = recorder.size_cap();
    let mut take = |piece: Piece<'_, 'a>| match piece {
        Piece::Record { bytes, row_bytes, row, envelope } => {
            let origin = Origin { bytes, row_bytes };
            let read = AssertUnwindSafe(|| recorder.event(origin, row, envelope, table));
            match catch_unwind(read) {
                Ok((event, mail, first_row_decides)) => {
                    sink(Normalized::Event { event, row, mail, first_row_decides })
                }
                Err(_) => {
                    let detail =
                        "reading the record panicked; this is a defect of Postern".to_owned();
                    let reason = DeadLetterReason::ParserPanic;
                    sink(Normalized::DeadLetter(recorder.dead_letter(bytes, line, reason, detail)));
                }
            }
        }
        Piece::Broken { bytes, reason, detail } => {
            sink(Normalized::DeadLetter(recorder.dead_letter(bytes, line, reason, detail)));
        }
    };
    let mut cutter = Cutter::new(bytes, size_cap, &mut take);
    match table {
        Some(_) => cutter.row(),
        None => cutter.streaming(),
    }
}

/// The event that says that something is missing.
#[must_use]
pub fn gap_event(gap: &Gap, context: &Context) -> Event {
    let raw = Raw::from(serde_json::to_vec(gap).unwrap_or_default());
    let end = u32::try_from(raw.len()).unwrap_or_default();
    Event {
        id: Identity::new().of_gap(&context.tenant, gap),
        kind: Kind::Gap,
        table: Table::Other("".into()),
        tenant: Arc::clone(&context.tenant),
        source: Arc::clone(&context.source),
        occurred: context.ingested,
        observed: None,
        ingested: context.ingested,
        arrival: context.ingested.map(|_| Arrival::Live),
        key: None,
        recipient: None,
        decision: Decision::default(),
        issues: Vec::new(),
        raw,
        row: (0, end),
    }
}

#[cfg(test)]
mod tests;
