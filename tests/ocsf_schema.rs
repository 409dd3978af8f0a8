//! Every OCSF document that Postern writes is judged by the published schema, through a validator that is
//! itself seen to find what is broken.
#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

#[path = "ocsf_schema/records.rs"]
mod records;
#[path = "ocsf_schema/rows.rs"]
mod rows;
#[path = "ocsf_schema/validator.rs"]
mod validator;

use postern::domain::{Event, Kind, Shape, Tag};
use postern::normalize::Row;
use postern::render::{Format, render, render_row};
use proptest::prelude::*;
use serde_json::{Value, json};

use validator::Schema;

fn document(event: &Event) -> Value {
    let mut out = b"before\n".to_vec();
    render(Format::Ocsf, event, &mut out);
    let line = std::str::from_utf8(out.strip_prefix(b"before\n").unwrap()).unwrap();
    assert!(!line.contains('\n'), "one event, one line: {line}");
    let mut again = Vec::new();
    let row = Row::parse(event.row_bytes()).unwrap();
    render_row(Format::Ocsf, event, &row, &mut again);
    assert_eq!(line.as_bytes(), again, "a row read before gives the same document");
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[track_caller]
fn valid(event: &Event) -> Value {
    let document = document(event);
    let problems = Schema::published().problems(&document);
    assert!(problems.is_empty(), "{problems:#?}\n{document:#}");
    match (document.get("raw_data"), document["unmapped"].get("raw")) {
        (Some(text), None) => assert_eq!(text.as_str().unwrap().as_bytes(), event.row_bytes()),
        (None, Some(row)) => {
            assert_eq!(*row, serde_json::from_slice::<Value>(event.row_bytes()).unwrap());
        }
        kept => panic!("the row is kept once: {kept:?}"),
    }
    document
}

/// What is under `unmapped` beside the row.
fn leftover(document: &Value) -> Value {
    let mut unmapped = document["unmapped"].clone();
    unmapped.as_object_mut().unwrap().remove("raw");
    unmapped
}

/// A mail that uses nearly every part of the mapping.
fn full_mail() -> Event {
    let mut event = rows::event(
        "EmailEvents",
        &json!({
            "Timestamp": "2026-08-20T09:11:04Z",
            "NetworkMessageId": "6c1f9a34-52d1-4b0e-3a77-08dddf5d90e1",
            "InternetMessageId": "<1@mail.fabrikam.example>",
            "SenderMailFromAddress": "bounce@fabrikam.example",
            "SenderFromAddress": "billing@fabrikam.example",
            "SenderDisplayName": "Fabrikam \"Billing\"",
            "SenderIPv4": "203.0.113.45",
            "RecipientEmailAddress": "adele@contoso.example",
            "Subject": "Overdue invoice",
            "EmailClusterId": 2_898_195_034_u64,
            "EmailDirection": "Inbound",
            "DeliveryAction": "Delivered",
            "DeliveryLocation": "Inbox/folder",
            "ThreatTypes": "Phish, Malware",
            "ThreatNames": "Trojan_Invented, Worm_Invented",
            "DetectionMethods": "{\"Phish\":[\"Advanced filter\"]}",
            "ConfidenceLevel": "{\"Phish\":\"High\"}",
            "EmailActionPolicy": "Antispam phishing",
            "EmailActionPolicyGuid": "0d0f2a6e-93c4-4b7d-8a4f-6c1c2b3a4d5e",
            "AuthenticationDetails":
                "{\"SPF\":\"fail\",\"DKIM\":\"none\",\"DMARC\":\"fail\",\"CompAuth\":\"fail\"}",
            "OrgLevelAction": "Allow",
            "OrgLevelPolicy": "Exchange transport rule",
            "UserLevelAction": null,
            "ReportId": "6c1f9a34-52d1-4b0e-3a77-08dddf5d90e1-5120847733019264411-1",
            "To": ["adele@contoso.example", "Ben <ben@contoso.example>"],
            "Cc": [],
            "EmailSize": 23952,
            "Farbe": {"invented": [1, null]},
        })
        .to_string(),
    );
    for tag in [Tag::OverrideAllow, Tag::AllowedHcPhish, Tag::OverrideHarmful] {
        event.decision.tag(tag, "2.5", Vec::new());
    }
    event.decision.verdict = Some(postern::domain::Verdict::HcPhish);
    event.decision.overrides.push(rows::transport_rule());
    event
}

#[test]
fn a_mail_let_in_by_an_override_says_so_in_the_words_of_the_schema() {
    let document = valid(&full_mail());
    let expected = json!({
        "class_uid": 4009, "category_uid": 4, "activity_id": 2, "type_uid": 400_902,
        "time": 1_787_217_064_000_i64, "severity_id": 4, "direction_id": 1,
        "status_id": 1, "status": "Success", "action_id": 1, "action": "Allowed",
        "disposition_id": 1, "disposition": "Allowed", "is_alert": true,
        "confidence_id": 3, "confidence": "High",
        "message_trace_uid": "6c1f9a34-52d1-4b0e-3a77-08dddf5d90e1",
        "from": "bounce@fabrikam.example", "to": ["adele@contoso.example"],
        "email": {
            "from": "billing@fabrikam.example",
            "from_mailbox": "\"Fabrikam \\\"Billing\\\"\" <billing@fabrikam.example>",
            "to": ["adele@contoso.example"], "to_mailboxes": ["Ben <ben@contoso.example>"],
            "delivered_to_list": ["adele@contoso.example"],
            "return_path": "bounce@fabrikam.example",
            "message_uid": "<1@mail.fabrikam.example>",
            "subject": "Overdue invoice", "size": 23952,
        },
        "email_auth": {"spf": "fail", "dkim": "none", "dmarc": "fail"},
        "src_endpoint": {"ip": "203.0.113.45"},
        "malware": [
            {"classification_ids": [0], "name": "Trojan_Invented"},
            {"classification_ids": [0], "name": "Worm_Invented"},
        ],
        "policy": {
            "name": "Antispam phishing",
            "uid": "0d0f2a6e-93c4-4b7d-8a4f-6c1c2b3a4d5e", "is_applied": true,
        },
        "authorizations": [{"decision": "Allow", "policy": {
            "name": "Exchange transport rule", "type": "tenant override", "is_applied": true,
        }}],
        "enrichments": [{"name": "override", "value": "effective", "data": {
            "level": "tenant", "direction": "allow", "kind": "transport_rule",
            "policy": "Exchange transport rule", "effect": "effective", "primary": true,
        }}],
        "observables": [
            {"name": "email.from", "type_id": 5, "value": "billing@fabrikam.example"},
            {"name": "to", "type_id": 5, "value": "adele@contoso.example"},
            {"name": "src_endpoint.ip", "type_id": 2, "value": "203.0.113.45"},
        ],
        "metadata": {
            "version": "1.8.0", "profiles": ["security_control"],
            "product": {"name": "Microsoft Defender for Office 365", "vendor_name": "Microsoft"},
            "log_name": "AdvancedHunting-EmailEvents",
            "log_provider": "Microsoft Defender XDR",
            "tenant_uid": "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a",
            "uid": "07070707070707070707070707070707",
            "original_event_uid": "6c1f9a34-52d1-4b0e-3a77-08dddf5d90e1-5120847733019264411-1",
            "original_time": "2026-08-20T09:11:04Z",
            "correlation_uid": "6c1f9a34-52d1-4b0e-3a77-08dddf5d90e1",
            "logged_time": 1_787_217_300_000_i64, "transmit_time": 1_787_217_212_383_i64,
            "labels": ["allowed.hc_phish", "override.allow", "override.harmful"],
        },
        "unmapped": {
            "EmailClusterId": 2_898_195_034_u64, "EmailDirection": "Inbound",
            "DeliveryAction": "Delivered", "DeliveryLocation": "Inbox/folder",
            "ThreatTypes": "Phish, Malware",
            "DetectionMethods": "{\"Phish\":[\"Advanced filter\"]}",
            "ConfidenceLevel": "{\"Phish\":\"High\"}", "OrgLevelAction": "Allow",
            "OrgLevelPolicy": "Exchange transport rule", "CompAuth": "fail",
            "Farbe": {"invented": [1, null]},
            "raw": document["unmapped"]["raw"],
        },
    });
    assert_eq!(document, expected, "{document:#}");
}

#[test]
fn a_mail_row_without_sender_and_recipient_and_every_other_row_is_a_base_event() {
    let mail =
        valid(&rows::event("EmailEvents", r#"{"Subject":"x","RecipientEmailAddress":"<>"}"#));
    assert_eq!(mail["class_uid"], 0);
    assert_eq!(leftover(&mail), json!({"Subject": "x", "RecipientEmailAddress": "<>"}));
    let sender =
        valid(&rows::event("EmailEvents", r#"{"SenderFromAddress":"a@fabrikam.example"}"#));
    assert_eq!(sender["type_uid"], 400_900);
    for table in ["UrlClickEvents", "AlertInfo", "AlertEvidence", "DeviceInfo"] {
        let row = r#"{"RecipientEmailAddress":"a@contoso.example","Title":"t","Severity":"High"}"#;
        let found = valid(&rows::event(table, row));
        assert_eq!((&found["class_uid"], &found["severity_id"]), (&json!(0), &json!(4)), "{table}");
    }
}

#[test]
fn an_attachment_a_url_and_an_action_after_delivery_are_looks_at_a_mail() {
    let attachment = valid(&rows::event(
        "EmailAttachmentInfo",
        r#"{"SenderFromAddress":"b@fabrikam.example","FileName":"invoice.html","FileType":"html;text",
            "FileExtension":".html","FileSize":"4213","SHA256":"3f0a377ba0a4"}"#,
    ));
    assert_eq!(attachment["type_uid"], 400_903);
    let file = json!([{"name": "invoice.html", "type_id": 1, "ext": "html", "size": 4213,
        "hashes": [{"algorithm_id": 3, "algorithm": "SHA-256", "value": "3f0a377ba0a4"}]}]);
    assert_eq!(attachment["email"]["files"], file);
    assert_eq!(leftover(&attachment), json!({"FileType": "html;text"}));

    let url =
        valid(&rows::event("EmailUrlInfo", r#"{"Url":"https://x.example/","UrlLocation":"Body"}"#));
    assert_eq!(url["class_uid"], 0);
    assert_eq!(url["observables"][0]["value"], "https://x.example/");

    let zap = valid(&rows::event(
        "EmailPostDeliveryEvents",
        r#"{"RecipientEmailAddress":"a@contoso.example","ActionType":"Phish ZAP",
            "Action":"Moved to quarantine","ActionResult":"UserTriaged"}"#,
    ));
    let words = ["type_uid", "status", "status_code", "action", "disposition"].map(|key| &zap[key]);
    assert_eq!(
        words,
        [
            &json!(400_903),
            &json!("Success"),
            &json!("UserTriaged"),
            &json!("Denied"),
            &json!("Quarantined")
        ]
    );
}

#[test]
fn half_surrogate_pairs_and_endless_numbers_leave_the_document_strict_json() {
    let raw = r#"{"SenderFromAddress":"b@fabrikam.example","Subject":"\ud83d",
        "X\ud800":"\udc00 \ud83d\ude00","Y":1e999,"Connectors":"\ud800"}"#;
    let document = valid(&rows::event("EmailEvents", raw));
    assert_eq!(document["email"]["subject"], "\u{fffd}");
    let unmapped =
        json!({"X\u{fffd}": "\u{fffd} \u{1f600}", "Y": "1e999", "Connectors": "\u{fffd}"});
    assert_eq!(document["unmapped"], unmapped);
    assert_eq!(document["raw_data"], raw, "such a row is kept as text");
}

#[test]
fn a_gap_is_told_in_its_own_words() {
    let mut gap =
        rows::event("", r#"{"source":"hub","what":"hub[3]","detail":"retention has passed"}"#);
    gap.kind = Kind::Gap;
    let document = valid(&gap);
    assert_eq!(document["message"], "retention has passed");
    assert_eq!(document["metadata"]["product"], json!({"name": "Postern"}));
}

#[test]
fn a_mail_of_the_audit_log_is_an_email_activity_with_all_its_recipients() {
    for line in include_str!("fixtures/activity_overrides.jsonl").lines() {
        let example: Value = serde_json::from_str(line).unwrap();
        let events = records::events(Shape::Activity, &example["in"].to_string());
        let document = valid(&events[0]);
        assert_eq!(document["class_uid"], 4009, "{}", example["id"]);
        let labels = document["metadata"].get("labels").cloned().unwrap_or_else(|| json!([]));
        assert_eq!(labels, example["tags"], "{}", example["id"]);
    }
    let record = json!({"Id": "a", "RecordType": 28, "CreationTime": "2026-08-20T09:11:04", "Verdict": "Malware",
        "PhishConfidenceLevel": "Normal", "Directionality": "Inbound", "DetectionType": "ZAP",
        "DeliveryAction": "Blocked", "OriginalDeliveryLocation": "Quarantine", "P1Sender": "b@fabrikam.example",
        "P2Sender": "billing@fabrikam.example", "Recipients": ["a@contoso.example", "b@contoso.example"],
        "SenderIp": "203.0.113.45", "AuthDetails": [{"Name": "SPF", "Value": "Pass"}],
        "AttachmentData": [{"FileName": "x.exe", "SHA256": "E3B0", "MalwareFamily": "Worm_Invented"}],
        "Policy": "SafeAttachements", "Subject": "x", "NetworkMessageId": "m", "Workload": "ThreatIntelligence"});
    let document = valid(&records::events(Shape::Activity, &record.to_string())[0]);
    let to = json!(["a@contoso.example", "b@contoso.example"]);
    assert_eq!((&document["to"], &document["email"]["to"]), (&to, &to));
    assert_eq!(document["type_uid"], 400_903, "a detection after delivery is another look");
    assert_eq!(document["disposition"], "Quarantined");
    assert_eq!(document["confidence"], "Medium");
    assert_eq!(document["malware"][0]["name"], "Worm_Invented");
    assert_eq!(document["email"]["files"][0]["hashes"][0]["value"], "E3B0");
    assert_eq!(document["metadata"]["original_event_uid"], "a");
    assert_eq!(document["metadata"]["log_name"], "ThreatIntelligence");
    assert_eq!(document["metadata"]["log_provider"], "Office 365 Management Activity API");
    let left = leftover(&document);
    assert!(left.get("Recipients").is_none() && left["DetectionType"] == "ZAP", "{left}");
}

#[test]
fn incidents_alerts_and_reports_are_base_events_that_say_what_they_are() {
    let incident = json!({"id": "4711", "displayName": "Something new", "severity": "high",
        "createdDateTime": "2026-08-20T09:00:00Z", "lastUpdateDateTime": "2026-08-20T09:15:00Z",
        "alerts": [{"id": "fa1", "title": "Phish delivered due to an ETR override", "severity": "informational"}]});
    let events = records::events(Shape::Incidents { alerts: true }, &incident.to_string());
    let documents: Vec<Value> = events.iter().map(valid).collect();
    let said = |document: &Value| {
        let metadata = &document["metadata"];
        [
            &document["class_uid"],
            &document["message"],
            &metadata["log_name"],
            &metadata["log_provider"],
            &metadata["original_event_uid"],
            &metadata["correlation_uid"],
        ]
        .map(Clone::clone)
    };
    let graph = json!("Microsoft Graph");
    assert_eq!(
        said(&documents[0]),
        [
            json!(0),
            json!("Something new"),
            json!("incidents"),
            graph.clone(),
            json!("4711"),
            json!("4711")
        ]
    );
    assert_eq!(documents[0]["severity_id"], 4);
    let title = json!("Phish delivered due to an ETR override");
    assert_eq!(
        said(&documents[1]),
        [json!(0), title, json!("alerts_v2"), graph, json!("fa1"), json!("fa1")]
    );
    assert_eq!(documents[1]["severity_id"], 4, "what the tags say counts");

    let click =
        r#"{"Id":"a","RecordType":41,"URL":"https://x.example/","UserId":"a@contoso.example"}"#;
    let document = valid(&records::events(Shape::Activity, click)[0]);
    assert_eq!(document["observables"][0]["name"], "unmapped.URL");
    let report =
        r#"{"message_id":"<1@x.example>","reported_at":"2026-08-20T09:11:04Z","category":"Phish"}"#;
    let document = valid(&records::events(Shape::Submissions, report)[0]);
    assert_eq!(document["metadata"]["product"]["name"], "User reports");
    assert_eq!(document["metadata"]["labels"], json!(["reported.phish"]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_an_answer_holds_its_documents_fit_the_schema(events in records::any_events()) {
        for event in &events {
            valid(event);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_row_and_the_tags_the_document_fits_the_schema(event in rows::any_event()) {
        valid(&event);
    }

    #[test]
    fn no_column_that_holds_something_is_lost(event in rows::any_event()) {
        let mut document = valid(&event);
        document["unmapped"] = leftover(&document);
        let text = document.to_string();
        let row: Value = serde_json::from_slice(event.row_bytes()).unwrap();
        for (name, value) in row.as_object().unwrap() {
            let Some(value) = value.as_str().map(str::trim).filter(|it| it.len() > 3) else { continue };
            let kept = document["unmapped"].get(name).is_some();
            let mut shown = Value::from(value).to_string();
            shown = shown.trim_matches('"').to_owned();
            let outside = document.as_object().unwrap().iter().any(|(key, part)| {
                key != "raw_data" && part.to_string().contains(&shown)
            });
            let taken_apart = rows::TAKEN_APART.contains(&name.as_str());
            prop_assert!(kept || outside || taken_apart, "{} is lost in {}", name, text);
        }
    }
}

#[test]
fn the_validator_finds_what_is_broken() {
    #[track_caller]
    fn check(pointer: &str, value: Value, complaint: &str) {
        let mut broken = document(&full_mail());
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = broken.pointer_mut(parent).unwrap();
        match (parent, value) {
            (Value::Object(parent), Value::Null) => {
                parent.remove(key).unwrap();
            }
            (Value::Object(parent), value) => {
                parent.insert(key.to_owned(), value);
            }
            (parent, value) => parent[key.parse::<usize>().unwrap()] = value,
        }
        let problems = Schema::published().problems(&broken);
        assert!(problems.iter().any(|it| it.contains(complaint)), "{pointer}: {problems:#?}");
    }
    check("/class_uid", json!(4010), "no such class");
    check("/category_uid", json!(5), "not the category");
    check("/class_name", json!("Email"), "not the caption");
    check("/type_uid", json!(400_901), "type_uid: not class_uid");
    check("/activity_id", json!(7), "not a value of the enum");
    check("/activity_name", json!("Send"), "means \"Receive\"");
    check("/direction_id", Value::Null, "required attribute direction_id");
    check("/metadata/version", json!("1.7.0"), "not the version");
    check("/metadata/version", Value::Null, "required attribute version");
    check("/metadata/product", json!({"vendor_name": "x"}), "at least one of");
    check("/metadata/profiles", json!(["cloud"]), "required attribute cloud");
    check("/metadata/profiles", json!(["host"]), "belongs to profile security_control");
    check("/metadata/profiles", json!(["sundial"]), "no profile sundial");
    check("/metadata/labels", json!("x"), "not a list");
    check("/metadata/labels", json!([1]), "not of type string_t");
    check("/message", json!(["x"]), "a list");
    check("/email", json!({"subject": "x"}), "at least one of");
    check("/email/to", json!(["<>"]), "not of type email_t");
    check("/email/to", json!([]), "an empty list");
    check("/email/colour", json!("red"), "email.colour: unknown attribute");
    check("/email/delivered_to", json!("a@b.example"), "deprecated");
    check("/email/size", json!("7"), "not of type long_t");
    check("/src_endpoint", json!({"port": 25}), "at least one of");
    check("/src_endpoint/ip", json!("203.0.113"), "not of type ip_t");
    check("/src_endpoint/port", json!(70_000), "not of type port_t");
    check("/status", json!("Fine"), "means \"Success\"");
    check("/disposition_id", json!(2), "means \"Blocked\"");
    check("/disposition_id", json!(98), "not a value");
    check("/malware/0", json!({"name": "x"}), "required attribute classification_ids");
    check("/malware/0", json!({"name": "x", "classification_ids": [12]}), "not a value");
    check("/malware/0", json!({"name": "x", "classification_ids": [99]}), "99 without");
    check("/policy", json!({"is_applied": true}), "at least one of");
    check("/is_alert", json!("true"), "not of type boolean_t");
    check("/time", json!("2026-08-20T09:11:04Z"), "not of type timestamp_t");
    check("/observables/0", json!({"name": "email.from"}), "required attribute type_id");
    check("/observables/0/type_id", json!(2), "not this number");
    check("/observables/0/value", json!("x"), "does not hold this value");
    check("/unmapped", json!("x"), "not an object");
}
