//! What the cloud can show at a time. Takes the tenant's records one after the other, works out when each
//! becomes visible where (a hunting table, an hour's blob, an alert, an audit blob), and lets that happen when
//! time has come. Everything that became visible is entered into the truth with its time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ticks::TICKS_PER_SECOND;
use crate::domain::{Tag, Ticks};
use crate::simulator::envelope::line;
use crate::simulator::kql::Tables;
use crate::simulator::random::Random;
use crate::simulator::record::Record;
use crate::simulator::truth::Truth;

use super::audit;
use super::cases::{AlertStep, Cases};
use super::faults::Script;
use super::feeds::Feeds;
use super::mails::{Mails, Row, text};
use super::settings::CloudConfig;
use super::shelf::Shelf;

/// Rows of a table that are kept.
const MOST_ROWS: usize = 300_000;

/// The store.
pub struct Store {
    random: Random,
    haste: u64,
    script: Script,
    due: BinaryHeap<Reverse<Pending>>,
    sequence: u64,
    seen: HashSet<[u8; 16]>,
    truth: Option<Arc<Mutex<Truth>>>,
    tenant: Arc<str>,
    /// Set when the tenant has fallen silent: what is due is due at once.
    is_over: bool,
    last_stamp: Ticks,
    /// Mails behind the evidence.
    pub mails: Mails,
    /// Alerts and incidents.
    pub cases: Cases,
    /// Hunting. A table that is not here does not exist for this tenant.
    pub tables: Tables,
    /// The storage account.
    pub shelf: Shelf,
    /// The Activity API.
    pub feeds: Feeds,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("pending", &self.due.len()).finish_non_exhaustive()
    }
}

struct Pending {
    at: Ticks,
    sequence: u64,
    what: Due,
}

/// What can become visible.
enum Due {
    Row(Arc<Record>),
    Line(Arc<Record>),
    Alert(String),
    Evidence(String),
    Step(String, AlertStep),
    Resolve(u64),
    Merge(u64),
    Audit(Box<audit::Record>),
    Seal,
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Pending {}

impl Store {
    /// An empty one; what becomes visible is entered into `truth`.
    #[must_use]
    pub fn new(config: &CloudConfig, truth: Option<Arc<Mutex<Truth>>>) -> Self {
        Self {
            random: Random::new(config.seed ^ 0x00c1_00d5),
            haste: u64::from(config.haste.max(1)),
            script: config.faults.clone(),
            due: BinaryHeap::new(),
            sequence: 0,
            seen: HashSet::new(),
            truth,
            tenant: Arc::clone(&config.tenant_id),
            is_over: false,
            last_stamp: Ticks(0),
            mails: Mails::default(),
            cases: Cases::of(&config.tenant_id),
            tables: Tables::of_mail(),
            shelf: Shelf::default(),
            feeds: Feeds::default(),
        }
    }

    /// The tenant has exported a record (`record.visible` is when). A record that it exports again is one line
    /// more in a blob and nothing else.
    pub fn take(&mut self, record: &Record) {
        let at = record.visible;
        let record = Arc::new(record.clone());
        let seconds = if self.random.chance(40) { (120, 900) } else { (20, 120) };
        let line = self.later(at, seconds);
        self.push(line, Due::Line(Arc::clone(&record)));
        let table = record.fact.table;
        if !self.seen.insert(key(table, &record.fact.identity)) {
            return;
        }
        let row = self.later(at, (5, 60)).max(Ticks(at.0 + 1));
        self.push(row, Due::Row(Arc::clone(&record)));
        let Ok(row) = serde_json::from_str::<Row>(record.properties.get()) else { return };
        self.mails.take(table, &row);
        self.follow_up(table, &row, at);
    }

    /// What else comes of a row.
    fn follow_up(&mut self, table: &str, row: &Row, at: Ticks) {
        let tenant = Arc::clone(&self.tenant);
        match table {
            "EmailEvents" => {
                let id = text(row, "NetworkMessageId");
                let Some(known) = self.mails.get_mut(id) else { return };
                if known.audited || !known.is_whole() {
                    return;
                }
                known.audited = true;
                if let Some(record) = audit::mail(&tenant, id, known) {
                    self.audit(at, record);
                }
            }
            "UrlClickEvents" => self.audit(at, audit::click(&tenant, row)),
            "EmailPostDeliveryEvents" if text(row, "Action") == "Quarantine release" => {
                self.audit(at, audit::release(&tenant, row));
            }
            "AlertInfo" => {
                self.audit(at, audit::alert(&tenant, row));
                if self.cases.info(row) {
                    let appears = self.later(at, (45, 150));
                    self.push(appears, Due::Alert(text(row, "AlertId").to_owned()));
                }
            }
            "AlertEvidence" => {
                if text(row, "EntityType") == "Mailbox" {
                    self.audit(at, audit::alert_entity(&tenant, row));
                } else if text(row, "Title").contains("reported by user") {
                    self.audit(at, audit::submission(&tenant, row));
                }
                if self.cases.evidence(row) {
                    let id = text(row, "AlertId").to_owned();
                    let appears = self.later(at, (45, 150));
                    self.push(appears, Due::Evidence(id));
                }
            }
            _ => {}
        }
    }

