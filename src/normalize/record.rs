//! From one record, already cut out and indexed, to an event or a dead letter. How bytes become records is
//! `envelope`'s business.

use std::sync::Arc;

use super::column::Column;
use super::envelope::Envelope;
use super::field;
use super::identity::{Identity, first_half, is_of_a_query};
use super::item::Item;
use super::row::{ISSUE_CAP, Row};
use super::{Context, words};
use crate::domain::{
    Arrival, Chunk, DeadLetter, DeadLetterReason, Decision, Event, EventId, Issue, Position, Shape,
    Table, Ticks,
};

/// Bytes of an oversize record that a dead letter keeps.
const OVERSIZE_KEPT: usize = 4 * 1024;

/// Where a record is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    /// All of it.
    pub(super) bytes: &'a [u8],
    /// Its row.
    pub(super) row_bytes: &'a [u8],
}

/// Makes the events of one chunk.
pub(super) struct Recorder<'c> {
    context: &'c Context,
    chunk: &'c Chunk,
    identity: Identity,
    /// The tenant and table of the record before: nearly always those of the next one.
    tenant: Arc<str>,
    category: String,
    table: Table,
}

impl<'c> Recorder<'c> {
    pub(super) fn new(context: &'c Context, chunk: &'c Chunk) -> Self {
        Self {
            context,
            chunk,
            identity: Identity::new(),
            tenant: Arc::clone(&context.tenant),
            category: String::new(),
            table: Table::Other("".into()),
        }
    }

    pub(super) const fn size_cap(&self) -> usize {
        self.context.size_cap
    }

    /// The event, the key of its mail, and whether only the first row of its mail decides.
    pub(super) fn event(
        &mut self,
        origin: Origin<'_>,
        row: &Row<'_>,
        envelope: &Envelope<'_>,
        table: Option<&Table>,
    ) -> (Event, Option<EventId>, bool) {
        #[cfg(test)]
        super::tests::panic_if_asked(row);

        let mut issues = Vec::new();
        let table = match table {
            Some(table) => table.clone(),
            None => self.table_of(&envelope.category),
        };
        let tenant = self.tenant_of(&envelope.tenant, &mut issues);
        let identified = self.identity.of_row(&tenant, &table, row);
        let mail_row = table == Table::EmailEvents;
        let mail = if mail_row { self.identity.of_mail(&tenant, row) } else { None };
        if identified.fallback {
            issues.push(Issue::new(Issue::IDENTITY_FALLBACK, ""));
        }
        issues.extend_from_slice(&envelope.issues);
        issues.extend_from_slice(row.issues());
        match &table {
            Table::Other(name) => issues.push(Issue::new(Issue::UNKNOWN_TABLE, name)),
            _ => {
                let strangers = row.unknown().filter(|(name, _)| !is_of_a_query(name));
                for (name, _) in strangers.take(ISSUE_CAP) {
                    issues.push(Issue::new(Issue::UNKNOWN_COLUMN, name));
                }
                words::unknown_values(&table, row, &mut issues);
            }
        }
        let occurred = row.time(Column::Timestamp);
        if occurred.is_none() {
            issues.push(Issue::new(Issue::BAD_TIMESTAMP, Column::Timestamp.name()));
        }
        let exported = Ticks::parse(&envelope.time);
        if exported.is_none() && !envelope.time.is_empty() {
            issues.push(Issue::new(Issue::BAD_TIMESTAMP, "time"));
        }
        let observed = exported.or(self.chunk.observed).or_else(|| self.queried(row));
        issues.truncate(ISSUE_CAP);

        let raw = self.chunk.raw.slice_of(origin.bytes);
        let row_start = origin.row_bytes.as_ptr().addr() - origin.bytes.as_ptr().addr();
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let event = Event {
            id: identified.id,
            kind: table.kind(),
            arrival: self.arrival(observed.or(occurred)),
            key: key(&table, row),
            recipient: recipient(&table, row),
            table,
            tenant,
            source: Arc::clone(&self.context.source),
            occurred,
            observed,
            ingested: self.context.ingested,
            decision: Decision::default(),
            issues,
            raw,
            row: (place(row_start), place(row_start + origin.row_bytes.len())),
        };
        (event, mail, mail_row && !has_original(row))
    }

    /// The event of a record that is no row of a table.
    pub(super) fn item(&mut self, origin: Origin<'_>, row: &Row<'_>, item: Item<'_>) -> Event {
        let mut issues = Vec::new();
        let tenant = self.tenant_of(item.tenant.trim(), &mut issues);
        let identified = self.identity.of_item(&tenant, &item.identity, row);
        if identified.fallback {
            issues.push(Issue::new(Issue::IDENTITY_FALLBACK, ""));
        }
        // The columns that are known by name are those of tables: here they may have any type.
        let odd = row.issues().iter().filter(|issue| issue.code != Issue::ODD_TYPE);
        issues.extend(odd.cloned());
        if item.unknown_table {
            issues.push(Issue::new(Issue::UNKNOWN_TABLE, item.table.name()));
        }
        if item.occurred.is_none() {
            issues.push(Issue::new(Issue::BAD_TIMESTAMP, item.time_field));
        }
        let observed = item.observed.or(self.chunk.observed);
        issues.truncate(ISSUE_CAP);
        let raw = self.chunk.raw.slice_of(origin.bytes);
        let end = u32::try_from(origin.row_bytes.len()).unwrap_or(u32::MAX);
        let recipient = item.recipient.map(|address| {
            let mut address = address.into_owned();
            address.make_ascii_lowercase();
            address.into_boxed_str()
        });
        Event {
            id: identified.id,
            kind: item.kind,
            table: item.table,
            arrival: self.arrival(observed.or(item.occurred)),
            key: item.key.map(|key| key.into_owned().into_boxed_str()),
            recipient,
            tenant,
            source: Arc::clone(&self.context.source),
            occurred: item.occurred,
            observed,
            ingested: self.context.ingested,
            decision: Decision::default(),
            issues,
            raw,
            row: (0, end),
        }
    }

