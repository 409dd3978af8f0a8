//! Everything that arrived, over whatever transport, against the truth: rows by their own columns, alerts,
//! incidents and audit records by id and revision. It believes none of Postern's ids.

use std::collections::HashSet;

use serde::Deserialize;

use super::envelope::TABLES;
use super::shown::ItemComparison;
use super::truth::{Comparison, Truth, Verdict};

/// Kinds of things that are no rows.
pub const THINGS: [&str; 3] = ["alert", "incident", "activity"];

/// A thing that is no row: which, and its revision.
type Thing = (&'static str, String, String);

/// What a record of `table` is, if it is no row.
fn thing(table: &str, raw: &str) -> Option<Thing> {
    #[derive(Deserialize)]
    struct Item {
        id: String,
        #[serde(rename = "lastUpdateDateTime")]
        updated: String,
    }
    #[derive(Deserialize)]
    struct Audit {
        #[serde(rename = "Id")]
        id: String,
        #[serde(rename = "RecordType")]
        _kind: serde::de::IgnoredAny,
    }
    let item = |kind| {
        let item = serde_json::from_str::<Item>(raw).ok();
        let (id, updated) = item.map(|item| (item.id, item.updated)).unwrap_or_default();
        Some((kind, id, updated))
    };
    match table {
        "alerts_v2" => item("alert"),
        "incidents" => item("incident"),
        _ if TABLES.contains(&table) => None,
        _ => serde_json::from_str::<Audit>(raw)
            .ok()
            .map(|audit| ("activity", audit.id, String::new())),
    }
}

/// A judgement in progress.
#[derive(Debug)]
pub struct Judge<'a> {
    rows: Comparison<'a>,
    things: Vec<(&'static str, ItemComparison<'a>)>,
}

/// What it came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judged {
    /// Rows of tables.
    pub rows: Verdict,
    /// Each kind of thing that is no row and was to arrive.
    pub things: Vec<(&'static str, Verdict)>,
}

impl<'a> Judge<'a> {
    /// Against `truth`, of which `kinds` of things were to arrive beside the rows.
    #[must_use]
    pub fn new(truth: &'a Truth, kinds: &[&'static str]) -> Self {
        let things = kinds.iter().map(|kind| (*kind, truth.shown().compare(kind))).collect();
        Self { rows: truth.compare(), things }
    }

    /// An event of `table` with this row or record and these tags has arrived.
    pub fn arrived(&mut self, table: &str, raw: &str, tags: &[&str]) {
        let Some((kind, id, revision)) = thing(table, raw) else {
            return self.rows.arrived(table, raw, tags);
        };
        match self.things.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, comparison)) => comparison.arrived(&id, &revision),
            None => self.rows.arrived(table, raw, tags),
        }
    }

    /// Ends it.
    #[must_use]
    pub fn verdict(self) -> Judged {
        Judged {
            rows: self.rows.verdict(),
            things: self
                .things
                .into_iter()
                .map(|(kind, things)| (kind, things.verdict()))
                .collect(),
        }
    }
}

impl Judged {
    fn all(&self) -> impl Iterator<Item = &Verdict> {
        std::iter::once(&self.rows).chain(self.things.iter().map(|(_, verdict)| verdict))
    }

    /// Whether everything arrived exactly once and as it should.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.all().all(Verdict::is_right)
    }

    /// Shown, but not arrived.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.all().map(|verdict| verdict.lost).sum()
    }

    /// Arrived more than once.
    #[must_use]
    pub fn twice(&self) -> u64 {
        self.all().map(|verdict| verdict.twice).sum()
    }

    /// Arrived, but never shown.
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.all().map(|verdict| verdict.strangers).sum()
    }

    /// Events of a kind that arrived.
    #[must_use]
    pub fn arrived(&self, kind: &str) -> u64 {
        self.things.iter().find(|(known, _)| *known == kind).map_or(0, |(_, found)| found.arrived)
    }

    /// The first faults.
    pub fn examples(&self) -> impl Iterator<Item = &String> {
        self.all().flat_map(|verdict| &verdict.examples)
    }
}

/// What has arrived so far, to see whether anything is still on its way.
#[derive(Debug, Default)]
pub struct Arrivals {
    rows: u64,
    things: HashSet<Thing>,
}

impl Arrivals {
    /// An event has arrived.
    pub fn take(&mut self, table: &str, raw: &str) {
        match thing(table, raw) {
            Some(thing) => drop(self.things.insert(thing)),
            None => self.rows += 1,
        }
    }

    /// How much of the truth has not arrived, counting of each thing its last revision.
    #[must_use]
    pub fn missing(&self, truth: &Truth, kinds: &[&'static str]) -> u64 {
        let rows = truth.totals().records.saturating_sub(self.rows);
        let things = truth.shown().last_revisions().filter(|(kind, id, revision)| {
            kinds.contains(kind)
                && !self.things.contains(&(*kind, (*id).to_owned(), (*revision).to_owned()))
        });
        rows + things.count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_things_and_strangers_are_told_apart() {
        let home = tempfile::tempdir().unwrap();
        let mut truth = Truth::create(&home.path().join("truth.ndjson")).unwrap();
        let at = crate::domain::Ticks(0);
        truth.shown_item("alert", "fa1", "2026-08-20T09:00:00Z", at).unwrap();
        truth.shown_item("activity", "a-1", "", at).unwrap();
        let alert = r#"{"id":"fa1","lastUpdateDateTime":"2026-08-20T09:00:00Z"}"#;
        let audit = r#"{"Id":"a-1","RecordType":28}"#;

        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.missing(&truth, &THINGS), 2);
        assert_eq!(arrivals.missing(&truth, &["alert"]), 1);
        let mut judge = Judge::new(&truth, &THINGS);
        for (table, raw) in [("alerts_v2", alert), ("ThreatIntelligence", audit)] {
            arrivals.take(table, raw);
            judge.arrived(table, raw, &[]);
        }
        assert_eq!(arrivals.missing(&truth, &THINGS), 0);
        judge.arrived("ThreatIntelligence", audit, &[]);
        judge.arrived("EmailEvents", "{}", &[]);
        let judged = judge.verdict();
        assert_eq!((judged.lost(), judged.twice(), judged.strangers()), (0, 1, 1), "{judged:?}");
        assert_eq!(judged.arrived("activity"), 2);

        let mut judge = Judge::new(&truth, &["alert"]);
        judge.arrived("alerts_v2", alert, &[]);
        judge.arrived("ThreatIntelligence", audit, &[]);
        assert_eq!(judge.verdict().strangers(), 1, "nobody was to bring it");
    }
}
