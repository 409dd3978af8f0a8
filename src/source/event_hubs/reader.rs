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
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::context::Callbacks;
use super::lineage::{self, Fingerprint, Place, Watermarks};
use super::{EventHubsConfig, Start};
use crate::cloud::kafka::{Link, Trouble, code_of};
use crate::domain::{
    Chunk, Cursor, CursorKey, Cursors, Failure, Gap, GapCause, Position, Raw, Shape, Ticks,
};
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
/// How long one question to the brokers may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a first connection may take.
const CONNECTION: Duration = Duration::from_secs(15);
/// How long callbacks are served before partitions are assigned.
const DRAIN: Duration = Duration::from_millis(20);
/// Most messages in a page, whatever their size.
const PAGE_MESSAGES: usize = 5000;
/// How long an end before our cursor must last before it is believed: a broker that has just started may not
/// know its log's end yet.
const SUSPICION: Duration = Duration::from_secs(5);

/// One partition.
struct Part {
    topic: Arc<str>,
    id: i32,
    key: CursorKey,
    /// Where the next message is; `None` until it is settled.
    place: Option<Place>,
    /// The cursor's text for this place, as last given to or by the pipeline.
    cursor: Option<Cursor>,
    /// The first message must be this one.
    prove: Option<Fingerprint>,
    /// It was not: the log is another one.
    another_log: bool,
    /// Since when its end has been before our place.
    suspected: Option<Duration>,
    /// Part of the assignment.
    active: bool,
    high: i64,
    /// The last message of this page.
    last: Option<(i64, Option<i64>, Raw)>,
    /// Its place has changed since the last cursor.
    moved: bool,
}

pub(super) struct Reader {
    name: Arc<str>,
    config: Arc<EventHubsConfig>,
    clock: Arc<dyn Clock>,
    consumer: Option<BaseConsumer<Callbacks>>,
    parts: Vec<Part>,
    /// Hubs that have been there in this life.
    seen: BTreeSet<Arc<str>>,
    missing: BTreeSet<Arc<str>>,
    assigned: bool,
    discovered: Option<Duration>,
    looked: Option<Duration>,
    /// When a message came last, or all was read.
    heard: Duration,
    /// To tell with the next page.
    gaps: Vec<Gap>,
    /// What went wrong behind the messages of the last page.
    pending: Option<AdapterError>,
}

impl Reader {
    pub(super) fn new(name: Arc<str>, config: Arc<EventHubsConfig>, clock: Arc<dyn Clock>) -> Self {
        Self {
            name,
            config,
            clock,
            consumer: None,
            parts: Vec::new(),
            seen: BTreeSet::new(),
            missing: BTreeSet::new(),
            assigned: false,
            discovered: None,
            looked: None,
            heard: Duration::ZERO,
            gaps: Vec::new(),
            pending: None,
        }
    }

    /// The next page after `cursors`.
    pub(super) fn page(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
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

    /// Connects with today's secrets, lists the partitions and reads one message, if there is any.
    pub(super) fn probe(&mut self) -> Result<String, AdapterError> {
        // What was wrong may be right now: the next page begins with a new connection, too.
        self.disconnect();
        let mut fresh =
            Self::new(Arc::clone(&self.name), Arc::clone(&self.config), Arc::clone(&self.clock));
        fresh.connect()?;
        fresh.discover()?;
        let marks = fresh.watermarks()?;
        let mut list = TopicPartitionList::new();
        let mut told = Vec::new();
        for hub in &fresh.config.hubs {
            let of_hub = || fresh.parts.iter().zip(&marks).filter(|(part, _)| *part.topic == **hub);
            if let Some((part, Some(marks))) =
                of_hub().find(|(_, marks)| marks.is_some_and(|marks| marks.high > marks.low))
            {
                list.add_partition_offset(&part.topic, part.id, Offset::Offset(marks.high - 1))
                    .map_err(|error| fresh.error(&error, "reading one message"))?;
            }
            told.push(match of_hub().count() {
                0 => format!("hub {hub} is not there yet"),
                partitions => format!("hub {hub} with {partitions} partitions"),
            });
        }
        let reached = format!("reached {}: {}", self.config.access().place(), told.join(", "));
        if list.count() == 0 {
            return Ok(format!("{reached}; no message is there to read"));
        }
        let consumer = fresh.consumer()?;
        consumer.assign(&list).map_err(|error| fresh.error(&error, "reading one message"))?;
        let deadline = Instant::now() + ANSWER;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match consumer.poll(left) {
                Some(Ok(_)) => return Ok(format!("{reached}; a message was read")),
                Some(Err(error)) if sorted(&error).failure() == Failure::Hold => {
                    return Err(fresh.error(&error, "reading one message"));
                }
                Some(Err(_)) | None => {}
            }
        }
        Ok(format!("{reached}; no message came within {} s", ANSWER.as_secs()))
    }

