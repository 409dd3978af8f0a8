//! The key by which the ledger knows a row: its identity without revision, cut to 64 bits.

use crate::domain::{Event, EventId, Table};
use crate::normalize::SIZE_CAP;
use crate::normalize::envelope::{Cutter, Piece};
use crate::normalize::identity::Identity;

/// Computes keys. Its memory is used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Keys {
    identity: Identity,
}

impl Keys {
    /// The key of a row of a table; `None` for what is no row.
    pub(super) fn of(&mut self, event: &Event) -> Option<u64> {
        if event.kind != event.table.kind() {
            return None;
        }
        // Only these have a revision; of all others the id is the key.
        let id = match event.table {
            Table::EmailEvents => self.without_revision(event).unwrap_or(event.id),
            _ => event.id,
        };
        let (head, _) = id.0.split_first_chunk::<8>()?;
        Some(u64::from_le_bytes(*head))
    }

    fn without_revision(&mut self, event: &Event) -> Option<EventId> {
        let mut found = None;
        let mut take = |piece: Piece<'_, '_>| {
            if let Piece::Record { row, .. } = piece {
                found = Some(self.identity.key_of_row(&event.tenant, &event.table, row));
            }
        };
        Cutter::new(event.row_bytes(), SIZE_CAP, &mut take).row();
        found
    }
}
