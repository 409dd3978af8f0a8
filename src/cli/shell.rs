//! `postern completions` and `postern man`: what a package installs beside the program.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::CommandFactory as _;

use super::Cli;
use crate::app::Exit;

/// Write a completion script for a shell to standard output
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Which shell
    shell: clap_complete::Shell,
}

/// Write the manual page to standard output, or one page per command into a directory
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// A directory for postern.1, postern-run.1 and so on
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

/// `postern completions`.
#[must_use]
pub fn completions(arguments: &CompletionsArgs) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "postern", &mut script);
    ended(io::stdout().write_all(&script))
}

/// `postern man`.
#[must_use]
pub fn man(arguments: &ManArgs) -> Exit {
    ended(match &arguments.directory {
        Some(directory) => clap_mangen::generate_to(Cli::command(), directory),
        None => clap_mangen::Man::new(Cli::command()).render(&mut io::stdout()),
    })
}

fn ended(result: io::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Ok,
        // `postern man | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            eprintln!("postern: cannot write: {error}");
            Exit::Findings
        }
    }
}