    // ---- connection

    fn connect(&mut self) -> Result<(), AdapterError> {
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
        let callbacks = Callbacks::new(Link::new(&access.auth));
        let consumer: BaseConsumer<Callbacks> =
            config.create_with_context(callbacks).map_err(|error| {
                Trouble::Settings.error("making a client", &error.to_string(), true)
            })?;
        let deadline = Instant::now() + CONNECTION;
        while consumer.context().link.waits_for_token() && Instant::now() < deadline {
            consumer.poll(Duration::from_millis(50));
        }
        self.consumer = Some(consumer);
        self.assigned = false;
        self.discovered = None;
        self.heard = self.clock.monotonic();
        Ok(())
    }

    fn disconnect(&mut self) {
        self.assigned = false;
        if let Some(consumer) = self.consumer.take() {
            // Saying good-bye to a broker that does not answer takes its time, and nobody needs to wait for it.
            let closing = std::thread::Builder::new().name("kafka-close".to_owned());
            if let Err(error) = closing.spawn(move || drop(consumer)) {
                tracing::debug!(%error, "no thread to close a Kafka client");
            }
        }
    }

    fn consumer(&self) -> Result<&BaseConsumer<Callbacks>, AdapterError> {
        self.consumer
            .as_ref()
            .ok_or_else(|| AdapterError::new(Failure::Retry(None), "there is no connection"))
    }

    fn error(&self, error: &KafkaError, tried: &str) -> AdapterError {
        let tried = format!("{tried} at {}", self.config.access().place());
        match &self.consumer {
            Some(consumer) => consumer.context().link.error(error, &tried, true),
            None => sorted(error).error(&tried, &error.to_string(), true),
        }
    }

    /// Serves what waits in the queue: log lines with topic ids, troubles. Messages among it are dropped, so it
    /// does nothing while partitions are assigned.
    fn drain(&self) -> Result<(), AdapterError> {
        let deadline = Instant::now() + DRAIN;
        while !self.assigned && Instant::now() < deadline {
            self.consumer()?.poll(DRAIN / 4);
        }
        Ok(())
    }

    fn is_due(&self, last: Option<Duration>, every: Duration) -> bool {
        last.is_none_or(|last| self.clock.monotonic().saturating_sub(last) >= every)
    }

    // ---- partitions

    /// Asks which partitions there are. New ones end the assignment.
    fn discover(&mut self) -> Result<(), AdapterError> {
        let (mut found, mut missing) = (Vec::new(), BTreeSet::new());
        for hub in &self.config.hubs {
            match self.partitions_of(hub)? {
                Some(partitions) => found.push((Arc::<str>::from(hub.as_str()), partitions)),
                None => {
                    missing.insert(Arc::<str>::from(hub.as_str()));
                }
            }
        }
        if found.is_empty() {
            let names: Vec<&str> = missing.iter().map(|name| &**name).collect();
            let detail = format!("there is no hub {}", names.join(", "));
            let mut error = Trouble::MissingTopic.error("listing partitions", &detail, true);
            if !self.seen.is_empty() {
                // It was there a moment ago: somebody may be creating it anew right now.
                error.failure = Failure::Retry(None);
            }
            self.assigned = false;
            return Err(error);
        }
        if missing != self.missing {
            for hub in missing.difference(&self.missing) {
                tracing::warn!(source = %self.name, %hub, "this hub does not exist (yet)");
            }
            self.missing = missing;
        }
        for (topic, partitions) in found {
            self.take_over(&topic, &partitions);
            self.seen.insert(topic);
        }
        self.discovered = Some(self.clock.monotonic());
        Ok(())
    }

