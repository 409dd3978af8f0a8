//! The explicit lists of sources and sinks in a configuration, and the keys that all of one family share.
//! Adding an adapter is one variant and one match arm here; its own keys are on top of its own file.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::Tenant;
use super::error::{ConfigError, did_you_mean};
use super::node::Node;
use crate::cloud::tenant::Need;
use crate::domain::{Tag, Ticks, tag::USER_PREFIX};
use crate::journal::{OnFull, ReaderStart};
use crate::pipeline::Filter;
use crate::render::Format;
use crate::sink::{self, SinkKind};
use crate::source::{self, SourceKind};

/// A source as configured: `[source.<name>]`.
#[derive(Debug)]
pub struct SourceConfig {
    /// The configured name.
    pub name: String,
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// How late records normally are, in seconds, before they count as late.
    pub normal_lag_seconds: u64,
    /// Which far end, with its own keys.
    pub kind: SourceKind,
    /// The whole table in canonical form: when it changes, the source is restarted.
    pub canonical: String,
}

pub(super) const SOURCE_KEYS: [&str; 4] = ["type", "tenant", "enabled", "normal_lag_seconds"];

/// A sink as configured: `[sink.<name>]`.
#[derive(Debug)]
pub struct SinkConfig {
    /// The configured name.
    pub name: String,
    /// Which events it takes.
    pub filter: Filter,
    /// Where it begins when the journal does not know it yet.
    pub start: ReaderStart,
    /// What happens when its backlog fills the journal.
    pub on_full: OnFull,
    /// Which far end, with its own keys.
    pub kind: SinkKind,
    /// The whole table in canonical form: when it changes, the sink is restarted.
    pub canonical: String,
}

pub(super) const SINK_KEYS: [&str; 6] = ["type", "enabled", "format", "filter", "start", "on_full"];

/// Reads `[source.<name>]`; `None` if it is switched off (but checked all the same).
///
/// # Errors
/// Everything that is wrong with it.
pub fn source(
    name: &str,
    node: &Node<'_>,
    tenants: &BTreeMap<String, Arc<Tenant>>,
) -> Result<Option<SourceConfig>, Vec<ConfigError>> {
    let mut keys = Keys { node, errors: Vec::new() };
    let enabled = keys.or("enabled", true);
    let tenant = keys.tenant(tenants);
    let rest = node.without(&SOURCE_KEYS);
    let own = node.own(&rest, &SOURCE_KEYS);
    let kind = match keys.word("type", &source::TYPES) {
        Some("event_hubs") => keys.own(&own).map(SourceKind::EventHubs),
        Some("file") => keys.own(&own).map(SourceKind::File),
        Some("hunting") => keys.own(&own).map(SourceKind::Hunting),
        Some("storage") => keys.own(&own).map(SourceKind::Storage),
        Some("incidents") => keys.own(&own).map(SourceKind::Incidents),
        Some("alerts") => keys.own(&own).map(SourceKind::Alerts),
        Some("activity") => keys.own(&own).map(SourceKind::Activity),
        _ => None,
    };
    if let (Some(kind), Some(tenant)) = (&kind, &tenant) {
        // The cloud does not have it: better said now than by an address that leads nowhere.
        let lacking = |need: &Need| tenant.config.lacks(need.workload);
        keys.errors.extend(kind.needs().iter().find_map(lacking).map(|why| node.error(why)));
    }
    let usual = kind.as_ref().map_or(0, SourceKind::normal_lag_seconds);
    let lag = keys.or("normal_lag_seconds", usual);
    match (keys.done(), kind, tenant) {
        (Ok(()), Some(kind), Some(tenant)) => Ok(enabled.then(|| SourceConfig {
            name: name.to_owned(),
            canonical: format!("{} {}", tenant.canonical, node.canonical()),
            tenant,
            normal_lag_seconds: lag,
            kind,
        })),
        (Err(errors), ..) => Err(errors),
        _ => Err(Vec::new()),
    }
}

/// Tells each source of incidents whether alerts of the same tenant have a source of their own: only one of them
/// emits alerts.
pub(super) fn share_alerts(sources: &mut [SourceConfig]) {
    let is_alerts = |source: &&SourceConfig| matches!(source.kind, SourceKind::Alerts(_));
    let elsewhere: Vec<Arc<str>> =
        sources.iter().filter(is_alerts).map(|source| Arc::clone(&source.tenant.id)).collect();
    for source in sources {
        if let SourceKind::Incidents(config) = &mut source.kind {
            config.alerts_elsewhere = elsewhere.contains(&source.tenant.id);
            // It is another source then: a reload restarts it.
            source.canonical.push_str(&format!(" alerts_elsewhere = {}", config.alerts_elsewhere));
        }
    }
}

