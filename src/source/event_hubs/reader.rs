//! The blocking half of the source: one librdkafka consumer, its partitions, and pages made from them. It runs on
//! a blocking thread, knows no runtime, and decides nothing about retries.
//!
//! Everything odd has one answer: the assignment is given up, and the next page begins by comparing every cursor
//! with what the far end says now ([`super::lineage`]), telling gaps and assigning anew. That is rare, costs one
//! fetch, and leaves no second path to get wrong.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::EventHubsConfig;
use super::context::Callbacks;
use super::lineage::{Fingerprint, Place};
use crate::cloud::kafka::{Link, TokenProvider, Trouble, code_of};
use crate::domain::{Chunk, Cursor, CursorKey, Cursors, Failure, Gap, Position, Raw, Shape, Ticks};
use crate::journal::Clock;
use crate::pipeline::port::{AdapterError, Page};

/// How often the far end is asked how far its partitions go.
pub const WATERMARKS_EVERY: Duration = Duration::from_secs(10);
/// How often it is asked which partitions there are.
const PARTITIONS_EVERY: Duration = Duration::from_secs(60);
/// How long a page waits for its first message.
const FIRST_MESSAGE: Duration = Duration::from_secs(1);
/// How long it waits for one more.
const NEXT_MESSAGE: Duration = Duration::from_millis(5);
/// How long a poll waits for a first connection. The client goes on connecting between polls, and a poll that
/// waits longer would hold back a stop and the word that nobody answers.
const CONNECTING: Duration = Duration::from_secs(2);
/// Longer than this between two pages, and it is the pipeline that pauses.
const PAUSE: Duration = Duration::from_secs(10);
/// How long callbacks are served before partitions are assigned.
const DRAIN: Duration = Duration::from_millis(20);
/// Most messages in a page, whatever their size.
const PAGE_MESSAGES: usize = 5000;
/// One partition.
pub(super) struct Part {
    pub(super) topic: Arc<str>,
    pub(super) id: i32,
    pub(super) key: CursorKey,
    /// Where the next message is; `None` until it is settled.
    pub(super) place: Option<Place>,
    /// The cursor's text for this place, as last given to or by the pipeline.
    pub(super) cursor: Option<Cursor>,
    /// The first message must be this one.
    pub(super) prove: Option<Fingerprint>,
    /// It was not: the log is another one.
    pub(super) another_log: bool,
    /// Since when its end has been before our place.
    pub(super) suspected: Option<Duration>,
    /// Part of the assignment.
    pub(super) active: bool,
    pub(super) high: i64,
    /// The last message of this page.
    pub(super) last: Option<(i64, Option<i64>, Raw)>,
    /// Its place has changed since the last cursor.
    pub(super) moved: bool,
}

pub(super) struct Reader {
    pub(super) name: Arc<str>,
    pub(super) config: Arc<EventHubsConfig>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tokens: Option<Arc<dyn TokenProvider>>,
    pub(super) consumer: Option<BaseConsumer<Callbacks>>,
    pub(super) parts: Vec<Part>,
    /// Hubs that have been there in this life.
    pub(super) seen: BTreeSet<Arc<str>>,
    pub(super) missing: BTreeSet<Arc<str>>,
    pub(super) assigned: bool,
    pub(super) discovered: Option<Duration>,
    pub(super) looked: Option<Duration>,
    /// When a message came last, or all was read, or nobody had asked for a while.
    pub(super) heard: Duration,
    /// When the last page ended.
    pub(super) paged: Duration,
    /// To tell with the next page.
    pub(super) gaps: Vec<Gap>,
    /// How long to wait for a first connection.
    pub(super) patience: Duration,
    /// What went wrong behind the messages of the last page.
    pub(super) pending: Option<AdapterError>,
}

