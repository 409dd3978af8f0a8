//! The engine on the model disk: what comes back after damage, kills and power cuts. Volume and chance are the
//! simulation's business; here each rule has its own small case.

use std::sync::Arc;

use super::model::{ModelDisk, Outcome, Tail};
use super::*;
use crate::domain::{Arrival, Decision, Event, EventId, Kind, Raw, Table, Tag, Ticks};

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

pub(super) fn file_named(disk: &ModelDisk, part: &str) -> String {
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

/// Fault matrix: A6. Whatever of an unsynced frame a power cut leaves, it is cut off, counted, and appending goes on.
#[test]
fn a_torn_tail_is_cut_and_earlier_frames_survive() {
    let disk = ModelDisk::new(5);
    let mut engine = open(&disk, 1);
    put(&mut engine, 0..10);
    engine.stage(unit(10..20)).unwrap();
    // The machine stops at the sync: the frame is written, but not durable.
    disk.crash_at(Some(disk.calls() + 1));
    engine.commit(NOW).unwrap_err();
    let mut cut = 0;
    for seed in 0..40 {
        let disk = disk.fork();
        disk.restart(Outcome::PowerLost(Some([Tail::Torn, Tail::Zeroed][seed % 2])));
        let mut engine = open(&disk, 2);
        let found = numbers(&engine, 0).len();
        assert!(found == 10 || found == 20, "a frame is there whole or not at all: {found}");
        cut += engine.stat().tails_repaired;
        put(&mut engine, 100..101);
        disk.restart(Outcome::PowerLost(None));
        assert_eq!(numbers(&open(&disk, 3), found as u64), [100]);
    }
    assert!(cut > 0, "no tail was torn");
}

/// Fault matrix: B7, B8. A file of ten frames; every byte is flipped in turn. Whatever comes back is right, and what
/// does not come back is reported.
#[test]
fn every_flipped_byte_of_a_sealed_segment_is_detected_and_no_wrong_event_is_read() {
    let disk = ModelDisk::new(1);
    let mut engine = open(&disk, 1);
    for number in 0..10 {
        put(&mut engine, number..number + 1);
    }
    engine.close(NOW).unwrap();
    let name = file_named(&disk, "segment-");
    // A second segment, so that the first is not the last.
    disk.restart(Outcome::Killed);
    let mut engine = open(&disk, 2);
    put(&mut engine, 10..12);
    engine.close(NOW).unwrap();
    drop(engine);
    assert!(tools::verify(&disk, &mut |_, _| {}).unwrap().sound);

    let length = disk.contents(&name).unwrap().len();
    for byte in 0..length {
        let disk = disk.fork();
        disk.restart(Outcome::Killed);
        disk.flip(&name, byte, 1 << (byte % 8));
        let report = tools::verify(&disk, &mut |_, _| {}).unwrap();
        assert!(!report.sound, "byte {byte} of {length} was not noticed by verify");
        // The snapshots are past this segment, so the journal opens and only its readers stop.
        let engine = open(&disk, 3);
        let mut read = 0;
        for from in 0..12 {
            match engine.read(from, 1) {
                Ok(events) => {
                    for numbered in events {
                        assert_eq!(*numbered.event, event(numbered.offset), "byte {byte}");
                        read += 1;
                    }
                }
                Err(JournalError::Damaged { offset, .. }) => assert!(offset <= from, "byte {byte}"),
                Err(other) => panic!("byte {byte}: {other}"),
            }
        }
        assert!(read > 0, "byte {byte}: what is whole can be read");
        assert_eq!(
            engine.read(10, 0).unwrap()[0].offset,
            10,
            "byte {byte}: later segments are served"
        );
    }
}

/// Fault matrix: B8. In the last segment a bad frame with a valid one behind it was durable once: the start is
/// refused and nothing is changed. In the last frame of all it is a torn tail.
#[test]
fn every_flipped_byte_of_the_last_segment_is_damage_or_a_torn_tail() {
    let disk = ModelDisk::new(1);
    let mut engine = open(&disk, 1);
    let name = file_named(&disk, "segment-");
    let mut last_frame = 0;
    for number in 0..10 {
        last_frame = disk.contents(&name).unwrap().len();
        put(&mut engine, number * 2..number * 2 + 2);
    }
    disk.restart(Outcome::Killed);
    let length = disk.contents(&name).unwrap().len();
    for byte in 0..length {
        let disk = disk.fork();
        disk.restart(Outcome::Killed);
        disk.flip(&name, byte, 1 << (byte % 8));
        let before = disk.contents(&name).unwrap();
        match Engine::open(Arc::new(disk.clone()), small(), NOW, 2) {
            Ok(engine) => {
                assert!(byte >= last_frame, "byte {byte} was not noticed");
                assert_eq!(numbers(&engine, 0), (0..18).collect::<Vec<_>>());
                assert_eq!(engine.stat().tails_repaired, 1);
            }
            Err(OpenError::Damaged { .. } | OpenError::TooNew { .. }) => {
                assert!(byte < last_frame, "byte {byte} of the last frame is a torn tail");
                assert_eq!(disk.contents(&name).unwrap(), before, "evidence is kept");
            }
            Err(other) => panic!("byte {byte}: {other}"),
        }
    }
}

/// Fault matrix: A7. Cut at every length and with garbage behind it, opened several times: always the same prefix.
#[test]
fn recovery_is_the_same_however_often_it_is_repeated() {
    let disk = ModelDisk::new(1);
    let mut engine = open(&disk, 1);
    let name = file_named(&disk, "segment-");
    let mut ends = vec![disk.contents(&name).unwrap().len()];
    for number in 0..5 {
        put(&mut engine, number..number + 1);
        ends.push(disk.contents(&name).unwrap().len());
    }
    disk.restart(Outcome::Killed);
    let whole = disk.contents(&name).unwrap();
    for length in ends[0]..=whole.len() {
        for garbage in [&b""[..], &[0; 300], &[0xA5; 90]] {
            let disk = ModelDisk::new(3);
            let mut file = disk.create(&name).unwrap();
            file.append(&whole[..length]).unwrap();
            if !garbage.is_empty() {
                file.append(garbage).unwrap();
            }
            let expected = ends.iter().filter(|end| **end <= length).count() as u64 - 1;
            for life in 0..3 {
                disk.restart(Outcome::Killed);
                let engine = open(&disk, 10 + life);
                assert_eq!(
                    numbers(&engine, 0),
                    (0..expected).collect::<Vec<_>>(),
                    "cut at {length}"
                );
                let torn =
                    length != ends[usize::try_from(expected).unwrap()] || !garbage.is_empty();
                assert_eq!(engine.stat().tails_repaired, u64::from(torn && life == 0));
            }
        }
    }
}

/// Fault matrix: A3, A4, A7. The machine stops at every single call of rolling, snapshots, truncation and closing, and
/// again at calls of the recovery that follows; each time with several kinds of tails.
#[test]
fn a_crash_at_any_call_of_roll_snapshot_truncation_and_recovery_loses_nothing() {
    let config = JournalConfig {
        segment_bytes: 4 << 10,
        quota_bytes: 96 << 10,
        reserve_bytes: 1 << 10,
        retention_days: 0,
        ..small()
    };
    let start =
        |disk: &ModelDisk, seed| Engine::open(Arc::new(disk.clone()), config.clone(), NOW, seed);
    // One life: appends, acks, maintenance that rolls and truncates, a close. What was confirmed, what was acked.
    let live = |disk: &ModelDisk, seed: u64, confirmed: &mut u64, acked: &mut u64| -> Option<()> {
        let mut engine = start(disk, seed).ok()?;
        let at = engine.register_reader("siem", ReaderStart::Beginning, OnFull::default()).ok()?;
        assert!(at <= *acked, "a position is ahead of what was acked");
        assert!(engine.next_offset() >= *confirmed, "confirmed events are missing");
        for round in 0..6_u64 {
            let from = engine.next_offset();
            engine.stage(unit(from..from + 12)).ok()?;
            let Commit::Durable(_) = engine.commit(NOW).ok()? else { return None };
            *confirmed = engine.next_offset();
            *acked = from;
            engine.ack("siem", from);
            engine.maintain(NOW.plus_seconds(i64::try_from(round).unwrap() * 10)).ok()?;
        }
        engine.close(NOW).ok()
    };
    let check = |disk: &ModelDisk, seed: u64, confirmed: u64, acked: u64| {
        let engine = start(disk, seed).unwrap_or_else(|error| panic!("does not open: {error}"));
        assert!(engine.next_offset() >= confirmed, "confirmed events are missing");
        assert!(engine.stat().first <= acked, "events were removed that no reader has had");
        let found = numbers(&engine, engine.stat().first);
        assert_eq!(found, (engine.stat().first..engine.next_offset()).collect::<Vec<_>>());
        let cursor =
            engine.cursors("").values().next().map(|cursor| cursor.parse::<u64>().unwrap());
        assert_eq!(
            cursor.unwrap_or_default(),
            engine.next_offset(),
            "cursor and events go together"
        );
    };
    let probe = ModelDisk::new(9);
    live(&probe, 1, &mut 0, &mut 0).unwrap();
    probe.restart(Outcome::Killed);
    let first_life = probe.calls();
    live(&probe.fork(), 2, &mut 0, &mut 72).unwrap();
    let mut truncated = false;
    for call in 0..first_life * 2 {
        for tail in [None, Some(Tail::Lost), Some(Tail::Torn), Some(Tail::Zeroed)] {
            let disk = ModelDisk::new(call);
            let (mut confirmed, mut acked) = (0, 0);
            disk.crash_at(Some(call));
            if live(&disk, 1, &mut confirmed, &mut acked).is_some() {
                // Beyond the first life: crash in the second one.
                disk.restart(Outcome::Killed);
                disk.crash_at(Some(disk.calls() + call - first_life));
                let _ = live(&disk, 2, &mut confirmed, &mut acked);
            }
            disk.restart(Outcome::PowerLost(tail));
            // Crash in recovery, too: once, at a call that varies.
            disk.crash_at(Some(disk.calls() + call % 29));
            drop(start(&disk, 3));
            disk.restart(if call % 2 == 0 { Outcome::Killed } else { Outcome::PowerLost(tail) });
            check(&disk, 4, confirmed, acked);
            truncated |= disk
                .list()
                .unwrap()
                .iter()
                .all(|(name, _)| !name.ends_with(&format!("-{:020}.log", 0)));
        }
    }
    assert!(truncated, "nothing was ever truncated");
}
