//! The explicit lists: from a configured source or sink to the part that does the work. One arm per adapter.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{SinkConfig, SourceConfig};
use crate::journal::{Clock, Journal};
use crate::pipeline::deliver::SinkSettings;
use crate::pipeline::{AdapterError, Sink, Source};

/// How long a sink on hold waits before it probes again.
const HOLD_PROBE: Duration = Duration::from_secs(60);

/// What adapters may need from the process.
#[derive(Clone)]
pub struct Surroundings {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// The source of a configuration.
///
/// # Errors
/// If the adapter refuses its configuration.
pub fn source(
    config: &SourceConfig,
    surroundings: &Surroundings,
) -> Result<Box<dyn Source>, AdapterError> {
    crate::source::build(&config.name, config.kind.clone(), &surroundings.clock)
}

/// The sink of a configuration.
///
/// # Errors
/// If the adapter refuses its configuration.
pub fn sink(
    config: &SinkConfig,
    surroundings: &Surroundings,
) -> Result<Box<dyn Sink>, AdapterError> {
    crate::sink::build(
        &config.name,
        config.kind.clone(),
        &surroundings.journal,
        &surroundings.clock,
    )
}

/// What the pipeline has to know about a sink.
#[must_use]
pub fn sink_settings(config: &SinkConfig) -> SinkSettings {
    SinkSettings {
        name: config.name.as_str().into(),
        filter: config.filter.clone(),
        start: config.start,
        on_full: config.on_full,
        hold_probe: HOLD_PROBE,
    }
}
