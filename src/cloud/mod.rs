//! Floor 3: what adapters share towards the network: secrets, the HTTP client.

pub mod http;
pub mod kafka;
pub mod plain;
pub mod secret;