    /// The partitions of a hub; `None` if there is no such hub.
    fn partitions_of(&self, hub: &str) -> Result<Option<Vec<i32>>, AdapterError> {
        let consumer = self.consumer()?;
        let deadline = Instant::now() + if self.seen.is_empty() { CONNECTION } else { ANSWER };
        loop {
            // In slices: a refused login is told by a callback, while the answer would only time out.
            let error = match consumer.fetch_metadata(Some(hub), Duration::from_secs(1)) {
                Ok(metadata) => {
                    consumer.context().link.works();
                    let Some(topic) = metadata.topics().first() else { return Ok(None) };
                    match topic.error().map(Code::from) {
                        None if topic.partitions().is_empty() => return Ok(None),
                        None => {
                            let ids = topic.partitions().iter().map(|partition| partition.id());
                            return Ok(Some(ids.collect()));
                        }
                        Some(code) => match Trouble::of(code, "") {
                            Trouble::MissingTopic => return Ok(None),
                            _ => KafkaError::MetadataFetch(code),
                        },
                    }
                }
                Err(error) => error,
            };
            self.drain()?;
            let hopeless = consumer.context().link.trouble().unwrap_or_else(|| sorted(&error));
            if hopeless.failure() == Failure::Hold || Instant::now() >= deadline {
                return Err(self.error(&error, &format!("listing the partitions of hub {hub}")));
            }
        }
    }

    fn take_over(&mut self, topic: &Arc<str>, partitions: &[i32]) {
        let gone = |part: &Part| part.topic == *topic && !partitions.contains(&part.id);
        for part in self.parts.iter().filter(|part| gone(part)) {
            let Some(place) = &part.place else { continue };
            self.gaps.push(Gap {
                source: (&*self.name).into(),
                what: format!("{topic}[{}]", part.id).into(),
                from: place.offset.to_string().into(),
                to: "-".into(),
                count: None,
                cause: GapCause::TopicRecreated,
                detail:
                    "the topic has fewer partitions than before; what this one still held is gone"
                        .into(),
            });
        }
        let before = self.parts.len();
        self.parts.retain(|part| !gone(part));
        for id in partitions {
            if self.parts.iter().any(|part| part.topic == *topic && part.id == *id) {
                continue;
            }
            self.parts.push(Part {
                topic: Arc::clone(topic),
                id: *id,
                key: format!("{}/{topic}/{id}", self.name).into(),
                place: None,
                cursor: None,
                prove: None,
                another_log: false,
                suspected: None,
                active: false,
                high: 0,
                last: None,
                moved: false,
            });
            self.assigned = false;
        }
        if self.parts.len() < before {
            self.assigned = false;
        }
    }

    /// Takes the pipeline's cursors as the truth: where they are not those of the last page, they win.
    fn follow(&mut self, cursors: &Cursors) -> Result<(), AdapterError> {
        for part in &mut self.parts {
            let given = cursors.get(&part.key);
            if given == part.cursor.as_ref() {
                continue;
            }
            part.place = match given {
                Some(cursor) => Some(parse(&part.key, cursor)?),
                None => None,
            };
            part.cursor = given.cloned();
            part.another_log = false;
            part.moved = false;
            self.assigned = false;
        }
        Ok(())
    }

    /// Asks for the ends of all partitions, in two requests per broker; `None` where one does not answer.
    fn watermarks(&self) -> Result<Vec<Option<Watermarks>>, AdapterError> {
        let consumer = self.consumer()?;
        let ask = |end: Offset| {
            let mut list = TopicPartitionList::with_capacity(self.parts.len());
            for part in &self.parts {
                list.add_partition_offset(&part.topic, part.id, end)?;
            }
            // A timestamp of -2 asks for the beginning, -1 for the end: in one request for all partitions.
            consumer.offsets_for_times(list, ANSWER)
        };
        let tried = "asking how far the partitions go";
        let low = ask(Offset::Beginning).map_err(|error| self.error(&error, tried))?;
        let high = ask(Offset::End).map_err(|error| self.error(&error, tried))?;
        let read = |list: &TopicPartitionList, part: &Part| {
            let found = list.find_partition(&part.topic, part.id)?;
            match (found.error(), found.offset()) {
                (Ok(()), Offset::Offset(offset)) => Some(offset),
                _ => None,
            }
        };
        let marks: Vec<Option<Watermarks>> = self
            .parts
            .iter()
            .map(|part| Some(Watermarks { low: read(&low, part)?, high: read(&high, part)? }))
            .collect();
        if !self.parts.is_empty() && marks.iter().all(Option::is_none) {
            let error = high
                .elements()
                .iter()
                .find_map(|element| element.error().err())
                .unwrap_or(KafkaError::OffsetFetch(Code::LeaderNotAvailable));
            return Err(self.error(&error, tried));
        }
        consumer.context().link.works();
        Ok(marks)
    }

