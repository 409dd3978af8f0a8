//! Packs records into messages as the Streaming API does: many records in one `{"records":[…]}`, one hub per
//! table or one for all, and on request a message now and then that nobody can read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::Ticks;

use super::random::Random;
use super::record::{Fact, Record};
use super::writer::seven_digits;

/// The hubs that records go to.
#[derive(Debug, Clone)]
pub enum Hubs {
    /// One hub for everything.
    One(String),
    /// One for each table, named as Azure names them, with something in front where several tenants share a
    /// broker.
    PerTable {
        /// Put in front of the name.
        prefix: String,
    },
}

/// The tables that the tenant exports.
pub const TABLES: [&str; 8] = [
    "EmailEvents",
    "EmailUrlInfo",
    "EmailAttachmentInfo",
    "EmailPostDeliveryEvents",
    "UrlClickEvents",
    "AlertInfo",
    "AlertEvidence",
    "CampaignInfo",
];

impl Hubs {
    /// The hub for a table.
    #[must_use]
    pub fn hub(&self, table: &str) -> String {
        match self {
            Self::One(name) => name.clone(),
            Self::PerTable { prefix } => {
                format!("{prefix}insights-logs-advancedhunting-{}", table.to_lowercase())
            }
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name.clone()],
            Self::PerTable { .. } => TABLES.iter().map(|table| self.hub(table)).collect(),
        }
    }
}

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The hub.
    pub hub: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The body.
    pub body: Vec<u8>,
    /// The facts of the records in it that can be read, one for each time a record is in it.
    pub facts: Vec<Arc<Fact>>,
    /// What in it cannot be read: exactly one dead letter each.
    pub poison: Option<Poison>,
}

/// A way in which a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Poison {
    /// It ends in the middle of a record.
    #[default]
    Cut,
    /// It is no text.
    Binary,
    /// A number stands where a record should be, between good records.
    Number,
    /// An error page of some proxy.
    ErrorPage,
}

impl Poison {
    /// The word in the truth file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Binary => "binary",
            Self::Number => "number",
            Self::ErrorPage => "error_page",
        }
    }
}

/// A record in its envelope, on one line.
#[must_use]
pub fn line(tenant_id: &str, record: &Record) -> String {
    format!(
        "{{\"time\":\"{}Z\",\"tenantId\":\"{tenant_id}\",\"operationName\":\"Publish\",\"category\":\"AdvancedHunting-{}\",\"_TimeReceivedBySvc\":\"{}\",\"properties\":{},\"Tenant\":\"DefaultTenant\"}}",
        seven_digits(record.visible),
        record.fact.table,
        record.received,
        record.properties.get(),
    )
}

/// Event Hubs takes a megabyte; Microsoft stays far below.
const BODY_LIMIT: usize = 200_000;

/// Packs.
#[derive(Debug)]
pub struct Packer {
    hubs: Hubs,
    partitions: u64,
    tenant_id: Arc<str>,
    random: Random,
    poison_per_mille: u64,
    open: BTreeMap<(&'static str, u64), Open>,
    names: BTreeMap<&'static str, Arc<str>>,
}

#[derive(Debug, Default)]
struct Open {
    since: Ticks,
    body: Vec<u8>,
    last_record: usize,
    wanted: usize,
    facts: Vec<Arc<Fact>>,
}

impl Packer {
    /// A packer for `partitions` partitions of each hub; of a thousand messages `poison_per_mille` are
    /// followed by one that cannot be read.
    #[must_use]
    pub fn new(
        hubs: Hubs,
        partitions: i32,
        tenant_id: Arc<str>,
        seed: u64,
        poison_per_mille: u64,
    ) -> Self {
        let names = TABLES.iter().map(|table| (*table, hubs.hub(table).into())).collect();
        Self {
            hubs,
            partitions: u64::try_from(partitions).unwrap_or(1).max(1),
            tenant_id,
            random: Random::new(seed ^ 0x00e4_7e10_be00),
            poison_per_mille,
            open: BTreeMap::new(),
            names,
        }
    }

    /// Adds a record; hands over what is full.
    pub fn add(&mut self, record: &Record, out: &mut Vec<Message>) {
        let table = record.fact.table;
        let shared = matches!(self.hubs, Hubs::One(_));
        let place = (if shared { "" } else { table }, record.lane % self.partitions);
        let open = self.open.entry(place).or_default();
        if open.body.is_empty() {
            open.since = record.visible;
            open.wanted = usize::try_from(self.random.between(8, 40)).unwrap_or(8);
            open.body.extend_from_slice(b"{\"records\":[");
        } else {
            open.body.push(b',');
        }
        open.last_record = open.body.len();
        let element = line(&self.tenant_id, record);
        open.body.extend_from_slice(element.as_bytes());
        open.facts.push(Arc::clone(&record.fact));
        if open.facts.len() >= open.wanted || open.body.len() >= BODY_LIMIT {
            self.close(place, table, out);
        }
    }

