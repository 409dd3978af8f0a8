//! Looks at the containers: which blobs of the look-back have something new. Listings are read page by page and
//! only what is needed of them is kept.

use std::collections::BTreeMap;

use azure_core::http::Etag;
use azure_storage_blob::models::{BlobContainerClientListBlobsOptions, BlobItem, BlobType};
use futures::StreamExt as _;

use super::shelf::Mark;
use super::trouble::{Refusal, sort};
use super::{Container, Storage};
use crate::cloud::plain::plain;
use crate::domain::{Failure, Gap, GapCause, Ticks};
use crate::pipeline::port::{AdapterError, Page};

/// Most blobs of a container that are followed: two months of hours, far beyond any look-back that makes sense.
const MOST_BLOBS: usize = 20_000;
/// Most days that are caught up with after an outage.
const MOST_DAYS: i64 = 400;
/// Most pages of one listing: at 5,000 blobs a page.
const MOST_PAGES: usize = 100;
const DAY: i64 = 24 * 60 * 60;

/// A blob that has something new.
#[derive(Debug, Clone)]
pub(super) struct Work {
    /// Which container.
    pub(super) at: usize,
    /// Its name without the prefix.
    pub(super) name: Box<str>,
    pub(super) length: u64,
    pub(super) etag: Box<str>,
    pub(super) created: Box<str>,
    /// Whether it only ever grows.
    pub(super) append: bool,
    /// Bytes to ask for at once.
    pub(super) budget: u64,
}

impl Storage {
    /// Looks at all containers; what is new becomes work.
    pub(super) async fn look(&mut self, page: &mut Page) {
        self.troubles.clear();
        self.backlog = 0;
        for at in 0..self.containers.len() {
            match self.look_at(at, page).await {
                Ok(()) => {}
                Err(Refusal::NoContainer | Refusal::NoBlob) => {}
                Err(Refusal::Changed) => {}
                Err(Refusal::Trouble(error)) => {
                    self.door.forget_signature();
                    self.troubles.push(error);
                }
            }
        }
    }

    async fn look_at(&mut self, at: usize, page: &mut Page) -> Result<(), Refusal> {
        let Some(container) = self.containers.get(at) else { return Ok(()) };
        // Whose clock is wrong learns the time from the first answer.
        let mut today = self.door.now();
        let mut listed = BTreeMap::new();
        let last = container
            .shelf
            .day
            .as_deref()
            .and_then(|day| Ticks::parse(&format!("{day}T00:00:00Z")));
        let mut day = first_day(today, last, self.config.lookback_days);
        while day <= today {
            let date = date_of(day);
            let prefix = format!("{}{}", self.prefix, partition(&date));
            self.list(container, &prefix, at, &mut listed).await?;
            if self.door.now() < today.plus_seconds(-DAY)
                || self.door.now() > today.plus_seconds(DAY)
            {
                // The account lives in another day than we thought.
                today = self.door.now();
                day = first_day(today, last, self.config.lookback_days);
                listed.clear();
                continue;
            }
            day = day.plus_seconds(DAY);
        }
        self.take_up(at, listed, date_of(today), page);
        Ok(())
    }

    /// Compares what was listed with what is known.
    fn take_up(
        &mut self,
        at: usize,
        listed: BTreeMap<Box<str>, Work>,
        today: String,
        page: &mut Page,
    ) {
        let Some(container) = self.containers.get_mut(at) else { return };
        let shelf = &mut container.shelf;
        let gone: Vec<Box<str>> =
            shelf.blobs.keys().filter(|name| !listed.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(mark) = shelf.blobs.remove(&name)
                && mark.length > mark.offset
            {
                let what = format!("{}/{}{name}", container.name, self.prefix);
                let why = "it was deleted, or left the look-back, before its last line ended";
                page.gaps.push(gone_gap(&self.name, &what, mark.offset, mark.length, why));
            }
            container.changed = true;
        }
        for (name, work) in listed {
            let mark = shelf.blobs.get(&name);
            let is_known =
                mark.is_some_and(|mark| mark.etag == work.etag && mark.length == work.length);
            if !is_known && work.length > 0 {
                let read = mark.map_or(0, |mark| mark.offset);
                self.backlog += work.length.saturating_sub(read);
                self.work.push_back(work);
            }
        }
        if shelf.day.as_deref() != Some(&*today) {
            shelf.day = Some(today);
            container.changed = true;
        }
    }

    /// One listing, all of its pages.
    async fn list(
        &self,
        container: &Container,
        prefix: &str,
        at: usize,
        listed: &mut BTreeMap<Box<str>, Work>,
    ) -> Result<(), Refusal> {
        let tried = || format!("listing {}", container.name);
        let refuse = |error| sort(error, &tried(), &self.door.place());
        let options = BlobContainerClientListBlobsOptions {
            prefix: Some(prefix.to_owned()),
            ..BlobContainerClientListBlobsOptions::default()
        };
        let mut pages = container.client.list_blobs(Some(options)).map_err(refuse)?.into_pages();
        let mut count = 0;
        while let Some(answer) = pages.next().await {
            let answer = answer.and_then(|page| page.into_model()).map_err(refuse)?;
            count += 1;
            if count > MOST_PAGES || listed.len() > MOST_BLOBS {
                let message = format!("{} does not come to an end below {prefix}", tried());
                return Err(Refusal::Trouble(AdapterError::new(Failure::Retry(None), message)));
            }
            for item in answer.blob_items {
                if let Some(work) = self.work_of(at, item) {
                    listed.insert(work.name.clone(), work);
                }
            }
        }
        Ok(())
    }

