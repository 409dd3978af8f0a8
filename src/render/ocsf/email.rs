//! Email Activity, class 4009: one mail row. Which column goes where is the schema's business; what the mail
//! is tagged with was decided before.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;

use crate::domain::{Event, Kind};
use crate::normalize::{Column, Row};
use crate::prepared_key;

use super::Document;
use super::mailbox::{Authentication, Listed, is_address, list};
use super::words::{self, Activity, Direction};

/// The addresses of a row in the form that the schema takes.
struct Addresses<'a> {
    from: Option<Cow<'a, str>>,
    envelope_from: Option<Cow<'a, str>>,
    recipient: Option<Cow<'a, str>>,
    to: Vec<Listed<'a>>,
    cc: Vec<Listed<'a>>,
}

impl<'a> Addresses<'a> {
    fn of(row: &Row<'a>) -> Self {
        let address = |column| row.text(column).filter(|text| is_address(text));
        Self {
            from: address(Column::SenderFromAddress),
            envelope_from: address(Column::SenderMailFromAddress),
            recipient: address(Column::RecipientEmailAddress),
            to: list(row, Column::To),
            cc: list(row, Column::Cc),
        }
    }

    fn has_from_or_to(&self) -> bool {
        self.from.is_some()
            || self.recipient.is_some()
            || self.to.iter().any(|listed| listed.is_address)
    }
}

/// Writes the document, or nothing (and says so) where the row names neither a sender nor a recipient.
pub(super) fn write(document: &mut Document<'_, '_>) -> bool {
    let Document { event, row, .. } = *document;
    let addresses = Addresses::of(row);
    if !addresses.has_from_or_to() {
        return false;
    }
    head(document, event, row);
    document.is_alert();
    confidence(document);
    document.member(prepared_key!("message_trace_uid"), Column::NetworkMessageId);
    envelope(document, &addresses);
    email(document, &addresses);
    let authentication = Authentication::of(row);
    email_auth(document, authentication.as_ref());
    let sender_ip = src_endpoint(document);
    malware(document);
    policy(document);
    document.overrides();
    observables(document, &addresses, sender_ip);
    document.metadata(true);
    let comp_auth = authentication.as_ref().and_then(|found| found.comp_auth.as_deref());
    document.unmapped(comp_auth.map(|word| ("CompAuth", word)));
    document.json.close();
    true
}

fn head(document: &mut Document<'_, '_>, event: &Event, row: &Row<'_>) {
    let text = |column| row.text(column).unwrap_or_default();
    let direction = words::direction(&text(Column::EmailDirection));
    let activity = match event.kind {
        Kind::Email => words::activity(direction, &event.decision.tags),
        _ => Activity::Scan,
    };
    document.json.prepared(match activity {
        Activity::Unknown => START_UNKNOWN,
        Activity::Send => START_SEND,
        Activity::Receive => START_RECEIVE,
        Activity::Scan => START_SCAN,
    });
    document.time();
    document.json.prepared_key(prepared_key!("severity_id"));
    document.json.int(words::severity(&event.decision.tags));
    document.json.prepared(match direction {
        Direction::Unknown => b",\"direction_id\":0",
        Direction::Inbound => b",\"direction_id\":1",
        Direction::Outbound => b",\"direction_id\":2",
        Direction::Internal => b",\"direction_id\":3",
    });
    let (status, disposition) = match event.kind {
        Kind::Email => {
            let (action, location) = (text(Column::DeliveryAction), text(Column::DeliveryLocation));
            let disposition = words::at_delivery(&action, &location);
            (words::delivery_status(action, &location), disposition)
        }
        Kind::EmailPostDelivery => {
            let status = words::action_status(&text(Column::ActionResult));
            let disposition = words::after_delivery(text(Column::Action), status.0);
            ((status.0, Cow::Borrowed(status.1)), disposition)
        }
        // What a mail carries says nothing about what became of it.
        _ => return,
    };
    enumerated(
        document,
        [prepared_key!("status_id"), prepared_key!("status")],
        status.0,
        &status.1,
    );
    if event.kind == Kind::EmailPostDelivery {
        document.member(prepared_key!("status_code"), Column::ActionResult);
    }
    let (action, caption) = disposition.action;
    enumerated(document, [prepared_key!("action_id"), prepared_key!("action")], action, caption);
    let (id, text) = disposition.disposition;
    enumerated(
        document,
        [prepared_key!("disposition_id"), prepared_key!("disposition")],
        id,
        &text,
    );
}

