//! Floor 3: the simulated cloud. Microsoft's APIs around the model tenant, over TLS on loopback: Entra's token
//! endpoint, Graph's incidents, alerts and hunting, the Management Activity API, Blob storage. All of them
//! show the same truth, each in its own form and at its own time, and misbehave as a script says. It knows
//! nothing of how Postern asks.
//!
//! One server answers for all of them, told apart by path: `/{tenant}/oauth2/v2.0/token`, `/v1.0/security/…`,
//! `/api/v1.0/{tenant}/activity/feed/…` and `/{account}/{container}/{blob}`.

pub mod activity;
pub mod asked;
mod assertion;
mod audit;
pub mod blob;
pub mod cases;
mod certificate;
mod drive;
mod evidence;
pub mod faults;
pub mod feeds;
pub mod graph;
mod hunting;
mod mails;
pub mod odata;
mod server;
pub mod settings;
pub mod shelf;
mod spoil;
pub mod store;
pub mod tokens;
pub mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use self::drive::drive;
pub use self::faults::Script;
pub use self::settings::{AppConfig, CloudConfig};
pub use self::world::{Logged, World};

use super::record::Record;
use super::truth::Truth;
use crate::journal::Clock;

/// A running cloud; it ends when dropped.
pub struct Cloud {
    address: SocketAddr,
    authority: String,
    world: Arc<World>,
    server: JoinHandle<()>,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The cloud could not be started.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// No certificate.
    #[error("cannot make the simulated cloud's certificate")]
    Certificate(#[from] certificate::CertificateError),
    /// No port.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// It has no protection against strangers.
    #[error("{0} is not on loopback; the simulated cloud listens nowhere else")]
    NotLoopback(SocketAddr),
}

impl Cloud {
    /// Starts one. What becomes visible in it is entered into `truth`.
    ///
    /// # Errors
    /// If it gets no port or no certificate.
    pub async fn start(
        config: CloudConfig,
        clock: Arc<dyn Clock>,
        truth: Option<Arc<Mutex<Truth>>>,
    ) -> Result<Self, CloudError> {
        let listen = config.listen;
        if !listen.ip().is_loopback() {
            return Err(CloudError::NotLoopback(listen));
        }
        let failed = |error| CloudError::Listen(listen, error);
        let (tls, authority) = certificate::make()?;
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let world = Arc::new(World::new(config, clock, truth));
        let server = tokio::spawn(server::serve(listener, tls, Arc::clone(&world)));
        Ok(Self { address, authority, world, server })
    }

    /// `https://` with address and port: Graph's, the Activity API's and Entra's address, each.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The storage account's address.
    #[must_use]
    pub fn account(&self) -> String {
        format!("https://{}/{}", self.address, self.world.config().account)
    }

    /// The certificate (PEM) of the authority that its clients must trust.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What it is without the network.
    #[must_use]
    pub const fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The tenant has exported a record.
    pub fn take(&self, record: &Record) {
        self.world.store().take(record);
    }

    /// What becomes visible from now on is not entered into the truth any more.
    pub fn close_books(&self) {
        self.world.store().forget_truth();
    }

    /// The tenant has fallen silent: everything that was still to come becomes visible now.
    pub fn finish(&self) {
        let now = self.world.now();
        self.world.store().finish(now);
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[cfg(test)]
mod tests;
