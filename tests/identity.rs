//! Identities are for ever: golden ids that must never change, the written byte layout followed by hand, and
//! everything that must not matter to an id.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

#[path = "identity/transports.rs"]
mod transports;

use postern::domain::{EventId, Table, Ticks};
use postern::normalize::Row;
use postern::normalize::identity::{Identified, Identity};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const TENANT: &str = "9F4C1B1E-7A52-4c0e-8d55-0f1e2d3c4b5a";

fn identify(table: &Table, row: &str) -> Identified {
    Identity::new().of_row(TENANT, table, &Row::parse(row.as_bytes()).expect(row))
}

fn id(table: &Table, row: &Value) -> EventId {
    identify(table, &row.to_string()).id
}

/// One invented row for each table.
fn row_of(table: &Table) -> Value {
    match table {
        Table::EmailEvents => json!({
            "Timestamp": "2026-08-20T09:11:04Z", "NetworkMessageId": "6c1f9a34-52d1-4b0e-3a77-08dddf5d90e1",
            "RecipientEmailAddress": "Adele@contoso.example", "ReportId": "6c1f9a34-5120847733019264411-1",
            "ThreatTypes": "Phish", "DetectionMethods": "{\"Phish\":[\"Advanced filter\"]}",
            "ConfidenceLevel": "{\"Phish\":\"High\",\"Spam\":\"-1\"}", "OrgLevelAction": "Allow",
            "OrgLevelPolicy": "Exchange transport rule", "UserLevelAction": null, "UserLevelPolicy": null,
            "DeliveryAction": "Delivered", "DeliveryLocation": "Inbox/folder", "Subject": "Überfällig",
        }),
        Table::EmailPostDeliveryEvents => json!({
            "Timestamp": "2026-08-20T09:40:05.5Z", "NetworkMessageId": "6c1f9a34-52d1-4b0e-3a77-08dddf5d90e1",
            "RecipientEmailAddress": "adele@contoso.example", "ActionType": "Phish ZAP",
            "Action": "Moved to quarantine", "ActionResult": "Success", "ReportId": "r-2",
        }),
        Table::EmailUrlInfo => json!({
            "Timestamp": "2026-08-20T09:11:04Z", "NetworkMessageId": "6c1f9a34-52d1-4b0e-3a77-08dddf5d90e1",
            "Url": "https://login.fabrikam.example/pay?id=88213", "UrlLocation": "Body", "ReportId": "r-3",
        }),
        Table::EmailAttachmentInfo => json!({
            "Timestamp": "2026-08-20T09:11:04Z", "NetworkMessageId": "6c1f9a34-52d1-4b0e-3a77-08dddf5d90e1",
            "RecipientEmailAddress": "adele@contoso.example", "ReportId": "r-4", "FileName": "invoice.html",
            "SHA256": "3f0a377ba0a4a460ecb616f6507ce0d8cfa3e704025d4fda3ed0c5ca05468728",
        }),
        Table::UrlClickEvents => json!({
            "Timestamp": "2026-08-20T09:18:06.1314605Z", "Url": "https://login.fabrikam.example/pay",
            "ActionType": "ClickAllowed", "AccountUpn": "Adele@contoso.example", "IsClickedThrough": false,
            "ReportId": "e2cf1de7-98af-47b5-4a2d-08dddf5eaa01", "NetworkMessageId": "",
        }),
        Table::AlertInfo => json!({
            "Timestamp": "2026-08-20T09:11:00Z", "AlertId": "fa0b6d2f14", "Severity": "Informational",
            "Title": "Phish delivered due to an ETR override", "MachineGroup": null,
            "AttackTechniques": "[\"Phishing (T1566)\"]",
        }),
        Table::AlertEvidence => json!({
            "Timestamp": "2026-08-20T09:11:00Z", "AlertId": "fa0b6d2f14", "EntityType": "MailMessage",
            "EvidenceRole": "Related",
            "AdditionalFields": "{\"Type\":\"mailMessage\",\"MergeByKeyHex\":\"000102030405060708090A0B0C0D0E0F\"}",
        }),
        Table::Other(_) => json!({
            "Timestamp": "2026-08-20T09:11:00Z", "DeviceId": "d-1", "Score": 1.50, "Flags": {"b": true, "a": []},
            "AccountUpn": "Adele@contoso.example",
        }),
    }
}