    /// A listed blob, if it is one that can be read.
    fn work_of(&self, at: usize, item: BlobItem) -> Option<Work> {
        let name = item.name?;
        let properties = item.properties?;
        if item.deleted == Some(true) || item.snapshot.is_some() {
            return None;
        }
        let etag = properties.etag.as_ref().map(Etag::to_string).unwrap_or_default();
        Some(Work {
            at,
            name: name.strip_prefix(&self.prefix)?.into(),
            length: properties.content_length?,
            etag: etag.into(),
            created: properties
                .creation_time
                .map(|time| time.to_string())
                .unwrap_or_default()
                .into(),
            append: properties.blob_type == Some(BlobType::AppendBlob),
            budget: self.config.page_bytes as u64,
        })
    }

    /// Tries what a look would do, and reads a byte, for `check`.
    pub(super) async fn look_once(&mut self) -> Result<String, AdapterError> {
        let (mut there, mut missing, mut blobs) = (0, Vec::new(), 0);
        for at in 0..self.containers.len() {
            let Some(container) = self.containers.get(at) else { continue };
            let mut listed = BTreeMap::new();
            // The first answer tells the account's own day, should our clock be off.
            for _ in 0..2 {
                let today = date_of(self.door.now());
                let prefix = format!("{}{}", self.prefix, partition(&today));
                match self.list(container, &prefix, at, &mut listed).await {
                    Ok(()) if date_of(self.door.now()) != today => {}
                    Ok(()) => {
                        there += 1;
                        break;
                    }
                    Err(Refusal::Trouble(error)) => return Err(error),
                    Err(_) => {
                        missing.push(container.name.to_string());
                        break;
                    }
                }
            }
            blobs += listed.len();
            if let Some((_, mut work)) = listed.into_iter().find(|(_, work)| work.length > 0) {
                (work.length, work.append) = (1, true);
                match self.fetch(&work, 0, 1).await {
                    Ok(_) | Err(Refusal::NoBlob | Refusal::Changed | Refusal::NoContainer) => {}
                    Err(Refusal::Trouble(error)) => return Err(error),
                }
            }
        }
        let place = self.door.place();
        let mut said = format!("{place} can be read: {there} containers, {blobs} blobs of today");
        if !missing.is_empty() {
            said.push_str(&format!("; nothing yet (no container) in {}", missing.join(", ")));
        }
        Ok(said)
    }
}

/// The gap of a blob that is gone.
pub(super) fn gone_gap(source: &str, what: &str, from: u64, to: u64, why: &str) -> Gap {
    let what = plain(what, 300);
    Gap {
        source: source.into(),
        from: format!("byte {from}").into(),
        to: format!("byte {to}").into(),
        count: None,
        cause: GapCause::RemoteGone,
        detail: format!("{} bytes of {what} are lost: {why}", to.saturating_sub(from)).into(),
        what: what.into(),
    }
}

/// Where a look begins: so many days before today, or before the last look if that is longer ago.
fn first_day(today: Ticks, last: Option<Ticks>, lookback_days: u32) -> Ticks {
    let from = last.map_or(today, |last| last.min(today));
    let from = from.plus_seconds(-DAY * i64::from(lookback_days));
    from.max(today.plus_seconds(-DAY * MOST_DAYS.max(i64::from(lookback_days))))
}

/// `2026-08-20`.
fn date_of(time: Ticks) -> String {
    time.to_string().get(..10).unwrap_or_default().to_owned()
}

/// `y=2026/m=08/d=20/`.
fn partition(date: &str) -> String {
    let mut parts = date.split('-');
    let mut next = || parts.next().unwrap_or_default();
    format!("y={}/m={}/d={}/", next(), next(), next())
}

/// Whether a mark is of what the blob was before: something else has its name now.
pub(super) fn is_another(mark: &Mark, work: &Work) -> bool {
    work.length < mark.offset || (!mark.created.is_empty() && mark.created != work.created)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_an_outage_the_look_goes_back_to_the_last_one() {
        let time = |text: &str| Ticks::parse(text).unwrap();
        let today = time("2026-03-02T00:10:00Z");
        let day = |last: Option<&str>| date_of(first_day(today, last.map(time), 3));
        assert_eq!(day(None), "2026-02-27");
        assert_eq!(day(Some("2026-03-02T00:00:00Z")), "2026-02-27");
        assert_eq!(day(Some("2026-02-20T00:00:00Z")), "2026-02-17");
        // A cursor of a day that has not come yet does not move the look forward.
        assert_eq!(day(Some("2027-01-01T00:00:00Z")), "2026-02-27");
        assert_eq!(day(Some("1999-01-01T00:00:00Z")), "2025-01-26");
        assert_eq!(partition("2026-03-02"), "y=2026/m=03/d=02/");
    }
}
