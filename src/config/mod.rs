//! The configuration: read in layers, checked whole, turned into the types that the parts are made from.
//! What a part's own keys mean is on top of that part's file; here are the keys that all of them share.

pub mod component;
pub mod document;
pub mod error;
pub mod node;
#[cfg(test)]
mod reference;
mod strict;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use component::{SinkConfig, SourceConfig};

pub use crate::sink::SinkKind;
pub use crate::source::SourceKind;
pub use document::Document;
pub use error::{ConfigError, ConfigErrors, Place};
use node::Node;

use crate::app::log::LogConfig;
use crate::app::ops::OpsConfig;
use crate::cloud::secret::Secret;
use crate::cloud::tenant::TenantConfig;
use crate::journal::JournalConfig;
use crate::ledger::LedgerConfig;

/// Where the configuration is unless `--config` says otherwise.
pub const DEFAULT_FILE: &str = "/etc/postern/postern.toml";
/// Where the journal is unless `data_dir` says otherwise. Not the state directory itself but a folder in it:
/// the journal's id is noted beside the folder, so that an empty or foreign volume in its place is noticed.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/postern/data";

/// The keys at the top of the document.
const TOP: [&str; 8] = ["data_dir", "journal", "ops", "log", "ledger", "tenant", "source", "sink"];

/// What a reload cannot change.
const FIXED: [&str; 5] = ["data_dir", "journal", "ops", "log.format", "ledger"];

/// A tenant as configured: `[tenant.<name>]`.
#[derive(Debug)]
pub struct Tenant {
    /// The Entra tenant id, lower-case.
    pub id: Arc<str>,
    /// All of it.
    pub config: TenantConfig,
    /// The whole table in canonical form: when it changes, the tenant's sources are restarted.
    pub canonical: String,
}

/// A whole configuration, checked.
#[derive(Debug)]
pub struct Config {
    /// Directory of the journal and the lock. One daemon per directory.
    pub data_dir: PathBuf,
    /// The journal's limits.
    pub journal: JournalConfig,
    /// The operations listener.
    pub ops: OpsConfig,
    /// The log.
    pub log: LogConfig,
    /// The completeness ledger.
    pub ledger: LedgerConfig,
    /// Tenants by configured name.
    pub tenants: BTreeMap<String, Arc<Tenant>>,
    /// Enabled sources, by name.
    pub sources: Vec<SourceConfig>,
    /// Enabled sinks, by name.
    pub sinks: Vec<SinkConfig>,
    /// The names of all sinks, those that are switched off too: they keep their place in the journal.
    pub sink_names: BTreeSet<String>,
    /// Every reference to a secret, with its key.
    pub secrets: Vec<(String, Secret)>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<ConfigError>,
    /// What cannot change without a restart, by section, in canonical form.
    pub fixed: BTreeMap<&'static str, String>,
}

impl Config {
    /// Reads `files` (the default file if empty) and the process's environment.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn load(files: &[PathBuf]) -> Result<Self, ConfigErrors> {
        let default = [PathBuf::from(DEFAULT_FILE)];
        let files = if files.is_empty() { &default } else { files };
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::read(&Document::load(files, environment)?)
    }

    /// Reads one text, as a file of this path, without any environment.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn from_text(path: &Path, text: &str) -> Result<Self, ConfigErrors> {
        Self::read(&Document::merge(&[(error::shared(path), text.to_owned())], [])?)
    }

    /// Checks a merged document and reads it.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn read(document: &Document) -> Result<Self, ConfigErrors> {
        let root = Node::root(document);
        let mut reader = Reader { root: &root, errors: Vec::new() };
        reader.unknown_sections();
        let data_dir = reader.section("data_dir").unwrap_or_else(|| DEFAULT_DATA_DIR.into());
        let journal = reader.section("journal").unwrap_or_default();
        let ops = reader.section("ops").unwrap_or_default();
        let log = reader.section("log").unwrap_or_default();
        let ledger = reader.ledger();
        let tenants = reader.tenants();
        let mut sources =
            reader.components("source", |name, node| component::source(name, node, &tenants));
        component::share_alerts(&mut sources);
        let sinks = reader.components("sink", component::sink);
        if !reader.errors.is_empty() {
            reader.errors.sort();
            return Err(ConfigErrors(reader.errors));
        }
        let secrets = secrets(document, &root);
        let warnings = warnings(&root, &sources, &sinks);
        let fixed =
            FIXED.map(|key| (key, root.at(key).map(|node| node.canonical()).unwrap_or_default()));
        let sink_names = root.get("sink").map(|sinks| sinks.children()).unwrap_or_default();
        let sink_names = sink_names.into_iter().map(|(name, _)| name.to_owned()).collect();
        let fixed = fixed.into();
        Ok(Self {
            data_dir,
            journal,
            ops,
            log,
            ledger,
            tenants,
            sources,
            sinks,
            sink_names,
            secrets,
            warnings,
            fixed,
        })
    }
}