fn tables() -> Vec<Table> {
    let mut tables = Table::TYPED.to_vec();
    tables.push(Table::Other("DeviceInfo".into()));
    tables
}

#[test]
fn golden_ids_never_change() {
    let expected = [
        ("EmailEvents", "1d8cb7248b8f459db9537e41fa32e3ac"),
        ("EmailPostDeliveryEvents", "92f1e05d3a54434d6f53e08ed38481d9"),
        ("EmailUrlInfo", "dfff73619c74640b3536970b615dba92"),
        ("EmailAttachmentInfo", "044b0e5fb96d1af8263320ee13cc73a2"),
        ("UrlClickEvents", "d3461a276be3d80163e0c03c5b8f542f"),
        ("AlertInfo", "ff1dff5370d87279ac1d8d76fdaba953"),
        ("AlertEvidence", "6859481bbce2e4fdb03ac9c3ba36d6cf"),
        ("DeviceInfo", "50c18522f364100c0b34a4457867d7f2"),
    ];
    let found: Vec<(String, String)> = tables()
        .iter()
        .map(|table| (table.name().to_owned(), id(table, &row_of(table)).to_string()))
        .collect();
    let found: Vec<(&str, &str)> = found.iter().map(|(table, id)| (&**table, &**id)).collect();
    assert_eq!(found, expected);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
    out.extend_from_slice(text);
}

fn first_half(bytes: &[u8]) -> EventId {
    EventId(blake3::hash(bytes).as_bytes()[..16].try_into().unwrap())
}

fn ticks(time: &str) -> [u8; 8] {
    Ticks::parse(time).unwrap().0.to_le_bytes()
}

#[test]
fn the_written_layout_followed_by_hand_gives_the_id_of_a_mail() {
    let mut revision = Vec::new();
    revision.push(b's');
    text(&mut revision, b"phish");
    revision.extend_from_slice(b"o\x01\0\0\0");
    text(&mut revision, b"phish");
    revision.extend_from_slice(b"a\x01\0\0\0s");
    text(&mut revision, b"advanced filter");
    revision.extend_from_slice(b"o\x02\0\0\0");
    for (key, value) in [("phish", "high"), ("spam", "-1")] {
        text(&mut revision, key.as_bytes());
        revision.push(b's');
        text(&mut revision, value.as_bytes());
    }
    for value in ["allow", "exchange transport rule", "", "", "delivered", "inbox/folder"] {
        if value.is_empty() {
            revision.push(0);
        } else {
            revision.push(b's');
            text(&mut revision, value.as_bytes());
        }
    }
    let mut bytes = vec![1];
    text(&mut bytes, b"9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a");
    text(&mut bytes, b"EmailEvents");
    bytes.push(b'k');
    text(&mut bytes, b"6c1f9a34-52d1-4b0e-3a77-08dddf5d90e1");
    text(&mut bytes, b"adele@contoso.example");
    text(&mut bytes, b"6c1f9a34-5120847733019264411-1");
    text(&mut bytes, &ticks("2026-08-20T09:11:04Z"));
    text(&mut bytes, blake3::hash(&revision).as_bytes());
    assert_eq!(id(&Table::EmailEvents, &row_of(&Table::EmailEvents)), first_half(&bytes));
}

#[test]
fn the_written_layout_followed_by_hand_gives_the_id_of_a_row_of_any_table() {
    let table = Table::Other("DeviceInfo".into());
    let mut bytes = vec![1];
    text(&mut bytes, b"9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a");
    text(&mut bytes, b"DeviceInfo");
    bytes.extend_from_slice(b"oo\x05\0\0\0");
    text(&mut bytes, b"AccountUpn");
    bytes.push(b's');
    text(&mut bytes, b"adele@contoso.example");
    text(&mut bytes, b"DeviceId");
    bytes.push(b's');
    text(&mut bytes, b"d-1");
    text(&mut bytes, b"Flags");
    bytes.extend_from_slice(b"o\x01\0\0\0");
    text(&mut bytes, b"b");
    bytes.push(b's');
    text(&mut bytes, b"true");
    text(&mut bytes, b"Score");
    bytes.push(b's');
    text(&mut bytes, b"1.5");
    text(&mut bytes, b"Timestamp");
    bytes.push(b't');
    bytes.extend_from_slice(&ticks("2026-08-20T09:11:00Z"));
    assert_eq!(id(&table, &row_of(&table)), first_half(&bytes));
}

