//! From the journal to a sink: read, filter, batch, deliver, settle, ack. One task per sink, each with its own
//! position; a sink that stands still delays nobody else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::backoff::Backoff;
use super::metrics::Metrics;
use super::port::{AdapterError, Batch, Filter, Limits, Sent, Sink};
use super::status::{State, StatusBoard};
use super::{PipelineError, chain, letter_of, stopped};
use crate::domain::{DeadLetter, Failure};
use crate::journal::{Clock, Journal, JournalError, Numbered, Offset, OnFull, ReaderStart, Unit};

/// Raw bytes that one read of the journal brings at most.
const READ_BYTES: usize = 1 << 20;

/// Events that are scanned for one batch at most, so that a strict filter acks its progress now and then.
const SCAN_EVENTS: u64 = 100_000;

/// What every delivery task shares.
#[derive(Clone)]
pub struct Delivery {
    /// Where the events are.
    pub journal: Arc<dyn Journal>,
    /// For lag and dead letters.
    pub clock: Arc<dyn Clock>,
    /// The register.
    pub metrics: Arc<Metrics>,
    /// The board for `/ready`.
    pub status: StatusBoard,
}

/// What the pipeline must know about one sink, beside the sink itself.
#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// The configured name: the reader's name in the journal.
    pub name: Arc<str>,
    /// Which events it wants.
    pub filter: Filter,
    /// Where it begins if the journal does not know it yet.
    pub start: ReaderStart,
    /// What happens when its backlog fills the journal.
    pub on_full: OnFull,
    /// How long to wait between probes while on hold.
    pub hold_probe: Duration,
}

/// How a step ended that can be interrupted by the stop signal.
enum Step<T> {
    Done(T),
    Stopped,
}

/// Runs one sink until `stop` turns true: then it finishes the batch in hand, closes the sink and returns.
///
/// # Errors
/// Only what must end the process: a journal that is poisoned, or a fatal sink.
pub async fn run_sink(
    sink: Box<dyn Sink>,
    settings: SinkSettings,
    delivery: Delivery,
    stop: watch::Receiver<bool>,
) -> Result<(), PipelineError> {
    let part = format!("sink {}", settings.name);
    delivery.status.set(&part, State::Starting);
    delivery.metrics.init_sink(&settings.name);
    let mut runner =
        Runner { sink, settings, delivery, stop, part, position: 0, backoff: Backoff::default() };
    let end = runner.run().await;
    if let Err(error) = runner.sink.close().await {
        tracing::warn!(sink = %runner.settings.name, error = chain(&error), "closing the sink failed");
    }
    match &end {
        Ok(()) => {}
        Err(error) => runner.delivery.status.set(&runner.part, State::Failed(error.to_string())),
    }
    end
}

struct Runner {
    sink: Box<dyn Sink>,
    settings: SinkSettings,
    delivery: Delivery,
    stop: watch::Receiver<bool>,
    part: String,
    position: Offset,
    backoff: Backoff,
}

impl Runner {
    async fn run(&mut self) -> Result<(), PipelineError> {
        let Runner { settings, delivery, .. } = self;
        self.position =
            delivery.journal.register_reader(&settings.name, settings.start, settings.on_full)?;
        let Step::Done(()) = self.open().await? else { return Ok(()) };
        let mut watermark = self.delivery.journal.watermark();
        loop {
            let durable = *watermark.borrow_and_update();
            self.show_lag(durable).await?;
            if *self.stop.borrow() {
                return Ok(());
            }
            let Some(batch) = self.next_batch(&mut watermark).await? else { continue };
            match self.deliver(batch).await? {
                Step::Done(()) => {}
                Step::Stopped => return Ok(()),
            }
        }
    }

    /// Opens the sink, however long it takes.
    async fn open(&mut self) -> Result<Step<()>, PipelineError> {
        loop {
            match self.sink.open(self.position).await {
                Ok(position) if position > *self.delivery.journal.watermark().borrow() => {
                    // Most often an old copy of the data directory was restored. Going on would skip events.
                    let error = AdapterError::new(
                        Failure::Hold,
                        format!(
                            "the far end has taken events up to {position}, which this journal does not have yet: \
                             an old copy of it? nothing is sent until they agree"
                        ),
                    );
                    if let Step::Stopped = self.suffer(&error).await? {
                        return Ok(Step::Stopped);
                    }
                }
                Ok(position) => {
                    if position != self.position {
                        tracing::info!(
                            sink = %self.settings.name,
                            journal = self.position,
                            far_end = position,
                            "the far end keeps its own position; going on from there"
                        );
                        self.position = position;
                        self.delivery.journal.ack(&self.settings.name, position);
                    }
                    self.backoff.reset();
                    self.hold(false);
                    self.delivery.status.set(&self.part, State::Ready);
                    return Ok(Step::Done(()));
                }
                Err(error) => {
                    if let Step::Stopped = self.suffer(&error).await? {
                        return Ok(Step::Stopped);
                    }
                }
            }
        }
    }

