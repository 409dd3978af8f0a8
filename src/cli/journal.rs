//! `postern journal …`: looking into the journal, and repairing it on an operator's order. What is done is in
//! `crate::journal::{tools, repair}`; here are the arguments and the words.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use super::ConfigArgs;
use crate::app::Exit;
use crate::config::Config;
use crate::domain::DeadLetter;
use crate::journal::embedded::seed;
use crate::journal::repair::{RepairReport, repair};
use crate::journal::tools::{
    Condition, ExportRange, Exported, SegmentReport, Summary, VerifyReport, export, stat, verify,
};
use crate::journal::{Clock as _, JournalConfig, OpenError, RealDisk, SystemClock};
use crate::render::{Format, render};

/// Look into the journal, or repair it
///
/// verify, stat and export only read and work beside a running daemon. repair needs the daemon stopped.
#[derive(Debug, clap::Args)]
pub struct JournalArgs {
    #[command(subcommand)]
    command: JournalCommand,
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Read every byte and check it: offsets, counts and the first bad byte of each segment
    ///
    /// Exits with 1 if something that was durable cannot be read. The unfinished end of the last segment is no
    /// damage: it was never confirmed, or it is being written.
    Verify(VerifyArgs),
    /// Figures: size, offsets, readers and how far they are
    Stat(StatArgs),
    /// Write all events in order to standard output, one JSON object per line
    ///
    /// What cannot be read is named on standard error and makes the exit code 1.
    Export(ExportArgs),
    /// Keep what can be read, put a gap record where something cannot
    ///
    /// Needs the daemon stopped, and --yes; without it says what would be repaired. Damaged files are kept beside
    /// the journal as *.damaged.
    Repair(RepairArgs),
}

/// Where the journal is.
#[derive(Debug, clap::Args)]
struct Where {
    #[command(flatten)]
    config: ConfigArgs,
    /// The journal's directory, instead of the configuration's data_dir
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    #[command(flatten)]
    place: Where,
    /// Print the whole report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct StatArgs {
    #[command(flatten)]
    place: Where,
    /// Print as JSON, cursors included
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    #[command(flatten)]
    place: Where,
    /// Begin with this offset
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,
    /// Stop before this offset [default: the end]
    #[arg(long, value_name = "OFFSET")]
    to: Option<u64>,
    /// The records as the sources gave them, instead of native events
    #[arg(long)]
    raw: bool,
    /// Also write the dead letters that are kept, after the events
    #[arg(long)]
    dead_letters: bool,
}

#[derive(Debug, clap::Args)]
struct RepairArgs {
    #[command(flatten)]
    place: Where,
    /// Really do it
    #[arg(long)]
    yes: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// `postern journal`.
#[must_use]
pub fn run(arguments: &JournalArgs) -> Exit {
    let done = match &arguments.command {
        JournalCommand::Verify(arguments) => run_verify(arguments),
        JournalCommand::Stat(arguments) => run_stat(arguments),
        JournalCommand::Export(arguments) => run_export(arguments),
        JournalCommand::Repair(arguments) => run_repair(arguments),
    };
    done.unwrap_or_else(|failure| {
        let (text, exit) = match failure {
            Failure::Config(text) => (text, Exit::Usage),
            Failure::Open(error) => (format!("postern: {error}"), Exit::of_open(error.exit_code())),
            // The reader of our output went away: not worth a word.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Exit::Ok;
            }
            Failure::Output(error) => (format!("postern: cannot write: {error}"), Exit::Disk),
        };
        eprintln!("{text}");
        exit
    })
}

