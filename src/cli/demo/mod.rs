//! `postern demo`: a simulated tenant in front of the whole of Postern, and the proof at the end that nothing
//! was lost and nothing came twice. Everything between the tenant and the tickets is the real thing; only
//! Microsoft and the ticket system are played.

mod beside;
mod board;
mod play;
mod receiver;
mod reckoning;
mod scene;
mod screen;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::app::Exit;

use reckoning::Proof;
use scene::Folder;
use screen::Screen;

/// See it work: a simulated tenant, the whole pipeline, and proof that nothing is lost
///
/// No account and no broker are needed and nothing leaves this machine. At the end everything that the tenant
/// sent is compared with what the journal, a file and a ticket system have; exit code 0 means that each record
/// arrived exactly once and that every phish which an override let in was found.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// How long it runs: 30s, 5m; without it until Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// Which tenant: the same number gives the same mail
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Mails per second; each makes five or six records
    #[arg(long, value_name = "R", default_value_t = 60.0, value_parser = rate)]
    rate: f64,
    /// Keep the data in this folder, which must be new or empty
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Write what the tenant really sent to this file (NDJSON)
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
}

/// The log's name in the folder.
const LOG: &str = "postern.log";

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write 30s, 5m or 1h");
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = match text.get(digits.len()..) {
        Some("s" | "") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// Mails per second.
pub fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err(format!("{text:?} is no rate; it goes from 0.1 to 10000 mails per second")),
    }
}

/// `postern demo`.
#[must_use]
pub fn run(arguments: &DemoArgs) -> Exit {
    let mut folder = match Folder::open(arguments.data_dir.as_deref()) {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("{error:#}");
            return Exit::Usage;
        }
    };
    if let Err(error) = log_into(&folder.path().join(LOG)) {
        eprintln!("cannot write the log: {error:#}");
        return Exit::Usage;
    }
    let played = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads")
        .and_then(|runtime| runtime.block_on(play::play(arguments, folder.path())));
    let (proof, screen) = match played {
        Ok(outcome) => outcome,
        Err(error) => {
            folder.keep();
            let log = folder.path().join(LOG);
            eprintln!("the demo could not be played: {error:#}");
            eprintln!("what Postern said meanwhile is in {}", log.display());
            return Exit::Findings;
        }
    };
    if proof == Proof::Wrong {
        folder.keep();
    }
    tell_where_to_look(&folder, screen);
    if proof == Proof::Right { Exit::Ok } else { Exit::Findings }
}

/// Postern's log goes into the folder: on the terminal it would run through the figures.
fn log_into(file: &Path) -> anyhow::Result<()> {
    let file = File::create(file).with_context(|| format!("cannot create {}", file.display()))?;
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(Mutex::new(file))
        .try_init()
        .map_err(|error| anyhow!("a log is running already: {error}"))
}

fn tell_where_to_look(folder: &Folder, mut screen: Screen) {
    screen.print("");
    if folder.is_removed_at_end() {
        screen.print("  Nothing is left behind. To keep the data and look into it:");
        screen.print("    postern demo --for 30s --data-dir ./demo");
    } else {
        let path = folder.path().display();
        screen.print(&format!("  Everything is in {path}:"));
        screen.print("    events/        what a SIEM would get: one JSON object per line");
        screen.print("    truth.ndjson   what the tenant really sent");
        screen.print("    journal/       the journal");
        screen.print("    postern.toml   the configuration that it ran with");
        screen.print("    postern.log    what Postern had to say");
        screen.print("  Look into the journal, or write it out:");
        screen.print(&format!("    postern journal stat --config {path}/postern.toml"));
        screen.print(&format!("    postern journal export --config {path}/postern.toml"));
    }
    screen.print("  Your own mail next: `postern tag --help` for a file you have exported,");
    screen.print("  README.md for the way to a tenant's event hubs.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_read_or_refused_with_an_example() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("45"), Ok(Duration::from_secs(45)));
        for text in ["", "s", "5 m", "1d", "-1s", "99999999999999999999h"] {
            assert!(duration(text).unwrap_err().contains("30s"), "{text}");
        }
        assert_eq!(rate("0.5"), Ok(0.5));
        assert!(rate("0").is_err() && rate("NaN").is_err() && rate("1e9").is_err());
    }
}
