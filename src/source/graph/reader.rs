//! The reader of a collection: one page a poll, the mark of how far it is read, and what it remembers of the rows it
//! handed over. How a walk goes on is `walk`'s business, single incidents are `owed`'s.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::client::{Client, Collection, Manner, too_heavy};
use super::cursor::{self, Saved};
use super::page::{self, Listing, Row};
use super::rungs::Rungs;
use super::settings::Settings;
use super::walk::{Listed, Part, Progress, Question, Step, Trouble, Walk};
use crate::cloud::http::HttpError;
use crate::cloud::tenant::TenantAccess;
use crate::domain::{Chunk, CursorKey, Cursors, Failure, Position, Raw, Shape, Ticks};
use crate::journal::Clock;
use crate::pipeline::{AdapterError, Page, Source};

/// Pages of more rows than this may be refused; of so many they are not.
const SAFE_PAGE: u32 = 50;
/// How long a list that cannot be walked through is left alone.
const REST: Duration = Duration::from_secs(300);
/// Links that lead nowhere until they are no longer followed.
const LOST_LINKS: u32 = 3;

/// The source of type `incidents` or `alerts`.
pub struct Reader {
    pub(super) name: String,
    key: CursorKey,
    pub(super) client: Client,
    settings: Settings,
    shape: Shape,
    /// Where alerts are to be expanded.
    pub(super) rungs: Option<Rungs>,
    pub(super) clock: Arc<dyn Clock>,
    /// The revision of each row that was handed over last, as far back as the next window goes.
    pub(super) seen: HashMap<String, Ticks>,
    pub(super) stage: Stage,
    refused: Refused,
    /// When an owed incident may be tried again.
    pub(super) not_before: BTreeMap<String, Duration>,
}

/// What the next poll does.
pub(super) enum Stage {
    /// Begins a walk.
    Idle,
    /// Goes on with it.
    Walking(Box<Walking>),
    /// Fetches incidents that are owed.
    Owing,
}

/// A walk that goes on.
pub(super) struct Walking {
    walk: Walk,
    started: Duration,
    /// The mark when it began.
    before: Ticks,
    wide: bool,
    first_page: bool,
    lost_links: u32,
    /// A page that came without alerts, which are being fetched row by row.
    unexpanded: Option<(Asked, usize)>,
}

/// What the far end did not take, until it refuses what is left.
#[derive(Debug, Default)]
struct Refused {
    count: bool,
    size: bool,
    orderby: bool,
    links: bool,
}

/// A page as it came.
struct Asked {
    listing: Listing,
    words: String,
    date: Option<Ticks>,
    full: bool,
    expanded: bool,
}

/// Why a step brought nothing.
enum Stop {
    /// The same question again.
    Again(AdapterError),
    /// The whole walk again.
    Anew(AdapterError),
}

