//! The set as a whole: exactness across memory, runs, merges, restarts and damage.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::journal::model::{Faults, ModelDisk, Outcome, Random, Tail};

fn id(number: u64) -> EventId {
    let mut random = Random::new(number);
    let mut bytes = [0; 16];
    for half in bytes.as_chunks_mut::<8>().0 {
        *half = random.next_u64().to_le_bytes();
    }
    EventId(bytes)
}

fn small() -> DedupConfig {
    DedupConfig { horizon: Duration::from_secs(8 * 3_600), memory_bytes: 64 * 1024 }
}

fn admit_all(set: &mut Dedup<ModelDisk>, disk: &ModelDisk, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert!(set.admit(id(number)), "{number} was new");
        set.settle([id(number)]);
        if number % 50 == 0 {
            set.maintain(disk, Ticks(0)).unwrap();
        }
    }
}

#[test]
fn what_was_seen_is_known_and_what_was_not_is_new_far_beyond_the_memory_budget() {
    let disk = ModelDisk::new(1);
    let mut set = Dedup::new(small(), 1);
    admit_all(&mut set, &disk, 0..30_000);
    assert!(set.memory_bytes() < 64 * 1024, "{}", set.memory_bytes());
    assert_eq!(set.keys(), 30_000);
    assert!(set.runs.len() < 20, "{} runs", set.runs.len());
    for number in 0..30_000 {
        assert!(!set.admit(id(number)), "{number} was seen");
    }
    assert!((30_000..40_000).all(|number| !set.contains(id(number))));
    assert_eq!(set.damage(), Damage::default());
}

#[test]
fn equal_ids_in_one_call_are_new_once_and_a_withdrawn_one_is_new_again() {
    let mut set = Dedup::<ModelDisk>::new(small(), 1);
    assert!(set.admit(id(1)));
    assert!(!set.admit(id(1)));
    set.withdraw(id(1));
    assert!(set.admit(id(1)));
    set.settle([id(1)]);
    set.withdraw(id(1));
    assert!(!set.admit(id(1)), "what is durable cannot be withdrawn");
}

#[test]
fn a_new_life_knows_what_the_snapshot_and_the_later_frames_say_and_nothing_else() {
    let disk = ModelDisk::new(1);
    let mut set = Dedup::new(small(), 1);
    admit_all(&mut set, &disk, 0..3_000);
    let state = set.checkpoint(&disk).unwrap();
    admit_all(&mut set, &disk, 3_000..6_000);
    for number in 6_000..6_100 {
        set.admit(id(number));
    }
    disk.restart(Outcome::PowerLost(Some(Tail::Lost)));

    let mut set = Dedup::restore(small(), &state, &disk).unwrap();
    assert_eq!(set.keys(), 3_000);
    set.settle((3_000..4_000).map(id));
    assert!((0..4_000).all(|number| set.contains(id(number))));
    assert!((4_000..6_100).all(|number| !set.contains(id(number))), "their frames are not there");
    set.prune(&disk, &[&state]).unwrap();
    admit_all(&mut set, &disk, 4_000..6_000);
    assert_eq!(set.damage(), Damage::default());
}

#[test]
fn runs_of_kept_snapshots_survive_pruning_and_others_do_not() {
    let disk = ModelDisk::new(1);
    let mut set = Dedup::new(small(), 1);
    admit_all(&mut set, &disk, 0..1_000);
    let older = set.checkpoint(&disk).unwrap();
    admit_all(&mut set, &disk, 1_000..20_000);
    let newer = set.checkpoint(&disk).unwrap();
    set.prune(&disk, &[&older, &newer]).unwrap();
    let set = Dedup::restore(small(), &older, &disk).unwrap();
    assert!((0..1_000).all(|number| set.contains(id(number))));
    assert_eq!(set.damage(), Damage::default());

    let set = Dedup::restore(small(), &newer, &disk).unwrap();
    let before = disk.list().unwrap().len();
    set.prune(&disk, &[&newer]).unwrap();
    assert!(disk.list().unwrap().len() < before);
    assert!((0..20_000).all(|number| set.contains(id(number))));
    assert!(Dedup::<ModelDisk>::restore(small(), b"\xff\xff", &disk).is_err());
}

