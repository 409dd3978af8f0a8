//! What a backlog of many gigabytes costs: memory while it grows and while it is worked off, and how long a start
//! takes on top of it, after a kill and after a clean end. Each life is a process of its own. Prints a table; asserts
//! nothing but that every event comes back.
//!
//! `cargo bench --bench backlog -- [--gigabytes N] [--directory D] [--level N]`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot be taken should end loudly"
)]

#[path = "common/mod.rs"]
mod common;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use postern::domain::{Chunk, Event, Position, Raw, Shape, Ticks};
use postern::journal::{
    Embedded, Journal as _, JournalConfig, OnFull, ReaderStart, SystemClock, Unit,
};
use postern::normalize::{self, Context, Normalized};
use postern::tagging;

const PER_MESSAGE: usize = 20;
/// Messages in a unit, as a page of an event hub has them.
const PER_UNIT: usize = 50;
const IN_FLIGHT: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let gigabytes: u64 = value("--gigabytes").map_or(10, |text| text.parse().expect("a number"));
    let level: i32 = value("--level").map_or(0, |text| text.parse().expect("a number"));
    let base = value("--directory").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    if let Some(part) = value("--part") {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(async {
            match part.as_str() {
                "write" => write(&base, gigabytes, level).await,
                "open" => open(&base, gigabytes, level).await,
                _ => read(&base, gigabytes, level).await,
            }
        });
    }
    let home = base.join(format!("backlog-bench-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    println!("resident memory is that of the whole process; 'beside' is without the dedup set\n");
    for part in ["write", "open", "read"] {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--part", part, "--directory", home.to_str().unwrap()])
            .args(["--gigabytes", &gigabytes.to_string(), "--level", &level.to_string()])
            .status()
            .unwrap();
        // The writer ends itself by an abort, as a kill would.
        assert!(status.success() || part == "write", "{part}: {status}");
    }
    std::fs::remove_dir_all(&home).unwrap();
}

fn journal(home: &Path, gigabytes: u64, level: i32) -> Embedded {
    let config = JournalConfig {
        quota_bytes: (gigabytes + 2) << 30,
        compression_level: level,
        ..JournalConfig::default()
    };
    Embedded::open(&home.join("journal"), config, Arc::new(SystemClock::default())).unwrap()
}

/// The events of one page, with ids that nothing else has.
fn page(seed: u64) -> Vec<Event> {
    let input = common::email_events(seed, PER_UNIT, PER_MESSAGE);
    let context = Context {
        tenant: "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a".into(),
        source: "hubs".into(),
        ingested: Some(Ticks::from_millis(1_787_000_000_000)),
        normal_lag_seconds: 1800,
        backfill: false,
        size_cap: normalize::SIZE_CAP,
    };
    let mut events = Vec::with_capacity(PER_UNIT * PER_MESSAGE);
    for message in input.split(|byte| *byte == b'\n').filter(|message| !message.is_empty()) {
        let chunk = Chunk {
            raw: Raw::new(message),
            shape: Shape::Streaming,
            position: Position::None,
            observed: None,
            backfill: false,
        };
        normalize::each(&chunk, &context, &mut |normalized| {
            if let Normalized::Event { mut event, row, .. } = normalized {
                event.decision = tagging::decide(&event, row);
                events.push(event);
            }
        });
    }
    events
}

async fn write(home: &Path, gigabytes: u64, level: i32) {
    let journal = journal(home, gigabytes, level);
    journal.register_reader("bench", ReaderStart::Beginning, OnFull::default()).unwrap();
    println!("written GB   events  resident MB  dedup MB  beside MB");
    let mut receipts = VecDeque::new();
    let (mut seed, mut shown) = (0, 0);
    loop {
        let events = page(seed);
        seed += 1;
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        assert!(journal.admit(&ids).iter().all(|new| *new), "an id came twice");
        let cursors = vec![("hubs/email/0".into(), seed.to_string().into())];
        let unit = Unit { events, cursors, ..Unit::default() };
        receipts.push_back(journal.append(unit).await.unwrap());
        if receipts.len() >= IN_FLIGHT {
            receipts.pop_front().unwrap().await.unwrap();
        }
        let stat = journal.stat();
        if stat.bytes >> 30 >= shown {
            line(stat.bytes, stat.next, stat.dedup_memory_bytes);
            shown = (stat.bytes >> 30) + 1;
        }
        if stat.bytes >> 30 >= gigabytes {
            std::process::abort();
        }
    }
}

fn line(bytes: u64, events: u64, dedup: u64) {
    let (resident, _) = memory();
    let beside = resident.saturating_sub(dedup / 1_000_000);
    println!(
        "{:>10.1} {events:>8} {resident:>12} {:>9} {beside:>10}",
        bytes as f64 / (1u64 << 30) as f64,
        dedup / 1_000_000
    );
}

async fn open(home: &Path, gigabytes: u64, level: i32) {
    let began = Instant::now();
    let journal = journal(home, gigabytes, level);
    let taken = began.elapsed();
    let stat = journal.stat();
    println!(
        "\nstart after a kill: {taken:.0?} ({} events, {} segments, {} MB resident, {} MB of it dedup)",
        stat.next,
        stat.segments,
        memory().0,
        stat.dedup_memory_bytes / 1_000_000
    );
    journal.close().await.unwrap();
}

async fn read(home: &Path, gigabytes: u64, level: i32) {
    let began = Instant::now();
    let journal = journal(home, gigabytes, level);
    println!("start after a clean end: {:.0?}\n", began.elapsed());
    println!("   read GB   events  resident MB  dedup MB  beside MB");
    let stat = journal.stat();
    let mut at = 0;
    let (mut raw, mut shown) = (0, 0);
    let began = Instant::now();
    while at < stat.next {
        let batch = journal.read(at, 4 << 20).await.unwrap();
        raw += batch.iter().map(|numbered| numbered.event.raw.len() as u64).sum::<u64>();
        at = batch.last().unwrap().offset + 1;
        journal.ack("bench", at);
        if raw >> 30 >= shown {
            line(raw, at, journal.stat().dedup_memory_bytes);
            shown = (raw >> 30) + 2;
        }
    }
    println!(
        "\nread {} events in {:.0?}; peak resident memory {} MB",
        at,
        began.elapsed(),
        memory().1
    );
    journal.close().await.unwrap();
}

/// Resident memory of this process and its peak, in MB.
fn memory() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) / 1000
    };
    (value("VmRSS"), value("VmHWM"))
}