    /// Settles every partition and assigns them. It changes nothing before the last thing that can fail.
    fn assign(&mut self, cursors: &Cursors) -> Result<(), AdapterError> {
        let marks = self.watermarks()?;
        self.drain()?;
        let now = self.clock.monotonic();
        let mut settled = Vec::with_capacity(self.parts.len());
        for (part, marks) in self.parts.iter_mut().zip(&marks) {
            let Some(marks) = *marks else {
                settled.push(None);
                continue;
            };
            let context = self.consumer.as_ref().map(BaseConsumer::context);
            let topic_id = context.and_then(|context| context.topic_id(&part.topic));
            let at = lineage::Partition { source: &self.name, topic: &part.topic, id: part.id };
            let Some(place) = &part.place else {
                let prefix = format!("{}/{}/", self.name, part.topic);
                let known = cursors.keys().any(|key| key.starts_with(&prefix));
                let offset = match self.config.start {
                    Start::Now if !known => marks.high,
                    Start::Now | Start::Beginning => marks.low,
                };
                let place = Place::new(offset, topic_id);
                settled.push(Some(lineage::Settled { place, prove: None, gap: None }));
                continue;
            };
            if marks.high < place.offset && !part.another_log {
                let since = *part.suspected.get_or_insert(now);
                if now.saturating_sub(since) < SUSPICION {
                    return Err(AdapterError::new(
                        Failure::Retry(Some(SUSPICION / 4)),
                        format!(
                            "{at} ends at {}, before our cursor {}; looking again",
                            marks.high, place.offset
                        ),
                    ));
                }
            }
            part.suspected = None;
            settled.push(Some(place.settle(&at, marks, topic_id.as_deref(), part.another_log)));
        }
        let mut list = TopicPartitionList::with_capacity(self.parts.len());
        for (part, settled) in self.parts.iter().zip(&settled) {
            let Some(settled) = settled else { continue };
            let start = settled.prove.map_or(settled.place.offset, |last| last.offset);
            list.add_partition_offset(&part.topic, part.id, Offset::Offset(start))
                .map_err(|error| self.error(&error, "assigning partitions"))?;
        }
        self.consumer()?
            .assign(&list)
            .map_err(|error| self.error(&error, "assigning partitions"))?;
        for ((part, settled), marks) in self.parts.iter_mut().zip(settled).zip(&marks) {
            part.active = settled.is_some();
            part.another_log = false;
            part.last = None;
            let Some(settled) = settled else { continue };
            part.moved |= part.place.as_ref() != Some(&settled.place);
            part.place = Some(settled.place);
            part.prove = settled.prove;
            part.high = marks.map_or(0, |marks| marks.high);
            if let Some(gap) = settled.gap {
                tracing::warn!(source = %self.name, what = %gap.what, from = %gap.from, to = %gap.to,
                    cause = gap.cause.as_str(), "{}", gap.detail);
                self.gaps.push(gap);
            }
        }
        self.assigned = true;
        self.looked = Some(now);
        tracing::info!(source = %self.name, partitions = list.count(), "reading");
        Ok(())
    }

    /// Looks how far the partitions go: for the backlog, for a log that shrank, and for a standstill.
    fn look(&mut self) -> Result<(), AdapterError> {
        let marks = self.watermarks()?;
        let now = self.clock.monotonic();
        self.looked = Some(now);
        let mut waiting = false;
        for (part, marks) in self.parts.iter_mut().zip(marks) {
            let Some(marks) = marks else { continue };
            part.high = marks.high;
            let offset = part.place.as_ref().map_or(0, |place| place.offset);
            waiting |= part.active && marks.high > offset;
            // Settled (or still suspected) by the next assignment.
            if !part.active || marks.high < offset {
                self.assigned = false;
            }
        }
        if !waiting {
            self.heard = now;
        } else if now.saturating_sub(self.heard) >= Duration::from_secs(self.config.stall_seconds) {
            tracing::warn!(source = %self.name, seconds = self.config.stall_seconds,
                "messages are waiting but none comes: connecting anew");
            self.disconnect();
            return Err(AdapterError::new(
                Failure::Retry(None),
                format!(
                    "no message came for {} s though some are waiting",
                    self.config.stall_seconds
                ),
            ));
        }
        Ok(())
    }

    // ---- messages

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

fn sorted(error: &KafkaError) -> Trouble {
    Trouble::of(code_of(error), &error.to_string())
}

fn parse(key: &str, cursor: &str) -> Result<Place, AdapterError> {
    serde_json::from_str(cursor).map_err(|cause| {
        AdapterError::because(
            Failure::Hold,
            format!("the cursor {key} is not one of this source: {cursor}"),
            cause,
        )
    })
}
