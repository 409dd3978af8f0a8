//! The ground truth: what the tenant has really sent, kept while it sends and written as NDJSON, and the
//! comparison with what arrived. It tells records apart by their own columns, never by Postern's ids.
//!
//! Lines of the file: `{"record": table, "identity": {columns}, "allowed"?: setting, "tags"?: […]}` once for
//! each distinct record, `{"poison": form, "hub", "partition"}` for each message that cannot be read,
//! `{"shown": "hunting" or "storage", "table", "identity", "at"}` for each row that another transport showed
//! from then on, `{"shown": "alert", "incident" or "activity", "id", "revision", "at"}` for each revision of
//! what is no row, and one `{"end": {…}}` with the totals.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::domain::{Tags, Ticks};

use super::envelope::Message;
use super::record::{Fact, identity};
use super::shown::Shown;

/// Totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Distinct records.
    pub records: u64,
    /// Records as often as the hubs got them.
    pub sent: u64,
    /// Of these, those that the hubs had got before.
    pub again: u64,
    /// First rows of mails: one for each mail and recipient.
    pub deliveries: u64,
    /// Of these, high-confidence phish that an ordinary allow let in.
    pub allowed: u64,
    /// Messages that these deliveries are copies of: one ticket each.
    pub allowed_messages: u64,
    /// Things that cannot be read.
    pub poison: u64,
    /// Messages.
    pub messages: u64,
}

/// How many examples of each fault are named.
const EXAMPLES: usize = 5;

type Key = [u8; 16];

#[derive(Debug)]
struct Known {
    /// Where its line begins in the file.
    line: u64,
    allowed: bool,
    tags: Option<Tags>,
    hubs_have_it: bool,
}

/// The ledger of what was sent.
#[derive(Debug)]
pub struct Truth {
    path: PathBuf,
    out: BufWriter<File>,
    written: u64,
    known: HashMap<Key, Known>,
    totals: Totals,
    mails: HashSet<Key>,
    allowed_messages: HashSet<Key>,
    shown: Shown,
}

#[derive(Serialize)]
struct RecordLine<'a> {
    record: &'a str,
    identity: &'a serde_json::value::RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<&'a str>>,
}

#[derive(serde::Deserialize)]
struct Mail<'a> {
    #[serde(rename = "NetworkMessageId")]
    message: &'a str,
    #[serde(rename = "RecipientEmailAddress")]
    recipient: &'a str,
}