/// Reads `[sink.<name>]`; `None` if it is switched off (but checked all the same).
///
/// # Errors
/// Everything that is wrong with it.
pub fn sink(name: &str, node: &Node<'_>) -> Result<Option<SinkConfig>, Vec<ConfigError>> {
    let mut keys = Keys { node, errors: Vec::new() };
    let enabled = keys.or("enabled", true);
    let filter = keys.filter();
    let start = keys.start();
    let on_full = keys.or("on_full", OnFull::default());
    let format = keys.or("format", Format::Native);
    let rest = node.without(&SINK_KEYS);
    let own = node.own(&rest, &SINK_KEYS);
    let kind = match keys.word("type", &sink::TYPES) {
        Some("file") => keys.own(&own).map(|config| SinkKind::File(config, format)),
        Some("ticket") => {
            keys.ticket(&filter);
            keys.own(&own).map(SinkKind::Ticket)
        }
        Some("kafka") => keys.own(&own).map(|config| SinkKind::Kafka(config, format)),
        Some("stdout") => keys.own::<NoKeys>(&own).map(|_| SinkKind::Stdout(format)),
        _ => None,
    };
    match (keys.done(), kind) {
        (Ok(()), Some(kind)) => Ok(enabled.then(|| SinkConfig {
            name: name.to_owned(),
            filter,
            start,
            on_full,
            kind,
            canonical: node.canonical(),
        })),
        (Err(errors), _) => Err(errors),
        _ => Err(Vec::new()),
    }
}

/// An adapter without keys of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoKeys {}

/// Reads single keys of a table and gathers what is wrong with them.
struct Keys<'n, 'a> {
    node: &'n Node<'a>,
    errors: Vec<ConfigError>,
}

impl Keys<'_, '_> {
    fn note<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    fn or<T: serde::de::DeserializeOwned>(&mut self, key: &str, default: T) -> T {
        match self.node.get(key) {
            Some(node) => self.note(node.read()).unwrap_or(default),
            None => default,
        }
    }

    fn own<T: serde::de::DeserializeOwned>(&mut self, own: &Node<'_>) -> Option<T> {
        self.note(own.read())
    }

    /// A required word out of a list.
    fn word<'w>(&mut self, key: &str, words: &[&'w str]) -> Option<&'w str> {
        let Some(node) = self.node.get(key) else {
            let expected = format!("one of: {}", words.join(", "));
            self.errors.push(self.node.missing(key, &expected));
            return None;
        };
        let text: String = self.note(node.read())?;
        let known = words.iter().find(|word| **word == text).copied();
        if known.is_none() {
            self.errors.push(node.unknown_word(words));
        }
        known
    }

    fn tenant(&mut self, tenants: &BTreeMap<String, Arc<Tenant>>) -> Option<Arc<Tenant>> {
        let names: Vec<&str> = tenants.keys().map(String::as_str).collect();
        if let Some(node) = self.node.get("tenant") {
            let name: String = self.note(node.read())?;
            let tenant = tenants.get(&name).cloned();
            if tenant.is_none() {
                self.errors.push(node.unknown_word(&names).hint("each is a table [tenant.<name>]"));
            }
            return tenant;
        }
        let mut ids = tenants.values();
        match (ids.next(), ids.next()) {
            (Some(only), None) => Some(Arc::clone(only)),
            (None, _) => {
                let hint = "add [tenant.<name>] with the Entra tenant id";
                self.errors.push(self.node.missing("tenant", "the name of a tenant").hint(hint));
                None
            }
            _ => {
                let expected = format!("one of: {}", names.join(", "));
                self.errors.push(self.node.missing("tenant", &expected));
                None
            }
        }
    }

    /// A filter whose every word can match something: a typing error would silently deliver nothing.
    fn filter(&mut self) -> Filter {
        let filter: Filter = self.or("filter", Filter::default());
        let Some(tags) = self.node.get("filter").and_then(|filter| filter.get("tags")) else {
            return filter;
        };
        for wanted in &filter.tags {
            let family = wanted.strip_suffix('*');
            let known = Tag::ALL.iter().any(|tag| match family {
                Some(family) => tag.as_str().starts_with(family),
                None => tag.as_str() == wanted,
            });
            if known || wanted.starts_with(USER_PREFIX) {
                continue;
            }
            let error = tags.error(format!("found {wanted:?}, expected words of tags"));
            let hint = match did_you_mean(wanted, Tag::ALL.iter().map(|tag| tag.as_str())) {
                Some(meant) => format!("did you mean {meant}?"),
                None => {
                    "a word such as override.harmful, a family such as allowed.*, or user.<rule>"
                        .to_owned()
                }
            };
            self.errors.push(error.hint(hint));
        }
        filter
    }

    /// What only a ticket sink must have and must not have.
    fn ticket(&mut self, filter: &Filter) {
        if let Some(format) = self.node.get("format") {
            self.errors
                .push(format.error("found a format, expected none: a ticket is not an event"));
        }
        if filter.tags.is_empty() && filter.kinds.is_empty() {
            let hint = "without one, every single event would open a ticket";
            self.errors.push(self.node.missing("filter", "tags or kinds").hint(hint));
        }
    }

    fn start(&mut self) -> ReaderStart {
        let Some(node) = self.node.get("start") else { return ReaderStart::Now };
        let Some(text) = self.note(node.read::<String>()) else { return ReaderStart::Now };
        match text.as_str() {
            "now" => ReaderStart::Now,
            "beginning" => ReaderStart::Beginning,
            time => Ticks::parse(time).map(ReaderStart::Time).unwrap_or_else(|| {
                let expected =
                    "expected \"now\", \"beginning\" or a time like 2026-08-20T00:00:00Z";
                self.errors.push(node.error(format!("found {}, {expected}", node.found())));
                ReaderStart::Now
            }),
        }
    }

    fn done(&mut self) -> Result<(), Vec<ConfigError>> {
        let errors = std::mem::take(&mut self.errors);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}
