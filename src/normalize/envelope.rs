//! Cuts a source's bytes into records. One pass; a piece that is broken is cut out so that its neighbours
//! live. What a record means is not asked here, only where it begins, where its row is, and what the
//! envelope around the row says.
//!
//! Accepted for the Streaming API: `{"records":[…]}`, a bare array, one record, several of these behind one
//! another, a byte order mark in front. Keep-alive objects are skipped, other top-level keys ignored.
//!
//! # Broken pieces
//!
//! Where the grammar breaks, the broken piece ends at the earlier of: the bracket that closes the record it
//! began with (strings respected), and the next place where an object that looks like a record begins and is
//! whole. Each such place is tried once per message, so a message of nothing but broken
//! records still costs time in proportion to its length.

use std::borrow::Cow;

use super::row::Row;
use super::scan::{DEPTH_CAP, Scanner, Stop, Text, unescape};
use crate::domain::{DeadLetterReason, Issue};

/// What the envelope says about a record. Texts are trimmed; empty where missing.
#[derive(Debug, Clone, Default)]
pub struct Envelope<'a> {
    /// `category`, the table.
    pub category: Cow<'a, str>,
    /// `tenantId`.
    pub tenant: Cow<'a, str>,
    /// `time`, when it was exported.
    pub time: Cow<'a, str>,
    /// What was odd about the envelope.
    pub issues: Vec<Issue>,
}

/// A piece of a chunk.
#[derive(Debug)]
pub enum Piece<'r, 'a> {
    /// A record that could be read.
    Record {
        /// All of it.
        bytes: &'a [u8],
        /// Its row's bytes: `properties`, else all of it.
        row_bytes: &'a [u8],
        /// The row.
        row: &'r Row<'a>,
        /// The envelope.
        envelope: &'r Envelope<'a>,
    },
    /// Bytes that are no record.
    Broken {
        /// All of them.
        bytes: &'a [u8],
        /// Why.
        reason: DeadLetterReason,
        /// What was found, for a person.
        detail: String,
    },
}

/// Cuts chunks. One cutter's memory serves all records of a chunk.
pub struct Cutter<'a, 's> {
    bytes: &'a [u8],
    /// `bytes` as text, unless they are not UTF-8; then each record is looked at by itself.
    text: Option<&'a str>,
    size_cap: usize,
    row: Row<'a>,
    envelope: Envelope<'a>,
    sink: &'s mut dyn FnMut(Piece<'_, 'a>),
    /// First byte behind the last piece that was handed out, and whether that piece was broken.
    done: usize,
    last_broken: bool,
    /// Where the search for the next good record has got to, and what it found.
    search: Search,
}

/// Places before `from` need not be looked at again; `found` is the first good place at or behind `from`.
#[derive(Debug, Clone, Copy)]
struct Search {
    from: usize,
    found: Option<usize>,
}

pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl<'a, 's> Cutter<'a, 's> {
    /// A cutter over `bytes`; records over `size_cap` bytes are broken pieces.
    pub fn new(bytes: &'a [u8], size_cap: usize, sink: &'s mut dyn FnMut(Piece<'_, 'a>)) -> Self {
        Self {
            bytes,
            text: simdutf8::basic::from_utf8(bytes).ok(),
            size_cap,
            row: Row::new(),
            envelope: Envelope::default(),
            sink,
            done: 0,
            last_broken: false,
            search: Search { from: 0, found: None },
        }
    }

    /// A message of the Streaming API.
    pub fn streaming(&mut self) {
        let mut at =
            if self.bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        loop {
            let mut scanner = Scanner::at(self.bytes, at);
            let Ok(first) = scanner.peek() else { return };
            let start = scanner.place();
            let outcome = match first {
                b'{' => self.object(&mut scanner, true),
                b'[' => scanner.expect(b'[').and_then(|()| self.elements(&mut scanner)),
                _ => self.stray(&mut scanner),
            };
            at = match outcome {
                Ok(()) => scanner.place(),
                Err(stop) => self.broken(start.max(self.done), stop),
            };
            // Behind a broken piece the brackets around it may be left over; they say nothing.
            while let Some(b',' | b']' | b'}' | 0 | b' ' | b'\t' | b'\r' | b'\n') =
                self.bytes.get(at)
            {
                at += 1;
            }
        }
    }

    /// One bare row.
    pub fn row(&mut self) {
        let skip = if self.bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let mut scanner = Scanner::at(self.bytes, skip);
        let outcome = self.bare(&mut scanner);
        if let Err(stop) = outcome {
            self.refuse(self.bytes, stop);
        }
    }

    fn bare(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Stop> {
        let first = scanner.peek()?;
        let start = scanner.place();
        let Some(text) = self.text.filter(|_| first == b'{') else {
            return Err(Stop::Malformed(start));
        };
        self.row.fill(text, scanner, DEPTH_CAP)?;
        let end = scanner.place();
        if !scanner.at_end() {
            return Err(Stop::Malformed(scanner.place()));
        }
        self.envelope = Envelope::default();
        self.hand_out(start, end, start, end);
        Ok(())
    }

    /// The elements of an array whose bracket has been taken. Broken ones are handed out as such.
    fn elements(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Stop> {
        loop {
            let first = scanner.peek()?;
            let start = scanner.place();
            let outcome = match first {
                b']' => return scanner.expect(b']'),
                b',' => scanner.expect(b','),
                b'{' => self.object(scanner, false),
                _ => self.stray(scanner),
            };
            if let Err(stop) = outcome {
                let end = self.broken(start, stop);
                *scanner = Scanner::at(self.bytes, end);
            }
        }
    }

    /// Something that is no object where a record should be.
    fn stray(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Stop> {
        let value = scanner.value(DEPTH_CAP)?;
        let bytes = self.bytes.get(value.start..value.end).unwrap_or_default();
        self.done = value.end;
        (self.sink)(Piece::Broken {
            bytes,
            reason: DeadLetterReason::NotJsonObject,
            detail: "the record is JSON, but no object".to_owned(),
        });
        Ok(())
    }

    /// A record, or (at the top) an object with `records`.
    fn object(&mut self, scanner: &mut Scanner<'a>, top: bool) -> Result<(), Stop> {
        let Some(text) = self.text else { return self.object_of_bad_text(scanner, top) };
        self.object_of(text, scanner, top)
    }

    fn object_of(
        &mut self,
        text: &'a str,
        scanner: &mut Scanner<'a>,
        top: bool,
    ) -> Result<(), Stop> {
        self.envelope.category = Cow::Borrowed("");
        self.envelope.tenant = Cow::Borrowed("");
        self.envelope.time = Cow::Borrowed("");
        self.envelope.issues.clear();
        let start = scanner.place();
        let mut properties = None;
        let (mut keep_alive, mut records) = (false, false);
        scanner.expect(b'{')?;
        if !scanner.take(b'}')? {
            loop {
                let key = scanner.key()?;
                let name = decoded(text, key);
                match known(&name) {
                    Some(Key::Properties) if scanner.peek()? == b'{' => {
                        self.once(properties.is_none(), "properties");
                        let start = scanner.place();
                        self.row.fill(text, scanner, DEPTH_CAP - 1)?;
                        properties = Some((start, scanner.place()));
                    }
                    Some(Key::Records) if top && scanner.peek()? == b'[' => {
                        records = true;
                        scanner.expect(b'[')?;
                        self.elements(scanner)?;
                    }
                    Some(key @ (Key::Category | Key::Tenant | Key::Time | Key::Type))
                        if scanner.peek()? == b'"' =>
                    {
                        let value = trimmed(decoded(text, scanner.string()?));
                        match key {
                            Key::Category => {
                                self.once(self.envelope.category.is_empty(), "category");
                                self.envelope.category = value;
                            }
                            Key::Tenant => {
                                self.once(self.envelope.tenant.is_empty(), "tenantId");
                                self.envelope.tenant = value;
                            }
                            Key::Time => {
                                self.once(self.envelope.time.is_empty(), "time");
                                self.envelope.time = value;
                            }
                            _ => keep_alive = is_keep_alive(&value),
                        }
                    }
                    Some(_) => {
                        if scanner.value(DEPTH_CAP - 1)?.is_odd(text) {
                            self.envelope.issues.push(Issue::new(Issue::ODD_TYPE, &name));
                        }
                    }
                    None => {
                        scanner.value(DEPTH_CAP - 1)?;
                    }
                }
                if !scanner.more(b'}')? {
                    break;
                }
            }
        }
        let end = scanner.place();
        match properties {
            _ if records => {}
            Some((row_start, row_end)) => self.hand_out(start, end, row_start, row_end),
            None if keep_alive && self.envelope.category.is_empty() => self.done = end,
            None => {
                self.row.fill(text, &mut Scanner::at(text.as_bytes(), start), DEPTH_CAP)?;
                self.hand_out(start, end, start, end);
            }
        }
        Ok(())
    }

    /// The same in a chunk that is not UTF-8 as a whole: a record that is, is read; another is broken.
    fn object_of_bad_text(&mut self, scanner: &mut Scanner<'a>, top: bool) -> Result<(), Stop> {
        let start = scanner.place();
        if top && let Some(inside) = self.records_array(start) {
            *scanner = Scanner::at(self.bytes, inside);
            return self.elements(scanner);
        }
        let value = scanner.value(DEPTH_CAP)?;
        let bytes = self.bytes.get(value.start..value.end).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                let (size_cap, sink) = (self.size_cap, &mut *self.sink);
                Cutter::new(text.as_bytes(), size_cap, sink).streaming();
            }
            Err(error) => (self.sink)(Piece::Broken {
                bytes,
                reason: DeadLetterReason::NotJsonObject,
                detail: format!("the record is not UTF-8 at byte {}", error.valid_up_to()),
            }),
        }
        self.done = value.end;
        Ok(())
    }

    /// In an object that starts at `start`: the first byte inside the array `records`.
    fn records_array(&self, start: usize) -> Option<usize> {
        let mut scanner = Scanner::at(self.bytes, start);
        scanner.expect(b'{').ok()?;
        loop {
            let key = scanner.key().ok()?;
            let name = self.bytes.get(key.start..key.end)?;
            if name.eq_ignore_ascii_case(b"records") && scanner.peek() == Ok(b'[') {
                return Some(scanner.place() + 1);
            }
            scanner.value(DEPTH_CAP).ok()?;
            scanner.more(b'}').ok().filter(|more| *more)?;
        }
    }

    fn once(&mut self, first: bool, name: &str) {
        if !first {
            self.envelope.issues.push(Issue::new(Issue::DUPLICATE_KEY, name));
        }
    }

    fn hand_out(&mut self, start: usize, end: usize, row_start: usize, row_end: usize) {
        self.done = end;
        self.last_broken = false;
        let bytes = self.bytes.get(start..end).unwrap_or_default();
        if bytes.len() > self.size_cap {
            let detail = format!("{} bytes, {} at most", bytes.len(), self.size_cap);
            (self.sink)(Piece::Broken { bytes, reason: DeadLetterReason::OverSizeCap, detail });
            return;
        }
        let row_bytes = self.bytes.get(row_start..row_end).unwrap_or_default();
        let (row, envelope) = (&self.row, &self.envelope);
        (self.sink)(Piece::Record { bytes, row_bytes, row, envelope });
    }

    /// Hands out the broken piece that begins at `start`; returns where it ends. Where scanning stopped does
    /// not matter: behind a lost quote that is already inside the next record.
    fn broken(&mut self, start: usize, stop: Stop) -> usize {
        let next = self.next_record(start + 1);
        let limit = next.unwrap_or(self.bytes.len());
        let end = closing(self.bytes, start, limit).unwrap_or(limit).max(start);
        let piece = self.bytes.get(start..end).unwrap_or_default();
        let kept = piece.trim_ascii_end();
        let kept = kept.strip_suffix(b",").filter(|_| next == Some(end)).unwrap_or(kept);
        self.done = end;
        let piece = kept.trim_ascii_end();
        // A message cut between two records has no bytes to show for it, but must not look whole. Behind a
        // broken piece the end of the message has been told already.
        if !(piece.is_empty() && self.last_broken) {
            self.refuse(piece, stop);
        }
        self.last_broken = true;
        end
    }

    fn refuse(&mut self, bytes: &'a [u8], stop: Stop) {
        let reason = match stop {
            _ if bytes.len() > self.size_cap => DeadLetterReason::OverSizeCap,
            Stop::TooDeep => DeadLetterReason::TooDeep,
            Stop::Cut | Stop::Malformed(_) => DeadLetterReason::NotJsonObject,
        };
        (self.sink)(Piece::Broken { bytes, reason, detail: stop.to_string() });
    }

    /// The first place at or behind `from` where a whole object begins that looks like a record.
    fn next_record(&mut self, from: usize) -> Option<usize> {
        if from >= self.search.from && self.search.found.is_none_or(|found| found < from) {
            let from = from.max(self.search.from);
            let mut at = from;
            let found = loop {
                let Some(place) = memchr::memchr(b'{', self.bytes.get(at..).unwrap_or_default())
                else {
                    at = self.bytes.len();
                    break None;
                };
                at += place;
                if self.looks_like_record(at) {
                    break Some(at);
                }
                at += 1;
            };
            self.search = Search { from: at, found };
        }
        self.search.found.filter(|found| *found >= from)
    }

    fn looks_like_record(&self, start: usize) -> bool {
        let before = self.bytes.get(..start).unwrap_or_default().trim_ascii_end();
        if !matches!(before.last(), Some(b',' | b'[' | b'}' | b']') | None) {
            return false;
        }
        let mut scanner = Scanner::at(self.bytes, start);
        let mut envelope = false;
        let walked = (|| {
            scanner.expect(b'{')?;
            loop {
                let key = scanner.key()?;
                let name = self.bytes.get(key.start..key.end).unwrap_or_default();
                envelope |= matches!(name, b"category" | b"properties" | b"operationName");
                scanner.value(DEPTH_CAP - 1)?;
                if !scanner.more(b'}')? {
                    return Ok::<(), Stop>(());
                }
            }
        })();
        walked.is_ok() && envelope
    }
}

/// The keys of an envelope that are read.
#[derive(Debug, Clone, Copy)]
enum Key {
    Records,
    Properties,
    Category,
    Tenant,
    Time,
    Type,
}

fn known(name: &str) -> Option<Key> {
    const KEYS: [(&str, Key); 6] = [
        ("time", Key::Time),
        ("tenantId", Key::Tenant),
        ("category", Key::Category),
        ("properties", Key::Properties),
        ("records", Key::Records),
        ("type", Key::Type),
    ];
    KEYS.iter().find(|(word, _)| name.eq_ignore_ascii_case(word)).map(|(_, key)| *key)
}

fn decoded(text: &str, found: Text) -> Cow<'_, str> {
    let inner = text.get(found.start..found.end).unwrap_or_default();
    if found.escaped { unescape(inner).0.into() } else { inner.into() }
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => text.trim().into(),
        Cow::Owned(text) => text.trim().to_owned().into(),
    }
}

