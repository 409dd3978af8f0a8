//! A broker that is killed again and again under load, with the whole pipeline around it: source, the real
//! journal, sink. What a `read_committed` reader sees at the end must be what was produced: nothing lost, nothing
//! twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

#[path = "support/kafka.rs"]
mod kafka;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postern::journal::{Clock, Embedded, Journal, JournalConfig, OnFull, ReaderStart, SystemClock};
use postern::pipeline::Filter;
use postern::pipeline::deliver::{Delivery, SinkSettings, run_sink};
use postern::pipeline::intake::{Intake, SourceSettings, run_source};
use postern::pipeline::metrics::Metrics;
use postern::pipeline::status::StatusBoard;
use postern::render::Format;
use postern::sink::kafka::records::{HEADER_BATCH, HEADER_ID};
use postern::sink::{KafkaConfig, KafkaSink};
use postern::source::event_hubs::{EventHubs, EventHubsConfig};
use rdkafka::message::Message as _;
use rdkafka::message::{Headers as _, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

/// So many kills, or as many as fit into this time on a slow machine, but at least a few.
const KILLS: u64 = 10;
const AT_LEAST: u64 = 2;
const TIME: Duration = Duration::from_secs(30);
const PER_MESSAGE: usize = 5;

fn message(number: usize) -> String {
    let record = |row: usize| {
        let id = format!("6c1f9a34-52d1-4b0e-3a77-{:012}", number * PER_MESSAGE + row);
        format!(
            r#"{{"time":"2026-08-20T09:13:32.3832981Z","tenantId":"9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a","category":"AdvancedHunting-EmailEvents","properties":{{"Timestamp":"2026-08-20T09:11:04Z","NetworkMessageId":"{id}","RecipientEmailAddress":"adele@contoso.example","ReportId":"{id}-1","DeliveryAction":"Delivered"}}}}"#
        )
    };
    let records: Vec<String> = (0..PER_MESSAGE).map(record).collect();
    format!("{{\"records\":[{}]}}", records.join(","))
}

/// Messages that the feeder is ahead of the sink at most.
const AHEAD: usize = 60;

/// Produces until `stop`, through every outage, each message once, a little ahead of what is `delivered`.
fn feed(bootstrap: String, made: &AtomicUsize, delivered: &AtomicUsize, stop: &AtomicBool) {
    let producer: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "0")
        .set("reconnect.backoff.max.ms", "500")
        .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg)
        .create()
        .unwrap();
    while !stop.load(Ordering::Relaxed) {
        producer.poll(Duration::from_millis(2));
        let number = made.load(Ordering::Relaxed);
        if number >= delivered.load(Ordering::Relaxed) / PER_MESSAGE + AHEAD {
            continue;
        }
        let text = message(number);
        let record = BaseRecord::<[u8], str>::to("load")
            .partition(i32::try_from(number % 3).unwrap())
            .payload(&text);
        if producer.send(record).is_ok() {
            made.store(number + 1, Ordering::Relaxed);
        }
    }
    producer.flush(kafka::PATIENCE).unwrap();
}

fn header(message: &OwnedMessage, name: &str) -> String {
    let headers = message.headers().unwrap();
    let found = headers.iter().find(|header| header.key == name).unwrap();
    String::from_utf8(found.value.unwrap().to_vec()).unwrap()
}

// Reliability F1, F3, F4, I7, D1 (our own cursors, never the group's).
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_again_and_again_under_load_loses_nothing_and_repeats_nothing() {
    if kafka::left_out(
        "a_broker_killed_again_and_again_under_load_loses_nothing_and_repeats_nothing",
    ) {
        return;
    }
    // Ids of idle transactional producers expire within seconds here (F9).
    let mut broker = kafka::Broker::start(&[
        ("transactional.id.expiration.ms", "10000"),
        ("transaction.remove.expired.transaction.cleanup.interval.ms", "1000"),
    ]);
    broker.create_topic("load", 3, &[]);
    let directory = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let place = directory.path().join("journal");
    let journal = Embedded::open(&place, JournalConfig::default(), Arc::clone(&clock)).unwrap();
    let journal: Arc<dyn Journal> = Arc::new(journal);
    let metrics = Arc::new(Metrics::new().unwrap());
    let source = EventHubsConfig::plain(&broker.bootstrap(), &["load"]);
    let source = EventHubs::new("hubs", source, Arc::clone(&clock)).unwrap();
    let mut config = KafkaConfig::plain(&broker.bootstrap(), "out");
    // Small batches: many commits for the kills to fall into.
    (config.batch_events, config.linger_ms) = (20, 5);
    config.transaction_timeout_ms = 20_000;
    let sink = KafkaSink::new("siem", config, Format::Native, Arc::clone(&journal)).unwrap();
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
        metrics: Arc::clone(&metrics),
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
        hold_probe: Duration::from_secs(2),
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let reading =
        tokio::spawn(run_source(Box::new(source), source_settings, intake, stopped.clone()));
    let writing = tokio::spawn(run_sink(Box::new(sink), sink_settings, delivery, stopped));
    let (made, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let delivered = Arc::new(AtomicUsize::new(0));
    let feeder = {
        let (made, enough) = (Arc::clone(&made), Arc::clone(&enough));
        let (bootstrap, delivered) = (broker.bootstrap(), Arc::clone(&delivered));
        std::thread::spawn(move || feed(bootstrap, &made, &delivered, &enough))
    };
    let position = || {
        let position = journal.stat().readers.get("siem").copied().unwrap_or(0);
        delivered.store(usize::try_from(position).unwrap(), Ordering::Relaxed);
        position
    };
    let wait = async |what: &str, done: &dyn Fn() -> bool| {
        let deadline = Instant::now() + kafka::PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "waited too long for {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (began, mut kills) = (Instant::now(), 0);
    while kills < AT_LEAST || (kills < KILLS && began.elapsed() < TIME) {
        // Somewhere in the middle of some batch, another place each time.
        let target = position() + 60 + 17 * kills;
        wait("deliveries", &|| position() >= target).await;
        kills += 1;
        tokio::task::block_in_place(|| {
            broker.kill();
            broker.restart();
        });
    }
    enough.store(true, Ordering::Relaxed);
    tokio::task::spawn_blocking(move || feeder.join().unwrap()).await.unwrap();
    let all = made.load(Ordering::Relaxed) * PER_MESSAGE;
    wait("the rest", &|| position() >= all as u64).await;
    stop.send_replace(true);
    reading.await.unwrap().unwrap();
    writing.await.unwrap().unwrap();

    let events = journal.stat().next;
    assert_eq!(events, all as u64, "the journal holds each record once");
    let messages = tokio::task::spawn_blocking(move || broker.read_committed("out")).await.unwrap();
    let mut ids = BTreeMap::new();
    let mut batches: BTreeMap<String, usize> = BTreeMap::new();
    for message in &messages {
        *ids.entry(header(message, HEADER_ID)).or_insert(0) += 1;
        *batches.entry(header(message, HEADER_BATCH)).or_default() += 1;
    }
    assert!(ids.values().all(|count| *count == 1), "events came twice");
    assert_eq!(ids.len(), all, "events are missing");
    assert!(batches.values().all(|count| *count == 1), "a place in a batch came twice");
    let retried: f64 = metrics.sink_errors.with_label_values(&["siem", "retry"]).get() as f64;
    eprintln!("{kills} kills, {all} events, {} records seen, {retried} errors met", messages.len());
    journal.close().await.unwrap();
}
