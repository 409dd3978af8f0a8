//! The way through one table's windows: ask, append, go on; wait where the far end says so; stop when told to,
//! with everything that was appended kept and its place remembered in the same unit.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::BackfillArgs;
use super::estimate::Estimate;
use crate::app::signals::Signals;
use crate::domain::{Cursor, CursorKey, Failure, Ticks};
use crate::journal::{Clock, Journal};
use crate::pipeline::backoff::Backoff;
use crate::pipeline::intake::{Intake, SourceSettings};
use crate::pipeline::metrics::Metrics;
use crate::pipeline::status::StatusBoard;
use crate::pipeline::{Page, chain};
use crate::source::hunting::{
    HuntingClient, HuntingError, Limits, Subject, Trouble, Walk, Window, chunk,
};

/// How often it asks again in a row before it gives up. With waits of up to a quarter of an hour this is an
/// afternoon, and nothing is lost by giving up.
const MOST_TRIES: u32 = 12;

/// How it ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All of it is in the journal.
    Done,
    /// Somebody asked it to stop.
    Stopped,
    /// The far end does not play along.
    GaveUp(String),
    /// The journal takes nothing more.
    Journal(String),
}

/// What became of the rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total {
    pub(super) rows: u64,
    pub(super) new: u64,
    pub(super) dead_lettered: u64,
    pub(super) queries: u64,
}

/// How far this backfill is: the cursor's text.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Place {
    to: Ticks,
    done: bool,
}

/// One table's backfill.
pub(super) struct Job<'a> {
    client: &'a HuntingClient,
    journal: &'a Arc<dyn Journal>,
    settings: &'a SourceSettings,
    intake: Intake,
    limits: Limits,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        client: &'a HuntingClient,
        journal: &'a Arc<dyn Journal>,
        settings: &'a SourceSettings,
        clock: &Arc<dyn Clock>,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let intake = Intake {
            journal: Arc::clone(journal),
            clock: Arc::clone(clock),
            metrics: Arc::new(Metrics::new().context("the metrics cannot be registered")?),
            status: StatusBoard::default(),
            gate: Arc::default(),
        };
        Ok(Self { client, journal, settings, intake, limits })
    }

    pub(super) async fn run(
        &self,
        arguments: &BackfillArgs,
        subject: &Subject,
        estimate: &Estimate,
        signals: &mut Signals,
    ) -> (Total, Outcome) {
        let name = subject.table.name();
        let key = key(arguments, self.settings, name);
        let mut window = estimate.window;
        match self.place(&key) {
            Some(place) if !place.done && place.to > window.from => {
                eprintln!("{name}: goes on at {}", place.to);
                window = Window::new(place.to, window.to);
            }
            Some(Place { done: true, .. }) => {
                eprintln!("{name}: was complete before; read again for what came late");
            }
            _ => {}
        }
        let bar = bar(name, estimate.rows);
        let mut walk = Walk::new(subject.clone(), window, estimate.step, self.limits);
        let mut total = Total::default();
        let mut backoff = Backoff::default();
        let mut tries = 0;
        let outcome = loop {
            if walk.is_done() {
                break match self.append(&key, window.to, true, Page::default(), &mut total).await {
                    Ok(()) => Outcome::Done,
                    Err(outcome) => outcome,
                };
            }
            // Dropped half-way, a walk is where it was.
            let step = tokio::select! {
                step = walk.next(self.client) => step,
                () = signals.next_stop() => break Outcome::Stopped,
            };
            total.queries += 1;
            match step {
                Ok(step) => {
                    (tries, backoff) = (0, Backoff::default());
                    bar.set_message(name.to_owned());
                    let mut page = Page::default();
                    if let Some((piece, answer)) = step.answer {
                        total.rows += answer.rows as u64;
                        page.chunks.extend(chunk(&subject.table, &piece, &answer, true));
                    }
                    let Some(to) = step.complete_to else {
                        // Shards of one second: their place is told with the last of them.
                        if let Err(outcome) = self.take(page, &mut total).await {
                            break outcome;
                        }
                        continue;
                    };
                    if let Err(outcome) = self.append(&key, to, false, page, &mut total).await {
                        break outcome;
                    }
                    bar.set_position(total.rows);
                }
                Err(error) => {
                    tries += 1;
                    let Some(wait) = wait(&error, &mut backoff, tries) else {
                        break Outcome::GaveUp(chain(&error));
                    };
                    bar.set_message(format!("{name}: {error}; again in {} s", wait.as_secs()));
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = signals.next_stop() => break Outcome::Stopped,
                    }
                }
            }
        };
        bar.finish_and_clear();
        (total, outcome)
    }

    fn place(&self, key: &CursorKey) -> Option<Place> {
        serde_json::from_str(self.journal.cursors(key).get(key)?).ok()
    }

    /// Appends a page together with how far the backfill is behind it.
    async fn append(
        &self,
        key: &CursorKey,
        to: Ticks,
        done: bool,
        mut page: Page,
        total: &mut Total,
    ) -> Result<(), Outcome> {
        let place: Cursor = serde_json::to_string(&Place { to, done }).unwrap_or_default().into();
        page.cursors.push((key.clone(), place));
        self.take(page, total).await
    }

    async fn take(&self, page: Page, total: &mut Total) -> Result<(), Outcome> {
        if page.is_empty() {
            return Ok(());
        }
        let taken = self.intake.append_page(self.settings, page).await;
        let taken = taken.map_err(|error| Outcome::Journal(chain(&error)))?;
        total.new += taken.new;
        total.dead_lettered += taken.dead_lettered;
        Ok(())
    }
}

/// The place of this very order: another window, filter or tenant is another one.
fn key(arguments: &BackfillArgs, settings: &SourceSettings, table: &str) -> CursorKey {
    let to = arguments.to.map_or_else(|| "now".to_owned(), |to| to.to_string());
    let which = if arguments.overrides_only { "overrides" } else { "all" };
    let (tenant, from) = (&settings.tenant, arguments.from);
    format!("backfill/{tenant}/{table}/{from}/{to}/{which}").into()
}

/// How long to wait after an error; `None` where waiting does not help.
fn wait(error: &HuntingError, backoff: &mut Backoff, tries: u32) -> Option<Duration> {
    /// The quota of processing is given out anew each quarter of an hour; without being told more, part of one
    /// is waited for.
    const QUOTA: Duration = Duration::from_secs(5 * 60);
    if tries >= MOST_TRIES {
        return None;
    }
    match (error.trouble, error.failure()) {
        (Trouble::Quota(None), _) => Some(backoff.next(Some(QUOTA))),
        (_, Failure::Retry(after)) => Some(backoff.next(after)),
        (_, Failure::Reject | Failure::Hold | Failure::Fatal) => None,
    }
}

fn bar(name: &str, rows: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} rows, {eta} left");
    let bar = ProgressBar::new(rows).with_message(name.to_owned());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
