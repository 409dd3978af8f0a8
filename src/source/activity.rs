//! The Office 365 Management Activity API: subscriptions, the listing of content, and its blobs. It hands over
//! whole blobs; cutting them into records is `normalize`'s business. Notifications by webhook are left out on
//! purpose: they only point at the same blobs, arrive later than a poll, and need an open port.
//!
//! Guarantee: every blob that the API lists within `overlap_minutes` of its creation is handed over, at least once
//! after a crash and once otherwise. What it lists and cannot give (expired, deleted, too large) becomes a gap
//! that names it; a subscription that was off, and an outage longer than the API's seven days, become gaps with
//! their ends. A blob that cannot be fetched is set aside in the cursor by name and tried again by itself: its
//! neighbours go on.

mod blob;
mod feed;
mod fetch;
mod scan;
mod seen;
mod subscription;
mod trouble;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use self::feed::{Draft, Feed};
use self::trouble::Problem;
use self::wire::Api;
use super::planted::Planted;
use crate::cloud::tenant::TenantAccess;
use crate::domain::{Cursors, Failure};
use crate::journal::Clock;
use crate::pipeline::port::{AdapterError, Page, Source};

/// A kind of content that is subscribed to by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum ContentType {
    /// Everything of Defender for Office 365, alerts, investigations, submissions, quarantine, and more.
    #[serde(rename = "Audit.General")]
    General,
    /// Exchange: administrators and mailboxes.
    #[serde(rename = "Audit.Exchange")]
    Exchange,
    /// Entra: changes of the directory and logons.
    #[serde(rename = "Audit.AzureActiveDirectory")]
    AzureActiveDirectory,
    /// SharePoint and OneDrive.
    #[serde(rename = "Audit.SharePoint")]
    SharePoint,
    /// Data loss prevention of every workload; its details need `ActivityFeed.ReadDlp`.
    #[serde(rename = "DLP.All")]
    Dlp,
}

impl ContentType {
    /// The API's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::General => "Audit.General",
            Self::Exchange => "Audit.Exchange",
            Self::AzureActiveDirectory => "Audit.AzureActiveDirectory",
            Self::SharePoint => "Audit.SharePoint",
            Self::Dlp => "DLP.All",
        }
    }
}

/// `[source.<name>] type = "activity"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActivityConfig {
    /// What to subscribe to. Default: `Audit.General`, where all of Defender for Office 365 is.
    pub content_types: Vec<ContentType>,
    /// Whose quota the requests count against: the tenant id of whoever runs this. Default: the tenant's own id.
    pub publisher_id: Option<String>,
    /// Seconds between two looks at the listing. Default 120: content takes an hour to appear anyway.
    pub poll_seconds: u64,
    /// Minutes that are listed again at each look, since content appears out of order; 60 to 1440. Default 120.
    pub overlap_minutes: u64,
    /// Hours that the very first run looks back, at most the 168 that the API keeps. Default 24.
    pub lookback_hours: u64,
    /// Blobs that are fetched at once, 1 to 16. Default 4. Each may be as large as the tenant's
    /// `http.max_response_bytes`.
    pub parallel_fetches: usize,
    /// Most bytes in a page, unless a single blob is larger. Default 4 MiB.
    pub page_bytes: usize,
}

impl Default for ActivityConfig {
    fn default() -> Self {
        Self {
            content_types: vec![ContentType::General],
            publisher_id: None,
            poll_seconds: 120,
            overlap_minutes: 120,
            lookback_hours: 24,
            parallel_fetches: 4,
            page_bytes: 4 << 20,
        }
    }
}

/// Hours that the API keeps content.
const RETENTION_HOURS: u64 = 168;

impl ActivityConfig {
    /// What is wrong with it, if anything.
    fn check(&self) -> Result<(), &'static str> {
        if self.content_types.is_empty() {
            return Err("`content_types` is empty: name at least Audit.General");
        }
        if !(60..=1440).contains(&self.overlap_minutes) {
            return Err("`overlap_minutes` must be 60 to 1440");
        }
        if !(1..=RETENTION_HOURS).contains(&self.lookback_hours) {
            return Err("`lookback_hours` must be 1 to 168: the API keeps seven days");
        }
        if !(1..=16).contains(&self.parallel_fetches) {
            return Err("`parallel_fetches` must be 1 to 16");
        }
        if self.poll_seconds == 0 || self.page_bytes == 0 {
            return Err("`poll_seconds` and `page_bytes` must be over 0");
        }
        Ok(())
    }
}

/// How long one poll goes on filling its page.
const FILL: Duration = Duration::from_secs(1);

