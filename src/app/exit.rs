//! How the process ends: the exit codes that scripts and service managers rely on.

use std::process::ExitCode;

/// The documented exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well; a daemon was stopped in good order.
    Ok,
    /// The work was done, and there is something to look at: rejected records, failed checks.
    Findings,
    /// The command line or the configuration is wrong.
    Usage,
    /// Another process holds the data directory.
    InUse,
    /// The disk failed, so the journal takes nothing more.
    Disk,
    /// The data directory does not hold the journal that was expected.
    Mismatch,
    /// A task panicked: a defect in Postern.
    Defect,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Findings => 1,
            Self::Usage => 2,
            Self::InUse => 3,
            Self::Disk => 4,
            Self::Mismatch => 5,
            Self::Defect => 101,
        }
    }

    /// The exit that a code of the journal's `OpenError` means.
    #[must_use]
    pub const fn of_open(code: u8) -> Self {
        match code {
            3 => Self::InUse,
            5 => Self::Mismatch,
            _ => Self::Disk,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// For `--help`.
pub const HELP: &str = "\
Exit codes:
  0    success; a stopped daemon drained in good order
  1    done, but some records were rejected or a check found something
  2    wrong usage or configuration
  3    the data directory is in use by another process
  4    disk fault
  5    the data directory does not hold the expected journal
  101  a defect in Postern: a task panicked";
