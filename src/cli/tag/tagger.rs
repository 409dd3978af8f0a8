//! One document after another: normalize, tag, render into the output buffer. What a document gave can be
//! taken back until it is settled, since only its end shows whether it was one.

use std::sync::Arc;

use crate::domain::{Chunk, Event, Position, Raw, Shape, Table};
use crate::normalize::{self, Context, Normalized, Row, guess};
use crate::render::{Format, render_row};
use crate::tagging;

use super::documents::Document;
use super::report::Counts;

/// Complaints that are printed; further ones are only counted. Enough to see what is wrong with a file.
const COMPLAINTS: u64 = 100;

/// Where the output and the counts stood before a document.
#[derive(Debug, Default)]
struct Mark {
    output: usize,
    counts: Counts,
}

/// Turns documents into lines of output.
#[derive(Debug)]
pub struct Tagger {
    context: Context,
    format: Format,
    explain: bool,
    table: Option<Table>,
    name: Arc<str>,
    output: Vec<u8>,
    counts: Counts,
    before: Mark,
    complaints: Vec<String>,
    complained: u64,
}

impl Tagger {
    /// A tagger that writes `format`, or plain words if `explain`.
    #[must_use]
    pub fn new(format: Format, explain: bool, table: Option<Table>, tenant: &str) -> Self {
        let context = Context {
            tenant: Arc::from(tenant.trim()),
            source: Arc::from("file"),
            ingested: None,
            normal_lag_seconds: 0,
            backfill: false,
            size_cap: normalize::SIZE_CAP,
        };
        Self {
            context,
            format,
            explain,
            table,
            name: Arc::from("-"),
            output: Vec::new(),
            counts: Counts::default(),
            before: Mark::default(),
            complaints: Vec::new(),
            complained: 0,
        }
    }

    /// What follows is from the file of this name.
    pub fn begin_input(&mut self, name: &str) {
        self.name = Arc::from(name);
    }

    /// Lines written and not yet fetched.
    pub const fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// What has been counted.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// A line that holds no object at all.
    pub fn reject_line(&mut self, line: u64, reason: &str) {
        self.counts.rejected += 1;
        self.complaints.push(format!("{}:{line}: {reason}", self.name));
    }

    /// Tags what is in `document`; false if any of it was rejected.
    pub fn document(&mut self, document: &Document<'_>) -> bool {
        self.before = Mark { output: self.output.len(), counts: self.counts.clone() };
        let rejected = self.counts.rejected;
        let chunk = Chunk {
            raw: Raw::new(document.bytes),
            shape: self.shape(document.bytes),
            // A byte offset inside the document, from which the line is counted.
            position: Position::File { path: Arc::clone(&self.name), line: 0, offset: 0 },
            observed: None,
            backfill: false,
        };
        let Self { context, format, explain, output, counts, complaints, name, .. } = self;
        normalize::each(&chunk, context, &mut |found| match found {
            Normalized::Event { mut event, row, .. } => {
                event.decision = tagging::decide(&event, row);
                counts.event(&event.decision.tags);
                write(*format, *explain, &event, row, output);
            }
            Normalized::DeadLetter(letter) => {
                counts.rejected += 1;
                let line = document.line + lines_before(document.bytes, &letter.position);
                complaints.push(format!("{name}:{line}: {}", letter.detail));
            }
        });
        self.counts.rejected == rejected
    }

    /// Undoes the last [`Tagger::document`].
    pub fn take_back(&mut self) {
        self.output.truncate(self.before.output);
        self.counts = std::mem::take(&mut self.before.counts);
        self.complaints.clear();
    }

    /// The last document stands: its complaints are told.
    pub fn settle(&mut self, mut tell: impl FnMut(&str)) {
        for complaint in self.complaints.drain(..) {
            self.complained += 1;
            if self.complained <= COMPLAINTS {
                tell(&complaint);
            } else if self.complained == COMPLAINTS + 1 {
                tell("more rejected records follow; they are only counted");
            }
        }
    }

    /// An envelope says what it is; a bare row is of the table that was named, or that its columns tell.
    fn shape(&self, bytes: &[u8]) -> Shape {
        if is_envelope(bytes) {
            return Shape::Streaming;
        }
        let Ok(row) = Row::parse(bytes) else { return Shape::Streaming };
        if row.unknown().any(|(name, json)| is_envelope_member(name, json)) {
            return Shape::Streaming;
        }
        Shape::Row(self.table.clone().unwrap_or_else(|| guess::table(&row)))
    }
}

/// The two beginnings that the Streaming API writes, without looking further.
fn is_envelope(bytes: &[u8]) -> bool {
    bytes.starts_with(b"{\"records\":[") || bytes.starts_with(b"{\"time\":\"")
}

fn is_envelope_member(name: &str, json: &str) -> bool {
    (name.eq_ignore_ascii_case("records") && json.starts_with('['))
        || (name.eq_ignore_ascii_case("properties") && json.starts_with('{'))
}

/// Lines of `bytes` before the place that a dead letter names (`path@offset`).
fn lines_before(bytes: &[u8], position: &str) -> u64 {
    let offset = position.rsplit_once('@').and_then(|(_, offset)| offset.parse().ok()).unwrap_or(0);
    let before = bytes.get(..offset).unwrap_or_default();
    memchr::memchr_iter(b'\n', before).count() as u64
}

fn write(format: Format, explain: bool, event: &Event, row: &Row<'_>, output: &mut Vec<u8>) {
    if explain {
        let mut text = String::new();
        tagging::explain(event, &mut text);
        output.extend_from_slice(text.as_bytes());
    } else {
        render_row(format, event, row, output);
        output.push(b'\n');
    }
}
