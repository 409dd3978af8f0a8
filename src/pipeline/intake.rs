//! From a source into the journal: poll, normalize, tag, dedupe, append, commit. One task per source; all of
//! them share one gate, because deciding that a record is new and queueing it must be one step.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::backoff::Backoff;
use super::metrics::{Metrics, NO_LEVEL};
use super::port::{AdapterError, Page, Source};
use super::status::{State, StatusBoard};
use super::{PipelineError, chain, letter_of, stopped};
use crate::domain::{Cursors, DeadLetter, DeadLetterReason, Event, EventId, Failure, Kind, Level};
use crate::journal::{Clock, Journal, Receipt, Unit};
use crate::normalize::{self, Context, Normalized};
use crate::tagging;

/// Pages that may be on their way to the disk while the next one is fetched. More only helps where a sync is
/// slower than a poll, and costs memory: a page holds some megabytes.
const PAGES_IN_FLIGHT: usize = 3;

/// How long a source on hold waits before it is asked again.
const HOLD_PROBE: Duration = Duration::from_secs(60);

/// Records by which it is judged whether a source gives anything but poison.
const POISON_SAMPLE: u64 = 200;

/// While most of what a source gives is poison, this long from page to page: dead letters have a budget, and somebody
/// should look before it is used up.
const POISON_PAUSE: Duration = Duration::from_secs(60);

/// What every intake task shares.
#[derive(Clone)]
pub struct Intake {
    /// Where events become safe.
    pub journal: Arc<dyn Journal>,
    /// The clock that stamps `ingested`.
    pub clock: Arc<dyn Clock>,
    /// The register.
    pub metrics: Arc<Metrics>,
    /// The board for `/ready`.
    pub status: StatusBoard,
    /// Held from asking whether keys are new until the unit that holds them is queued (see
    /// [`Journal::admit`]).
    pub gate: Arc<Mutex<()>>,
}

/// What the pipeline must know about one source, beside the source itself.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// The configured name.
    pub name: Arc<str>,
    /// The Entra tenant id that the configuration gives.
    pub tenant: Arc<str>,
    /// The source's normal lag in seconds: a record older than this on arrival is `late`.
    pub normal_lag_seconds: i64,
    /// Largest record in bytes that becomes an event.
    pub size_cap: usize,
}

/// Counts of one page, added to the metrics once it is durable.
#[derive(Debug, Default)]
struct Counts {
    received: u64,
    deduplicated: u64,
    newest_lag_seconds: Option<f64>,
}

/// What became of the records of one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Records in it.
    pub received: u64,
    /// Records that were not known yet and became events.
    pub new: u64,
    /// Records that became dead letters.
    pub dead_lettered: u64,
}

/// A page on its way to the disk.
struct InFlight {
    receipt: Receipt,
    cursors: Cursors,
}

