//! What follows a delivery: later verdicts, zero-hour auto purge, clicks, reports, remediation, release from
//! quarantine, and the alerts that tell of them.

use std::collections::BTreeMap;

use crate::domain::{OverrideKind, Tag, Tags, Ticks};

use super::delivery::Place;
use super::expected::{self, can_be_convicted_later};
use super::filter::{Confidence, Finding};
use super::mail::Way;
use super::overrides::Setting;
use super::record::Record;
use super::rows::{AlertEvidence, AlertInfo, EmailPostDeliveryEvents, UrlClickEvents};
use super::writer::{Copy, Note, Row, Writer, seven_digits, whole_seconds};

const SERVICE: &str = "Microsoft Defender for Office 365";

/// Writes what follows the delivery of one copy; `first` is when its first row becomes visible.
pub(super) fn of_copy(pen: &mut Writer, copy: Copy<'_>, first: Ticks, out: &mut Vec<Record>) {
    let mail = copy.mail;
    if mail.way != Way::Inbound || is_expected(copy) {
        return;
    }
    let found = &copy.delivery.recorded;
    let dangerous = !found.malware.is_empty() || found.phish.is_some();
    match copy.delivery.place {
        Place::Inbox if dangerous => {
            clicks(pen, copy, out);
            if pen.random.chance(600) {
                purge(pen, copy, found, out);
            } else if pen.random.chance(300) {
                let action = Action {
                    action: "Soft delete",
                    kind: "Manual remediation",
                    trigger: "AdminAction",
                    result: "Success",
                    location: "Deleted items",
                    tag: Some(Tag::RemediatedAdmin),
                };
                act(pen, copy, found, action, out);
            }
        }
        Place::Inbox => {
            if let Some(finding) = &mail.finding_later
                && can_be_convicted_later(copy.delivery)
            {
                let seconds = pen.random.between(240, 600);
                let visible = pen.after(first, seconds, 1).max(first.plus_seconds(1));
                let carries_original = pen.random.chance(400);
                let row = Row::Later { finding, visible, carries_original };
                pen.email(copy, row, out);
                if pen.random.chance(500) {
                    purge(pen, copy, finding, out);
                }
            }
        }
        Place::Quarantine if dangerous && pen.random.chance(30) => {
            let action = Action {
                action: "Quarantine release",
                kind: "Manual remediation",
                trigger: "AdminAction",
                result: "Success",
                location: "Inbox/folder",
                tag: None,
            };
            act(pen, copy, found, action, out);
        }
        _ => {}
    }
}

struct Action {
    action: &'static str,
    kind: &'static str,
    trigger: &'static str,
    result: &'static str,
    location: &'static str,
    /// What must be said about it; `None` where that takes more than the row.
    tag: Option<Tag>,
}

fn purge(pen: &mut Writer, copy: Copy<'_>, found: &Finding, out: &mut Vec<Record>) {
    let kind = if found.malware.is_empty() { "Phish ZAP" } else { "Malware ZAP" };
    let action = if pen.random.chance(800) {
        Action {
            action: "Moved to quarantine",
            kind,
            trigger: "SpecialAction",
            result: "Success",
            location: "Quarantine",
            tag: Some(Tag::RemediatedZap),
        }
    } else {
        Action {
            action: "Moved to quarantine",
            kind,
            trigger: "SpecialAction",
            result: "Error",
            location: "Inbox/folder",
            tag: Some(Tag::ZapFailed),
        }
    };
    act(pen, copy, found, action, out);
}

