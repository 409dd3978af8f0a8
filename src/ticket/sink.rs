//! Sink `ticket`: one ticket for each message, alert or incident that its filter lets through. It knows the
//! journal and a [`FarEnd`], and nothing of how the far end is spoken to.
//!
//! # What it guarantees
//!
//! Never two tickets for one key, through kill, restart and lost answers: the intent is durable before the
//! request leaves; a request whose outcome is not known is settled as the far end allows (sent again under the
//! same key where that is an idempotency key; looked up, twice and after the search's lag, where it can be; else
//! a person decides, and the event is a dead letter until then). Exactly one ticket where the far end has an
//! idempotency key or a look-up. An event that the far end refuses costs one request and becomes a dead letter.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::body::body;
use super::book::{Book, Entry, Step};
use super::far_end::{FarEnd, FarEndError, Ticket};
use super::key::{external_key, fold_key};
use super::webhook::{Webhook, WebhookConfig};
use crate::cloud::http::{Acted, configured_url};
use crate::domain::{DeadLetterReason, Event, Failure, TicketRecord, TicketState};
use crate::journal::{Clock, Journal, JournalError, Numbered, Offset, Receipt, Unit};
use crate::pipeline::{AdapterError, Batch, Limits, Sent, Sink};

/// Refusals in a row after which the far end itself is suspected, and nothing more is sent until a probe passes.
const REFUSALS_BEFORE_HOLD: u32 = 5;

/// Attempts after which a ticket that fails while the far end is well becomes a dead letter: with the runner's
/// back-off that is some minutes, in which its neighbours wait.
const ATTEMPTS: u32 = 12;

/// Failures in a row that are not clearly about the far end after which they are taken to be.
const FAILURES_BEFORE_PAUSE: u32 = 2;

/// How often a ticket that gets more events is noted as active, in seconds. Its record outlives its last
/// activity by months, so an hour is exact enough.
const TOUCH_SECONDS: f64 = 3600.0;

/// Configuration of a `ticket` sink.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketConfig {
    /// The policy's name: part of every ticket's external key, so that two policies may open tickets for one mail,
    /// and so that renaming it opens all of them anew. Default `allowed_mail`.
    #[serde(default = "default_policy")]
    pub policy: String,
    /// The Defender portal that links lead to. Default `https://security.microsoft.com`; another one in sovereign
    /// clouds.
    #[serde(default = "default_portal")]
    pub portal: String,
    /// Which ticket system, with its own keys: `far_end = { webhook = { … } }`.
    pub far_end: FarEndConfig,
}

/// The list of far ends.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FarEndConfig {
    /// A receiver of Standard Webhooks.
    Webhook(WebhookConfig),
}

fn default_policy() -> String {
    "allowed_mail".to_owned()
}

fn default_portal() -> String {
    "https://security.microsoft.com".to_owned()
}

/// The sink. See the module for what it guarantees.
pub struct TicketSink {
    name: Arc<str>,
    policy: String,
    portal: String,
    far_end: Box<dyn FarEnd>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    /// `None` until the first `open`: afterwards it is ahead of the journal, never behind.
    book: Option<Book>,
    /// Results that are on their way into the journal.
    receipts: Vec<Receipt>,
    /// Tickets created in this life.
    created: u64,
    /// Refusals since the last ticket that was created.
    refused: u32,
    /// Whether a ticket was given up since then, on the far end's word that it is well.
    gave_up: bool,
}

impl std::fmt::Debug for TicketSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TicketSink").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What one event came to, and whether the batch may go on.
struct Settled {
    sent: Sent,
    /// The far end wants nothing more for now; for how long, where it said so.
    pause: Option<Option<Duration>>,
}

impl From<Sent> for Settled {
    fn from(sent: Sent) -> Self {
        Self { sent, pause: None }
    }
}

impl TicketSink {
    /// Makes it; connects to nothing.
    ///
    /// # Errors
    /// If the configuration of the far end or the portal's URL is no good.
    pub fn new(
        name: &str,
        config: TicketConfig,
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AdapterError> {
        configured_url(&config.portal)
            .map_err(|detail| AdapterError::new(Failure::Hold, format!("portal: {detail}")))?;
        let far_end: Box<dyn FarEnd> = match config.far_end {
            FarEndConfig::Webhook(webhook) => Box::new(Webhook::new(webhook, Arc::clone(&clock))?),
        };
        let mut sink = Self::on(name, far_end, journal, clock);
        (sink.policy, sink.portal) = (config.policy, config.portal);
        Ok(sink)
    }

    /// On a given far end, with the default policy and portal.
    #[must_use]
    pub fn on(
        name: &str,
        far_end: Box<dyn FarEnd>,
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            name: name.into(),
            policy: default_policy(),
            portal: default_portal(),
            far_end,
            journal,
            clock,
            book: None,
            receipts: Vec::new(),
            created: 0,
            refused: 0,
            gave_up: false,
        }
    }

