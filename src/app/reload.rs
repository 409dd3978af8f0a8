//! What a new configuration means for a running daemon: which parts stop, which start, and what can only
//! change with a restart. Pure: it compares, the daemon's life acts.

use std::collections::BTreeMap;

use crate::config::{Config, SinkConfig, SourceConfig};

/// What the name of a source's part begins with.
pub const SOURCE: &str = "source ";
/// What the name of a sink's part begins with.
pub const SINK: &str = "sink ";

/// The difference between what runs and what is wanted. A part that changed is in both lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Parts to stop, sources first.
    pub stop: Vec<String>,
    /// Parts to start.
    pub start: Vec<String>,
    /// Keys whose change has to wait for a restart.
    pub needs_restart: Vec<&'static str>,
}

/// Parts with the canonical form of their configuration.
pub type Running = BTreeMap<String, String>;

/// Compares.
#[must_use]
pub fn plan(
    fixed: &BTreeMap<&'static str, String>,
    sources: &Running,
    sinks: &Running,
    config: &Config,
) -> Plan {
    let wanted_sources =
        config.sources.iter().map(|c| (format!("{SOURCE}{}", c.name), &c.canonical));
    let wanted_sinks = config.sinks.iter().map(|c| (format!("{SINK}{}", c.name), &c.canonical));
    let mut plan = Plan::default();
    compare(sources, wanted_sources.collect(), &mut plan);
    compare(sinks, wanted_sinks.collect(), &mut plan);
    let changed = config.fixed.iter().filter(|(key, value)| fixed.get(*key) != Some(*value));
    plan.needs_restart = changed.map(|(key, _)| *key).collect();
    plan
}

fn compare(running: &Running, wanted: BTreeMap<String, &String>, plan: &mut Plan) {
    let gone = running.iter().filter(|(part, is)| wanted.get(*part) != Some(is));
    plan.stop.extend(gone.map(|(part, _)| part.clone()));
    let new = wanted.iter().filter(|(part, should)| running.get(*part) != Some(**should));
    plan.start.extend(new.map(|(part, _)| part.clone()));
}

impl Plan {
    /// The sources to start.
    pub fn sources<'c>(&'c self, config: &'c Config) -> impl Iterator<Item = &'c SourceConfig> {
        config.sources.iter().filter(|c| self.starts(SOURCE, &c.name))
    }

    /// The sinks to start.
    pub fn sinks<'c>(&'c self, config: &'c Config) -> impl Iterator<Item = &'c SinkConfig> {
        config.sinks.iter().filter(|c| self.starts(SINK, &c.name))
    }

    fn starts(&self, family: &str, name: &str) -> bool {
        self.start.iter().any(|part| part.strip_prefix(family) == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        Config::from_text(Path::new("p.toml"), text).unwrap()
    }

    fn running(config: &Config) -> Running {
        config.sinks.iter().map(|c| (format!("{SINK}{}", c.name), c.canonical.clone())).collect()
    }

    #[track_caller]
    fn check(before: &str, after: &str, stop: &[&str], start: &[&str], needs_restart: &[&str]) {
        let (before, after) = (config(before), config(after));
        let plan = plan(&before.fixed, &Running::new(), &running(&before), &after);
        assert_eq!(plan.stop, stop);
        assert_eq!(plan.start, start);
        assert_eq!(plan.needs_restart, needs_restart);
    }

    const A: &str = "[sink.a]\ntype = \"stdout\"\n";
    const A_TAGGED: &str = "[sink.a]\ntype = \"stdout\"\nfilter.tags = [\"allowed.*\"]\n";
    const B: &str = "[sink.b]\ntype = \"stdout\"\n";

    #[test]
    fn only_what_changed_is_touched() {
        check(A, A, &[], &[], &[]);
        check(A, &format!("# moved\n{B}{A}"), &[], &["sink b"], &[]);
        check(&format!("{A}{B}"), A, &["sink b"], &[], &[]);
        check(&format!("{A}{B}"), &format!("{A_TAGGED}{B}"), &["sink a"], &["sink a"], &[]);
        check(A, "[sink.a]\ntype = \"stdout\"\nenabled = false\n", &["sink a"], &[], &[]);
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        check(A, &format!("data_dir = \"/elsewhere\"\n{A}"), &[], &[], &["data_dir"]);
        check(A, &format!("{A}[journal]\nquota_bytes = 1\n"), &[], &[], &["journal"]);
        check(A, &format!("{A}[log]\nlevel = \"debug\"\n"), &[], &[], &[]);
        check(A, &format!("{A}[log]\nformat = \"json\"\n"), &[], &[], &["log.format"]);
    }
}