fn act(pen: &mut Writer, copy: Copy<'_>, found: &Finding, action: Action, out: &mut Vec<Record>) {
    let mail = copy.mail;
    let seconds = pen.random.between(120, 600);
    let at = pen.after(mail.occurred, seconds, 1);
    let (threats, methods) = (found.threat_types(), found.detection_methods());
    let row = EmailPostDeliveryEvents {
        timestamp: &whole_seconds(at).to_string(),
        network_message_id: &mail.message_id,
        internet_message_id: &mail.internet_message_id,
        action: action.action,
        action_type: action.kind,
        action_trigger: action.trigger,
        action_result: action.result,
        recipient_email_address: &copy.person.address,
        delivery_location: action.location,
        threat_types: threats.as_deref(),
        detection_methods: methods.as_deref(),
        report_id: &format!("{}-{}", mail.message_id, copy.report),
        sender_from_address: &mail.sender.address,
        email_direction: mail.way.column(),
    };
    let visible = pen.exported(at, "EmailPostDeliveryEvents");
    let id = &mail.message_id;
    let known = Note { tags: action.tag.map(|tag| Tags::from_iter([tag])), allowed: None };
    pen.record("EmailPostDeliveryEvents", id, at, visible, &row, known, out);
}

fn clicks(pen: &mut Writer, copy: Copy<'_>, out: &mut Vec<Record>) {
    let Some(url) = copy.mail.urls.first() else { return };
    if !pen.random.chance(300) {
        return;
    }
    let seconds = pen.random.between(30, 500);
    let at = pen.after(copy.mail.occurred, seconds, 1);
    let (action, through) = pen.random.pick(&[
        ("ClickAllowed", false),
        ("ClickAllowed", false),
        ("ClickBlocked", true),
    ]);
    let chain = serde_json::to_string(&[url]).unwrap_or_default();
    let row = UrlClickEvents {
        timestamp: &format!("{}Z", seven_digits(at)),
        url,
        action_type: action,
        account_upn: &copy.person.address,
        workload: "Email",
        network_message_id: &copy.mail.message_id,
        threat_types: Some("Phish"),
        detection_methods: None,
        ip_address: "198.51.100.23",
        is_clicked_through: through,
        url_chain: &chain,
        report_id: &pen.random.guid(),
        app_name: "Mail",
        app_version: "0.0.0000",
        source_id: &copy.mail.message_id,
    };
    let visible = pen.exported(at, "UrlClickEvents");
    let id = &copy.mail.message_id;
    pen.record("UrlClickEvents", id, at, visible, &row, Note::default(), out);
}

