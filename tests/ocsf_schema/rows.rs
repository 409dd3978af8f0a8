//! Events to judge: rows of every table, with values that Defender gives and values that nobody should.

use std::sync::Arc;

use postern::domain::{
    Arrival, Certainty, Decision, Direction, Effect, Event, EventId, Kind, Level, Override,
    OverrideKind, Raw, Table, Tag, Ticks, Verdict, Why,
};
use postern::normalize::{Column, Row};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Columns whose value stands elsewhere in another form.
pub const TAKEN_APART: [&str; 6] =
    ["To", "Cc", "AuthenticationDetails", "FileExtension", "ThreatNames", "SenderDisplayName"];

/// An event of `table` with this row, as the pipeline would make it, without tags.
pub fn event(table: &str, row: &str) -> Event {
    let table = Table::from_name(table);
    Event {
        id: EventId([7; 16]),
        kind: table.kind(),
        table,
        tenant: Arc::from("9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a"),
        source: Arc::from("hub"),
        occurred: Row::parse(row.as_bytes()).unwrap().time(Column::Timestamp),
        observed: Ticks::parse("2026-08-20T09:13:32.3832981Z"),
        ingested: Ticks::parse("2026-08-20T09:15:00Z"),
        arrival: Some(Arrival::Live),
        key: None,
        recipient: None,
        decision: Decision::default(),
        issues: Vec::new(),
        raw: Raw::new(row.as_bytes()),
        row: (0, u32::try_from(row.len()).unwrap()),
    }
}

/// An allow by mail-flow rule that had its way.
pub fn transport_rule() -> Override {
    Override {
        level: Level::Tenant,
        direction: Direction::Allow,
        kind: OverrideKind::TransportRule,
        policy: "Exchange transport rule".into(),
        effect: Effect::Effective,
        why: None,
        certainty: None,
        primary: true,
    }
}

/// Any event: any table, any columns, any values, any decision.
pub fn any_event() -> impl Strategy<Value = Event> {
    let tables = proptest::sample::select(vec![
        "EmailEvents",
        "EmailEvents",
        "EmailEvents",
        "EmailUrlInfo",
        "EmailAttachmentInfo",
        "EmailPostDeliveryEvents",
        "UrlClickEvents",
        "AlertInfo",
        "AlertEvidence",
        "DeviceInfo",
        "",
    ]);
    (tables, any_row(), any_decision(), any::<bool>(), any::<bool>()).prop_map(
        |(table, row, decision, has_times, is_gap)| {
            let mut event = event(table, &row);
            event.decision = decision;
            if !has_times {
                (event.observed, event.ingested, event.arrival) = (None, None, None);
                event.tenant = Arc::from("");
            }
            if is_gap && table.is_empty() {
                event.kind = Kind::Gap;
            }
            event
        },
    )
}

const COLUMNS: &[&str] = &[
    "Timestamp",
    "NetworkMessageId",
    "InternetMessageId",
    "SenderMailFromAddress",
    "SenderFromAddress",
    "SenderDisplayName",
    "SenderIPv4",
    "SenderIPv6",
    "RecipientEmailAddress",
    "Subject",
    "EmailClusterId",
    "EmailDirection",
    "DeliveryAction",
    "DeliveryLocation",
    "ThreatTypes",
    "ThreatNames",
    "DetectionMethods",
    "ConfidenceLevel",
    "EmailAction",
    "EmailActionPolicy",
    "EmailActionPolicyGuid",
    "AuthenticationDetails",
    "Connectors",
    "OrgLevelAction",
    "OrgLevelPolicy",
    "ReportId",
    "AdditionalFields",
    "To",
    "Cc",
    "EmailSize",
    "IsFirstContact",
    "OriginalConfidenceLevel",
    "Action",
    "ActionType",
    "ActionResult",
    "Url",
    "UrlDomain",
    "UrlLocation",
    "FileName",
    "FileExtension",
    "FileSize",
    "SHA256",
    "AccountUpn",
    "IPAddress",
    "AlertId",
    "Title",
    "Severity",
    "ServiceSource",
    "RemoteIP",
    "RemoteUrl",
    "EntityType",
    "detail",
    "CompAuth",
    "Farbe \"x\"",
];