enum Failure {
    Config(String),
    Open(OpenError),
    Output(io::Error),
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Where {
    /// The directory and the journal's configuration.
    fn find(&self) -> Result<(PathBuf, JournalConfig), Failure> {
        if let Some(directory) = &self.data_dir
            && self.config.config.is_empty()
        {
            return Ok((directory.clone(), JournalConfig::default()));
        }
        let config = Config::load(&self.config.config)
            .map_err(|errors| Failure::Config(errors.to_string()))?;
        Ok((self.data_dir.clone().unwrap_or(config.data_dir), config.journal))
    }

    fn open(&self) -> Result<(RealDisk, PathBuf, JournalConfig), Failure> {
        let (directory, config) = self.find()?;
        Ok((RealDisk::existing(&directory)?, directory, config))
    }
}

/// A bar on standard error, where that is a terminal.
fn bar(what: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {bytes}/{total_bytes} {eta}");
    let bar = ProgressBar::new(0).with_message(what);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn show(bar: &ProgressBar) -> impl FnMut(u64, u64) + '_ {
    |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

fn run_verify(arguments: &VerifyArgs) -> Result<Exit, Failure> {
    let (disk, ..) = arguments.place.open()?;
    let bar = bar("verify");
    let report = verify(&disk, &mut show(&bar))?;
    bar.finish_and_clear();
    if arguments.json {
        json(&report)?;
    } else {
        print_verified(&report)?;
    }
    Ok(if report.sound { Exit::Ok } else { Exit::Findings })
}

fn print_verified(report: &VerifyReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "journal   {}", report.journal_id)?;
    for segment in &report.segments {
        writeln!(out, "{}", line_of(segment))?;
    }
    for missing in &report.missing {
        writeln!(out, "missing   offsets {} to {}", missing.from, missing.to)?;
    }
    for name in &report.bad_snapshots {
        writeln!(out, "damaged   {name}")?;
    }
    writeln!(
        out,
        "{}     {} events in {} frames, offsets {} to {}, {} bytes",
        if report.sound { "sound" } else { "WRONG" },
        report.events,
        report.frames,
        report.first,
        report.next,
        report.bytes
    )
}

fn line_of(segment: &SegmentReport) -> String {
    let word = match segment.condition {
        Condition::Sealed => "sealed ",
        Condition::Open => "open   ",
        Condition::Odd => "ODD    ",
        Condition::Damaged => "DAMAGED",
    };
    let SegmentReport { name, first, next, events, frames, bytes, .. } = segment;
    let mut line = format!(
        "{word}   {name}  offsets {first} to {next}, {events} events in {frames} frames, {bytes} bytes"
    );
    if segment.events_given_up > 0 {
        line += &format!(", {} given up by a repair", segment.events_given_up);
    }
    if let (Some(byte), Some(detail)) = (segment.first_bad_byte, &segment.detail) {
        line +=
            &format!("; first bad byte {byte}, {} bytes unreadable: {detail}", segment.bad_bytes);
    } else if let Some(detail) = &segment.detail {
        line += &format!("; {detail}");
    }
    line
}

fn run_stat(arguments: &StatArgs) -> Result<Exit, Failure> {
    let (disk, ..) = arguments.place.open()?;
    let summary = stat(&disk)?;
    if arguments.json {
        json(&summary)?;
    } else {
        print_summary(&summary)?;
    }
    Ok(Exit::Ok)
}

fn print_summary(summary: &Summary) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "journal       {}", summary.journal_id)?;
    let events = summary.next.saturating_sub(summary.first);
    writeln!(out, "offsets       {} to {} ({events} events)", summary.first, summary.next)?;
    writeln!(
        out,
        "segments      {} with {} bytes; {} bytes in all files",
        summary.segments, summary.segment_bytes, summary.bytes
    )?;
    writeln!(
        out,
        "dead letters  {} ({} given up unresolved)",
        summary.dead_letters, summary.dead_letters_expired
    )?;
    writeln!(out, "tickets       {}", summary.tickets)?;
    writeln!(out, "cursors       {}", summary.cursors.len())?;
    for (name, next) in &summary.readers {
        let lag = summary.next.saturating_sub(*next);
        writeln!(out, "reader        {name} at {next}, {lag} events behind")?;
    }
    Ok(())
}

fn run_export(arguments: &ExportArgs) -> Result<Exit, Failure> {
    let (disk, ..) = arguments.place.open()?;
    let range = ExportRange {
        from: arguments.from,
        to: arguments.to.unwrap_or(u64::MAX),
        dead_letters: arguments.dead_letters,
    };
    let bar = bar("export");
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let mut line = Vec::new();
    let mut unreadable = 0_u64;
    export::<_, Failure>(&disk, range, &mut show(&bar), &mut |exported| {
        line.clear();
        match exported {
            Exported::Event(_, event) if arguments.raw => one_line(event.raw.as_bytes(), &mut line),
            Exported::Event(_, event) => render(Format::Native, event, &mut line),
            Exported::DeadLetter(letter) => dead_letter_line(letter, &mut line)?,
            Exported::Unreadable(missing, why) => {
                unreadable += missing.to - missing.from;
                eprintln!("offsets {} to {} cannot be read: {why}", missing.from, missing.to);
                return Ok(());
            }
        }
        line.push(b'\n');
        Ok(out.write_all(&line)?)
    })?;
    out.flush()?;
    bar.finish_and_clear();
    Ok(if unreadable == 0 { Exit::Ok } else { Exit::Findings })
}

