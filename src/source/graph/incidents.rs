//! `/security/incidents`, with their alerts where nobody else brings them. It does not know alerts beyond asking
//! for them.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::client::Collection;
use super::reader::Reader;
use super::settings::{Bounded, Settings};
use crate::cloud::tenant::TenantAccess;
use crate::domain::Shape;
use crate::journal::Clock;

/// Whether incidents are asked for with their alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expand {
    /// Where no source of type `alerts` is on for the same tenant.
    #[default]
    Auto,
    /// Always: incidents then hold their alerts, though these become events of their own only where no source of
    /// type `alerts` brings them.
    Always,
    /// Never.
    Never,
}

/// `[source.<name>] type = "incidents"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IncidentsConfig {
    /// Seconds between two walks. Default 60.
    pub poll_seconds: Bounded<1, 86_400>,
    /// Minutes that an incident may become visible late and is still found by the next walk. Default 30; five are
    /// what has been seen.
    pub overlap_minutes: Bounded<1, 10_080>,
    /// Days that the first walk goes back. Default 7; Defender keeps 180.
    pub lookback_days: Bounded<1, 180>,
    /// Hours between walks that go back farther, for what came later than the overlap; 0 means never. Default 24.
    pub rescan_hours: Bounded<0, 8_760>,
    /// Days that such a walk goes back. Default 3; what is older than `journal.dedup_days` would come twice.
    pub rescan_days: Bounded<1, 180>,
    /// Incidents of a page. Default 50, the most that Graph takes.
    pub page_size: Bounded<1, 50>,
    /// Pages of a walk; more are an error, since a far end can link in circles. Default 10,000.
    pub max_pages: Bounded<1, 1_000_000>,
    /// Whether to ask for the alerts in them.
    pub expand: Expand,
    /// Whether a source of type `alerts` is on for the same tenant. Not a key: the configuration as a whole tells.
    #[serde(skip)]
    pub alerts_elsewhere: bool,
}

impl IncidentsConfig {
    /// Whether incidents are asked for with their alerts.
    #[must_use]
    pub const fn expands(&self) -> bool {
        match self.expand {
            Expand::Auto => !self.alerts_elsewhere,
            Expand::Always => true,
            Expand::Never => false,
        }
    }
}

impl Default for IncidentsConfig {
    fn default() -> Self {
        Self {
            poll_seconds: Bounded::new(60),
            overlap_minutes: Bounded::new(30),
            lookback_days: Bounded::new(7),
            rescan_hours: Bounded::new(24),
            rescan_days: Bounded::new(3),
            page_size: Bounded::new(50),
            max_pages: Bounded::new(10_000),
            expand: Expand::Auto,
            alerts_elsewhere: false,
        }
    }
}

/// Makes the source. Connects to nothing.
#[must_use]
pub fn incidents(
    name: &str,
    config: &IncidentsConfig,
    access: TenantAccess,
    clock: Arc<dyn Clock>,
) -> Reader {
    let collection = Collection {
        path: "/v1.0/security/incidents",
        noun: "incidents",
        permission: "SecurityIncident.Read.All",
        incidents: true,
    };
    let settings = Settings {
        pause: Duration::from_secs(config.poll_seconds.get().into()),
        overlap_seconds: i64::from(config.overlap_minutes.get()) * 60,
        lookback_seconds: i64::from(config.lookback_days.get()) * 86_400,
        rescan_every_seconds: i64::from(config.rescan_hours.get()) * 3600,
        rescan_seconds: i64::from(config.rescan_days.get()) * 86_400,
        page_size: config.page_size.get(),
        max_pages: config.max_pages.get(),
    };
    let shape = Shape::Incidents { alerts: !config.alerts_elsewhere };
    Reader::new(name, access, collection, settings, shape, config.expands(), clock)
}