/// Writes the alerts about a mail, each with the copies that it is about as evidence.
pub(super) fn alerts(pen: &mut Writer, copies: &[Copy<'_>], out: &mut Vec<Record>) {
    let mut raised: BTreeMap<(&str, &str), Vec<Copy<'_>>> = BTreeMap::new();
    for copy in copies {
        if copy.mail.way != Way::Inbound || is_expected(*copy) {
            continue;
        }
        for alert in titles(pen, *copy) {
            raised.entry(alert).or_default().push(*copy);
        }
    }
    for ((title, severity), about) in raised {
        raise(pen, title, severity, &about, out);
    }
}

fn titles(pen: &mut Writer, copy: Copy<'_>) -> Vec<(&'static str, &'static str)> {
    let mut titles = Vec::new();
    let found = &copy.delivery.recorded;
    let high = matches!(found.phish, Some((Confidence::High, _)));
    if copy.delivery.allowed_high_confidence_phish() {
        match copy.delivery.met.tenant.map(|setting| setting.kind) {
            Some(OverrideKind::TransportRule) => {
                titles.push(("Phish delivered due to an ETR override", "Informational"));
            }
            Some(OverrideKind::IpList) => {
                titles.push(("Phish delivered due to an IP allow policy", "Informational"));
            }
            Some(OverrideKind::TablUrl) if pen.random.chance(200) => titles.push((
                "A Tenant Allow Block List entry has been found malicious",
                "Informational",
            )),
            _ => {}
        }
    }
    if copy.delivery.place == Place::Inbox && found.phish.is_some() {
        if pen.random.chance(60) {
            titles.push(("Email reported by user as malware or phish", "Low"));
        }
        if pen.random.chance(60) {
            titles.push(("A potentially malicious URL click was detected", "High"));
        }
        if pen.random.chance(80) {
            titles.push((
                "Email messages containing malicious URL removed after delivery\u{200b}",
                "Informational",
            ));
        }
    }
    if copy.delivery.place == Place::Quarantine && high && pen.random.chance(20) {
        titles.push(("User requested to release a quarantined message", "Informational"));
    }
    titles
}

fn raise(pen: &mut Writer, title: &str, severity: &str, about: &[Copy<'_>], out: &mut Vec<Record>) {
    let Some(first) = about.first() else { return };
    let mail = first.mail;
    let alert_id = format!("fa{}-{}", pen.random.hex(8), pen.random.guid());
    let at = mail.occurred;
    let timestamp = whole_seconds(at).to_string();
    let row = AlertInfo {
        timestamp: &timestamp,
        alert_id: &alert_id,
        title,
        category: "InitialAccess",
        severity,
        service_source: SERVICE,
        detection_source: SERVICE,
        machine_group: None,
        attack_techniques: r#"["Phishing (T1566)"]"#,
    };
    let seconds = pen.random.between(150, 420);
    let visible = pen.after(at, seconds, 1);
    let known = || Note { tags: Some(expected::alert(title)), allowed: None };
    pen.record("AlertInfo", &alert_id, at, visible, &row, known(), out);
    for copy in about {
        for (kind, role) in [("MailMessage", "Related"), ("Mailbox", "Impacted")] {
            let is_message = kind == "MailMessage";
            let fields = entity(copy, is_message, pen.random.chance(970));
            let row = AlertEvidence {
                timestamp: &timestamp,
                alert_id: &alert_id,
                entity_type: kind,
                evidence_role: role,
                remote_url: None,
                account_name: (!is_message).then_some(&*copy.person.name),
                account_object_id: (!is_message).then_some(&*copy.person.object_id),
                account_upn: (!is_message).then_some(&*copy.person.address),
                additional_fields: &fields,
                network_message_id: is_message.then_some(&*mail.message_id),
                service_source: SERVICE,
                email_subject: is_message.then_some(&*mail.subject),
                categories: r#"["InitialAccess"]"#,
                title,
                attack_techniques: "",
                detection_source: SERVICE,
                severity,
                ..AlertEvidence::default()
            };
            let visible = visible.plus_seconds(i64::from(pen.random.chance(200)));
            pen.record("AlertEvidence", &alert_id, at, visible, &row, known(), out);
        }
    }
}

/// `AdditionalFields`: JSON in a string; a few lack the key by which evidence is told apart.
fn entity(copy: &Copy<'_>, is_message: bool, with_key: bool) -> String {
    let mail = copy.mail;
    let mut fields = if is_message {
        serde_json::json!({
            "NetworkMessageId": mail.message_id,
            "InternetMessageId": mail.internet_message_id,
            "Sender": mail.sender.mail_from,
            "P2Sender": mail.sender.address,
            "SenderIP": mail.sender.ip,
            "Recipient": copy.person.address,
            "Subject": mail.subject,
            "Type": "mailMessage",
            "Role": 1,
        })
    } else {
        serde_json::json!({
            "MailboxPrimaryAddress": copy.person.address,
            "DisplayName": copy.person.name,
            "Type": "mailbox",
            "Role": 0,
        })
    };
    if with_key && let Some(object) = fields.as_object_mut() {
        let entity = if is_message { &*mail.message_id } else { "" };
        let hash = blake3::hash(format!("{entity} {}", copy.person.address).as_bytes()).to_hex();
        let key = hash.as_str().get(..40).unwrap_or_default().to_uppercase();
        object.insert("MergeByKeyHex".into(), key.into());
    }
    fields.to_string()
}

fn is_expected(copy: Copy<'_>) -> bool {
    copy.delivery.met.tenant.as_ref().is_some_and(Setting::is_advanced_delivery)
}
