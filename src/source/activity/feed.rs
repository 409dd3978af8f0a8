//! One content type: what the journal holds of it, and what is due next. Asking the API is in `subscription`,
//! `scan` and `fetch`, which add to this type.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::planted::{Planted, PollBug};
use super::blob::Blob;
use super::scan::Scan;
use super::seen::{IdHash, Seen};
use super::trouble::Problem;
use super::wire::Api;
use super::{ActivityConfig, ContentType};
use crate::domain::{Chunk, Cursor, CursorKey, Cursors, Failure, Gap, GapCause, Ticks};
use crate::pipeline::AdapterError;
use crate::pipeline::backoff::Backoff;

/// Blobs that may be set aside at once. At that many the content type stops, since the trouble is not the blobs'.
pub(super) const ASIDE_CAP: usize = 256;

/// The cursor of a content type. Those below its key are [`Seen`]'s.
#[derive(Debug, Serialize, Deserialize)]
struct Durable {
    /// Every blob created before this and listed until then is settled or set aside.
    mark: Ticks,
    /// Blobs that could not be fetched yet.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    aside: Vec<Blob>,
}

/// A blob that could not be fetched yet, with its own back-off.
pub(super) struct Aside {
    pub(super) blob: Blob,
    pub(super) tries: u32,
    pub(super) due: Duration,
    pub(super) backoff: Backoff,
}

impl Aside {
    pub(super) fn new(blob: Blob) -> Self {
        let backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(300));
        Self { blob, tries: 0, due: Duration::ZERO, backoff }
    }
}

/// A blob that has been fetched and is in no page yet.
pub(super) struct Fetched {
    pub(super) blob: Blob,
    pub(super) body: Vec<u8>,
}

/// The page that is being filled.
pub struct Draft {
    /// Its data.
    pub chunks: Vec<Chunk>,
    /// Its gaps.
    pub gaps: Vec<Gap>,
    /// Whether it takes no more.
    pub full: bool,
    pub(super) bytes: usize,
    pub(super) most: usize,
}

impl Draft {
    /// An empty one for `most` bytes.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { chunks: Vec::new(), gaps: Vec::new(), full: false, bytes: 0, most }
    }
}

/// One content type.
pub struct Feed {
    pub(super) source: Arc<str>,
    pub(super) content: ContentType,
    pub(super) config: Arc<ActivityConfig>,
    key: CursorKey,
    // What the journal holds, and the page in hand will.
    pub(super) mark: Option<Ticks>,
    pub(super) aside: Vec<Aside>,
    pub(super) seen: Seen,
    pub(super) changed: bool,
    last: Option<Cursor>,
    // What a restart forgets.
    pub(super) subscribed: bool,
    pub(super) started: Option<Duration>,
    pub(super) repairs: u32,
    pub(super) scan: Option<Scan>,
    pub(super) next_scan: Duration,
    /// Not to be asked before this.
    pub blocked_until: Duration,
    pub(super) ready: VecDeque<Fetched>,
}

impl Feed {
    /// A feed that has not read its cursor yet.
    #[must_use]
    pub fn new(source: &str, content: ContentType, config: Arc<ActivityConfig>) -> Self {
        Self {
            source: source.into(),
            content,
            config,
            key: format!("{source}/{}", content.as_str()).into(),
            mark: None,
            aside: Vec::new(),
            seen: Seen::default(),
            changed: false,
            last: None,
            subscribed: false,
            started: None,
            repairs: 0,
            scan: None,
            next_scan: Duration::ZERO,
            blocked_until: Duration::ZERO,
            ready: VecDeque::new(),
        }
    }

    /// Its content type.
    #[must_use]
    pub const fn content(&self) -> ContentType {
        self.content
    }

    /// Takes up the durable cursor, unless it is the one that was given last.
    ///
    /// # Errors
    /// [`Failure::Hold`] with the cursor that cannot be read: beginning anew would be a silent loss.
    pub fn load(&mut self, cursors: &Cursors) -> Result<(), AdapterError> {
        let found = cursors.get(&self.key);
        if found == self.last.as_ref() {
            return Ok(());
        }
        let broken = |key: &CursorKey, why: &str| {
            AdapterError::new(Failure::Hold, format!("the cursor {key} cannot be read: {why}"))
        };
        let mut fresh = Self::new(&self.source, self.content, Arc::clone(&self.config));
        if let Some(text) = found {
            let durable: Durable = serde_json::from_str(text)
                .map_err(|error| broken(&self.key, &error.to_string()))?;
            fresh.mark = Some(durable.mark);
            fresh.aside = durable.aside.into_iter().map(Aside::new).collect();
            fresh.seen = Seen::load(&self.key, cursors)
                .map_err(|key| broken(&key, "it holds no content ids"))?;
            fresh.seen.prune(fresh.relisted_from(durable.mark));
        }
        fresh.last = found.cloned();
        *self = fresh;
        Ok(())
    }

