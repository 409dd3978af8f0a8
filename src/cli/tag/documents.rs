//! Cuts a stream of bytes into JSON objects: one to a line, in arrays, or spread over many lines, in any
//! mixture. It only says where an object begins and ends; whether it is a record is `normalize`'s business.
//!
//! A line that begins with `{` is handed out as it stands, without looking inside. Only if that does not
//! read well is it asked whether the object goes on over more lines ([`Documents::widen`]); so the usual
//! case costs one search for a line break. Memory is bounded by [`WINDOW`], whatever the input.

use std::io::{self, Read};

use crate::normalize::scan::{DEPTH_CAP, Scanner, Stop};

/// Bytes asked for at a time: large enough that system calls cost nothing, small enough to stay in cache.
const READ: usize = 1 << 20;

/// The most bytes that are held at once, so also the longest single object: eight records of the largest
/// size that becomes an event.
const WINDOW: usize = 32 << 20;

/// Levels around a row: the record, the array of records, the object that holds it, an array of these.
const ENVELOPE_DEPTH: usize = 4;

/// What comes next in the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// An object, or what should be one.
    Document(Document<'a>),
    /// Something that cannot be one.
    Garbage {
        /// The line it is on, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// An object's bytes and where they are.
#[derive(Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// The bytes; of an object on a line of its own the whole line.
    pub bytes: &'a [u8],
    /// The line it begins on, counted from 1.
    pub line: u64,
}

/// What [`Documents::widen`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Wider<'a> {
    /// The object is on its line as a whole, or is broken: what was said of it stands.
    Stands,
    /// The object goes on over more lines: these bytes take the place of what was handed out.
    Document(Document<'a>),
    /// It is larger than may be held; what is inside comes piece by piece, in place of what was handed out.
    Inside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Nothing,
    /// `[`
    Array,
    /// `{"records":[`
    Records,
}

/// The objects in what `input` gives.
#[derive(Debug)]
pub struct Documents<R> {
    input: R,
    /// What is held is `buffer[start..filled]`; behind that is room to read into.
    buffer: Vec<u8>,
    filled: usize,
    /// First byte not yet handed out.
    start: usize,
    /// Line of `start`.
    line: u64,
    /// End of what was handed out last.
    end: usize,
    /// Whether that is a line, so that there is no line break in it.
    is_line: bool,
    at_end: bool,
    within: Within,
}

impl<R: Read> Documents<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            filled: 0,
            start: 0,
            line: 1,
            end: 0,
            is_line: false,
            at_end: false,
            within: Within::Nothing,
        }
    }

    /// The next piece; `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        if self.is_line {
            self.is_line = false;
            self.start = self.end;
        }
        self.pass(self.end);
        loop {
            self.skip_blanks()?;
            let Some(first) = self.byte(0) else {
                if self.within == Within::Nothing {
                    return Ok(None);
                }
                self.within = Within::Nothing;
                return Ok(Some(self.garbage("the JSON array does not end")));
            };
            match first {
                b',' => self.pass(self.start + 1),
                b'[' if self.within == Within::Nothing => {
                    self.within = Within::Array;
                    self.pass(self.start + 1);
                }
                b']' if self.within != Within::Nothing => {
                    let wrapped = self.within == Within::Records;
                    self.within = Within::Nothing;
                    self.pass(self.start + 1);
                    self.skip_blanks()?;
                    if wrapped && self.byte(0) == Some(b'}') {
                        self.pass(self.start + 1);
                    }
                }
                b'{' if self.within == Within::Nothing => {
                    return self.line_of_an_object().map(Some);
                }
                _ if self.within == Within::Nothing => {
                    self.skip_line()?;
                    return Ok(Some(self.garbage(garbage_reason(first))));
                }
                _ => return self.element(first == b'{').map(Some),
            }
        }
    }

    /// Whether the object handed out last goes on behind its line.
    pub fn widen(&mut self) -> io::Result<Wider<'_>> {
        loop {
            match value_end(self.rest()) {
                Some(Found::Whole(length)) if self.start + length <= self.end => break,
                Some(Found::Whole(length)) => {
                    self.end = self.start + length;
                    self.is_line = false;
                    return Ok(Wider::Document(self.document()));
                }
                Some(Found::Broken) => break,
                None if self.fill()? => {}
                None => {
                    let Some(inside) = records_begin(self.rest()).filter(|_| !self.at_end) else {
                        break;
                    };
                    self.within = Within::Records;
                    self.is_line = false;
                    self.pass(self.start + inside);
                    return Ok(Wider::Inside);
                }
            }
        }
        Ok(Wider::Stands)
    }

    /// An object that begins here, outside any array: its line.
    fn line_of_an_object(&mut self) -> io::Result<Piece<'_>> {
        let mut looked_at = 0;
        loop {
            let rest = self.rest();
            if let Some(place) = memchr::memchr(b'\n', rest.get(looked_at..).unwrap_or_default()) {
                self.end = self.start + looked_at + place;
                self.is_line = true;
                return Ok(Piece::Document(self.document()));
            }
            looked_at = rest.len();
            if !self.fill()? {
                break;
            }
        }
        if self.at_end {
            self.end = self.filled;
            return Ok(Piece::Document(self.document()));
        }
        // A line longer than the window. If it is a list of records, they may still be taken one by one.
        if let Some(inside) = records_begin(self.rest()) {
            self.within = Within::Records;
            self.pass(self.start + inside);
            return self.element(true);
        }
        self.skip_line()?;
        Ok(self.garbage("the line is longer than 32 MiB"))
    }

    /// An element of the array that is open.
    fn element(&mut self, is_object: bool) -> io::Result<Piece<'_>> {
        loop {
            match value_end(self.rest()) {
                Some(Found::Whole(length)) => {
                    self.end = self.start + length;
                    if is_object {
                        return Ok(Piece::Document(self.document()));
                    }
                    return Ok(self.garbage("the record is JSON, but no object"));
                }
                Some(Found::Broken) => break,
                None if self.fill()? => {}
                None => break,
            }
        }
        let reason = if self.at_end { "the JSON ends too early" } else { "not JSON" };
        self.skip_line()?;
        Ok(self.garbage(reason))
    }

    fn document(&self) -> Document<'_> {
        let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
        Document { bytes, line: self.line }
    }

    const fn garbage(&self, reason: &'static str) -> Piece<'_> {
        Piece::Garbage { line: self.line, reason }
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..self.filled).unwrap_or_default()
    }

    fn byte(&self, place: usize) -> Option<u8> {
        self.rest().get(place).copied()
    }

    /// Moves on to `end`, counting the lines passed.
    fn pass(&mut self, end: usize) {
        let passed = self.buffer.get(self.start..end).unwrap_or_default();
        // A line on its own, the usual case, holds no line break.
        self.line += memchr::memchr_iter(b'\n', passed).count() as u64;
        self.start = self.start.max(end);
        self.end = self.start;
    }

    /// White space, byte order marks and record separators (RFC 7464) between objects.
    fn skip_blanks(&mut self) -> io::Result<()> {
        loop {
            let blanks = self
                .rest()
                .iter()
                .take_while(|byte| {
                    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x1E | 0xEF | 0xBB | 0xBF)
                })
                .count();
            let is_all = self.start + blanks == self.filled;
            self.pass(self.start + blanks);
            if !is_all || !self.fill()? {
                return Ok(());
            }
        }
    }

    /// To the end of the line, however long it is; `start` stays on its line.
    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            if let Some(place) = memchr::memchr(b'\n', self.rest()) {
                self.end = self.start + place;
                return Ok(());
            }
            self.start = self.filled;
            self.end = self.start;
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    /// Reads more; false at the end of the input or of the window.
    fn fill(&mut self) -> io::Result<bool> {
        if self.at_end || self.filled - self.start >= WINDOW {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.end = self.end.saturating_sub(self.start);
            self.start = 0;
        }
        // What is held grows by as much again, so that looking at it anew stays in proportion.
        let wanted = (self.filled + READ.max(self.filled)).min(WINDOW);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let count = loop {
            match self.input.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.filled += count;
        self.at_end = count == 0;
        Ok(count > 0)
    }
}

