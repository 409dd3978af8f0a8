//! `postern status`: how far everything is and what is proven complete, read beside a running daemon. What the figures
//! mean is said where they are kept (`crate::journal::tools`, `crate::ledger`).

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::ConfigArgs;
use crate::app::Exit;
use crate::config::Config;
use crate::domain::Ticks;
use crate::journal::tools::{Summary, stat};
use crate::journal::{OpenError, RealDisk};
use crate::ledger::report::{Line, lines};
use crate::ledger::state;

/// Show how far everything is, and which hours of each table are proven complete
///
/// Only reads, beside a running daemon too. The ledger is as its last save has it, at most a minute old. Exits with 1
/// if rows of some hour are missing.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The journal's directory, instead of the configuration's data_dir
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Every hour of the ledger, not only those that want a look and the sums
    #[arg(long)]
    all: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// What there is to say.
#[derive(Debug, Serialize)]
struct Status {
    journal: Summary,
    /// When the ledger was saved; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger_saved: Option<Ticks>,
    /// Up to which offset the ledger has counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger_position: Option<u64>,
    /// Why the ledger cannot be read, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger_problem: Option<String>,
    ledger: Vec<Line>,
}

/// `postern status`.
#[must_use]
pub fn run(arguments: &StatusArgs) -> Exit {
    let directory = match &arguments.data_dir {
        Some(directory) => directory.clone(),
        None => match Config::load(&arguments.config.config) {
            Ok(config) => config.data_dir,
            Err(errors) => {
                eprintln!("{errors}");
                return Exit::Usage;
            }
        },
    };
    let status = match read(&directory) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("postern: {error}");
            return Exit::of_open(error.exit_code());
        }
    };
    let mut out = io::stdout().lock();
    let written = if arguments.json {
        serde_json::to_writer_pretty(&mut out, &status)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        print(&status, arguments.all, &mut out)
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("postern: cannot write: {error}");
            Exit::Disk
        }
        _ if status.ledger.iter().any(|line| line.state == "missing") => Exit::Findings,
        _ => Exit::Ok,
    }
}

fn read(directory: &std::path::Path) -> Result<Status, OpenError> {
    let journal = stat(&RealDisk::existing(directory)?)?;
    let mut status = Status {
        journal,
        ledger_saved: None,
        ledger_position: None,
        ledger_problem: None,
        ledger: Vec::new(),
    };
    match state::load(&state::path_in(directory)) {
        Ok(Some(state)) if state.journal_id == status.journal.journal_id => {
            status.ledger_saved = Some(state.saved);
            status.ledger_position = Some(state.position);
            status.ledger = lines(&state.book);
        }
        Ok(Some(_)) => status.ledger_problem = Some("it is about another journal".to_owned()),
        Ok(None) => {}
        Err(why) => status.ledger_problem = Some(why),
    }
    Ok(status)
}

fn print(status: &Status, all: bool, out: &mut dyn Write) -> io::Result<()> {
    let Summary { journal_id, first, next, segments, bytes, readers, .. } = &status.journal;
    writeln!(out, "journal  {journal_id}")?;
    writeln!(out, "         offsets {first} to {next}, {segments} segments, {bytes} bytes")?;
    for (reader, position) in readers {
        let behind = next.saturating_sub(*position);
        writeln!(out, "reader   {reader}: at {position}, {behind} behind")?;
    }
    match (&status.ledger_problem, status.ledger_saved) {
        (Some(why), _) => return writeln!(out, "ledger   cannot be read: {why}"),
        (None, None) => return writeln!(out, "ledger   none"),
        (None, Some(saved)) => writeln!(
            out,
            "ledger   as of {saved}, {} events behind",
            next.saturating_sub(status.ledger_position.unwrap_or_default())
        )?,
    }
    let mut rest = status.ledger.as_slice();
    while let Some(first) = rest.first() {
        let same = |line: &&Line| line.tenant == first.tenant && line.table == first.table;
        let length = rest.iter().take_while(same).count();
        let (hours, later) = rest.split_at(length);
        print_table(hours, all, out)?;
        rest = later;
    }
    Ok(())
}

fn print_table(hours: &[Line], all: bool, out: &mut dyn Write) -> io::Result<()> {
    let Some(first) = hours.first() else { return Ok(()) };
    let sums: Vec<String> = crate::ledger::hour::STATES
        .into_iter()
        .filter_map(|state| {
            let count = hours.iter().filter(|line| line.state == state).count();
            (count > 0).then(|| format!("{count} {state}"))
        })
        .collect();
    writeln!(out, "\n{} {}: hours {}", first.tenant, first.table, sums.join(", "))?;
    let wanted =
        |line: &&Line| all || matches!(line.state, "missing" | "more" | "unverified" | "changed");
    for line in hours.iter().filter(wanted) {
        let theirs = line.theirs.map_or_else(|| "-".to_owned(), |theirs| theirs.to_string());
        let checked = line.checked.map_or_else(|| "-".to_owned(), |at| at.to_string());
        writeln!(
            out,
            "  {}  {:<10}  ours {:>8}  theirs {theirs:>8}  again {}  late {}  after {}  checked {checked}: {}",
            line.hour, line.state, line.ours, line.again, line.late, line.after, line.why
        )?;
    }
    Ok(())
}