    fn audit(&mut self, at: Ticks, record: audit::Record) {
        let at = self.later(at, (60, 300));
        self.push(at, Due::Audit(Box::new(record)));
    }

    /// Between so and so many seconds after `at`, in this cloud's haste.
    fn later(&mut self, at: Ticks, (from, to): (u64, u64)) -> Ticks {
        let millis = self.random.between(from * 1000, to * 1000) / self.haste;
        Ticks(at.0.saturating_add(Ticks::from_millis(i64::try_from(millis).unwrap_or(0)).0))
    }

    fn push(&mut self, at: Ticks, what: Due) {
        self.sequence += 1;
        self.due.push(Reverse(Pending { at, sequence: self.sequence, what }));
    }

    /// Lets everything happen that is due at `now`.
    pub fn advance(&mut self, now: Ticks) {
        while let Some(Reverse(next)) = self.due.peek() {
            if next.at > now && !self.is_over {
                break;
            }
            let Some(Reverse(next)) = self.due.pop() else { break };
            self.happen(next.what, next.at.min(now));
        }
    }

    /// The tenant has fallen silent: what was still to come happens at `now`.
    pub fn finish(&mut self, now: Ticks) {
        self.is_over = true;
        self.advance(now);
        self.seal(now);
    }

    fn happen(&mut self, what: Due, at: Ticks) {
        match what {
            Due::Row(record) => self.row(&record, at),
            Due::Line(record) => self.line(&record, at),
            Due::Alert(id) => self.alert(&id, at),
            Due::Evidence(id) => {
                let stamp = self.stamp(at);
                if self.cases.more_evidence(&id, stamp) {
                    self.shown_alert(&id, at);
                }
            }
            Due::Step(id, step) => self.step(&id, step, at),
            Due::Resolve(number) => {
                let stamp = self.stamp(at);
                if self.cases.resolve(number, stamp) {
                    self.shown_incident(number, at);
                }
            }
            Due::Merge(number) => {
                let stamp = self.stamp(at);
                if let Some((target, moved)) = self.cases.merge(number, stamp) {
                    self.shown_incident(number, at);
                    self.shown_incident(target, at);
                    moved.iter().for_each(|id| self.shown_alert(id, at));
                }
            }
            Due::Audit(record) => {
                if self.feeds.add(*record) {
                    let seals = self.later(at, (30, 90));
                    self.push(seals, Due::Seal);
                }
            }
            Due::Seal => self.seal(at),
        }
    }

    fn row(&mut self, record: &Record, at: Ticks) {
        let Ok(mut row) = serde_json::from_str::<Row>(record.properties.get()) else { return };
        if record.fact.table == "EmailEvents" && !with_original(&mut row, record) {
            return;
        }
        let ingested = self.stamp(at);
        let Some(table) = self.tables.get_mut(record.fact.table) else { return };
        table.push(&row, Some(ingested));
        if table.len() > MOST_ROWS {
            table.retain(|place| place >= MOST_ROWS / 10);
        }
        self.with_truth(|truth| truth.shown_row("hunting", &record.fact, at));
    }

    fn line(&mut self, record: &Record, at: Ticks) {
        let table = record.fact.table;
        let container = format!("insights-logs-advancedhunting-{}", table.to_lowercase());
        let hour = record.visible.to_string();
        let part = |from: usize, to: usize| hour.get(from..to).unwrap_or_default();
        let name = format!(
            "tenantId={}/y={}/m={}/d={}/h={}/m=00/PT1H.json",
            self.tenant,
            part(0, 4),
            part(5, 7),
            part(8, 10),
            part(11, 13),
        );
        let mut bytes = line(&self.tenant, record).into_bytes();
        bytes.extend_from_slice(b"\r\n");
        self.shelf.append(&container, &name, &bytes, at);
        self.with_truth(|truth| truth.shown_row("storage", &record.fact, at));
    }