#[test]
fn ids_are_forgotten_after_the_horizon_and_not_before() {
    let disk = ModelDisk::new(1);
    let mut set = Dedup::new(small(), 1);
    set.maintain(&disk, Ticks(0)).unwrap();
    admit_all(&mut set, &disk, 0..2_000);
    let minutes = |minutes: i64| Ticks(0).plus_seconds(minutes * 60);
    for minute in 1..=8 * 60 {
        set.maintain(&disk, minutes(minute)).unwrap();
    }
    assert!((0..2_000).all(|number| set.contains(id(number))), "eight hours are the horizon");
    for minute in 8 * 60..=10 * 60 {
        set.maintain(&disk, minutes(minute)).unwrap();
    }
    assert!((0..2_000).all(|number| !set.contains(id(number))));
    assert_eq!(set.keys(), 0);
    let state = set.checkpoint(&disk).unwrap();
    set.prune(&disk, &[&state]).unwrap();
    assert_eq!(disk.list().unwrap(), []);
}

#[test]
fn a_jumping_clock_forgets_nothing() {
    let disk = ModelDisk::new(1);
    let mut set = Dedup::new(small(), 1);
    admit_all(&mut set, &disk, 0..100);
    for years in [10, -10, 0, 300, -300] {
        set.maintain(&disk, Ticks(0).plus_seconds(years * 365 * 86_400)).unwrap();
    }
    set.maintain(&disk, Ticks(i64::MAX)).unwrap();
    set.maintain(&disk, Ticks(i64::MIN)).unwrap();
    assert!((0..100).all(|number| set.contains(id(number))));
}

#[test]
fn a_damaged_run_costs_repetition_and_is_counted_but_answers_what_it_can() {
    let disk = ModelDisk::new(1);
    let mut set = Dedup::new(small(), 1);
    admit_all(&mut set, &disk, 0..500);
    let state = set.checkpoint(&disk).unwrap();
    let files = disk.list().unwrap();
    let (name, length) = files.iter().max_by_key(|(_, length)| *length).unwrap();
    let known = |disk: &ModelDisk| {
        let set = Dedup::restore(small(), &state, disk).unwrap();
        let known = (0..500).filter(|number| set.contains(id(*number))).count();
        assert!((500..900).all(|number| !set.contains(id(number))));
        (known, set.damage().blocks)
    };
    assert_eq!(known(&disk), (500, 0));
    // Many bytes, so that blocks, index, filter and footer are all hit.
    for at in (0..usize::try_from(*length).unwrap()).step_by(53) {
        let damaged = disk.fork();
        damaged.flip(name, at, 0x10);
        let (known, blocks) = known(&damaged);
        assert!(known == 500 && blocks == 0 || known >= 500 - 255 && blocks > 0, "byte {at}");
    }
    let without = disk.fork();
    without.remove(name).unwrap();
    let (known, blocks) = known(&without);
    assert!(known < 500 && blocks > 0, "{known} known, {blocks} blocks");
}

#[test]
fn a_full_disk_costs_nothing_but_memory_and_is_made_up_for_later() {
    let disk = ModelDisk::new(1);
    let mut set = Dedup::new(small(), 1);
    admit_all(&mut set, &disk, 0..1_000);
    disk.set_faults(Faults { capacity: disk.used_bytes() + 100, ..Faults::default() });
    set.settle((1_000..2_000).map(id));
    assert!(matches!(set.maintain(&disk, Ticks(0)), Err(RunError::Write(_))));
    assert!(matches!(set.checkpoint(&disk), Err(RunError::Write(_))));
    assert!((0..2_000).all(|number| set.contains(id(number))));
    disk.set_faults(Faults::default());
    let state = set.checkpoint(&disk).unwrap();
    let set = Dedup::restore(small(), &state, &disk).unwrap();
    assert!((0..2_000).all(|number| set.contains(id(number))));
}