impl Truth {
    /// Begins a file.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            out: BufWriter::new(File::create(path)?),
            written: 0,
            known: HashMap::new(),
            totals: Totals::default(),
            mails: HashSet::new(),
            allowed_messages: HashSet::new(),
            shown: Shown::default(),
        })
    }

    /// The broker has taken `message`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn sent(&mut self, message: &Message) -> io::Result<()> {
        self.totals.messages += 1;
        for fact in &message.facts {
            self.totals.sent += 1;
            self.record(fact)?;
            if let Some(known) = self.known.get_mut(&key_of(fact.table, &fact.identity)) {
                self.totals.again += u64::from(known.hubs_have_it);
                known.hubs_have_it = true;
            }
        }
        if let Some(form) = message.poison {
            self.totals.poison += 1;
            let line = serde_json::json!({
                "poison": form.as_str(), "hub": &*message.hub, "partition": message.partition
            });
            self.line(&line)?;
        }
        Ok(())
    }

    fn record(&mut self, fact: &Fact) -> io::Result<()> {
        let key = key_of(fact.table, &fact.identity);
        if self.known.contains_key(&key) {
            return Ok(());
        }
        self.totals.records += 1;
        if fact.table == "EmailEvents"
            && let Ok(mail) = serde_json::from_str::<Mail<'_>>(&fact.identity)
        {
            let is_new = self.mails.insert(key_of(mail.message, mail.recipient));
            self.totals.deliveries += u64::from(is_new);
            if fact.allowed.is_some() {
                self.totals.allowed += 1;
                let is_new = self.allowed_messages.insert(key_of("", mail.message));
                self.totals.allowed_messages += u64::from(is_new);
            }
        }
        let known = Known {
            line: self.written,
            allowed: fact.allowed.is_some(),
            tags: fact.tags.clone(),
            hubs_have_it: false,
        };
        self.known.insert(key, known);
        let identity: &serde_json::value::RawValue = serde_json::from_str(&fact.identity)?;
        let line = RecordLine {
            record: fact.table,
            identity,
            allowed: fact.allowed.as_ref().map(|allowed| allowed.kind),
            tags: fact.tags.as_ref().map(|tags| tags.words().collect()),
        };
        self.line(&line)
    }

    /// A row has become visible over another transport than the hubs.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn shown_row(&mut self, transport: &'static str, fact: &Fact, at: Ticks) -> io::Result<()> {
        self.record(fact)?;
        self.shown.row(transport);
        let identity: &serde_json::value::RawValue = serde_json::from_str(&fact.identity)?;
        let at = at.to_string();
        self.line(&serde_json::json!({
            "shown": transport, "table": fact.table, "identity": identity, "at": at
        }))
    }

    /// A revision of something that is no row (`alert`, `incident`, `activity`) has become visible.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn shown_item(
        &mut self,
        kind: &'static str,
        id: &str,
        revision: &str,
        at: Ticks,
    ) -> io::Result<()> {
        self.shown.item(kind, id, revision);
        let at = at.to_string();
        self.line(&serde_json::json!({ "shown": kind, "id": id, "revision": revision, "at": at }))
    }

    /// What has become visible beside the hubs.
    #[must_use]
    pub const fn shown(&self) -> &Shown {
        &self.shown
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.written += text.len() as u64;
        self.out.write_all(&text)
    }

    /// The totals so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Writes the last line and makes the file complete.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        let totals = self.totals;
        self.line(&serde_json::json!({ "end": totals }))?;
        self.out.flush()
    }

    /// Writes what is still held back, without completing the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Compares tickets, told by the message that each is about, with what there should be: one for each
    /// message of which a copy is allowed high-confidence phish. Returns how many are missing, are about
    /// other messages, and are about a message that has one already.
    #[must_use]
    pub fn compare_tickets<'a>(&self, messages: impl Iterator<Item = &'a str>) -> (u64, u64, u64) {
        let mut seen = HashSet::new();
        let (mut strangers, mut twice) = (0, 0);
        for message in messages {
            let key = key_of("", message);
            strangers += u64::from(!self.allowed_messages.contains(&key));
            twice += u64::from(!seen.insert(key));
        }
        let missing = self.allowed_messages.difference(&seen).count();
        (missing as u64, strangers, twice)
    }

    /// Begins a comparison with what arrived somewhere.
    #[must_use]
    pub fn compare(&self) -> Comparison<'_> {
        Comparison {
            truth: self,
            arrived: HashMap::with_capacity(self.known.len()),
            verdict: Verdict::default(),
        }
    }

    /// The line of a record, for a person.
    fn line_of(&self, known: &Known) -> String {
        let read = || -> io::Result<String> {
            let mut file = BufReader::new(File::open(&self.path)?);
            file.seek(SeekFrom::Start(known.line))?;
            let mut line = String::new();
            file.read_line(&mut line)?;
            Ok(line.trim_end().to_owned())
        };
        read().unwrap_or_else(|error| format!("(the line at byte {}: {error})", known.line))
    }
}

/// What a comparison found. Lists hold the first few; the numbers count all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Events that arrived.
    pub arrived: u64,
    /// Arrived events tagged as allowed high-confidence phish, among first rows of mails.
    pub allowed: u64,
    /// Sent, but not arrived.
    pub lost: u64,
    /// Arrived more than once.
    pub twice: u64,
    /// Arrived, but never sent.
    pub strangers: u64,
    /// With other tags than the model expects, allowed phish above all.
    pub mistagged: u64,
    /// One line for each of the first faults.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Whether everything arrived exactly once and as it should.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        self.lost == 0 && self.twice == 0 && self.strangers == 0 && self.mistagged == 0
    }

    pub(super) fn example(&mut self, fault: &str, count: u64, text: impl FnOnce() -> String) {
        if count <= EXAMPLES as u64 {
            self.examples.push(format!("{fault}: {}", text()));
        }
    }
}

/// A comparison in progress.
#[derive(Debug)]
pub struct Comparison<'a> {
    truth: &'a Truth,
    arrived: HashMap<Key, u32>,
    verdict: Verdict,
}

