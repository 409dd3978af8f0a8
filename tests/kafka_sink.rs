//! The `kafka` sink against a real broker: what a `read_committed` reader sees, whatever goes wrong between.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/kafka_proxy.rs"]
mod kafka_proxy;
#[path = "support/shelf_journal.rs"]
mod shelf_journal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern::cloud::kafka::Auth;
use postern::cloud::secret::Secret;
use postern::domain::{DeadLetterReason, Event, Failure, Raw};
use postern::journal::{Journal, Numbered, Offset};
use postern::pipeline::{AdapterError, Batch, Sent, Sink as _};
use postern::render::Format;
use postern::sink::kafka::records::{HEADER_BATCH, HEADER_ID, HEADER_TAGS};
use postern::sink::kafka::{Compression, Delivery, KafkaConfig, KafkaSink};
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};

use conformance::event;
use kafka_proxy::{END_TXN, Fate, Proxy};
use shelf_journal::ShelfJournal;

macro_rules! needs_kafka {
    ($test:literal) => {
        if kafka::left_out($test) {
            return;
        }
    };
}

fn sink(config: KafkaConfig, journal: &Arc<ShelfJournal>) -> KafkaSink {
    let journal: Arc<dyn Journal> = Arc::<ShelfJournal>::clone(journal);
    KafkaSink::new("siem", config, Format::Native, journal).unwrap()
}

fn batch(events: &[Numbered]) -> Batch {
    let (first, last) = (events.first().unwrap(), events.last().unwrap());
    Batch { from: first.offset, next: last.offset + 1, events: events.to_vec() }
}

fn range(range: std::ops::Range<Offset>) -> Vec<Event> {
    range.map(event).collect()
}

/// An event with so many bytes more.
fn large(offset: Offset, bytes: usize) -> Event {
    let row =
        format!("{{\"NetworkMessageId\":\"{offset}\",\"Subject\":\"{}\"}}", "x".repeat(bytes));
    let end = u32::try_from(row.len()).unwrap();
    Event { raw: Raw::new(row.as_bytes()), row: (0, end), ..event(offset) }
}

fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    Some(String::from_utf8(found.value?.to_vec()).unwrap())
}

/// What a reader concludes from the batch headers alone: batches from 1 without holes, each whole and once. The
/// ids in the order in which they were delivered.
#[track_caller]
fn proven(messages: &[OwnedMessage]) -> Vec<String> {
    let mut batches: BTreeMap<u64, BTreeMap<usize, String>> = BTreeMap::new();
    let mut sizes = BTreeMap::new();
    for message in messages {
        let place = header(message, HEADER_BATCH).unwrap();
        let mut parts = place.rsplitn(4, ':');
        let size: usize = parts.next().unwrap().parse().unwrap();
        let index: usize = parts.next().unwrap().parse().unwrap();
        let seq: u64 = parts.next().unwrap().parse().unwrap();
        let id = header(message, HEADER_ID).unwrap();
        let before = batches.entry(seq).or_default().insert(index, id);
        assert_eq!(before, None, "batch {seq}, record {index} came twice");
        assert_eq!(*sizes.entry(seq).or_insert(size), size);
    }
    for (expected, (seq, records)) in (1..).zip(&batches) {
        assert_eq!(*seq, expected, "a batch is missing");
        assert!(records.keys().copied().eq(0..sizes[seq]), "batch {seq} is torn");
    }
    batches.into_values().flat_map(BTreeMap::into_values).collect()
}

fn delivered(results: &[Sent]) -> bool {
    results.iter().all(|result| *result == Sent::Delivered)
}

// Reliability I7: whatever dies between produce and the journal's ack, the far end's cursor knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_starts_again_goes_on_behind_what_the_far_end_holds() {
    needs_kafka!("a_sink_that_starts_again_goes_on_behind_what_the_far_end_holds");
    let broker = kafka::shared();
    let journal = ShelfJournal::new("j-restart");
    let events = journal.put(range(0..300));
    let config = KafkaConfig::plain(&broker.bootstrap(), "restart");
    let mut first = sink(config.clone(), &journal);
    assert_eq!(first.open(0).await.unwrap(), 0);
    assert!(delivered(&first.deliver(&batch(&events[..100])).await.unwrap()));
    assert!(delivered(&first.deliver(&batch(&events[100..150])).await.unwrap()));
    // It dies here; the journal was told nothing.
    drop(first);
    let mut second = sink(config, &journal);
    assert_eq!(second.open(0).await.unwrap(), 150);
    // Even if it were asked for it all again.
    assert!(delivered(&second.deliver(&batch(&events)).await.unwrap()));
    second.close().await.unwrap();
    let messages = broker.read_committed("restart");
    assert_eq!(proven(&messages), journal.ids());
    let message = messages.iter().find(|one| header(one, HEADER_ID).unwrap() == journal.ids()[7]);
    let message = message.unwrap();
    assert_eq!(message.key().unwrap(), events[7].event.key.as_ref().unwrap().as_bytes());
    assert_eq!(header(message, HEADER_TAGS).unwrap(), "allowed.hc_phish,override.allow");
    let row: serde_json::Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
    assert_eq!(row["id"], journal.ids()[7]);
}

