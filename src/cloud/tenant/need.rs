//! What a source needs from a tenant: which API, and which application permission, by the names that the portal
//! uses. Facts only.

use super::Workload;

/// What a source needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Which API.
    pub workload: Workload,
    /// Its name in the portal.
    pub api: &'static str,
    /// Application permissions (or data roles), any one of which is enough; the first is the least.
    pub permissions: &'static [&'static str],
}

impl Need {
    /// Source `incidents`.
    pub const INCIDENTS: Self = Self {
        workload: Workload::Graph,
        api: "Microsoft Graph",
        permissions: &["SecurityIncident.Read.All", "SecurityIncident.ReadWrite.All"],
    };
    /// Source `alerts`, and incidents that bring their alerts along.
    pub const ALERTS: Self = Self {
        workload: Workload::Graph,
        api: "Microsoft Graph",
        permissions: &["SecurityAlert.Read.All", "SecurityAlert.ReadWrite.All"],
    };
    /// Source `hunting`, and the ledger.
    pub const HUNTING: Self = Self {
        workload: Workload::Hunting,
        api: "Microsoft Graph",
        permissions: &["ThreatHunting.Read.All"],
    };
    /// Source `activity`.
    pub const ACTIVITY: Self = Self {
        workload: Workload::Activity,
        api: "Office 365 Management APIs",
        permissions: &["ActivityFeed.Read"],
    };
}