    /// Waits out a failure as its code says. On hold, that is until a probe passes.
    async fn suffer(&mut self, error: &AdapterError) -> Result<Step<()>, PipelineError> {
        let name = Arc::clone(&self.settings.name);
        let errors = &self.delivery.metrics.sink_errors;
        let (word, wait) = match error.failure {
            Failure::Retry(after) => ("retry", self.backoff.next(after)),
            Failure::Reject => ("reject", self.backoff.next(None)),
            Failure::Hold => ("hold", self.settings.hold_probe),
            Failure::Fatal => {
                errors.with_label_values(&[&*name, "fatal"]).inc();
                return Err(PipelineError::Sink { name: name.to_string(), message: chain(error) });
            }
        };
        errors.with_label_values(&[&*name, word]).inc();
        self.delivery.status.set(&self.part, State::Degraded(error.message.clone()));
        tracing::warn!(
            sink = &*name,
            failure = word,
            retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            error = chain(error),
            "delivery failed"
        );
        if error.failure != Failure::Hold {
            return Ok(self.wait(wait).await);
        }
        self.hold(true);
        loop {
            if let Step::Stopped = self.wait(wait).await {
                return Ok(Step::Stopped);
            }
            match self.sink.probe().await {
                Ok(proof) => {
                    tracing::info!(sink = &*name, proof, "the sink is no longer on hold");
                    self.hold(false);
                    return Ok(Step::Done(()));
                }
                Err(error) => {
                    tracing::warn!(sink = &*name, error = chain(&error), "still on hold");
                }
            }
        }
    }

    fn hold(&self, on: bool) {
        let gauge = &self.delivery.metrics.sink_on_hold;
        gauge.with_label_values(&[&*self.settings.name]).set(i64::from(on));
    }

    async fn wait(&mut self, time: Duration) -> Step<()> {
        match tokio::time::timeout(time, stopped(&mut self.stop)).await {
            Ok(()) => Step::Stopped,
            Err(_) => Step::Done(()),
        }
    }