// Reliability F10.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_larger_than_the_topic_takes_is_refused_and_its_neighbors_arrive() {
    needs_kafka!("a_record_larger_than_the_topic_takes_is_refused_and_its_neighbors_arrive");
    let broker = kafka::shared();
    broker.create_topic("sizes", 2, &[("max.message.bytes", "200000")]);
    let journal = ShelfJournal::new("j-sizes");
    let mut made = range(0..10);
    made[3] = large(3, 300_000);
    made[6] = large(6, 150_000);
    let events = journal.put(made);
    let config = KafkaConfig::plain(&broker.bootstrap(), "sizes");
    let mut first = sink(config.clone(), &journal);
    first.open(0).await.unwrap();
    let began = Instant::now();
    let results = first.deliver(&batch(&events)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for (index, result) in results.iter().enumerate() {
        match result {
            Sent::Reject { reason: DeadLetterReason::SinkOversize, detail } if index == 3 => {
                assert!(detail.contains("the topic takes 200000"), "{detail}");
            }
            result => assert_eq!(result, &Sent::Delivered, "{index}"),
        }
    }
    // It dies before the dead letter is durable: the event is looked at again, and only that one.
    drop(first);
    let mut second = sink(config, &journal);
    assert_eq!(second.open(0).await.unwrap(), 3);
    let results = second.deliver(&batch(&events[3..])).await.unwrap();
    assert!(matches!(results[0], Sent::Reject { .. }) && delivered(&results[1..]), "{results:?}");
    // With its position acked, it is settled.
    assert_eq!(second.open(10).await.unwrap(), 10);
    second.close().await.unwrap();
    let mut ids = journal.ids();
    ids.remove(3);
    assert_eq!(proven(&broker.read_committed("sizes")), ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_takes_less_than_it_said_costs_no_neighbor() {
    needs_kafka!("a_topic_that_takes_less_than_it_said_costs_no_neighbor");
    let broker = kafka::shared();
    broker.create_topic("shrinking", 1, &[("max.message.bytes", "500000")]);
    let journal = ShelfJournal::new("j-shrinking");
    let mut made = range(0..6);
    made[2] = large(2, 300_000);
    let events = journal.put(made);
    let mut config = KafkaConfig::plain(&broker.bootstrap(), "shrinking");
    config.compression = Compression::None;
    let mut sink = sink(config, &journal);
    sink.open(0).await.unwrap();
    broker.set_topic("shrinking", "max.message.bytes", "100000");
    let results = sink.deliver(&batch(&events)).await.unwrap();
    assert!(matches!(results[2], Sent::Reject { .. }), "{results:?}");
    sink.close().await.unwrap();
    let mut ids = journal.ids();
    ids.remove(2);
    assert_eq!(proven(&broker.read_committed("shrinking")), ids);
}

// Reliability F14.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_local_queue_is_waited_for() {
    needs_kafka!("a_full_local_queue_is_waited_for");
    let broker = kafka::shared();
    let journal = ShelfJournal::new("j-queue");
    let events = journal.put((0..60).map(|offset| large(offset, 100_000)).collect());
    let mut config = KafkaConfig::plain(&broker.bootstrap(), "queue");
    // Room for 1 MiB, and 6 MB to send.
    config.batch_bytes = 1;
    let mut sink = sink(config, &journal);
    sink.open(0).await.unwrap();
    assert!(delivered(&sink.deliver(&batch(&events)).await.unwrap()));
    assert_eq!(proven(&broker.read_committed("queue")), journal.ids());
}

// Reliability F13.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_held_and_never_created_by_accident() {
    needs_kafka!("a_missing_topic_is_held_and_never_created_by_accident");
    let broker = kafka::shared();
    let journal = ShelfJournal::new("j-missing");
    let events = journal.put(range(0..20));
    let mut config = KafkaConfig::plain(&broker.bootstrap(), "missing");
    config.create_topics = false;
    config.transaction_timeout_ms = 10_000;
    let mut sink = sink(config, &journal);
    let error = sink.open(0).await.unwrap_err();
    assert_eq!(error.failure, Failure::Hold);
    assert!(error.message.contains("topic missing"), "{error}");
    assert_eq!(sink.probe().await.unwrap_err().failure, Failure::Hold);
    broker.create_topic("missing", 1, &[]);
    broker.create_topic("missing.postern-cursors", 1, &[("cleanup.policy", "compact")]);
    assert!(sink.probe().await.unwrap().contains("topic missing with 1 partitions"));
    sink.open(0).await.unwrap();
    assert!(delivered(&sink.deliver(&batch(&events[..5])).await.unwrap()));
    // It disappears under us.
    broker.delete_topic("missing");
    let error = until_error(&mut sink, &batch(&events[5..])).await;
    let error = match error.failure {
        Failure::Hold => error,
        _ => sink.open(0).await.unwrap_err(),
    };
    assert_eq!(error.failure, Failure::Hold, "{error}");
    sink.close().await.unwrap();
    assert!(!broker.topics().contains(&"missing".to_owned()), "a topic was created by writing");
}

