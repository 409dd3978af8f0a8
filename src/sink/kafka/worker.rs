//! The thread that owns a sink's producer: librdkafka's transactional calls block, some of them without end. It
//! takes one order at a time; whoever gives orders may stop waiting and leave the thread to itself, because its
//! successor's producer fences this one's.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::KafkaConfig;
use super::cursor::{FarCursor, Outcome, outcome};
use super::line::{Broken, Line};
use super::records::Records;
use super::topics::Topics;
use crate::domain::{DeadLetterReason, Failure};
use crate::pipeline::port::{AdapterError, Batch, Sent};
use crate::render::Format;

/// How often callbacks are served while there is nothing to do: token refreshes are among them.
const SERVE: Duration = Duration::from_millis(250);
/// How often a batch is tried with new producers before the pipeline is told.
const ATTEMPTS: usize = 3;

/// The answer to an order.
pub(super) type Reply<T> = oneshot::Sender<Result<T, AdapterError>>;

/// What the thread is asked to do.
pub(super) enum Order {
    /// Connect anew and say what the far end's cursor is.
    Open(Reply<Option<FarCursor>>),
    /// Deliver a batch.
    Deliver(Batch, Reply<Vec<Sent>>),
    /// Disconnect; the thread ends.
    Close(Reply<()>),
}

/// Under which names a sink is known at the far end.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// `<journal id>/<sink name>`: key of the cursor, beginning of the batch header.
    pub(super) key: String,
    /// `<group>/<sink name>/<journal id>`.
    pub(super) transactional_id: String,
}

struct Worker {
    config: Arc<KafkaConfig>,
    identity: Identity,
    format: Format,
    line: Option<Line>,
    record_limit: usize,
    /// Partitions of the cursor topic.
    partitions: i32,
    /// Whether `far` is what the far end said.
    known: bool,
    far: Option<FarCursor>,
    /// The cursor in a batch whose outcome is not known.
    tried: Option<FarCursor>,
    records: Records,
}

