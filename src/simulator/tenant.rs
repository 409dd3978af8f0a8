//! The simulated tenant at work: mail comes in, settings decide, things follow, and each record becomes
//! visible some time after it happened, in an order of its own. Time is an argument; the same settings give
//! the same tenant, byte for byte.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::domain::Ticks;
use crate::domain::ticks::TICKS_PER_SECOND;

use super::delivery::deliver;
use super::overrides::Overrides;
use super::people::Directory;
use super::random::Random;
use super::record::Record;
use super::streams::Streams;
use super::writer::Writer;

/// What a tenant is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The seed: one number, one tenant.
    pub seed: u64,
    /// The Entra tenant id that the records carry.
    pub tenant_id: Arc<str>,
    /// When its first mail arrives.
    pub start: Ticks,
    /// Mails per second (each of them several records).
    pub mails_per_second: f64,
    /// People with a mailbox.
    pub people: usize,
    /// How much faster than in life export and reactions are: records that take Microsoft two minutes take
    /// 120 seconds divided by this.
    pub haste: u32,
    /// Of a thousand records, how many are exported twice (a few of those three times).
    pub repeated_per_mille: u64,
}

/// The tenant id of the demo.
pub const DEMO_TENANT: &str = "7c0a3f52-4d1e-4b8a-9c60-2f1d5e8b7a11";

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            tenant_id: DEMO_TENANT.into(),
            start: Ticks(0),
            mails_per_second: 50.0,
            people: 240,
            haste: 30,
            repeated_per_mille: 30,
        }
    }
}

/// A tenant.
#[derive(Debug)]
pub struct Tenant {
    settings: Settings,
    random: Random,
    directory: Directory,
    overrides: Overrides,
    streams: Streams,
    writer: Writer,
    mails: u64,
    pending: BinaryHeap<Reverse<Pending>>,
    sequence: u64,
}

#[derive(Debug)]
struct Pending {
    visible: Ticks,
    sequence: u64,
    record: Record,
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.visible, self.sequence).cmp(&(other.visible, other.sequence))
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

