//! Questions to the target cluster: do the topics exist, how large may a record be, and what does the cursor
//! topic say. All blocking. It creates topics only when told to, and writes nothing else.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::KafkaConfig;
use super::callbacks::Callbacks;
use super::cursor::{FarCursor, VERSION};
use crate::cloud::kafka::{Auth, Link, Trouble, code_of};
use crate::domain::Failure;
use crate::pipeline::port::AdapterError;

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the end of the cursor partition may be held back by somebody else's open transaction.
const HELD_BACK: Duration = Duration::from_secs(20);
/// Partitions of a cursor topic that is created here. Sinks that share it should rarely share a partition, where
/// one's hanging transaction would delay the other's start.
const CURSOR_PARTITIONS: i32 = 8;
/// How far from its end a cursor partition is read at first; then from further back.
const TAILS: [i64; 3] = [200, 20_000, i64::MAX];

/// A client that asks.
pub(super) struct Topics<'a> {
    config: &'a KafkaConfig,
    reader: BaseConsumer<Callbacks>,
}

impl<'a> Topics<'a> {
    pub(super) fn connect(config: &'a KafkaConfig) -> Result<Self, AdapterError> {
        let access = config.access();
        let mut settings = access.client_config()?;
        settings
            .set("group.id", format!("{}-cursors", config.group))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed");
        let reader: BaseConsumer<Callbacks> =
            settings.create_with_context(Callbacks::new(Link::new(&access.auth))).map_err(
                |error| Trouble::Settings.error("making a client", &error.to_string(), false),
            )?;
        let deadline = Instant::now() + ANSWER;
        while reader.context().link.waits_for_token() && Instant::now() < deadline {
            reader.poll(Duration::from_millis(50));
        }
        Ok(Self { config, reader })
    }

    fn error(&self, error: &KafkaError, tried: &str) -> AdapterError {
        let tried = format!("{tried} at {}", self.config.access().place());
        self.reader.context().link.error(error, &tried, false)
    }

    /// Partitions of a topic; `None` if there is none.
    pub(super) fn partitions(&self, topic: &str) -> Result<Option<i32>, AdapterError> {
        let deadline = Instant::now() + ANSWER;
        loop {
            // In slices: a refused login is told by a callback, while the answer would only time out.
            let error = match self.reader.fetch_metadata(Some(topic), Duration::from_secs(1)) {
                Ok(metadata) => {
                    let Some(found) = metadata.topics().first() else { return Ok(None) };
                    match found.error().map(Code::from) {
                        None if found.partitions().is_empty() => return Ok(None),
                        None => return Ok(i32::try_from(found.partitions().len()).ok()),
                        Some(code) => match Trouble::of(code, "") {
                            Trouble::MissingTopic => return Ok(None),
                            _ => KafkaError::MetadataFetch(code),
                        },
                    }
                }
                Err(error) => error,
            };
            let serve = Instant::now() + Duration::from_millis(50);
            while Instant::now() < serve {
                self.reader.poll(Duration::from_millis(10));
            }
            let trouble = self.reader.context().link.trouble();
            let hopeless = trouble.unwrap_or_else(|| Trouble::of(code_of(&error), ""));
            if hopeless.failure() == Failure::Hold || Instant::now() >= deadline {
                return Err(self.error(&error, &format!("asking for topic {topic}")));
            }
        }
    }

    /// Makes sure that the topics are there; returns the number of partitions of both (the cursor topic's is 0
    /// where none is needed).
    pub(super) fn ensure(&self, create: bool) -> Result<(i32, i32), AdapterError> {
        let data = self.ensure_one(&self.config.topic, create, || {
            let replication = TopicReplication::Fixed(self.config.create_replication);
            NewTopic::new(&self.config.topic, self.config.create_partitions, replication)
        })?;
        if !self.config.is_transactional() {
            return Ok((data, 0));
        }
        let name = self.config.cursor_topic();
        let cursors = self.ensure_one(&name, create, || {
            let replication = TopicReplication::Fixed(self.config.create_replication);
            // Small segments: compaction never touches the active one, and all of it is read at start.
            NewTopic::new(&name, CURSOR_PARTITIONS, replication)
                .set("cleanup.policy", "compact")
                .set("segment.bytes", "16777216")
                .set("segment.ms", "3600000")
                .set("min.cleanable.dirty.ratio", "0.1")
        })?;
        Ok((data, cursors))
    }

