//! The test of the test: defects planted in the real engine (and one in the simulation's reader), each of which the
//! oracle must see within a bounded number of seeds. One that is not caught fails the run.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use postern::domain::{Kind, Raw, Ticks};
use postern::journal::bug::{Bug, Planted};
use postern::journal::model::{ModelDisk, Outcome, Tail};
use postern::journal::{Engine, JournalConfig, Unit};

use crate::campaign::run_caught;
use crate::crash_points::crash_point_scenario;
use crate::ensure;
use crate::model::{Violation, item_name};
use crate::print;
use crate::run::{Plant, event_of};
use crate::source::id_of;

const SEEDS: u64 = 500;

/// The first seed that shows the defect.
fn hunt(plant: Plant) -> Option<(u64, Violation)> {
    (0..SEEDS).find_map(|seed| {
        let staged = match plant {
            Plant::Journal(bug) => old_place_scenario(seed, Planted::with(bug))
                .and_then(|()| crash_point_scenario(seed, Planted::with(bug))),
            _ => Ok(()),
        };
        staged.and(run_caught(seed, plant).1).err().map(|violation| (seed, violation))
    })
}

/// The power goes while a new segment gets its first frame, and what is found there are the frames of a segment that
/// was removed: they must not pass for frames of this one.
fn old_place_scenario(seed: u64, planted: Planted) -> Result<(), Violation> {
    let disk = ModelDisk::new(seed);
    let config = JournalConfig {
        segment_bytes: 4_096,
        compression_level: 0,
        reserve_bytes: 0,
        ..JournalConfig::default()
    };
    let now = Ticks::parse("2026-08-20T09:00:00Z").unwrap();
    let open = |life: u64| {
        let disk = Arc::new(disk.clone());
        Engine::open_planted(disk, config.clone(), now, seed * 3 + life, planted)
            .map_err(|error| Violation { item: 4, words: format!("cannot open: {error}") })
    };
    let unit = |key: u64, bytes: usize| {
        let mut event = event_of(Kind::Row, "source", key);
        event.raw = Raw::from(vec![b'x'; bytes]);
        Unit { events: vec![event], ..Unit::default() }
    };
    let mut engine = open(0)?;
    engine.stage(unit(1, 10)).unwrap();
    engine.commit(now).unwrap();
    drop(engine);
    disk.restart(Outcome::Killed);
    let mut engine = open(1)?;
    engine.stage(unit(2, 6_000)).unwrap();
    engine.commit(now).unwrap();
    disk.crash_at(Some(disk.calls() + seed % 12));
    engine.stage(unit(3, 600)).unwrap();
    let committed = engine.commit(now).is_ok();
    drop(engine);
    disk.restart(Outcome::PowerLost(Some(Tail::Stale)));
    let engine = open(2)?;
    let least = if committed { 3 } else { 2 };
    ensure!((least..=3).contains(&engine.next_offset()), 4, "{} events", engine.next_offset());
    let events = engine.read(0, 1 << 20).unwrap();
    let ids: Vec<_> = events.iter().map(|numbered| numbered.event.id).collect();
    ensure!([id_of(1), id_of(2), id_of(3)].starts_with(&ids), 4, "{ids:?}");
    Ok(())
}

#[test]
fn frames_of_a_removed_segment_never_come_back_in_a_new_one() {
    for seed in 0..240 {
        old_place_scenario(seed, Planted::default()).unwrap_or_else(|v| panic!("seed {seed}: {v}"));
    }
}

#[test]
fn every_planted_bug_is_caught() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut plants: Vec<Plant> = Bug::ALL.into_iter().map(Plant::Journal).collect();
    plants.push(Plant::SinkAcksFirst);
    let next = AtomicUsize::new(0);
    let found = Mutex::new(vec![None; plants.len()]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(plant) = plants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let place = plants.iter().position(|other| other == plant).unwrap();
                    let caught = hunt(*plant);
                    found.lock().unwrap()[place] = caught;
                }
            });
        }
    });
    let mut table = String::from("planted bugs: seeds until caught, oracle item\n");
    let mut missed = Vec::new();
    for (plant, caught) in plants.iter().zip(found.into_inner().unwrap()) {
        match caught {
            Some((seed, violation)) => {
                let item = violation.item;
                let _ = writeln!(
                    table,
                    "  {:>3} seeds  item {item:>2} ({})  {plant:?}",
                    seed + 1,
                    item_name(item)
                );
            }
            None => {
                let _ = writeln!(table, "  not caught in {SEEDS} seeds  {plant:?}");
                missed.push(*plant);
            }
        }
    }
    print(&table);
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
