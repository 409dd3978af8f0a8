//! What a simulated cloud is set to: whose tenant, which application, where it listens, how it misbehaves.

use std::net::SocketAddr;
use std::sync::Arc;

use super::faults::Script;
use crate::simulator::tenant::DEMO_TENANT;

/// Everything.
#[derive(Debug, Clone)]
pub struct CloudConfig {
    /// Where it listens; port 0 takes a free one. Loopback only.
    pub listen: SocketAddr,
    /// The Entra tenant id.
    pub tenant_id: Arc<str>,
    /// The seed of everything that the cloud decides by itself.
    pub seed: u64,
    /// How much faster than in life alerts, incidents, audit records and blobs follow.
    pub haste: u32,
    /// The application that may ask.
    pub app: AppConfig,
    /// Name of the storage account.
    pub account: String,
    /// Whether folders are things of their own in it (a hierarchical namespace).
    pub hierarchical: bool,
    /// Seconds that the server's clock is ahead of ours.
    pub skew_seconds: i64,
    /// How it misbehaves.
    pub faults: Script,
}

impl Default for CloudConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tenant_id: DEMO_TENANT.into(),
            seed: 1,
            haste: 30,
            app: AppConfig::with_secret("simulated-secret"),
            account: "contosologs".to_owned(),
            hierarchical: false,
            skew_seconds: 0,
            faults: Script::default(),
        }
    }
}

/// The application that may ask, as its registration in Entra says.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// The client id.
    pub client_id: String,
    /// The secret that works.
    pub secret: String,
    /// Secrets that have worked once.
    pub expired_secrets: Vec<String>,
    /// Certificates that may sign assertions.
    pub certificates: Vec<KnownCertificate>,
    /// The application permissions that an administrator has granted, and data roles on the storage account.
    pub roles: Vec<String>,
    /// How long a token lives.
    pub token_seconds: u64,
    /// What a SAS for the storage account must have as its signature (`sig`).
    pub sas_signature: String,
}

/// A certificate of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCertificate {
    /// SHA-256 of the certificate, base64 for URLs without padding (`x5t#S256`).
    pub thumbprint: String,
    /// Its RSA key (`RSAPublicKey`, DER).
    pub public_key: Vec<u8>,
}

/// Everything that a collector of all transports needs.
pub const ROLES: [&str; 5] = [
    "SecurityIncident.Read.All",
    "SecurityAlert.Read.All",
    "ThreatHunting.Read.All",
    "ActivityFeed.Read",
    "Storage Blob Data Reader",
];

impl AppConfig {
    /// An application with every permission and this secret.
    #[must_use]
    pub fn with_secret(secret: &str) -> Self {
        Self {
            client_id: "1d0c8f36-6f0b-4f8e-9d52-5a7b3c9e2f10".to_owned(),
            secret: secret.to_owned(),
            expired_secrets: Vec::new(),
            certificates: Vec::new(),
            roles: ROLES.map(str::to_owned).to_vec(),
            token_seconds: 3599,
            sas_signature: "simulated".to_owned(),
        }
    }
}
