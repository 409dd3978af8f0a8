//! Floor 1: what a record means: its tags, each with the reason. Pure.

pub mod overrides;

use crate::domain::{Decision, Event};
use crate::normalize::Row;

/// What the row says.
#[must_use]
pub fn decide(_event: &Event, _row: &Row<'_>) -> Decision {
    Decision::default()
}

/// What a later row of a known mail may say.
pub const fn as_later_row(_event: &mut Event) {}
