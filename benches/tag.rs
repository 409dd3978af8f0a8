//! What tagging costs: in the process stage by stage, and as a whole process from file to file, each time
//! against the floor measured in the same run. Prints a table; asserts nothing, since figures of a shared
//! machine are not facts about the code.
//!
//! `cargo bench --bench tag [-- --records N] [--seed N]`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a benchmark may stop at the first surprise"
)]

#[path = "common/mod.rs"]
mod common;
#[path = "common/floor.rs"]
mod floor;
#[path = "common/process.rs"]
mod process;

use std::hint::black_box;
use std::sync::Arc;

use postern::domain::{Chunk, Position, Raw, Shape};
use postern::normalize::{self, Context, Normalized};
use postern::render::{Format, render_row};
use postern::tagging;

const PER_MESSAGE: usize = 20;
const ROUNDS: usize = 15;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--floor-process") {
        return floor::process();
    }
    let number = |name: &str, default: u64| {
        let place = arguments.iter().position(|argument| argument == name);
        place.map_or(default, |place| arguments[place + 1].parse().unwrap())
    };
    let seed = number("--seed", 1);
    let records = usize::try_from(number("--records", 60_000)).unwrap();
    let input = common::email_events(seed, records / PER_MESSAGE, PER_MESSAGE);
    let records = records / PER_MESSAGE * PER_MESSAGE;
    println!(
        "seed {seed}, {records} records of {:.2} KB, {PER_MESSAGE} to a message\n",
        input.len() as f64 / records as f64 / 1000.0
    );
    in_process(&input);
    process::whole(&input, records);
}

/// How far an event goes.
#[derive(Clone, Copy)]
enum Depth {
    Read,
    Tag,
    Render(Format),
}

fn ours(message: &[u8], context: &Context, depth: Depth, out: &mut Vec<u8>) {
    let chunk = Chunk {
        raw: Raw::new(message),
        shape: Shape::Streaming,
        position: Position::None,
        observed: None,
        backfill: false,
    };
    normalize::each(&chunk, context, &mut |found| match found {
        Normalized::Event { mut event, row, .. } => {
            if !matches!(depth, Depth::Read) {
                event.decision = tagging::decide(&event, row);
            }
            if let Depth::Render(format) = depth {
                render_row(format, &event, row, out);
                out.push(b'\n');
            }
            black_box(&event);
        }
        Normalized::DeadLetter(letter) => panic!("{letter:?}"),
    });
}

fn in_process(input: &[u8]) {
    let context = Context {
        tenant: Arc::from(""),
        source: Arc::from("file"),
        ingested: None,
        normal_lag_seconds: 0,
        backfill: false,
        size_cap: normalize::SIZE_CAP,
    };
    let messages: Vec<&[u8]> =
        input.trim_ascii_end().split(|byte| *byte == b'\n').take(400).collect();
    let records = messages.len() * PER_MESSAGE;
    let mut out = Vec::with_capacity(1 << 20);
    let mut written = [0_usize; 5];
    let mut times = vec![Vec::new(); 5];
    for _ in 0..ROUNDS {
        for variant in 0..5 {
            let start = process::own_seconds();
            written[variant] = 0;
            for message in &messages {
                out.clear();
                match variant {
                    0 => {
                        floor::message(message, &mut out);
                    }
                    1 => ours(message, &context, Depth::Read, &mut out),
                    2 => ours(message, &context, Depth::Tag, &mut out),
                    3 => ours(message, &context, Depth::Render(Format::Ocsf), &mut out),
                    _ => ours(message, &context, Depth::Render(Format::Native), &mut out),
                }
                written[variant] += black_box(&out).len();
            }
            times[variant].push((process::own_seconds() - start) * 1e6 / records as f64);
        }
    }
    let names = [
        "floor: serde_json, same shape of OCSF",
        "read: cut, index, identity",
        "read, tag",
        "read, tag, render OCSF",
        "read, tag, render native",
    ];
    let median: Vec<f64> = times.into_iter().map(process::median).collect();
    println!("{:<44}{:>10}{:>9}{:>12}", "in the process", "us/record", "x floor", "bytes out");
    for (place, name) in names.iter().enumerate() {
        println!(
            "{name:<44}{:>10.2}{:>9.2}{:>12}",
            median[place],
            median[place] / median[0],
            written[place] / records
        );
    }
    println!();
}
