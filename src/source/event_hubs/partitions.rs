//! Which partitions there are, how far they go, and where reading them begins: the part of the reader that asks
//! the brokers questions. Messages are not its business.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::Start;
use super::lineage::{self, Place, Watermarks};
use super::reader::{Part, Reader, parse, sorted};
use crate::cloud::kafka::Trouble;
use crate::domain::{Cursors, Failure, Gap, GapCause};
use crate::pipeline::port::AdapterError;

/// How long a probe waits for a first connection: across the world, with a slow resolver.
const CONNECTION: Duration = Duration::from_secs(15);
/// How long one question to the brokers may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long an end before our cursor must last before it is believed: a broker that has just started may not
/// know its log's end yet.
const SUSPICION: Duration = Duration::from_secs(5);

impl Reader {
    /// Connects with today's secrets, lists the partitions and reads one message, if there is any.
    pub(super) fn probe(&mut self) -> Result<String, AdapterError> {
        // What was wrong may be right now: the next page begins with a new connection, too.
        self.disconnect();
        let mut fresh = Self::new(
            Arc::clone(&self.name),
            Arc::clone(&self.config),
            Arc::clone(&self.clock),
            self.tokens.clone(),
        );
        fresh.patience = CONNECTION;
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

    /// Asks which partitions there are. New ones end the assignment.
    pub(super) fn discover(&mut self) -> Result<(), AdapterError> {
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
        let deadline = Instant::now() + if self.seen.is_empty() { self.patience } else { ANSWER };
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
    pub(super) fn follow(&mut self, cursors: &Cursors) -> Result<(), AdapterError> {
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
    pub(super) fn watermarks(&self) -> Result<Vec<Option<Watermarks>>, AdapterError> {
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
    pub(super) fn assign(&mut self, cursors: &Cursors) -> Result<(), AdapterError> {
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
    pub(super) fn look(&mut self) -> Result<(), AdapterError> {
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
}
