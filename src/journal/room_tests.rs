//! The engine when room is short: a full disk, a full quota, what may still be written, and what is given up.

use std::sync::Arc;

use super::codec::Encoder;
use super::model::{Faults, ModelDisk, Outcome};
use super::tests::{NOW, event, file_named, numbers, open, put, small, unit};
use super::*;
use crate::domain::{DeadLetter, DeadLetterReason, EventId, Kind, TicketRecord, TicketState};

fn used(disk: &ModelDisk) -> u64 {
    disk.list().unwrap().iter().map(|(_, bytes)| bytes).sum()
}

fn capacity(disk: &ModelDisk, capacity: u64) {
    disk.set_faults(Faults { capacity, ..Faults::default() });
}

/// Fault matrix: B1, B3, B4.
#[test]
fn on_a_full_disk_appends_wait_nothing_is_torn_and_they_resume_when_space_returns() {
    let disk = ModelDisk::new(1);
    let mut engine = open(&disk, 1);
    engine.maintain(NOW).unwrap();
    put(&mut engine, 0..10);
    engine.register_reader("siem", ReaderStart::Beginning, OnFull::default()).unwrap();
    capacity(&disk, used(&disk) + 100);
    engine.stage(unit(10..20)).unwrap();
    assert!(matches!(engine.commit(NOW).unwrap(), Commit::Full(_)));
    assert!(matches!(engine.health(), Health::Full(_)));
    let name = file_named(&disk, "segment-");
    let length = disk.contents(&name).unwrap().len();
    // Positions still become durable, with the reserve's help.
    engine.ack("siem", 7);
    for second in 0..5 {
        engine.maintain(NOW.plus_seconds(second)).unwrap();
        assert!(
            matches!(engine.commit(NOW).unwrap(), Commit::Full(_)),
            "the reserve is not for data"
        );
    }
    assert_eq!(disk.contents(&name).unwrap().len(), length, "the partial write was taken back");
    assert_eq!(numbers(&engine, 0), (0..10).collect::<Vec<_>>(), "readers go on");
    let fork = disk.fork();
    fork.restart(Outcome::PowerLost(None));
    let mut reopened = open(&fork, 2);
    assert_eq!(numbers(&reopened, 0), (0..10).collect::<Vec<_>>(), "a start on a full disk works");
    assert_eq!(reopened.register_reader("siem", ReaderStart::Now, OnFull::default()).unwrap(), 7);

    capacity(&disk, u64::MAX);
    engine.maintain(NOW).unwrap();
    assert_eq!(engine.health(), Health::Ready);
    assert_eq!(
        engine.commit(NOW).unwrap(),
        Commit::Durable(vec![Appended { first: 10, next: 20 }])
    );
    assert_eq!(numbers(&engine, 0), (0..20).collect::<Vec<_>>());
}

fn tight() -> JournalConfig {
    JournalConfig {
        segment_bytes: 4 << 10,
        quota_bytes: 64 << 10,
        reserve_bytes: 0,
        dedup_memory_bytes: 64 << 10,
        ..small()
    }
}

/// Appends until the journal says that it is full, or `limit` events are there.
fn fill(engine: &mut Engine<ModelDisk>, limit: u64) -> Option<String> {
    let mut number = engine.next_offset();
    while engine.next_offset() < limit {
        if engine.staged() == 0 {
            engine.stage(unit(number..number + 10)).unwrap();
            number += 10;
        }
        engine.maintain(NOW).unwrap();
        if let Commit::Full(_) = engine.commit(NOW).unwrap() {
            engine.maintain(NOW).unwrap();
            if let Commit::Full(reason) = engine.commit(NOW).unwrap() {
                return Some(reason);
            }
        }
    }
    None
}

