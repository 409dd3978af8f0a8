//! Feeds a simulated tenant into a Kafka endpoint (the mock broker, a real Kafka) and enters into the ground
//! truth what the broker has acknowledged, nothing else. It follows the reader where the broker keeps little.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::watch;

use crate::domain::Ticks;
use crate::journal::clock::Clock;

use super::envelope::{Hubs, Message, Packer};
use super::record::Record;
use super::tenant::{Settings, Tenant};
use super::truth::Truth;

/// What is fed, and how.
#[derive(Debug, Clone)]
pub struct FeedConfig {
    /// The Kafka endpoint.
    pub bootstrap: String,
    /// The hubs, which exist already (see [`create_hubs`]).
    pub hubs: Hubs,
    /// Partitions of each hub.
    pub partitions: i32,
    /// The tenant. `start` is set to when the feed begins.
    pub tenant: Settings,
    /// Of a thousand messages, how many are followed by one that nobody can read.
    pub poison_per_mille: u64,
    /// When it stops by itself.
    pub end: End,
}

/// When a feed stops by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Only when told.
    Never,
    /// As soon as this many mails have arrived, sent as fast as the broker takes them: the tenant's clock
    /// runs ahead from an hour ago instead of following ours.
    AfterMails(u64),
}

/// Why a feed ended early.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The producer could not be made, or the broker refused for good.
    #[error("cannot send to the hub")]
    Kafka(#[from] KafkaError),
    /// The truth file cannot be written.
    #[error("cannot write the truth file")]
    Truth(#[from] std::io::Error),
    /// A hub could not be created.
    #[error("cannot create the hub {0}: {1}")]
    Hub(String, RDKafkaErrorCode),
}

/// Where the reader is: the next offset it wants of a partition of a hub, as far as it is durable there.
pub type Position = Arc<dyn Fn(&str, i32) -> i64 + Send + Sync>;

/// Is told of each record that the tenant exports; what it answers false for does not go to the hubs.
pub type Beside = Arc<dyn Fn(&Record) -> bool + Send + Sync>;

/// For each partition that got something the offset behind its last message.
pub type Ends = BTreeMap<(Arc<str>, i32), i64>;

/// Unread bytes that a partition may hold: the mock broker forgets beyond 5 MB.
const LEAD_BYTES: usize = 3_000_000;
/// Unread messages that a partition may hold: the mock broker forgets beyond 100,000.
const LEAD_MESSAGES: usize = 50_000;
/// How long to wait for the reader before looking again where it is.
const LEAD_WAIT: Duration = Duration::from_millis(10);
/// Messages that may be on their way to the broker.
const IN_FLIGHT: usize = 500;
/// How often time passes for the tenant.
const STEP: Duration = Duration::from_millis(50);
/// How long a message stays open for more records.
const LINGER_MILLIS: i64 = 250;

/// Makes the hubs on a real Kafka (the mock broker makes its own). Those that exist are left alone.
///
/// # Errors
/// If the broker refuses.
pub async fn create_hubs(bootstrap: &str, hubs: &Hubs, partitions: i32) -> Result<(), FeedError> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let names = hubs.all();
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1)))
        .collect();
    for outcome in admin.create_topics(&topics, &AdminOptions::new()).await? {
        match outcome {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(FeedError::Hub(name, code)),
        }
    }
    Ok(())
}

/// Feeds until `stop` turns true or the end is reached, then sends what is still to come, waits until the
/// broker has it all, and completes the truth file. `position` bounds the lead over the reader.
///
/// # Errors
/// If the broker or the disk refuses for good.
pub async fn feed(
    config: &FeedConfig,
    clock: Arc<dyn Clock>,
    position: Option<Position>,
    stop: watch::Receiver<bool>,
    truth: Arc<Mutex<Truth>>,
) -> Result<Ends, FeedError> {
    let all = Arc::new(|_: &Record| true);
    let ends = feed_beside(config, clock, position, stop, Arc::clone(&truth), all).await?;
    truth.lock().unwrap_or_else(PoisonError::into_inner).finish()?;
    Ok(ends)
}

