//! What the simulated cloud has shown beside the hubs: rows by transport, and the revisions of things that are
//! no rows (alerts, incidents, audit records), to be compared with what arrived. Of a thing that changes, an
//! API shows only the newest revision, so a reader must have the last one and may have missed those before.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::truth::Verdict;

/// The ledger.
#[derive(Debug, Default)]
pub struct Shown {
    rows: BTreeMap<&'static str, u64>,
    items: HashMap<(&'static str, String), Vec<String>>,
}

impl Shown {
    /// A transport has shown a row.
    pub fn row(&mut self, transport: &'static str) {
        *self.rows.entry(transport).or_default() += 1;
    }

    /// A revision of a thing has been shown.
    pub fn item(&mut self, kind: &'static str, id: &str, revision: &str) {
        let revisions = self.items.entry((kind, id.to_owned())).or_default();
        if !revisions.iter().any(|known| known == revision) {
            revisions.push(revision.to_owned());
        }
    }

    /// Rows that a transport has shown.
    #[must_use]
    pub fn rows(&self, transport: &str) -> u64 {
        self.rows.get(transport).copied().unwrap_or(0)
    }

    /// Things of a kind.
    #[must_use]
    pub fn things(&self, kind: &str) -> u64 {
        self.items.keys().filter(|(known, _)| *known == kind).count() as u64
    }

    /// Of each thing its kind, its id and its last revision.
    pub fn last_revisions(&self) -> impl Iterator<Item = (&'static str, &str, &str)> {
        self.items.iter().filter_map(|((kind, id), revisions)| {
            Some((*kind, id.as_str(), revisions.last()?.as_str()))
        })
    }

    /// Begins a comparison of the things of one kind.
    #[must_use]
    pub fn compare(&self, kind: &'static str) -> ItemComparison<'_> {
        ItemComparison { shown: self, kind, arrived: HashSet::new(), verdict: Verdict::default() }
    }
}

/// A comparison in progress.
#[derive(Debug)]
pub struct ItemComparison<'a> {
    shown: &'a Shown,
    kind: &'static str,
    arrived: HashSet<(String, String)>,
    verdict: Verdict,
}

impl ItemComparison<'_> {
    /// A revision of a thing has arrived.
    pub fn arrived(&mut self, id: &str, revision: &str) {
        self.verdict.arrived += 1;
        let known = self.shown.items.get(&(self.kind, id.to_owned()));
        if !known.is_some_and(|revisions| revisions.iter().any(|known| known == revision)) {
            self.verdict.strangers += 1;
            let count = self.verdict.strangers;
            self.verdict.example("never shown", count, || format!("{} {id} {revision}", self.kind));
        } else if !self.arrived.insert((id.to_owned(), revision.to_owned())) {
            self.verdict.twice += 1;
            let count = self.verdict.twice;
            self.verdict.example("twice", count, || format!("{} {id} {revision}", self.kind));
        }
    }

    /// Ends it.
    #[must_use]
    pub fn verdict(mut self) -> Verdict {
        for ((kind, id), revisions) in &self.shown.items {
            let Some(last) = revisions.last().filter(|_| *kind == self.kind) else { continue };
            if !self.arrived.contains(&(id.clone(), last.clone())) {
                self.verdict.lost += 1;
                let count = self.verdict.lost;
                self.verdict.example("lost", count, || format!("{kind} {id} {last}"));
            }
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_revision_must_arrive_and_an_earlier_one_may_be_missed() {
        let mut shown = Shown::default();
        for revision in ["1", "2", "3"] {
            shown.item("alert", "a", revision);
        }
        shown.item("incident", "7", "1");
        let judge = |arrived: &[(&str, &str)]| {
            let mut comparison = shown.compare("alert");
            arrived.iter().for_each(|(id, revision)| comparison.arrived(id, revision));
            let verdict = comparison.verdict();
            (verdict.lost, verdict.twice, verdict.strangers)
        };
        assert_eq!(judge(&[("a", "1"), ("a", "3")]), (0, 0, 0));
        assert_eq!(judge(&[("a", "1"), ("a", "2")]), (1, 0, 0));
        assert_eq!(judge(&[("a", "3"), ("a", "3")]), (0, 1, 0));
        assert_eq!(judge(&[("a", "3"), ("a", "4"), ("b", "1")]), (0, 0, 2));
    }
}