impl Reader {
    pub(super) fn new(
        name: Arc<str>,
        config: Arc<EventHubsConfig>,
        clock: Arc<dyn Clock>,
        tokens: Option<Arc<dyn TokenProvider>>,
    ) -> Self {
        Self {
            name,
            config,
            clock,
            tokens,
            consumer: None,
            parts: Vec::new(),
            seen: BTreeSet::new(),
            missing: BTreeSet::new(),
            assigned: false,
            discovered: None,
            looked: None,
            heard: Duration::ZERO,
            paged: Duration::ZERO,
            gaps: Vec::new(),
            patience: CONNECTING,
            pending: None,
        }
    }

    /// The next page after `cursors`.
    pub(super) fn page(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        let now = self.clock.monotonic();
        if now.saturating_sub(self.paged) > PAUSE {
            // The pipeline was busy elsewhere (a full journal, say): that was no standstill of the hub's.
            self.heard = now;
        }
        let page = self.next_page(cursors);
        self.paged = self.clock.monotonic();
        page
    }

    fn next_page(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        self.connect()?;
        if self.is_due(self.discovered, PARTITIONS_EVERY) {
            self.discover()?;
        }
        self.follow(cursors)?;
        if !self.assigned {
            self.assign(cursors)?;
        } else if self.is_due(self.looked, WATERMARKS_EVERY) {
            self.look()?;
        }
        let mut page = Page { gaps: std::mem::take(&mut self.gaps), ..Page::default() };
        let outcome = self.collect(&mut page);
        self.seal(&mut page)?;
        match outcome {
            Ok(()) => Ok(page),
            Err(error) if page.is_empty() => Err(error),
            Err(error) => {
                self.pending = Some(error);
                Ok(page)
            }
        }
    }

    /// Stores the group's offsets, best effort.
    pub(super) fn commit(&self, cursors: &Cursors) -> Result<(), AdapterError> {
        let Some(consumer) = &self.consumer else {
            return Ok(());
        };
        let mut list = TopicPartitionList::new();
        for part in self.parts.iter().filter(|part| part.active) {
            let Some(cursor) = cursors.get(&part.key) else { continue };
            let offset = Offset::Offset(parse(&part.key, cursor)?.offset);
            list.add_partition_offset(&part.topic, part.id, offset)
                .map_err(|error| self.error(&error, "storing the group's offsets"))?;
        }
        if list.count() == 0 {
            return Ok(());
        }
        consumer
            .commit(&list, CommitMode::Async)
            .map_err(|error| self.error(&error, "storing the group's offsets"))
    }

