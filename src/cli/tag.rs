//! `postern tag`: records from files or standard input, tagged, to standard output. A filter like `grep`:
//! no configuration, no journal, nothing remembered between records.

mod csv;
mod documents;
mod form;
mod report;
mod tagger;

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::app::Exit;
use crate::domain::Table;
use crate::render::Format;

use documents::{Documents, Piece, Wider};
use form::From;
use tagger::Tagger;

/// Output collected before it is written: large writes cost fewer system calls, and a reader at the end of
/// a pipe still sees results while a long file is being read.
const WRITE: usize = 256 * 1024;

/// Tag records: read them in the source's own format, write them as NDJSON with tags and reasons
///
/// Reads Streaming API messages, Storage lines, answers to hunting queries, pages of Graph's incidents and
/// alerts, blobs of the Management Activity API and bare rows, as JSON in any layout and mixture, and CSV exports,
/// from files or standard input. The alerts inside an incident become events of their own. Every row
/// counts as the first of its mail, and nothing is deduplicated. A summary goes to standard error. The exit code is
/// 1 if any record was rejected.
#[derive(Debug, clap::Args)]
pub struct TagArgs {
    /// What the records are: auto (whatever they look like), streaming (Streaming API messages or records, or
    /// bare rows), storage (the same, one record per line), hunting (answers of runHuntingQuery or of the older
    /// API, or bare rows), graph (incidents and alerts), activity (audit records), csv (an export of the portal,
    /// with a header line)
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = from_of)]
    from: From,

    /// What to write: native or ocsf
    #[arg(long, value_name = "FORMAT", default_value = "native", value_parser = format_of)]
    format: Format,

    /// Write the reading of each record in plain words instead
    #[arg(long)]
    explain: bool,

    /// The table that bare rows, hunting results and CSV lines are from; without it the columns tell
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,

    /// The Entra tenant id of records that name none
    #[arg(long, value_name = "ID", default_value = "")]
    tenant: String,

    /// Files to read; none or - for standard input
    #[arg(value_name = "FILES")]
    files: Vec<PathBuf>,
}

fn from_of(text: &str) -> Result<From, String> {
    text.parse()
}

fn format_of(text: &str) -> Result<Format, String> {
    match text {
        "ecs" | "asim" | "cef" => Err(format!("{text} is not built yet; there is: native, ocsf")),
        _ => text.parse().map_err(|error: crate::render::UnknownFormat| error.to_string()),
    }
}

/// `postern tag`.
#[must_use]
pub fn run(arguments: &TagArgs) -> Exit {
    // Not `io::stdout`, which looks for line breaks in every write.
    let output = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    match output.map_err(anyhow::Error::from).and_then(|output| tag(arguments, output)) {
        Ok(exit) => exit,
        Err(error) if is_broken_pipe(&error) => Exit::Ok,
        Err(error) => {
            eprintln!("postern: {error:#}");
            Exit::Usage
        }
    }
}

/// `postern tag | head` is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn tag(arguments: &TagArgs, mut output: impl Write) -> anyhow::Result<Exit> {
    let table = arguments.table.as_deref().map(Table::from_name);
    let TagArgs { from, format, explain, tenant, .. } = arguments;
    let mut tagger = Tagger::new(*format, *explain, *from, table, tenant);
    let standard_input = [PathBuf::from("-")];
    let files = if arguments.files.is_empty() { &standard_input } else { &*arguments.files };
    for path in files {
        if path.as_os_str() == "-" {
            let input = io::stdin().lock();
            tag_one(&mut tagger, *from, "-", input, &ProgressBar::hidden(), &mut output)?;
            continue;
        }
        let name = path.display().to_string();
        let (file, length) = open(path)?;
        let bar = progress(length);
        tag_one(&mut tagger, *from, &name, bar.wrap_read(file), &bar, &mut output)?;
        bar.finish_and_clear();
    }
    let mut summary = String::new();
    tagger.counts().summarize(&mut summary);
    eprint!("{summary}");
    Ok(if tagger.counts().rejected == 0 { Exit::Ok } else { Exit::Findings })
}

fn open(path: &Path) -> anyhow::Result<(File, u64)> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let about = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
    anyhow::ensure!(!about.is_dir(), "{} is a directory; name the files in it", path.display());
    Ok((file, about.len()))
}

/// A bar on a terminal; nothing where standard error is a file or a pipe.
fn progress(length: u64) -> ProgressBar {
    const LOOK: &str = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if length == 0 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(LOOK) {
        bar.set_style(style);
    }
    bar
}

fn tag_one(
    tagger: &mut Tagger,
    from: From,
    name: &str,
    input: impl Read,
    bar: &ProgressBar,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let read = || format!("cannot read {name}");
    tagger.begin_input(name);
    if matches!(from, From::Auto | From::Csv) {
        let (first_line, is_csv, input) = csv::open(input).with_context(read)?;
        if is_csv || from == From::Csv {
            let tell = |complaint: &str| bar.suspend(|| eprintln!("postern: {complaint}"));
            return csv::tag(tagger, name, &first_line, input, output, &tell);
        }
        return tag_json(tagger, name, input, bar, output);
    }
    tag_json(tagger, name, input, bar, output)
}

fn tag_json(
    tagger: &mut Tagger,
    name: &str,
    input: impl Read,
    bar: &ProgressBar,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let read = || format!("cannot read {name}");
    let mut documents = Documents::new(input);
    while let Some(piece) = documents.next().with_context(read)? {
        match piece {
            Piece::Garbage { line, reason } => tagger.reject_line(line, reason),
            Piece::Document(document) => {
                if !tagger.document(&document) {
                    match documents.widen().with_context(read)? {
                        Wider::Stands => {}
                        Wider::Document(document) => {
                            tagger.take_back();
                            tagger.document(&document);
                        }
                        Wider::Inside => tagger.take_back(),
                    }
                }
            }
        }
        tagger.settle(|complaint| bar.suspend(|| eprintln!("postern: {complaint}")));
        hand_on(tagger, output, WRITE)?;
    }
    hand_on(tagger, output, 0)
}

/// Writes what has been collected, once it is at least `enough` bytes.
fn hand_on(tagger: &mut Tagger, output: &mut impl Write, enough: usize) -> anyhow::Result<()> {
    if tagger.output().len() >= enough {
        output.write_all(tagger.output()).context("cannot write")?;
        tagger.output().clear();
    }
    Ok(())
}
