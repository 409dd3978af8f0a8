//! `postern tag` as a process: what goes in, what comes out, and that nothing a file can hold makes it fall.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

#[path = "ocsf_schema/validator.rs"]
mod validator;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use serde_json::{Value, json};

const EXAMPLES: &str = include_str!("fixtures/overrides.jsonl");

struct Ended {
    code: i32,
    lines: Vec<Value>,
    output: String,
    errors: String,
}

fn tag(arguments: &[&str], input: &[u8]) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_postern"))
        .arg("tag")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let ended = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    let output = String::from_utf8_lossy(&ended.stdout).into_owned();
    let lines = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
    Ended { code: ended.status.code().unwrap_or(-1), lines, output, errors }
}

/// A worked example as a full row, its id, and the tags that are expected of it.
fn examples() -> Vec<(String, Value, Value)> {
    let examples: Vec<_> = EXAMPLES
        .lines()
        .map(|line| {
            let example: Value = serde_json::from_str(line).unwrap();
            let id = example["id"].as_str().unwrap().to_owned();
            let mut row = json!({
                "Timestamp": "2026-08-20T09:11:04Z",
                "NetworkMessageId": format!("message-{id}"),
                "RecipientEmailAddress": "adele@contoso.example",
                "SenderFromAddress": "billing@fabrikam.example",
                "ReportId": id,
                "EmailDirection": "Inbound",
            });
            for (column, value) in example["in"].as_object().unwrap() {
                row[column] = value.clone();
            }
            (id, row, example["tags"].clone())
        })
        .collect();
    assert_eq!(examples.len(), 47);
    examples
}

fn record(row: &Value) -> Value {
    json!({
        "time": "2026-08-20T09:13:32.3832981Z", "tenantId": "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a",
        "operationName": "Publish", "category": "AdvancedHunting-EmailEvents",
        "properties": row, "Tenant": "DefaultTenant",
    })
}

#[test]
fn every_worked_example_gets_its_tags_in_whatever_form_it_comes() {
    let rows: Vec<Value> = examples().into_iter().map(|(_, row, _)| row).collect();
    let records: Vec<Value> = rows.iter().map(record).collect();
    let message = json!({"records": records});
    let lines = |values: &[Value]| {
        values.iter().fold(String::new(), |mut text, value| {
            let _ = writeln!(text, "{value}");
            text
        })
    };
    let forms: [(&str, &[&str], String); 9] = [
        ("a message", &[], message.to_string()),
        ("a message on many lines", &[], serde_json::to_string_pretty(&message).unwrap()),
        (
            "messages, one to a line",
            &[],
            lines(&records.iter().map(|it| json!({"records": [it]})).collect::<Vec<_>>()),
        ),
        ("storage lines", &["--from", "storage"], lines(&records)),
        ("an array of records", &["--from", "streaming"], Value::from(records.clone()).to_string()),
        ("bare rows, known by their columns", &[], lines(&rows)),
        ("bare rows of a named table", &["--table", "EmailEvents"], lines(&rows)),
        ("an array of rows on many lines", &[], serde_json::to_string_pretty(&rows).unwrap()),
        ("rows on many lines", &[], rows.iter().map(|row| format!("{row:#}\n")).collect()),
    ];
    let mut ids: Option<Vec<Value>> = None;
    for (form, arguments, input) in forms {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--tenant", "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a"]);
        let ended = tag(&arguments, input.as_bytes());
        assert_eq!((ended.code, ended.lines.len()), (0, 47), "{form}: {}", ended.errors);
        for ((id, row, tags), event) in examples().into_iter().zip(&ended.lines) {
            let found = event.get("tags").cloned().unwrap_or_else(|| json!([]));
            assert_eq!(found, tags, "{form}, {id}");
            assert_eq!(event["raw"], row, "{form}, {id}");
            assert_eq!(event["source"], "file");
            assert!(event.get("ingested").is_none() && event.get("arrival").is_none());
        }
        let found: Vec<Value> = ended.lines.iter().map(|event| event["id"].clone()).collect();
        assert_eq!(ids.get_or_insert_with(|| found.clone()), &found, "{form}: ids");
        assert!(ended.errors.starts_with("47 records, 47 events, 0 rejected"), "{}", ended.errors);
    }
}

