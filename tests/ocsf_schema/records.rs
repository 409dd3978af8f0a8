//! Events to judge that are no rows of a table: incidents, alerts, audit records and users' reports, as the
//! pipeline makes them of answers.

use postern::domain::{Chunk, Event, Position, Raw, Shape, Ticks};
use postern::normalize::{Context, Normalized, SIZE_CAP, each};
use postern::tagging;
use proptest::prelude::*;
use serde_json::Value;

/// The events in an answer of this shape, tagged.
pub fn events(shape: Shape, body: &str) -> Vec<Event> {
    let context = Context {
        tenant: "11111111-2222-3333-4444-555555555555".into(),
        source: "pull".into(),
        ingested: Ticks::parse("2026-08-20T09:30:00Z"),
        normal_lag_seconds: 1800,
        backfill: false,
        size_cap: SIZE_CAP,
    };
    let chunk = Chunk {
        raw: Raw::new(body.as_bytes()),
        shape,
        position: Position::None,
        observed: None,
        backfill: false,
    };
    let mut events = Vec::new();
    each(&chunk, &context, &mut |normalized| {
        if let Normalized::Event { mut event, row, .. } = normalized {
            event.decision = tagging::decide(&event, row);
            events.push(event);
        }
    });
    events
}

const FIELDS: &[&str] = &[
    "Id",
    "id",
    "RecordType",
    "Operation",
    "CreationTime",
    "OrganizationId",
    "tenantId",
    "Workload",
    "SystemOverrides",
    "Verdict",
    "PhishConfidenceLevel",
    "DetectionType",
    "DeliveryAction",
    "OriginalDeliveryLocation",
    "Directionality",
    "Recipients",
    "AttachmentData",
    "AuthDetails",
    "P1Sender",
    "P2Sender",
    "SenderIp",
    "Policy",
    "Subject",
    "NetworkMessageId",
    "InternetMessageId",
    "UrlClickAction",
    "SourceId",
    "URL",
    "url",
    "Name",
    "title",
    "displayName",
    "severity",
    "Severity",
    "accountUpn",
    "ipAddress",
    "InvestigationName",
    "evidence",
    "alerts",
    "createdDateTime",
    "lastUpdateDateTime",
    "message_id",
    "reporter",
    "reported_at",
    "category",
    "raw",
    "Farbe \"x\"",
];

fn any_value() -> impl Strategy<Value = Value> {
    let texts = proptest::sample::select(vec![
        "",
        " ",
        "28",
        "40",
        "65",
        "Phish",
        "Malware",
        "High",
        "Normal",
        "Delivered",
        "Blocked",
        "Inbox",
        "JunkFolder",
        "Quarantine",
        "Inbound",
        "Intra-org",
        "a@contoso.example",
        "A <a@contoso.example>",
        "<>",
        "203.0.113.7",
        "0.0.0.0",
        "::",
        "2001:db8::7",
        "999.1.1.1",
        "Informational",
        "high",
        "2026-08-20T09:11:04",
        "yesterday",
        "https://x.example/?a=\"",
        "Phish delivered due to an ETR override",
        "\u{1f600}\u{2028}\t",
    ]);
    let scalar = prop_oneof![
        8 => texts.prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    let names = proptest::sample::select(vec![
        "Name",
        "Value",
        "FileName",
        "SHA256",
        "MalwareFamily",
        "Details",
        "Source",
        "Result",
        "FinalOverride",
        "SPF",
    ]);
    scalar.prop_recursive(2, 12, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((names.clone(), inner), 0..4).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

/// Any record, as any of the shapes.
pub fn any_events() -> impl Strategy<Value = Vec<Event>> {
    let fields = proptest::collection::vec((proptest::sample::select(FIELDS), any_value()), 0..14);
    let types = proptest::sample::select(vec![0_i64, 1, 28, 28, 28, 29, 40, 41, 64, 65, 9999]);
    let shapes = proptest::sample::select(vec![
        Shape::Activity,
        Shape::Activity,
        Shape::Alerts,
        Shape::Incidents { alerts: true },
        Shape::Submissions,
    ]);
    (fields, types, shapes).prop_map(|(fields, number, shape)| {
        let mut record: serde_json::Map<String, Value> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if shape == Shape::Activity {
            record.insert("RecordType".to_owned(), number.into());
        }
        events(shape, &Value::Object(record).to_string())
    })
}
