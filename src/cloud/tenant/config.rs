//! `[tenant.<name>]`: one tenant as configured. Meaning and defaults of its keys; nothing is built here.

use serde::Deserialize;

use super::Workload;
use super::cloud::Cloud;
use crate::cloud::http::HttpConfig;
use crate::cloud::secret::Secret;

/// `[tenant.<name>]`: one Entra tenant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// The tenant's id as Entra shows it (a GUID). It goes into every event and its identity, so it must not
    /// change later.
    pub id: String,
    /// Which of Microsoft's clouds it lives in. Default `commercial`.
    #[serde(default)]
    pub cloud: Cloud,
    /// Who Postern is to this tenant. Needed by every source but `event_hubs` and `file`.
    pub credential: Option<Credential>,
    /// Addresses that differ from the cloud's own.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// How much of the tenant's quota may be used.
    #[serde(default)]
    pub budgets: Budgets,
    /// Deadlines, caps, private authority and proxy for all of this tenant's APIs.
    #[serde(default)]
    pub http: HttpConfig,
}

/// Who Postern is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Credential {
    /// A bearer token that something else keeps fresh. Read at each request.
    Token(Secret),
}

/// Addresses that differ from the cloud's own, each scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoints {
    /// Graph, without `/v1.0`.
    pub graph: Option<String>,
    /// The Management Activity API, without `/api`.
    pub activity: Option<String>,
}

/// Most requests in any 60 seconds, per API. The defaults leave a part of Microsoft's limits to others that use
/// the same application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budgets {
    /// Incidents and alerts. Default 120; Microsoft's limit is 150 for an application in a tenant.
    pub graph_per_minute: u32,
    /// Hunting. Default 40; Microsoft's limit is 45 for a tenant.
    pub hunting_per_minute: u32,
    /// The Management Activity API. Default 1500; Microsoft's limit is 2000 for a tenant, more for large ones.
    pub activity_per_minute: u32,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { graph_per_minute: 120, hunting_per_minute: 40, activity_per_minute: 1500 }
    }
}

impl TenantConfig {
    /// Why a source of this tenant cannot use `workload`, if it cannot: the cloud does not have it, and no
    /// address of its own is configured.
    #[must_use]
    pub const fn lacks(&self, workload: Workload) -> Option<&'static str> {
        let own = match workload {
            Workload::Graph | Workload::Hunting => self.endpoints.graph.is_some(),
            Workload::Activity => self.endpoints.activity.is_some(),
            Workload::Storage => true,
        };
        if own { None } else { self.cloud.lacks(workload) }
    }
}
