//! The API's requests and the shapes of its answers: addresses, parameters, what a listing looks like, and the
//! server's time. It decides nothing about what to ask next.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde::Deserialize;

use super::super::planted::{Planted, PollBug};
use super::ContentType;
use super::blob::{Blob, Body};
use super::trouble::{Trouble, no_answer, sorted};
use crate::cloud::tenant::{Ask, TenantAccess, Workload};
use crate::domain::{Failure, Ticks};
use crate::journal::Clock;
use crate::pipeline::AdapterError;

/// Headers that hold the link to the next page: the reference's spelling and the troubleshooting page's.
const NEXT_PAGE: [&str; 2] = ["nextpageuri", "nextpageurl"];

/// Parameter of every call.
const PUBLISHER: &str = "PublisherIdentifier";

/// The way to the API.
pub struct Api {
    access: TenantAccess,
    publisher: String,
    clock: Arc<dyn Clock>,
    /// The server's time, and when by our monotonic clock it was told.
    told: Option<(Ticks, Duration)>,
    /// The defect that is planted, if any.
    pub planted: Planted,
}

/// A subscription as the API lists it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Which content.
    pub content_type: String,
    /// `enabled` or `disabled`; it may be left out.
    pub status: Option<String>,
}

impl Subscription {
    /// Whether it is `content`'s and on.
    #[must_use]
    pub fn serves(&self, content: ContentType) -> bool {
        let on =
            self.status.as_deref().is_none_or(|status| !status.eq_ignore_ascii_case("disabled"));
        on && self.content_type.eq_ignore_ascii_case(content.as_str())
    }
}

/// One page of a listing.
#[derive(Debug)]
pub struct Listing {
    /// What it names.
    pub items: Vec<Item>,
    /// The link to the next page, as the server wrote it.
    pub next: Option<String>,
}

/// What a listing says of one blob. Nothing is promised.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// The blob's id.
    pub content_id: Option<String>,
    /// Where it is.
    pub content_uri: Option<String>,
    /// When it became available.
    pub content_created: Option<String>,
    /// Until when it can be read.
    pub content_expiration: Option<String>,
}