    /// The next batch: waits for events, then for a fuller batch as long as the sink lingers. `None` when there
    /// is nothing to do but to look at the stop signal again.
    async fn next_batch(
        &mut self,
        watermark: &mut watch::Receiver<Offset>,
    ) -> Result<Option<Batch>, PipelineError> {
        let limits = self.sink.limits();
        let mut batch = Batch { from: self.position, next: self.position, events: Vec::new() };
        let mut bytes = 0;
        let mut deadline = None;
        loop {
            let events = match self.delivery.journal.read(batch.next, READ_BYTES).await {
                Ok(events) => events,
                Err(JournalError::Truncated { first, .. }) => {
                    // Only `drop_backlog` takes events from a reader; the journal has told the gap.
                    self.position = first;
                    return Ok(None);
                }
                Err(error @ (JournalError::Damaged { .. } | JournalError::Io { .. })) => {
                    return self.park(&error).await;
                }
                Err(error @ (JournalError::Poisoned(_) | JournalError::Closed)) => {
                    return Err(error.into());
                }
            };
            let caught_up = events.is_empty();
            let mut full = false;
            for numbered in events {
                if !self.settings.filter.passes(&numbered.event) {
                    let filtered = &self.delivery.metrics.sink_events_filtered;
                    filtered.with_label_values(&[&*self.settings.name]).inc();
                    batch.next = numbered.offset + 1;
                    continue;
                }
                let size = numbered.event.raw.len();
                if !batch.events.is_empty() && !fits(limits, batch.events.len(), bytes + size) {
                    full = true;
                    break;
                }
                bytes += size;
                batch.next = numbered.offset + 1;
                batch.events.push(numbered);
            }
            if full || batch.next - batch.from >= SCAN_EVENTS {
                return Ok(Some(batch));
            }
            if !caught_up {
                continue;
            }
            // At the watermark. Nothing that passed the filter: note the progress, wait for more.
            if batch.next > batch.from && batch.events.is_empty() {
                return Ok(Some(batch));
            }
            let wait = if batch.events.is_empty() {
                Duration::from_secs(1)
            } else {
                let now = tokio::time::Instant::now();
                deadline.get_or_insert(now + limits.linger).saturating_duration_since(now)
            };
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => {
                    return Ok((!batch.events.is_empty()).then_some(batch));
                }
                changed = watermark.changed() => {
                    if changed.is_err() {
                        return Err(JournalError::Closed.into());
                    }
                }
                () = tokio::time::sleep(wait) => {
                    return Ok((!batch.events.is_empty()).then_some(batch));
                }
            }
        }
    }

    /// A damaged segment stops the readers that need it until a person repairs it; nothing is skipped silently.
    async fn park(&mut self, error: &JournalError) -> Result<Option<Batch>, PipelineError> {
        tracing::error!(sink = %self.settings.name, error = %error, "the sink stands still");
        self.delivery.status.set(&self.part, State::Degraded(error.to_string()));
        let _ = self.wait(Duration::from_secs(60)).await;
        Ok(None)
    }

    /// Delivers one batch until every event of it is delivered or a dead letter, then acks it.
    async fn deliver(&mut self, mut batch: Batch) -> Result<Step<()>, PipelineError> {
        let name = Arc::clone(&self.settings.name);
        loop {
            let timer = self.delivery.metrics.sink_delivery_seconds.with_label_values(&[&*name]);
            let timer = timer.start_timer();
            let answer = self.sink.deliver(&batch).await;
            timer.observe_duration();
            let results = match answer {
                Ok(results) => results,
                Err(error) => {
                    if let Step::Stopped = self.suffer(&error).await? {
                        return Ok(Step::Stopped);
                    }
                    let Step::Done(()) = self.open().await? else { return Ok(Step::Stopped) };
                    if self.position != batch.from {
                        // The far end turned out to hold another position (it had taken the batch after all).
                        return Ok(Step::Done(()));
                    }
                    continue;
                }
            };
            let (again, wait) = self.settle(&batch, results).await?;
            if again.is_empty() {
                break;
            }
            batch.events = again;
            let wait = self.backoff.next(wait);
            if let Step::Stopped = self.wait(wait).await {
                return Ok(Step::Stopped);
            }
        }
        self.backoff.reset();
        self.delivery.status.set(&self.part, State::Ready);
        self.position = batch.next;
        self.delivery.journal.ack(&name, batch.next);
        Ok(Step::Done(()))
    }

    /// Sorts the results: counts, makes dead letters durable, and returns what must be sent again.
    async fn settle(
        &mut self,
        batch: &Batch,
        results: Vec<Sent>,
    ) -> Result<(Vec<Numbered>, Option<Duration>), PipelineError> {
        let metrics = Arc::clone(&self.delivery.metrics);
        let name = &*self.settings.name;
        let mut again = Vec::new();
        let mut wait: Option<Duration> = None;
        let mut letters = Vec::new();
        let mut delivered = 0;
        // A sink that answers for fewer events than it was given has not delivered the rest.
        let results = results.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        for (numbered, result) in batch.events.iter().zip(results) {
            match result {
                Some(Sent::Delivered) => delivered += 1,
                Some(Sent::Reject { reason, detail }) => {
                    metrics.sink_events_rejected.with_label_values(&[name, reason.as_str()]).inc();
                    tracing::warn!(
                        sink = name,
                        event = %numbered.event.id,
                        reason = reason.as_str(),
                        detail,
                        "an event became a dead letter"
                    );
                    letters.push(DeadLetter {
                        sink: name.into(),
                        position: numbered.offset.to_string().into(),
                        ..letter_of(&numbered.event, reason, &detail, self.delivery.clock.now())
                    });
                }
                Some(Sent::Retry { after, detail }) => {
                    tracing::debug!(sink = name, event = %numbered.event.id, detail, "to be sent again");
                    wait = wait.max(after);
                    again.push(numbered.clone());
                }
                None => again.push(numbered.clone()),
            }
        }
        metrics.sink_events_sent.with_label_values(&[name]).inc_by(delivered);
        metrics.sink_events_retried.with_label_values(&[name]).inc_by(again.len() as u64);
        if !letters.is_empty() {
            let unit = Unit { dead_letters: letters, ..Unit::default() };
            self.delivery.journal.append(unit).await?.await?;
        }
        Ok((again, wait))
    }

    /// How far behind the sink is, in events and in seconds.
    async fn show_lag(&mut self, watermark: Offset) -> Result<(), PipelineError> {
        let name = &*self.settings.name;
        let events = watermark.saturating_sub(self.position);
        let seconds = if events == 0 {
            0.0
        } else {
            match self.delivery.journal.read(self.position, 1).await {
                Ok(oldest) => oldest
                    .first()
                    .and_then(|numbered| numbered.event.ingested)
                    .map_or(0.0, |ingested| {
                        self.delivery.clock.now().seconds_since(ingested).max(0.0)
                    }),
                // The next batch meets the same error and decides.
                Err(_) => 0.0,
            }
        };
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        self.delivery.metrics.sink_lag_events.with_label_values(&[name]).set(events);
        self.delivery.metrics.sink_lag_seconds.with_label_values(&[name]).set(seconds);
        Ok(())
    }
}

fn fits(limits: Limits, events: usize, bytes: usize) -> bool {
    events < limits.events && bytes <= limits.bytes
}
