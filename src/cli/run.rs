//! `postern run`: the daemon, from the command line's side. Its life is in `app`.

use super::ConfigArgs;
use crate::app::{self, Exit};

/// Run the daemon: fetch, journal, deliver
///
/// SIGTERM and SIGINT drain and end it, a second one ends it at once. SIGHUP reads the configuration again:
/// what can change does, and the log names what needs a restart.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// `postern run`.
#[must_use]
pub fn run(arguments: &RunArgs) -> Exit {
    app::run(&arguments.config.config)
}
