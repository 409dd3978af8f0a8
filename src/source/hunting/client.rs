//! Asks hunting: one query, or all rows of a window in pieces that are proven complete. For the source, for
//! backfills and for the ledger. It neither waits nor tries again: an error says what to do, and whoever asked
//! goes on from there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::answer::HuntingAnswer;
use super::query::{self, Subject};
use super::trouble::{HuntingError, Trouble};
use super::window::{Piece, Plan, Window};
use crate::cloud::tenant::{Ask, TenantAccess, Workload};
use crate::domain::{Chunk, Position, Shape, Table, Ticks};
use crate::journal::Clock;

/// The path of the one call there is.
const PATH: &str = "/v1.0/security/runHuntingQuery";

/// The largest answer that the far end gives, in bytes, by the strictest of its pages.
const ANSWER_BYTES: usize = 50_000_000;

/// When the rows of an answer are counted once more by a query of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountCheck {
    /// Where an answer has half the rows, or half the bytes, that one may have.
    #[default]
    NearLimits,
    /// Each time: twice the queries.
    Always,
    /// Never: what an answer leaves out without reaching `take` is then found by the ledger only.
    Never,
}

/// How much is asked for at once, and how the answer is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most rows of one answer; as many mean that there may be more.
    pub take: usize,
    /// Whether they are counted.
    pub count_check: CountCheck,
}

impl Default for Limits {
    /// 5,000 rows: full rows of mail have 1 to 3 KB, so a page stays near 10 MB.
    fn default() -> Self {
        Self { take: 5_000, count_check: CountCheck::default() }
    }
}

/// What became of asking for a piece.
#[derive(Debug)]
pub enum Fetched {
    /// All of it is here.
    Complete(HuntingAnswer),
    /// There is more than one answer holds: it has to be split.
    TooMuch,
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct HuntingClient {
    access: TenantAccess,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for HuntingClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HuntingClient").field("access", &self.access).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "Query")]
    query: &'a str,
    #[serde(rename = "Timespan")]
    timespan: &'a str,
}

impl HuntingClient {
    /// Through this tenant's door. Connects to nothing.
    #[must_use]
    pub const fn new(access: TenantAccess, clock: Arc<dyn Clock>) -> Self {
        Self { access, clock }
    }

    /// The tenant's door.
    #[must_use]
    pub const fn access(&self) -> &TenantAccess {
        &self.access
    }

    /// Runs one query. `table` is what it is about, to tell a missing table from a bad query. `timespan` as
    /// ISO 8601, normally [`query::TIMESPAN`].
    ///
    /// # Errors
    /// Anything but a whole answer.
    pub async fn run(
        &self,
        table: &Table,
        query: &str,
        timespan: &str,
    ) -> Result<HuntingAnswer, HuntingError> {
        let broken = |trouble, why: String| {
            HuntingError::new(trouble, format!("hunting in {}: {why}", table.name()))
        };
        let url = self
            .access
            .endpoint(Workload::Hunting)
            .join(PATH)
            .map_err(|error| broken(Trouble::Hold, error.to_string()))?;
        let body = serde_json::to_vec(&Body { query, timespan })
            .map_err(|error| broken(Trouble::Wrong, error.to_string()))?;
        let ask = Ask { method: reqwest::Method::POST, body: Some(body), ..Ask::get(url) };
        let started = self.clock.monotonic();
        let sent = self.access.send(Workload::Hunting, ask).await;
        let answer = sent.map_err(|error| HuntingError::of(error, table)).and_then(|answer| {
            HuntingAnswer::read(answer.body, answer.date).map_err(|why| broken(Trouble::Retry, why))
        });
        tracing::debug!(
            table = table.name(),
            query,
            rows = answer.as_ref().ok().map(|answer| answer.rows),
            milliseconds = self.clock.monotonic().saturating_sub(started).as_secs_f64() * 1e3,
            "hunting"
        );
        answer
    }

