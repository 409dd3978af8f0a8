//! Floor 1: from a source's bytes to events. Pure: the same bytes give the same events, whatever the time
//! and the place. It maps; it does not judge (`tagging`) and does not look anything up.
//!
//! Every record becomes either an event with a list of issues, or a dead letter; never nothing.

mod activity;
pub mod canonical;
pub mod column;
pub mod csv_row;
pub mod envelope;
pub mod field;
mod graph;
pub mod guess;
pub mod identity;
pub mod item;
mod page;
mod record;
pub mod row;
pub mod scan;
pub mod submission;
pub mod words;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use column::Column;
use envelope::{Cutter, Piece};
use identity::Identity;
use item::Item;
use page::{Cut, Layout, Page};
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
        Shape::Streaming => cut(bytes, &mut recorder, Record::Streaming, 0, sink),
        Shape::Row(table) => cut(bytes, &mut recorder, Record::Row(table), 0, sink),
        Shape::StreamingLines => lines(bytes, |line, number| {
            cut(line, &mut recorder, Record::Streaming, number, sink);
        }),
        Shape::RowLines(table) => lines(bytes, |line, number| {
            cut(line, &mut recorder, Record::Row(table), number, sink);
        }),
        Shape::Submissions => lines(bytes, |line, number| {
            cut(line, &mut recorder, Record::Report, number, sink);
        }),
        Shape::Hunting(table) => answer(bytes, &mut recorder, Answer::Rows(table), sink),
        Shape::Incidents { alerts } => {
            answer(bytes, &mut recorder, Answer::Incidents { alerts: *alerts }, sink);
        }
        Shape::Alerts => answer(bytes, &mut recorder, Answer::Alerts, sink),
        Shape::Activity => answer(bytes, &mut recorder, Answer::Activity, sink),
    }
}

/// Hands out the lines of `bytes` that are not blank, with their number counted from 0.
fn lines<'a>(bytes: &'a [u8], mut take: impl FnMut(&'a [u8], u64)) {
    let mut start = 0;
    let mut number = 0;
    while start < bytes.len() {
        let rest = bytes.get(start..).unwrap_or_default();
        let end = memchr::memchr(b'\n', rest).map_or(bytes.len(), |place| start + place);
        let line = bytes.get(start..end).unwrap_or_default();
        if !line.trim_ascii().is_empty() {
            take(line, number);
        }
        number += 1;
        start = end + 1;
    }
}

/// What stands on a line, or alone.
#[derive(Debug, Clone, Copy)]
enum Record<'t> {
    /// Streaming records.
    Streaming,
    /// A bare row of this table.
    Row(&'t Table),
    /// A user's report.
    Report,
}

/// Cuts `bytes` and makes an event or a dead letter of each piece.
fn cut<'a>(
    bytes: &'a [u8],
    recorder: &mut Recorder<'_>,
    record: Record<'_>,
    line: u64,
    sink: &mut dyn FnMut(Normalized<'_>),
) {
    let size_cap = recorder.size_cap();
    let mut take = |piece: Piece<'_, 'a>| match piece {
        Piece::Record { bytes, row_bytes, row, envelope } => {
            let origin = Origin { bytes, row_bytes };
            let read = AssertUnwindSafe(|| match record {
                Record::Streaming => recorder.event(origin, row, envelope, None),
                Record::Row(table) => recorder.event(origin, row, envelope, Some(table)),
                Record::Report => (recorder.item(origin, row, submission::item(row)), None, false),
            });
            match catch_unwind(read) {
                Ok((event, mail, first_row_decides)) => {
                    sink(Normalized::Event { event, row, mail, first_row_decides })
                }
                Err(_) => sink(Normalized::DeadLetter(panicked(recorder, bytes, line))),
            }
        }
        Piece::Broken { bytes, reason, detail } => {
            sink(Normalized::DeadLetter(recorder.dead_letter(bytes, line, reason, detail)));
        }
    };
    let mut cutter = Cutter::new(bytes, size_cap, &mut take);
    match record {
        Record::Row(_) | Record::Report => cutter.row(),
        Record::Streaming => cutter.streaming(),
    }
}

fn panicked(recorder: &Recorder<'_>, bytes: &[u8], line: u64) -> DeadLetter {
    let detail = "reading the record panicked; this is a defect of Postern".to_owned();
    recorder.dead_letter(bytes, line, DeadLetterReason::ParserPanic, detail)
}

/// What an answer holds.
#[derive(Debug, Clone, Copy)]
enum Answer<'t> {
    /// Rows of this table.
    Rows(&'t Table),
    /// Incidents, and whether the alerts inside become events, too.
    Incidents { alerts: bool },
    /// Alerts.
    Alerts,
    /// Audit records.
    Activity,
}