#[test]
fn every_worked_example_fits_the_published_schema_as_ocsf() {
    let input: String = examples().iter().map(|(_, row, _)| format!("{}\n", record(row))).collect();
    let ended = tag(&["--format", "ocsf"], input.as_bytes());
    let schema = validator::Schema::published();
    assert_eq!(ended.lines.len(), 47);
    for ((id, row, tags), document) in examples().into_iter().zip(&ended.lines) {
        let problems = schema.problems(document);
        assert!(problems.is_empty(), "{id}: {problems:#?}");
        let labels = document["metadata"].get("labels").cloned().unwrap_or_else(|| json!([]));
        assert_eq!((labels, &document["class_uid"]), (tags, &json!(4009)), "{id}");
        assert_eq!(document["unmapped"]["raw"], row);
    }
}

#[test]
fn rejected_records_are_named_by_file_and_line_and_their_neighbours_live() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mail.ndjson");
    let good = json!({"records": [record(&json!({"Subject": "x", "NetworkMessageId": "m"}))]});
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let long = format!("{{\"Subject\":\"{}\"}}", "x".repeat(10_000_000));
    let text = format!("{good}\nnot json\n{good}\n{{\"a\":\n{deep}\n{long}\n[{good},7]\n{good}");
    std::fs::write(&file, text).unwrap();
    let name = file.to_str().unwrap();
    let ended = tag(&[name], b"");
    assert_eq!((ended.code, ended.lines.len()), (1, 4), "{}", ended.errors);
    assert!(ended.errors.contains("9 records, 4 events, 5 rejected"), "{}", ended.errors);
    for (line, reason) in [
        (2, "not a JSON object"),
        (4, "the JSON ends too early"),
        (5, "nested deeper than 64"),
        (6, "bytes, 4194304 at most"),
        (7, "the record is JSON, but no object"),
    ] {
        let said = ended.errors.lines().find(|it| it.contains(&format!("{name}:{line}: ")));
        assert!(said.is_some_and(|it| it.contains(reason)), "line {line}: {}", ended.errors);
    }
}

#[test]
fn a_broken_record_of_a_message_on_many_lines_is_named_by_its_own_line() {
    let good = record(&json!({"Subject": "x", "NetworkMessageId": "m"}));
    let ended = tag(&[], format!("\n{{\"records\":[\n{good},\n\n12,\n{good}]}}\n").as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (1, 2), "{}", ended.errors);
    assert!(ended.errors.contains("-:5: "), "{}", ended.errors);
}

#[test]
fn a_record_on_the_first_of_many_lines_comes_out_once() {
    let good = record(&json!({"Subject": "x", "NetworkMessageId": "m"}));
    let ended = tag(&[], format!("{{\"records\":[{good},\n{good}]}}\n{good}\n").as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (0, 3), "{}", ended.errors);
    assert!(ended.errors.starts_with("3 records, 3 events, 0 rejected"), "{}", ended.errors);
}

#[test]
fn odd_text_passes_and_is_told_as_issues() {
    let input = r#"{"DeliveryAction":"\ud83d","Subject":"a","Subject":"b","Timestamp":"soon"}"#;
    let ended = tag(&[], input.as_bytes());
    // Half a surrogate pair in `raw` is the record's own; strict readers refuse such a line.
    assert_eq!((ended.code, ended.lines.len()), (0, 0), "{}", ended.output);
    for issue in
        ["\"lone_surrogate:DeliveryAction\"", "\"duplicate_key:Subject\"", "\"bad_timestamp\""]
    {
        assert!(ended.output.contains(issue), "{issue}: {}", ended.output);
    }
    let ocsf = tag(&["--format", "ocsf"], input.as_bytes());
    assert_eq!(ocsf.lines.len(), 1, "OCSF stays strict JSON: {}", ocsf.output);
    assert_eq!(ocsf.lines[0]["raw_data"], input);
}

#[test]
fn an_explanation_names_verdict_outcome_override_and_reason() {
    let (_, row, _) = examples().remove(0);
    let ended = tag(&["--explain"], record(&row).to_string().as_bytes());
    assert_eq!(ended.code, 0);
    for part in ["hc_phish", "delivered", "transport_rule", "allowed.hc_phish", "OrgLevelAction"] {
        assert!(ended.output.contains(part), "{part}: {}", ended.output);
    }
}