impl Tenant {
    /// A tenant with the usual mess of overrides.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_overrides(settings, Overrides::as_found())
    }

    /// A tenant with these overrides: with the same seed it gets the same mail.
    #[must_use]
    pub fn with_overrides(settings: Settings, overrides: Overrides) -> Self {
        let mut random = Random::new(settings.seed);
        let directory = Directory::new(&mut random.branch(), settings.people);
        Self {
            streams: Streams::new(random.branch()),
            writer: Writer::new(random.branch(), settings.haste),
            random: random.branch(),
            directory,
            overrides,
            settings,
            mails: 0,
            pending: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// Mails that have arrived so far.
    #[must_use]
    pub const fn mails(&self) -> u64 {
        self.mails
    }

    /// Lets time pass until `now` and hands over what has become visible by then, in order.
    pub fn advance(&mut self, now: Ticks, out: &mut impl FnMut(Record)) {
        loop {
            let arrival = self.next_arrival();
            if arrival > now {
                break;
            }
            self.receive(arrival);
            self.hand_over(arrival, out);
        }
        self.hand_over(now, out);
    }

    /// No more mail: hands over everything that is still to come, in order.
    pub fn finish(&mut self, out: &mut impl FnMut(Record)) {
        self.hand_over(Ticks(i64::MAX), out);
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "an arrival time to the microsecond needs no 53 bits"
    )]
    fn next_arrival(&self) -> Ticks {
        let seconds = self.mails as f64 / self.settings.mails_per_second.max(0.001);
        Ticks(self.settings.start.0 + (seconds * TICKS_PER_SECOND as f64) as i64)
    }

    fn receive(&mut self, arrival: Ticks) {
        self.mails += 1;
        let mail = self.streams.next(&self.directory, arrival);
        let deliveries: Vec<_> =
            mail.recipients.iter().map(|person| deliver(&mail, person, &self.overrides)).collect();
        let mut records = Vec::new();
        self.writer.write(&mail, &deliveries, &mut records);
        for record in records {
            self.repeat(&record);
            self.push(record);
        }
    }

    /// Now and then the pipe exports a record again: the same row, seconds later.
    fn repeat(&mut self, record: &Record) {
        let mut again = record.clone();
        let mut per_mille = self.settings.repeated_per_mille;
        while self.random.chance(per_mille) {
            let seconds = self.random.between(1, 8);
            again.visible = again.visible.plus_seconds(i64::try_from(seconds).unwrap_or(1));
            self.push(again.clone());
            per_mille = 100;
        }
    }

    fn push(&mut self, record: Record) {
        self.sequence += 1;
        self.pending.push(Reverse(Pending {
            visible: record.visible,
            sequence: self.sequence,
            record,
        }));
    }

    fn hand_over(&mut self, until: Ticks, out: &mut impl FnMut(Record)) {
        while self.pending.peek().is_some_and(|Reverse(next)| next.visible <= until) {
            if let Some(Reverse(next)) = self.pending.pop() {
                out(next.record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap};

    use super::*;
    use crate::domain::Tag;

    fn records(seed: u64, mails: u32) -> Vec<Record> {
        let settings = Settings { seed, mails_per_second: 100.0, ..Settings::default() };
        let mut tenant = Tenant::new(settings);
        let mut all = Vec::new();
        let seconds = i64::from(mails) / 100;
        tenant.advance(Ticks(0).plus_seconds(seconds), &mut |record| all.push(record));
        tenant.finish(&mut |record| all.push(record));
        all
    }

    #[test]
    fn one_seed_gives_one_tenant_byte_for_byte() {
        let text = |seed| {
            let mut text = String::new();
            for record in records(seed, 500) {
                text.push_str(&format!("{} {}\n", record.visible, record.properties));
            }
            text
        };
        assert_eq!(text(5), text(5));
        assert_ne!(text(5), text(6));
    }

    #[test]
    fn some_records_are_exported_again_unchanged() {
        let mut sent: HashMap<String, (usize, String)> = HashMap::new();
        let all = records(5, 1500);
        for record in &all {
            let row = record.properties.get().to_owned();
            let entry = sent
                .entry(format!("{}{}", record.fact.table, record.fact.identity))
                .or_insert_with(|| (0, row.clone()));
            entry.0 += 1;
            assert_eq!(entry.1, row);
        }
        let repeats = all.len() - sent.len();
        let per_mille = repeats * 1000 / sent.len();
        assert!((20..=40).contains(&per_mille), "{per_mille} of 1000");
    }

    #[test]
    fn a_later_row_of_a_mail_never_comes_before_its_first_row() {
        let mut seen = BTreeSet::new();
        for record in records(5, 1500).iter().filter(|record| record.fact.table == "EmailEvents") {
            let row: serde_json::Value = serde_json::from_str(record.properties.get()).unwrap();
            let mail =
                (row["NetworkMessageId"].to_string(), row["RecipientEmailAddress"].to_string());
            let tags = record.fact.tags.as_ref().unwrap();
            if tags.contains(Tag::ReVerdict) {
                assert!(seen.contains(&mail), "{mail:?}");
            }
            seen.insert(mail);
        }
    }

    #[test]
    fn every_override_has_its_share_of_allowed_phish_and_every_table_its_rows() {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        let mut tables: BTreeMap<&str, usize> = BTreeMap::new();
        let mut tags: BTreeMap<String, usize> = BTreeMap::new();
        for record in records(5, 2500) {
            *tables.entry(record.fact.table).or_default() += 1;
            if let Some(allowed) = &record.fact.allowed {
                *kinds.entry(allowed.kind).or_default() += 1;
            }
            for tag in record.fact.tags.iter().flat_map(crate::domain::Tags::fixed) {
                *tags.entry(tag.to_string()).or_default() += 1;
            }
        }
        for kind in ["transport_rule", "ip_list", "tabl_url", "third_party_filter"] {
            assert!(kinds.contains_key(kind), "{kinds:?}");
        }
        assert_eq!(tables.len(), 8, "{tables:?}");
        for tag in [
            "allowed.hc_phish",
            "allowed.phish",
            "allowed.spam",
            "expected.hc_phish",
            "expected.malware",
            "late_conviction",
            "late_conviction_under_override",
            "no_override.delivered.phish",
            "override.block",
            "override.effect_unknown",
            "override.ineffective",
            "override.unnecessary",
            "re_verdict",
        ] {
            assert!(tags.contains_key(tag), "no {tag} in {tags:?}");
        }
    }

    #[test]
    fn without_its_overrides_the_same_mail_brings_no_allowed_phish() {
        let settings = Settings { seed: 5, mails_per_second: 100.0, ..Settings::default() };
        let mut tenant = Tenant::with_overrides(settings, Overrides::default());
        let mut allowed = 0;
        tenant.advance(Ticks(0).plus_seconds(15), &mut |record| {
            allowed += usize::from(record.fact.allowed.is_some());
        });
        assert_eq!(allowed, 0);
        assert_eq!(tenant.mails(), 1501);
    }
}
