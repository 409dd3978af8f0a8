//! Whole processes, measured from outside: processor time of finished children, and the peak of resident
//! memory while they run. Pinned to one core, since whether the other one is busy moves every figure.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Ticks per second of the times in `/proc`.
const TICKS: f64 = 100.0;
const ROUNDS: usize = 5;

/// `postern tag` against the floor, file to file.
pub fn whole(input: &[u8], records: usize) {
    let directory = std::env::temp_dir().join(format!("postern-bench-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("input.ndjson");
    fs::write(&file, input).unwrap();
    let this = std::env::current_exe().unwrap();
    let postern = Path::new(env!("CARGO_BIN_EXE_postern"));
    let file = file.to_str().unwrap();
    let contenders: [(&str, &Path, &[&str]); 3] = [
        ("floor process", &this, &["--floor-process"]),
        ("postern tag --format ocsf", postern, &["tag", "--format", "ocsf", file]),
        ("postern tag --format native", postern, &["tag", "--format", "native", file]),
    ];
    let mut seconds = vec![Vec::new(); contenders.len()];
    let mut peaks = vec![0; contenders.len()];
    for _ in 0..ROUNDS {
        for (place, (_, program, arguments)) in contenders.iter().enumerate() {
            let output = File::create(directory.join("output.ndjson")).unwrap();
            let (used, peak) = run(program, arguments, file, output);
            seconds[place].push(used);
            peaks[place] = peaks[place].max(peak);
        }
    }
    fs::remove_dir_all(&directory).unwrap();
    let median: Vec<f64> = seconds.into_iter().map(median).collect();
    println!(
        "{:<44}{:>10}{:>9}{:>12}",
        "whole process, file to file", "us/record", "x floor", "peak RSS"
    );
    for (place, (name, ..)) in contenders.iter().enumerate() {
        println!(
            "{name:<44}{:>10.2}{:>9.2}{:>9} MB",
            median[place] * 1e6 / records as f64,
            median[place] / median[0],
            peaks[place] / 1000
        );
    }
}

/// Processor seconds and peak resident kilobytes.
fn run(program: &Path, arguments: &[&str], input: &str, output: File) -> (f64, u64) {
    let before = children_seconds();
    let pinned = ["-c", "0", program.to_str().unwrap()];
    let mut child = Command::new("taskset")
        .args(pinned)
        .args(arguments)
        .stdin(File::open(input).unwrap())
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .expect("taskset (util-linux) is needed");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        if let Some(line) = fs::read_to_string(&status)
            .ok()
            .and_then(|text| text.lines().find(|line| line.starts_with("VmHWM")).map(str::to_owned))
        {
            let kilobytes: String = line.chars().filter(char::is_ascii_digit).collect();
            peak = peak.max(kilobytes.parse().unwrap());
        }
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(ended.success(), "{ended}");
    (children_seconds() - before, peak)
}

/// User and system time of all children that have ended.
fn children_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<f64> = fields.split(' ').filter_map(|field| field.parse().ok()).collect();
    // Fields 16 and 17 of proc(5); the state (a letter) is not among these numbers.
    (fields[12] + fields[13]) / TICKS
}

/// Seconds that this thread has been on a processor: on a busy machine the clock on the wall says little.
pub fn own_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