/// Fault matrix: B2. Wherever the room ends — in an append, at the beginning of a segment, in a snapshot — the old state
/// stays, nothing temporary is left lying about, a kill loses nothing, and it goes on when there is room again.
#[test]
fn wherever_the_room_ends_the_old_state_stays_and_the_next_try_succeeds() {
    let config = JournalConfig { quota_bytes: u64::MAX / 2, ..tight() };
    let start = |disk: &ModelDisk, seed| {
        Engine::open(Arc::new(disk.clone()), config.clone(), NOW, seed).unwrap()
    };
    let mut stopped_at = std::collections::BTreeSet::new();
    for room in (0..24_000).step_by(400) {
        let disk = ModelDisk::new(room);
        let mut engine = start(&disk, 1);
        put(&mut engine, 0..10);
        // Nothing is removed as delivered: a reader stands at the beginning.
        engine.register_reader("siem", ReaderStart::Beginning, OnFull::default()).unwrap();
        capacity(&disk, used(&disk) + room);
        let full = fill(&mut engine, 400);
        assert!(full.is_some(), "400 events need more than {room} bytes");
        let confirmed = engine.next_offset();
        stopped_at.insert(confirmed);
        let names: Vec<String> = disk.list().unwrap().into_iter().map(|(name, _)| name).collect();
        assert!(!names.iter().any(|name| name.ends_with(".tmp")), "{room}: {names:?}");
        let killed = disk.fork();
        killed.restart(Outcome::Killed);
        killed.set_faults(Faults::default());
        assert_eq!(start(&killed, 2).next_offset(), confirmed, "{room}");
        disk.set_faults(Faults::default());
        engine.maintain(NOW).unwrap();
        assert!(matches!(engine.commit(NOW).unwrap(), Commit::Durable(_)), "{room}");
        assert_eq!(fill(&mut engine, 400), None, "{room}");
        assert_eq!(numbers(&engine, 0), (0..engine.next_offset()).collect::<Vec<_>>(), "{room}");
    }
    assert!(stopped_at.len() > 10, "the room ended in too few places: {stopped_at:?}");
}

/// Fault matrix: I4.
#[test]
fn a_reader_that_pauses_sources_holds_the_journal_at_its_quota_until_it_acks() {
    let disk = ModelDisk::new(1);
    let mut engine = Engine::open(Arc::new(disk.clone()), tight(), NOW, 1).unwrap();
    engine.register_reader("siem", ReaderStart::Beginning, OnFull::PauseSources).unwrap();
    let reason = fill(&mut engine, 20_000).expect("the quota fills");
    assert!(engine.stat().bytes <= 72 << 10, "{} bytes", engine.stat().bytes);
    assert_eq!(engine.stat().first, 0, "nothing that was not acked is removed");
    engine.maintain(NOW).unwrap();
    assert!(matches!(engine.health(), Health::Full(reason) if reason.contains("siem")), "{reason}");
    let next = engine.next_offset();
    engine.ack("siem", next);
    engine.maintain(NOW).unwrap();
    assert!(matches!(engine.commit(NOW).unwrap(), Commit::Durable(_)), "it resumes by itself");
    assert!(engine.stat().first > 0);
}

/// Fault matrix: I4.
#[test]
fn a_reader_that_allows_it_loses_its_oldest_backlog_and_a_gap_record_says_so() {
    let disk = ModelDisk::new(1);
    let mut engine = Engine::open(Arc::new(disk.clone()), tight(), NOW, 1).unwrap();
    engine.register_reader("archive", ReaderStart::Beginning, OnFull::DropBacklog).unwrap();
    assert_eq!(fill(&mut engine, 6_000), None, "sources are never paused");
    assert!(engine.stat().bytes <= 72 << 10, "{} bytes", engine.stat().bytes);
    let first = engine.stat().first;
    let at = engine.stat().readers["archive"];
    assert!(first > 0 && at >= first);
    let mut gaps = Vec::new();
    let mut from = first;
    while let Some(last) = engine.read(from, 1 << 20).unwrap().last().map(|last| last.offset) {
        for numbered in engine.read(from, 1 << 20).unwrap() {
            if numbered.event.kind == Kind::Gap {
                gaps.push(String::from_utf8(numbered.event.raw.as_bytes().to_vec()).unwrap());
            }
        }
        from = last + 1;
    }
    let newest = gaps.last().expect("a gap record");
    assert!(newest.contains("archive") && newest.contains(&format!("\"to\":\"{at}\"")), "{newest}");
    disk.restart(Outcome::PowerLost(None));
    let engine = Engine::open(Arc::new(disk), tight(), NOW, 2).unwrap();
    assert_eq!(engine.stat().readers["archive"], at);
}

fn ticket(number: u32) -> Unit {
    let key = format!("contoso/phish/{number}").into();
    let state = TicketState::Intent;
    let record = TicketRecord { sink: "tickets".into(), key, state, attempts: 0, at: NOW };
    Unit { tickets: vec![record], ..Unit::default() }
}