struct Reader<'a> {
    root: &'a Node<'a>,
    errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    fn unknown_sections(&mut self) {
        for (name, node) in self.root.children() {
            if !TOP.contains(&name) {
                self.errors.push(node.unknown(TOP));
            }
        }
    }

    fn note<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    fn section<T: serde::de::DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let node = self.root.get(name)?;
        self.note(node.read())
    }

    fn ledger(&mut self) -> LedgerConfig {
        let ledger: LedgerConfig = self.section("ledger").unwrap_or_default();
        if let (Some(problem), Some(node)) = (ledger.problem(), self.root.get("ledger")) {
            self.errors.push(node.error(problem));
        }
        ledger
    }

    /// The tables of `[<section>.<name>]`, each with a name that can stand in keys, labels and file names.
    fn named(&mut self, section: &str) -> Vec<(&'a str, Node<'a>)> {
        let Some(node) = self.root.get(section) else { return Vec::new() };
        if !node.is_table() {
            let expected = format!("expected tables [{section}.<name>]");
            self.errors.push(node.error(format!("found {}, {expected}", node.found())));
        }
        let (good, bad): (Vec<_>, Vec<_>) =
            node.children().into_iter().partition(|(name, _)| is_name(name));
        for (name, node) in bad {
            let expected = "expected up to 40 lower-case letters, digits, _ and -, a letter first";
            self.errors.push(node.error(format!("found the name {name:?}, {expected}")));
        }
        good
    }

    fn tenants(&mut self) -> BTreeMap<String, Arc<Tenant>> {
        let mut tenants = BTreeMap::new();
        for (name, node) in self.named("tenant") {
            let Some(table) = self.note(node.read::<TenantConfig>()) else { continue };
            if is_guid(&table.id) {
                let tenant = Tenant {
                    id: table.id.to_ascii_lowercase().into(),
                    config: table,
                    canonical: node.canonical(),
                };
                tenants.insert(name.to_owned(), Arc::new(tenant));
            } else if let Some(id) = node.get("id") {
                let expected =
                    "expected an Entra tenant id like 11111111-2222-3333-4444-555555555555";
                self.errors.push(id.error(format!("found {}, {expected}", id.found())));
            }
        }
        tenants
    }

    fn components<T>(
        &mut self,
        section: &str,
        read: impl Fn(&str, &Node<'_>) -> Result<Option<T>, Vec<ConfigError>>,
    ) -> Vec<T> {
        let mut components = Vec::new();
        for (name, node) in self.named(section) {
            match read(name, &node) {
                Ok(component) => components.extend(component),
                Err(errors) => self.errors.extend(errors),
            }
        }
        components
    }
}

fn secrets(document: &Document, root: &Node<'_>) -> Vec<(String, Secret)> {
    let read = |key: String| {
        let secret = root.at(&key)?.read().ok()?;
        Some((key, secret))
    };
    document.secrets().into_iter().filter_map(read).collect()
}

fn warnings(root: &Node<'_>, sources: &[SourceConfig], sinks: &[SinkConfig]) -> Vec<ConfigError> {
    let mut warnings = Vec::new();
    if sources.is_empty() {
        warnings.push(root.error("no source is configured, so nothing will be fetched"));
    }
    if sinks.is_empty() {
        warnings.push(root.error("no sink is configured, so events stay in the journal"));
    }
    warnings
}

/// Whether `name` can be a component's name.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(plain)
}

fn is_guid(text: &str) -> bool {
    let parts: BTreeSet<usize> =
        text.char_indices().filter(|(_, c)| *c == '-').map(|(place, _)| place).collect();
    text.len() == 36
        && parts == BTreeSet::from([8, 13, 18, 23])
        && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}
