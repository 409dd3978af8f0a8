//! Base Event, class 0: rows that OCSF has no class for, or that lack what their class asks for. The row's
//! columns stay under `unmapped`, by their own names.

use crate::domain::Kind;
use crate::normalize::{Column, Row, field};
use crate::prepared_key;

use super::{Document, words};

/// Columns worth pivoting on, with the number that OCSF gives such a value.
const OBSERVABLE: [(Column, i64); 10] = [
    (Column::AccountUpn, 4),
    (Column::RecipientEmailAddress, 5),
    (Column::SenderFromAddress, 5),
    (Column::IPAddress, 2),
    (Column::RemoteIP, 2),
    (Column::Url, 6),
    (Column::RemoteUrl, 6),
    (Column::UrlDomain, 1),
    (Column::FileName, 7),
    (Column::SHA256, 8),
];

pub(super) fn write(document: &mut Document<'_, '_>) {
    let decision = &document.event.decision;
    document.json.prepared(
        b"{\"class_uid\":0,\"category_uid\":0,\"activity_id\":0,\"type_uid\":0,\"time\":",
    );
    document.time();
    let own = document.row.text(Column::Severity).map_or(0, |word| words::severity_word(&word));
    document.json.key("severity_id");
    document.json.int(own.max(words::severity(&decision.tags)));
    if document.event.kind == Kind::Gap {
        if let Some(detail) = document.row.text_of("detail") {
            document.json.key("message");
            document.json.text(&detail);
        }
    } else if !document.member(prepared_key!("message"), Column::Title)
        && let Some(title) = own_title(document)
    {
        document.json.key("message");
        document.json.text(&title);
    }
    document.is_alert();
    document.overrides();
    observables(document);
    let security_control = words::is_alert(&decision.tags) || !decision.overrides.is_empty();
    document.metadata(security_control);
    document.unmapped(None);
    document.json.close();
}

/// What a record that is no row calls itself.
fn own_title(document: &Document<'_, '_>) -> Option<String> {
    let names: &[&str] = match document.event.kind {
        Kind::Incident => &["displayName", "incidentName"],
        Kind::Alert => &["Name"],
        Kind::Investigation => &["InvestigationName"],
        Kind::Submission | Kind::Quarantine => &["Operation"],
        _ => &[],
    };
    field::first(document.row, names).map(std::borrow::Cow::into_owned)
}

/// The column's name as the record spells it, since that is where `unmapped` has it.
fn own_name<'r>(row: &'r Row<'_>, column: Column) -> &'r str {
    let mut entries = row.entries();
    entries.find(|(known, ..)| *known == Some(column)).map_or(column.name(), |(_, name, _)| name)
}

fn observables(document: &mut Document<'_, '_>) {
    let mut any = false;
    for (column, type_id) in OBSERVABLE {
        let Some(text) = document.row.text(column) else { continue };
        // Only a text points to itself: what is something else is not such a value at all.
        if !document.row.json_text(column).is_some_and(|json| json.starts_with('"')) {
            continue;
        }
        if !any {
            any = true;
            document.json.key("observables");
            document.json.open_list();
        }
        document.json.element();
        document.json.open();
        document.json.key("name");
        let name = own_name(document.row, column);
        document.json.joined(&["unmapped.", name]);
        document.json.key("type_id");
        document.json.int(type_id);
        document.json.key("value");
        document.value(column, &text);
        document.json.close();
    }
    if any {
        document.json.close_list();
    }
}