/// Runs one source until `stop` turns true: then it finishes the page in hand, waits until everything queued
/// is durable, and returns.
///
/// # Errors
/// Only what must end the process: a journal that takes nothing more, or a fatal source.
pub async fn run_source(
    mut source: Box<dyn Source>,
    settings: SourceSettings,
    intake: Intake,
    mut stop: watch::Receiver<bool>,
) -> Result<(), PipelineError> {
    let name = Arc::clone(&settings.name);
    let part = format!("source {name}");
    intake.status.set(&part, State::Starting);
    intake.metrics.init_source(&name);
    let mut cursors = intake.journal.cursors(&format!("{name}/"));
    let mut in_flight = VecDeque::new();
    let mut backoff = Backoff::default();
    let mut poison = Poison::default();
    while !*stop.borrow_and_update() {
        match source.poll(&cursors).await {
            Ok(page) => {
                backoff.reset();
                let state = page.trouble.clone().map_or(State::Ready, State::Degraded);
                intake.status.set(&part, state);
                intake.metrics.source_up.with_label_values(&[&name]).set(1);
                if let Some(backlog) = page.backlog {
                    let backlog = i64::try_from(backlog).unwrap_or(i64::MAX);
                    intake.metrics.source_backlog.with_label_values(&[&name]).set(backlog);
                }
                let mut pause = page.pause;
                if !page.is_empty() {
                    cursors.extend(page.cursors.iter().cloned());
                    let (receipt, taken) = intake.take(&settings, page).await?;
                    in_flight.push_back(InFlight { receipt, cursors: cursors.clone() });
                    if let Some(why) = poison.prevails(taken) {
                        tracing::warn!(source = &*name, why, "slowed to a page a minute");
                        intake.status.set(&part, State::Degraded(why));
                        intake.metrics.source_up.with_label_values(&[&name]).set(0);
                        pause = Some(pause.unwrap_or_default().max(POISON_PAUSE));
                    }
                }
                if let Some(pause) = pause {
                    settle(&mut in_flight, source.as_mut(), 0).await?;
                    let _ = tokio::time::timeout(pause, stopped(&mut stop)).await;
                    continue;
                }
            }
            Err(error) => {
                let wait = intake.judge(&part, &name, &error, &mut backoff)?;
                settle(&mut in_flight, source.as_mut(), 0).await?;
                let _ = tokio::time::timeout(wait, stopped(&mut stop)).await;
                continue;
            }
        }
        settle(&mut in_flight, source.as_mut(), PAGES_IN_FLIGHT).await?;
    }
    settle(&mut in_flight, source.as_mut(), 0).await?;
    Ok(())
}

/// The share of a source's latest records that became dead letters.
#[derive(Debug, Default)]
struct Poison {
    received: u64,
    dead: u64,
}

impl Poison {
    /// Says so, if most of the latest records were poison.
    fn prevails(&mut self, taken: Taken) -> Option<String> {
        self.received += taken.received;
        self.dead += taken.dead_lettered;
        let Self { received, dead } = *self;
        while self.received > 4 * POISON_SAMPLE {
            self.received /= 2;
            self.dead /= 2;
        }
        (received >= POISON_SAMPLE && dead > received / 2).then(|| {
            format!("{dead} of its latest {received} records could not be read: is this the right source?")
        })
    }
}

/// Waits until at most `keep` pages are in flight, takes up those that are durable already, and tells the far
/// end how far the durable ones go.
async fn settle(
    in_flight: &mut VecDeque<InFlight>,
    source: &mut dyn Source,
    keep: usize,
) -> Result<(), PipelineError> {
    let mut durable = None;
    while let Some(mut oldest) = in_flight.pop_front() {
        let answer = if in_flight.len() >= keep {
            (&mut oldest.receipt).await
        } else {
            match oldest.receipt.0.try_recv() {
                Ok(answer) => answer,
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => {
                    in_flight.push_front(oldest);
                    break;
                }
                Err(tokio::sync::oneshot::error::TryRecvError::Closed) => {
                    return Err(PipelineError::Journal(crate::journal::JournalError::Closed));
                }
            }
        };
        answer?;
        durable = Some(oldest.cursors);
    }
    if let Some(cursors) = durable
        && let Err(error) = source.commit(&cursors).await
    {
        tracing::debug!(source = source.name(), error = %error, "committing upstream failed; our own cursor counts");
    }
    Ok(())
}