/// As [`feed`], beside other transports of the same records: the truth file is not complete with it.
///
/// # Errors
/// As [`feed`].
pub async fn feed_beside(
    config: &FeedConfig,
    clock: Arc<dyn Clock>,
    position: Option<Position>,
    mut stop: watch::Receiver<bool>,
    truth: Arc<Mutex<Truth>>,
    beside: Beside,
) -> Result<Ends, FeedError> {
    let mut line = Line::open(config, position, truth)?;
    let began = clock.now();
    let (start, mut time) = match config.end {
        // A little in the past, so that the first records are visible at once.
        End::Never => (began.plus_seconds(-6), began),
        End::AfterMails(_) => (began.plus_seconds(-3600), began.plus_seconds(-3600)),
    };
    let settings = Settings { start, ..config.tenant.clone() };
    let mut packer = Packer::new(
        config.hubs.clone(),
        config.partitions,
        Arc::clone(&settings.tenant_id),
        settings.seed,
        config.poison_per_mille,
    );
    let mut tenant = Tenant::new(settings);
    let mut messages = Vec::new();
    loop {
        tenant.advance(time, &mut |record| {
            if beside(&record) {
                packer.add(&record, &mut messages);
            }
        });
        packer.flush(Ticks(time.0 - Ticks::from_millis(LINGER_MILLIS).0), &mut messages);
        for message in messages.drain(..) {
            line.send(message).await?;
        }
        match config.end {
            _ if *stop.borrow() => break,
            End::AfterMails(count) if tenant.mails() >= count => break,
            End::AfterMails(_) => time = Ticks(time.0 + Ticks::from_millis(50).0),
            End::Never => {
                line.collect()?;
                drop(tokio::time::timeout(STEP, stop.changed()).await);
                time = clock.now().max(time);
            }
        }
    }
    tenant.finish(&mut |record| {
        if beside(&record) {
            packer.add(&record, &mut messages);
        }
    });
    packer.flush(Ticks(i64::MAX), &mut messages);
    for message in messages {
        line.send(message).await?;
    }
    line.drain().await
}

/// The way to the broker.
struct Line {
    producer: FutureProducer,
    position: Option<Position>,
    truth: Arc<Mutex<Truth>>,
    in_flight: VecDeque<(DeliveryFuture, Message)>,
    unread: BTreeMap<(Arc<str>, i32), Unread>,
    ends: Ends,
}

/// What a partition holds that the reader has not taken.
#[derive(Default)]
struct Unread {
    /// On their way to the broker, so without an offset yet.
    in_flight: usize,
    bytes: usize,
    messages: VecDeque<(i64, usize)>,
}