#[test]
fn what_is_not_built_is_refused_with_what_there_is() {
    for (arguments, there_is) in [
        (["--format", "ecs"], "native, ocsf"),
        (["--format", "leef"], "native, ocsf"),
        (["--from", "pigeon"], "auto, streaming, storage, hunting, graph, activity, csv"),
    ] {
        let ended = tag(&arguments, b"");
        assert_eq!(ended.code, 2, "{arguments:?}");
        assert!(ended.errors.contains(there_is), "{}", ended.errors);
    }
    let missing = tag(&["/nowhere/mail.ndjson"], b"");
    assert_eq!(missing.code, 2);
    assert!(missing.errors.contains("cannot open /nowhere/mail.ndjson"), "{}", missing.errors);
    let directory = tag(&["/"], b"");
    assert!(directory.errors.contains("/ is a directory"), "{}", directory.errors);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_postern"))
        .arg("tag")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    let line = format!("{}\n", record(&json!({"Subject": "x".repeat(1000)})));
    // Until the pipe to it breaks, which is when it has gone.
    while stdin.write_all(line.as_bytes()).is_ok() {}
    drop(stdin);
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((child.wait().unwrap().code(), errors.as_str()), (Some(0), ""));
}

#[test]
fn memory_stays_flat_through_one_endless_line() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_postern"))
        .arg("tag")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let record = record(&json!({"Subject": "x".repeat(5000)})).to_string();
    for count in 0..20_000 {
        stdin.write_all(if count == 0 { b"[" } else { b"," }).unwrap();
        stdin.write_all(record.as_bytes()).unwrap();
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let kilobytes: String = peak.chars().filter(char::is_ascii_digit).collect();
    stdin.write_all(b"]").unwrap();
    drop(stdin);
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(errors.starts_with("20000 records, 20000 events, 0 rejected"), "{errors}");
    assert!(child.wait().unwrap().success());
    assert!(kilobytes.parse::<u64>().unwrap() < 60_000, "100 MB of input took {peak}");
}

/// The worked examples as hunting answers them, in either casing, and as the portal exports them.
fn as_exported() -> [(&'static str, &'static str, String); 3] {
    let rows: Vec<Value> = examples().into_iter().map(|(_, row, _)| row).collect();
    let schema =
        |key: &str| json!([{key: "Timestamp"}, {key: "OrgLevelAction"}, {key: "NetworkMessageId"}]);
    let answer = json!({"@odata.context": "x", "schema": schema("name"), "results": rows});
    let older = json!({"Stats": {}, "Schema": schema("Name"), "Results": rows});
    let mut names: Vec<&String> =
        rows.iter().flat_map(|row| row.as_object().unwrap().keys()).collect();
    names.sort_unstable();
    names.dedup();
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut csv = String::from("\u{feff}");
    csv.push_str(&names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(","));
    for row in &rows {
        let fields = names.iter().map(|name| match row.get(*name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => quoted(text),
            Some(other) => quoted(&other.to_string()),
        });
        csv.push_str("\r\n");
        csv.push_str(&fields.collect::<Vec<_>>().join(","));
    }
    [
        ("hunting", "an answer on one line", answer.to_string()),
        ("hunting", "an older answer on many lines", serde_json::to_string_pretty(&older).unwrap()),
        ("csv", "an export", csv),
    ]
}

#[test]
fn hunting_answers_and_csv_exports_get_the_tags_and_the_ids_of_the_stream() {
    let tenant = "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a";
    let examples = examples();
    let rows: String = examples.iter().map(|(_, row, _)| format!("{row}\n")).collect();
    let expected = tag(&["--tenant", tenant, "--table", "EmailEvents"], rows.as_bytes());
    for (from, form, input) in as_exported() {
        for from in ["auto", from] {
            let ended = tag(&["--from", from, "--tenant", tenant], input.as_bytes());
            assert_eq!((ended.code, ended.lines.len()), (0, 47), "{form}: {}", ended.errors);
            for (event, expected) in ended.lines.iter().zip(&expected.lines) {
                // In a CSV nothing tells an `Original*` column that is not there from one that is empty.
                if from == "csv" || form == "an export" {
                    assert_eq!(event["kind"], "email");
                    continue;
                }
                assert_eq!(event["id"], expected["id"], "{form} by --from {from}");
                assert_eq!(event.get("tags"), expected.get("tags"), "{form} by --from {from}");
            }
            let agree =
                ended.lines.iter().zip(&expected.lines).filter(|(a, b)| a["id"] == b["id"]).count();
            assert_eq!(agree, 47, "{form}: ids");
        }
    }
}

