//! One truth over every way that a row comes: it has one id, and a new verdict has another.

use postern::domain::{Chunk, Event, Issue, Position, Raw, Shape};
use postern::normalize::{Column, Context, Normalized, SIZE_CAP, csv_row, each};

use super::*;

const WAYS: [&str; 7] = [
    "streaming",
    "storage lines",
    "rows on lines",
    "hunting",
    "older hunting",
    "hunting with help",
    "csv",
];

/// Each row as one thing that a source hands over.
fn handed_over(
    way: &str,
    table: &Table,
    rows: &[Map<String, Value>],
    with_nulls: bool,
) -> Vec<Event> {
    let record = |row: &Map<String, Value>| {
        json!({"time": "2026-08-20T09:13:32.3832981Z", "tenantId": TENANT, "operationName": "Publish",
            "category": format!("AdvancedHunting-{}", table.name()), "properties": row})
    };
    let hunted: Vec<Value> = rows.iter().map(|row| as_hunted(row, with_nulls)).collect();
    let lines =
        |values: Vec<Value>| values.iter().map(|it| format!("{it}\r\n")).collect::<String>();
    let (shape, body) = match way {
        "streaming" => {
            let records: Vec<Value> = rows.iter().map(record).collect();
            (Shape::Streaming, json!({"records": records}).to_string())
        }
        "storage lines" => (Shape::StreamingLines, lines(rows.iter().map(record).collect())),
        "rows on lines" => (Shape::RowLines(table.clone()), lines(hunted)),
        "hunting" => {
            (Shape::Hunting(table.clone()), json!({"schema": [], "results": hunted}).to_string())
        }
        "older hunting" => {
            let body = json!({"Stats": {}, "Schema": [], "Results": hunted.iter().map(in_lower_case).collect::<Vec<_>>()});
            (Shape::Hunting(table.clone()), body.to_string())
        }
        "hunting with help" => {
            let helped: Vec<Value> = hunted
                .into_iter()
                .map(|mut row| {
                    row["__IngestionTime"] = json!("2026-08-20T09:12:00Z");
                    row["IngestionTime"] = json!("2026-08-20T09:12:00Z");
                    row["_t"] = json!(table.name());
                    row["TimeGenerated"] = json!("2026-08-20T09:11:05Z");
                    row
                })
                .collect();
            (Shape::Hunting(table.clone()), json!({"schema": [], "results": helped}).to_string())
        }
        _ => (Shape::RowLines(table.clone()), by_csv(rows)),
    };
    let context = Context {
        tenant: TENANT.into(),
        source: "any".into(),
        ingested: None,
        normal_lag_seconds: 0,
        backfill: false,
        size_cap: SIZE_CAP,
    };
    let raw = Raw::new(body.as_bytes());
    let chunk = Chunk { raw, shape, position: Position::None, observed: None, backfill: false };
    let mut events = Vec::new();
    each(&chunk, &context, &mut |normalized| match normalized {
        Normalized::Event { event, .. } => events.push(event),
        Normalized::DeadLetter(letter) => panic!("{way}: {letter:?}\n{body}"),
    });
    events
}

/// A row as hunting answers: booleans are numbers, JSON may stand for itself, nulls may be `{}`.
fn as_hunted(row: &Map<String, Value>, with_nulls: bool) -> Value {
    let hunted = row.iter().map(|(name, value)| {
        let value = match value {
            Value::Bool(flag) => json!(i32::from(*flag)),
            Value::Null if with_nulls => json!({}),
            Value::String(text) if is_dynamic(name) && text.starts_with(['{', '[']) => {
                serde_json::from_str(text).unwrap_or_else(|_| value.clone())
            }
            other => other.clone(),
        };
        (name.clone(), value)
    });
    Value::Object(hunted.collect())
}

/// Whether a column may hold JSON instead of a text with JSON.
fn is_dynamic(name: &str) -> bool {
    let shape = Column::from_name(name).map(Column::shape);
    matches!(
        shape,
        Some(postern::normalize::column::Shape::Json | postern::normalize::column::Shape::Any)
    )
}

fn in_lower_case(row: &Value) -> Value {
    let row = row.as_object().unwrap();
    let first = |name: &str| name[..1].to_lowercase() + &name[1..];
    Value::Object(row.iter().map(|(name, value)| (first(name), value.clone())).collect())
}