    /// When a hunting query says that the row was written.
    fn queried(&self, row: &Row<'_>) -> Option<Ticks> {
        let Shape::Hunting(_) = self.chunk.shape else { return None };
        ["IngestionTime", "__IngestionTime"].iter().find_map(|name| field::time(row, name))
    }

    /// The dead letter of `bytes`.
    pub(super) fn dead_letter(
        &self,
        bytes: &[u8],
        line: u64,
        reason: DeadLetterReason,
        detail: String,
    ) -> DeadLetter {
        let chunk = self.chunk.raw.as_bytes();
        let start = bytes.as_ptr().addr().wrapping_sub(chunk.as_ptr().addr());
        let position =
            position(&self.chunk.position, line, if start < chunk.len() { start } else { 0 });
        let hash = blake3::hash(bytes);
        let mut hasher = blake3::Hasher::new();
        for part in [self.context.source.as_bytes(), position.as_bytes(), hash.as_bytes()] {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part);
        }
        let kept = match reason {
            DeadLetterReason::OverSizeCap => bytes.get(..OVERSIZE_KEPT).unwrap_or(bytes),
            _ => bytes,
        };
        DeadLetter {
            id: first_half(&hasher.finalize()),
            reason,
            detail: detail.into(),
            source: (&*self.context.source).into(),
            sink: "".into(),
            tenant: (&*self.context.tenant).into(),
            position: position.into(),
            at: self.context.ingested.unwrap_or_default(),
            length: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            hash: *hash.as_bytes(),
            bytes: kept.to_vec(),
        }
    }

    fn table_of(&mut self, category: &str) -> Table {
        if self.category != category {
            category.clone_into(&mut self.category);
            self.table = Table::from_name(category);
        }
        self.table.clone()
    }

    fn tenant_of(&mut self, named: &str, issues: &mut Vec<Issue>) -> Arc<str> {
        let configured = &self.context.tenant;
        if named.is_empty() || named.eq_ignore_ascii_case(configured.trim()) {
            return Arc::clone(configured);
        }
        if !configured.is_empty() {
            issues.push(Issue::new(Issue::FOREIGN_TENANT, "tenantId"));
        }
        if *self.tenant != *named {
            self.tenant = named.into();
        }
        Arc::clone(&self.tenant)
    }

    fn arrival(&self, seen: Option<Ticks>) -> Option<Arrival> {
        let ingested = self.context.ingested?;
        let late =
            seen.is_some_and(|seen| ingested > seen.plus_seconds(self.context.normal_lag_seconds));
        Some(match (self.context.backfill || self.chunk.backfill, late) {
            (true, _) => Arrival::Backfill,
            (false, true) => Arrival::Late,
            (false, false) => Arrival::Live,
        })
    }
}

/// Whether the row tells the verdict at delivery apart from the latest one.
pub(crate) fn has_original(row: &Row<'_>) -> bool {
    row.has(Column::OriginalThreatTypes)
        || row.has(Column::OriginalDetectionMethods)
        || row.has(Column::OriginalConfidenceLevel)
}

/// What belongs together downstream: the message or the alert.
fn key(table: &Table, row: &Row<'_>) -> Option<Box<str>> {
    let text = match table {
        Table::AlertInfo | Table::AlertEvidence => row.text(Column::AlertId),
        Table::Other(_) => row.text(Column::NetworkMessageId).or_else(|| row.text(Column::AlertId)),
        _ => row.text(Column::NetworkMessageId),
    };
    text.map(|text| text.into_owned().into_boxed_str())
}

/// The mailbox that a mail row is about. Of a click it is the account that clicked.
fn recipient(table: &Table, row: &Row<'_>) -> Option<Box<str>> {
    let column = match table {
        Table::EmailEvents | Table::EmailPostDeliveryEvents | Table::EmailAttachmentInfo => {
            Column::RecipientEmailAddress
        }
        Table::UrlClickEvents => Column::AccountUpn,
        _ => return None,
    };
    let mut address = row.text(column)?.into_owned();
    address.make_ascii_lowercase();
    Some(address.into_boxed_str())
}

/// A position as text, moved to the record inside its chunk.
fn position(chunk: &Position, line: u64, start: usize) -> String {
    let start = u64::try_from(start).unwrap_or_default();
    match chunk {
        Position::File { path, line: 0, offset } => format!("{path}@{}", offset + start),
        Position::File { path, line: first, .. } => format!("{path}:{}", first + line),
        other if start == 0 => other.to_string(),
        other => format!("{other}+{start}"),
    }
}
