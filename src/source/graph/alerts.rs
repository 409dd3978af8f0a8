//! `/security/alerts_v2`: alerts with their evidence, whether or not an incident holds them.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::client::Collection;
use super::reader::Reader;
use super::settings::{Bounded, Settings};
use crate::cloud::tenant::TenantAccess;
use crate::domain::Shape;
use crate::journal::Clock;

/// `[source.<name>] type = "alerts"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Seconds between two walks. Default 60.
    pub poll_seconds: Bounded<1, 86_400>,
    /// Minutes that an alert may become visible late and is still found by the next walk. Default 30; five are what
    /// has been seen.
    pub overlap_minutes: Bounded<1, 10_080>,
    /// Days that the first walk goes back. Default 7; Defender keeps 180.
    pub lookback_days: Bounded<1, 180>,
    /// Hours between walks that go back farther, for what came later than the overlap; 0 means never. Default 24.
    pub rescan_hours: Bounded<0, 8_760>,
    /// Days that such a walk goes back. Default 3; what is older than `journal.dedup_days` would come twice.
    pub rescan_days: Bounded<1, 180>,
    /// Alerts of a page. Default 100: with their evidence they have 5 to 30 KB each. Graph takes up to 1,000; where
    /// it takes less, pages of 50 are asked for.
    pub page_size: Bounded<1, 1000>,
    /// Pages of a walk; more are an error, since a far end can link in circles. Default 10,000.
    pub max_pages: Bounded<1, 1_000_000>,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            poll_seconds: Bounded::new(60),
            overlap_minutes: Bounded::new(30),
            lookback_days: Bounded::new(7),
            rescan_hours: Bounded::new(24),
            rescan_days: Bounded::new(3),
            page_size: Bounded::new(100),
            max_pages: Bounded::new(10_000),
        }
    }
}

/// Makes the source. Connects to nothing.
#[must_use]
pub fn alerts(
    name: &str,
    config: &AlertsConfig,
    access: TenantAccess,
    clock: Arc<dyn Clock>,
) -> Reader {
    let collection = Collection {
        path: "/v1.0/security/alerts_v2",
        noun: "alerts",
        permission: "SecurityAlert.Read.All",
        incidents: false,
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
    Reader::new(name, access, collection, settings, Shape::Alerts, false, clock)
}