    /// Queues a ticket's new state; durable when the receipt resolves, and never later than what is queued after.
    async fn note(&mut self, record: TicketRecord) -> Result<Receipt, AdapterError> {
        let unit = Unit { tickets: vec![record], ..Unit::default() };
        self.journal.append(unit).await.map_err(|error| journal_failed(&error))
    }

    fn book(&mut self) -> &mut Book {
        self.book.get_or_insert_default()
    }

    /// Brings a ticket into a new state, in the book and in the journal.
    async fn enter(
        &mut self,
        key: &str,
        state: TicketState,
        change: impl FnOnce(&mut Entry),
    ) -> Result<(), AdapterError> {
        let now = self.clock.now();
        let Some(entry) = self.book().get_mut(key) else { return Ok(()) };
        entry.record.state = state;
        entry.record.at = now;
        change(entry);
        let record = entry.record.clone();
        let receipt = self.note(record).await?;
        self.receipts.push(receipt);
        Ok(())
    }

    async fn settle(&mut self, event: &Event) -> Result<Settled, AdapterError> {
        let key = external_key(&event.tenant, &self.policy, &fold_key(event));
        let (idempotent, lag) = (self.far_end.idempotent(), self.far_end.look_up_lag());
        let now = self.clock.monotonic();
        match self.book().next(&key, idempotent, lag, now) {
            Step::Done => {
                self.touch(&key).await?;
                Ok(Sent::Delivered.into())
            }
            Step::Refused(detail) => Ok(Sent::Reject {
                reason: DeadLetterReason::SinkRejected,
                detail: format!("ticket {key} was refused before: {detail}"),
            }
            .into()),
            Step::Person => Ok(Sent::Reject {
                reason: DeadLetterReason::SinkRejected,
                detail: format!(
                    "whether ticket {key} exists is not known and cannot be looked up; a person must look"
                ),
            }
            .into()),
            Step::Wait(time) => Ok(Sent::Retry {
                after: Some(time),
                detail: format!("waiting for the search of ticket {key} to catch up"),
            }
            .into()),
            Step::LookUp => self.look_up(&key).await,
            Step::Announce => {
                let record = TicketRecord {
                    sink: (&*self.name).into(),
                    key: key.clone(),
                    state: TicketState::Intent,
                    attempts: 0,
                    at: self.clock.now(),
                };
                let receipt = self.note(record.clone()).await?;
                receipt.await.map_err(|error| journal_failed(&error))?;
                self.book().announce(record);
                self.create(event, &key).await
            }
            Step::Create => self.create(event, &key).await,
        }
    }

    async fn create(&mut self, event: &Event, key: &str) -> Result<Settled, AdapterError> {
        let body = body(event, key, &self.portal);
        let answer = self.far_end.create(Ticket { key, body: &body }).await;
        if let Some(entry) = self.book().get_mut(key) {
            entry.record.attempts = entry.record.attempts.saturating_add(1);
        }
        match answer {
            Ok(reference) => self.opened(key, reference).await,
            Err(error) => self.failed(key, error).await,
        }
    }

    async fn opened(&mut self, key: &str, reference: String) -> Result<Settled, AdapterError> {
        self.created += 1;
        (self.refused, self.gave_up) = (0, false);
        tracing::info!(sink = &*self.name, ticket = key, reference, "a ticket was opened");
        self.enter(key, TicketState::Open { reference: reference.into() }, |_| ()).await?;
        Ok(Sent::Delivered.into())
    }

    async fn failed(&mut self, key: &str, error: FarEndError) -> Result<Settled, AdapterError> {
        let (created, now) = (self.created, self.clock.monotonic());
        let attempts = match self.book().get_mut(key) {
            Some(entry) => {
                entry.created_before.get_or_insert(created);
                entry.record.attempts
            }
            None => 0,
        };
        if error.acted == Acted::Unknown {
            self.enter(key, TicketState::Unknown, |entry| {
                entry.surely_absent = false;
                entry.unknown_since = now;
                entry.looked_up = 0;
            })
            .await?;
        }
        match error.failure {
            Failure::Retry(after) => {
                if !error.whole && attempts >= ATTEMPTS && self.far_end_is_well(key).await {
                    return Ok(self.give_up(key, attempts, error.detail));
                }
                Ok(Settled {
                    sent: Sent::Retry { after, detail: error.detail },
                    // A wish for time is obeyed for every ticket, whatever it was that failed.
                    pause: (error.whole || after.is_some()).then_some(after),
                })
            }
            Failure::Reject => {
                self.refused += 1;
                let detail = error.detail.as_str().into();
                self.enter(key, TicketState::Refused { detail }, |_| ()).await?;
                if self.refused >= REFUSALS_BEFORE_HOLD {
                    return Err(AdapterError::new(
                        Failure::Hold,
                        format!(
                            "{} tickets in a row were refused, last: {}",
                            self.refused, error.detail
                        ),
                    ));
                }
                Ok(Sent::Reject { reason: error.reason, detail: error.detail }.into())
            }
            Failure::Hold | Failure::Fatal => Err(AdapterError::new(error.failure, error.detail)),
        }
    }