/// The rows as a CSV export, and that as JSON rows again.
fn by_csv(rows: &[Map<String, Value>]) -> String {
    let names: Vec<&String> = rows[0].keys().collect();
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut csv = String::from("\u{feff}");
    csv.push_str(&names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(","));
    for row in rows {
        let fields = names.iter().map(|name| match &row[*name] {
            Value::Null => String::new(),
            Value::Bool(flag) => {
                if *flag {
                    "True".to_owned()
                } else {
                    "False".to_owned()
                }
            }
            Value::String(text) => quoted(text),
            other => quoted(&other.to_string()),
        });
        csv.push_str("\r\n");
        csv.push_str(&fields.collect::<Vec<_>>().join(","));
    }
    let mut reader = csv_row::reader(csv.as_bytes(), csv_row::delimiter(csv.as_bytes()));
    let mut records = reader.byte_records().map(Result::unwrap);
    let header = csv_row::Header::of(&records.next().unwrap()).unwrap();
    records.map(|it| String::from_utf8(header.row(&it).unwrap()).unwrap() + "\n").collect()
}

/// The row of a table with the columns that differ between ways.
fn full_row(table: &Table) -> Map<String, Value> {
    let mut row = row_of(table).as_object().unwrap().clone();
    if *table == Table::EmailEvents {
        row.insert("EmailClusterId".into(), json!(9_223_372_036_854_775_807_i64));
        row.insert("IsFirstContact".into(), json!(true));
        row.insert("BulkComplaintLevel".into(), json!(null));
    }
    row
}

#[track_caller]
fn one_id(table: &Table, row: &Map<String, Value>, with_nulls: bool) -> EventId {
    let found = WAYS.map(|way| {
        let events = handed_over(way, table, std::slice::from_ref(row), with_nulls);
        assert_eq!(events.len(), 1, "{way} of {}", table.name());
        assert!(
            events[0].issues.iter().all(|it| it.code != Issue::ODD_TYPE),
            "{way}: {:?}",
            events[0].issues
        );
        (way, events[0].id, events[0].key.clone(), events[0].occurred)
    });
    for (way, id, key, occurred) in &found {
        assert_eq!(
            (id, key, occurred),
            (&found[0].1, &found[0].2, &found[0].3),
            "{way} of {}: {row:?}",
            table.name()
        );
    }
    found[0].1
}

#[test]
fn one_truth_has_one_id_over_every_way_and_a_new_verdict_another() {
    for table in Table::TYPED {
        for with_nulls in [false, true] {
            one_id(&table, &full_row(&table), with_nulls);
        }
    }
    let mut row = full_row(&Table::EmailEvents);
    let before = one_id(&Table::EmailEvents, &row, false);
    row.insert("ThreatTypes".into(), json!("Malware, Phish"));
    let after = one_id(&Table::EmailEvents, &row, true);
    assert_ne!(before, after, "a second revision");
    row.insert("Subject".into(), json!("another"));
    assert_eq!(one_id(&Table::EmailEvents, &row, true), after, "other columns are no revision");
}

#[test]
fn without_its_first_identity_column_a_row_is_still_one_over_every_way() {
    for table in [Table::EmailEvents, Table::UrlClickEvents, Table::AlertEvidence] {
        let mut row = full_row(&table);
        for name in ["NetworkMessageId", "ReportId", "AdditionalFields"] {
            if row.contains_key(name) {
                row.insert(name.into(), json!(null));
            }
        }
        one_id(&table, &row, true);
    }
}

fn any_text() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => "[a-zA-Z0-9 .,;\"'<>@/-]{0,20}".prop_map(Value::from),
        1 => "\\PC{0,8}".prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!("{\"Phish\":\"High\",\"Spam\":\"-1\"}")),
        1 => Just(json!("[\"Advanced filter\"]")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_truth_has_one_id_over_every_way(
        place in 0_usize..7,
        values in proptest::collection::vec(any_text(), 16),
        fraction in 0_u32..10_000_000,
        digits in 0_usize..8,
        with_nulls in any::<bool>(),
    ) {
        let table = Table::TYPED[place].clone();
        let mut row = full_row(&table);
        let texts: Vec<String> = row
            .iter()
            .filter(|(name, value)| value.is_string() && *name != "Timestamp" && *name != "AdditionalFields")
            .map(|(name, _)| name.clone())
            .collect();
        for (name, value) in texts.into_iter().zip(values) {
            row.insert(name, value);
        }
        let fraction = format!("{fraction:07}");
        let time = if digits == 0 { String::new() } else { format!(".{}", &fraction[..digits]) };
        row.insert("Timestamp".into(), json!(format!("2026-08-20T09:11:04{time}Z")));
        one_id(&table, &row, with_nulls);
    }
}
