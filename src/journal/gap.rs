//! The journal's own gap records: a reader's backlog that was dropped, and what a repair gave up.

use std::sync::Arc;

use super::port::Offset;
use crate::domain::{Event, Gap, GapCause, Ticks};
use crate::normalize::{Context, SIZE_CAP, gap_event};

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
    let context = Context {
        tenant: Arc::from(""),
        source: Arc::from(JOURNAL),
        ingested: Some(now),
        normal_lag_seconds: 0,
        backfill: false,
        size_cap: SIZE_CAP,
    };
    Event { occurred: Some(now), ..gap_event(gap, &context) }
}
