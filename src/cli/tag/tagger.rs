//! One document after another: normalize, tag, render into the output buffer. What a document gave can be
//! taken back until it is settled, since only its end shows whether it was one.

use std::sync::Arc;

use crate::domain::{Chunk, Event, Position, Raw, Shape, Table};
use crate::normalize::{self, Context, Normalized, Row};
use crate::render::{Format, render_row};
use crate::tagging;

use super::documents::Document;
use super::form::{self, From};
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
    from: From,
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
    pub fn new(
        format: Format,
        explain: bool,
        from: From,
        table: Option<Table>,
        tenant: &str,
    ) -> Self {
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
            from,
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
        let shape = form::shape_of(self.from, document.bytes, self.table.as_ref());
        self.read(document, shape)
    }

    /// Tags a row that was made of a line of CSV; `guessed` is the table that its header tells.
    pub fn row(&mut self, row: &[u8], line: u64, guessed: Option<&Table>) {
        let table = self.table.as_ref().or(guessed).cloned();
        let shape = Shape::Row(table.unwrap_or_else(|| Table::Other("".into())));
        self.read(&Document { bytes: row, line }, shape);
    }

    fn read(&mut self, document: &Document<'_>, shape: Shape) -> bool {
        let rejected = self.counts.rejected;
        let chunk = Chunk {
            raw: Raw::new(document.bytes),
            shape,
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
