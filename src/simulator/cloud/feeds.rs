//! The Activity API's side of the store: subscriptions, records that wait for a blob, blobs with their times.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use crate::domain::Ticks;

use super::audit::Record;

/// The content type that everything about mail is in.
pub const GENERAL: &str = "Audit.General";
/// All of them.
pub const CONTENT_TYPES: [&str; 5] =
    ["Audit.AzureActiveDirectory", "Audit.Exchange", "Audit.SharePoint", GENERAL, "DLP.All"];
/// Blobs that are kept.
const MOST_BLOBS: usize = 20_000;
/// Days until a blob can no longer be read, in seconds.
const KEPT_SECONDS: i64 = 7 * 86_400;

/// State of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// Whether content is made.
    pub enabled: bool,
    /// When it was started last.
    pub started: Ticks,
}

/// A blob of records.
#[derive(Debug, Clone)]
pub struct ContentBlob {
    /// Opaque.
    pub id: String,
    /// When it could be listed.
    pub created: Ticks,
    /// When it can no longer be read.
    pub expires: Ticks,
    /// Its records.
    pub records: Vec<Value>,
}

/// Subscriptions and content.
#[derive(Debug, Default)]
pub struct Feeds {
    /// By content type.
    pub subscriptions: BTreeMap<String, Subscription>,
    waiting: Vec<Record>,
    /// Oldest first.
    pub blobs: VecDeque<ContentBlob>,
    number: u64,
}

impl Feeds {
    /// A record has been made. Without a subscription it waits for the first one; while a subscription is
    /// stopped it is lost, as in life. True if it is the first that waits.
    pub fn add(&mut self, record: Record) -> bool {
        if self.subscriptions.get(GENERAL).is_some_and(|subscription| !subscription.enabled) {
            return false;
        }
        self.waiting.push(record);
        self.waiting.len() == 1
    }

    /// Whether records wait that a subscription would show.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Makes a blob of what waits, if somebody has subscribed; `also` is a record that is in an older blob
    /// already. Returns the ids of the new records.
    pub fn seal(&mut self, at: Ticks, also: Option<Value>) -> Vec<String> {
        let is_on =
            self.subscriptions.get(GENERAL).is_some_and(|subscription| subscription.enabled);
        if !is_on || self.waiting.is_empty() {
            return Vec::new();
        }
        self.number += 1;
        let stamp: String = at.to_string().chars().filter(char::is_ascii_digit).take(17).collect();
        let id = format!("{stamp:0<17}{:06}", self.number);
        let waiting = std::mem::take(&mut self.waiting);
        let ids = waiting.iter().map(|record| record.id.clone()).collect();
        let mut records: Vec<Value> = waiting.into_iter().map(|record| record.value).collect();
        records.extend(also);
        self.blobs.push_back(ContentBlob {
            id: format!("{id}${id}$audit_general$Audit_General$na0001"),
            created: at,
            expires: at.plus_seconds(KEPT_SECONDS),
            records,
        });
        if self.blobs.len() > MOST_BLOBS {
            self.blobs.pop_front();
        }
        ids
    }

    /// A blob.
    #[must_use]
    pub fn blob(&self, id: &str) -> Option<&ContentBlob> {
        self.blobs.iter().rev().find(|blob| blob.id == id)
    }
}
