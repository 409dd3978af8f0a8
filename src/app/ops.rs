//! The operations listener: `/metrics`, `/ready`, `/live` over plain HTTP. It shows figures and states, never
//! mail and never a secret, so it may listen on any address. It is not the console.

use std::net::SocketAddr;

use serde::Deserialize;

/// The `[ops]` table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpsConfig {
    /// Address and port to listen on. Default `127.0.0.1:9464`. Port 0 takes a free one, which the log names.
    pub listen: SocketAddr,
}

impl Default for OpsConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}