impl Intake {
    /// Turns a failed poll into a time to wait, or into the end of the process.
    fn judge(
        &self,
        part: &str,
        name: &str,
        error: &AdapterError,
        backoff: &mut Backoff,
    ) -> Result<Duration, PipelineError> {
        self.metrics.source_up.with_label_values(&[name]).set(0);
        let (word, wait) = match error.failure {
            Failure::Retry(after) => ("retry", backoff.next(after)),
            // A source has no single item to refuse: its records are judged by `normalize`.
            Failure::Reject => ("reject", backoff.next(None)),
            Failure::Hold => ("hold", HOLD_PROBE),
            Failure::Fatal => {
                self.metrics.source_errors.with_label_values(&[name, "fatal"]).inc();
                self.status.set(part, State::Failed(error.message.clone()));
                return Err(PipelineError::Source { name: name.to_owned(), message: chain(error) });
            }
        };
        self.metrics.source_errors.with_label_values(&[name, word]).inc();
        self.status.set(part, State::Degraded(error.message.clone()));
        tracing::warn!(
            source = name,
            failure = word,
            retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            error = chain(error),
            "polling failed"
        );
        Ok(wait)
    }

    /// Takes a page that no running source returned (a backfill, a refill) through the same gate as all others,
    /// and waits until it is durable. Its cursors count from then on, not earlier.
    ///
    /// # Errors
    /// Only what ends the process: a journal that takes nothing more.
    pub async fn append_page(
        &self,
        settings: &SourceSettings,
        page: Page,
    ) -> Result<Taken, PipelineError> {
        let (receipt, taken) = self.take(settings, page).await?;
        receipt.await?;
        Ok(taken)
    }

    /// Makes a unit of a page and queues it.
    async fn take(
        &self,
        settings: &SourceSettings,
        page: Page,
    ) -> Result<(Receipt, Taken), PipelineError> {
        let context = Context {
            tenant: Arc::clone(&settings.tenant),
            source: Arc::clone(&settings.name),
            ingested: Some(self.clock.now()),
            normal_lag_seconds: settings.normal_lag_seconds,
            backfill: false,
            size_cap: settings.size_cap,
        };
        let read = read_page(&page, &context);
        let _gate = self.gate.lock().await;
        let (unit, counts) = self.admit(read, page);
        self.count(&settings.name, &unit, &counts);
        let taken = Taken {
            received: counts.received,
            new: counts.received - counts.deduplicated - unit.dead_letters.len() as u64,
            dead_lettered: unit.dead_letters.len() as u64,
        };
        Ok((self.journal.append(unit).await?, taken))
    }

    /// Drops what has been seen, settles what a later row of a mail may say, and makes the unit.
    fn admit(&self, read: ReadPage, page: Page) -> (Unit, Counts) {
        let mut counts = Counts { received: read.received, ..Counts::default() };
        let keys: Vec<EventId> = read
            .events
            .iter()
            .map(|read| read.event.id)
            .chain(read.dead_letters.iter().map(|letter| letter.id))
            .collect();
        let mut new = self.journal.admit(&keys).into_iter();
        let mut fresh: Vec<ReadEvent> = read
            .events
            .into_iter()
            .zip(new.by_ref())
            .filter_map(|(event, new)| new.then_some(event))
            .collect();
        let dead_letters: Vec<DeadLetter> = read
            .dead_letters
            .into_iter()
            .zip(new)
            .filter_map(|(letter, new)| new.then_some(letter))
            .collect();
        counts.deduplicated = counts.received
            - (fresh.iter().filter(|read| read.event.kind != Kind::Gap).count()
                + dead_letters.len()) as u64;

        let mails: Vec<EventId> = fresh.iter().filter_map(|read| read.mail).collect();
        let mut first = self.journal.admit(&mails).into_iter();
        let mut mails_seen: Vec<EventId> = dead_letters.iter().map(|letter| letter.id).collect();
        for read in &mut fresh {
            let Some(mail) = read.mail else { continue };
            if first.next() == Some(true) {
                mails_seen.push(mail);
            } else if read.first_row_decides {
                tagging::as_later_row(&mut read.event);
            }
        }
        counts.newest_lag_seconds = fresh
            .iter()
            .filter_map(|read| {
                let event = &read.event;
                Some(event.ingested?.seconds_since(event.observed.or(event.occurred)?))
            })
            .reduce(f64::min);
        let unit = Unit {
            events: fresh.into_iter().map(|read| read.event).collect(),
            mails_seen,
            dead_letters,
            cursors: page.cursors,
            ..Unit::default()
        };
        (unit, counts)
    }

