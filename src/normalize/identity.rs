//! The public identity of a record: the same row has the same id over every transport, on every
//! installation, for ever. Nothing here may change once events have been written; the golden ids in the
//! tests say so. It is not a hash of JSON text, and not keyed.
//!
//! # Layout
//!
//! An id is the first 16 bytes of the BLAKE3 hash of these bytes, in this order:
//!
//! | part | bytes |
//! |---|---|
//! | version | `01` |
//! | tenant | *text*: the Entra tenant id, trimmed, ASCII letters lower-cased; empty if unknown |
//! | table or kind | *text*: the table's name as Microsoft spells it (`EmailEvents`), else a kind (`gap`) |
//! | mode | `6B` (`k`) if identity columns follow, `6F` (`o`) if a whole object follows |
//! | mode `k` | each identity column in the order of the table below, then the revision where there is one |
//! | mode `o` | all columns as one *object* |
//!
//! *text* is a length (32 bits, little endian) and that many bytes of UTF-8, without white space (Unicode
//! `White_Space`) at both ends. A column that is null, missing or empty is a text of length 0.
//! A point in time is a text of length 8: 100 ns ticks since 1970-01-01T00:00:00Z as a signed 64-bit number,
//! little endian; one that cannot be read is its text. An address is a text with ASCII letters
//! lower-cased. A boolean (also `0`, `1`, or as text) is the text `true` or `false`. `{}` is null, since hunting
//! has been seen to write so.
//!
//! | table | identity columns |
//! |---|---|
//! | `EmailEvents` | `NetworkMessageId`, `RecipientEmailAddress` (address), `ReportId`, `Timestamp` (time), revision |
//! | `EmailPostDeliveryEvents` | `NetworkMessageId`, `RecipientEmailAddress` (address), `Timestamp` (time), `ActionType`, `Action`, `ReportId` |
//! | `EmailUrlInfo` | `NetworkMessageId`, `ReportId`, `Url`, `UrlLocation` |
//! | `EmailAttachmentInfo` | `NetworkMessageId`, `RecipientEmailAddress` (address), `ReportId`, `SHA256`, `FileName` |
//! | `UrlClickEvents` | `ReportId`, `Timestamp` (time), `AccountUpn` (address), `ActionType`, `IsClickedThrough` (boolean), `Url` |
//! | `AlertEvidence` | `AlertId`, `EntityType`, `EvidenceRole`, `MergeByKeyHex` inside `AdditionalFields`; without the last, mode `o` |
//! | `AlertInfo`, any other | mode `o` |
//!
//! | record, under this name | identity |
//! |---|---|
//! | incident, `incident` | incident id, `lastUpdateDateTime` (time) |
//! | alert of Graph, `alert` | alert id, `lastUpdateDateTime` (time) |
//! | audit record, `activity` | `Id` |
//! | submission of the audit log, `submission` | `SubmissionId`, state |
//! | user's report, `submission` | message id without angle brackets, reporter (address), time |
//! | `gap` | source, what is missing, from, to |
//!
//! Where the first identity column is missing, mode `o` is used and the record gets the issue
//! `identity_fallback`.
//!
//! The revision of an `EmailEvents` row is a text of length 32: the whole BLAKE3 hash of `ThreatTypes`,
//! `DetectionMethods`, `ConfidenceLevel`, `OrgLevelAction`, `OrgLevelPolicy`, `UserLevelAction`,
//! `UserLevelPolicy`, `DeliveryAction`, `DeliveryLocation`, each as a *value* with ASCII letters (keys too)
//! lower-cased; a value that is left out is the byte `00`.
//!
//! A *value* is one of
//!
//! * left out: null, text without content, an object or array in which everything is left out;
//! * `73` (`s`) and a *text*: a text, or `true` or `false`, or a number. A whole number is its decimal digits
//!   (`-0` is `0`); another number is the shortest decimal text that reads back as the same 64-bit float,
//!   without an exponent, and without a fraction where that is zero; one that no such float can hold stays
//!   as written;
//! * `74` (`t`) and 8 bytes of ticks: a time column, in mode `o` only;
//! * `61` (`a`), a count (32 bits, little endian) and so many values: an array, without what is left out;
//! * `6F` (`o`), a count and so many pairs of *text* (the key) and value, sorted by the bytes of the key:
//!   an object, without what is left out. Of repeated keys the last one counts.
//!
//! A text that begins with `{`, `[` or `"` and is JSON (nested no deeper than 64) counts as the JSON that it
//! holds, three such levels deep. In mode `o` a known column counts by its name as Microsoft spells it; `RecipientEmailAddress`,
//! `SenderFromAddress`, `SenderMailFromAddress` and `AccountUpn` are addresses; columns that begin with
//! `__UDI_RequiredFields_` are left out, and for the seven typed tables also those that Sentinel adds
//! (`TenantId`, `Type`, `SourceSystem`, `TimeGenerated`, `LastEventExecutionTime`), and those that a hunting
//! query adds: `IngestionTime` and every name that begins with `_`. A column that is a boolean counts as
//! `true` or `false` in mode `o`, too.