impl Line {
    fn open(
        config: &FeedConfig,
        position: Option<Position>,
        truth: Arc<Mutex<Truth>>,
    ) -> Result<Self, FeedError> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &config.bootstrap)
            .set("enable.idempotence", "true")
            .set("compression.type", "none")
            .set("linger.ms", "5")
            // Never gives a message up: a broker that is away comes back or the feed is stopped.
            .set("message.timeout.ms", "0")
            .create()?;
        Ok(Self {
            producer,
            position,
            truth,
            in_flight: VecDeque::new(),
            unread: BTreeMap::new(),
            ends: Ends::new(),
        })
    }

    async fn send(&mut self, message: Message) -> Result<(), FeedError> {
        while self.in_flight.len() >= IN_FLIGHT || self.is_far_ahead(&message) {
            self.settle_oldest().await?;
            if self.in_flight.is_empty() && self.is_far_ahead(&message) {
                tokio::time::sleep(LEAD_WAIT).await;
            }
        }
        let record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&message.hub).partition(message.partition).payload(&message.body);
        match self.producer.send_result(record) {
            Ok(delivery) => {
                if self.position.is_some() {
                    let place = (Arc::clone(&message.hub), message.partition);
                    self.unread.entry(place).or_default().in_flight += message.body.len();
                }
                self.in_flight.push_back((delivery, message));
            }
            Err((error, _)) => return Err(error.into()),
        }
        Ok(())
    }

    fn is_far_ahead(&mut self, message: &Message) -> bool {
        let Some(position) = &self.position else { return false };
        let place = (Arc::clone(&message.hub), message.partition);
        let Some(unread) = self.unread.get_mut(&place) else { return false };
        let read = position(&message.hub, message.partition);
        while let Some((_, bytes)) = unread.messages.front().filter(|(offset, _)| *offset < read) {
            unread.bytes -= bytes;
            unread.messages.pop_front();
        }
        unread.bytes + unread.in_flight > LEAD_BYTES || unread.messages.len() > LEAD_MESSAGES
    }

    /// Takes in what the broker has acknowledged, without waiting.
    fn collect(&mut self) -> Result<(), FeedError> {
        let mut without_waiting = Context::from_waker(Waker::noop());
        while let Some((delivery, _)) = self.in_flight.front_mut() {
            let Poll::Ready(outcome) = Pin::new(delivery).poll(&mut without_waiting) else { break };
            if let Some((_, message)) = self.in_flight.pop_front() {
                self.settle(outcome, &message)?;
            }
        }
        Ok(())
    }

    async fn settle_oldest(&mut self) -> Result<(), FeedError> {
        if let Some((delivery, message)) = self.in_flight.pop_front() {
            self.settle(delivery.await, &message)?;
        }
        Ok(())
    }

    fn settle(
        &mut self,
        outcome: <DeliveryFuture as Future>::Output,
        message: &Message,
    ) -> Result<(), FeedError> {
        // The outer error means that the producer went away with the message.
        let delivered = outcome.map_err(|_| KafkaError::Canceled)?.map_err(|(error, _)| error)?;
        let place = (Arc::clone(&message.hub), delivered.partition);
        self.ends.insert(place.clone(), delivered.offset + 1);
        if self.position.is_some() {
            let unread = self.unread.entry(place).or_default();
            unread.in_flight = unread.in_flight.saturating_sub(message.body.len());
            unread.bytes += message.body.len();
            unread.messages.push_back((delivered.offset, message.body.len()));
        }
        self.truth.lock().unwrap_or_else(PoisonError::into_inner).sent(message)?;
        Ok(())
    }

    async fn drain(mut self) -> Result<Ends, FeedError> {
        while !self.in_flight.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(self.ends)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::message::Message as _;
    use rdkafka::{Offset, TopicPartitionList};
    use serde_json::Value;

    use super::*;
    use crate::journal::clock::SystemClock;
    use crate::simulator::broker::Broker;

    const PARTITIONS: i32 = 2;

    /// Every body that the broker holds, read until as many as were acknowledged have come.
    fn read_all(bootstrap: &str, hubs: &Hubs, messages: u64) -> Vec<Vec<u8>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "check")
            .create()
            .unwrap();
        let mut places = TopicPartitionList::new();
        for hub in hubs.all() {
            for partition in 0..PARTITIONS {
                places.add_partition_offset(&hub, partition, Offset::Beginning).unwrap();
            }
        }
        consumer.assign(&places).unwrap();
        let mut bodies = Vec::new();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while (bodies.len() as u64) < messages && std::time::Instant::now() < deadline {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                bodies.push(message.payload().unwrap_or_default().to_vec());
            }
        }
        bodies
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_truth_says_was_sent_is_what_the_broker_holds() {
        let hubs = Hubs::PerTable { prefix: String::new() };
        let broker = Broker::start(&hubs.all(), PARTITIONS).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let truth = Truth::create(&directory.path().join("truth.ndjson")).unwrap();
        let truth = Arc::new(Mutex::new(truth));
        let config = FeedConfig {
            bootstrap: broker.bootstrap().into(),
            hubs: hubs.clone(),
            partitions: PARTITIONS,
            tenant: Settings { seed: 3, ..Settings::default() },
            poison_per_mille: 100,
            end: End::AfterMails(200),
        };
        let (_stop, stopped) = watch::channel(false);
        let clock = Arc::new(SystemClock::default());
        feed(&config, clock, None, stopped, Arc::clone(&truth)).await.unwrap();

        let truth = truth.lock().unwrap();
        let totals = truth.totals();
        assert!(totals.poison > 0 && totals.sent > totals.records, "{totals:?}");
        let mut seen = std::collections::HashSet::new();
        let mut comparison = truth.compare();
        let mut unreadable = 0;
        for body in read_all(&config.bootstrap, &hubs, totals.messages) {
            let Ok(body) = serde_json::from_slice::<Value>(&body) else {
                unreadable += 1;
                continue;
            };
            for record in body["records"].as_array().unwrap() {
                if !record.is_object() {
                    unreadable += 1;
                    continue;
                }
                let row = record["properties"].to_string();
                let table = record["category"].as_str().unwrap();
                let table = table.strip_prefix("AdvancedHunting-").unwrap();
                let identity = crate::simulator::record::identity(table, &row).unwrap();
                if seen.insert((table.to_owned(), identity)) {
                    comparison.arrived(table, &row, &[]);
                }
            }
        }
        let verdict = comparison.verdict();
        assert_eq!((verdict.lost, verdict.twice, verdict.strangers), (0, 0, 0), "{verdict:?}");
        assert_eq!(verdict.arrived, totals.records);
        assert_eq!(unreadable, totals.poison);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reader_that_stands_still_holds_the_feed_before_the_broker_forgets() {
        let hubs = Hubs::One("hub".into());
        let broker = Broker::start(&hubs.all(), 1).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let truth = Truth::create(&directory.path().join("truth.ndjson")).unwrap();
        let truth = Arc::new(Mutex::new(truth));
        let config = FeedConfig {
            bootstrap: broker.bootstrap().into(),
            hubs,
            partitions: 1,
            tenant: Settings { seed: 3, mails_per_second: 5000.0, ..Settings::default() },
            poison_per_mille: 0,
            end: End::AfterMails(1000),
        };
        let reader = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let place = Arc::clone(&reader);
        let (held, mut holding) = watch::channel(0);
        let position: Position = Arc::new(move |_, _| {
            held.send_modify(|asked| *asked += 1);
            place.load(std::sync::atomic::Ordering::Acquire)
        });
        let (_stop, stopped) = watch::channel(false);
        let clock = Arc::new(SystemClock::default());
        let feeding = tokio::spawn({
            let truth = Arc::clone(&truth);
            async move { feed(&config, clock, Some(position), stopped, truth).await }
        });
        // It asks again and again for a position that does not move, and has stopped sending.
        let (mut sent, mut asked_in_vain) = (0, 0);
        while asked_in_vain < 50 {
            holding.changed().await.unwrap();
            let now = truth.lock().unwrap().totals().messages;
            asked_in_vain = if now == sent { asked_in_vain + 1 } else { 0 };
            sent = now;
        }
        assert!(!feeding.is_finished());
        reader.store(i64::MAX, std::sync::atomic::Ordering::Release);
        feeding.await.unwrap().unwrap();
        assert!(truth.lock().unwrap().totals().messages > sent);
    }
}