    /// Counts a unit as it is queued. (A unit that never becomes durable ends the process, so the figures can
    /// only be ahead of the journal while it dies.)
    fn count(&self, source: &str, unit: &Unit, counts: &Counts) {
        let metrics = &self.metrics;
        metrics.source_records_received.with_label_values(&[source]).inc_by(counts.received);
        metrics
            .source_records_deduplicated
            .with_label_values(&[source])
            .inc_by(counts.deduplicated);
        for letter in &unit.dead_letters {
            let labels = [source, letter.reason.as_str()];
            metrics.source_records_dead_lettered.with_label_values(&labels).inc();
            tracing::warn!(
                source,
                reason = letter.reason.as_str(),
                position = &*letter.position,
                detail = &*letter.detail,
                "a record became a dead letter"
            );
        }
        let mut journaled = 0;
        let mut arrivals = [0_u64; crate::domain::Arrival::ALL.len()];
        for event in &unit.events {
            if event.kind == Kind::Gap {
                continue;
            }
            journaled += 1;
            let arrival = event.arrival.unwrap_or_default();
            if let Some(count) = arrivals.get_mut(arrival as usize) {
                *count += 1;
            }
            let level = event.decision.primary_level().map_or(NO_LEVEL, Level::as_str);
            for tag in event.decision.tags.fixed() {
                let labels = [tag.as_str(), level, arrival.as_str()];
                metrics.tag_events.with_label_values(&labels).inc();
            }
            for issue in &event.issues {
                metrics.source_issues.with_label_values(&[source, &*issue.code]).inc();
            }
        }
        metrics.source_records_journaled.with_label_values(&[source]).inc_by(journaled);
        for (arrival, count) in crate::domain::Arrival::ALL.into_iter().zip(arrivals) {
            metrics.source_arrival.with_label_values(&[source, arrival.as_str()]).inc_by(count);
        }
        if let Some(lag) = counts.newest_lag_seconds {
            metrics.source_lag_seconds.with_label_values(&[source]).set(lag.max(0.0));
        }
    }
}

/// One event of a page, with what the intake needs to know beside it.
struct ReadEvent {
    event: Event,
    mail: Option<EventId>,
    first_row_decides: bool,
}

/// A page, read and tagged as if every row were the first of its mail.
#[derive(Default)]
struct ReadPage {
    received: u64,
    events: Vec<ReadEvent>,
    dead_letters: Vec<DeadLetter>,
}

fn read_page(page: &Page, context: &Context) -> ReadPage {
    let mut read = ReadPage::default();
    for chunk in &page.chunks {
        normalize::each(chunk, context, &mut |normalized| {
            read.received += 1;
            match normalized {
                Normalized::Event { mut event, row, mail, first_row_decides } => {
                    let decide = AssertUnwindSafe(|| tagging::decide(&event, row));
                    match catch_unwind(decide) {
                        Ok(decision) => {
                            event.decision = decision;
                            read.events.push(ReadEvent { event, mail, first_row_decides });
                        }
                        Err(_) => read.dead_letters.push(panicked(&event)),
                    }
                }
                Normalized::DeadLetter(letter) => read.dead_letters.push(letter),
            }
        });
    }
    for gap in &page.gaps {
        let event = normalize::gap_event(gap, context);
        read.events.push(ReadEvent { event, mail: None, first_row_decides: false });
    }
    read
}

/// A record that made tagging panic: a defect of ours that must not stop its neighbours.
fn panicked(event: &Event) -> DeadLetter {
    let detail = "tagging the record panicked; this is a defect of Postern";
    DeadLetter {
        source: (&*event.source).into(),
        ..letter_of(
            event,
            DeadLetterReason::ParserPanic,
            detail,
            event.ingested.unwrap_or_default(),
        )
    }
}
