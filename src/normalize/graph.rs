//! Incidents and alerts of Microsoft Graph (and, by their older names, of the older API). Which of them a chunk
//! holds is said by its shape; what their titles mean is `tagging`'s business.
//!
//! | | incident | alert |
//! |---|---|---|
//! | kind, table | `incident`, `incidents` | `alert`, `alerts_v2` |
//! | identity | incident id, `lastUpdateDateTime` | alert id, `lastUpdateDateTime` |
//! | key | incident id | alert id |
//! | occurred | `createdDateTime` | `createdDateTime` |
//! | observed | `lastUpdateDateTime` | `lastUpdateDateTime` |
//!
//! So each change of an incident is a new event, and "late" is measured from the change, not from the beginning.
//! An incident that was merged away keeps its `redirectIncidentId` in the record. An alert that names no tenant
//! is of its incident's.

use std::borrow::Cow;

use super::field;
use super::item::{Item, Part};
use super::row::Row;
use crate::domain::{Kind, Table, Ticks};

/// An incident.
pub(super) fn incident<'a>(row: &Row<'a>) -> Item<'a> {
    item(row, Kind::Incident, "incidents", &["id", "incidentId"], Cow::Borrowed(""))
}

/// An alert; `tenant` is that of the incident it was expanded in.
pub(super) fn alert<'a>(row: &Row<'a>, tenant: Cow<'a, str>) -> Item<'a> {
    item(row, Kind::Alert, "alerts_v2", &["id", "alertId"], tenant)
}

fn item<'a>(
    row: &Row<'a>,
    kind: Kind,
    table: &str,
    ids: &[&str],
    tenant: Cow<'a, str>,
) -> Item<'a> {
    let id = field::first(row, ids);
    let updated = field::first(row, &["lastUpdateDateTime", "lastUpdateTime", "lastUpdatedTime"]);
    let created = field::first(row, &["createdDateTime", "createdTime", "creationTime"]);
    Item {
        kind,
        table: Table::Other(table.into()),
        unknown_table: false,
        tenant: field::text(row, "tenantId").unwrap_or(tenant),
        identity: (
            kind.as_str(),
            vec![
                Part::Text(id.clone().unwrap_or_default()),
                Part::Time(updated.clone().unwrap_or_default()),
            ],
        ),
        key: id,
        recipient: None,
        occurred: created.as_deref().and_then(Ticks::parse),
        observed: updated.as_deref().and_then(Ticks::parse),
        time_field: "createdDateTime",
    }
}