/// The next link of an answer, whichever way it is spelt.
#[must_use]
pub fn next_link(headers: &HeaderMap) -> Option<String> {
    let text = NEXT_PAGE.iter().find_map(|name| headers.get(*name))?.to_str().ok()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

impl Api {
    /// Connects to nothing.
    ///
    /// # Errors
    /// [`Failure::Hold`] if the publisher's id is no GUID.
    pub fn new(
        access: TenantAccess,
        publisher: Option<&str>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AdapterError> {
        let publisher = publisher.unwrap_or(access.tenant_id()).to_owned();
        let guid = publisher.len() == 36
            && publisher.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        if !guid {
            let message = format!("`publisher_id` is {publisher:?}, expected a tenant's GUID");
            return Err(AdapterError::new(Failure::Hold, message));
        }
        Ok(Self { access, publisher, clock, told: None, planted: Planted::default() })
    }

    /// Our monotonic clock: for intervals.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The server's time, as it told it last and our monotonic clock carried it on. Ours only where no answer ever
    /// had a date.
    #[must_use]
    pub fn server_now(&self) -> Ticks {
        match self.told {
            Some((date, at)) => {
                let since = self.elapsed().saturating_sub(at).as_millis();
                Ticks(
                    date.0.saturating_add(
                        Ticks::from_millis(i64::try_from(since).unwrap_or(i64::MAX)).0,
                    ),
                )
            }
            None => self.clock.now(),
        }
    }

    /// The wall clock of this machine: only for a planted defect.
    #[must_use]
    pub fn our_now(&self) -> Ticks {
        self.clock.now()
    }

    /// Forgets the server's time: it will be told again with the next answer.
    pub fn forget_time(&mut self) {
        self.told = None;
    }

    /// Notes a `Date` header.
    pub fn note(&mut self, date: Option<Ticks>) {
        if let Some(date) = date {
            self.told = Some((date, self.elapsed()));
        }
    }

    /// A handle for fetching blobs beside each other.
    #[must_use]
    pub fn access(&self) -> TenantAccess {
        self.access.clone()
    }

    fn url(&self, operation: &str, parameters: &[(&str, &str)]) -> Result<Url, Trouble> {
        let path = format!("/api/v1.0/{}/activity/feed/{operation}", self.access.tenant_id());
        let mut url = self
            .access
            .endpoint(Workload::Activity)
            .join(&path)
            .map_err(|error| no_answer("making an address", &error.to_string()))?;
        url.query_pairs_mut().extend_pairs(parameters).append_pair(PUBLISHER, &self.publisher);
        Ok(url)
    }

    /// The subscriptions there are.
    ///
    /// # Errors
    /// Whatever came in between.
    pub async fn subscriptions(&mut self) -> Result<Vec<Subscription>, Trouble> {
        let what = "listing the subscriptions of the Management Activity API";
        let url = self.url("subscriptions/list", &[])?;
        let answer = self.access.send(Workload::Activity, Ask::get(url)).await;
        let answer = answer.map_err(|error| sorted(error, what))?;
        self.note(answer.date);
        serde_json::from_slice(&answer.body)
            .map_err(|error| no_answer(what, &format!("the answer is no list: {error}")))
    }

    /// Starts a subscription.
    ///
    /// # Errors
    /// Whatever came in between; also where it is on already.
    pub async fn start(&mut self, content: ContentType) -> Result<(), Trouble> {
        let what = format!("starting the subscription {}", content.as_str());
        let url = self.url("subscriptions/start", &[("contentType", content.as_str())])?;
        let ask = Ask { method: Method::POST, url, headers: Vec::new(), body: Some(Vec::new()) };
        let answer = self.access.send(Workload::Activity, ask).await;
        let answer = answer.map_err(|error| sorted(error, &what))?;
        self.note(answer.date);
        Ok(())
    }

    /// The address of a window's first page.
    ///
    /// # Errors
    /// If the tenant's id makes no address.
    pub fn first_page(&self, content: ContentType, from: Ticks, to: Ticks) -> Result<Url, Trouble> {
        let (from, to) = (stamp(from), stamp(to));
        self.url(
            "subscriptions/content",
            &[("contentType", content.as_str()), ("startTime", &from), ("endTime", &to)],
        )
    }

    /// A link that the server gave for the next page, if it leads to the API.
    ///
    /// # Errors
    /// If it leads elsewhere.
    pub fn next_page(&self, text: &str) -> Result<Url, AdapterError> {
        self.access.link(Workload::Activity, text)
    }

    /// The address of a blob, if it is the API's.
    ///
    /// # Errors
    /// If it leads elsewhere.
    pub fn blob_url(&self, blob: &Blob) -> Result<Url, AdapterError> {
        let mut url = self.access.link(Workload::Activity, &blob.uri)?;
        let named = url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case(PUBLISHER));
        if !named {
            url.query_pairs_mut().append_pair(PUBLISHER, &self.publisher);
        }
        Ok(url)
    }

    /// The address that a blob of this id has by the API's rule, where the listing gives none.
    #[must_use]
    pub fn usual_uri(&self, id: &str) -> String {
        format!("/api/v1.0/{}/activity/feed/audit/{id}", self.access.tenant_id())
    }

    /// One page of a listing.
    ///
    /// # Errors
    /// Whatever came in between.
    pub async fn listing(&mut self, url: Url) -> Result<Listing, Trouble> {
        let what = "listing content of the Management Activity API";
        let answer = self.access.send(Workload::Activity, Ask::get(url)).await;
        let answer = answer.map_err(|error| sorted(error, what))?;
        self.note(answer.date);
        let items = match serde_json::from_slice(&answer.body) {
            Ok(items) => items,
            Err(_) if self.planted.is(PollBug::BrokenBodyIsEmpty) => Vec::new(),
            Err(error) => {
                return Err(no_answer(what, &format!("the answer is no list: {error}")));
            }
        };
        let next = next_link(&answer.headers);
        Ok(Listing { items, next: next.filter(|_| !self.planted.is(PollBug::NextPageIgnored)) })
    }

    /// One sentence for `check`.
    ///
    /// # Errors
    /// If the API cannot be asked.
    pub async fn state_of_subscriptions(
        &mut self,
        wanted: &[ContentType],
    ) -> Result<String, AdapterError> {
        let known = self.subscriptions().await.map_err(|trouble| trouble.error)?;
        let state = |content: &ContentType| {
            let on = known.iter().any(|subscription| subscription.serves(*content));
            let state = if on { "on" } else { "not on yet (`run` starts it)" };
            format!("{} is {state}", content.as_str())
        };
        let states: Vec<String> = wanted.iter().map(state).collect();
        Ok(format!("subscriptions of the Management Activity API: {}", states.join(", ")))
    }
}

/// Fetches a blob and holds it to being one.
///
/// # Errors
/// Whatever came in between; `Ok` with [`Body::Odd`] or [`Body::Broken`] where the answer came and is no array.
pub async fn blob(access: &TenantAccess, url: Url) -> Result<(Vec<u8>, Body), Trouble> {
    let answer = access.send(Workload::Activity, Ask::get(url)).await;
    let answer = answer.map_err(|error| sorted(error, "fetching a content blob"))?;
    let body = Body::of(&answer.body);
    Ok((answer.body, body))
}

/// A time as the listing wants it: whole seconds, no zone.
fn stamp(time: Ticks) -> String {
    let whole = Ticks::from_millis(time.as_seconds().saturating_mul(1000)).to_string();
    whole.trim_end_matches('Z').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_the_next_link_are_read_in_any_case() {
        for name in ["NextPageUri", "nextpageurl", "NEXTPAGEURI", "NextPageUrl"] {
            let mut headers = HeaderMap::new();
            let name = reqwest::header::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(name, "https://manage.office.com/x".parse().unwrap());
            assert_eq!(next_link(&headers).unwrap(), "https://manage.office.com/x");
        }
        assert_eq!(next_link(&HeaderMap::new()), None);
    }

    #[test]
    fn stamps_have_whole_seconds_and_no_zone() {
        let time = Ticks::parse("2026-08-20T09:11:04.9999999Z").unwrap();
        assert_eq!(stamp(time), "2026-08-20T09:11:04");
    }
}