impl Comparison<'_> {
    /// An event of `table` with this row and these tags has arrived.
    pub fn arrived(&mut self, table: &str, row: &str, tags: &[&str]) {
        self.verdict.arrived += 1;
        let is_allowed = table == "EmailEvents" && tags.contains(&"allowed.hc_phish");
        self.verdict.allowed += u64::from(is_allowed);
        let identity = identity(table, row).unwrap_or_default();
        let key = key_of(table, &identity);
        let Some(known) = self.truth.known.get(&key) else {
            self.verdict.strangers += 1;
            let count = self.verdict.strangers;
            self.verdict.example("never sent", count, || format!("{table} {identity}"));
            return;
        };
        let times = self.arrived.entry(key).or_default();
        *times += 1;
        if *times == 2 {
            self.verdict.twice += 1;
            let count = self.verdict.twice;
            self.verdict.example("twice", count, || format!("{table} {identity}"));
        }
        let expected: Option<Vec<&str>> =
            known.tags.as_ref().map(|expected| expected.words().collect());
        let wrong = expected.as_ref().is_some_and(|expected| expected != tags);
        if wrong || (table == "EmailEvents" && known.allowed != is_allowed) {
            self.verdict.mistagged += 1;
            let count = self.verdict.mistagged;
            self.verdict.example("tags", count, || {
                format!("expected {expected:?}, found {tags:?} on {table} {identity}")
            });
        }
    }

    /// Ends it.
    #[must_use]
    pub fn verdict(mut self) -> Verdict {
        for (key, known) in &self.truth.known {
            if !self.arrived.contains_key(key) {
                self.verdict.lost += 1;
                let count = self.verdict.lost;
                self.verdict.example("lost", count, || self.truth.line_of(known));
            }
        }
        self.verdict
    }
}

fn key_of(table: &str, identity: &str) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(table.as_bytes()).update(b"\0").update(identity.as_bytes());
    let mut key = Key::default();
    hasher.finalize_xof().fill(&mut key);
    key
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{Tag, Ticks};
    use crate::simulator::record::Record;
    use crate::simulator::tenant::{Settings, Tenant};

    fn sent() -> (tempfile::TempDir, Truth, Vec<Record>) {
        let directory = tempfile::tempdir().unwrap();
        let mut truth = Truth::create(&directory.path().join("truth.ndjson")).unwrap();
        let settings = Settings { seed: 4, mails_per_second: 100.0, ..Settings::default() };
        let mut records = Vec::new();
        let mut tenant = Tenant::new(settings);
        tenant.advance(Ticks(0).plus_seconds(4), &mut |record| records.push(record));
        let mut message = Message {
            hub: Arc::from("hub"),
            partition: 0,
            body: Vec::new(),
            facts: records.iter().map(|record| Arc::clone(&record.fact)).collect(),
            poison: None,
        };
        truth.sent(&message).unwrap();
        message.facts.truncate(10);
        truth.sent(&message).unwrap();
        truth.finish().unwrap();
        (directory, truth, records)
    }

    fn distinct(records: &[Record]) -> Vec<&Record> {
        let mut seen = std::collections::HashSet::new();
        records
            .iter()
            .filter(|record| seen.insert(key_of(record.fact.table, &record.fact.identity)))
            .collect()
    }

    fn judge(truth: &Truth, arrived: &[&Record]) -> Verdict {
        let mut comparison = truth.compare();
        for record in arrived {
            let tags: Vec<&str> =
                record.fact.tags.as_ref().map_or_else(Vec::new, |tags| tags.words().collect());
            comparison.arrived(record.fact.table, record.properties.get(), &tags);
        }
        comparison.verdict()
    }

    #[test]
    fn everything_once_is_right() {
        let (_directory, truth, records) = sent();
        let verdict = judge(&truth, &distinct(&records));
        assert!(verdict.is_right(), "{verdict:?}");
        assert_eq!(verdict.arrived, truth.totals().records);
        assert_eq!(verdict.allowed, truth.totals().allowed);
        assert!(truth.totals().sent > truth.totals().records);
    }

    #[test]
    fn one_lost_and_one_doubled_do_not_cancel_out() {
        let (_directory, truth, records) = sent();
        let mut arrived = distinct(&records);
        arrived[7] = arrived[8];
        let verdict = judge(&truth, &arrived);
        assert_eq!((verdict.lost, verdict.twice, verdict.strangers), (1, 1, 0), "{verdict:?}");
        assert!(verdict.examples.iter().any(|example| example.starts_with("lost: {\"record\"")));
    }

    #[test]
    fn a_stranger_and_a_wrong_tag_are_found() {
        let (_directory, truth, records) = sent();
        let mut comparison = truth.compare();
        comparison.arrived("EmailEvents", r#"{"NetworkMessageId":"x"}"#, &[]);
        let mail = records.iter().find(|record| {
            record.fact.tags.as_ref().is_some_and(|tags| !tags.contains(Tag::AllowedHcPhish))
        });
        comparison.arrived("EmailEvents", mail.unwrap().properties.get(), &["allowed.hc_phish"]);
        let verdict = comparison.verdict();
        assert_eq!((verdict.strangers, verdict.mistagged), (1, 1), "{verdict:?}");
    }
}