impl Answer<'_> {
    const fn layout(self) -> Layout {
        match self {
            Self::Rows(_) => Layout { list: "results", single: false },
            Self::Incidents { .. } | Self::Alerts => Layout { list: "value", single: true },
            Self::Activity => Layout { list: "", single: true },
        }
    }
}

/// Cuts the answer `bytes` and makes an event or a dead letter of each piece.
fn answer<'a>(
    bytes: &'a [u8],
    recorder: &mut Recorder<'_>,
    of: Answer<'_>,
    sink: &mut dyn FnMut(Normalized<'_>),
) {
    let size_cap = recorder.size_cap();
    let mut take = |cut: Cut<'_, 'a>| match (cut, of) {
        (Cut::Object { bytes, row }, Answer::Rows(table)) => {
            if too_large(bytes, recorder, sink) {
                return;
            }
            let origin = Origin { bytes, row_bytes: bytes };
            let envelope = envelope::Envelope::default();
            let read = || recorder.event(origin, row, &envelope, Some(table));
            match catch_unwind(AssertUnwindSafe(read)) {
                Ok((event, mail, first_row_decides)) => {
                    sink(Normalized::Event { event, row, mail, first_row_decides });
                }
                Err(_) => sink(Normalized::DeadLetter(panicked(recorder, bytes, 0))),
            }
        }
        (Cut::Object { bytes, row }, Answer::Incidents { alerts }) => {
            one(bytes, row, recorder, || graph::incident(row), sink);
            if alerts && let Some(inside) = field::json(row, "alerts") {
                let tenant = field::text(row, "tenantId").unwrap_or_default();
                alerts_inside(inside.as_bytes(), &tenant, recorder, sink);
            }
        }
        (Cut::Object { bytes, row }, Answer::Alerts) => {
            one(bytes, row, recorder, || graph::alert(row, Cow::Borrowed("")), sink);
        }
        (Cut::Object { bytes, row }, Answer::Activity) => {
            one(bytes, row, recorder, || activity::item(row), sink);
        }
        (Cut::Broken { bytes, reason, detail }, _) => {
            sink(Normalized::DeadLetter(recorder.dead_letter(bytes, 0, reason, detail)));
        }
    };
    Page::new(bytes, size_cap, &mut take).cut(of.layout());
}

/// The alerts that are expanded in an incident of `tenant`.
fn alerts_inside<'a>(
    bytes: &'a [u8],
    tenant: &str,
    recorder: &mut Recorder<'_>,
    sink: &mut dyn FnMut(Normalized<'_>),
) {
    if !bytes.starts_with(b"[") {
        return;
    }
    let size_cap = recorder.size_cap();
    let mut take = |cut: Cut<'_, 'a>| match cut {
        Cut::Object { bytes, row } => {
            one(bytes, row, recorder, || graph::alert(row, Cow::Owned(tenant.to_owned())), sink);
        }
        Cut::Broken { bytes, reason, detail } => {
            sink(Normalized::DeadLetter(recorder.dead_letter(bytes, 0, reason, detail)));
        }
    };
    Page::new(bytes, size_cap, &mut take).cut(Layout { list: "", single: false });
}

/// Whether an object is too large to become an event; then it is a dead letter. The alerts in an incident that
/// is too large still come.
fn too_large(bytes: &[u8], recorder: &Recorder<'_>, sink: &mut dyn FnMut(Normalized<'_>)) -> bool {
    let most = recorder.size_cap();
    let is_too_large = bytes.len() > most;
    if is_too_large {
        let detail = format!("{} bytes, {most} at most", bytes.len());
        let reason = DeadLetterReason::OverSizeCap;
        sink(Normalized::DeadLetter(recorder.dead_letter(bytes, 0, reason, detail)));
    }
    is_too_large
}

/// Makes an event of a record that is no row of a table.
fn one<'a>(
    bytes: &[u8],
    row: &Row<'a>,
    recorder: &mut Recorder<'_>,
    read: impl FnOnce() -> Item<'a>,
    sink: &mut dyn FnMut(Normalized<'_>),
) {
    if too_large(bytes, recorder, sink) {
        return;
    }
    let origin = Origin { bytes, row_bytes: bytes };
    match catch_unwind(AssertUnwindSafe(|| recorder.item(origin, row, read()))) {
        Ok(event) => {
            sink(Normalized::Event { event, row, mail: None, first_row_decides: false });
        }
        Err(_) => sink(Normalized::DeadLetter(panicked(recorder, bytes, 0))),
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
mod answer_tests;
#[cfg(test)]
mod tests;
