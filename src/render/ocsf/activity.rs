//! Email Activity, class 4009, from a `TIMailData` record of the Management Activity API: one message, all of
//! its recipients. As `email` does it for rows; the two share words, not columns.

use core::net::IpAddr;

use serde_json::Value;

use crate::normalize::{Column, field};
use crate::prepared_key;

use super::Document;
use super::email::{START_RECEIVE, START_SCAN, START_SEND, START_UNKNOWN, enumerated};
use super::mailbox::is_address;
use super::words::{self, Activity, Direction};

/// Files and recipients that are listed; the record itself keeps all of them.
const LIST_CAP: usize = 500;

struct Mail {
    from: Option<String>,
    envelope_from: Option<String>,
    to: Vec<String>,
    attachments: Vec<Value>,
}

/// Writes the document, or nothing (and says so) where the record names neither a sender nor a recipient.
pub(super) fn write(document: &mut Document<'_, '_>) -> bool {
    let row = document.row;
    let address = |name| {
        field::text(row, name).map(std::borrow::Cow::into_owned).filter(|text| is_address(text))
    };
    let listed = field::list(row, "Recipients");
    let is_complete = listed.iter().all(|text| is_address(text)) && listed.len() <= LIST_CAP;
    let mail = Mail {
        from: address("P2Sender"),
        envelope_from: address("P1Sender"),
        to: listed.into_iter().filter(|text| is_address(text)).take(LIST_CAP).collect(),
        attachments: match field::value(row, "AttachmentData") {
            Some(Value::Array(items)) => items.into_iter().take(LIST_CAP).collect(),
            _ => Vec::new(),
        },
    };
    if mail.from.is_none() && mail.to.is_empty() {
        return false;
    }
    for (name, stands) in [
        ("P2Sender", mail.from.is_some()),
        ("P1Sender", mail.envelope_from.is_some()),
        ("Recipients", is_complete && !mail.to.is_empty()),
    ] {
        if stands {
            document.fields.push(name);
        }
    }
    head(document);
    document.is_alert();
    confidence(document);
    document.member(prepared_key!("message_trace_uid"), Column::NetworkMessageId);
    text(document, "from", mail.envelope_from.as_deref());
    addresses(document, "to", &mail.to);
    email(document, &mail);
    email_auth(document);
    src_endpoint(document);
    malware(document, &mail);
    if let Some(policy) = field::text(row, "Policy") {
        document.json.key("policy");
        document.json.open();
        document.json.key("name");
        document.json.text(&policy);
        document.json.prepared(b",\"is_applied\":true");
        document.json.close();
    }
    document.overrides();
    document.metadata(true);
    document.unmapped(None);
    document.json.close();
    true
}

fn head(document: &mut Document<'_, '_>) {
    let row = document.row;
    let text = |name| field::text(row, name).unwrap_or_default();
    let direction = words::direction(&text("Directionality"));
    let later = ["delayed", "zap"].iter().any(|it| text("DetectionType").eq_ignore_ascii_case(it));
    let activity = match later {
        true => Activity::Scan,
        false => words::activity(direction, &document.event.decision.tags),
    };
    document.json.prepared(match activity {
        Activity::Unknown => START_UNKNOWN,
        Activity::Send => START_SEND,
        Activity::Receive => START_RECEIVE,
        Activity::Scan => START_SCAN,
    });
    document.time();
    document.json.key("severity_id");
    document.json.int(words::severity(&document.event.decision.tags));
    document.json.key("direction_id");
    document.json.int(match direction {
        Direction::Unknown => 0,
        Direction::Inbound => 1,
        Direction::Outbound => 2,
        Direction::Internal => 3,
    });
    let (action, location) = (text("DeliveryAction"), text("OriginalDeliveryLocation"));
    let disposition = words::at_delivery(&action, &location);
    let (status_id, status) = words::delivery_status(action, &location);
    enumerated(document, [prepared_key!("status_id"), prepared_key!("status")], status_id, &status);
    let (action_id, action) = disposition.action;
    enumerated(document, [prepared_key!("action_id"), prepared_key!("action")], action_id, action);
    let (id, caption) = disposition.disposition;
    enumerated(
        document,
        [prepared_key!("disposition_id"), prepared_key!("disposition")],
        id,
        &caption,
    );
}