const fn garbage_reason(first: u8) -> &'static str {
    match first {
        b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => "not a JSON object",
        0xFE | 0xFF | 0 => "not UTF-8; text in UTF-16 must be converted first",
        _ => "not JSON",
    }
}

enum Found {
    /// A value of this length.
    Whole(usize),
    /// None, whatever follows.
    Broken,
}

/// The length of the JSON value at the start of `bytes`; `None` if it goes on behind them.
fn value_end(bytes: &[u8]) -> Option<Found> {
    let mut scanner = Scanner::new(bytes);
    match scanner.value(DEPTH_CAP + ENVELOPE_DEPTH) {
        Ok(value) => Some(Found::Whole(value.end)),
        Err(Stop::Malformed(_)) => Some(Found::Broken),
        Err(Stop::Cut) => None,
        Err(Stop::TooDeep) => line_of_brackets(bytes),
    }
}

/// Something too deep to be read: where the bracket that opens it is closed, if that is on the same line.
fn line_of_brackets(bytes: &[u8]) -> Option<Found> {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for (place, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' => return Some(Found::Broken),
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(Found::Whole(place + 1));
                }
            }
            _ => {}
        }
    }
    None
}

/// If `bytes` begin as `{"records":[`: the length of that.
fn records_begin(bytes: &[u8]) -> Option<usize> {
    let mut scanner = Scanner::new(bytes);
    scanner.expect(b'{').ok()?;
    let key = scanner.key().ok()?;
    let is_records = bytes.get(key.start..key.end)?.eq_ignore_ascii_case(b"records");
    scanner.expect(b'[').ok()?;
    is_records.then(|| scanner.place())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives a few bytes at a time, as a pipe may.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(room.len());
            let (now, later) = self.0.split_at(count);
            room[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    /// Every piece, widened where the object is not whole, as `line:text` or `line!`.
    fn pieces(input: &[u8], drip: usize) -> Vec<String> {
        let mut documents = Documents::new(Drip(input, drip));
        let mut found = Vec::new();
        loop {
            let said = match documents.next().unwrap() {
                None => return found,
                Some(Piece::Garbage { line, .. }) => format!("{line}!"),
                Some(Piece::Document(document)) => {
                    let text = String::from_utf8_lossy(document.bytes.trim_ascii()).into_owned();
                    let said = format!("{}:{text}", document.line);
                    if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                        said
                    } else {
                        match documents.widen().unwrap() {
                            Wider::Stands => format!("{said}!"),
                            Wider::Document(wider) => {
                                format!("{}:{}", wider.line, String::from_utf8_lossy(wider.bytes))
                            }
                            Wider::Inside => continue,
                        }
                    }
                }
            };
            found.push(said);
        }
    }

    #[track_caller]
    fn check(input: &str, expected: &[&str]) {
        for drip in [1, 7, READ] {
            assert_eq!(pieces(input.as_bytes(), drip), expected, "{input:?} in steps of {drip}");
        }
    }

    #[test]
    fn objects_on_lines_in_arrays_and_over_many_lines_are_found() {
        check("", &[]);
        check(" \n\n", &[]);
        check("{\"a\":1}", &["1:{\"a\":1}"]);
        check("\u{feff}{\"a\":1}\r\n\n{\"b\":2}\n", &["1:{\"a\":1}", "3:{\"b\":2}"]);
        check("[{\"a\":1},{\"b\":2}]\n{\"c\":3}", &["1:{\"a\":1}", "1:{\"b\":2}", "2:{\"c\":3}"]);
        check("[\n {\"a\":\n1},\n\n {\"b\":2}\n]\n", &["2:{\"a\":\n1}", "5:{\"b\":2}"]);
        check("{\n \"a\": [1,\n2]\n}\n{\"b\":2}", &["1:{\n \"a\": [1,\n2]\n}", "5:{\"b\":2}"]);
        check("{\"r\":[{\"a\":1},\n{\"b\":2}]}\n", &["1:{\"r\":[{\"a\":1},\n{\"b\":2}]}"]);
        check("\u{1e}{\"a\":1}\n\u{1e}{\"b\":2}\n", &["1:{\"a\":1}", "2:{\"b\":2}"]);
    }

    #[test]
    fn what_is_broken_is_named_by_its_line_and_costs_its_line_only() {
        check("hello\n{\"a\":1}\n12\n", &["1!", "2:{\"a\":1}", "3!"]);
        check("{\"a\":1,\n{\"b\":2}\n{\"c\":3}\n", &["1:{\"a\":1,!", "2:{\"b\":2}", "3:{\"c\":3}"]);
        check("{\"a\":\"x\n{\"b\":2}\n", &["1:{\"a\":\"x!", "2:{\"b\":2}"]);
        check("{\"a\":1}\n{\"b\":", &["1:{\"a\":1}", "2:{\"b\":!"]);
        check("[{\"a\":1},7,\"x\"\n,{\"b\":2}]", &["1:{\"a\":1}", "1!", "1!", "2:{\"b\":2}"]);
        check("[{\"a\":1},\n{\"b\" 2},\n{\"c\":3}]", &["1:{\"a\":1}", "2!", "3:{\"c\":3}"]);
        check("[{\"a\":1}", &["1:{\"a\":1}", "1!"]);
    }

    #[test]
    fn any_depth_is_passed_over_as_a_whole() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let found = pieces(format!("{deep}\n{{\"b\":2}}\n").as_bytes(), READ);
        assert_eq!(found.len(), 2);
        assert!(found[0].ends_with('!') && found[1] == "2:{\"b\":2}");
        let open = format!("{}\n{{\"b\":2}}\n", "[".repeat(100_000));
        assert_eq!(pieces(open.as_bytes(), READ), ["1!", "2:{\"b\":2}", "3!"]);
    }

    #[test]
    fn a_list_of_records_larger_than_the_window_is_taken_one_by_one() {
        let record = format!("{{\"properties\":{{\"Subject\":\"{}\"}}}}", "x".repeat(900_000));
        for separator in [",", ",\n"] {
            let list = vec![record.as_str(); 40].join(separator);
            let found = pieces(format!("{{\"records\":[{list}]}}\n{{\"b\":2}}").as_bytes(), READ);
            assert_eq!(found.len(), 41, "{separator:?}");
            assert!(found.last().unwrap().ends_with(":{\"b\":2}"));
        }
        let line = format!("{{\"a\":\"{}\"}}\n{{\"b\":2}}\n", "x".repeat(WINDOW));
        assert_eq!(pieces(line.as_bytes(), READ), ["1!", "2:{\"b\":2}"]);
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), proptest::sample::select(b"{}[],:\"\\\n a1".to_vec())], 0..200,
            ),
            drip in 1_usize..9,
        ) {
            prop_assert!(pieces(&bytes, drip).len() <= bytes.len() + 1);
        }
    }
}
