//! The journal's own gap records: a reader's backlog that was dropped, and what a repair gave up.

use std::sync::Arc;

use super::port::Offset;
use crate::domain::{Arrival, Decision, Event, EventId, Gap, GapCause, Kind, Raw, Table, Ticks};

/// The source that the journal's own gap records name.
pub(crate) const JOURNAL: &str = "journal";

/// A reader's backlog was dropped because the quota was full.
pub(crate) fn backlog_dropped(reader: &str, from: Offset, to: Offset, now: Ticks) -> Event {
    event(
        &Gap {
            source: reader.into(),
            what: "journal backlog".into(),
            from: from.to_string().into(),
            to: to.to_string().into(),
            count: Some(to.saturating_sub(from)),
            cause: GapCause::BacklogDropped,
            detail: "the journal's quota was full and this reader's on_full is drop_backlog".into(),
        },
        now,
    )
}

/// A repair could not read some events.
pub(crate) fn repaired(segment: &str, from: Offset, to: Offset, now: Ticks) -> Event {
    event(
        &Gap {
            source: JOURNAL.into(),
            what: segment.into(),
            from: from.to_string().into(),
            to: to.to_string().into(),
            count: Some(to.saturating_sub(from)),
            cause: GapCause::OperatorRepair,
            detail: "postern journal repair gave up what could not be read".into(),
        },
        now,
    )
}

fn event(gap: &Gap, now: Ticks) -> Event {
    let raw = serde_json::to_vec(gap).unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    for part in [&gap.source, &gap.what, &gap.from, &gap.to] {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    let end = u32::try_from(raw.len()).unwrap_or_default();
    Event {
        id: EventId(id),
        kind: Kind::Gap,
        table: Table::Other("gap".into()),
        tenant: Arc::from(""),
        source: Arc::from(JOURNAL),
        occurred: Some(now),
        observed: None,
        ingested: Some(now),
        arrival: Some(Arrival::Live),
        key: None,
        recipient: None,
        decision: Decision::default(),
        issues: Vec::new(),
        raw: Raw::from(raw),
        row: (0, end),
    }
}
