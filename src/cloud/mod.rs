//! Floor 3: what adapters share towards the network: secrets, the HTTP client, a tenant's access.

pub mod http;
pub mod identity;
pub mod kafka;
pub mod plain;
pub mod secret;
pub mod tenant;
