//! `[tenant.<name>]`: one tenant as configured. Meaning and defaults of its keys; nothing is built here.

use std::path::PathBuf;

use serde::Deserialize;

use super::Workload;
use super::cloud::Cloud;
use crate::cloud::http::HttpConfig;
use crate::cloud::secret::Secret;
use crate::domain::Ticks;

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
    /// The day on which the client secret expires, as the portal shows it (`2027-03-31`): Entra does not tell
    /// programs. For the metric and `check`; a certificate says it itself.
    pub secret_expires: Option<Day>,
    /// Addresses that differ from the cloud's own.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// What tokens are asked for, where that differs from the cloud's own.
    #[serde(default)]
    pub scopes: Scopes,
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
    /// An application with a client secret.
    ClientSecret {
        /// The Application (client) ID.
        client_id: String,
        /// The secret's Value (not its ID).
        secret: Secret,
    },
    /// An application with a certificate, which signs an assertion (PS256).
    Certificate {
        /// The Application (client) ID.
        client_id: String,
        /// PEM with certificate and RSA key, or PKCS#12 (`.pfx`, `.p12`).
        file: PathBuf,
        /// The password of the PKCS#12 file.
        password: Option<Secret>,
    },
    /// A Kubernetes service account that is federated with an application.
    WorkloadIdentity {
        /// The application's Client ID. By default the variable `AZURE_CLIENT_ID`, which the webhook sets.
        client_id: Option<String>,
        /// The service account's token. By default the file that `AZURE_FEDERATED_TOKEN_FILE` names.
        token_file: Option<PathBuf>,
    },
    /// The managed identity of the machine or App Service that Postern runs on.
    ManagedIdentity(ManagedIdentity),
    /// A bearer token that something else keeps fresh. Read at each request.
    Token(Secret),
}

/// Which managed identity: the system's own if nothing is set, else the user-assigned one, named in one of three
/// ways.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ManagedIdentity {
    /// By its Client ID.
    pub client_id: Option<String>,
    /// By its Object (principal) ID.
    pub object_id: Option<String>,
    /// By its Azure resource ID.
    pub resource_id: Option<String>,
}

/// A day, as midnight UTC at its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Day(pub Ticks);

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let day = text.len() == 10;
        let time = day.then(|| Ticks::parse(&format!("{text}T00:00:00Z"))).flatten();
        time.map(Self).ok_or_else(|| "expected a day like 2027-03-31".to_owned())
    }
}

/// Addresses that differ from the cloud's own, each scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoints {
    /// Where tokens come from.
    pub authority: Option<String>,
    /// Graph, without `/v1.0`.
    pub graph: Option<String>,
    /// The Management Activity API, without `/api`.
    pub activity: Option<String>,
}

/// What tokens are asked for, where that differs from the cloud's own (`<resource>/.default`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scopes {
    /// For Graph, hunting included.
    pub graph: Option<String>,
    /// For the Management Activity API.
    pub activity: Option<String>,
    /// For Blob storage.
    pub storage: Option<String>,
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
