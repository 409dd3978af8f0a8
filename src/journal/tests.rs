//! The engine on the model disk: what comes back after damage, kills and power cuts. Volume and chance are the
//! simulation's business; here each rule has its own small case.

use std::sync::Arc;

use super::bug::{Bug, Planted};
use super::model::{Faults, ModelDisk, Outcome, Tail};
use super::*;
use crate::domain::{
    Arrival, DeadLetter, DeadLetterReason, Decision, Event, EventId, Kind, Raw, Table, Tag,
    TicketRecord, TicketState, Ticks,
};

pub(super) const NOW: Ticks = Ticks(17_000_000_000_000_000);

pub(super) fn event(number: u64) -> Event {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    let raw = format!(r#"{{"Subject":"invoice {number}","n":{number}}}"#);
    let mut decision = Decision::default();
    decision.tags.insert(Tag::OverrideAllow);
    Event {
        id: EventId(id),
        kind: Kind::Email,
        table: Table::EmailEvents,
        tenant: "contoso".into(),
        source: "hubs".into(),
        occurred: Some(NOW),
        observed: None,
        ingested: Some(Ticks(NOW.0 + i64::try_from(number).unwrap())),
        arrival: Some(Arrival::Live),
        key: Some(format!("message-{number}").into()),
        recipient: Some("ada@contoso.example".into()),
        decision,
        issues: vec![],
        row: (0, u32::try_from(raw.len()).unwrap()),
        raw: Raw::from(raw.into_bytes()),
    }
}

pub(super) fn unit(numbers: std::ops::Range<u64>) -> Unit {
    let cursor = (Arc::from("hubs/email/0"), Arc::from(numbers.end.to_string()));
    Unit { events: numbers.map(event).collect(), cursors: vec![cursor], ..Unit::default() }
}

pub(super) fn small() -> JournalConfig {
    JournalConfig {
        segment_bytes: 8 << 10,
        quota_bytes: 4 << 20,
        reserve_bytes: 16 << 10,
        cache_bytes: 0,
        dedup_memory_bytes: 1 << 20,
        ..JournalConfig::default()
    }
}

#[track_caller]
pub(super) fn open(disk: &ModelDisk, seed: u64) -> Engine<ModelDisk> {
    Engine::open(Arc::new(disk.clone()), small(), NOW, seed).unwrap()
}

#[track_caller]
pub(super) fn put(engine: &mut Engine<ModelDisk>, numbers: std::ops::Range<u64>) {
    engine.stage(unit(numbers)).unwrap();
    assert!(matches!(engine.commit(NOW).unwrap(), Commit::Durable(_)));
}

/// Everything from `from` on, as the numbers the events were made of.
#[track_caller]
pub(super) fn numbers(engine: &Engine<ModelDisk>, mut from: u64) -> Vec<u64> {
    let mut found = Vec::new();
    loop {
        let events = engine.read(from, 1 << 10).unwrap();
        let Some(last) = events.last() else { return found };
        from = last.offset + 1;
        for numbered in events {
            let number = u64::from_le_bytes(numbered.event.id.0[..8].try_into().unwrap());
            assert_eq!(*numbered.event, event(number), "an event comes back as it was");
            found.push(number);
        }
    }
}

fn file_named(disk: &ModelDisk, part: &str) -> String {
    let mut names: Vec<String> = disk
        .list()
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|n| n.contains(part))
        .collect();
    names.sort();
    names.pop().unwrap()
}

/// Fault matrix: A1.
#[test]
fn what_was_confirmed_is_there_after_a_kill_and_after_a_power_cut() {
    for outcome in [Outcome::Killed, Outcome::PowerLost(None), Outcome::PowerLost(Some(Tail::Lost))]
    {
        let disk = ModelDisk::new(1);
        let mut engine = open(&disk, 1);
        put(&mut engine, 0..10);
        put(&mut engine, 10..30);
        assert_eq!(engine.next_offset(), 30);
        disk.restart(outcome);
        let mut engine = open(&disk, 2);
        assert_eq!(numbers(&engine, 0), (0..30).collect::<Vec<_>>());
        assert_eq!(engine.cursors("hubs/")["hubs/email/0"].as_ref(), "30");
        assert_eq!(
            engine.admit(&[event(3).id, event(30).id, event(30).id], NOW),
            [false, true, false]
        );
        put(&mut engine, 30..31);
        assert_eq!(numbers(&engine, 29), [29, 30]);
    }
}

#[test]
fn a_journal_that_was_closed_opens_without_copying_and_goes_on() {
    let disk = ModelDisk::new(1);
    let mut engine = open(&disk, 1);
    put(&mut engine, 0..10);
    engine.close(NOW).unwrap();
    let sealed = file_named(&disk, "segment-");
    disk.restart(Outcome::Killed);
    let mut engine = open(&disk, 2);
    assert!(disk.list().unwrap().iter().any(|(name, _)| *name == sealed));
    put(&mut engine, 10..12);
    assert_eq!(numbers(&engine, 0), (0..12).collect::<Vec<_>>());
    assert_eq!(engine.stat().tails_repaired, 0);
}