fn is_keep_alive(value: &str) -> bool {
    ["heartbeat", "keepalive", "keep-alive", "ping"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
}

impl super::scan::Scanned {
    /// Whether something else than null stands where the envelope has text or an object.
    fn is_odd(self, text: &str) -> bool {
        text.get(self.start..self.end) != Some("null")
    }
}

/// One past the bracket that closes what opens at `start`, if it is before `limit`, the brackets in between
/// pair up, and what follows could follow a record. Strings are respected; nothing else is checked.
pub(super) fn closing(bytes: &[u8], start: usize, limit: usize) -> Option<usize> {
    let window = bytes.get(..limit)?;
    // One bit per open bracket would do for 64 levels; poison may have a million.
    let mut open: Vec<u8> = Vec::new();
    let mut at = start;
    loop {
        match *window.get(at)? {
            b'"' => {
                at += 1;
                loop {
                    at += memchr::memchr2(b'"', b'\\', window.get(at..)?)?;
                    if window.get(at) == Some(&b'"') {
                        break;
                    }
                    at += 2;
                }
            }
            b'{' => open.push(b'}'),
            b'[' => open.push(b']'),
            close @ (b'}' | b']') if open.pop() != Some(close) => return None,
            b'}' | b']' => {}
            _ if open.is_empty() => return None,
            _ => {}
        }
        at += 1;
        if open.is_empty() {
            let rest = bytes.get(at..).unwrap_or_default().trim_ascii_start();
            return matches!(rest.first(), None | Some(b',' | b']' | b'}')).then_some(at);
        }
    }
}