async fn until_error(sink: &mut KafkaSink, batch: &Batch) -> AdapterError {
    match sink.deliver(batch).await {
        Err(error) => error,
        Ok(results) => panic!("delivered to nowhere: {results:?}"),
    }
}

// Reliability F13: rights that are taken away.
#[tokio::test(flavor = "multi_thread")]
async fn lost_rights_are_held_with_the_right_that_is_missing() {
    needs_kafka!("lost_rights_are_held_with_the_right_that_is_missing");
    let broker = kafka::shared();
    let journal = ShelfJournal::new("j-rights");
    let events = journal.put(range(0..20));
    broker.create_topic("rights", 1, &[]);
    broker.create_topic("rights.postern-cursors", 2, &[("cleanup.policy", "compact")]);
    let (user, word) = kafka::BOB;
    let grant = ["--add", "--allow-principal", "User:bob", "--operation", "All"];
    let on = |what: &[&'static str]| [&grant[..], what].concat();
    broker.acl(&on(&["--topic", "rights", "--resource-pattern-type", "prefixed"]));
    broker.acl(&on(&["--transactional-id", "*", "--group", "*"]));
    let secret = broker.scratch().join("bob-writes");
    std::fs::write(&secret, word).unwrap();
    let mut config = KafkaConfig::plain(&broker.bootstrap_tls(), "rights");
    config.auth = Auth::Plain { user: user.to_owned(), password: Secret::File(secret) };
    config.ca_file = Some(broker.ca_file());
    config.create_topics = false;
    config.transaction_timeout_ms = 10_000;
    let mut sink = sink(config, &journal);
    sink.open(0).await.unwrap();
    assert!(delivered(&sink.deliver(&batch(&events[..5])).await.unwrap()));
    broker.acl(&[
        "--remove",
        "--force",
        "--allow-principal",
        "User:bob",
        "--operation",
        "All",
        "--topic",
        "rights",
        "--resource-pattern-type",
        "prefixed",
    ]);
    let error = until_error(&mut sink, &batch(&events[5..])).await;
    assert_eq!(error.failure, Failure::Hold, "{error}");
    assert!(error.message.contains("Write and Describe"), "{error}");
    assert_eq!(sink.probe().await.unwrap_err().failure, Failure::Hold);
    broker.acl(&on(&["--topic", "rights", "--resource-pattern-type", "prefixed"]));
    let position = sink.open(0).await.unwrap();
    assert_eq!(position, 5);
    assert!(delivered(&sink.deliver(&batch(&events[5..])).await.unwrap()));
    assert_eq!(proven(&broker.read_committed("rights")), journal.ids());
}

// Reliability B13.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_restored_from_yesterday_is_refused_also_when_it_has_grown_again() {
    needs_kafka!("a_journal_restored_from_yesterday_is_refused_also_when_it_has_grown_again");
    let broker = kafka::shared();
    let journal = ShelfJournal::new("j-restored");
    let events = journal.put(range(0..5));
    let yesterday = journal.backup();
    let config = KafkaConfig::plain(&broker.bootstrap(), "restored");
    let mut today = sink(config.clone(), &journal);
    today.open(0).await.unwrap();
    let more = journal.put(range(5..10));
    assert!(delivered(&today.deliver(&batch(&[events, more].concat())).await.unwrap()));
    drop(today);
    let mut restored = sink(config, &yesterday);
    for says in ["the journal ends at 5", "the journal holds another event there"] {
        let error = restored.open(0).await.unwrap_err();
        assert_eq!(error.failure, Failure::Hold);
        assert!(error.message.contains(says) && error.message.contains("older copy"), "{error}");
        yesterday.put(range(100..110));
    }
}

