//! Floor 4: the command line. The list of commands is here, each command in its own file; what a command
//! does beyond asking and telling is the library's.

pub mod backfill;
pub mod check;
pub mod demo;
pub mod journal;
pub mod run;
pub mod shell;
pub mod simulate;
pub mod status;
pub mod tag;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::Exit;
use crate::app::exit::HELP;

/// Carries what Microsoft Defender for Office 365 sees to the tools of a SOC, and marks every mail that an
/// override let past the filter.
#[derive(Debug, Parser)]
#[command(name = "postern", version, after_help = HELP, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Demo(demo::DemoArgs),
    Simulate(simulate::SimulateArgs),
    Check(check::CheckArgs),
    Backfill(backfill::BackfillArgs),
    Tag(tag::TagArgs),
    Journal(journal::JournalArgs),
    Status(status::StatusArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// Which configuration: for every command that reads one.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArgs {
    /// A configuration file; may be given several times, later files override earlier ones, and variables
    /// like POSTERN__JOURNAL__QUOTA_BYTES override all files [default: /etc/postern/postern.toml]
    #[arg(short, long = "config", value_name = "FILE")]
    pub config: Vec<PathBuf>,
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors; clap knows which stream and which code.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    match cli.command {
        Command::Run(arguments) => run::run(&arguments).into(),
        Command::Demo(arguments) => demo::run(&arguments).into(),
        Command::Simulate(arguments) => simulate::run(&arguments).into(),
        Command::Journal(arguments) => journal::run(&arguments).into(),
        Command::Check(arguments) => check::run(&arguments).into(),
        Command::Backfill(arguments) => backfill::run(&arguments).into(),
        Command::Tag(arguments) => tag::run(&arguments).into(),
        Command::Status(arguments) => status::run(&arguments).into(),
        Command::Completions(arguments) => shell::completions(&arguments).into(),
        Command::Man(arguments) => shell::man(&arguments).into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_names_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for exit in [
            Exit::Ok,
            Exit::Findings,
            Exit::Usage,
            Exit::InUse,
            Exit::Disk,
            Exit::Mismatch,
            Exit::Defect,
        ] {
            let code = format!("\n  {:<4} ", exit.code());
            assert!(help.contains(&code), "{code:?} not in {help}");
        }
    }

    #[test]
    fn every_command_and_option_says_what_it_is() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
        }
    }
}