#[track_caller]
fn check(table: &Table, change: &Value, same: bool) {
    let mut row = row_of(table);
    let before = id(table, &row);
    for (name, value) in change.as_object().unwrap() {
        row[name] = value.clone();
    }
    assert_eq!(id(table, &row) == before, same, "{}: {change}", table.name());
}

#[test]
fn a_new_verdict_is_a_new_revision_and_other_columns_are_not() {
    let table = Table::EmailEvents;
    for change in [
        json!({"ThreatTypes": "Malware"}),
        json!({"DetectionMethods": "{\"Phish\":[\"Campaign\"]}"}),
        json!({"ConfidenceLevel": "{\"Phish\":\"Normal\",\"Spam\":\"-1\"}"}),
        json!({"OrgLevelAction": null}),
        json!({"OrgLevelPolicy": "Connection policy"}),
        json!({"UserLevelAction": "Block"}),
        json!({"UserLevelPolicy": "Trusted senders only"}),
        json!({"DeliveryAction": "Blocked"}),
        json!({"DeliveryLocation": "Quarantine"}),
        json!({"ReportId": "another"}),
        json!({"Timestamp": "2026-08-20T09:11:04.0000001Z"}),
        json!({"RecipientEmailAddress": "bob@contoso.example"}),
    ] {
        check(&table, &change, false);
    }
    for change in [
        json!({"Subject": "changed"}),
        json!({"LatestDeliveryLocation": "Quarantine"}),
        json!({"OriginalThreatTypes": "Phish"}),
        json!({"ThreatTypes": " phish "}),
        json!({"DetectionMethods": {"Phish": ["Advanced Filter"]}}),
        json!({"ConfidenceLevel": "{ \"Spam\" : -1, \"Phish\":\"HIGH\" }"}),
        json!({"UserLevelAction": ""}),
        json!({"UserLevelPolicy": "  "}),
        json!({"RecipientEmailAddress": " ADELE@CONTOSO.EXAMPLE "}),
        json!({"Timestamp": "2026-08-20 11:11:04.0000000+02:00"}),
    ] {
        check(&table, &change, true);
    }
}

#[test]
fn forms_of_one_value_are_one_value_in_every_table() {
    check(&Table::UrlClickEvents, &json!({"IsClickedThrough": "False"}), true);
    check(&Table::UrlClickEvents, &json!({"IsClickedThrough": 0}), true);
    check(&Table::UrlClickEvents, &json!({"IsClickedThrough": 1}), false);
    check(&Table::AlertEvidence, &json!({"Title": "anything"}), true);
    check(
        &Table::AlertEvidence,
        &json!({"AdditionalFields": {"MergeByKeyHex": "000102030405060708090A0B0C0D0E0F"}}),
        true,
    );
    check(&Table::AlertEvidence, &json!({"AdditionalFields": null}), false);
    check(&Table::AlertInfo, &json!({"AttackTechniques": ["Phishing (T1566)"]}), true);
    check(&Table::AlertInfo, &json!({"Severity": "High"}), false);
    check(
        &Table::AlertInfo,
        &json!({"TimeGenerated": "2026-08-20T09:12:00Z", "Type": "AlertInfo"}),
        true,
    );
    check(&Table::AlertInfo, &json!({"__UDI_RequiredFields_TenantId": "t"}), true);
    check(&Table::Other("DeviceInfo".into()), &json!({"Type": "x"}), false);
}

#[test]
fn without_the_first_identity_column_all_columns_count_and_the_record_says_so() {
    for table in Table::TYPED {
        let mut row = row_of(&table);
        assert!(!identify(&table, &row.to_string()).fallback, "{}", table.name());
        let first = match table {
            Table::UrlClickEvents => "ReportId",
            Table::AlertInfo => continue,
            Table::AlertEvidence => "AlertId",
            _ => "NetworkMessageId",
        };
        row[first] = json!(" ");
        let before = identify(&table, &row.to_string());
        assert!(before.fallback, "{}", table.name());
        row["Elsewhere"] = json!(1);
        assert_ne!(identify(&table, &row.to_string()).id, before.id, "{}", table.name());
    }
}