    /// Whether it is this ticket that fails, not the far end: others pass, or, once between two that pass, it
    /// says so itself.
    async fn far_end_is_well(&mut self, key: &str) -> bool {
        let created = self.created;
        let before = self.book().get_mut(key).and_then(|entry| entry.created_before);
        before.is_some_and(|before| created > before)
            || (!self.gave_up && self.far_end.probe().await.is_ok())
    }

    fn give_up(&mut self, key: &str, attempts: u32, detail: String) -> Settled {
        self.gave_up = true;
        Sent::Reject {
            reason: DeadLetterReason::SinkRejected,
            detail: format!(
                "ticket {key} failed {attempts} times while the far end was well: {detail}"
            ),
        }
        .into()
    }

    async fn look_up(&mut self, key: &str) -> Result<Settled, AdapterError> {
        match self.far_end.look_up(key).await {
            Ok(Some(reference)) => self.opened(key, reference).await,
            Ok(None) => {
                if let Some(entry) = self.book().get_mut(key) {
                    entry.looked_up += 1;
                }
                let detail =
                    format!("ticket {key} was not found; looking again before it is created");
                Ok(Sent::Retry { after: None, detail }.into())
            }
            Err(error) => match error.failure {
                Failure::Retry(after) => Ok(Settled {
                    sent: Sent::Retry { after, detail: error.detail },
                    pause: Some(after),
                }),
                // A look-up that is refused says nothing about the ticket.
                Failure::Reject | Failure::Hold => {
                    Err(AdapterError::new(Failure::Hold, error.detail))
                }
                Failure::Fatal => Err(AdapterError::new(Failure::Fatal, error.detail)),
            },
        }
    }

    /// Notes that an open ticket got another event: its record must outlive its last activity.
    async fn touch(&mut self, key: &str) -> Result<(), AdapterError> {
        let now = self.clock.now();
        let Some(entry) = self.book().get_mut(key) else { return Ok(()) };
        if now.seconds_since(entry.record.at) < TOUCH_SECONDS {
            return Ok(());
        }
        let state = entry.record.state.clone();
        self.enter(key, state, |_| ()).await
    }

    /// Waits until every result so far is durable.
    async fn flush(&mut self) -> Result<(), AdapterError> {
        for receipt in std::mem::take(&mut self.receipts) {
            receipt.await.map_err(|error| journal_failed(&error))?;
        }
        Ok(())
    }

    async fn settle_all(&mut self, events: &[Numbered]) -> Result<Vec<Sent>, AdapterError> {
        let mut all = Vec::with_capacity(events.len());
        let mut pause: Option<Option<Duration>> = None;
        let mut failures = 0;
        for numbered in events {
            if let Some(after) = pause {
                let detail = "not sent: the far end takes nothing at the moment".to_owned();
                all.push(Sent::Retry { after, detail });
                continue;
            }
            let settled = self.settle(&numbered.event).await?;
            failures = if matches!(settled.sent, Sent::Retry { .. }) { failures + 1 } else { 0 };
            pause = settled.pause;
            if failures >= FAILURES_BEFORE_PAUSE {
                pause = pause.or(Some(None));
            }
            all.push(settled.sent);
        }
        Ok(all)
    }
}

fn journal_failed(error: &JournalError) -> AdapterError {
    AdapterError::because(Failure::Fatal, "cannot journal a ticket", error.clone())
}

#[async_trait]
impl Sink for TicketSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        // One request at a time: tickets are for people, and a batch is what a retry holds up.
        Limits { events: 50, bytes: 1 << 20, linger: Duration::from_millis(100) }
    }

    async fn open(&mut self, position: Offset) -> Result<Offset, AdapterError> {
        if self.book.is_none() {
            let now = self.clock.monotonic();
            self.book = Some(Book::read(self.journal.tickets(&self.name), now));
        }
        Ok(position)
    }

    async fn deliver(&mut self, batch: &Batch) -> Result<Vec<Sent>, AdapterError> {
        let settled = self.settle_all(&batch.events).await;
        // Also after an error: what was opened until then must be known.
        self.flush().await?;
        settled
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        self.far_end.probe().await
    }

    async fn close(&mut self) -> Result<(), AdapterError> {
        self.flush().await
    }
}
