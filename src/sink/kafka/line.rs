//! One librdkafka producer and what may be asked of it. It lives until the first sign that its line to the brokers
//! was not smooth; then it is thrown away and a new one takes its place (see [`Line::is_worn`]).

use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::message::Timestamp;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::util::Timeout;

use super::KafkaConfig;
use super::callbacks::Callbacks;
use super::cursor::FarCursor;
use super::records::Records;
use crate::cloud::kafka::{Link, Trouble, code_of};
use crate::domain::Failure;
use crate::journal::Numbered;
use crate::pipeline::port::AdapterError;

/// A commit that takes longer may have been sent twice.
const SMOOTH_COMMIT: Duration = Duration::from_secs(2);
/// Attempts to begin the very first time may take this long.
const BEGIN: Duration = Duration::from_secs(30);

/// Why a delivery did not go through.
pub(super) enum Broken {
    /// Nobody knows how it ended, or it is known to have failed: look at the far end's cursor.
    Unknown(AdapterError),
    /// The far end takes only smaller records than it said.
    TooLarge(AdapterError),
}

pub(super) struct Line {
    producer: BaseProducer<Callbacks>,
    place: String,
    worn: bool,
}

impl Line {
    /// Makes a producer. With a transactional id it takes over from any predecessor, whose open transaction is
    /// ended by the coordinator before this returns.
    pub(super) fn begin(
        config: &KafkaConfig,
        transactional_id: Option<&str>,
        record_limit: usize,
    ) -> Result<Self, AdapterError> {
        let access = config.access();
        let mut settings = access.client_config()?;
        settings
            .set("partitioner", "murmur2_random")
            .set("compression.type", config.compression.as_str())
            .set("message.max.bytes", record_limit.max(1000).to_string())
            // A batch larger than the topic takes would be refused although each record is not.
            .set("batch.size", record_limit.clamp(1000, 1_000_000).to_string())
            .set("batch.num.messages", "10000")
            // About as long as it takes to queue a whole batch: fuller requests cost the least.
            .set("linger.ms", "20")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", config.queue_kilobytes().to_string())
            .set("acks", "all")
            .set("message.timeout.ms", config.message_timeout_ms().to_string())
            .set("delivery.report.only.error", "true")
            .set("statistics.interval.ms", "1000")
            .set("log.connection.close", "true")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Info);
        match transactional_id {
            Some(id) => {
                settings
                    .set("transactional.id", id)
                    .set("transaction.timeout.ms", config.transaction_timeout_ms.to_string());
            }
            None => {
                settings.set("enable.idempotence", config.idempotence.to_string());
            }
        }
        let producer: BaseProducer<Callbacks> =
            settings.create_with_context(Callbacks::new(Link::new(&access.auth))).map_err(
                |error| Trouble::Settings.error("making a producer", &error.to_string(), false),
            )?;
        let line = Self { producer, place: access.place().to_owned(), worn: false };
        let deadline = Instant::now() + Duration::from_secs(10);
        while line.callbacks().link.waits_for_token() && Instant::now() < deadline {
            line.producer.poll(Duration::from_millis(50));
        }
        if transactional_id.is_some() {
            line.take_over()?;
        }
        // Connecting is never smooth, and nothing was on the line before.
        line.serve();
        line.callbacks().take_rough();
        Ok(line)
    }

    fn take_over(&self) -> Result<(), AdapterError> {
        let deadline = Instant::now() + BEGIN;
        loop {
            // In slices, so that a refused login, which only a callback tells, is told soon.
            let error = match self.producer.init_transactions(Duration::from_secs(2)) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.serve();
            let again = match &error {
                KafkaError::Transaction(inner) => inner.is_retriable(),
                _ => false,
            };
            let hopeless = self
                .callbacks()
                .link
                .trouble()
                .is_some_and(|known| known.failure() == Failure::Hold);
            if !again || hopeless || Instant::now() >= deadline {
                return Err(self.error(&error, "beginning as a transactional producer"));
            }
        }
    }

    fn callbacks(&self) -> &Callbacks {
        self.producer.context()
    }

    fn error(&self, error: &KafkaError, tried: &str) -> AdapterError {
        self.callbacks().link.error(error, &format!("{tried} at {}", self.place), false)
    }

    /// Serves callbacks without waiting.
    pub(super) fn serve(&self) {
        for _ in 0..20 {
            self.producer.poll(Duration::ZERO);
        }
    }

    /// Whether a copy of a request may still be under way, which could end or abort a *later* transaction of this
    /// producer. librdkafka sends an EndTxn again, after a broken connection or a timeout, under the same epoch;
    /// only a new producer makes the broker refuse the straggler. So: any commit or abort that was slow, or any
    /// sign of a broken connection, a timeout or a retry, and the producer is not used again.
    pub(super) fn is_worn(&mut self) -> bool {
        self.serve();
        self.worn |= self.callbacks().take_rough();
        self.worn
    }

    /// Sends the records and the cursor in one transaction and commits it.
    pub(super) fn commit(
        &mut self,
        config: &KafkaConfig,
        events: &[Numbered],
        records: &mut Records,
        batch: &str,
        cursor: (&str, i32, &FarCursor),
    ) -> Result<(), Broken> {
        // Whatever happens below, only a smooth success leaves this producer fit for another transaction.
        self.worn = true;
        let began = Instant::now();
        self.callbacks().take_failed();
        let tried = "beginning a transaction";
        self.producer.begin_transaction().map_err(|error| self.broken(&error, tried))?;
        self.send_all(config, events, records, Some(batch))?;
        let (key, partition, value) = cursor;
        let text = serde_json::to_vec(value).map_err(|cause| {
            let message = "cannot write a cursor";
            Broken::Unknown(AdapterError::because(Failure::Retry(None), message, cause))
        })?;
        let topic = config.cursor_topic();
        let record = BaseRecord::with_opaque_to(&topic, CURSOR_INDEX)
            .key(key)
            .payload(&text)
            .partition(partition);
        self.send(record, began + config.message_timeout())?;
        self.drain(began + config.message_timeout());
        // The watchdog outside takes care of calls that never return.
        self.producer
            .commit_transaction(Timeout::Never)
            .map_err(|error| self.broken(&error, "committing a transaction"))?;
        self.serve();
        self.worn = self.callbacks().take_rough() || began.elapsed() > SMOOTH_COMMIT;
        Ok(())
    }

    /// Sends the records without a transaction; returns those that were not taken.
    pub(super) fn flush(
        &mut self,
        config: &KafkaConfig,
        events: &[Numbered],
        records: &mut Records,
    ) -> Result<Vec<(usize, Trouble, String)>, Broken> {
        self.callbacks().take_failed();
        self.send_all(config, events, records, None)?;
        self.drain(Instant::now() + config.message_timeout());
        self.producer
            .flush(config.message_timeout() + Duration::from_secs(5))
            .map_err(|error| self.broken(&error, "sending records"))?;
        let failed = self.callbacks().take_failed();
        Ok(failed
            .into_iter()
            .map(|(index, code)| (index, Trouble::of(code, ""), code.to_string()))
            .collect())
    }

    fn send_all(
        &self,
        config: &KafkaConfig,
        events: &[Numbered],
        records: &mut Records,
        batch: Option<&str>,
    ) -> Result<(), Broken> {
        let deadline = Instant::now() + config.message_timeout();
        let now = Timestamp::now().to_millis().unwrap_or(0);
        for nth in 0..records.count() {
            let Some((index, numbered)) =
                records.index(nth).and_then(|index| Some((index, events.get(index)?)))
            else {
                continue;
            };
            let event = &*numbered.event;
            let headers = records.headers(event, batch.map(|batch| (batch, nth)));
            let id = event.id.hex();
            let key = event.key.as_ref().map_or(&id[..], |key| key.as_bytes());
            let record = BaseRecord::with_opaque_to(&config.topic, index)
                .key(key)
                .payload(records.payload(nth))
                // Not the event's own time: a topic's retention would take a backfill away at once.
                .timestamp(now)
                .headers(headers);
            self.send(record, deadline)?;
        }
        Ok(())
    }

    /// Queues one record. A full queue is waited for: nothing is dropped.
    fn send<K: rdkafka::message::ToBytes + ?Sized, P: rdkafka::message::ToBytes + ?Sized>(
        &self,
        mut record: BaseRecord<'_, K, P, usize>,
        deadline: Instant,
    ) -> Result<(), Broken> {
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) => {
                    if code_of(&error) != Code::QueueFull || Instant::now() >= deadline {
                        return Err(self.broken(&error, "queueing a record"));
                    }
                    record = back;
                    self.producer.poll(Duration::from_millis(10));
                }
            }
        }
    }

    /// Waits until the queue is empty. rdkafka's own `flush` looks at it every 100 ms only, as nothing wakes it
    /// where only failures are reported, and its `poll` spins through the last millisecond of its wait.
    fn drain(&self, deadline: Instant) {
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
            self.serve();
        }
    }

    fn broken(&self, error: &KafkaError, tried: &str) -> Broken {
        self.serve();
        let failed = self.callbacks().take_failed();
        // A transaction that failed tells only that it did; the first record that was refused tells why.
        let told = failed.iter().find(|(_, code)| {
            !matches!(code, Code::PurgeQueue | Code::PurgeInflight | Code::Fatal | Code::NoError)
        });
        let error = match told {
            Some((_, code)) => KafkaError::MessageProduction(*code),
            None => error.clone(),
        };
        let sorted = Trouble::of(code_of(&error), "");
        let handed = self.error(&error, tried);
        match sorted {
            Trouble::TooLarge => Broken::TooLarge(handed),
            _ => Broken::Unknown(handed),
        }
    }
}

/// The index under which a refused cursor record is told: no event has it.
const CURSOR_INDEX: usize = usize::MAX;