    fn alert(&mut self, id: &str, at: Ticks) {
        let stamp = self.stamp(at);
        let Some((number, is_new)) = self.cases.appear(id, &self.mails, stamp) else { return };
        self.shown_alert(id, at);
        self.shown_incident(number, at);
        let enriched = self.later(at, (60, 240));
        self.push(enriched, Due::Step(id.to_owned(), AlertStep::Enrich));
        if self.random.chance(350) {
            let begins = self.later(at, (90, 300));
            self.push(begins, Due::Step(id.to_owned(), AlertStep::Investigate));
        }
        if is_new && self.random.chance(120) {
            let merged = self.later(at, (120, 400));
            self.push(merged, Due::Merge(number));
        } else if is_new && self.random.chance(200) {
            let resolved = self.later(at, (300, 900));
            self.push(resolved, Due::Resolve(number));
        }
    }

    fn step(&mut self, id: &str, step: AlertStep, at: Ticks) {
        let stamp = self.stamp(at);
        if !self.cases.step(id, step, stamp) {
            return;
        }
        self.shown_alert(id, at);
        let tenant = Arc::clone(&self.tenant);
        match step {
            AlertStep::Enrich => {}
            AlertStep::Investigate => {
                self.audit(at, audit::investigation(&tenant, id, "Investigation Started", at));
                let concluded = self.later(at, (300, 600));
                self.push(concluded, Due::Step(id.to_owned(), AlertStep::Conclude));
            }
            AlertStep::Conclude => {
                self.audit(at, audit::investigation(&tenant, id, "Remediated", at));
            }
        }
    }

    /// Makes a blob of the audit records that wait; now and then one of an older blob is in it again.
    pub fn seal(&mut self, at: Ticks) {
        let again = self.random.chance(100);
        let also = self.feeds.blobs.back().filter(|_| again).and_then(|blob| blob.records.first());
        let also = also.cloned();
        for id in self.feeds.seal(at, also) {
            self.with_truth(|truth| truth.shown_item("activity", &id, "", at));
        }
    }

    fn shown_alert(&mut self, id: &str, at: Ticks) {
        if let Some(alert) = self.cases.alerts.get(id) {
            let revision = alert.updated.to_string();
            self.with_truth(|truth| truth.shown_item("alert", id, &revision, at));
        }
    }

    fn shown_incident(&mut self, number: u64, at: Ticks) {
        if let Some(incident) = self.cases.incidents.get(&number) {
            let revision = incident.updated.to_string();
            let id = number.to_string();
            self.with_truth(|truth| truth.shown_item("incident", &id, &revision, at));
        }
    }

    /// The time that a thing is stamped with when it becomes visible at `at`: a little before, as much as the
    /// script says; no two have the same but by the script's will.
    fn stamp(&mut self, at: Ticks) -> Ticks {
        let late = self.script.lateness(&mut self.random);
        if late == 0 {
            let next = at.max(Ticks(self.last_stamp.0 + 1));
            // Never in the future: what shares an instant shares its stamp.
            self.last_stamp = if next.0 - at.0 > TICKS_PER_SECOND { at } else { next };
            return self.last_stamp;
        }
        at.plus_seconds(-i64::try_from(late).unwrap_or(0))
    }

    /// Enters nothing into the truth any more.
    pub fn forget_truth(&mut self) {
        self.truth = None;
    }

    fn with_truth(&self, note: impl FnOnce(&mut Truth) -> std::io::Result<()>) {
        if let Some(truth) = &self.truth {
            let mut truth = truth.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = note(&mut truth) {
                tracing::error!(error = %error, "the truth file cannot be written");
            }
        }
    }
}

/// Hunting has the columns of the verdict at delivery for every row, so they are filled: the first row's verdict
/// is that one. False for a later row that does not know it: such a row is exported only.
fn with_original(row: &mut Row, record: &Record) -> bool {
    if row.contains_key("OriginalThreatTypes") {
        return true;
    }
    if record.fact.tags.as_ref().is_some_and(|tags| tags.contains(Tag::ReVerdict)) {
        return false;
    }
    for column in ["ThreatTypes", "DetectionMethods", "ConfidenceLevel"] {
        let value = row.get(column).cloned().unwrap_or_default();
        row.insert(format!("Original{column}"), value);
    }
    true
}

fn key(table: &str, identity: &str) -> [u8; 16] {
    let mut key = [0; 16];
    let mut hasher = blake3::Hasher::new();
    hasher.update(table.as_bytes()).update(b"\0").update(identity.as_bytes());
    hasher.finalize_xof().fill(&mut key);
    key
}
