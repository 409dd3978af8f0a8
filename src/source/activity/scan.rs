//! One look at the listing: windows of at most a day from behind the mark to the server's now, each read page by
//! page to its end. What it names and is not known goes into the queue; the mark moves only when a window is listed
//! to its end and everything it named is settled.
//!
//! The mark is the server's own stamps (the newest `contentCreated` that was listed), never a clock: a clock only
//! says where the listing ends, and keeps a quiet feed's mark from falling a day behind.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use reqwest::Url;

use super::super::planted::PollBug;
use super::blob::Blob;
use super::feed::{Draft, Feed};
use super::seen::IdHash;
use super::trouble::{Problem, Sort, Trouble};
use super::wire::{Api, Item};
use crate::domain::{Failure, Gap, GapCause, Ticks};
use crate::pipeline::AdapterError;

/// The widest window that the API answers in full, in seconds.
const WINDOW_SECONDS: i64 = 86_400;

/// Seconds that the API keeps content, less some minutes for clocks that differ.
const RETENTION_SECONDS: i64 = 7 * 86_400 - 300;

/// Seconds that the mark of a quiet feed may be behind the server's time.
const QUIET_SECONDS: i64 = 86_400;

/// Pages of one window that are followed.
const PAGES: u32 = 10_000;

/// Failures of one page in a row until its window is listed from its beginning again.
const PAGE_FAILURES: u32 = 5;

/// Links gone stale in one window until the pipeline is asked to wait.
const STALE_PAGES: u32 = 3;

/// A look at the listing, in progress.
pub struct Scan {
    /// The server's time when it began.
    until: Ticks,
    from: Ticks,
    to: Ticks,
    next: Next,
    /// Links of this window that were followed.
    links: HashSet<String>,
    pages: u32,
    failures: u32,
    stale: u32,
    /// The newest stamp that was listed.
    newest: Option<Ticks>,
    /// What this scan has queued.
    queued: HashSet<IdHash>,
    /// Listed, and to be fetched.
    pub queue: VecDeque<Blob>,
}

/// The page of a window that comes next.
enum Next {
    First,
    Link(Url),
    End,
}

impl Scan {
    /// Whether the window is listed to its end.
    #[must_use]
    pub const fn listed(&self) -> bool {
        matches!(self.next, Next::End)
    }

    /// Lists the window from its beginning.
    fn again(&mut self) {
        self.next = Next::First;
        self.links.clear();
        (self.pages, self.failures) = (0, 0);
    }
}

impl Feed {
    /// Begins a look at the listing.
    pub(super) fn begin(&mut self, api: &Api, draft: &mut Draft) -> Result<(), Problem> {
        let poll = Duration::from_secs(self.config.poll_seconds);
        let now = api.server_now();
        let floor = now.plus_seconds(-RETENTION_SECONDS);
        let from = match self.mark {
            None => {
                let hours = i64::try_from(self.config.lookback_hours).unwrap_or(i64::MAX);
                let from = now.plus_seconds(hours.saturating_mul(-3600)).max(floor);
                self.mark = Some(from);
                self.changed = true;
                from
            }
            Some(mark) if mark > now.plus_seconds(3600) => {
                let message = format!("the cursor is at {mark}, but the server's time is {now}");
                return Err(Problem::Feed(AdapterError::new(Failure::Retry(Some(poll)), message)));
            }
            Some(mark) => {
                if mark < floor {
                    self.outage(mark, floor, draft);
                }
                let mark = mark.max(floor);
                let from = self.relisted_from(mark).max(floor);
                match () {
                    () if api.planted.is(PollBug::NoOverlap) => mark,
                    () if api.planted.is(PollBug::ExclusiveStart) => mark.plus_seconds(1),
                    () => from,
                }
            }
        };
        self.next_scan = api.elapsed().saturating_add(poll);
        let (from, until) = (whole_second(from), whole_second(now));
        if from >= until {
            return Ok(());
        }
        let width = if api.planted.is(PollBug::WideWindow) { i64::MAX } else { WINDOW_SECONDS };
        self.scan = Some(Scan {
            until,
            from,
            to: from.plus_seconds(width).min(until),
            next: Next::First,
            links: HashSet::new(),
            pages: 0,
            failures: 0,
            stale: 0,
            newest: None,
            queued: HashSet::new(),
            queue: VecDeque::new(),
        });
        Ok(())
    }

    /// What was made between `mark` and `floor` may be gone.
    fn outage(&mut self, mark: Ticks, floor: Ticks, draft: &mut Draft) {
        self.mark = Some(floor);
        self.changed = true;
        draft.gaps.push(Gap {
            source: (&*self.source).into(),
            what: self.content.as_str().into(),
            from: mark.to_string().into(),
            to: floor.to_string().into(),
            count: None,
            cause: GapCause::RetentionPassed,
            detail: "nothing was read for longer than the API keeps content".into(),
        });
    }

