//! The source: goes round its tables, one question per poll, so that a large table does not hold up a small one.
//! It decides what to ask next and what an error means for the table it came from; asking and proving is the
//! client's, waiting the pipeline's.
//!
//! What it guarantees: a row is read once the far end shows it, if that is within the lateness of its table
//! (`overlap_seconds` behind ingestion, else the minutes of lateness behind the time of the event) or within a
//! second reading. A cursor moves only behind answers that are proven whole. The same row may be read many
//! times; the journal knows it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::client::{HuntingClient, Ingestion, Limits, Step, chunk};
use super::config::{HuntingConfig, TimeChoice};
use super::desk::{Desk, Spans, Standing};
use super::query::{self, TimeColumn};
use super::trouble::{HuntingError, Trouble};
use super::window::{Piece, Window};
use crate::cloud::tenant::TenantAccess;
use crate::domain::{Cursors, Failure, Ticks};
use crate::journal::Clock;
use crate::pipeline::{AdapterError, Page, Source};

/// How long a table that is not there is left alone.
const MISSING: Duration = Duration::from_secs(6 * 3_600);
/// How long a query that was refused is left alone. A changed configuration makes a new source at once.
const HELD: Duration = Duration::from_secs(30 * 60);
/// How long a table is left alone that could not be looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How long a table without a row is taken for what it seems to be.
const UNSURE: Duration = Duration::from_secs(3_600);
/// The quota of processing is given out anew each quarter of an hour.
const QUOTA_CYCLE: i64 = 15 * 60;
/// How many times longer the interval may become while the quota is short.
const MOST_STRETCH: u32 = 4;

/// The `hunting` source.
pub struct Hunting {
    name: String,
    client: HuntingClient,
    clock: Arc<dyn Clock>,
    interval: Duration,
    spans: Spans,
    limits: Limits,
    time: TimeChoice,
    desks: Vec<Desk>,
    /// Whose turn it is.
    turn: usize,
    /// The far end's present as it last told it, and when that was.
    present: Option<(Ticks, Duration)>,
    /// The interval is this many times longer, since the quota was short.
    stretch: u32,
    /// The quota was short since the last round began.
    short: bool,
}