#[test]
fn tenants_and_tables_keep_equal_rows_apart() {
    let row = row_of(&Table::EmailUrlInfo).to_string();
    let row = Row::parse(row.as_bytes()).unwrap();
    let mut identity = Identity::new();
    let here = identity.of_row(TENANT, &Table::EmailUrlInfo, &row).id;
    assert_ne!(here, identity.of_row("other", &Table::EmailUrlInfo, &row).id);
    assert_ne!(here, identity.of_row(TENANT, &Table::EmailAttachmentInfo, &row).id);
    assert_eq!(here, identity.of_row(&format!(" {TENANT} "), &Table::EmailUrlInfo, &row).id);
    assert_eq!(identity.of_mail(TENANT, &row), identity.of_mail(TENANT, &row));
}

/// Writes a JSON value with its keys in another order and with white space, meaning the same.
fn rewritten(value: &Value, seed: u64, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by_key(|(name, _)| {
                *blake3::hash(format!("{seed}{name}").as_bytes()).as_bytes()
            });
            out.push_str("{ ");
            for (place, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if place > 0 { " ,\n" } else { "" });
                out.push_str(&json!(name).to_string());
                out.push_str("\t: ");
                rewritten(value, seed, out);
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push_str("[ ");
            for (place, value) in values.iter().enumerate() {
                out.push_str(if place > 0 { " , " } else { "" });
                rewritten(value, seed, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// The row with null, missing and empty exchanged for one another, blanks around its texts, its inner
/// JSON in another order, its addresses in another case.
fn disguised(row: &Map<String, Value>, seed: u64) -> Map<String, Value> {
    const NOTHING: [&str; 3] = ["Connectors", "EmailAction", "AccountSid"];
    let mut other = Map::new();
    for (name, value) in row {
        let value = match value {
            Value::Null if seed.is_multiple_of(2) => continue,
            Value::Null => json!("  "),
            Value::String(text) if text.starts_with(['{', '[']) => {
                let mut inner = String::new();
                rewritten(&serde_json::from_str(text).unwrap(), seed, &mut inner);
                json!(inner)
            }
            Value::String(text) if name == "RecipientEmailAddress" || name == "AccountUpn" => {
                json!(text.to_uppercase())
            }
            Value::String(text) => json!(format!(" {text}\t")),
            other => other.clone(),
        };
        other.insert(name.clone(), value);
    }
    for (place, name) in NOTHING.iter().enumerate() {
        match (seed >> place) & 3 {
            0 => continue,
            1 => other.insert((*name).to_owned(), Value::Null),
            2 => other.insert((*name).to_owned(), json!("")),
            _ => other.insert((*name).to_owned(), json!(" ")),
        };
    }
    other
}

proptest! {
    /// Fault matrix: G6.
    #[test]
    fn order_white_space_nothing_and_address_case_do_not_change_an_id(place in 0..8_usize, seed in any::<u64>()) {
        let table = &tables()[place];
        let row = row_of(table);
        let mut written = String::new();
        rewritten(&Value::Object(disguised(row.as_object().unwrap(), seed)), seed, &mut written);
        prop_assert_eq!(id(table, &row), identify(table, &written).id, "{}", written);
    }
}

/// Fault matrix: G5. The columns are told apart by their lengths, so what one ends with cannot begin the next.
#[test]
fn rows_made_to_look_alike_when_their_columns_are_put_together_have_ids_of_their_own() {
    let columns = ["NetworkMessageId", "RecipientEmailAddress", "ReportId"];
    let parts = [
        "a",
        "aa",
        "aaa",
        "a\u{0}",
        "\u{0}a",
        "a\u{1f}a",
        "a|a",
        "a,a",
        "\"a",
        "a\\",
        "\u{1}\u{0}a",
    ];
    let mut ids = std::collections::HashSet::new();
    let mut rows = 0;
    for first in parts {
        for second in parts {
            for third in parts {
                let mut row = row_of(&Table::EmailEvents);
                for (column, value) in columns.iter().zip([first, second, third]) {
                    row[*column] = value.into();
                }
                rows += 1;
                ids.insert(id(&Table::EmailEvents, &row));
            }
        }
    }
    assert_eq!(ids.len(), rows);
}
