//! Sink `kafka`: each event as one record of a topic. It renders with `render` and knows nothing of tables.
//!
//! # What it guarantees
//!
//! *Exactly once* (the default): the records of a batch and the cursor behind them are one Kafka transaction, the
//! cursor in a compacted topic beside. At start the cursor is read back, and delivery goes on behind it, so a
//! reader with `isolation.level=read_committed` sees each event in exactly one committed transaction, through
//! kills of this process and of brokers. The outcome of a commit is never guessed: after any error, timeout, slow
//! commit or broken connection the producer is replaced (which makes the brokers refuse whatever the old one still
//! has under way) and the cursor says what happened.
//!
//! librdkafka can send the end of a transaction twice under one epoch; the rule above keeps a late copy from ending
//! the next transaction. Beyond that, each record carries its batch's number, its index and the batch's size in a
//! header ([`records::HEADER_BATCH`]), so that a reader can prove for itself that no batch is torn or repeated.
//!
//! *At least once*, for clusters without transactions: after a crash or an error, records may come twice; each
//! carries its event's id.

mod callbacks;
pub mod cursor;
mod line;
pub mod records;
mod topics;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::oneshot;

use self::cursor::{FarCursor, History, history};
use self::topics::Topics;
use self::worker::{Identity, Order, Reply};
use crate::cloud::kafka::{Access, Auth};
use crate::domain::Failure;
use crate::journal::{Journal, JournalError, Offset};
use crate::pipeline::port::{AdapterError, Batch, Limits, Sent, Sink};
use crate::render::Format;

/// What a reader of the topic may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Each event in exactly one committed transaction.
    #[default]
    ExactlyOnce,
    /// No transactions: repeats after errors.
    AtLeastOnce,
}

/// How records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// The only one that Event Hubs take.
    Gzip,
    /// Little work for half the size.
    #[default]
    Lz4,
    /// Smallest.
    Zstd,
}

impl Compression {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// `[sink.<name>] type = "kafka"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers: `host:port`, several with commas. Default: the namespace in the connection string.
    #[serde(default)]
    pub bootstrap: Option<String>,
    /// The topic that events go to.
    pub topic: String,
    /// How to log in, as for the source `event_hubs`. Default: not at all.
    #[serde(default)]
    pub auth: Auth,
    /// Whether to encrypt. Default: yes, unless `auth = "none"`.
    #[serde(default)]
    pub tls: Option<bool>,
    /// The authority that signed the brokers' certificates (PEM file). Default: the system's list.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Our certificate, where brokers ask for one (PEM file).
    #[serde(default)]
    pub client_certificate_file: Option<PathBuf>,
    /// Its key (PEM file).
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// `exactly_once` (default) or `at_least_once`, which clusters without transactions need.
    #[serde(default)]
    pub delivery: Delivery,
    /// Beginning of the transactional id, `<group>/<sink name>/<journal id>`, for prefixed rights. Default:
    /// `postern`.
    #[serde(default = "default_group")]
    pub group: String,
    /// The compacted topic with the cursors. Default: `<topic>.postern-cursors`. Several sinks may share one.
    #[serde(default)]
    pub cursor_topic: Option<String>,
    /// Whether topics that are missing are created (never by the broker's own accord). Default: true.
    #[serde(default = "yes")]
    pub create_topics: bool,
    /// Partitions of the topic, if it is created here. Default: 6.
    #[serde(default = "default_partitions")]
    pub create_partitions: i32,
    /// Replicas of topics that are created here; -1 takes the cluster's default. Default: -1.
    #[serde(default = "default_replication")]
    pub create_replication: i32,
    /// `none`, `gzip`, `lz4` (default), `zstd`. Event Hubs take only `none` and `gzip`.
    #[serde(default)]
    pub compression: Compression,
    /// Whether the producer numbers its records where there are no transactions, so that its own retries do not
    /// repeat them. Default: true; some Event Hubs tiers refuse it.
    #[serde(default = "yes")]
    pub idempotence: bool,
    /// Largest record in bytes where the cluster does not tell the topic's `max.message.bytes`. Larger events
    /// become dead letters. Default: 1000000.
    #[serde(default = "default_record_bytes")]
    pub max_record_bytes: usize,
    /// Most events in a batch, which is one transaction. Default: 5000.
    #[serde(default = "default_batch_events")]
    pub batch_events: usize,
    /// Most bytes of raw records in a batch. Default: 4 MiB.
    #[serde(default = "default_batch_bytes")]
    pub batch_bytes: usize,
    /// How long a batch may wait to become fuller, in milliseconds. Default: 100.
    #[serde(default = "default_linger_ms")]
    pub linger_ms: u64,
    /// After how many milliseconds the cluster gives up a transaction of ours, which is also how long a crash can
    /// hold back `read_committed` readers. Default: 60000.
    #[serde(default = "default_transaction_timeout_ms")]
    pub transaction_timeout_ms: u32,
}