impl Hunting {
    /// Makes it; connects to nothing.
    ///
    /// # Errors
    /// If two tables or queries have one name.
    pub fn new(
        name: &str,
        config: &HuntingConfig,
        access: TenantAccess,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AdapterError> {
        config.check().map_err(|why| AdapterError::new(Failure::Hold, why))?;
        let seconds = |value: u64| i64::try_from(value).unwrap_or(i64::MAX / 4).min(1 << 32);
        let spans = Spans {
            settle: seconds(config.settle_seconds),
            overlap: seconds(config.overlap_seconds),
            start_back: seconds(config.start_hours_back.saturating_mul(3_600)),
            step: seconds(config.step_minutes.saturating_mul(60)).max(60),
            hourly: seconds(config.hourly_resweep_hours.saturating_mul(3_600)),
            daily: seconds(config.daily_resweep_hours.saturating_mul(3_600)),
        };
        let desk = |(subject, lateness, own)| Desk::new(name, subject, lateness, own, spans.step);
        Ok(Self {
            name: name.to_owned(),
            client: HuntingClient::new(access, Arc::clone(&clock)),
            clock,
            interval: Duration::from_secs(config.interval_seconds.max(1)),
            spans,
            limits: config.limits(),
            time: config.time,
            desks: config.subjects().into_iter().map(desk).collect(),
            turn: 0,
            present: None,
            stretch: 1,
            short: false,
        })
    }

    /// What has been left alone long enough is looked at again.
    fn wake(&mut self, now: Duration) {
        for desk in &mut self.desks {
            match &desk.standing {
                Standing::Missing { again } | Standing::Held { again, .. } if *again <= now => {
                    desk.standing = if desk.own {
                        Standing::Ready { sure: true, looked: now }
                    } else {
                        Standing::Unknown
                    };
                }
                Standing::Ready { sure: false, looked }
                    if desk.walk.is_none() && *looked + UNSURE <= now =>
                {
                    desk.standing = Standing::Unknown;
                }
                Standing::Unknown
                | Standing::Ready { .. }
                | Standing::Missing { .. }
                | Standing::Held { .. } => {}
            }
        }
    }

    /// Whether a table is there, and by which time it is read.
    async fn look(&mut self, index: usize) -> Result<Page, AdapterError> {
        let Some(desk) = self.desks.get_mut(index) else { return Ok(Page::default()) };
        let looked = self.clock.monotonic();
        match self.client.ingestion(&desk.subject.table).await {
            Ok(told) => {
                desk.subject.time = match (told, self.time) {
                    (Ingestion::Told, TimeChoice::Auto) => TimeColumn::Ingestion,
                    // An empty table is read in the way that loses nothing either way.
                    _ => TimeColumn::timestamp(),
                };
                desk.standing = Standing::Ready { sure: told != Ingestion::Empty, looked };
                tracing::debug!(source = self.name, table = desk.name(), ?told, "table found");
                Ok(self.page())
            }
            Err(error) if matches!(error.trouble, Trouble::Retry | Trouble::Slow) => {
                // It waits by itself; whether the others answer is seen with the next poll.
                let why = format!("{} could not be looked at yet", desk.name());
                desk.standing = Standing::Held { why, again: looked + LOOK_AGAIN };
                Err(error.into())
            }
            Err(error) => self.sorted(index, error),
        }
    }

    fn is_round_due(&self, now: Duration) -> bool {
        self.present.is_none_or(|(_, told)| told + self.interval * self.stretch <= now)
    }

    /// Asks for the far end's present and gives every table that is at rest its next window.
    async fn begin_round(&mut self, cursors: &Cursors) -> Result<Option<Page>, AdapterError> {
        // In turn, so that a table that cannot answer is not asked each time.
        let asked = self.next_with(|desk| !desk.own).or_else(|| self.next_with(|_| true));
        let Some((index, desk)) = asked.and_then(|at| Some((at, self.desks.get(at)?))) else {
            return Ok(None);
        };
        let now = match self.client.now(&desk.subject).await {
            Ok(now) => now,
            Err(error) => return self.sorted(index, error).map(Some),
        };
        self.present = Some((now, self.clock.monotonic()));
        if !std::mem::take(&mut self.short) {
            self.stretch = (self.stretch / 2).max(1);
        }
        for desk in self.desks.iter_mut().filter(|desk| desk.is_ready()) {
            if desk.walk.is_none() {
                desk.set_out(cursors, now, self.spans, self.limits);
            }
            if desk.sweep.is_none() {
                desk.set_out_again(cursors, now, self.spans, self.limits);
            }
        }
        Ok(None)
    }

    /// The next table, from the one whose turn it is, that has such work.
    fn next_with(&self, work: impl Fn(&Desk) -> bool) -> Option<usize> {
        let ready = |index: &usize| {
            self.desks.get(*index).is_some_and(|desk| desk.is_ready() && work(desk))
        };
        (self.turn..self.desks.len()).chain(0..self.turn).find(ready)
    }

    /// One question about what is new in a table.
    async fn step(&mut self, index: usize, cursors: &Cursors) -> Result<Page, AdapterError> {
        let mut page = self.page();
        let Some(desk) = self.desks.get_mut(index) else { return Ok(page) };
        let Some(walk) = &mut desk.walk else { return Ok(page) };
        // Whatever comes of it: next time it is another's turn.
        self.turn = index + 1;
        let step = match walk.next(&self.client).await {
            Ok(step) => step,
            Err(error) => return self.sorted(index, error),
        };
        if walk.is_done() {
            desk.walk = None;
        }
        page.gaps = std::mem::take(&mut desk.gaps);
        page.cursors = std::mem::take(&mut desk.cursors);
        page.cursors.extend(step.complete_to.and_then(|to| desk.marked(cursors, to)));
        match &step {
            Step { answer: None, .. } => desk.narrow(),
            Step { answer: Some((_, answer)), .. } => {
                if answer.rows < self.limits.take / 4 {
                    desk.widen(self.spans.step);
                }
            }
        }
        page.chunks.extend(chunk_of(desk, step));
        Ok(page)
    }

    /// One question of a second reading.
    async fn sweep(&mut self, index: usize) -> Result<Page, AdapterError> {
        let mut page = self.page();
        let Some(desk) = self.desks.get_mut(index) else { return Ok(page) };
        let Some((sweep, walk, began)) = &mut desk.sweep else { return Ok(page) };
        self.turn = index + 1;
        let step = match walk.next(&self.client).await {
            Ok(step) => step,
            Err(error) => return self.sorted(index, error),
        };
        if walk.is_done() {
            let done = (*sweep, *began);
            page.cursors.push(desk.swept(done.0, done.1));
            desk.sweep = None;
        }
        page.chunks.extend(chunk_of(desk, step));
        Ok(page)
    }

    /// What an error means: for its table alone, or for the source.
    fn sorted(&mut self, index: usize, error: HuntingError) -> Result<Page, AdapterError> {
        let now = self.clock.monotonic();
        let quarter = self.until_next_quarter(now);
        let Some(desk) = self.desks.get_mut(index) else { return Err(error.into()) };
        match error.trouble {
            Trouble::Missing => {
                tracing::info!(
                    source = self.name,
                    table = desk.name(),
                    "{error}: looked for again later"
                );
                (desk.walk, desk.sweep) = (None, None);
                desk.standing = Standing::Missing { again: now + MISSING };
                Ok(self.page())
            }
            Trouble::Wrong => {
                tracing::warn!(
                    source = self.name,
                    table = desk.name(),
                    "{error}: this one waits, others go on"
                );
                (desk.walk, desk.sweep) = (None, None);
                desk.standing = Standing::Held { why: error.message, again: now + HELD };
                Ok(self.page())
            }
            Trouble::Quota(after) => {
                self.short = true;
                self.stretch = (self.stretch * 2).min(MOST_STRETCH);
                let wait = Trouble::Quota(Some(after.unwrap_or(quarter)));
                Err(HuntingError { trouble: wait, ..error }.into())
            }
            Trouble::Slow => {
                desk.narrow();
                self.turn = index + 1;
                Err(error.into())
            }
            Trouble::Retry | Trouble::Split | Trouble::Hold => {
                // The pipeline waits; then it is another's turn, so that one table's trouble is its own.
                self.turn = index + 1;
                Err(error.into())
            }
        }
    }

    /// How long until the far end gives out quota again, by its own time. The pipeline adds some jitter.
    fn until_next_quarter(&self, now: Duration) -> Duration {
        let present = match self.present {
            Some((present, told)) => {
                present.as_seconds()
                    + i64::try_from(now.saturating_sub(told).as_secs()).unwrap_or(0)
            }
            // It has not told the time yet. Ours decides only how long to wait.
            None => self.clock.now().as_seconds(),
        };
        let left = QUOTA_CYCLE - present.rem_euclid(QUOTA_CYCLE);
        Duration::from_secs(left.unsigned_abs())
    }

    /// An empty page that says what is wrong with single tables.
    fn page(&self) -> Page {
        let held = self.desks.iter().filter_map(|desk| match &desk.standing {
            Standing::Held { why, .. } => Some(why.as_str()),
            Standing::Unknown | Standing::Ready { .. } | Standing::Missing { .. } => None,
        });
        let held: Vec<&str> = held.collect();
        Page { trouble: (!held.is_empty()).then(|| held.join("; ")), ..Page::default() }
    }

    /// How long nothing is due.
    fn rest(&self, now: Duration) -> Duration {
        let again = self.desks.iter().filter_map(|desk| match &desk.standing {
            Standing::Missing { again } | Standing::Held { again, .. } => Some(*again),
            Standing::Unknown | Standing::Ready { .. } => None,
        });
        let round = self
            .present
            .filter(|_| self.desks.iter().any(Desk::is_ready))
            .map(|(_, told)| told + self.interval * self.stretch);
        let next = again.chain(round).min().unwrap_or(now + self.interval);
        next.saturating_sub(now).max(Duration::from_secs(1))
    }
}

fn chunk_of(desk: &Desk, step: Step) -> Option<crate::domain::Chunk> {
    let (piece, answer) = step.answer?;
    chunk(&desk.subject.table, &piece, &answer, false)
}

#[async_trait]
impl Source for Hunting {
    fn name(&self) -> &str {
        &self.name
    }