impl Reader {
    pub(super) fn new(
        name: &str,
        access: TenantAccess,
        collection: Collection,
        settings: Settings,
        shape: Shape,
        expand: bool,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            key: cursor::key(name),
            client: Client { access, collection },
            rungs: expand.then(|| Rungs::new(settings.page_size)),
            settings,
            shape,
            clock,
            seen: HashMap::new(),
            stage: Stage::Idle,
            refused: Refused::default(),
            not_before: BTreeMap::new(),
        }
    }

    /// The first walk of all goes back from the newest row, by the far end's stamp: never from our time.
    async fn begin_first(&mut self) -> Result<Page, AdapterError> {
        let (listing, date) = self.newest().await?;
        let mut out = Page::default();
        let Some(row) = listing.rows.first() else {
            out.pause = Some(self.settings.pause);
            return Ok(out);
        };
        let newest = row.stamp.or(date).ok_or_else(|| {
            let why = "its newest row has no lastUpdateDateTime, and the answer no date";
            self.client.unreadable(listing.raw.as_bytes(), why)
        })?;
        let saved = Saved {
            high: newest.plus_seconds(-self.settings.lookback_seconds),
            first_until: Some(newest),
            looked_back: Some(newest),
            retention_told: None,
            owed: BTreeMap::new(),
        };
        out.cursors.extend(cursor::changed(&self.key, &saved, &Cursors::new()));
        Ok(out)
    }

    async fn newest(&self) -> Result<(Listing, Option<Ticks>), AdapterError> {
        let wanted = self.client.newest()?;
        let answer = self.client.send(&wanted).await.map_err(|error| self.client.sorted(error))?;
        let shown = answer.body.clone();
        let listing =
            page::listing(answer.body).map_err(|why| self.client.unreadable(&shown, &why))?;
        Ok((listing, answer.date))
    }

    fn begin(&self, saved: &Saved) -> Box<Walking> {
        let Settings { overlap_seconds, rescan_seconds, rescan_every_seconds: every, .. } =
            self.settings;
        let due = |at: Ticks| saved.high >= at.plus_seconds(every);
        let wide = every > 0 && saved.first_until.is_none() && saved.looked_back.is_none_or(due);
        let back = if wide { rescan_seconds.max(overlap_seconds) } else { overlap_seconds };
        Box::new(Walking {
            walk: Walk::new(saved.high.plus_seconds(-back), self.settings.max_pages),
            started: self.clock.monotonic(),
            before: saved.high,
            wide,
            first_page: true,
            lost_links: 0,
            unexpanded: None,
        })
    }

    async fn walk(
        &mut self,
        mut walking: Box<Walking>,
        saved: &mut Saved,
        out: &mut Page,
    ) -> Result<(), AdapterError> {
        match self.step(&mut walking, saved, out).await {
            Ok(true) => self.end(&walking, saved, out),
            Ok(false) => self.stage = Stage::Walking(walking),
            Err(Stop::Anew(error)) => return Err(error),
            Err(Stop::Again(error)) => {
                self.stage = Stage::Walking(walking);
                return Err(error);
            }
        }
        Ok(())
    }

    /// One page of the walk. Whether the walk is over.
    async fn step(
        &mut self,
        walking: &mut Walking,
        saved: &mut Saved,
        out: &mut Page,
    ) -> Result<bool, Stop> {
        let (asked, next) = match walking.unexpanded.take() {
            Some(unexpanded) => unexpanded,
            None => match self.ask(walking).await? {
                Some(asked) => (asked, 0),
                None => {
                    let progress = walking.walk.skip_refused().map_err(|t| self.unwalkable(&t))?;
                    return Ok(self.advance(walking, saved, out, &progress, None));
                }
            },
        };
        if self.rungs.is_some() && !asked.expanded {
            match self.expand_rows(&asked.listing.rows, &asked.words, next, saved, out).await {
                Ok(next) if next < asked.listing.rows.len() => {
                    walking.unexpanded = Some((asked, next));
                    return Ok(false);
                }
                Ok(_) => {}
                Err(error) => {
                    walking.unexpanded = Some((asked, next));
                    return Err(Stop::Again(error));
                }
            }
        }
        self.take(walking, saved, out, &asked)
    }

    /// Asks the walk's question; `None` where the far end refuses to skip so far.
    async fn ask(&mut self, walking: &mut Walking) -> Result<Option<Asked>, Stop> {
        loop {
            let question = walking.walk.question();
            let how = self.manner();
            let wanted = self.client.page(&question, how).map_err(Stop::Anew)?;
            let error = match self.client.send(&wanted).await {
                Ok(answer) => {
                    let shown = answer.body.clone();
                    let listing = if answer.status == 200 {
                        page::listing(answer.body)
                    } else {
                        Err(format!("its status is {}", answer.status))
                    };
                    let listing =
                        listing.map_err(|why| Stop::Again(self.client.unreadable(&shown, &why)))?;
                    if let Some(rungs) = &mut self.rungs {
                        rungs.well(self.clock.monotonic());
                    }
                    return Ok(Some(Asked {
                        full: listing.rows.len() >= how.top as usize,
                        listing,
                        words: wanted.words,
                        date: answer.date,
                        expanded: how.expand,
                    }));
                }
                Err(error) => error,
            };
            if error.status() == Some(400) && matches!(question.part, Part::Skip(_)) {
                return Ok(None);
            }
            self.yield_to(walking, &question, how, error)?;
        }
    }

    fn manner(&self) -> Manner {
        let rung = self.rungs.as_ref().map(Rungs::size);
        let top = rung.flatten().unwrap_or(self.settings.page_size);
        Manner {
            top: if self.refused.size { top.min(SAFE_PAGE) } else { top },
            expand: matches!(rung, Some(Some(_))),
            orderby: !self.refused.orderby,
            count: !self.refused.count,
        }
    }

    /// What can be asked differently after a failure; `Ok` where it may be asked at once.
    fn yield_to(
        &mut self,
        walking: &mut Walking,
        question: &Question,
        how: Manner,
        error: HttpError,
    ) -> Result<(), Stop> {
        let linked = matches!(question.part, Part::Link(_));
        let noun = self.client.collection.noun;
        match error.status() {
            Some(400 | 404 | 410) if linked => {
                walking.lost_links += 1;
                self.refused.links |= walking.lost_links >= LOST_LINKS;
                walking.walk.begin_listing_anew();
                let text =
                    format!("a link to the next page of {noun} does not lead there any more");
                Err(Stop::Again(AdapterError::because(Failure::Retry(None), text, error)))
            }
            Some(400) => {
                let refused = &mut self.refused;
                if how.top > SAFE_PAGE {
                    refused.size = true;
                } else if how.count && question.count {
                    refused.count = true;
                } else if how.orderby {
                    refused.orderby = true;
                } else {
                    *refused = Refused::default();
                    return Err(Stop::Anew(self.client.sorted(error)));
                }
                tracing::debug!(source = self.name, error = %error, "asking for less");
                Ok(())
            }
            _ => match &mut self.rungs {
                Some(rungs) if too_heavy(&error) && how.expand => {
                    rungs.down(self.clock.monotonic());
                    if linked {
                        walking.walk.begin_listing_anew();
                    }
                    let next = rungs.size();
                    let text = format!(
                        "Graph failed to list {} {noun} with their alerts; asking for {} next",
                        how.top,
                        next.map_or("them one by one".to_owned(), |next| next.to_string())
                    );
                    Err(Stop::Again(error.during(&text)))
                }
                // It fails without alerts as well, so they are not the reason.
                Some(rungs) if too_heavy(&error) => {
                    rungs.top();
                    Err(Stop::Again(self.client.sorted(error)))
                }
                _ => Err(Stop::Again(self.client.sorted(error))),
            },
        }
    }

    /// Takes a page whose rows are complete.
    fn take(
        &mut self,
        walking: &mut Walking,
        saved: &mut Saved,
        out: &mut Page,
        asked: &Asked,
    ) -> Result<bool, Stop> {
        let listing = &asked.listing;
        let steps: Vec<Step<'_>> = listing
            .rows
            .iter()
            .map(|row| Step { key: &row.key, stamp: row.stamp, new: self.is_new(row) })
            .collect();
        let link = listing.link.as_deref();
        let page = Listed {
            rows: &steps,
            full: asked.full || (self.refused.links && link.is_some()),
            link: link.filter(|_| !self.refused.links),
            count: listing.count,
        };
        let progress = walking.walk.answered(&page).map_err(|trouble| self.unwalkable(&trouble))?;
        if std::mem::take(&mut walking.first_page) {
            self.retention(saved, out, asked.date);
        }
        let whole = self.rungs.is_none() || asked.expanded;
        if whole && steps.iter().any(|step| step.new) {
            let high = listing.rows.iter().filter_map(|row| row.stamp).max();
            let backfill =
                saved.first_until.is_some_and(|until| high.is_some_and(|at| at <= until));
            let chunk = self.chunk(listing.raw.clone(), &asked.words);
            out.chunks.push(Chunk { backfill, ..chunk });
        }
        for row in &listing.rows {
            self.owe_redirect(row, 0, saved, out);
            self.remember(row, whole, saved);
        }
        Ok(self.advance(walking, saved, out, &progress, asked.date))
    }

    /// Whether a row was not handed over with this stamp.
    pub(super) fn is_new(&self, row: &Row) -> bool {
        match (self.seen.get(&row.key), row.stamp) {
            (Some(seen), Some(stamp)) => *seen != stamp,
            (seen, _) => seen.is_none(),
        }
    }

    fn remember(&mut self, row: &Row, whole: bool, saved: &mut Saved) {
        let stamp = row.stamp.unwrap_or(saved.high);
        self.seen.insert(row.key.clone(), stamp);
        let settled =
            |owed: &cursor::Owed| stamp >= owed.stamp && (whole || owed.why == cursor::Why::Merged);
        if saved.owed.get(&row.key).is_some_and(settled) {
            saved.owed.remove(&row.key);
            self.not_before.remove(&row.key);
        }
    }

    /// Moves the mark as far as the walk allows. Whether it is over.
    fn advance(
        &mut self,
        walking: &Walking,
        saved: &mut Saved,
        out: &mut Page,
        progress: &Progress,
        date: Option<Ticks>,
    ) -> bool {
        if progress.taken_back {
            saved.high = walking.before;
        }
        if let Some(safe) = progress.safe {
            // A stamp out of the future must not carry the window away with it.
            let safe = date.map_or(safe, |date| safe.min(date));
            // What becomes visible while the walk goes on may lie behind it.
            let took = self.clock.monotonic().saturating_sub(walking.started).as_secs() + 1;
            let mark = safe.plus_seconds(-i64::try_from(took).unwrap_or(i64::MAX));
            saved.high = saved.high.max(mark);
        }
        if let Some((at, count)) = progress.missing {
            out.gaps.push(self.tie_gap(at, count));
        }
        progress.done
    }

    /// A walk is over: what lies before the next window is forgotten.
    fn end(&mut self, walking: &Walking, saved: &mut Saved, out: &mut Page) {
        saved.first_until = None;
        if walking.wide {
            saved.looked_back = Some(saved.high);
        }
        let kept = saved.high.plus_seconds(-self.settings.overlap_seconds);
        self.seen.retain(|_, stamp| *stamp >= kept);
        self.rest_or_owe(saved, out);
    }

    /// What follows when there is nothing to walk through.
    pub(super) fn rest_or_owe(&mut self, saved: &Saved, out: &mut Page) {
        if self.due(saved).next().is_some() {
            self.stage = Stage::Owing;
        } else {
            self.stage = Stage::Idle;
            out.pause = Some(self.settings.pause);
        }
    }

    pub(super) fn chunk(&self, raw: Raw, words: &str) -> Chunk {
        Chunk {
            raw,
            shape: self.shape.clone(),
            position: Position::Item { what: words.into(), item: 0 },
            observed: None,
            backfill: false,
        }
    }

    fn unwalkable(&self, trouble: &Trouble) -> Stop {
        let text = format!("reading {} from Graph: {trouble}", self.client.collection.noun);
        Stop::Anew(AdapterError::new(Failure::Retry(Some(REST)), text))
    }
}

#[async_trait]
impl Source for Reader {
    fn name(&self) -> &str {
        &self.name
    }

    async fn poll(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        let Some(mut saved) = cursor::read(&self.key, cursors)? else {
            return self.begin_first().await;
        };
        let mut out = Page::default();
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Owing => self.settle_owed(&mut saved, &mut out).await?,
            Stage::Walking(walking) => self.walk(walking, &mut saved, &mut out).await?,
            Stage::Idle => self.walk(self.begin(&saved), &mut saved, &mut out).await?,
        }
        out.cursors.extend(cursor::changed(&self.key, &saved, cursors));
        out.trouble = Self::trouble(&saved);
        Ok(out)
    }

    async fn commit(&mut self, _: &Cursors) -> Result<(), AdapterError> {
        Ok(())
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        let (listing, date) = self.newest().await?;
        let Collection { noun, permission, .. } = self.client.collection;
        let newest = listing.rows.first().and_then(|row| row.stamp);
        let seen = match (newest, date) {
            (Some(newest), _) => format!("the newest changed at {newest}"),
            (None, _) => "there are none yet".to_owned(),
        };
        Ok(format!("{noun} can be read from Graph ({permission} is granted); {seen}"))
    }
}