fn default_group() -> String {
    "postern".to_owned()
}

const fn yes() -> bool {
    true
}

const fn default_partitions() -> i32 {
    6
}

const fn default_replication() -> i32 {
    -1
}

const fn default_record_bytes() -> usize {
    1_000_000
}

const fn default_batch_events() -> usize {
    5000
}

const fn default_batch_bytes() -> usize {
    4 << 20
}

const fn default_linger_ms() -> u64 {
    100
}

const fn default_transaction_timeout_ms() -> u32 {
    60_000
}

impl KafkaConfig {
    /// For brokers that need no login, with the defaults.
    #[must_use]
    pub fn plain(bootstrap: &str, topic: &str) -> Self {
        Self {
            bootstrap: Some(bootstrap.to_owned()),
            topic: topic.to_owned(),
            auth: Auth::None,
            tls: None,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            delivery: Delivery::default(),
            group: default_group(),
            cursor_topic: None,
            create_topics: true,
            create_partitions: default_partitions(),
            create_replication: default_replication(),
            compression: Compression::default(),
            idempotence: true,
            max_record_bytes: default_record_bytes(),
            batch_events: default_batch_events(),
            batch_bytes: default_batch_bytes(),
            linger_ms: default_linger_ms(),
            transaction_timeout_ms: default_transaction_timeout_ms(),
        }
    }

    /// Address and login.
    #[must_use]
    pub fn access(&self) -> Access {
        Access {
            bootstrap: self.bootstrap.clone(),
            auth: self.auth.clone(),
            tls: self.tls,
            ca_file: self.ca_file.clone(),
            client_certificate_file: self.client_certificate_file.clone(),
            client_key_file: self.client_key_file.clone(),
        }
    }

    const fn is_transactional(&self) -> bool {
        matches!(self.delivery, Delivery::ExactlyOnce)
    }

    /// Name of the cursor topic.
    #[must_use]
    pub fn cursor_topic(&self) -> String {
        self.cursor_topic.clone().unwrap_or_else(|| format!("{}.postern-cursors", self.topic))
    }

    /// A record must be given up well before its transaction is.
    fn message_timeout_ms(&self) -> u32 {
        (self.transaction_timeout_ms / 2).min(30_000)
    }

    fn message_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.message_timeout_ms()))
    }

    /// Room in librdkafka's queue: two batches, rendered.
    fn queue_kilobytes(&self) -> usize {
        (self.batch_bytes >> 10).saturating_mul(4).clamp(1024, 1 << 20)
    }

    /// After how long a call to librdkafka counts as stuck.
    fn watchdog(&self) -> Duration {
        Duration::from_millis(u64::from(self.transaction_timeout_ms)) + Duration::from_secs(60)
    }

    fn check(&self) -> Result<(), AdapterError> {
        let wrong = |message: &str| Err(AdapterError::new(Failure::Hold, message));
        self.access().check()?;
        if self.auth == Auth::Tenant {
            let why = "`auth = \"tenant\"` is for sources, since a sink belongs to no tenant: use a connection string or a token";
            return wrong(why);
        }
        if self.topic.is_empty() {
            return wrong("`topic` is empty");
        }
        if self.batch_events == 0 || self.batch_bytes == 0 || self.max_record_bytes < 1024 {
            return wrong(
                "`batch_events` and `batch_bytes` must be over 0, `max_record_bytes` at least 1024",
            );
        }
        if self.transaction_timeout_ms < 5000 {
            return wrong("`transaction_timeout_ms` must be at least 5000");
        }
        if self.cursor_topic.as_deref() == Some(self.topic.as_str()) {
            return wrong("`cursor_topic` must be another topic than `topic`");
        }
        Ok(())
    }
}

/// See the module.
pub struct KafkaSink {
    name: Arc<str>,
    config: Arc<KafkaConfig>,
    format: Format,
    journal: Arc<dyn Journal>,
    worker: Option<Sender<Order>>,
}

impl KafkaSink {
    /// Checks the settings; connects to nothing. The journal is asked for its id, and at every `open` whether it
    /// is the one that was delivered from.
    ///
    /// # Errors
    /// [`Failure::Hold`] with the setting that is wrong.
    pub fn new(
        name: &str,
        config: KafkaConfig,
        format: Format,
        journal: Arc<dyn Journal>,
    ) -> Result<Self, AdapterError> {
        config.check()?;
        Ok(Self { name: name.into(), config: Arc::new(config), format, journal, worker: None })
    }