const WORDS: &[&str] = &[
    "",
    " ",
    "Inbound",
    "Outbound",
    "Intra-org",
    "Delivered",
    "Junked",
    "Blocked",
    "Replaced",
    "Inbox/folder",
    "Junk folder",
    "Quarantine",
    "Failed",
    "Dropped",
    "On-premises/external",
    "Forwarded",
    "Deleted items",
    "Phish",
    "Malware",
    "Spam, Malicious",
    ",;|",
    "High",
    "{\"Phish\":\"High\"}",
    "{\"Phish\":\"Normal\",\"Spam\":\"5\"}",
    "{\"Spam\":\"1\"}",
    "[\"Low\"]",
    "{\"SPF\":\"pass\",\"DKIM\":\"none\",\"CompAuth\":\"fail\"}",
    "{\"SPF\":\"pass\",\"ARC\":\"x\"}",
    "[{\"Name\":\"SPF\",\"Value\":\"Pass\"}]",
    "a@contoso.example",
    "A <a@contoso.example>",
    "a@contoso.example; b@contoso.example",
    "[\"a@contoso.example\",\"x\"]",
    "<>",
    "bücher@fabrikam.example",
    "a@b",
    "203.0.113.7",
    "0.0.0.0",
    "2001:db8::7",
    "::",
    "not an address",
    "2026-08-20T09:11:04.1234567Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "yesterday",
    "Success",
    "UserTriaged",
    "Error",
    "Soft delete",
    "Moved to quarantine",
    "Quarantine release",
    "Redirect",
    "Low",
    "Informational",
    ".html",
    "Tab\tand \"quote\" \\ \u{1}",
    "https://user:pw@x.example/?a=%22",
    "\u{1f600}\u{2028}",
    "null",
    "12",
    "-1",
    "{",
    "[1",
];

fn any_row() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        8 => proptest::sample::select(WORDS).prop_map(Value::from),
        1 => ".{0,12}".prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    let value = scalar.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-zA-Z\"]{1,5}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    });
    let names = proptest::sample::subsequence(COLUMNS, 0..=COLUMNS.len());
    (names, any::<bool>()).prop_flat_map(move |(names, pretty)| {
        let values = proptest::collection::vec(value.clone(), names.len());
        values.prop_map(move |values| {
            let row: Map<String, Value> =
                names.iter().map(|name| (*name).to_owned()).zip(values).collect();
            if pretty {
                serde_json::to_string_pretty(&row).unwrap()
            } else {
                serde_json::to_string(&row).unwrap()
            }
        })
    })
}

fn any_decision() -> impl Strategy<Value = Decision> {
    let tags = proptest::sample::subsequence(Tag::ALL.to_vec(), 0..5);
    let overrides = proptest::collection::vec(any_override(), 0..3);
    let verdict = proptest::option::of(proptest::sample::select(Verdict::ALL));
    (tags, overrides, verdict).prop_map(|(tags, overrides, verdict)| Decision {
        tags: tags.into_iter().collect(),
        verdict,
        overrides,
        ..Decision::default()
    })
}

fn any_override() -> impl Strategy<Value = Override> {
    use proptest::sample::select;
    (
        (select(Level::ALL), select(Direction::ALL), select(OverrideKind::ALL)),
        select(&["", "Connection policy", "a \"b\""][..]),
        select(Effect::ALL),
        proptest::option::of(select(Why::ALL)),
        proptest::option::of(select(Certainty::ALL)),
        any::<bool>(),
    )
        .prop_map(|((level, direction, kind), policy, effect, why, certainty, primary)| {
            Override {
                level,
                direction,
                kind,
                policy: policy.into(),
                effect,
                why,
                certainty,
                primary,
            }
        })
}