/// The record on one line: JSON has line breaks only between its parts, where a blank means the same.
fn one_line(raw: &[u8], line: &mut Vec<u8>) {
    line.extend(raw.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
}

fn dead_letter_line(letter: &DeadLetter, line: &mut Vec<u8>) -> Result<(), Failure> {
    let hash: String = letter.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let value = serde_json::json!({ "dead_letter": {
        "id": letter.id, "reason": letter.reason.as_str(), "detail": letter.detail, "source": letter.source,
        "sink": letter.sink, "tenant": letter.tenant, "position": letter.position, "at": letter.at,
        "length": letter.length, "blake3": hash, "text": String::from_utf8_lossy(&letter.bytes),
    }});
    serde_json::to_writer(line, &value).map_err(io::Error::from)?;
    Ok(())
}

fn run_repair(arguments: &RepairArgs) -> Result<Exit, Failure> {
    let (disk, directory, config) = arguments.place.open()?;
    let _held = disk.lock()?;
    let bar = bar("repair");
    if !arguments.yes {
        let report = verify(&disk, &mut show(&bar))?;
        bar.finish_and_clear();
        print_verified(&report)?;
        if report.sound {
            return Ok(Exit::Ok);
        }
        eprintln!("nothing was changed; add --yes to repair {}", directory.display());
        return Ok(Exit::Findings);
    }
    let now = SystemClock::default().now();
    let report = repair(&Arc::new(disk), config, now, seed(), &mut show(&bar))?;
    bar.finish_and_clear();
    if arguments.json {
        json(&report)?;
    } else {
        print_repaired(&report, &directory)?;
    }
    Ok(Exit::Ok)
}

fn print_repaired(report: &RepairReport, directory: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for name in &report.segments {
        writeln!(out, "written anew  {name}")?;
    }
    for gap in &report.given_up {
        writeln!(out, "given up      offsets {} to {} (gap record written)", gap.from, gap.to)?;
    }
    if report.state_rebuilt {
        writeln!(
            out,
            "no snapshot could be read: cursors, tickets and dead letters are what the remaining frames say"
        )?;
    }
    for name in &report.evidence {
        writeln!(out, "kept aside    {}", directory.join(name).display())?;
    }
    writeln!(out, "repaired      {} events given up", report.events_given_up)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::domain::{Event, Ticks};
    use crate::journal::{Commit, Disk as _, Engine, Unit};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: JournalArgs,
    }

    #[track_caller]
    fn check(directory: &Path, words: &str, expected: Exit) {
        let words = ["journal"].into_iter().chain(words.split(' '));
        let directory = format!("--data-dir={}", directory.display());
        let line = Line::parse_from(words.chain([&*directory]));
        assert_eq!(run(&line.arguments), expected);
    }

    fn gap(number: u64) -> Event {
        crate::normalize::gap_event(
            &crate::domain::Gap {
                source: "hubs".into(),
                what: "email".into(),
                from: number.to_string().into(),
                to: (number + 1).to_string().into(),
                count: None,
                cause: crate::domain::GapCause::RemoteGone,
                detail: "".into(),
            },
            &crate::normalize::Context {
                tenant: "contoso".into(),
                source: "hubs".into(),
                ingested: Some(Ticks(0)),
                normal_lag_seconds: 60,
                backfill: false,
                size_cap: crate::normalize::SIZE_CAP,
            },
        )
    }

    #[test]
    fn a_damaged_journal_is_found_exported_around_and_repaired_on_order_only() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("journal");
        let disk = Arc::new(RealDisk::create(&directory).unwrap());
        let now = Ticks(17_000_000_000_000_000);
        let mut engine = Engine::open(Arc::clone(&disk), JournalConfig::default(), now, 1).unwrap();
        for number in 0..3 {
            engine.stage(Unit { events: vec![gap(number)], ..Unit::default() }).unwrap();
            assert!(matches!(engine.commit(now).unwrap(), Commit::Durable(_)));
        }
        engine.close(now).unwrap();
        drop(engine);
        for words in [
            "verify",
            "verify --json",
            "stat",
            "stat --json",
            "export",
            "export --raw --dead-letters",
            "repair",
        ] {
            check(&directory, words, Exit::Ok);
        }

        let files = disk.list().unwrap();
        let (name, _) = files.iter().find(|(name, _)| name.starts_with("segment-")).unwrap();
        let path = directory.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[200] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        check(&directory, "verify", Exit::Findings);
        check(&directory, "export", Exit::Findings);
        check(&directory, "repair", Exit::Findings);
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing is changed without --yes");

        let held = disk.lock().unwrap();
        check(&directory, "verify", Exit::Findings);
        check(&directory, "repair --yes", Exit::InUse);
        drop(held);
        check(&directory, "repair --yes", Exit::Ok);
        check(&directory, "verify", Exit::Ok);
        assert!(path.with_extension("log.damaged").exists(), "evidence is kept");
        check(&home.path().join("nowhere"), "verify", Exit::Disk);
    }
}