fn confidence(document: &mut Document<'_, '_>) {
    let level = field::text(document.row, "PhishConfidenceLevel").unwrap_or_default();
    let (id, caption) = words::confidence_word(&level);
    enumerated(
        document,
        [prepared_key!("confidence_id"), prepared_key!("confidence")],
        id,
        caption,
    );
}

fn text(document: &mut Document<'_, '_>, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        document.json.key(key);
        document.json.text(text);
    }
}

fn addresses(document: &mut Document<'_, '_>, key: &str, addresses: &[String]) {
    if addresses.is_empty() {
        return;
    }
    document.json.key(key);
    document.json.open_list();
    for address in addresses {
        document.json.element();
        document.json.text(address);
    }
    document.json.close_list();
}

fn email(document: &mut Document<'_, '_>, mail: &Mail) {
    document.json.key("email");
    document.json.open();
    text(document, "from", mail.from.as_deref());
    addresses(document, "to", &mail.to);
    addresses(document, "delivered_to_list", &mail.to);
    text(document, "return_path", mail.envelope_from.as_deref());
    document.member(prepared_key!("message_uid"), Column::InternetMessageId);
    document.member(prepared_key!("subject"), Column::Subject);
    files(document, &mail.attachments);
    document.json.close();
}

fn files(document: &mut Document<'_, '_>, attachments: &[Value]) {
    let mut any = false;
    for attachment in attachments {
        let Some(name) = field::member_text(attachment, "FileName") else { continue };
        if !any {
            any = true;
            document.json.key("files");
            document.json.open_list();
        }
        document.json.element();
        document.json.open();
        document.json.key("name");
        document.json.text(&name);
        document.json.prepared(b",\"type_id\":1");
        if let Some(hash) = field::member_text(attachment, "SHA256") {
            document.json.prepared(b",\"hashes\":[{\"algorithm_id\":3,\"algorithm\":\"SHA-256\"");
            text(document, "value", Some(&hash));
            document.json.prepared(b"}]");
        }
        document.json.close();
    }
    if any {
        document.json.close_list();
    }
}

fn email_auth(document: &mut Document<'_, '_>) {
    let Some(Value::Array(checks)) = field::value(document.row, "AuthDetails") else { return };
    let mut any = false;
    for (key, name) in [("spf", "SPF"), ("dkim", "DKIM"), ("dmarc", "DMARC")] {
        let is = |check: &&Value| {
            field::member_text(check, "Name").is_some_and(|it| it.eq_ignore_ascii_case(name))
        };
        let found = checks.iter().find(is).and_then(|it| field::member_text(it, "Value"));
        let Some(word) = found else { continue };
        if !any {
            any = true;
            document.json.key("email_auth");
            document.json.open();
        }
        text(document, key, Some(&word));
    }
    if any {
        document.json.close();
    }
}

/// The last relaying server. An address of nothing but zeros, which stands for mail made inside the service, is
/// no endpoint.
fn src_endpoint(document: &mut Document<'_, '_>) {
    let Some(ip) = field::text(document.row, "SenderIp") else { return };
    if !ip.parse().is_ok_and(|it: IpAddr| !it.is_unspecified()) {
        return;
    }
    document.json.key("src_endpoint");
    document.json.open();
    document.json.key("ip");
    document.json.text(&ip);
    document.json.close();
    document.fields.push("SenderIp");
}

fn malware(document: &mut Document<'_, '_>, mail: &Mail) {
    let verdict = field::text(document.row, "Verdict").unwrap_or_default();
    let Some(word) = words::malware_word(&verdict) else { return };
    let families: Vec<String> = mail
        .attachments
        .iter()
        .filter_map(|attachment| field::member_text(attachment, "MalwareFamily"))
        .collect();
    let names = if families.is_empty() { vec![word.to_owned()] } else { families };
    document.json.key("malware");
    document.json.open_list();
    for name in names {
        document.json.element();
        document.json.prepared(b"{\"classification_ids\":[0]");
        text(document, "name", Some(&name));
        document.json.close();
    }
    document.json.close_list();
}