#[test]
fn pages_of_graph_and_blobs_of_the_audit_log_are_read_as_they_come() {
    let records: Vec<Value> = include_str!("fixtures/activity_overrides.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let blob: Vec<Value> = records.iter().map(|example| example["in"].clone()).collect();
    for (arguments, input) in [
        (&[][..], json!(blob).to_string()),
        (&["--from", "activity"][..], serde_json::to_string_pretty(&blob).unwrap()),
        (&[][..], blob.iter().map(|record| format!("{record}\n")).collect()),
    ] {
        let ended = tag(arguments, input.as_bytes());
        assert_eq!((ended.code, ended.lines.len()), (0, 9), "{}", ended.errors);
        for (event, example) in ended.lines.iter().zip(&records) {
            let tags = event.get("tags").cloned().unwrap_or_else(|| json!([]));
            assert_eq!((&event["kind"], tags), (&json!("email.activity"), example["tags"].clone()));
        }
    }
    let alert = json!({"id": "fa1", "title": "Phish delivered due to an ETR override", "serviceSource": "x",
        "createdDateTime": "2026-08-20T09:14:30Z", "lastUpdateDateTime": "2026-08-20T09:16:01Z",
        "evidence": [{"@odata.type": "#microsoft.graph.security.analyzedMessageEvidence", "deliveryLocation": "inbox"}]});
    let incident = json!({"id": "4711", "displayName": "Phish delivered due to an ETR override involving one user",
        "redirectIncidentId": null, "createdDateTime": "2026-08-20T09:14:31Z",
        "lastUpdateDateTime": "2026-08-20T09:16:02Z", "alerts": [alert]});
    let page =
        json!({"@odata.context": "x/$metadata#security/incidents(alerts())", "value": [incident]});
    for (arguments, input) in [
        (&[][..], page.to_string()),
        (&["--from", "graph"][..], serde_json::to_string_pretty(&page).unwrap()),
        (&["--from", "auto"][..], json!([incident]).to_string()),
    ] {
        let ended = tag(arguments, input.as_bytes());
        let kinds: Vec<&Value> = ended.lines.iter().map(|event| &event["kind"]).collect();
        assert_eq!(kinds, ["incident", "alert"], "{}", ended.errors);
        assert!(
            ended
                .lines
                .iter()
                .all(|it| it["tags"] == json!(["allowed.hc_phish", "override.allow"]))
        );
    }
    let alerts = tag(&[], json!({"value": [alert]}).to_string().as_bytes());
    assert_eq!((alerts.code, &alerts.lines[0]["kind"]), (0, &json!("alert")));
    assert_eq!(alerts.lines[0]["table"], "alerts_v2");
    let error = tag(&["--from", "graph"], br#"{"error":{"code":"UnknownError","message":""}}"#);
    assert_eq!((error.code, error.lines.len()), (1, 0), "an error is no alert: {}", error.errors);
}

#[test]
fn a_line_of_csv_that_does_not_fit_is_named_and_its_neighbours_live() {
    let csv = "Timestamp,Subject,NetworkMessageId\n2026-08-20T09:11:04Z,\"two\nlines\",m-1\nshort\n,x,m-2\n";
    let ended = tag(&["--table", "EmailEvents"], csv.as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (1, 2), "{}", ended.errors);
    assert_eq!(ended.lines[0]["raw"]["Subject"], "two\nlines");
    assert_eq!(
        ended.lines[1]["raw"],
        json!({"Timestamp": null, "Subject": "x", "NetworkMessageId": "m-2"})
    );
    assert!(ended.errors.contains("-:4: 1 fields where the header names 3"), "{}", ended.errors);
    let none = tag(&["--from", "csv"], b",,\n1,2,3\n");
    assert!(none.code == 1 && none.errors.contains("no CSV header"), "{}", none.errors);
    assert_eq!(tag(&["--from", "csv"], b"").code, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_a_file_holds_makes_it_fall(
        example in 0_usize..47,
        cuts in proptest::collection::vec((any::<u16>(), any::<u8>(), any::<bool>()), 0..12),
        ocsf in any::<bool>(),
    ) {
        let mut bytes = serde_json::to_vec_pretty(&record(&examples()[example].1)).unwrap();
        for (place, byte, remove) in cuts {
            let place = usize::from(place) % bytes.len().max(1);
            match (remove, bytes.get_mut(place)) {
                (true, Some(_)) => drop(bytes.drain(place..(place + usize::from(byte)).min(bytes.len()))),
                (false, Some(there)) => *there = byte,
                (_, None) => bytes.push(byte),
            }
        }
        let ended = tag(if ocsf { &["--format", "ocsf"] } else { &[] }, &bytes);
        prop_assert!(ended.code == 0 || ended.code == 1, "{}: {}", ended.code, ended.errors);
        prop_assert!(!ended.errors.contains("panicked"), "{}", ended.errors);
    }
}