// Reliability F6: a copy of the data directory in use elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_sinks_with_one_identity_the_older_is_fenced_and_says_so() {
    needs_kafka!("of_two_sinks_with_one_identity_the_older_is_fenced_and_says_so");
    let broker = kafka::shared();
    let journal = ShelfJournal::new("j-fenced");
    let events = journal.put(range(0..30));
    let config = KafkaConfig::plain(&broker.bootstrap(), "fenced");
    let (mut older, mut newer) = (sink(config.clone(), &journal), sink(config, &journal));
    older.open(0).await.unwrap();
    assert!(delivered(&older.deliver(&batch(&events[..10])).await.unwrap()));
    assert_eq!(newer.open(0).await.unwrap(), 10);
    assert!(delivered(&newer.deliver(&batch(&events[10..20])).await.unwrap()));
    let error = until_error(&mut older, &batch(&events[10..25])).await;
    assert_eq!(error.failure, Failure::Hold, "{error}");
    assert!(error.message.contains("copy of this data directory"), "{error}");
    assert_eq!(proven(&broker.read_committed("fenced")), journal.ids()[..20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_needs_no_transactions_and_every_compression_is_readable() {
    needs_kafka!("at_least_once_needs_no_transactions_and_every_compression_is_readable");
    let broker = kafka::shared();
    broker.create_topic("plain", 1, &[("max.message.bytes", "200000")]);
    let all = [Compression::None, Compression::Gzip, Compression::Lz4, Compression::Zstd];
    let journal = ShelfJournal::new("j-plain");
    for (round, compression) in (0..).zip(all) {
        let mut made = range(round * 10..round * 10 + 10);
        made[4] = large(round * 10 + 4, 300_000);
        let events = journal.put(made);
        let mut config = KafkaConfig::plain(&broker.bootstrap(), "plain");
        (config.delivery, config.compression) = (Delivery::AtLeastOnce, compression);
        let mut sink = sink(config, &journal);
        assert_eq!(sink.open(3).await.unwrap(), 3, "the journal's own position is the only one");
        let results = sink.deliver(&batch(&events)).await.unwrap();
        assert!(matches!(results[4], Sent::Reject { .. }), "{results:?}");
        sink.close().await.unwrap();
    }
    let read = broker.read_committed("plain");
    let read: Vec<String> = read.iter().filter_map(|one| header(one, HEADER_ID)).collect();
    let expected = journal.ids();
    let expected: Vec<&String> =
        expected.iter().enumerate().filter(|(nth, _)| nth % 10 != 4).map(|(_, id)| id).collect();
    assert_eq!(read.iter().collect::<Vec<_>>(), expected);
    assert!(!broker.topics().contains(&"plain.postern-cursors".to_owned()));
}

// Reliability F4 and F5: the request that ends a transaction is lost, its answer is lost, or it arrives when the
// next transaction is open.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_the_end_of_a_transaction_each_batch_is_seen_once() {
    needs_kafka!("whatever_becomes_of_the_end_of_a_transaction_each_batch_is_seen_once");
    let broker = kafka::shared();
    let proxy = Proxy::start(broker.proxy_port, broker.proxied());
    let journal = ShelfJournal::new("j-proxy");
    let events = journal.put(range(0..1800));
    let mut config = KafkaConfig::plain(&format!("127.0.0.1:{}", broker.proxy_port), "proxied");
    config.transaction_timeout_ms = 20_000;
    let mut sink = sink(config, &journal);
    let mut position = sink.open(0).await.unwrap();
    let fates = [Fate::LoseAnswer, Fate::LoseRequest, Fate::Delay];
    for (part, fate) in events.chunks(100).zip(fates.into_iter().cycle()) {
        proxy.plan(END_TXN, &[fate]);
        // As the runner does: an error, then `open`, then what is left.
        while position < part.last().unwrap().offset + 1 {
            let left: Vec<Numbered> =
                part.iter().filter(|one| one.offset >= position).cloned().collect();
            match sink.deliver(&batch(&left)).await {
                Ok(results) => {
                    assert!(delivered(&results));
                    position = part.last().unwrap().offset + 1;
                }
                Err(error) => {
                    assert!(matches!(error.failure, Failure::Retry(_)), "{error}");
                    position = sink.open(position).await.unwrap();
                }
            }
        }
        assert!(proxy.met() >= 1, "the fault never struck");
    }
    // The end of one transaction came into the middle of the next, and the broker knew that its sender was gone.
    let answers = proxy.answers();
    eprintln!("answers to late ends of transactions: {answers:?}");
    assert!(answers.len() >= 5 && !answers.contains(&0), "{answers:?}");
    sink.close().await.unwrap();
    assert_eq!(proven(&broker.read_committed("proxied")), journal.ids());
}
