//! The far end's own record of how far a delivery is, written in the same transaction as the events. Pure: no
//! connection, no clock.

use serde::{Deserialize, Serialize};

use crate::domain::EventId;
use crate::journal::{Numbered, Offset};

/// The layout's version. A newer one is refused.
pub(super) const VERSION: u32 = 1;

/// What the cursor topic holds under `<journal id>/<sink name>`, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FarCursor {
    /// Layout.
    pub v: u32,
    /// Number of the batch, from 1 without holes: readers find it in the header of each record.
    pub seq: u64,
    /// Journal offset behind the batch.
    pub next: Offset,
    /// How many records it has.
    pub n: usize,
    /// CRC-32C of the records' event ids, in order.
    pub hash: u32,
    /// Offsets in the batch that were refused. Their dead letters become durable *after* the batch is
    /// committed, so whoever begins here must look at them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Offset>,
    /// The last event of the batch, refused or not. It proves later that a journal is the one that was delivered.
    pub last: LastEvent,
}

/// An event and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEvent {
    /// Its journal offset.
    pub offset: Offset,
    /// Its id.
    pub id: EventId,
}

/// What reading the far end's cursor again says about a commit of ours whose outcome nobody told us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing of it is there.
    NotCommitted,
    /// All of it is there.
    Committed,
    /// Somebody else has written here.
    Foreign,
}

/// Compares the cursor that is there with the one before our batch and the one in our batch.
pub(super) fn outcome(
    there: Option<&FarCursor>,
    before: Option<&FarCursor>,
    tried: Option<&FarCursor>,
) -> Outcome {
    if there == before {
        Outcome::NotCommitted
    } else if tried.is_some() && there == tried {
        Outcome::Committed
    } else {
        Outcome::Foreign
    }
}

impl FarCursor {
    /// Where to begin, if the journal's own position is `position`. What was refused in the last batch is looked
    /// at again, unless the journal's position says that its dead letters are durable.
    pub(super) fn begin(&self, position: Offset) -> Offset {
        match self.rejected.iter().min() {
            Some(first) if position < self.next => *first,
            _ => position.max(self.next),
        }
    }

    /// Whether the event at `offset` is at the far end already, or was refused with its dead letter durable.
    pub(super) fn holds(&self, offset: Offset) -> bool {
        offset < self.next && !self.rejected.contains(&offset)
    }
}

/// What a journal says about the event in [`FarCursor::last`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    /// It holds that event at that offset.
    Same,
    /// The event has been truncated away; nothing speaks against it.
    Unknown,
    /// The journal ends before it.
    Shorter,
    /// Another event is there.
    Different,
}

/// Compares the last delivered event with what the journal holds at its offset.
pub(super) fn history(last: LastEvent, end: Offset, found: Option<&Numbered>) -> History {
    match found {
        _ if last.offset >= end => History::Shorter,
        None => History::Unknown,
        Some(found) if found.offset != last.offset => History::Unknown,
        Some(found) if found.event.id == last.id => History::Same,
        Some(_) => History::Different,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::tests::event;
    use std::sync::Arc;

    fn cursor(seq: u64, next: Offset, rejected: &[Offset]) -> FarCursor {
        let last = LastEvent { offset: next - 1, id: EventId([7; 16]) };
        FarCursor { v: VERSION, seq, next, n: 3, hash: 9, rejected: rejected.to_vec(), last }
    }

    // Reliability F4: the outcome of a commit is what the cursor says, never what an error suggests.
    #[test]
    fn an_unknown_outcome_is_settled_by_the_cursor_that_is_there() {
        let (one, two, three) = (cursor(1, 10, &[]), cursor(2, 20, &[]), cursor(3, 30, &[]));
        let check = |there, expected| {
            assert_eq!(outcome(there, Some(&one), Some(&two)), expected, "{there:?}");
        };
        check(Some(&one), Outcome::NotCommitted);
        check(Some(&two), Outcome::Committed);
        check(Some(&three), Outcome::Foreign);
        check(None, Outcome::Foreign);
        assert_eq!(outcome(None, None, Some(&one)), Outcome::NotCommitted);
        assert_eq!(outcome(Some(&two), Some(&one), None), Outcome::Foreign);
    }

    #[test]
    fn delivery_begins_behind_the_batch_or_at_its_first_refusal_until_that_is_durable() {
        assert_eq!(cursor(1, 10, &[]).begin(4), 10);
        assert_eq!(cursor(1, 10, &[]).begin(12), 12);
        let refused = cursor(1, 10, &[8, 6]);
        assert_eq!(refused.begin(4), 6);
        assert_eq!(refused.begin(10), 10);
        assert!(refused.holds(7) && !refused.holds(8) && !refused.holds(10));
    }

    // Reliability B13: a copy of the data directory from yesterday, at once and after it has grown again.
    #[test]
    fn a_journal_with_another_past_is_told_from_the_one_that_was_delivered() {
        let numbered = |offset, row: &str| Numbered { offset, event: Arc::new(event(row)) };
        let ours = numbered(9, "{}");
        let last = LastEvent { offset: 9, id: ours.event.id };
        assert_eq!(history(last, 10, Some(&ours)), History::Same);
        assert_eq!(history(last, 9, None), History::Shorter);
        assert_eq!(history(last, 50, Some(&numbered(9, r#"{"a":1}"#))), History::Different);
        assert_eq!(history(last, 50, Some(&numbered(20, "{}"))), History::Unknown);
    }
}
