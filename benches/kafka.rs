//! What a record costs on its way from Kafka through the durable journal to Kafka, in processor time of our
//! process, on a real broker: envelopes of 20 `EmailEvents` in, one record per event out, exactly once. The
//! floor, in the same run, copies the same bytes from topic to topic with the same client library and keeps
//! nothing.
//!
//! ```text
//! mvn -q -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$PWD/target/kafka-libs
//! cargo bench --bench kafka -- [--records N] [--seed N] [--format ocsf] [--rounds N] [--compression none]
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a bench stops at the first thing that is odd"
)]

#[path = "common/mod.rs"]
mod common;
#[path = "../tests/support/kafka.rs"]
mod kafka;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern::journal::{Clock, Embedded, Journal, JournalConfig, OnFull, ReaderStart, SystemClock};
use postern::pipeline::Filter;
use postern::pipeline::deliver::{Delivery, SinkSettings, run_sink};
use postern::pipeline::intake::{Intake, SourceSettings, run_source};
use postern::pipeline::metrics::Metrics;
use postern::pipeline::status::StatusBoard;
use postern::render::Format;
use postern::sink::{KafkaConfig, KafkaSink};
use postern::source::event_hubs::{EventHubs, EventHubsConfig};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

const PER_MESSAGE: usize = 20;
const SOURCE: &str = "bench-in";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let number = |name: &str, default: usize| {
        value(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let records = number("--records", 200_000) / PER_MESSAGE * PER_MESSAGE;
    let compression = value("--compression").unwrap_or_else(|| "lz4".to_owned());
    if let Some(broker) = value("--broker") {
        let out = value("--out").expect("--out");
        return match value("--part").as_deref() {
            Some("floor") => floor(&broker, &out, records, &compression),
            Some(format) => ours(&broker, &out, records, format.parse().unwrap(), &compression),
            None => panic!("--part"),
        };
    }
    let seed = number("--seed", 1) as u64;
    let input = common::email_events(seed, records / PER_MESSAGE, PER_MESSAGE);
    let messages: Vec<&[u8]> =
        input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let broker = kafka::Broker::start(&[]);
    broker.create_topic(SOURCE, 4, &[]);
    for (partition, part) in (0..).zip(messages.chunks(messages.len().div_ceil(4))) {
        broker.produce(SOURCE, partition, part);
    }
    println!(
        "seed {seed}, {records} records of {:.2} KB, {PER_MESSAGE} to a message, {compression}\n",
        input.len() as f64 / records as f64 / 1000.0
    );
    let format = value("--format").unwrap_or_else(|| "native".to_owned());
    let parts = ["floor", format.as_str()];
    let mut costs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..number("--rounds", 3) {
        for part in parts {
            let out = format!("bench-out-{part}-{round}");
            broker.create_topic(&out, 4, &[]);
            costs.entry(part).or_default().push(child(&broker, part, &out, records, &compression));
            broker.delete_topic(&out);
        }
    }
    let median = |part: &str| {
        let mut costs = costs[part].clone();
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    };
    println!();
    for part in parts {
        let cost = median(part);
        println!("{part:<8} {cost:>6.2} CPU-us/record  {:>5.2} x floor", cost / median("floor"));
    }
}

/// Runs one contender as a process of its own, on one core, and reads the figure that it prints.
fn child(broker: &kafka::Broker, part: &str, out: &str, records: usize, compression: &str) -> f64 {
    let this = std::env::current_exe().unwrap();
    // As the service unit and the container set it: with an arena for every thread the allocator keeps twice as much.
    let output = Command::new("taskset")
        .env("MALLOC_ARENA_MAX", "2")
        .args(["-c", "0", this.to_str().unwrap(), "--broker", &broker.bootstrap()])
        .args(["--part", part, "--out", out, "--records", &records.to_string()])
        .args(["--compression", compression])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    print!("{text}");
    let last = text.lines().last().unwrap();
    last.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Processor seconds of this process, and by name of thread.
fn used() -> (f64, BTreeMap<String, f64>) {
    let seconds = |path: &std::path::Path| {
        let text = fs::read_to_string(path).ok()?;
        let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?;
        Some((name.to_owned(), ticks / 100.0))
    };
    let mut threads = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        if let Some((name, used)) = seconds(&task.path().join("stat")) {
            *threads.entry(name).or_insert(0.0) += used;
        }
    }
    (seconds("/proc/self/stat".as_ref()).unwrap().1, threads)
}

fn report(part: &str, records: usize, before: &(f64, BTreeMap<String, f64>), began: Instant) {
    let after = used();
    let per_record = 1e6 / records as f64;
    let rate = records as f64 / began.elapsed().as_secs_f64();
    let mut threads: Vec<(&String, f64)> = after
        .1
        .iter()
        .map(|(name, used)| (name, (used - before.1.get(name).unwrap_or(&0.0)) * per_record))
        .filter(|(_, cost)| *cost >= 0.05)
        .collect();
    threads.sort_by(|a, b| f64::total_cmp(&b.1, &a.1));
    for (name, cost) in threads {
        println!("    {name:<20} {cost:>6.2}");
    }
    let resident = fs::read_to_string("/proc/self/status").unwrap();
    let peak = resident.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    let peak: u64 = peak.split_whitespace().nth(1).unwrap_or("0").parse().unwrap();
    println!(
        "{part:<8} {:>6.2} CPU-us/record, {rate:.0} records/s, peak {} MB",
        (after.0 - before.0) * per_record,
        peak / 1000
    );
}

fn ours(broker: &str, out: &str, records: usize, format: Format, compression: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let place = directory.path().join("journal");
        let bytes = |name: &str, default: usize| {
            std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
        };
        let settings = JournalConfig::default();
        let settings = JournalConfig {
            cache_bytes: bytes("BENCH_CACHE_BYTES", settings.cache_bytes as usize) as u64,
            ..settings
        };
        let journal = Embedded::open(&place, settings, Arc::clone(&clock)).unwrap();
        let journal: Arc<dyn Journal> = Arc::new(journal);
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut source = EventHubsConfig::plain(broker, &[SOURCE]);
        source.fetch_ahead_bytes = bytes("BENCH_FETCH_AHEAD_BYTES", source.fetch_ahead_bytes);
        let source = EventHubs::new("hubs", source, Arc::clone(&clock)).unwrap();
        let mut sink = KafkaConfig::plain(broker, out);
        sink.batch_bytes = bytes("BENCH_BATCH_BYTES", sink.batch_bytes);
        sink.compression = serde_json::from_value(compression.into()).unwrap();
        let sink = KafkaSink::new("siem", sink, format, Arc::clone(&journal)).unwrap();
        let intake = Intake {
            journal: Arc::clone(&journal),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            status: StatusBoard::default(),
            gate: Arc::default(),
        };
        let delivery = Delivery {
            journal: Arc::clone(&journal),
            clock,
            metrics,
            status: StatusBoard::default(),
        };
        let source_settings = SourceSettings {
            name: "hubs".into(),
            tenant: "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a".into(),
            normal_lag_seconds: 1800,
            size_cap: postern::normalize::SIZE_CAP,
        };
        let sink_settings = SinkSettings {
            name: "siem".into(),
            filter: Filter::default(),
            start: ReaderStart::Beginning,
            on_full: OnFull::default(),
            hold_probe: Duration::from_secs(60),
        };
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let (before, began) = (used(), Instant::now());
        let reading =
            tokio::spawn(run_source(Box::new(source), source_settings, intake, stopped.clone()));
        let writing = tokio::spawn(run_sink(Box::new(sink), sink_settings, delivery, stopped));
        let all = records as u64;
        while journal.stat().readers.get("siem").is_none_or(|position| *position < all) {
            assert!(!reading.is_finished() && !writing.is_finished(), "a task ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        report(format.as_str(), records, &before, began);
        stop.send_replace(true);
        reading.await.unwrap().unwrap();
        writing.await.unwrap().unwrap();
        journal.close().await.unwrap();
    });
}

/// Copies the bytes: each message is cut into as many records as it holds, without looking at it.
fn floor(broker: &str, out: &str, records: usize, compression: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker);
    let consumer: BaseConsumer = config
        .clone()
        .set("group.id", "floor")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let producer: BaseProducer = config
        .set("compression.type", compression)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..4 {
        list.add_partition_offset(SOURCE, partition, Offset::Beginning).unwrap();
    }
    let (before, began) = (used(), Instant::now());
    consumer.assign(&list).unwrap();
    let mut done = 0;
    while done < records {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        let payload = message.payload().unwrap();
        for record in payload.chunks(payload.len().div_ceil(PER_MESSAGE)) {
            let key = done.to_string();
            let mut record = BaseRecord::to(out).key(&key).payload(record);
            while let Err((_, back)) = producer.send(record) {
                record = back;
                producer.poll(Duration::from_millis(5));
            }
            done += 1;
        }
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    report("floor", records, &before, began);
}
