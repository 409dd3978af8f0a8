//! Many seeds on two threads, and what they amount to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::model::Violation;
use crate::run::{Plant, Report, run};

const THREADS: usize = 2;
/// Each fault must strike at least so often in a campaign of 2,000 seeds (item 12).
const AT_LEAST: u64 = 20;
/// One seed in so many is run twice (item 11).
const TWICE: u64 = 20;

#[derive(Default)]
pub struct Campaign {
    pub seeds: u64,
    pub violations: Vec<(u64, Violation)>,
    pub hits: BTreeMap<&'static str, u64>,
    events: u64,
    simulated_seconds: u64,
    seconds: f64,
}

/// A number from the environment.
pub fn environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// [`run`], with a panic as a broken promise.
pub fn run_caught(seed: u64, plant: Plant) -> (Report, Result<(), Violation>) {
    catch_unwind(AssertUnwindSafe(|| run(seed, plant, false))).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default();
        (Report::default(), Err(Violation { item: 13, words: format!("panic: {words}") }))
    })
}

impl Campaign {
    pub fn run(seeds: Range<u64>, plant: Plant) -> Self {
        let start = Instant::now();
        let next = AtomicU64::new(seeds.start);
        let total = Mutex::new(Self::default());
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        let (report, mut result) = run_caught(seed, plant);
                        if seed.is_multiple_of(TWICE) && result.is_ok() {
                            let (again, _) = run_caught(seed, plant);
                            if again.trace_hash != report.trace_hash {
                                let words = "the second run went another way".to_owned();
                                result = Err(Violation { item: 11, words });
                            }
                        }
                        total.lock().unwrap().add(seed, report, result);
                    }
                });
            }
        });
        let mut total = total.into_inner().unwrap();
        total.violations.sort_by_key(|(seed, _)| *seed);
        total.seconds = start.elapsed().as_secs_f64();
        total
    }

    fn add(&mut self, seed: u64, report: Report, result: Result<(), Violation>) {
        self.seeds += 1;
        self.events += report.events;
        self.simulated_seconds += report.simulated_seconds;
        for (hit, count) in report.hits {
            *self.hits.entry(hit).or_default() += count;
        }
        if let Err(violation) = result {
            self.violations.push((seed, violation));
        }
    }

    pub fn table(&self) -> String {
        let mut table = format!(
            "simulation: {} seeds in {:.1} s, {} events, {:.1} simulated days, {} broken promises\n",
            self.seeds,
            self.seconds,
            self.events,
            self.simulated_seconds as f64 / 86_400.0,
            self.violations.len()
        );
        for (hit, count) in &self.hits {
            let _ = writeln!(table, "  {count:>9}  {hit}");
        }
        for (seed, violation) in self.violations.iter().take(20) {
            let _ = writeln!(table, "  seed {seed}: {violation}");
        }
        table
    }

    pub fn check_coverage(&self) {
        for fault in EXPECTED {
            let count = self.hits.get(fault).copied().unwrap_or(0);
            assert!(count >= AT_LEAST, "item 12: \"{fault}\" struck only {count} times");
        }
    }
}

/// Everything that can go wrong or be done about it, as the disk and the run name it.
const EXPECTED: [&str; 34] = [
    "a reader stops or goes on",
    "append finds no space",
    "closed in order",
    "commit found no room",
    "crash",
    "crash in recovery",
    "create fails",
    "directory entry lost",
    "directory sync fails",
    "disk full",
    "interrupted",
    "killed between calls",
    "open fails",
    "poisoned",
    "power lost",
    "read fails",
    "recovery failed and was repeated",
    "remove fails",
    "rename fails",
    "short read",
    "short write",
    "space returns",
    "space runs out",
    "sync fails",
    "tail flipped",
    "tail kept",
    "tail lost",
    "tail prefix",
    "tail stale",
    "tail torn",
    "tail zeroed",
    "the clock jumps",
    "the machine stops in the middle",
    "truncate fails",
];
