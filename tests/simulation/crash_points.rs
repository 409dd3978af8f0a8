//! Every disk call of a scripted life, as the place where the machine stops, with every kind of tail: rolls,
//! snapshots, removal of segments and start are all among them (fault matrix A3, A4). And starts that are themselves
//! interrupted, five times in a row (A7).

use std::sync::Arc;

use postern::domain::{Kind, Raw, Ticks};
use postern::journal::bug::Planted;
use postern::journal::model::{ModelDisk, Outcome, Tail};
use postern::journal::{Commit, Engine, JournalConfig, JournalError, OnFull, ReaderStart, Unit};

use crate::ensure;
use crate::model::{Model, Violation};
use crate::print;
use crate::run::event_of;

const COMMITS: u64 = 14;
const READER: &str = "sink";

fn config() -> JournalConfig {
    JournalConfig {
        segment_bytes: 4_096,
        retention_days: 0,
        reserve_bytes: 0,
        compression_level: 0,
        dedup_memory_bytes: 4_096,
        ..JournalConfig::default()
    }
}

fn now(second: u64) -> Ticks {
    let start = Ticks::parse("2026-08-20T09:00:00Z").unwrap();
    start.plus_seconds(i64::try_from(second).unwrap())
}

fn open(disk: &ModelDisk, seed: u64) -> Result<Engine<ModelDisk>, Option<Violation>> {
    open_planted(disk, seed, Planted::default())
}

fn open_planted(
    disk: &ModelDisk,
    seed: u64,
    planted: Planted,
) -> Result<Engine<ModelDisk>, Option<Violation>> {
    let opened = Engine::open_planted(Arc::new(disk.clone()), config(), now(0), seed, planted);
    opened.map_err(|error| {
        (!disk.crashed()).then(|| Violation { item: 4, words: format!("cannot open: {error}") })
    })
}

/// Writes, rolls, takes snapshots and removes segments until the machine stops. The model is told everything.
fn live(disk: &ModelDisk, model: &mut Model, planted: Planted) -> Result<(), Option<Violation>> {
    let mut engine = open_planted(disk, 1, planted)?;
    let stopped = |_: JournalError| None;
    engine
        .register_reader(READER, ReaderStart::Beginning, OnFull::PauseSources)
        .map_err(stopped)?;
    for number in 0..COMMITS {
        let mut event = event_of(Kind::Row, "source", number);
        event.raw = Raw::from(vec![b'x'; 1_300]);
        assert!(engine.admit(&[event.id], now(number))[0]);
        model.admit(event.id);
        let mut unit = Unit { events: vec![event], ..Unit::default() };
        model.stage(&mut unit);
        engine.stage(unit).map_err(stopped)?;
        model.ask();
        match engine.commit(now(number)).map_err(stopped)? {
            Commit::Durable(appended) => model.committed(&appended).map_err(Some)?,
            Commit::Full(why) => panic!("{why}"),
        }
        engine.ack(READER, number);
        engine.maintain(now(number)).map_err(stopped)?;
    }
    engine.close(now(COMMITS)).map_err(stopped)
}

/// The journal must open with everything that was durable, and take more.
fn check(disk: &ModelDisk, model: &mut Model, planted: Planted) -> Result<(), Violation> {
    let mut engine = match open_planted(disk, 2, planted) {
        Ok(engine) => engine,
        Err(violation) => return Err(violation.unwrap()),
    };
    model.recovered(&engine)?;
    for number in 0..COMMITS {
        let id = event_of(Kind::Row, "source", number).id;
        let new = engine.admit(&[id], now(99))[0];
        ensure!(new == model.is_new(id), 2, "event {number}: admit said {new}");
    }
    let mut unit = Unit { events: vec![event_of(Kind::Row, "source", 77)], ..Unit::default() };
    model.stage(&mut unit);
    engine.stage(unit).unwrap();
    model.ask();
    match engine.commit(now(100)).unwrap() {
        Commit::Durable(appended) => model.committed(&appended)?,
        Commit::Full(why) => panic!("{why}"),
    }
    model.compare(&engine)
}

/// A life that ends at a call, and what the next one finds.
fn stop_at(call: u64, outcome: Outcome, planted: Planted) -> Result<(), Violation> {
    let disk = ModelDisk::new(1);
    disk.crash_at(Some(call));
    let mut model = Model::default();
    if let Err(Some(violation)) = live(&disk, &mut model, planted) {
        return Err(violation);
    }
    disk.restart(outcome);
    check(&disk, &mut model, planted)
}

/// One of the crash points, for a defect to be caught at.
pub fn crash_point_scenario(seed: u64, planted: Planted) -> Result<(), Violation> {
    let outcomes = [Outcome::Killed, Outcome::PowerLost(None)];
    stop_at(seed * 37 % 223, outcomes[(seed % 2) as usize], planted)
}

#[test]
fn every_crash_point_of_a_life_is_survived_with_every_tail() {
    let whole = ModelDisk::new(1);
    live(&whole, &mut Model::default(), Planted::default()).map_err(Option::unwrap).unwrap();
    let calls = whole.calls();
    whole.restart(Outcome::Killed);
    let stat = open(&whole, 2).map_err(Option::unwrap).unwrap().stat();
    assert!(stat.first > 0 && stat.segments > 1, "segments were rolled and removed: {stat:?}");
    let outcomes = Tail::ALL.map(|tail| Outcome::PowerLost(Some(tail)));
    let mut runs = 0;
    for call in 0..calls {
        for outcome in outcomes.into_iter().chain([Outcome::Killed]) {
            let fate = stop_at(call, outcome, Planted::default());
            assert!(fate.is_ok(), "crash at call {call}, {outcome:?}: {}", fate.unwrap_err());
            runs += 1;
        }
    }
    print(&format!("crash points: {calls} calls, {runs} runs\n"));
}

#[test]
fn a_start_that_is_interrupted_five_times_ends_as_an_uninterrupted_one() {
    let mut runs = 0;
    for seed in 0..40 {
        for outcome in [Outcome::Killed, Outcome::PowerLost(None)] {
            let disk = ModelDisk::new(seed);
            let mut model = Model::default();
            disk.crash_at(Some(60 + seed * 2));
            let _ = live(&disk, &mut model, Planted::default());
            disk.restart(outcome);
            // What an uninterrupted start makes of it.
            let once = open(&disk.fork(), 2).map_err(Option::unwrap).unwrap();
            for attempt in 0..5 {
                disk.crash_at(Some(disk.calls() + (seed * 7 + attempt * 11) % 40));
                match open(&disk, 3 + attempt) {
                    Ok(_) => assert!(!disk.crashed(), "opened on a stopped machine"),
                    Err(None) => runs += 1,
                    Err(Some(violation)) => panic!("seed {seed}, attempt {attempt}: {violation}"),
                }
                disk.restart(outcome);
            }
            let again = open(&disk, 9).map_err(Option::unwrap).unwrap();
            assert_eq!(again.next_offset(), once.next_offset(), "seed {seed}");
            assert_eq!(again.cursors(""), once.cursors(""), "seed {seed}");
            assert_eq!(again.dead_letters(), once.dead_letters(), "seed {seed}");
            let first = again.stat().first.max(once.stat().first);
            let (left, right) = (again.read(first, 1 << 20), once.read(first, 1 << 20));
            assert_eq!(left.unwrap(), right.unwrap(), "seed {seed}");
        }
    }
    print(&format!("interrupted starts: {runs}\n"));
    assert!(runs > 200, "most starts were interrupted");
}