    /// Gives an order and waits for the answer, but not for ever: then the thread is left to itself.
    async fn order<T>(&mut self, order: impl FnOnce(Reply<T>) -> Order) -> Result<T, AdapterError> {
        let again = |message: String| AdapterError::new(Failure::Retry(None), message);
        let worker = match &self.worker {
            Some(worker) => worker,
            None => {
                let journal = self.journal.stat().journal_id;
                let identity = Identity {
                    key: format!("{journal}/{}", self.name),
                    transactional_id: format!("{}/{}/{journal}", self.config.group, self.name),
                };
                let spawned = worker::spawn(Arc::clone(&self.config), identity, self.format);
                self.worker.insert(spawned.map_err(|cause| {
                    AdapterError::because(Failure::Retry(None), "cannot start a thread", cause)
                })?)
            }
        };
        let (reply, answer) = oneshot::channel();
        let gone = || again(format!("the producer of {} stopped", self.name));
        if worker.send(order(reply)).is_err() {
            let error = gone();
            self.worker = None;
            return Err(error);
        }
        match tokio::time::timeout(self.config.watchdog(), answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let error = gone();
                self.worker = None;
                Err(error)
            }
            Err(_) => {
                self.worker = None;
                let seconds = self.config.watchdog().as_secs();
                Err(again(format!("no answer from the Kafka client for {seconds} s; replacing it")))
            }
        }
    }

    /// Whether our journal is the one that the far end's cursor was written from.
    async fn compare(&self, far: &FarCursor) -> Result<(), AdapterError> {
        let end = self.journal.stat().next;
        let found = match self.journal.read(far.last.offset, 1).await {
            Ok(events) => events,
            Err(JournalError::Truncated { .. } | JournalError::Damaged { .. }) => Vec::new(),
            Err(
                cause
                @ (JournalError::Poisoned(_) | JournalError::Io { .. } | JournalError::Closed),
            ) => {
                return Err(AdapterError::because(
                    Failure::Retry(None),
                    "cannot compare the journal with the far end's cursor",
                    cause,
                ));
            }
        };
        let told = match history(far.last, end, found.first()) {
            History::Same | History::Unknown => return Ok(()),
            History::Shorter => format!("but the journal ends at {end}"),
            History::Different => "but the journal holds another event there".to_owned(),
        };
        Err(AdapterError::new(
            Failure::Hold,
            format!(
                "topic {} was given events up to journal offset {} (event {}), {told}: the data directory is an \
                 older copy. Put the newer one back, or give the sink another name to begin anew (then readers \
                 may see events twice)",
                self.config.topic, far.last.offset, far.last.id
            ),
        ))
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        Limits {
            events: self.config.batch_events,
            bytes: self.config.batch_bytes,
            linger: Duration::from_millis(self.config.linger_ms),
        }
    }

    async fn open(&mut self, position: Offset) -> Result<Offset, AdapterError> {
        let far = self.order(Order::Open).await?;
        if !self.config.is_transactional() {
            tracing::info!(sink = %self.name, "delivers at least once: readers may see events twice");
            return Ok(position);
        }
        let Some(far) = far else { return Ok(position) };
        self.compare(&far).await?;
        Ok(far.begin(position))
    }

    async fn deliver(&mut self, batch: &Batch) -> Result<Vec<Sent>, AdapterError> {
        if batch.events.is_empty() {
            return Ok(Vec::new());
        }
        let batch = batch.clone();
        self.order(|reply| Order::Deliver(batch, reply)).await
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        let config = Arc::clone(&self.config);
        let asked = tokio::task::spawn_blocking(move || {
            let topics = Topics::connect(&config)?;
            let describe = |topic: &str| {
                let create = config.create_topics;
                topics.partitions(topic).and_then(|found| match found {
                    Some(partitions) => Ok(format!("topic {topic} with {partitions} partitions")),
                    None if create => Ok(format!("topic {topic} will be created")),
                    None => topics.ensure(false).map(|_| String::new()),
                })
            };
            let mut told = describe(&config.topic)?;
            if config.is_transactional() {
                told = format!("{told}, cursors in {}", describe(&config.cursor_topic())?);
            }
            Ok(format!(
                "reached {}: {told}; records up to {} bytes; writing was not tried",
                config.access().place(),
                topics.record_limit()
            ))
        });
        asked.await.map_err(|cause| {
            AdapterError::because(Failure::Retry(None), "the question was not finished", cause)
        })?
    }

    async fn close(&mut self) -> Result<(), AdapterError> {
        if self.worker.is_none() {
            return Ok(());
        }
        let closed = tokio::time::timeout(Duration::from_secs(5), self.order(Order::Close)).await;
        self.worker = None;
        closed.unwrap_or(Ok(()))
    }
}