    /// Asks for the rows of a piece and proves that the answer has all of them.
    ///
    /// # Errors
    /// As [`HuntingClient::run`], [`Trouble::Split`] excepted, which is [`Fetched::TooMuch`].
    pub async fn piece(
        &self,
        subject: &Subject,
        piece: &Piece,
        limits: Limits,
    ) -> Result<Fetched, HuntingError> {
        let table = &subject.table;
        let text = query::rows_query(subject, piece, limits.take);
        let answer = match self.run(table, &text, query::TIMESPAN).await {
            Ok(answer) => answer,
            Err(HuntingError { trouble: Trouble::Split, .. }) => return Ok(Fetched::TooMuch),
            Err(error) => return Err(error),
        };
        if answer.rows >= limits.take {
            return Ok(Fetched::TooMuch);
        }
        let near = answer.rows >= limits.take / 2 || answer.body.len() >= ANSWER_BYTES / 2;
        let check = match limits.count_check {
            CountCheck::Always => true,
            CountCheck::NearLimits => near,
            CountCheck::Never => false,
        };
        if check && self.row_count(subject, piece).await? > answer.rows as u64 {
            return Ok(Fetched::TooMuch);
        }
        Ok(Fetched::Complete(answer))
    }

    /// How many rows a piece has.
    ///
    /// # Errors
    /// As [`HuntingClient::run`].
    pub async fn row_count(&self, subject: &Subject, piece: &Piece) -> Result<u64, HuntingError> {
        self.number(&subject.table, &query::row_count_query(subject, piece)).await
    }

    /// How many different identities the rows of a window have, a row's revision left aside (see
    /// [`query::keys_query`]); rows where the identity of the table is not known.
    ///
    /// # Errors
    /// As [`HuntingClient::run`].
    pub async fn count(&self, subject: &Subject, window: Window) -> Result<u64, HuntingError> {
        self.number(&subject.table, &query::keys_query(subject, window)).await
    }

    async fn number(&self, table: &Table, text: &str) -> Result<u64, HuntingError> {
        let answer = self.run(table, text, query::TIMESPAN).await?;
        let number = answer.first("Count").as_ref().and_then(super::answer::number);
        number.ok_or_else(|| {
            let why = format!("hunting in {}: the answer to a count has none", table.name());
            HuntingError::new(Trouble::Retry, why)
        })
    }