#[test]
fn a_failed_sync_is_told_apart_from_a_full_disk() {
    for faults in [
        Faults { sync_error: 1_000_000, ..Faults::default() },
        Faults { directory_sync_error: 1_000_000, ..Faults::default() },
        Faults { rename_error: 1_000_000, ..Faults::default() },
    ] {
        let disk = ModelDisk::new(1);
        let mut set = Dedup::new(small(), 1);
        set.settle((0..200).map(id));
        disk.set_faults(faults);
        assert!(matches!(set.checkpoint(&disk), Err(RunError::Sync(_))));
    }
}

#[test]
fn crafted_ids_with_one_prefix_are_told_apart() {
    let disk = ModelDisk::new(1);
    let mut set = Dedup::new(small(), 1);
    let crafted = |number: u32| {
        let mut bytes = [0; 16];
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        EventId(bytes)
    };
    set.settle((0..4_000).map(|number| crafted(number * 2)));
    let state = set.checkpoint(&disk).unwrap();
    let set = Dedup::restore(small(), &state, &disk).unwrap();
    for number in 0..4_000 {
        assert!(set.contains(crafted(number * 2)), "{number}");
        assert!(!set.contains(crafted(number * 2 + 1)), "{number}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Admit(u64),
    Durable,
    Maintain,
    Snapshot,
    Crash(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        60 => (0..3_000_u64).prop_map(Step::Admit),
        10 => Just(Step::Durable),
        6 => Just(Step::Maintain),
        3 => Just(Step::Snapshot),
        1 => any::<bool>().prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 0..3_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Against a plain set and a list of durable frames, through crashes that leave any tail.
    #[test]
    fn behaves_like_a_set_of_durable_frames(steps in steps(), seed: u64) {
        let disk = ModelDisk::new(seed);
        disk.set_faults(Faults { short_write: 100_000, interrupted: 100_000, ..Faults::default() });
        let config = DedupConfig { memory_bytes: 8 * 1024, ..small() };
        let mut set = Dedup::new(config, 5);
        let mut frames: Vec<EventId> = Vec::new();
        let mut staged: Vec<EventId> = Vec::new();
        let mut snapshot: Option<(Vec<u8>, usize)> = None;
        for step in steps {
            match step {
                Step::Admit(number) => {
                    let new = !frames.contains(&id(number)) && !staged.contains(&id(number));
                    prop_assert_eq!(set.admit(id(number)), new);
                    if new {
                        staged.push(id(number));
                    }
                }
                Step::Durable => {
                    set.settle(staged.iter().copied());
                    frames.append(&mut staged);
                }
                Step::Maintain => set.maintain(&disk, Ticks(0)).unwrap(),
                Step::Snapshot => {
                    let state = set.checkpoint(&disk).unwrap();
                    set.prune(&disk, &[&state]).unwrap();
                    snapshot = Some((state, frames.len()));
                }
                Step::Crash(power) => {
                    disk.restart(if power { Outcome::PowerLost(None) } else { Outcome::Killed });
                    staged.clear();
                    let (state, from) = snapshot.clone().unwrap_or_default();
                    set = if from == 0 && state.is_empty() {
                        let set = Dedup::new(config, 5);
                        set.prune(&disk, &[]).unwrap();
                        set
                    } else {
                        Dedup::restore(config, &state, &disk).unwrap()
                    };
                    set.settle(frames[from..].iter().copied());
                }
            }
            prop_assert_eq!(set.damage(), Damage::default());
        }
        let all: BTreeSet<EventId> = frames.iter().chain(&staged).copied().collect();
        for number in 0..3_000 {
            prop_assert_eq!(set.contains(id(number)), all.contains(&id(number)));
        }
    }
}
