//! One file while it is read: pieces of it become chunks, and its entry in the book moves on with them.

use std::fs::File;
use std::io;
use std::sync::Arc;

use serde_json::Value;

use super::book::Entry;
use super::csv;
use super::documents::{Document, Documents};
use super::folder::{Found, Stamp};
use super::input::Window;
use super::lines::{self, Line};
use super::reports::Names;
use super::sniff::{Format, Holds};
use crate::domain::{Chunk, Gap, GapCause, Position, Raw, Shape};
use crate::normalize::scan::{DEPTH_CAP, Scanner};

/// A page that is being filled.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) chunks: Vec<Chunk>,
    pub(super) gaps: Vec<Gap>,
    bytes: usize,
}

impl Out {
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, bytes: Vec<u8>, shape: Shape, position: Position) {
        self.bytes += bytes.len();
        self.chunks.push(Chunk {
            raw: Raw::from(bytes),
            shape,
            position,
            observed: None,
            backfill: false,
        });
    }
}

/// Pieces that will be one chunk.
#[derive(Debug, Default)]
struct Group {
    bytes: Vec<u8>,
    /// Where it begins: line (0 where lines mean nothing) and offset.
    line: u64,
    offset: u64,
    /// What closes it, and the array that its elements are of.
    tail: &'static [u8],
    array: u64,
}

/// See the module.
pub(super) struct Session {
    pub(super) found: Found,
    pub(super) entry: Entry,
    file: File,
    stamp: Stamp,
    window: Window,
    format: Format,
    documents: Documents,
    holds: Holds,
    names: Arc<Names>,
    /// What lies before has been handed over in an earlier life.
    resume: u64,
    /// Whether the file changed while it was read, so that it must be read again.
    pub(super) changed: bool,
    /// Whether the file has been still, so that an open line at its end may be all there is.
    still: bool,
}

/// What a session is made of.
pub(super) struct Opened {
    pub(super) found: Found,
    pub(super) entry: Entry,
    pub(super) file: File,
    pub(super) stamp: Stamp,
    pub(super) window: Window,
    pub(super) format: Format,
    pub(super) holds: Holds,
    pub(super) still: bool,
}

impl Session {
    pub(super) fn new(opened: Opened, names: Arc<Names>) -> Self {
        let Opened { found, mut entry, file, stamp, window, format, holds, still } = opened;
        let resume = entry.offset;
        if !entry.growing {
            entry.line = 0;
        }
        let documents = Documents::new();
        Self {
            found,
            entry,
            file,
            stamp,
            window,
            format,
            documents,
            holds,
            names,
            resume,
            changed: false,
            still,
        }
    }

    /// Reads on until the page has `limit` bytes or the file ends; whether it ended.
    pub(super) fn fill(&mut self, out: &mut Out, limit: usize) -> io::Result<bool> {
        let ended = match self.format {
            Format::Lines => self.lines(out, limit)?,
            Format::Documents => self.documents(out, limit)?,
            Format::Csv(_) => self.records(out, limit)?,
        };
        self.entry.offset = self.window.offset().max(self.resume);
        self.entry.done = false;
        if ended {
            self.end(out)?;
        }
        self.entry.note(&self.file, self.stamp)?;
        Ok(ended)
    }

    fn end(&mut self, out: &mut Out) -> io::Result<()> {
        if let Some(fault) = self.window.fault() {
            out.gaps.push(Gap {
                source: "".into(),
                what: (&*self.found.name).into(),
                from: format!("byte {}", self.window.offset()).into(),
                to: "the end".into(),
                count: None,
                cause: GapCause::Unreadable,
                detail: format!("the rest of {} was not read: {fault}", self.found.name).into(),
            });
        }
        if self.entry.growing {
            self.entry.done = self.entry.offset >= self.stamp.size;
        } else {
            self.entry.done = true;
            self.changed = Stamp::of(&self.file.metadata()?) != self.stamp;
        }
        Ok(())
    }

    fn position(&self, line: u64, offset: u64) -> Position {
        Position::File { path: Arc::clone(&self.found.name), line, offset }
    }

    fn flush(&self, group: &mut Group, shape: Shape, out: &mut Out) {
        let Group { mut bytes, line, offset, tail, .. } = std::mem::take(group);
        if !bytes.is_empty() {
            bytes.extend_from_slice(tail);
            out.push(bytes, shape, self.position(line, offset));
        }
    }