use std::borrow::Cow;

use super::canonical::{self, Case};
use super::column::{Column, Shape};
use super::item::Part;
use super::row::Row;
use crate::domain::{EventId, Gap, Kind, Table, Ticks};

/// The version byte. A change of anything in the layout is a new version, and every id changes with it.
const VERSION: u8 = 1;

const COLUMNS_MODE: u8 = b'k';
const OBJECT_MODE: u8 = b'o';

/// The columns whose change makes an `EmailEvents` row a new revision.
const REVISION: [Column; 9] = [
    Column::ThreatTypes,
    Column::DetectionMethods,
    Column::ConfidenceLevel,
    Column::OrgLevelAction,
    Column::OrgLevelPolicy,
    Column::UserLevelAction,
    Column::UserLevelPolicy,
    Column::DeliveryAction,
    Column::DeliveryLocation,
];

const ADDRESSES: [Column; 4] = [
    Column::RecipientEmailAddress,
    Column::SenderFromAddress,
    Column::SenderMailFromAddress,
    Column::AccountUpn,
];

/// Columns that Sentinel adds to a row of any table.
const OF_SENTINEL: [Column; 5] = [
    Column::TenantId,
    Column::Type,
    Column::SourceSystem,
    Column::TimeGenerated,
    Column::LastEventExecutionTime,
];

/// An id, and whether all columns had to stand in for a missing first identity column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identified {
    /// The id.
    pub id: EventId,
    /// Whether the record gets the issue `identity_fallback`.
    pub fallback: bool,
}

/// Collects the bytes of one identity. Its memory is used again for the next one.
#[derive(Debug, Default)]
pub struct Identity {
    bytes: Vec<u8>,
    revision: Vec<u8>,
}