    fn ensure_one<'t>(
        &self,
        topic: &str,
        create: bool,
        new: impl FnOnce() -> NewTopic<'t>,
    ) -> Result<i32, AdapterError> {
        if let Some(partitions) = self.partitions(topic)? {
            return Ok(partitions);
        }
        if !create {
            let detail = "it does not exist, and is not created from here";
            return Err(Trouble::MissingTopic.error(&format!("topic {topic}"), detail, false));
        }
        let new = new();
        let created = wait(self.admin()?.create_topics([&new], &options()))
            .map_err(|error| self.error(&error, &format!("creating topic {topic}")))?;
        match created.into_iter().next() {
            Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) => {
                tracing::info!(topic, "topic created");
            }
            Some(Err((_, code))) => {
                let trouble = Trouble::of(code, "");
                let tried = format!("creating topic {topic}");
                return Err(trouble.error(&tried, &code.to_string(), false));
            }
            None => {}
        }
        // The answer comes before every broker knows it.
        let deadline = Instant::now() + ANSWER;
        loop {
            match self.partitions(topic)? {
                Some(partitions) => return Ok(partitions),
                None if Instant::now() < deadline => {
                    self.reader.poll(Duration::from_millis(50));
                }
                None => {
                    let message = format!("topic {topic} was created but does not appear");
                    return Err(AdapterError::new(Failure::Retry(None), message));
                }
            }
        }
    }

    /// The most bytes that a record of the topic may have; the configured figure where the cluster does not say.
    pub(super) fn record_limit(&self) -> usize {
        let asked = self.admin().and_then(|admin| {
            let topic = ResourceSpecifier::Topic(&self.config.topic);
            wait(admin.describe_configs([&topic], &options()))
                .map_err(|error| self.error(&error, "asking for the topic's settings"))
        });
        let told = asked.ok().and_then(|answers| {
            let entry = answers.into_iter().next()?.ok()?;
            entry.get("max.message.bytes")?.value.as_ref()?.parse().ok()
        });
        told.unwrap_or(self.config.max_record_bytes).clamp(1024, MAX_RECORD)
    }

    fn admin(&self) -> Result<AdminClient<Callbacks>, AdapterError> {
        let access = self.config.access();
        if matches!(access.auth, Auth::Token(_)) {
            // rdkafka's admin client does not serve the token callback.
            return Err(AdapterError::new(
                Failure::Hold,
                format!(
                    "topics cannot be created with `auth = {{ token = … }}`: create {} and {} beforehand",
                    self.config.topic,
                    self.config.cursor_topic()
                ),
            ));
        }
        access
            .client_config()?
            .create_with_context(Callbacks::new(Link::new(&access.auth)))
            .map_err(|error| self.error(&error, "making an admin client"))
    }

    /// The last cursor under `key`. `partition` is the one that it is written to; the others are searched only if
    /// it is not there (somebody added partitions).
    pub(super) fn cursor(
        &self,
        key: &str,
        partition: i32,
        partitions: i32,
    ) -> Result<Option<FarCursor>, AdapterError> {
        if let Some(found) = self.cursor_in(key, partition)? {
            return Ok(Some(found));
        }
        let mut latest: Option<FarCursor> = None;
        for other in (0..partitions).filter(|other| *other != partition) {
            let found = self.cursor_in(key, other)?;
            if found.as_ref().map(|found| found.seq) > latest.as_ref().map(|latest| latest.seq) {
                latest = found;
            }
        }
        Ok(latest)
    }

    fn cursor_in(&self, key: &str, partition: i32) -> Result<Option<FarCursor>, AdapterError> {
        let topic = self.config.cursor_topic();
        let (low, end) = self.settled_end(&topic, partition)?;
        let mut tried = end;
        for tail in TAILS {
            let from = end.saturating_sub(tail).max(low);
            if from >= tried {
                break;
            }
            tried = from;
            if let Some(found) = self.read(&topic, partition, from, key)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The partition's ends, once everything before its true end is committed or aborted: a cursor of ours may
    /// stand behind somebody else's open transaction, and reading only up to that would miss it.
    fn settled_end(&self, topic: &str, partition: i32) -> Result<(i64, i64), AdapterError> {
        let tried = "asking for the end of the cursor topic";
        let asked = |error: &KafkaError| self.error(error, tried);
        let access = self.config.access();
        let mut settings = access.client_config()?;
        settings.set("group.id", format!("{}-cursors", self.config.group));
        settings.set("isolation.level", "read_uncommitted");
        let callbacks = Callbacks::new(Link::new(&access.auth));
        let asker: BaseConsumer<Callbacks> =
            settings.create_with_context(callbacks).map_err(|error| asked(&error))?;
        let deadline = Instant::now() + ANSWER;
        while asker.context().link.waits_for_token() && Instant::now() < deadline {
            asker.poll(Duration::from_millis(50));
        }
        let (_, end) =
            asker.fetch_watermarks(topic, partition, ANSWER).map_err(|error| asked(&error))?;
        let deadline = Instant::now() + HELD_BACK;
        loop {
            // This client reads committed records only, so its end is where the first open transaction begins.
            let (low, committed) = self
                .reader
                .fetch_watermarks(topic, partition, ANSWER)
                .map_err(|error| asked(&error))?;
            if committed >= end {
                return Ok((low, committed));
            }
            if Instant::now() >= deadline {
                return Err(AdapterError::new(
                    Failure::Retry(Some(Duration::from_secs(5))),
                    format!(
                        "{topic}[{partition}] can be read to {committed} only, not to its end {end}: another \
                         producer's transaction is open there; it ends by itself or by its timeout"
                    ),
                ));
            }
            self.reader.poll(Duration::from_millis(50));
        }
    }

    /// The last cursor under `key` from `from` to the end of what is committed.
    fn read(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        key: &str,
    ) -> Result<Option<FarCursor>, AdapterError> {
        let tried = "reading the cursor topic";
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(from))
            .and_then(|()| self.reader.assign(&list))
            .map_err(|error| self.error(&error, tried))?;
        let deadline = Instant::now() + HELD_BACK;
        let mut found = None;
        loop {
            match self.reader.poll(Duration::from_millis(100)) {
                Some(Ok(message)) if message.key() == Some(key.as_bytes()) => {
                    if let Some(payload) = message.payload() {
                        found = Some(parse(topic, payload)?);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => match Trouble::of(code_of(&error), "") {
                    Trouble::Unreachable | Trouble::Passing | Trouble::Throttled => {}
                    _ => return Err(self.error(&error, tried)),
                },
                Some(Ok(_)) | None => {}
            }
            if Instant::now() >= deadline {
                let error = KafkaError::MessageConsumption(Code::OperationTimedOut);
                return Err(self.error(&error, tried));
            }
        }
        let _ = self.reader.unassign();
        Ok(found)
    }
}

fn parse(topic: &str, payload: &[u8]) -> Result<FarCursor, AdapterError> {
    let cursor: FarCursor = serde_json::from_slice(payload).map_err(|cause| {
        AdapterError::because(Failure::Hold, format!("a cursor in {topic} cannot be read"), cause)
    })?;
    if cursor.v != VERSION {
        let message =
            format!("a cursor in {topic} has version {}, known here is {VERSION}", cursor.v);
        return Err(AdapterError::new(Failure::Hold, message));
    }
    Ok(cursor)
}

/// What librdkafka takes for a record at all.
const MAX_RECORD: usize = 900_000_000;

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER))
}

/// Waits for one of librdkafka's admin futures, which its own thread completes.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