    fn lines(&mut self, out: &mut Out, limit: usize) -> io::Result<bool> {
        let mut group = Group::default();
        let grouped = lines_shape(&self.holds);
        while out.bytes + group.bytes.len() < limit {
            let was_skipping = self.entry.skipping;
            let line = lines::next(&mut self.window, &mut self.entry.skipping)?;
            if was_skipping && !self.entry.skipping {
                self.entry.line += 1;
            }
            let (length, feed) = match line {
                Line::Whole(length) => (length, 1),
                Line::Open(length) => {
                    let rest = self.window.rest().get(..length).unwrap_or_default();
                    if self.entry.growing && !(self.still && is_object(rest)) {
                        break;
                    }
                    (length, 0)
                }
                Line::Endless(length) => {
                    self.flush(&mut group, grouped.clone().unwrap_or(Shape::Streaming), out);
                    let bytes = self.window.rest().get(..length).unwrap_or_default().to_vec();
                    let position = self.position(self.entry.line + 1, self.window.offset());
                    out.push(bytes, alone_shape(&self.holds), position);
                    self.window.pass(length);
                    self.entry.skipping = true;
                    continue;
                }
                Line::End => break,
            };
            let offset = self.window.offset();
            self.entry.line += 1;
            if offset >= self.resume {
                let rest = self.window.rest();
                let bytes = rest.get(..length + feed).unwrap_or_default();
                if grouped.is_none() {
                    if !bytes.trim_ascii().is_empty() {
                        let position = self.position(self.entry.line, offset);
                        out.push(bytes.to_vec(), alone_shape(&self.holds), position);
                    }
                } else {
                    if group.bytes.is_empty() {
                        (group.line, group.offset) = (self.entry.line, offset);
                    }
                    if self.holds == Holds::Submissions && !bytes.trim_ascii().is_empty() {
                        group.bytes.extend(self.names.line_of(bytes.trim_ascii()));
                        group.bytes.push(b'\n');
                    } else {
                        group.bytes.extend_from_slice(bytes);
                    }
                }
            }
            self.window.pass(length + feed);
        }
        let full = out.bytes + group.bytes.len() >= limit;
        self.flush(&mut group, grouped.unwrap_or(Shape::Streaming), out);
        Ok(!full)
    }

    fn documents(&mut self, out: &mut Out, limit: usize) -> io::Result<bool> {
        let shape = match lines_shape(&self.holds) {
            Some(lines) if self.holds == Holds::Submissions => lines,
            _ => list_shape(&self.holds),
        };
        let mut group = Group::default();
        let mut ended = false;
        while !ended && out.bytes + group.bytes.len() < limit {
            let piece = self.documents.next(&mut self.window)?;
            let base = self.window.offset();
            let rest = self.window.rest();
            let bytes =
                |lead: usize, length: usize| rest.get(lead..lead + length).unwrap_or_default();
            let passed = match piece {
                Document::Element { lead, length } | Document::Whole { lead, length }
                    if base + lead as u64 >= self.resume && self.holds == Holds::Submissions =>
                {
                    if group.bytes.is_empty() {
                        group.offset = base + lead as u64;
                    }
                    group.bytes.extend(self.names.line_of(bytes(lead, length)));
                    group.bytes.push(b'\n');
                    lead + length
                }
                Document::Element { lead, length } if base + lead as u64 >= self.resume => {
                    if group.array != self.documents.array() {
                        self.flush(&mut group, shape.clone(), out);
                    }
                    if group.bytes.is_empty() {
                        let (head, tail) = self.frame();
                        group = Group {
                            line: 0,
                            offset: (base + lead as u64).saturating_sub(head.len() as u64),
                            bytes: head,
                            tail,
                            array: self.documents.array(),
                        };
                    } else {
                        let between = bytes(0, lead);
                        let is_comma = memchr::memchr_iter(b',', between).count() == 1;
                        group.bytes.extend_from_slice(if is_comma { between } else { b"," });
                    }
                    group.bytes.extend_from_slice(bytes(lead, length));
                    lead + length
                }
                Document::Whole { lead, length } | Document::Broken { lead, length }
                    if base + lead as u64 >= self.resume =>
                {
                    self.flush(&mut group, shape.clone(), out);
                    let framed =
                        self.documents.in_array() && matches!(piece, Document::Broken { .. });
                    let (bytes, shape) = if framed && self.holds == Holds::Streaming {
                        let (mut whole, tail) = self.frame();
                        whole.extend_from_slice(bytes(lead, length));
                        whole.extend_from_slice(tail);
                        (whole, shape.clone())
                    } else {
                        (bytes(lead, length).to_vec(), alone_shape(&self.holds))
                    };
                    if !bytes.trim_ascii().is_empty() {
                        out.push(bytes, shape, self.position(0, base + lead as u64));
                    }
                    lead + length
                }
                Document::Element { lead, length }
                | Document::Whole { lead, length }
                | Document::Broken { lead, length } => lead + length,
                Document::End { .. } => {
                    ended = true;
                    rest.len()
                }
            };
            self.window.pass(passed);
        }
        self.flush(&mut group, shape, out);
        Ok(ended)
    }