    /// Lists the next page of the window.
    pub(super) async fn list(&mut self, api: &mut Api, draft: &mut Draft) -> Result<(), Problem> {
        let Some(scan) = &mut self.scan else { return Ok(()) };
        let url = match &scan.next {
            Next::First => api.first_page(self.content, scan.from, scan.to)?,
            Next::Link(url) => url.clone(),
            Next::End => return Ok(()),
        };
        let listing = match api.listing(url).await {
            Ok(listing) => listing,
            Err(trouble) => return self.page_failed(trouble, api),
        };
        scan.failures = 0;
        for item in listing.items {
            self.enlist(item, api, draft);
        }
        let Some(scan) = &mut self.scan else { return Ok(()) };
        scan.pages += 1;
        let Some(link) = listing.next else {
            scan.next = Next::End;
            return Ok(());
        };
        let url = api.next_page(&link).map_err(Problem::Feed)?;
        if scan.links.insert(url.as_str().to_owned()) && scan.pages < PAGES {
            scan.next = Next::Link(url);
            return Ok(());
        }
        let (pages, content) = (scan.pages, self.content.as_str());
        scan.again();
        let message = format!(
            "the listing of {content} goes in a circle or has no end: after {pages} pages it is begun again later"
        );
        let later = Duration::from_secs(self.config.poll_seconds);
        Err(Problem::Feed(AdapterError::new(Failure::Retry(Some(later)), message)))
    }

    /// A page could not be listed: what that means for the window.
    fn page_failed(&mut self, trouble: Trouble, api: &mut Api) -> Result<(), Problem> {
        let Some(scan) = &mut self.scan else { return Err(trouble.into()) };
        if api.planted.is(PollBug::FailedPageSkipped) {
            scan.next = Next::End;
            return Ok(());
        }
        match trouble.sort {
            Sort::StalePage => {
                scan.again();
                scan.stale += 1;
                if scan.stale % STALE_PAGES != 0 {
                    return Ok(());
                }
            }
            Sort::Window => {
                // Our idea of the server's time is wrong. Listing the subscriptions tells it anew.
                self.scan = None;
                self.next_scan = Duration::ZERO;
                self.subscribed = false;
                api.forget_time();
            }
            Sort::NoSubscription => self.subscribed = false,
            _ => {
                scan.failures += 1;
                if scan.failures >= PAGE_FAILURES {
                    scan.again();
                }
            }
        }
        Err(trouble.into())
    }

    /// Queues what the listing names, unless it is known.
    fn enlist(&mut self, item: Item, api: &Api, draft: &mut Draft) {
        let Some(scan) = &mut self.scan else { return };
        let stamp = item.content_created.as_deref().and_then(Ticks::parse);
        let id = item.content_id.filter(|id| !id.is_empty());
        let uri = item.content_uri.filter(|uri| !uri.is_empty());
        let (id, uri) = match (id, uri) {
            (Some(id), Some(uri)) => (id, uri),
            (Some(id), None) => {
                let uri = api.usual_uri(&id);
                (id, uri)
            }
            (None, Some(uri)) => (uri.clone(), uri),
            (None, None) => {
                draft.gaps.push(Gap {
                    source: (&*self.source).into(),
                    what: self.content.as_str().into(),
                    from: stamp.unwrap_or(scan.from).to_string().into(),
                    to: stamp.unwrap_or(scan.to).to_string().into(),
                    count: Some(1),
                    cause: GapCause::RemoteGone,
                    detail: "the listing names a blob without an id or an address".into(),
                });
                return;
            }
        };
        if let Some(stamp) = stamp.filter(|stamp| *stamp < scan.to) {
            scan.newest = scan.newest.max(Some(stamp));
        }
        let created = stamp.map_or(scan.to, |stamp| stamp.clamp(scan.from, scan.to));
        let expires = item.content_expiration.as_deref().and_then(Ticks::parse);
        let blob = Blob { id, uri, created, expires };
        let hash = blob.hash();
        if self.knows(hash) {
            return;
        }
        if let Some(scan) = &mut self.scan
            && scan.queued.insert(hash)
        {
            scan.queue.push_back(blob);
        }
    }

    /// Everything that the window named is settled or set aside: moves the mark, and on to the next window.
    pub(super) fn finish_window(&mut self, api: &Api) {
        let Some(scan) = &mut self.scan else { return };
        let quiet = scan.until.plus_seconds(-QUIET_SECONDS);
        let mut reached = scan.newest.map_or(quiet, |newest| newest.max(quiet)).min(scan.to);
        if api.planted.is(PollBug::OurNowAsMark) {
            reached = api.our_now();
        }
        if scan.to < scan.until {
            scan.from = scan.to;
            scan.to = scan.from.plus_seconds(WINDOW_SECONDS).min(scan.until);
            scan.stale = 0;
            scan.queued.clear();
            scan.again();
        } else {
            self.scan = None;
        }
        if self.mark < Some(reached) {
            self.mark = Some(reached);
            self.changed = true;
            self.seen.prune(self.relisted_from(reached));
        }
    }
}

/// Down to the whole second, which is all that the listing takes.
fn whole_second(time: Ticks) -> Ticks {
    Ticks::from_millis(time.as_seconds().saturating_mul(1000))
}
