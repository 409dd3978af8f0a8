//! Base Event, class 0: rows that OCSF has no class for, or that lack what their class asks for. The row's
//! columns stay under `unmapped`, by their own names.

use crate::domain::Kind;
use crate::normalize::Column;
use crate::prepared_key;

use super::{Document, words};

/// Columns worth pivoting on, with the number that OCSF gives such a value.
const OBSERVABLE: [(Column, &str, i64); 10] = [
    (Column::AccountUpn, "unmapped.AccountUpn", 4),
    (Column::RecipientEmailAddress, "unmapped.RecipientEmailAddress", 5),
    (Column::SenderFromAddress, "unmapped.SenderFromAddress", 5),
    (Column::IPAddress, "unmapped.IPAddress", 2),
    (Column::RemoteIP, "unmapped.RemoteIP", 2),
    (Column::Url, "unmapped.Url", 6),
    (Column::RemoteUrl, "unmapped.RemoteUrl", 6),
    (Column::UrlDomain, "unmapped.UrlDomain", 1),
    (Column::FileName, "unmapped.FileName", 7),
    (Column::SHA256, "unmapped.SHA256", 8),
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
    } else {
        document.member(prepared_key!("message"), Column::Title);
    }
    document.is_alert();
    document.overrides();
    observables(document);
    let security_control = words::is_alert(&decision.tags) || !decision.overrides.is_empty();
    document.metadata(security_control);
    document.unmapped(None);
    document.json.close();
}

fn observables(document: &mut Document<'_, '_>) {
    let mut any = false;
    for (column, name, type_id) in OBSERVABLE {
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
        document.json.plain(name.as_bytes());
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
