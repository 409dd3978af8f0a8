//! Fetching blobs, several at once, and putting them into pages. One that fails is set aside and tried again by
//! itself; what cannot be had becomes a gap.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::planted::PollBug;
use super::blob::{Blob, Body};
use super::feed::{ASIDE_CAP, Aside, Draft, Feed, Fetched};
use super::trouble::{Problem, Sort, Trouble, no_answer};
use super::wire::{self, Api};
use crate::domain::{Chunk, Failure, GapCause, Position, Raw, Shape};
use crate::pipeline::AdapterError;

/// Tries of a blob that is larger than we take, or odd, before that is settled.
const TRIES: u32 = 3;

/// What came back for one blob.
type Answered = Result<(Vec<u8>, Body), Trouble>;

/// What a batch showed about the far end.
#[derive(Default)]
struct Weather {
    /// Something was answered as it should be.
    served: bool,
    /// Something stands in everybody's way.
    blocked: Option<Problem>,
    /// The last failure of a single blob.
    failed: Option<AdapterError>,
}

impl Feed {
    /// The blobs to fetch now: those set aside whose time has come, then those of the queue.
    pub(super) fn next_batch(&mut self, api: &Api) -> Vec<Blob> {
        let most = self.config.parallel_fetches;
        let now = api.elapsed();
        let due = self.aside.iter().filter(|aside| aside.due <= now);
        let mut batch: Vec<Blob> = due.map(|aside| aside.blob.clone()).take(most).collect();
        if let Some(scan) = &mut self.scan {
            let room = ASIDE_CAP.saturating_sub(self.aside.len());
            let more = most.saturating_sub(batch.len()).min(room).min(scan.queue.len());
            batch.extend(scan.queue.drain(..more));
        }
        batch
    }