    /// Where a listing that begins behind `mark` begins.
    pub(super) fn relisted_from(&self, mark: Ticks) -> Ticks {
        let minutes = i64::try_from(self.config.overlap_minutes).unwrap_or(i64::MAX);
        mark.plus_seconds(minutes.saturating_mul(-60))
    }

    /// Adds the cursors that changed.
    pub fn save(&mut self, cursors: &mut Vec<(CursorKey, Cursor)>, planted: Planted) {
        let Some(mark) = self.mark else { return };
        if !self.changed && !self.seen.changed() {
            return;
        }
        let others = cursors.len();
        self.seen.save(&self.key, cursors);
        if planted.is(PollBug::SeenNotDurable) {
            cursors.truncate(others);
        }
        self.changed = false;
        let aside = self.aside.iter().map(|aside| aside.blob.clone()).collect();
        let text: Cursor =
            serde_json::to_string(&Durable { mark, aside }).unwrap_or_default().into();
        if self.last.as_ref() != Some(&text) {
            self.last = Some(Arc::clone(&text));
            cursors.push((Arc::clone(&self.key), text));
        }
    }

    /// A blob is in the page, or its loss is: it is not fetched again.
    pub(super) fn settle(&mut self, blob: &Blob) {
        let id = blob.hash();
        // What is older is not listed again.
        if self.mark.is_some_and(|mark| blob.created >= self.relisted_from(mark)) {
            self.seen.insert(blob.created, id);
        }
        let before = self.aside.len();
        self.aside.retain(|aside| aside.blob.hash() != id);
        self.changed |= self.aside.len() != before;
    }

    /// Whether this blob needs no fetching, or is in hand.
    pub(super) fn knows(&self, id: IdHash) -> bool {
        self.seen.contains(id) || self.aside.iter().any(|aside| aside.blob.hash() == id)
    }

    /// The gap that `blob` has become.
    pub(super) fn lose(&mut self, blob: &Blob, cause: GapCause, detail: &str, draft: &mut Draft) {
        let content = self.content.as_str();
        tracing::error!(
            source = &*self.source,
            content,
            blob = crate::cloud::plain::plain(&blob.id, 200),
            cause = cause.as_str(),
            detail,
            "a content blob is lost"
        );
        draft.gaps.push(blob.gap(&self.source, content, cause, detail));
        self.settle(blob);
    }

    /// Whether it is left alone for now.
    #[must_use]
    pub fn blocked(&self, api: &Api) -> bool {
        api.elapsed() < self.blocked_until
    }

    /// Blobs that are known and not handed over.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let queued = self.scan.as_ref().map_or(0, |scan| scan.queue.len());
        (queued + self.aside.len() + self.ready.len()) as u64
    }

    /// How long nothing is due here.
    #[must_use]
    pub fn wait(&self, api: &Api) -> Duration {
        let scan = match &self.scan {
            Some(_) if self.aside.len() >= ASIDE_CAP => Duration::MAX,
            Some(_) => Duration::ZERO,
            None => self.next_scan,
        };
        let due = self.aside.iter().map(|aside| aside.due).fold(scan, Duration::min);
        due.max(self.blocked_until).saturating_sub(api.elapsed())
    }

    /// Does the next thing that is due, if any: whether it did.
    ///
    /// # Errors
    /// What came in between; nothing that the draft or the cursor holds depends on it.
    pub async fn step(&mut self, api: &mut Api, draft: &mut Draft) -> Result<bool, Problem> {
        if !self.ready.is_empty() {
            self.hand_over(draft);
            return Ok(true);
        }
        if !self.subscribed {
            self.subscribe(api, draft).await?;
            return Ok(true);
        }
        let batch = self.next_batch(api);
        if !batch.is_empty() {
            self.fetch(batch, api, draft).await?;
            return Ok(true);
        }
        match &self.scan {
            None if api.elapsed() < self.next_scan => Ok(false),
            None => {
                self.begin(api, draft)?;
                Ok(true)
            }
            // Set aside what there is room for first.
            Some(scan) if !scan.queue.is_empty() => Ok(false),
            Some(scan) if scan.listed() => {
                self.finish_window(api);
                Ok(true)
            }
            Some(_) => {
                self.list(api, draft).await?;
                Ok(true)
            }
        }
    }
}