/// Starts the thread. It ends when the orders end.
pub(super) fn spawn(
    config: Arc<KafkaConfig>,
    identity: Identity,
    format: Format,
) -> std::io::Result<Sender<Order>> {
    let (orders, inbox) = channel();
    std::thread::Builder::new().name("kafka-sink".to_owned()).spawn(move || {
        let worker = Worker {
            record_limit: config.max_record_bytes,
            config,
            identity,
            format,
            line: None,
            partitions: 0,
            known: false,
            far: None,
            tried: None,
            records: Records::default(),
        };
        worker.run(&inbox);
    })?;
    Ok(orders)
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Order>) {
        loop {
            // A reply that nobody waits for any more is not worth a word.
            match inbox.recv_timeout(SERVE) {
                Ok(Order::Open(reply)) => drop(reply.send(self.open())),
                Ok(Order::Deliver(batch, reply)) => drop(reply.send(self.deliver(&batch))),
                Ok(Order::Close(reply)) => {
                    drop(self.line.take());
                    drop(reply.send(Ok(())));
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(line) = &self.line {
                        line.serve();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn open(&mut self) -> Result<Option<FarCursor>, AdapterError> {
        self.retire();
        let config = Arc::clone(&self.config);
        let topics = Topics::connect(&config)?;
        let (_, cursor_partitions) = topics.ensure(config.create_topics)?;
        self.partitions = cursor_partitions;
        self.record_limit = topics.record_limit();
        self.renew_with(&topics)?;
        Ok(self.far.clone())
    }

    /// Gives up the producer. Saying good-bye takes its time, and nobody needs to wait for it.
    fn retire(&mut self) {
        if let Some(line) = self.line.take() {
            let closing = std::thread::Builder::new().name("kafka-close".to_owned());
            if let Err(error) = closing.spawn(move || drop(line)) {
                tracing::debug!(%error, "no thread to close a Kafka client");
            }
        }
    }

    fn renew(&mut self) -> Result<(), AdapterError> {
        self.retire();
        let config = Arc::clone(&self.config);
        if !config.is_transactional() {
            self.line = Some(Line::begin(&config, None, self.record_limit)?);
            return Ok(());
        }
        self.renew_with(&Topics::connect(&config)?)
    }

    /// A new producer, and then the far end's cursor: in this order, since only the new producer makes sure that
    /// nothing of the old one is still to come.
    fn renew_with(&mut self, topics: &Topics<'_>) -> Result<(), AdapterError> {
        let config = Arc::clone(&self.config);
        if !config.is_transactional() {
            self.line = Some(Line::begin(&config, None, self.record_limit)?);
            return Ok(());
        }
        let id = &self.identity.transactional_id;
        let line = Line::begin(&config, Some(id), self.record_limit)?;
        let there = topics.cursor(&self.identity.key, self.cursor_partition(), self.partitions)?;
        if self.known {
            match outcome(there.as_ref(), self.far.as_ref(), self.tried.as_ref()) {
                Outcome::NotCommitted => {}
                Outcome::Committed => {
                    tracing::info!(
                        key = self.identity.key,
                        "a batch of unknown outcome had arrived"
                    );
                }
                Outcome::Foreign => {
                    // Looked at anew by the next `open`, against the journal.
                    self.known = false;
                    self.tried = None;
                    return Err(AdapterError::new(
                        Failure::Hold,
                        format!(
                            "somebody else has delivered as {}: is a copy of this data directory in use elsewhere?",
                            self.identity.key
                        ),
                    ));
                }
            }
        }
        (self.known, self.far, self.tried, self.line) = (true, there, None, Some(line));
        Ok(())
    }

    fn cursor_partition(&self) -> i32 {
        let partitions = u32::try_from(self.partitions.max(1)).unwrap_or(1);
        i32::try_from(crc32c::crc32c(self.identity.key.as_bytes()) % partitions).unwrap_or(0)
    }

    fn deliver(&mut self, batch: &Batch) -> Result<Vec<Sent>, AdapterError> {
        let Some(last) = batch.events.last() else { return Ok(Vec::new()) };
        let config = Arc::clone(&self.config);
        for attempt in 1.. {
            let fit = match &mut self.line {
                Some(line) => !config.is_transactional() || !line.is_worn(),
                None => false,
            };
            if !fit {
                self.renew()?;
            }
            let far = self.far.as_ref();
            self.records.fill(&batch.events, self.format, self.record_limit, |offset| {
                far.is_none_or(|far| !far.holds(offset))
            });
            // A batch without records would be a hole to whoever counts batches; the journal's own position is
            // enough here.
            if self.records.count() == 0 {
                return Ok(self.results(batch));
            }
            let sent = if config.is_transactional() {
                let seq = self.far.as_ref().map_or(0, |far| far.seq).saturating_add(1);
                let cursor = self.records.cursor(seq, batch.next, last);
                let header = format!("{}:{seq}", self.identity.key);
                let place = (self.identity.key.as_str(), self.cursor_partition(), &cursor);
                let Some(line) = &mut self.line else { continue };
                let sent = line.commit(&config, &batch.events, &mut self.records, &header, place);
                match &sent {
                    Ok(()) => self.far = Some(cursor),
                    Err(_) => self.tried = Some(cursor),
                }
                sent.map(|()| Vec::new())
            } else {
                let Some(line) = &mut self.line else { continue };
                line.flush(&config, &batch.events, &mut self.records)
            };
            match sent {
                Ok(failed) => return self.with_failed(batch, failed),
                Err(Broken::TooLarge(error)) => {
                    self.retire();
                    if attempt >= ATTEMPTS * 3 {
                        return Err(error);
                    }
                    self.lower_limit();
                }
                Err(Broken::Unknown(error)) => {
                    self.retire();
                    if attempt >= ATTEMPTS || error.failure == Failure::Hold {
                        return Err(error);
                    }
                    tracing::debug!(%error, attempt, "trying again with a new producer");
                }
            }
        }
        Ok(Vec::new())
    }

    /// The topic takes less than it said when we asked: ask again, and if it still says so, believe the refusal.
    fn lower_limit(&mut self) {
        let told = Topics::connect(&self.config).map(|topics| topics.record_limit());
        let believed = self.records.largest().saturating_sub(1).max(1024);
        self.record_limit = match told {
            Ok(told) if told < self.record_limit => told,
            _ => believed.min(self.record_limit),
        };
        tracing::warn!(
            bytes = self.record_limit,
            "the topic takes only smaller records than before"
        );
    }

    fn results(&self, batch: &Batch) -> Vec<Sent> {
        let mut results = vec![Sent::Delivered; batch.events.len()];
        for (index, size) in self.records.rejected() {
            if let Some(result) = results.get_mut(index) {
                *result = Sent::Reject {
                    reason: DeadLetterReason::SinkOversize,
                    detail: format!("{size} bytes, the topic takes {}", self.record_limit),
                };
            }
        }
        results
    }

    fn with_failed(
        &self,
        batch: &Batch,
        failed: Vec<(usize, crate::cloud::kafka::Trouble, String)>,
    ) -> Result<Vec<Sent>, AdapterError> {
        use crate::cloud::kafka::Trouble;
        let mut results = self.results(batch);
        for (index, trouble, detail) in failed {
            let result = match trouble {
                Trouble::TooLarge => {
                    Sent::Reject { reason: DeadLetterReason::SinkOversize, detail }
                }
                other if other.failure() == Failure::Hold => {
                    let tried = format!("writing to {}", self.config.topic);
                    return Err(other.error(&tried, &detail, false));
                }
                _ => Sent::Retry { after: None, detail },
            };
            if let Some(place) = results.get_mut(index) {
                *place = result;
            }
        }
        Ok(results)
    }
}