    /// All rows of a window, each chunk an answer that is proven complete. For windows of an hour or so, since
    /// all of it is in memory; see [`Walk`] for longer ones. The chunks are marked as fetched on purpose.
    ///
    /// # Errors
    /// As [`HuntingClient::run`]; also where a piece is too much and cannot be split.
    pub async fn rows(
        &self,
        subject: &Subject,
        window: Window,
        limits: Limits,
    ) -> Result<Vec<Chunk>, HuntingError> {
        let mut walk = Walk::new(subject.clone(), window, window.seconds().max(1), limits);
        let mut chunks = Vec::new();
        while !walk.is_done() {
            match walk.next(self).await {
                Ok(step) => {
                    chunks.extend(step.answer.and_then(|(piece, answer)| {
                        chunk(&walk.subject.table, &piece, &answer, true)
                    }));
                }
                // It has halved itself already: smaller is what was asked for.
                Err(HuntingError { trouble: Trouble::Slow, .. }) if walk.may_go_on_at_once() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(chunks)
    }

    /// When rows of `table` were taken in, as one of them says: `Ok(None)` where the far end does not tell,
    /// `Err(Missing)` where there is no such table.
    ///
    /// # Errors
    /// As [`HuntingClient::run`].
    pub async fn ingestion(&self, table: &Table) -> Result<Ingestion, HuntingError> {
        let answer = match self.run(table, &query::ingestion_query(table), query::TIMESPAN).await {
            Ok(answer) => answer,
            // The table resolves, the function does not.
            Err(HuntingError { trouble: Trouble::Wrong, .. }) => return Ok(Ingestion::Untold),
            Err(error) => return Err(error),
        };
        Ok(match (answer.rows, answer.first("IngestionTime")) {
            (0, _) => Ingestion::Empty,
            (_, Some(time)) if time.as_str().and_then(Ticks::parse).is_some() => Ingestion::Told,
            _ => Ingestion::Untold,
        })
    }

    /// The far end's own time: by the engine that stamps the rows, and by the head of its answer where that is
    /// earlier. A window must not end after either of them.
    ///
    /// # Errors
    /// As [`HuntingClient::run`].
    pub async fn now(&self, subject: &Subject) -> Result<Ticks, HuntingError> {
        let table = &subject.table;
        let answer = self.run(table, &query::clock_query(subject), query::TIMESPAN).await?;
        let engine = answer.table().first_mut().and_then(|row| row.time("Now"));
        match (engine, answer.date) {
            (Some(engine), Some(date)) => Ok(engine.min(date)),
            (Some(now), None) | (None, Some(now)) => Ok(now),
            (None, None) => {
                let why = format!("hunting in {}: nobody tells the time", table.name());
                Err(HuntingError::new(Trouble::Retry, why))
            }
        }
    }
}

/// Whether a table tells when its rows were taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingestion {
    /// It does.
    Told,
    /// It does not.
    Untold,
    /// It has no row to tell it by.
    Empty,
}

/// The chunk of an answer; `None` where it has no rows.
#[must_use]
pub fn chunk(
    table: &Table,
    piece: &Piece,
    answer: &HuntingAnswer,
    backfill: bool,
) -> Option<Chunk> {
    (answer.rows > 0).then(|| Chunk {
        raw: answer.body.clone(),
        shape: Shape::Hunting(table.clone()),
        position: Position::Item { what: format!("{} {piece}", table.name()).into(), item: 0 },
        observed: None,
        backfill,
    })
}

/// The way through a window, piece by piece, oldest first. An error leaves it where it was, so that it can go
/// on from there.
#[derive(Debug, Clone)]
pub struct Walk {
    /// What is asked about.
    pub subject: Subject,
    plan: Plan,
    limits: Limits,
    just_split: bool,
}

/// One step of a [`Walk`].
#[derive(Debug)]
pub struct Step {
    /// A piece that is complete, with its rows; `None` if it had to be split first.
    pub answer: Option<(Piece, HuntingAnswer)>,
    /// Up to where everything is complete now, if that has moved.
    pub complete_to: Option<Ticks>,
}

impl Walk {
    /// Through `window`, in pieces of at most `step_seconds`.
    #[must_use]
    pub fn new(subject: Subject, window: Window, step_seconds: i64, limits: Limits) -> Self {
        let plan = Plan::new(window, step_seconds, subject.shard_columns());
        Self { subject, plan, limits, just_split: false }
    }

    /// Whether it is at the end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.plan.is_done()
    }

    /// How many pieces are left, as far as is known.
    #[must_use]
    pub fn pieces_left(&self) -> usize {
        self.plan.len()
    }

    /// The piece that is next.
    #[must_use]
    pub fn ahead(&self) -> Option<&Piece> {
        self.plan.next()
    }

    /// Whether the last error has been answered by asking for less.
    #[must_use]
    pub const fn may_go_on_at_once(&self) -> bool {
        self.just_split
    }

    /// Asks once. At the end it does nothing.
    ///
    /// # Errors
    /// As [`HuntingClient::piece`]. After [`Trouble::Slow`] the piece has been halved where it could be; the far
    /// end deserves a pause all the same.
    pub async fn next(&mut self, client: &HuntingClient) -> Result<Step, HuntingError> {
        self.just_split = false;
        let Some(piece) = self.plan.next().cloned() else {
            return Ok(Step { answer: None, complete_to: None });
        };
        match client.piece(&self.subject, &piece, self.limits).await {
            Ok(Fetched::Complete(answer)) => {
                let complete_to = self.plan.finish();
                Ok(Step { answer: Some((piece, answer)), complete_to })
            }
            Ok(Fetched::TooMuch) if self.plan.split() => {
                self.just_split = true;
                Ok(Step { answer: None, complete_to: None })
            }
            Ok(Fetched::TooMuch) => {
                let why = format!(
                    "{} {piece} has more than {} rows and cannot be divided further: raise take (at most 100000), or name a split_column for a query of your own",
                    self.subject.table.name(),
                    self.limits.take
                );
                Err(HuntingError::new(Trouble::Wrong, why))
            }
            Err(error) => {
                if error.trouble == Trouble::Slow && piece.shards.is_empty() {
                    self.just_split = piece.window.seconds() > 1 && self.plan.split();
                }
                Err(error)
            }
        }
    }
}