/// The reader whose backlog fills the quota is the one that must journal its intents to get on.
#[test]
fn tickets_and_dead_letters_pass_the_quota_and_overtake_waiting_events() {
    let disk = ModelDisk::new(1);
    let mut engine = Engine::open(Arc::new(disk.clone()), tight(), NOW, 1).unwrap();
    engine.register_reader("tickets", ReaderStart::Beginning, OnFull::PauseSources).unwrap();
    fill(&mut engine, 20_000).expect("the quota fills");
    let (staged, next) = (engine.staged(), engine.next_offset());
    assert!(staged > 0);
    let encoded = Encoder::new(1).encode(ticket(1)).unwrap();
    assert!(encoded.is_urgent());
    assert!(!Encoder::new(1).encode(unit(0..1)).unwrap().is_urgent());
    engine.stage_urgent(encoded);
    assert_eq!(
        engine.commit_urgent(NOW).unwrap(),
        Commit::Durable(vec![Appended { first: next, next }])
    );
    assert_eq!(engine.staged(), staged, "events still wait");
    disk.restart(Outcome::PowerLost(None));
    let engine = Engine::open(Arc::new(disk), tight(), NOW, 2).unwrap();
    assert_eq!(engine.tickets("tickets").len(), 1);
}

#[test]
fn what_must_outlive_segments_does_and_what_is_settled_goes() {
    let disk = ModelDisk::new(1);
    let config = JournalConfig { retention_days: 0, ..tight() };
    let mut engine = Engine::open(Arc::new(disk.clone()), config.clone(), NOW, 1).unwrap();
    let letter = |number: u8, at| DeadLetter {
        id: EventId([number; 16]),
        reason: DeadLetterReason::NotJsonObject,
        detail: "".into(),
        source: "hubs".into(),
        sink: "".into(),
        tenant: "".into(),
        position: "".into(),
        at,
        length: 1,
        hash: [0; 32],
        bytes: vec![b'x'],
    };
    let dead_letters =
        vec![letter(1, NOW), letter(2, NOW), letter(3, NOW.plus_seconds(40 * 86_400))];
    engine.stage(Unit { dead_letters, ..ticket(1) }).unwrap();
    engine.commit(NOW).unwrap();
    let resolved = vec![EventId([1; 16])];
    engine.stage(Unit { dead_letters_resolved: resolved, ..Unit::default() }).unwrap();
    assert_eq!(fill(&mut engine, 3_000), None);
    let later = NOW.plus_seconds(35 * 86_400);
    engine.maintain(later).unwrap();
    engine.maintain(later).unwrap();
    assert!(engine.stat().first > 0, "segments have gone");
    disk.restart(Outcome::PowerLost(None));
    let engine = Engine::open(Arc::new(disk), config, later, 2).unwrap();
    assert_eq!(engine.tickets("tickets").len(), 1, "an open ticket is kept for ever");
    let kept: Vec<EventId> = engine.dead_letters().iter().map(|letter| letter.id).collect();
    assert_eq!(kept, [EventId([3; 16])], "resolved ones and those past 30 days are gone");
}

/// Fault matrix: B5. After a failed sync nothing more is accepted, and nothing is synced again.
#[test]
fn a_failed_sync_poisons_the_journal_for_this_life_and_the_next_one_recovers() {
    let disk = ModelDisk::new(1);
    let mut engine = open(&disk, 1);
    put(&mut engine, 0..5);
    disk.set_faults(Faults { sync_error: 1_000_000, ..Faults::default() });
    engine.stage(unit(5..9)).unwrap();
    assert!(matches!(engine.commit(NOW), Err(JournalError::Poisoned(_))));
    assert_eq!(engine.next_offset(), 5, "what was not synced is not shown");
    disk.set_faults(Faults::default());
    let calls = disk.calls();
    engine.stage(unit(9..10)).unwrap();
    assert!(matches!(engine.commit(NOW), Err(JournalError::Poisoned(_))));
    assert!(matches!(engine.maintain(NOW), Err(JournalError::Poisoned(_))));
    assert!(matches!(engine.health(), Health::Poisoned(_)));
    assert_eq!(disk.calls(), calls, "the disk is left alone");
    disk.restart(Outcome::PowerLost(None));
    let engine = open(&disk, 2);
    let found = numbers(&engine, 0);
    assert_eq!(found[..5], [0, 1, 2, 3, 4]);
}