pub(super) const START_UNKNOWN: &[u8] =
    br#"{"class_uid":4009,"category_uid":4,"activity_id":0,"type_uid":400900,"time":"#;
pub(super) const START_SEND: &[u8] =
    br#"{"class_uid":4009,"category_uid":4,"activity_id":1,"type_uid":400901,"time":"#;
pub(super) const START_RECEIVE: &[u8] =
    br#"{"class_uid":4009,"category_uid":4,"activity_id":2,"type_uid":400902,"time":"#;
pub(super) const START_SCAN: &[u8] =
    br#"{"class_uid":4009,"category_uid":4,"activity_id":3,"type_uid":400903,"time":"#;

pub(super) fn enumerated(
    document: &mut Document<'_, '_>,
    keys: [&'static str; 2],
    id: i64,
    text: &str,
) {
    let [id_key, key] = keys;
    document.json.prepared_key(id_key);
    document.json.int(id);
    document.json.prepared_key(key);
    document.json.text(text);
}

fn confidence(document: &mut Document<'_, '_>) {
    let (id, caption) = words::confidence(document.event, document.row);
    enumerated(
        document,
        [prepared_key!("confidence_id"), prepared_key!("confidence")],
        id,
        caption,
    );
}

/// The envelope's own sender and recipient stand at the top level.
fn envelope(document: &mut Document<'_, '_>, addresses: &Addresses<'_>) {
    if let Some(from) = &addresses.envelope_from {
        document.json.prepared_key(prepared_key!("from"));
        document.value(Column::SenderMailFromAddress, from);
        document.mark(Column::SenderMailFromAddress);
    }
    if let Some(recipient) = &addresses.recipient {
        document.json.prepared_key(prepared_key!("to"));
        one(document, Column::RecipientEmailAddress, recipient);
        document.mark(Column::RecipientEmailAddress);
    }
}

#[expect(clippy::ptr_arg, reason = "as `Document::value`")]
fn one(document: &mut Document<'_, '_>, column: Column, text: &Cow<'_, str>) {
    document.json.open_list();
    document.value(column, text);
    document.json.close_list();
}

fn email(document: &mut Document<'_, '_>, addresses: &Addresses<'_>) {
    document.json.prepared_key(prepared_key!("email"));
    document.json.open();
    if let Some(from) = &addresses.from {
        document.json.prepared_key(prepared_key!("from"));
        document.value(Column::SenderFromAddress, from);
        document.mark(Column::SenderFromAddress);
        if let Some(name) = document.row.text(Column::SenderDisplayName) {
            from_mailbox(document, &name, from);
            document.mark(Column::SenderDisplayName);
        }
    }
    header_list(
        document,
        [prepared_key!("to"), prepared_key!("to_mailboxes")],
        Column::To,
        &addresses.to,
    );
    if let Some(recipient) = &addresses.recipient {
        if !addresses.to.iter().any(|listed| listed.is_address) {
            document.json.prepared_key(prepared_key!("to"));
            one(document, Column::RecipientEmailAddress, recipient);
        }
        document.json.prepared_key(prepared_key!("delivered_to_list"));
        one(document, Column::RecipientEmailAddress, recipient);
    }
    header_list(
        document,
        [prepared_key!("cc"), prepared_key!("cc_mailboxes")],
        Column::Cc,
        &addresses.cc,
    );
    if let Some(from) = &addresses.envelope_from {
        document.json.prepared_key(prepared_key!("return_path"));
        document.value(Column::SenderMailFromAddress, from);
    }
    document.member(prepared_key!("message_uid"), Column::InternetMessageId);
    document.member(prepared_key!("subject"), Column::Subject);
    if let Some(size) = document.row.int(Column::EmailSize) {
        document.json.prepared_key(prepared_key!("size"));
        document.json.int(size);
        document.mark(Column::EmailSize);
    }
    urls(document);
    files(document);
    document.json.close();
}

/// `"Display name" <address>`, the name quoted as mail headers quote it.
fn from_mailbox(document: &mut Document<'_, '_>, name: &str, address: &str) {
    document.json.prepared_key(prepared_key!("from_mailbox"));
    if name.contains(['"', '\\']) {
        let name = name.replace('\\', "\\\\").replace('"', "\\\"");
        document.json.joined(&["\"", &name, "\" <", address, ">"]);
    } else {
        document.json.joined(&["\"", name, "\" <", address, ">"]);
    }
}

/// Header addresses; what is no bare address goes to the list of mailboxes as text.
fn header_list(
    document: &mut Document<'_, '_>,
    [key, mailboxes]: [&'static str; 2],
    column: Column,
    listed: &[Listed<'_>],
) {
    for (key, wanted) in [(key, true), (mailboxes, false)] {
        let mut any = false;
        for Listed { text, .. } in listed.iter().filter(|it| it.is_address == wanted) {
            if any {
                document.json.element();
            } else {
                any = true;
                document.json.prepared_key(key);
                document.json.open_list();
            }
            document.json.text(text);
        }
        if any {
            document.json.close_list();
        }
    }
    document.mark(column);
}

fn urls(document: &mut Document<'_, '_>) {
    if document.row.text(Column::Url).is_none() {
        return;
    }
    document.json.prepared_key(prepared_key!("urls"));
    document.json.open_list();
    document.json.open();
    document.member(prepared_key!("url_string"), Column::Url);
    document.member(prepared_key!("hostname"), Column::UrlDomain);
    document.json.close();
    document.json.close_list();
}

fn files(document: &mut Document<'_, '_>) {
    if document.row.text(Column::FileName).is_none() {
        return;
    }
    document.json.prepared_key(prepared_key!("files"));
    document.json.open_list();
    document.json.open();
    document.member(prepared_key!("name"), Column::FileName);
    document.json.prepared(b",\"type_id\":1");
    if let Some(extension) = document.row.text(Column::FileExtension) {
        document.json.prepared_key(prepared_key!("ext"));
        document.json.text(extension.trim_start_matches('.'));
        document.mark(Column::FileExtension);
    }
    if let Some(size) = document.row.int(Column::FileSize) {
        document.json.prepared_key(prepared_key!("size"));
        document.json.int(size);
        document.mark(Column::FileSize);
    }
    if document.row.text(Column::SHA256).is_some() {
        document.json.prepared(b",\"hashes\":[{\"algorithm_id\":3,\"algorithm\":\"SHA-256\"");
        document.member(prepared_key!("value"), Column::SHA256);
        document.json.prepared(b"}]");
    }
    document.json.close();
    document.json.close_list();
}

fn email_auth(document: &mut Document<'_, '_>, found: Option<&Authentication<'_>>) {
    let Some(found) = found else { return };
    let words = [
        (prepared_key!("spf"), &found.spf),
        (prepared_key!("dkim"), &found.dkim),
        (prepared_key!("dmarc"), &found.dmarc),
    ];
    if words.iter().any(|(_, word)| word.is_some()) {
        document.json.prepared_key(prepared_key!("email_auth"));
        document.json.open();
        for (key, word) in words {
            if let Some(word) = word {
                document.json.prepared_key(key);
                document.json.text(word);
            }
        }
        document.json.close();
    }
    if found.is_complete {
        document.mark(Column::AuthenticationDetails);
    }
}

/// The last relaying server. `0.0.0.0`, which stands for mail made inside the service, is no endpoint.
fn src_endpoint(document: &mut Document<'_, '_>) -> Option<Column> {
    let row = document.row;
    let is_v4 = |text: &str| text.parse().is_ok_and(|it: Ipv4Addr| !it.is_unspecified());
    let is_v6 = |text: &str| text.parse().is_ok_and(|it: Ipv6Addr| !it.is_unspecified());
    let column = match () {
        () if row.text(Column::SenderIPv4).is_some_and(|text| is_v4(&text)) => Column::SenderIPv4,
        () if row.text(Column::SenderIPv6).is_some_and(|text| is_v6(&text)) => Column::SenderIPv6,
        () => return None,
    };
    document.json.prepared_key(prepared_key!("src_endpoint"));
    document.json.open();
    document.member(prepared_key!("ip"), column);
    document.json.close();
    Some(column)
}

fn malware(document: &mut Document<'_, '_>) {
    let row = document.row;
    let Some(types) = row.text(Column::ThreatTypes) else { return };
    let Some(word) = words::malware_word(&types) else { return };
    let names = row
        .text(Column::ThreatNames)
        .filter(|_| row.json_text(Column::ThreatNames).is_some_and(|json| json.starts_with('"')))
        .filter(|names| !names.chars().all(|it| it == ',' || it.is_whitespace()));
    if names.is_some() {
        document.mark(Column::ThreatNames);
    }
    document.json.prepared_key(prepared_key!("malware"));
    document.json.open_list();
    // A name is asked for; where none is given, the source's word for the threat is all there is.
    let names_or_word = names.as_deref().unwrap_or(word);
    for name in names_or_word.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        document.json.element();
        document.json.prepared(b"{\"classification_ids\":[0]");
        document.json.prepared_key(prepared_key!("name"));
        document.json.text(name);
        document.json.close();
    }
    document.json.close_list();
}

fn policy(document: &mut Document<'_, '_>) {
    let row = document.row;
    if row.text(Column::EmailActionPolicy).is_none()
        && row.text(Column::EmailActionPolicyGuid).is_none()
    {
        return;
    }
    document.json.prepared_key(prepared_key!("policy"));
    document.json.open();
    document.member(prepared_key!("name"), Column::EmailActionPolicy);
    document.member(prepared_key!("uid"), Column::EmailActionPolicyGuid);
    document.json.prepared(b",\"is_applied\":true");
    document.json.close();
}

fn observables(
    document: &mut Document<'_, '_>,
    addresses: &Addresses<'_>,
    sender_ip: Option<Column>,
) {
    let mut any = false;
    let from = addresses.from.is_some().then_some(Column::SenderFromAddress);
    let to = addresses.recipient.is_some().then_some(Column::RecipientEmailAddress);
    let row = document.row;
    let has_url = row.text(Column::Url).is_some();
    let has_file = row.text(Column::FileName).is_some();
    for (column, name, type_id) in [
        (from, "email.from", b'5'),
        (to, "to", b'5'),
        (sender_ip, "src_endpoint.ip", b'2'),
        (has_url.then_some(Column::Url), "email.urls.url_string", b'6'),
        (has_url.then_some(Column::UrlDomain), "email.urls.hostname", b'1'),
        (has_file.then_some(Column::FileName), "email.files.name", b'7'),
        (has_file.then_some(Column::SHA256), "email.files.hashes.value", b'8'),
    ] {
        let Some(column) = column else { continue };
        let Some(text) = row.text(column) else { continue };
        if any {
            document.json.element();
        } else {
            any = true;
            document.json.prepared_key(prepared_key!("observables"));
            document.json.open_list();
        }
        document.json.prepared(b"{\"name\":\"");
        document.json.prepared(name.as_bytes());
        document.json.prepared(b"\",\"type_id\":");
        document.json.prepared(&[type_id]);
        document.json.prepared_key(prepared_key!("value"));
        document.value(column, &text);
        document.json.close();
    }
    if any {
        document.json.close_list();
    }
}
