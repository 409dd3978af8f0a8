//! What the recognition of duplicates costs at ten million ids: time of a look-up and resident memory, beside a plain
//! `HashSet` of the same ids in the same run, in time on a processor. Every answer is checked: one wrong one ends the bench.
//!
//! `cargo bench --bench dedup` · `cargo bench --bench dedup -- --keys 1000000 --memory-mb 16`

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench may fall over"
)]
#![allow(missing_docs, reason = "not a library")]

use std::collections::HashSet;
use std::process::Command;

use postern::domain::{EventId, Ticks};
use postern::journal::RealDisk;
use postern::journal::dedup::{Damage, Dedup, DedupConfig};

const LOOKUPS: u64 = 1_000_000;
/// Ids in one durable frame.
const FRAME: u64 = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        let place = arguments.iter().position(|argument| argument == name);
        place.map_or(default, |place| arguments[place + 1].parse().unwrap())
    };
    let keys = number("--keys", 10_000_000);
    let memory = number("--memory-mb", 128);
    match arguments.iter().find_map(|argument| argument.strip_prefix("--part=")) {
        Some("floor") => floor(keys),
        Some(_) => dedup(keys, memory),
        None => {
            println!("{keys} ids, budget {memory} MB, {LOOKUPS} look-ups of each kind");
            println!(
                "{:<22} {:>10} {:>10} {:>10} {:>12}",
                "", "insert ns", "hit ns", "miss ns", "memory MB"
            );
            // A process each, so that neither pays for the other's memory.
            for part in ["--part=floor", "--part=dedup"] {
                let mut child = Command::new(std::env::current_exe().unwrap());
                assert!(child.args(&arguments[1..]).arg(part).status().unwrap().success());
            }
        }
    }
}

/// Ids that look as the real ones do: hashes.
fn id(number: u64) -> EventId {
    let mut bytes = [0; 16];
    for (half, salt) in bytes.as_chunks_mut::<8>().0.iter_mut().zip([1, 2]) {
        let mut z = (number * 2 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        *half = (z ^ (z >> 31)).to_le_bytes();
    }
    EventId(bytes)
}

fn report(
    name: &str,
    keys: u64,
    insert: f64,
    before: f64,
    mut contains: impl FnMut(EventId) -> bool,
) {
    let memory = resident_mb() - before;
    let mut time = |from: u64, expected: bool| {
        let start = processor_nanos();
        for number in 0..LOOKUPS {
            // Spread over all ids, old and young.
            let number = from + number.wrapping_mul(7_919_123) % keys;
            assert_eq!(contains(id(number)), expected, "a wrong answer for id {number}");
        }
        (processor_nanos() - start) / LOOKUPS as f64
    };
    let (hit, miss) = (time(0, true), time(keys, false));
    let insert = insert / keys as f64;
    println!("{name:<22} {insert:>10.0} {hit:>10.0} {miss:>10.0} {memory:>12.0}");
}

fn floor(keys: u64) {
    let before = resident_mb();
    let start = processor_nanos();
    let mut set: HashSet<[u8; 16]> = HashSet::new();
    for number in 0..keys {
        assert!(set.insert(id(number).0));
    }
    let insert = processor_nanos() - start;
    report("HashSet<[u8; 16]>", keys, insert, before, |id| set.contains(&id.0));
}

fn dedup(keys: u64, memory: u64) {
    let before = resident_mb();
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::create(directory.path()).unwrap();
    let config = DedupConfig {
        memory_bytes: usize::try_from(memory << 20).unwrap(),
        ..DedupConfig::default()
    };
    let mut set = Dedup::new(config, 7);
    let start = processor_nanos();
    let mut slowest = 0.0_f64;
    for frame in 0..keys.div_ceil(FRAME) {
        let ids = (frame * FRAME..((frame + 1) * FRAME).min(keys)).map(id);
        for id in ids.clone() {
            assert!(set.admit(id), "a wrong drop");
        }
        set.settle(ids);
        if frame % 64 == 0 {
            let start = processor_nanos();
            set.maintain(&disk, Ticks(0)).unwrap();
            slowest = slowest.max((processor_nanos() - start) / 1e6);
        }
    }
    let insert = processor_nanos() - start;
    report("dedup", keys, insert, before, |id| set.contains(id));
    assert_eq!(set.damage(), Damage::default());
    println!(
        "dedup says it holds {:.0} MB; the longest maintain took {slowest:.0} ms",
        set.memory_bytes() as f64 / f64::from(1 << 20)
    );
}

/// Time on a processor: what else the machine does counts less. Needs Linux.
fn processor_nanos() -> f64 {
    let times = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    times.split(' ').next().unwrap().parse().unwrap()
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(0.0) / 1024.0
}
