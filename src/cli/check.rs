//! `postern check`, from the command line's side. What is looked at is in `app::check`.

use super::ConfigArgs;
use crate::app::{Exit, check};

/// Check the configuration, secrets, data directory, and every source and sink
///
/// Says for each what was proven or what is wrong, and what to do. Nothing is fetched and nothing is changed;
/// it may run beside the daemon.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also send one event that says that it is a test through every sink that is on
    #[arg(long)]
    send_test: bool,
}

/// `postern check`.
#[must_use]
pub fn run(arguments: &CheckArgs) -> Exit {
    check::run(&arguments.config.config, arguments.send_test)
}