    /// What stands around elements of the array that is open, so that a part of it reads as the whole would.
    fn frame(&self) -> (Vec<u8>, &'static [u8]) {
        let (head, tail) = self.documents.frame();
        match &self.holds {
            Holds::Rows(_) | Holds::Hunting(_) if head == b"[" => {
                (b"{\"results\":[".to_vec(), b"]}")
            }
            _ => (head.to_vec(), tail),
        }
    }

    fn records(&mut self, out: &mut Out, limit: usize) -> io::Result<bool> {
        let Format::Csv(csv) = &self.format else { return Ok(true) };
        while self.window.offset() < csv.header_length as u64 {
            let missing = csv.header_length as u64 - self.window.offset();
            let there = self.window.rest().len();
            self.window.pass(usize::try_from(missing).unwrap_or(there));
            if self.window.offset() < csv.header_length as u64 && !self.window.fill()? {
                return Ok(true);
            }
        }
        let columns = csv.columns();
        self.entry.line = self.entry.line.max(csv.header_lines);
        let shape = lines_shape(&self.holds)
            .unwrap_or(Shape::RowLines(crate::domain::Table::Other("".into())));
        let mut group = Group::default();
        let mut ended = false;
        while out.bytes + group.bytes.len() < limit {
            let length = csv::next(&mut self.window)?;
            if length == 0 {
                ended = true;
                break;
            }
            let offset = self.window.offset();
            let record = self.window.rest().get(..length).unwrap_or_default();
            if offset >= self.resume && !record.trim_ascii().is_empty() {
                if group.bytes.is_empty() {
                    (group.line, group.offset) = (self.entry.line + 1, offset);
                }
                let line = match &self.holds {
                    Holds::Submissions => {
                        let cells = csv.named(record).into_iter();
                        self.names.line(cells.map(|(name, cell)| (name, Value::String(cell))))
                    }
                    _ => csv.row(columns.as_ref(), record),
                };
                group.bytes.extend(line);
                group.bytes.push(b'\n');
            }
            self.entry.line += csv::feeds(record);
            self.window.pass(length);
        }
        self.flush(&mut group, shape, out);
        Ok(ended)
    }
}

fn is_object(bytes: &[u8]) -> bool {
    let mut scanner = Scanner::new(bytes);
    bytes.trim_ascii_start().starts_with(b"{")
        && scanner.value(DEPTH_CAP * 2).is_ok()
        && scanner.at_end()
}

/// The shape of many records, one a line; `None` where each line is a chunk.
fn lines_shape(holds: &Holds) -> Option<Shape> {
    match holds {
        Holds::Streaming => Some(Shape::StreamingLines),
        Holds::Rows(table) => Some(Shape::RowLines(table.clone())),
        Holds::Submissions => Some(Shape::Submissions),
        Holds::Hunting(_) | Holds::Incidents | Holds::Alerts | Holds::Activity => None,
    }
}

/// The shape of an array or an answer.
fn list_shape(holds: &Holds) -> Shape {
    match holds {
        Holds::Streaming => Shape::Streaming,
        Holds::Rows(table) | Holds::Hunting(table) => Shape::Hunting(table.clone()),
        Holds::Incidents => Shape::Incidents { alerts: true },
        Holds::Alerts => Shape::Alerts,
        Holds::Activity => Shape::Activity,
        Holds::Submissions => Shape::Submissions,
    }
}

/// The shape of one record by itself.
fn alone_shape(holds: &Holds) -> Shape {
    match holds {
        Holds::Rows(table) => Shape::Row(table.clone()),
        Holds::Hunting(table) => Shape::Hunting(table.clone()),
        other => list_shape(other),
    }
}