/// How long a content type that is refused is left alone while there are others.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// See the module.
pub struct Activity {
    name: Arc<str>,
    api: Api,
    page_bytes: usize,
    feeds: Vec<Feed>,
    /// Which feed begins the next page.
    turn: usize,
    /// What went wrong while a page was filled, told after that page.
    owed: Option<AdapterError>,
}

impl Activity {
    /// Checks the settings; connects to nothing.
    ///
    /// # Errors
    /// [`Failure::Hold`] with the setting that is wrong.
    pub fn new(
        name: &str,
        config: ActivityConfig,
        access: TenantAccess,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AdapterError> {
        config.check().map_err(|why| AdapterError::new(Failure::Hold, why))?;
        let mut contents = config.content_types.clone();
        contents.sort_unstable();
        contents.dedup();
        let config = Arc::new(config);
        let feeds =
            contents.into_iter().map(|content| Feed::new(name, content, Arc::clone(&config)));
        Ok(Self {
            name: name.into(),
            feeds: feeds.collect(),
            page_bytes: config.page_bytes,
            api: Api::new(access, config.publisher_id.as_deref(), clock)?,
            turn: 0,
            owed: None,
        })
    }

    /// With a defect, to prove that the tests see it.
    #[must_use]
    pub fn planted(mut self, planted: Planted) -> Self {
        self.api.planted = planted;
        self
    }

    /// Does what is due until the page is full, the time is up, or nothing is due.
    async fn fill(&mut self, draft: &mut Draft) -> Result<Done, AdapterError> {
        let began = self.api.elapsed();
        let mut idle = 0;
        while idle < self.feeds.len() {
            if draft.full || self.api.elapsed().saturating_sub(began) >= FILL {
                return Ok(Done::More);
            }
            let several = self.feeds.len() > 1;
            let count = self.feeds.len();
            let Some(feed) = self.feeds.get_mut(self.turn % count) else { break };
            if feed.blocked(&self.api) {
                (self.turn, idle) = (self.turn + 1, idle + 1);
                continue;
            }
            match feed.step(&mut self.api, draft).await {
                Ok(true) => idle = 0,
                Ok(false) => (self.turn, idle) = (self.turn + 1, idle + 1),
                Err(Problem::Everybody(error)) => return Err(error),
                Err(Problem::Feed(error)) => {
                    self.turn += 1;
                    return Err(if several { feed.block(error, &self.api) } else { error });
                }
            }
        }
        Ok(Done::Nothing)
    }
}

/// How filling a page ended.
enum Done {
    /// There is more to do at once.
    More,
    /// Nothing is due.
    Nothing,
}

impl Feed {
    /// Leaves this content type alone for a while, so that the others are not held up by it.
    fn block(&mut self, error: AdapterError, api: &Api) -> AdapterError {
        let (pause, failure) = match error.failure {
            Failure::Retry(after) => (after.unwrap_or_default(), Failure::Retry(None)),
            other @ (Failure::Hold | Failure::Reject | Failure::Fatal) => (REFUSED_PAUSE, other),
        };
        self.blocked_until = api.elapsed().saturating_add(pause);
        AdapterError { failure, ..error }
    }
}

#[async_trait]
impl Source for Activity {
    fn name(&self) -> &str {
        &self.name
    }

    async fn poll(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        if let Some(error) = self.owed.take() {
            return Err(error);
        }
        for feed in &mut self.feeds {
            feed.load(cursors)?;
        }
        let mut draft = Draft::new(self.page_bytes);
        let done = self.fill(&mut draft).await;
        self.turn = self.turn.wrapping_add(1);
        let mut page = Page { chunks: draft.chunks, gaps: draft.gaps, ..Page::default() };
        for feed in &mut self.feeds {
            feed.save(&mut page.cursors, self.api.planted);
        }
        page.backlog = Some(self.feeds.iter().map(|feed| feed.backlog()).sum());
        match done {
            Ok(Done::More) => {}
            Ok(Done::Nothing) => {
                let wait = self.feeds.iter().map(|feed| feed.wait(&self.api)).min();
                page.pause = wait.map(|wait| wait.max(Duration::from_millis(1)));
            }
            Err(error) if page.is_empty() => return Err(error),
            Err(error) => self.owed = Some(error),
        }
        Ok(page)
    }

    async fn commit(&mut self, _: &Cursors) -> Result<(), AdapterError> {
        // The API keeps no position for its readers.
        Ok(())
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        let wanted = self.feeds.iter().map(Feed::content).collect::<Vec<_>>();
        self.api.state_of_subscriptions(&wanted).await
    }
}
