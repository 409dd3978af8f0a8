//! Floor 4: the running daemon, which reads like its life: log, config, journal, parts, wait, drain. It owns
//! every task; what the parts do is theirs.

pub mod build;
pub mod check;
pub mod crew;
pub mod exit;
mod failpoint;
mod life;
pub mod log;
pub mod ops;
pub mod reload;
mod send_test;
pub mod signals;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub use exit::Exit;

use crate::config::Config;
use crate::journal::Journal;

/// How long blocking work that is left may hold the process up after all tasks have ended.
const RUNTIME_END: Duration = Duration::from_millis(500);

/// Runs the daemon with the configuration in `files` until it is told to stop or has to.
#[must_use]
pub fn run(files: &[PathBuf]) -> Exit {
    let config = match Config::load(files) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return Exit::Usage;
        }
    };
    let logging = match log::Logging::start(&config.log) {
        Ok(logging) => logging,
        Err(error) => {
            eprintln!("log.filter or {}: {error}", log::VARIABLE);
            return Exit::Usage;
        }
    };
    harden();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(error = %error, "cannot start the threads");
            return Exit::Disk;
        }
    };
    let exit = runtime.block_on(life::live(config, files, &logging));
    runtime.shutdown_timeout(RUNTIME_END);
    tracing::info!(code = exit.code(), "ended");
    exit
}

/// Runs the daemon inside a process that is somebody else's (the demo): until `stop` turns true or it has to
/// end. It sets up no log and listens to no signals; `started` gets the journal once all parts run.
pub async fn run_within(
    config: Config,
    stop: watch::Receiver<bool>,
    started: oneshot::Sender<Arc<dyn Journal>>,
) -> Exit {
    life::live_within(config, stop, started).await
}

/// A dump of the process would hold its secrets and the mail in flight.
fn harden() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::debug!(error = %error, "core dumps cannot be switched off from inside");
    }
}