    /// Fetches them beside each other.
    pub(super) async fn fetch(
        &mut self,
        batch: Vec<Blob>,
        api: &Api,
        draft: &mut Draft,
    ) -> Result<(), Problem> {
        let mut results: Vec<Option<Answered>> = Vec::new();
        let mut running = JoinSet::new();
        for (place, blob) in batch.iter().enumerate() {
            match api.blob_url(blob) {
                Ok(url) => {
                    let access = api.access();
                    running.spawn(async move { (place, wire::blob(&access, url).await) });
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(Trouble { sort: Sort::Item, error }))),
            }
        }
        while let Some(ended) = running.join_next().await {
            // One that panicked stays without a result.
            if let Ok((place, result)) = ended
                && let Some(slot) = results.get_mut(place)
            {
                *slot = Some(result);
            }
        }
        let mut weather = Weather::default();
        let mut back = Vec::new();
        for (blob, result) in batch.into_iter().zip(results) {
            let result = result.unwrap_or_else(|| Err(no_answer("fetching a blob", "it panicked")));
            if let Some(blob) = self.take(blob, result, api, draft, &mut weather) {
                back.push(blob);
            }
        }
        if let Some(scan) = &mut self.scan {
            for blob in back.into_iter().rev() {
                scan.queue.push_front(blob);
            }
        }
        match weather {
            Weather { blocked: Some(problem), .. } => Err(problem),
            Weather { served: false, failed: Some(error), .. } => Err(Problem::Everybody(error)),
            _ => Ok(()),
        }
    }

    /// What became of one blob. It is given back if it is to be fetched by the queue again.
    fn take(
        &mut self,
        blob: Blob,
        result: Answered,
        api: &Api,
        draft: &mut Draft,
        weather: &mut Weather,
    ) -> Option<Blob> {
        let (sort, error, body) = match result {
            Ok((body, Body::Whole)) => {
                weather.served = true;
                self.have(blob, body, api);
                return None;
            }
            Ok((_, Body::Broken | Body::Odd)) if api.planted.is(PollBug::BrokenBodyIsEmpty) => {
                self.settle(&blob);
                return None;
            }
            Ok((body, Body::Odd)) => {
                let trouble = no_answer("fetching a content blob", "the answer is not quite JSON");
                (trouble.sort, trouble.error, Some(body))
            }
            Ok((_, Body::Broken)) => {
                let trouble = no_answer("fetching a content blob", "the answer is no whole array");
                (trouble.sort, trouble.error, None)
            }
            Err(trouble) => (trouble.sort, trouble.error, None),
        };
        match sort {
            Sort::Everybody | Sort::Feed | Sort::NoSubscription => {
                self.subscribed &= sort != Sort::NoSubscription;
                weather.blocked.get_or_insert(Trouble { sort, error }.into());
                // One that was set aside stays there and is still due.
                return (!self.knows(blob.hash())).then_some(blob);
            }
            Sort::Gone(cause) => {
                weather.served = true;
                if api.planted.is(PollBug::GapUnsaid) {
                    self.settle(&blob);
                } else {
                    self.lose(&blob, cause, &crate::pipeline::chain(&error), draft);
                }
            }
            Sort::Oversize | Sort::Item | Sort::Window | Sort::StalePage | Sort::AlreadyEnabled => {
                if api.planted.is(PollBug::ItemFailureSwallowed) {
                    self.settle(&blob);
                    return None;
                }
                // An answer, if an odd one, says that the far end is there.
                weather.served |= body.is_some() || sort == Sort::Oversize;
                self.set_aside(blob, sort, &error, body, api, draft);
                weather.failed = Some(error);
            }
        }
        None
    }

    /// A blob is there: it waits for room in a page.
    fn have(&mut self, blob: Blob, body: Vec<u8>, api: &Api) {
        if let Some(aside) = self.aside.iter_mut().find(|aside| aside.blob.id == blob.id) {
            aside.due = Duration::MAX;
        }
        if api.planted.is(PollBug::CursorAhead) {
            self.settle(&blob);
        }
        self.ready.push_back(Fetched { blob, body });
    }

    /// A blob could not be had: it is tried again by itself, until there is no hope.
    fn set_aside(
        &mut self,
        blob: Blob,
        sort: Sort,
        error: &AdapterError,
        body: Option<Vec<u8>>,
        api: &Api,
        draft: &mut Draft,
    ) {
        let place = self.aside.iter().position(|aside| aside.blob.id == blob.id);
        let place = place.unwrap_or_else(|| {
            self.aside.push(Aside::new(blob.clone()));
            self.changed = true;
            self.aside.len() - 1
        });
        let now = api.elapsed();
        let Some(aside) = self.aside.get_mut(place) else { return };
        aside.tries = aside.tries.saturating_add(1);
        let after = if let Failure::Retry(after) = error.failure { after } else { None };
        let wait = aside.backoff.next(after);
        aside.due = now.saturating_add(wait);
        let tries = aside.tries;
        let words = crate::pipeline::chain(error);
        if tries >= TRIES && sort == Sort::Oversize {
            self.lose(&blob, GapCause::TooLarge, &words, draft);
        } else if blob.expired(api.server_now()) {
            self.lose(&blob, GapCause::RetentionPassed, &words, draft);
        } else if tries >= TRIES
            && let Some(body) = body
        {
            // It stays as it is: what can be read of it is read, the rest becomes dead letters.
            self.have(blob, body, api);
        } else {
            tracing::warn!(
                source = &*self.source,
                content = self.content.as_str(),
                blob = crate::cloud::plain::plain(&blob.id, 200),
                tries,
                retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                error = words,
                "a content blob could not be fetched; its neighbours go on"
            );
        }
    }

    /// Puts what has been fetched into the page, while there is room.
    pub(super) fn hand_over(&mut self, draft: &mut Draft) {
        while let Some(Fetched { body, .. }) = self.ready.front() {
            let bytes = draft.bytes.saturating_add(body.len());
            if bytes > draft.most && !draft.chunks.is_empty() {
                draft.full = true;
                return;
            }
            let Some(Fetched { blob, body }) = self.ready.pop_front() else { return };
            draft.bytes = bytes;
            draft.full = bytes >= draft.most;
            self.settle(&blob);
            draft.chunks.push(Chunk {
                raw: Raw::from(body),
                shape: Shape::Activity,
                position: Position::Item { what: Arc::from(blob.id), item: 0 },
                observed: Some(blob.created),
                backfill: false,
            });
        }
    }
}