/// Fault matrix: B13.
#[test]
fn a_journal_that_ends_before_a_readers_position_is_refused() {
    let disk = ModelDisk::new(1);
    let mut engine = open(&disk, 1);
    put(&mut engine, 0..10);
    let name = file_named(&disk, "segment-");
    let old = disk.contents(&name).unwrap();
    put(&mut engine, 10..20);
    engine.register_reader("siem", ReaderStart::Now, OnFull::default()).unwrap();
    disk.restart(Outcome::Killed);
    disk.remove(&name).unwrap();
    disk.create(&name).unwrap().append(&old).unwrap();
    let refused = Engine::open(Arc::new(disk.clone()), small(), NOW, 2).unwrap_err();
    assert!(matches!(refused, OpenError::Behind { position: 20, end: 10, .. }), "{refused}");
    assert_eq!(refused.exit_code(), 5);

    // A repair goes on behind the position, so that no offset is given out twice.
    let report = repair::repair(&Arc::new(disk.clone()), small(), NOW, 3, &mut |_, _| {}).unwrap();
    assert_eq!(report.events_given_up, 10);
    let engine = open(&disk, 4);
    let offsets = engine.read(0, 1 << 20).unwrap().into_iter().map(|found| found.offset);
    assert_eq!(offsets.collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20]);
    let after = engine.read(10, 1 << 20).unwrap();
    assert_eq!((after[0].offset, after[0].event.kind), (20, Kind::Gap));
}

/// Fault matrix: B6, B7. Damage in the middle stops its readers only; a repair keeps the rest and says what is gone.
#[test]
fn a_repair_keeps_what_can_be_read_and_writes_a_gap_record_with_counts() {
    let disk = ModelDisk::new(1);
    let mut engine = open(&disk, 1);
    let name = file_named(&disk, "segment-");
    put(&mut engine, 0..5);
    let start = disk.contents(&name).unwrap().len();
    put(&mut engine, 5..9);
    put(&mut engine, 9..14);
    disk.restart(Outcome::Killed);
    disk.flip(&name, start + 100, 4);
    assert!(matches!(
        Engine::open(Arc::new(disk.clone()), small(), NOW, 2),
        Err(OpenError::Damaged { .. })
    ));
    let found = tools::verify(&disk, &mut |_, _| {}).unwrap();
    assert!(!found.sound);
    assert_eq!(found.segments[0].first_bad_byte, Some(start as u64));
    assert_eq!(found.segments[0].events, 10);

    let mut shown = Vec::new();
    let mut unreadable = Vec::new();
    tools::export::<_, OpenError>(&disk, Default::default(), &mut |_, _| {}, &mut |exported| {
        match exported {
            tools::Exported::Event(offset, found) => {
                assert_eq!(*found, event(offset));
                shown.push(offset);
            }
            tools::Exported::Unreadable(missing, _) => unreadable.push((missing.from, missing.to)),
            tools::Exported::DeadLetter(_) => {}
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(shown, [0, 1, 2, 3, 4, 9, 10, 11, 12, 13]);
    assert_eq!(unreadable, [(5, 9)]);

    let report = repair::repair(&Arc::new(disk.clone()), small(), NOW, 3, &mut |_, _| {}).unwrap();
    assert_eq!(report.given_up, [tools::Missing { from: 5, to: 9 }]);
    assert_eq!(report.evidence, [format!("{name}.damaged")]);
    let mut engine = open(&disk, 4);
    let offsets: Vec<u64> =
        engine.read(0, 1 << 20).unwrap().iter().map(|found| found.offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 9, 10, 11, 12, 13, 14]);
    let gap = engine.read(14, 0).unwrap();
    let text = String::from_utf8(gap[0].event.raw.as_bytes().to_vec()).unwrap();
    assert!(text.contains("operator_repair") && text.contains("\"count\":4"), "{text}");
    assert_eq!(engine.cursors("hubs/")["hubs/email/0"].as_ref(), "14");
    engine.close(NOW).unwrap();
    assert!(tools::verify(&disk, &mut |_, _| {}).unwrap().sound);
}