    pub(super) fn connect(&mut self) -> Result<(), AdapterError> {
        if self.consumer.is_some() {
            return Ok(());
        }
        let access = self.config.access();
        let kilobytes = (self.config.fetch_ahead_bytes >> 10).to_string();
        let group = self.config.group.clone().unwrap_or_else(|| format!("postern-{}", self.name));
        let mut config = access.client_config()?;
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Never a silent jump: what is out of range is settled by us, with a gap.
            .set("auto.offset.reset", "error")
            .set("session.timeout.ms", "30000")
            .set("fetch.message.max.bytes", "2097152")
            .set("fetch.max.bytes", self.config.fetch_ahead_bytes.to_string())
            .set("queued.max.messages.kbytes", kilobytes)
            // The default of a second makes a full queue stutter.
            .set("fetch.queue.backoff.ms", "10")
            .set("check.crcs", "true")
            // The only place where librdkafka tells topic ids: a few lines a minute.
            .set("debug", "metadata")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Debug);
        let callbacks = Callbacks::new(match &self.tokens {
            Some(tokens) => Link::with_tokens(Arc::clone(tokens)),
            None => Link::new(&access.auth),
        });
        let consumer: BaseConsumer<Callbacks> =
            config.create_with_context(callbacks).map_err(|error| {
                Trouble::Settings.error("making a client", &error.to_string(), true)
            })?;
        let deadline = Instant::now() + self.patience;
        while consumer.context().link.waits_for_token() && Instant::now() < deadline {
            consumer.poll(Duration::from_millis(50));
        }
        self.consumer = Some(consumer);
        self.assigned = false;
        self.discovered = None;
        self.heard = self.clock.monotonic();
        Ok(())
    }

    pub(super) fn disconnect(&mut self) {
        self.assigned = false;
        if let Some(consumer) = self.consumer.take() {
            // Saying good-bye to a broker that does not answer takes its time, and nobody needs to wait for it.
            let closing = std::thread::Builder::new().name("kafka-close".to_owned());
            if let Err(error) = closing.spawn(move || drop(consumer)) {
                tracing::debug!(%error, "no thread to close a Kafka client");
            }
        }
    }

    pub(super) fn consumer(&self) -> Result<&BaseConsumer<Callbacks>, AdapterError> {
        self.consumer
            .as_ref()
            .ok_or_else(|| AdapterError::new(Failure::Retry(None), "there is no connection"))
    }

    pub(super) fn error(&self, error: &KafkaError, tried: &str) -> AdapterError {
        let tried = format!("{tried} at {}", self.config.access().place());
        match &self.consumer {
            Some(consumer) => consumer.context().link.error(error, &tried, true),
            None => sorted(error).error(&tried, &error.to_string(), true),
        }
    }

    /// Serves what waits in the queue: log lines with topic ids, troubles. Messages among it are dropped, so it
    /// does nothing while partitions are assigned.
    pub(super) fn drain(&self) -> Result<(), AdapterError> {
        let deadline = Instant::now() + DRAIN;
        while !self.assigned && Instant::now() < deadline {
            self.consumer()?.poll(DRAIN / 4);
        }
        Ok(())
    }

    fn is_due(&self, last: Option<Duration>, every: Duration) -> bool {
        last.is_none_or(|last| self.clock.monotonic().saturating_sub(last) >= every)
    }

    /// Fills the page until it is full, nothing more is at hand, or something is odd.
    fn collect(&mut self, page: &mut Page) -> Result<(), AdapterError> {
        let Some(consumer) = self.consumer.take() else { return Ok(()) };
        let outcome = self.collect_from(&consumer, page);
        if page.chunks.is_empty() && outcome.is_ok() && consumer.context().link.trouble().is_some()
        {
            self.consumer = Some(consumer);
            // Silence, and a line that broke: is anybody there?
            return self.watermarks().map(drop);
        }
        self.consumer = Some(consumer);
        outcome
    }

    fn collect_from(
        &mut self,
        consumer: &BaseConsumer<Callbacks>,
        page: &mut Page,
    ) -> Result<(), AdapterError> {
        let deadline = Instant::now() + FIRST_MESSAGE;
        let (mut bytes, mut current) = (0, 0);
        while self.assigned && bytes < self.config.page_bytes && page.chunks.len() < PAGE_MESSAGES {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let wait = if page.chunks.is_empty() { left } else { NEXT_MESSAGE.min(left) };
            let Some(answer) = consumer.poll(wait) else { break };
            if consumer.context().take_recreated() {
                // Whatever came, it may already be the new topic's.
                self.assigned = false;
                break;
            }
            match answer {
                Ok(message) => {
                    if let Some(chunk) = self.accept(&message, &mut current) {
                        bytes += chunk.raw.len();
                        page.chunks.push(chunk);
                    }
                }
                Err(error) => self.consider(consumer, &error)?,
            }
        }
        if consumer.context().take_recreated() {
            self.assigned = false;
        }
        if !page.chunks.is_empty() {
            self.heard = self.clock.monotonic();
            consumer.context().link.works();
        }
        Ok(())
    }

    /// Sorts an error that came instead of a message: `Ok` where reading goes on (or begins anew) by itself.
    fn consider(
        &mut self,
        consumer: &BaseConsumer<Callbacks>,
        error: &KafkaError,
    ) -> Result<(), AdapterError> {
        match sorted(error) {
            Trouble::OffsetGone => {
                self.assigned = false;
                Ok(())
            }
            Trouble::MissingTopic => {
                self.assigned = false;
                self.discovered = None;
                Ok(())
            }
            // librdkafka connects again by itself; whether it does is looked at when the page stays empty.
            Trouble::Unreachable | Trouble::Passing | Trouble::Throttled => Ok(()),
            Trouble::Certificate
            | Trouble::Login
            | Trouble::Rights
            | Trouble::TooLarge
            | Trouble::Settings
            | Trouble::Fenced => {
                self.assigned = false;
                let tried = format!("reading at {}", self.config.access().place());
                Err(consumer.context().link.error(error, &tried, true))
            }
        }
    }

    fn accept(&mut self, message: &BorrowedMessage<'_>, current: &mut usize) -> Option<Chunk> {
        let is = |part: &Part| part.id == message.partition() && *part.topic == *message.topic();
        if !self.parts.get(*current).is_some_and(is) {
            *current = self.parts.iter().position(is)?;
        }
        let part = self.parts.get_mut(*current)?;
        let place = part.place.as_mut()?;
        let (offset, time) = (message.offset(), message.timestamp().to_millis());
        let payload = message.payload().unwrap_or_default();
        if let Some(proof) = part.prove {
            if offset <= proof.offset {
                if Fingerprint::of(offset, time, payload) == proof {
                    part.prove = None;
                } else {
                    part.another_log = true;
                    self.assigned = false;
                }
                return None;
            }
            // It is gone although it was there a moment ago: retention or compaction took it meanwhile.
            part.prove = None;
        }
        if offset < place.offset {
            part.another_log = true;
            self.assigned = false;
            return None;
        }
        place.offset = offset.saturating_add(1);
        part.high = part.high.max(place.offset);
        part.moved = true;
        let raw = Raw::new(payload);
        part.last = Some((offset, time, raw.clone()));
        Some(Chunk {
            raw,
            // A message without payload goes the same way, so that it is counted.
            shape: Shape::Streaming,
            position: Position::Kafka {
                topic: Arc::clone(&part.topic),
                partition: part.id,
                offset,
            },
            observed: time.map(Ticks::from_millis),
            backfill: false,
        })
    }

    /// Writes the cursors of the partitions that moved, and the backlog.
    fn seal(&mut self, page: &mut Page) -> Result<(), AdapterError> {
        let consumer = self.consumer.as_ref();
        let mut backlog = 0;
        for part in &mut self.parts {
            let Some(place) = &mut part.place else { continue };
            if part.active {
                backlog += u64::try_from(part.high.saturating_sub(place.offset)).unwrap_or(0);
            }
            if !std::mem::take(&mut part.moved) {
                continue;
            }
            if let Some((offset, time, raw)) = part.last.take() {
                place.last = Some(Fingerprint::of(offset, time, raw.as_bytes()));
            }
            if place.topic_id.is_none() {
                place.topic_id =
                    consumer.and_then(|consumer| consumer.context().topic_id(&part.topic));
            }
            let text = serde_json::to_string(place).map_err(|cause| {
                AdapterError::because(Failure::Retry(None), "cannot write a cursor", cause)
            })?;
            let cursor = Cursor::from(text);
            part.cursor = Some(Arc::clone(&cursor));
            page.cursors.push((Arc::clone(&part.key), cursor));
        }
        page.backlog = Some(backlog);
        Ok(())
    }
}

pub(super) fn sorted(error: &KafkaError) -> Trouble {
    Trouble::of(code_of(error), &error.to_string())
}

pub(super) fn parse(key: &str, cursor: &str) -> Result<Place, AdapterError> {
    serde_json::from_str(cursor).map_err(|cause| {
        AdapterError::because(
            Failure::Hold,
            format!("the cursor {key} is not one of this source: {cursor}"),
            cause,
        )
    })
}