impl Identity {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), revision: Vec::new() }
    }

    /// The id of a row of `table`.
    pub fn of_row(&mut self, tenant: &str, table: &Table, row: &Row<'_>) -> Identified {
        self.of_columns(tenant, table, row, true)
    }

    /// What stays the same while a row's revision changes: the id's columns alone. For tables without a revision
    /// it is the id.
    pub fn key_of_row(&mut self, tenant: &str, table: &Table, row: &Row<'_>) -> EventId {
        self.of_columns(tenant, table, row, false).id
    }

    fn of_columns(
        &mut self,
        tenant: &str,
        table: &Table,
        row: &Row<'_>,
        with_revision: bool,
    ) -> Identified {
        let (first, columns): (Column, &[Column]) = match table {
            Table::EmailEvents => (
                Column::NetworkMessageId,
                &[Column::RecipientEmailAddress, Column::ReportId, Column::Timestamp],
            ),
            Table::EmailPostDeliveryEvents => (
                Column::NetworkMessageId,
                &[
                    Column::RecipientEmailAddress,
                    Column::Timestamp,
                    Column::ActionType,
                    Column::Action,
                    Column::ReportId,
                ],
            ),
            Table::EmailUrlInfo => {
                (Column::NetworkMessageId, &[Column::ReportId, Column::Url, Column::UrlLocation])
            }
            Table::EmailAttachmentInfo => (
                Column::NetworkMessageId,
                &[
                    Column::RecipientEmailAddress,
                    Column::ReportId,
                    Column::SHA256,
                    Column::FileName,
                ],
            ),
            Table::UrlClickEvents => (
                Column::ReportId,
                &[
                    Column::Timestamp,
                    Column::AccountUpn,
                    Column::ActionType,
                    Column::IsClickedThrough,
                    Column::Url,
                ],
            ),
            Table::AlertEvidence => (Column::AlertId, &[Column::EntityType, Column::EvidenceRole]),
            Table::AlertInfo | Table::Other(_) => return self.of_all(tenant, table, row, false),
        };
        let Some(value) = row.text(first) else { return self.of_all(tenant, table, row, true) };
        let merge_key = match table {
            Table::AlertEvidence => match merge_key(row) {
                Some(key) => Some(key),
                None => return self.of_all(tenant, table, row, false),
            },
            _ => None,
        };
        self.start(tenant, table.name(), COLUMNS_MODE);
        self.text(&value);
        for column in columns {
            self.column(row, *column);
        }
        if let Some(key) = merge_key {
            self.text(key.trim());
        }
        if with_revision && *table == Table::EmailEvents {
            self.revision(row);
        }
        Identified { id: self.finish(), fallback: false }
    }

    /// The key of one message to one recipient, for "seen before?"; `None` without a message id.
    pub fn of_mail(&mut self, tenant: &str, row: &Row<'_>) -> Option<EventId> {
        let message = row.text(Column::NetworkMessageId)?;
        self.start(tenant, "mail", COLUMNS_MODE);
        self.text(&message);
        self.column(row, Column::RecipientEmailAddress);
        Some(self.finish())
    }

    /// The id of a gap: source, what is missing, from, to.
    pub fn of_gap(&mut self, tenant: &str, gap: &Gap) -> EventId {
        self.start(tenant, Kind::Gap.as_str(), COLUMNS_MODE);
        for text in [&gap.source, &gap.what, &gap.from, &gap.to] {
            self.text(text.trim());
        }
        self.finish()
    }

    /// The id of something else than a row: its kind and its identity columns in their order.
    pub fn of_kind(&mut self, tenant: &str, kind: Kind, columns: &[&str]) -> EventId {
        self.start(tenant, kind.as_str(), COLUMNS_MODE);
        for text in columns {
            self.text(text.trim());
        }
        self.finish()
    }

    /// The id of a record that is no row: its name and its identity columns. Where the first of them is
    /// empty, all fields of `row` count.
    pub(super) fn of_item(
        &mut self,
        tenant: &str,
        (name, parts): &(&'static str, Vec<Part<'_>>),
        row: &Row<'_>,
    ) -> Identified {
        if parts.first().is_none_or(Part::is_empty) {
            return self.of_all(tenant, &Table::Other((*name).into()), row, true);
        }
        self.start(tenant, name, COLUMNS_MODE);
        for part in parts {
            match part {
                Part::Text(text) => self.text(text.trim()),
                Part::Address(text) => self.address(text.trim()),
                Part::Time(text) => self.time(text.trim()),
            }
        }
        Identified { id: self.finish(), fallback: false }
    }

    fn of_all(&mut self, tenant: &str, table: &Table, row: &Row<'_>, fallback: bool) -> Identified {
        self.start(tenant, table.name(), OBJECT_MODE);
        let typed = !matches!(table, Table::Other(_));
        let mut members: Vec<(Cow<'_, str>, Vec<u8>)> = Vec::new();
        for (name, json) in row.columns() {
            let column = Column::from_name(name);
            let foreign = match column {
                Some(column) => OF_SENTINEL.contains(&column),
                None => is_of_a_query(name),
            };
            if typed && foreign {
                continue;
            }
            let mut value = Vec::new();
            match column {
                Some(column) if column.shape() == Shape::Time => match row.time(column) {
                    Some(ticks) => {
                        value.push(b't');
                        value.extend_from_slice(&ticks.0.to_le_bytes());
                    }
                    None => canonical::value(json, Case::Kept, &mut value),
                },
                Some(column) if typed && column.shape() == Shape::Flag => match row.flag(column) {
                    Some(true) => canonical::value("true", Case::Kept, &mut value),
                    Some(false) => canonical::value("false", Case::Kept, &mut value),
                    None => canonical::value(json, Case::Kept, &mut value),
                },
                Some(column) if ADDRESSES.contains(&column) => {
                    canonical::value(json, Case::Folded, &mut value);
                }
                _ => canonical::value(json, Case::Kept, &mut value),
            }
            if !value.is_empty() {
                let name = column.map_or_else(|| Cow::Borrowed(name), |c| c.name().into());
                members.push((name, value));
            }
        }
        members.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        canonical::object(&members, &mut self.bytes);
        Identified { id: self.finish(), fallback }
    }

    fn start(&mut self, tenant: &str, table: &str, mode: u8) {
        self.bytes.clear();
        self.bytes.push(VERSION);
        self.address(tenant.trim());
        self.text(table);
        self.bytes.push(mode);
    }

    fn column(&mut self, row: &Row<'_>, column: Column) {
        let Some(text) = row.text(column) else { return self.text("") };
        if ADDRESSES.contains(&column) {
            return self.address(&text);
        }
        match column.shape() {
            Shape::Time => self.time(&text),
            Shape::Flag => match row.flag(column) {
                Some(true) => self.text("true"),
                Some(false) => self.text("false"),
                None => self.text(&text),
            },
            Shape::Text | Shape::Number | Shape::Json | Shape::Any => self.text(&text),
        }
    }

    fn revision(&mut self, row: &Row<'_>) {
        self.revision.clear();
        for column in REVISION {
            let before = self.revision.len();
            if let Some(json) = row.json_text(column) {
                canonical::value(json, Case::Folded, &mut self.revision);
            }
            if self.revision.len() == before {
                self.revision.push(0);
            }
        }
        let hash = blake3::hash(&self.revision);
        canonical::text(hash.as_bytes(), Case::Kept, &mut self.bytes);
    }

    fn text(&mut self, text: &str) {
        canonical::text(text.as_bytes(), Case::Kept, &mut self.bytes);
    }

    fn time(&mut self, text: &str) {
        match Ticks::parse(text) {
            Some(ticks) => canonical::text(&ticks.0.to_le_bytes(), Case::Kept, &mut self.bytes),
            None => self.text(text),
        }
    }

    fn address(&mut self, text: &str) {
        canonical::text(text.as_bytes(), Case::Folded, &mut self.bytes);
    }

    fn finish(&self) -> EventId {
        first_half(&blake3::hash(&self.bytes))
    }
}

/// Whether a column that is not known here is one that a hunting query adds to a row of a typed table.
pub(super) fn is_of_a_query(name: &str) -> bool {
    name.starts_with('_') || name.eq_ignore_ascii_case("IngestionTime")
}

/// The first 16 bytes of a hash.
pub(super) fn first_half(hash: &blake3::Hash) -> EventId {
    let mut id = [0; 16];
    for (place, byte) in id.iter_mut().zip(hash.as_bytes()) {
        *place = *byte;
    }
    EventId(id)
}

/// The stable key of an entity, which `AlertEvidence` rows carry inside `AdditionalFields`.
fn merge_key(row: &Row<'_>) -> Option<String> {
    let fields = row.json(Column::AdditionalFields)?;
    let (_, key) =
        fields.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case("MergeByKeyHex"))?;
    key.as_str().map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned)
}
