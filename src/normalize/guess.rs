//! Which table a bare row is from, by the columns that it has. Used where nothing names the table.

use super::column::Column;
use super::row::Row;
use crate::domain::Table;

/// The table that `row` most likely belongs to; `Other` without a name if no column tells. A key counts
/// when it is there, whatever its value.
#[must_use]
pub fn table(row: &Row<'_>) -> Table {
    const OVERRIDES: [Column; 4] = [
        Column::OrgLevelAction,
        Column::OrgLevelPolicy,
        Column::UserLevelAction,
        Column::UserLevelPolicy,
    ];
    let message = row.has(Column::NetworkMessageId);
    if row.has(Column::DeliveryAction) || OVERRIDES.iter().any(|column| row.has(*column)) {
        Table::EmailEvents
    } else if row.has(Column::ActionResult) {
        Table::EmailPostDeliveryEvents
    } else if row.has(Column::IsClickedThrough) {
        Table::UrlClickEvents
    } else if row.has(Column::EntityType) {
        Table::AlertEvidence
    } else if row.has(Column::SHA256) && message {
        Table::EmailAttachmentInfo
    } else if row.has(Column::UrlLocation) {
        Table::EmailUrlInfo
    } else {
        Table::Other("".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Table) {
        assert_eq!(table(&Row::parse(json.as_bytes()).unwrap()), expected, "{json}");
    }

    #[test]
    fn a_bare_row_is_known_by_its_columns() {
        check(r#"{"DeliveryAction":null,"ActionResult":"x"}"#, Table::EmailEvents);
        check(r#"{"UserLevelPolicy":"x"}"#, Table::EmailEvents);
        check(
            r#"{"ActionResult":"Success","DeliveryLocation":"x"}"#,
            Table::EmailPostDeliveryEvents,
        );
        check(r#"{"IsClickedThrough":false}"#, Table::UrlClickEvents);
        check(
            r#"{"EntityType":"User","SHA256":null,"NetworkMessageId":null}"#,
            Table::AlertEvidence,
        );
        check(r#"{"SHA256":null,"NetworkMessageId":"m"}"#, Table::EmailAttachmentInfo);
        check(r#"{"SHA256":"x"}"#, Table::Other("".into()));
        check(r#"{"UrlLocation":"Body"}"#, Table::EmailUrlInfo);
        check(r#"{"Title":"x"}"#, Table::Other("".into()));
    }
}
