//! The signals that a service manager sends. What they lead to is decided by the daemon's life.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::pipeline::stopped;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Drain and end (SIGTERM, SIGINT).
    Stop,
    /// Read the configuration again (SIGHUP).
    Reload,
}

/// Where requests come from.
#[derive(Debug)]
pub enum Signals {
    /// The process's signals.
    Process {
        /// SIGTERM.
        terminate: Signal,
        /// SIGINT.
        interrupt: Signal,
        /// SIGHUP.
        hangup: Signal,
    },
    /// Whoever runs the daemon inside its own process: one request to stop, when the value turns true.
    Owner(watch::Receiver<bool>),
    /// The owner has asked; nothing more comes.
    Asked,
}

impl Signals {
    /// Listens to the process's signals from now on. Until then they do what the system does.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub fn listen() -> io::Result<Self> {
        Ok(Self::Process {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one. Cancel-safe.
    pub async fn next(&mut self) -> Ask {
        match self {
            Self::Process { terminate, interrupt, hangup } => tokio::select! {
                _ = terminate.recv() => Ask::Stop,
                _ = interrupt.recv() => Ask::Stop,
                _ = hangup.recv() => Ask::Reload,
            },
            Self::Owner(stop) => {
                stopped(stop).await;
                *self = Self::Asked;
                Ask::Stop
            }
            Self::Asked => std::future::pending().await,
        }
    }

    /// The next request to stop; reloads are ignored.
    pub async fn next_stop(&mut self) {
        while self.next().await != Ask::Stop {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_owner_asks_once_and_is_not_taken_for_impatient() {
        let (stop, stopped) = watch::channel(false);
        let mut signals = Signals::Owner(stopped);
        let patience = std::time::Duration::from_secs(60);
        assert!(tokio::time::timeout(patience, signals.next()).await.is_err());
        stop.send_replace(true);
        assert_eq!(signals.next().await, Ask::Stop);
        assert!(tokio::time::timeout(patience, signals.next_stop()).await.is_err());
    }
}
