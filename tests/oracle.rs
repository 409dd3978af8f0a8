//! The second opinion (`oracle/oracle.py`) is itself put to the test: it must accept what is right and find
//! every single fault. It shares no code with Postern, so the tests that use it need a Python 3.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may assume"
)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use postern::domain::Ticks;
use postern::simulator::envelope::{Hubs, Packer};
use postern::simulator::record::Record;
use postern::simulator::tenant::{Settings, Tenant};
use postern::simulator::truth::Truth;
use serde_json::{Value, json};

struct Scene {
    directory: tempfile::TempDir,
    /// The events as an export of the journal would have them.
    events: Vec<Value>,
    poison: u64,
}

/// A tenant's truth, and what a faultless Postern would export.
fn scene() -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let mut truth = Truth::create(&directory.path().join("truth.ndjson")).unwrap();
    let settings = Settings { seed: 11, mails_per_second: 50.0, ..Settings::default() };
    let hubs = Hubs::PerTable { prefix: String::new() };
    let mut packer = Packer::new(hubs, 2, Arc::clone(&settings.tenant_id), 11, 200);
    let (mut messages, mut records) = (Vec::new(), Vec::<Record>::new());
    let mut tenant = Tenant::new(settings);
    tenant.advance(Ticks(0).plus_seconds(4), &mut |record| records.push(record));
    tenant.finish(&mut |record| records.push(record));
    for record in &records {
        packer.add(record, &mut messages);
    }
    packer.flush(Ticks(i64::MAX), &mut messages);
    for message in &messages {
        truth.sent(message).unwrap();
    }
    truth.finish().unwrap();
    let mut known = HashSet::new();
    records.retain(|record| known.insert((record.fact.table, record.fact.identity.clone())));
    let events = records.iter().enumerate().map(|(number, record)| event(number, record)).collect();
    Scene { directory, events, poison: truth.totals().poison }
}

fn event(number: usize, record: &Record) -> Value {
    let raw: Value = serde_json::from_str(record.properties.get()).unwrap();
    let mut event = json!({
        "id": format!("{number:032x}"), "kind": "row", "table": record.fact.table, "raw": raw
    });
    if let Some(tags) = record.fact.tags.as_ref().filter(|tags| !tags.is_empty()) {
        event["tags"] = tags.words().collect();
    }
    event
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The oracle's exit code and words about `events` and this many dead letters.
    fn judge(&self, events: &[Value], dead_letters: u64) -> (i32, String) {
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        std::fs::write(self.path("export.ndjson"), lines).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/oracle.py");
        let output = Command::new("python3")
            .arg(script)
            .arg("--truth")
            .arg(self.path("truth.ndjson"))
            .arg("--journal")
            .arg(self.path("export.ndjson"))
            .arg("--dead-letters")
            .arg(dead_letters.to_string())
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), words)
    }

    #[track_caller]
    fn finds(&self, fault: &str, spoil: impl FnOnce(&mut Vec<Value>)) {
        let mut events = self.events.clone();
        spoil(&mut events);
        let (code, words) = self.judge(&events, self.poison);
        assert_eq!(code, 1, "{words}");
        let verdict = words.lines().last().unwrap();
        assert_eq!(verdict, format!("verdict: {fault}"), "{words}");
    }
}

#[test]
fn the_oracle_accepts_what_is_right_in_any_order() {
    let scene = scene();
    let mut events = scene.events.clone();
    events.reverse();
    let (code, words) = scene.judge(&events, scene.poison);
    assert_eq!(code, 0, "{words}");
    assert!(words.ends_with("verdict: right\n"), "{words}");
}

#[test]
fn the_oracle_finds_each_single_fault() {
    let scene = scene();
    scene.finds("1 lost", |events| drop(events.remove(17)));
    scene.finds("1 more than once", |events| {
        let mut again = events[17].clone();
        again["id"] = "another".into();
        events.push(again);
    });
    scene.finds("1 id used twice, 1 more than once", |events| events.push(events[17].clone()));
    scene.finds("1 lost, 1 more than once", |events| {
        events[17] = events[18].clone();
        events[17]["id"] = "another".into();
    });
    scene.finds("1 never sent", |events| {
        events
            .push(json!({"id": "x", "table": "EmailUrlInfo", "raw": {"Url": "https://a.example"}}));
    });
    scene.finds("1 gap", |events| events.push(json!({"id": "g", "kind": "gap", "raw": {}})));
    scene.finds("1 tags", |events| {
        let mail = events.iter_mut().find(|event| event["tags"][0] == "allowed.hc_phish").unwrap();
        mail["tags"] = json!(["override.allow"]);
    });
}

#[test]
fn the_oracle_wants_one_dead_letter_for_each_thing_that_cannot_be_read() {
    let scene = scene();
    assert!(scene.poison > 0);
    let (code, words) = scene.judge(&scene.events, scene.poison - 1);
    assert_eq!(code, 1, "{words}");
    assert!(words.ends_with("verdict: 1 dead letters\n"), "{words}");
}

#[test]
fn the_oracle_does_not_judge_by_a_truth_that_is_not_complete() {
    let scene = scene();
    let truth = std::fs::read_to_string(scene.path("truth.ndjson")).unwrap();
    let (kept, _) = truth.trim_end().rsplit_once('\n').unwrap();
    std::fs::write(scene.path("truth.ndjson"), kept).unwrap();
    let (code, words) = scene.judge(&scene.events, scene.poison);
    assert_eq!(code, 2, "{words}");
    assert!(words.contains("not complete"), "{words}");
}
