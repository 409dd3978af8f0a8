//! Cuts JSON documents, and the elements of arrays within them, out of a window, so that an answer of any size can
//! be handed over in parts. What an element means is not asked here.
//!
//! A document is an array, an object with an array under `records`, `value` or `results` (then its elements are cut),
//! or any other object (handed over whole). Several may stand behind one another.

use std::io;

use super::input::{WINDOW, Window};
use crate::normalize::scan::{DEPTH_CAP, Scanner, Stop};

/// What an envelope adds to the depth of a record.
const ENVELOPE_DEPTH: usize = 4;
/// Bytes of a document before its array that are kept to be set before each of its parts.
const HEAD_CAP: usize = 256 << 10;
/// Members that hold the records of an answer.
const LISTS: [&[u8]; 3] = [b"records", b"value", b"results"];

/// What comes next; it begins `lead` bytes into the window's rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Document {
    /// An element of the array that is open.
    Element { lead: usize, length: usize },
    /// An object that stands by itself.
    Whole { lead: usize, length: usize },
    /// Bytes that cannot be cut: to the end of the line, or all that a record may have.
    Broken { lead: usize, length: usize },
    /// The bytes end, in the middle of a document if `open`.
    End { open: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Nothing,
    /// A bare array.
    Array,
    /// The array of an answer.
    List,
    /// An answer, behind its array.
    Tail,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Documents {
    within: Within,
    /// The document up to and with the bracket of its array.
    head: Vec<u8>,
    /// Arrays that were entered, to tell one from the next.
    arrays: u64,
}

impl Documents {
    pub(super) const fn new() -> Self {
        Self { within: Within::Nothing, head: Vec::new(), arrays: 0 }
    }

    /// What stands before the elements of the array that is open, its bracket included, and what closes it.
    pub(super) fn frame(&self) -> (&[u8], &'static [u8]) {
        match self.within {
            Within::List | Within::Tail => (&self.head, b"]}"),
            Within::Nothing | Within::Array => (b"[", b"]"),
        }
    }

    /// The number of the array that is or was open last.
    pub(super) const fn array(&self) -> u64 {
        self.arrays
    }

    /// Whether an array is open.
    pub(super) const fn in_array(&self) -> bool {
        matches!(self.within, Within::Array | Within::List)
    }

    /// The next piece, which is left in place: the caller passes over it.
    pub(super) fn next(&mut self, window: &mut Window) -> io::Result<Document> {
        let mut lead = 0;
        loop {
            let Some(first) = byte(window, lead)? else {
                return Ok(Document::End { open: self.within != Within::Nothing });
            };
            match (self.within, first) {
                (_, b' ' | b'\t' | b'\r' | b'\n' | 0x1E | b',') => lead += 1,
                (Within::Nothing, 0xEF | 0xBB | 0xBF) => lead += 1,
                (Within::Nothing, b'[') => {
                    window.pass(lead + 1);
                    (self.within, lead) = (Within::Array, 0);
                    self.arrays += 1;
                }
                (Within::Nothing, b'{') => {
                    if !self.enter(window, lead)? {
                        return self.value(window, lead);
                    }
                    lead = 0;
                }
                (Within::Array, b']') | (Within::Tail, b'}') => {
                    window.pass(lead + 1);
                    (self.within, lead) = (Within::Nothing, 0);
                }
                (Within::List, b']') => {
                    window.pass(lead + 1);
                    (self.within, lead) = (Within::Tail, 0);
                }
                (Within::Tail, _) => {
                    if !self.member(window, lead)? {
                        self.within = Within::Nothing;
                    }
                    lead = 0;
                }
                (Within::Nothing | Within::Array | Within::List, _) => {
                    return self.value(window, lead);
                }
            }
        }
    }

    /// Enters the object at `lead` if it is an answer with a list of objects.
    fn enter(&mut self, window: &mut Window, lead: usize) -> io::Result<bool> {
        loop {
            let rest = window.rest().get(lead..).unwrap_or_default();
            match list_begins(rest) {
                Ok(Some(inside)) if inside <= HEAD_CAP => {
                    self.head = rest.get(..inside).unwrap_or_default().to_vec();
                    self.within = Within::List;
                    self.arrays += 1;
                    window.pass(lead + inside);
                    return Ok(true);
                }
                Err(Stop::Cut) if rest.len() <= HEAD_CAP && window.fill()? => {}
                Ok(_) | Err(_) => return Ok(false),
            }
        }
    }

    /// Passes over a member behind the list of an answer; false if there is none that can be read.
    fn member(&self, window: &mut Window, lead: usize) -> io::Result<bool> {
        loop {
            let rest = window.rest().get(lead..).unwrap_or_default();
            let mut scanner = Scanner::new(rest);
            match scanner.key().and_then(|_| scanner.value(DEPTH_CAP + ENVELOPE_DEPTH)) {
                Ok(_) => {
                    let length = scanner.place();
                    window.pass(lead + length);
                    return Ok(true);
                }
                Err(Stop::Cut) if window.fill()? => {}
                Err(_) => {
                    window.pass(lead);
                    return Ok(false);
                }
            }
        }
    }

    /// The value at `lead`.
    fn value(&self, window: &mut Window, lead: usize) -> io::Result<Document> {
        loop {
            let rest = window.rest().get(lead..).unwrap_or_default();
            match Scanner::new(rest).value(DEPTH_CAP + ENVELOPE_DEPTH) {
                Ok(value) if self.within == Within::Nothing => {
                    return Ok(Document::Whole { lead, length: value.end });
                }
                Ok(value) => return Ok(Document::Element { lead, length: value.end }),
                Err(Stop::Cut) if window.fill()? => {}
                Err(Stop::Cut) if window.at_end() => {
                    let length = window.rest().len().saturating_sub(lead);
                    return Ok(Document::Broken { lead, length });
                }
                Err(_) => return line(window, lead),
            }
        }
    }
}

/// The rest of the line at `lead`, or as much of it as a record may have.
fn line(window: &mut Window, lead: usize) -> io::Result<Document> {
    loop {
        let rest = window.rest().get(lead..).unwrap_or_default();
        if let Some(length) = memchr::memchr(b'\n', rest) {
            return Ok(Document::Broken { lead, length });
        }
        if rest.len() + lead >= WINDOW || !window.fill()? {
            let length = window.rest().len().saturating_sub(lead);
            return Ok(Document::Broken { lead, length });
        }
    }
}

fn byte(window: &mut Window, at: usize) -> io::Result<Option<u8>> {
    loop {
        if let Some(byte) = window.rest().get(at) {
            return Ok(Some(*byte));
        }
        if !window.fill()? {
            if window.is_full() {
                // Nothing but blanks: they need not be held.
                window.pass(window.rest().len());
                continue;
            }
            return Ok(None);
        }
    }
}

/// If `bytes` begin an object with a list of objects: where the list's first element is.
pub(super) fn list_begins(bytes: &[u8]) -> Result<Option<usize>, Stop> {
    let mut scanner = Scanner::new(bytes);
    scanner.expect(b'{')?;
    if scanner.take(b'}')? {
        return Ok(None);
    }
    loop {
        let key = scanner.key()?;
        let name = bytes.get(key.start..key.end).unwrap_or_default();
        let is_list = LISTS.iter().any(|list| name.eq_ignore_ascii_case(list));
        if is_list && scanner.take(b'[')? {
            let inside = scanner.place();
            if matches!(scanner.peek()?, b'{' | b']') {
                return Ok(Some(inside));
            }
            scanner = Scanner::at(bytes, inside - 1);
        }
        scanner.value(DEPTH_CAP + ENVELOPE_DEPTH)?;
        if !scanner.more(b'}')? {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8]) -> Vec<String> {
        let mut window = Window::over(bytes);
        let mut documents = Documents::new();
        let mut found = Vec::new();
        loop {
            let (mark, lead, length) = match documents.next(&mut window).unwrap() {
                Document::Element { lead, length } => {
                    let (head, tail) = documents.frame();
                    let frame = [head, tail].concat();
                    (String::from_utf8(frame).unwrap(), lead, length)
                }
                Document::Whole { lead, length } => (String::new(), lead, length),
                Document::Broken { lead, length } => ("!".to_owned(), lead, length),
                Document::End { open } => {
                    found.extend(open.then(|| "open".to_owned()));
                    return found;
                }
            };
            let text = String::from_utf8_lossy(&window.rest()[lead..lead + length]).into_owned();
            found.push(format!("{text}{mark}"));
            window.pass(lead + length);
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(pieces(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn arrays_answers_and_objects_are_cut_into_their_parts() {
        check("", &[]);
        check("[]", &[]);
        check("\u{feff}[{\"a\":1},\n {\"b\":2}]\n", &["{\"a\":1}[]", "{\"b\":2}[]"]);
        check("{\"a\":\n1}\n{\"b\":2}", &["{\"a\":\n1}", "{\"b\":2}"]);
        check(
            "{\"c\":[{}],\"value\":[{\"a\":1},{\"b\":2}],\"d\":{}}{\"e\":1}",
            &[
                "{\"a\":1}{\"c\":[{}],\"value\":[]}",
                "{\"b\":2}{\"c\":[{}],\"value\":[]}",
                "{\"e\":1}",
            ],
        );
        check("{\"Results\":[]}", &[]);
        check("{\"value\":[1,2]}", &["{\"value\":[1,2]}"]);
        check("[1,{\"a\":1}]", &["1[]", "{\"a\":1}[]"]);
    }

    #[test]
    fn what_is_broken_ends_with_its_line_and_what_is_cut_is_said_to_be() {
        check(
            "[{\"a\":1},\n{\"b\" 2},\n{\"c\":3}]",
            &["{\"a\":1}[]", "{\"b\" 2},!", "{\"c\":3}[]"],
        );
        check("[{\"a\":1},{\"b\":", &["{\"a\":1}[]", "{\"b\":!", "open"]);
        check("nonsense\n{\"a\":1}", &["nonsense!", "{\"a\":1}"]);
        check("{\"value\":[{\"a\":1}", &["{\"a\":1}{\"value\":[]}", "open"]);
        check(
            "{\"value\":[{\"a\":1}],?\n{\"b\":2}",
            &["{\"a\":1}{\"value\":[]}", "?!", "{\"b\":2}"],
        );
    }

    #[test]
    fn a_list_larger_than_the_window_and_an_element_larger_than_it_pass() {
        let element = format!("{{\"a\":\"{}\"}}", "x".repeat(100_000));
        let list = format!("{{\"value\":[{}]}}", vec![element.as_str(); 120].join(","));
        assert_eq!(pieces(list.as_bytes()).len(), 120);
        let giant = format!("[{{\"a\":\"{}\"}},\n{{\"b\":2}}]", "x".repeat(2 * WINDOW));
        let found = pieces(giant.as_bytes());
        assert_eq!(found.last().unwrap(), "{\"b\":2}[]");
        assert!(found.len() >= 3 && found[0].ends_with('!'));
        assert_eq!(pieces(&vec![b' '; 3 * WINDOW]), [""; 0]);
    }
}