    /// Hands over what has been open since before `until`.
    pub fn flush(&mut self, until: Ticks, out: &mut Vec<Message>) {
        let due: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| !open.body.is_empty() && open.since < until)
            .map(|(place, _)| *place)
            .collect();
        for place in due {
            let table = if place.0.is_empty() { "EmailEvents" } else { place.0 };
            self.close(place, table, out);
        }
    }

    fn close(&mut self, place: (&'static str, u64), table: &'static str, out: &mut Vec<Message>) {
        let Some(mut open) = self.open.remove(&place) else { return };
        open.body.extend_from_slice(b"]}");
        let hub = self.names.get(table).cloned().unwrap_or_default();
        let message = Message {
            hub,
            partition: i32::try_from(place.1).unwrap_or(0),
            body: open.body,
            facts: open.facts,
            poison: None,
        };
        let poison = self.random.chance(self.poison_per_mille).then(|| {
            let form =
                self.random.pick(&[Poison::Cut, Poison::Binary, Poison::Number, Poison::ErrorPage]);
            self.spoil(&message, open.last_record, form)
        });
        out.push(message);
        out.extend(poison);
    }

    /// A message that cannot be read, made from one that has just been sent: whatever a reader saves from it
    /// has been there before, so only the damage itself counts.
    fn spoil(&mut self, sent: &Message, last_record: usize, form: Poison) -> Message {
        let mut spoiled = sent.clone();
        spoiled.poison = Some(form);
        match form {
            Poison::Cut => {
                let into =
                    last_record + usize::try_from(self.random.between(20, 300)).unwrap_or(20);
                spoiled.body.truncate(into);
                spoiled.facts.pop();
            }
            Poison::Binary => {
                spoiled.body = vec![0x1f, 0x8b];
                for _ in 0..self.random.between(20, 400) {
                    spoiled.body.push(u8::try_from(self.random.between(128, 255)).unwrap_or(200));
                }
                spoiled.facts.clear();
            }
            Poison::Number => {
                let number = format!("{},", self.random.next() >> 20);
                let tail = spoiled.body.split_off(last_record);
                spoiled.body.extend_from_slice(number.as_bytes());
                spoiled.body.extend_from_slice(&tail);
            }
            Poison::ErrorPage => {
                let number = self.random.next() >> 20;
                spoiled.body =
                    format!("<html><body>502 Bad Gateway, request {number}</body></html>")
                        .into_bytes();
                spoiled.facts.clear();
            }
        }
        spoiled
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::simulator::tenant::{Settings, Tenant};

    fn messages(hubs: Hubs, poison_per_mille: u64) -> Vec<Message> {
        let settings = Settings { seed: 9, mails_per_second: 100.0, ..Settings::default() };
        let mut packer = Packer::new(hubs, 4, settings.tenant_id.clone(), 9, poison_per_mille);
        let mut tenant = Tenant::new(settings);
        let mut out = Vec::new();
        tenant.advance(Ticks(0).plus_seconds(5), &mut |record| packer.add(&record, &mut out));
        tenant.finish(&mut |record| packer.add(&record, &mut out));
        packer.flush(Ticks(i64::MAX), &mut out);
        out
    }

    #[test]
    fn a_message_holds_many_records_in_microsofts_envelope_and_nothing_is_left_behind() {
        let messages = messages(Hubs::PerTable { prefix: String::new() }, 0);
        let mut records = 0;
        for message in &messages {
            let body: Value = serde_json::from_slice(&message.body).unwrap();
            let inside = body["records"].as_array().unwrap();
            assert_eq!(inside.len(), message.facts.len());
            records += inside.len();
            for record in inside {
                let table = record["category"].as_str().unwrap();
                let table = table.strip_prefix("AdvancedHunting-").unwrap().to_lowercase();
                assert!(message.hub.ends_with(&table), "{} {table}", message.hub);
                assert!(Ticks::parse(record["time"].as_str().unwrap()).is_some());
                assert!(record["properties"]["Timestamp"].is_string());
            }
        }
        assert!(records > messages.len() * 5, "{records} in {}", messages.len());
    }

    #[test]
    fn every_form_of_poison_occurs_and_none_of_them_can_be_read_whole() {
        let messages = messages(Hubs::One("hub".into()), 500);
        for form in [Poison::Cut, Poison::Binary, Poison::Number, Poison::ErrorPage] {
            let spoiled: Vec<&Message> =
                messages.iter().filter(|message| message.poison == Some(form)).collect();
            assert!(!spoiled.is_empty(), "{form:?}");
            for message in spoiled {
                let body: Option<Value> = serde_json::from_slice(&message.body).ok();
                let all_objects = body.is_some_and(|body| {
                    body["records"].as_array().unwrap().iter().all(Value::is_object)
                });
                assert!(!all_objects, "{form:?}");
            }
        }
    }
}
