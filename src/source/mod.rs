//! Floor 3: where events come from. One far end per file or folder, and the one list of them all; the pipeline
//! decides when they are called.

pub mod activity;
pub mod event_hubs;
pub mod file;
pub mod graph;
pub mod hunting;
pub mod planted;
pub mod storage;

use std::sync::Arc;

pub use self::activity::{Activity, ActivityConfig};
pub use self::event_hubs::{EventHubs, EventHubsConfig};
pub use self::file::{FileSource, FileSourceConfig};
pub use self::graph::{AlertsConfig, IncidentsConfig};
pub use self::hunting::{Hunting, HuntingConfig};
pub use self::storage::{Storage, StorageConfig};
use crate::cloud::tenant::{Need, TenantAccess};
use crate::journal::Clock;
use crate::pipeline::{AdapterError, Source};

/// The list of sources, each with its own configuration.
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// The Streaming API over Event Hubs.
    EventHubs(EventHubsConfig),
    /// Files and folders.
    File(FileSourceConfig),
    /// Advanced hunting through Graph.
    Hunting(HuntingConfig),
    /// The Streaming API over a storage account.
    Storage(StorageConfig),
    /// Incidents of Graph.
    Incidents(IncidentsConfig),
    /// Alerts of Graph.
    Alerts(AlertsConfig),
    /// The Office 365 Management Activity API.
    Activity(ActivityConfig),
}

/// The words of `type` in `[source.<name>]`.
pub const TYPES: [&str; 7] =
    ["event_hubs", "file", "hunting", "storage", "incidents", "alerts", "activity"];

impl SourceKind {
    /// How late a record normally arrives, in seconds: what is later counts as `late`.
    #[must_use]
    pub const fn normal_lag_seconds(&self) -> u64 {
        match self {
            Self::EventHubs(_) | Self::Incidents(_) | Self::Alerts(_) => 30 * 60,
            // Exports are of any age.
            Self::File(_) => 24 * 60 * 60,
            Self::Hunting(_) => 90 * 60,
            Self::Storage(_) => 12 * 60 * 60,
            Self::Activity(_) => 24 * 3600,
        }
    }
}

impl SourceKind {
    /// What it needs from its tenant's APIs: the token's scope, and the permissions in it.
    #[must_use]
    pub const fn needs(&self) -> &'static [Need] {
        match self {
            Self::EventHubs(_) | Self::File(_) | Self::Storage(_) => &[],
            Self::Hunting(_) => &[Need::HUNTING],
            Self::Incidents(config) if config.expands() => &[Need::INCIDENTS, Need::ALERTS],
            Self::Incidents(_) => &[Need::INCIDENTS],
            Self::Alerts(_) => &[Need::ALERTS],
            Self::Activity(_) => &[Need::ACTIVITY],
        }
    }
}

/// What a source may need from the process.
#[derive(Clone)]
pub struct Tools {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Its tenant's way into Microsoft's APIs.
    pub tenant: TenantAccess,
}

/// Makes the source `name`. Connects to nothing.
///
/// # Errors
/// If its configuration is wrong in a way that only the adapter can see.
pub fn build(name: &str, kind: SourceKind, tools: &Tools) -> Result<Box<dyn Source>, AdapterError> {
    Ok(match kind {
        SourceKind::EventHubs(config) => Box::new(
            EventHubs::new(name, config, Arc::clone(&tools.clock))?
                .with_tenant(tools.tenant.clone()),
        ),
        SourceKind::File(config) => {
            Box::new(FileSource::new(name, config, Arc::clone(&tools.clock))?)
        }
        SourceKind::Hunting(config) => {
            let clock = Arc::clone(&tools.clock);
            Box::new(Hunting::new(name, &config, tools.tenant.clone(), clock)?)
        }
        SourceKind::Storage(config) => {
            Box::new(Storage::new(name, config, &tools.tenant, Arc::clone(&tools.clock))?)
        }
        SourceKind::Incidents(config) => {
            let (tenant, clock) = (tools.tenant.clone(), Arc::clone(&tools.clock));
            Box::new(graph::incidents(name, &config, tenant, clock))
        }
        SourceKind::Alerts(config) => {
            let (tenant, clock) = (tools.tenant.clone(), Arc::clone(&tools.clock));
            Box::new(graph::alerts(name, &config, tenant, clock))
        }
        SourceKind::Activity(config) => {
            Box::new(Activity::new(name, config, tools.tenant.clone(), Arc::clone(&tools.clock))?)
        }
    })
}