    async fn poll(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        let now = self.clock.monotonic();
        self.wake(now);
        let unknown = |desk: &Desk| desk.standing == Standing::Unknown;
        if let Some(index) = self.desks.iter().position(unknown) {
            return self.look(index).await;
        }
        if self.is_round_due(now)
            && let Some(page) = self.begin_round(cursors).await?
        {
            return Ok(page);
        }
        if let Some(index) = self.next_with(|desk| desk.walk.is_some()) {
            return self.step(index, cursors).await;
        }
        if let Some(index) = self.next_with(|desk| desk.sweep.is_some()) {
            return self.sweep(index).await;
        }
        Ok(Page { pause: Some(self.rest(self.clock.monotonic())), ..self.page() })
    }

    /// There is nothing to tell: hunting does not know who has read what.
    async fn commit(&mut self, _cursors: &Cursors) -> Result<(), AdapterError> {
        Ok(())
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        let (mut ingestion, mut timestamp) = (Vec::new(), Vec::new());
        let (mut missing, mut own, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for desk in &self.desks {
            let (subject, name) = (&desk.subject, desk.name());
            if desk.own {
                match self.try_own(desk).await {
                    Ok(()) => own.push(name),
                    Err(error) if matches!(error.trouble, Trouble::Wrong | Trouble::Missing) => {
                        wrong.push(error.message);
                    }
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            match self.client.ingestion(&subject.table).await {
                Ok(Ingestion::Told) if self.time == TimeChoice::Auto => ingestion.push(name),
                Ok(_) => timestamp.push(name),
                Err(error) if error.trouble == Trouble::Missing => missing.push(name),
                Err(error) => return Err(error.into()),
            }
        }
        if !wrong.is_empty() {
            return Err(AdapterError::new(Failure::Hold, wrong.join("; ")));
        }
        let told = [
            ("read by time of ingestion", ingestion),
            ("read by Timestamp", timestamp),
            ("own queries that run", own),
            ("not in this tenant (a licence, for mail Defender for Office 365 Plan 2)", missing),
        ];
        let told = told.iter().filter(|(_, names)| !names.is_empty());
        let told = told.map(|(what, names)| format!("{what}: {}", names.join(", ")));
        Ok(format!("hunting answers; {}", told.collect::<Vec<_>>().join("; ")))
    }
}

impl Hunting {
    /// Asks one's own query for a single row of a minute.
    async fn try_own(&self, desk: &Desk) -> Result<(), HuntingError> {
        let now = self.client.now(&desk.subject).await?;
        let minute = Piece::all(Window::new(now.plus_seconds(-60), now));
        let text = query::rows_query(&desk.subject, &minute, 1);
        self.client.run(&desk.subject.table, &text, query::TIMESPAN).await.map(|_| ())
    }
}
