//! Cuts a CSV into records and cells (RFC 4180, and what Excel makes of it). What a column means is not asked here.

use std::io;

use ::csv::ByteRecord;

use super::input::Window;
use crate::normalize::csv_row::Header;

/// The lines of a CSV: how cells are separated and what the first line calls them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Csv {
    delimiter: u8,
    /// As in the file, trimmed.
    pub(super) header: Vec<String>,
    /// Bytes that the header takes, and lines.
    pub(super) header_length: usize,
    pub(super) header_lines: u64,
}

impl Csv {
    /// Reads the header at the beginning of a file; `None` if it is not all there or does not look like one.
    pub(super) fn begin(head: &[u8], all: bool) -> Option<Self> {
        let (mut at, mut lines, mut delimiter) = (0, 0, None);
        let mark = b"\xef\xbb\xbf";
        if head.starts_with(mark) {
            at = mark.len();
        }
        loop {
            let rest = head.get(at..)?;
            let length = match record(rest) {
                Some(length) => length,
                None if all && !rest.is_empty() => rest.len(),
                None => return None,
            };
            let line = rest.get(..length)?;
            at += length;
            lines += feeds(line);
            let text = line.trim_ascii();
            // Excel's own word for the delimiter.
            if let [b's', b'e', b'p', b'=', named] = text {
                delimiter = Some(*named);
            } else if !text.is_empty() {
                let delimiter = delimiter.unwrap_or_else(|| usual(text));
                let name = |cell: &Vec<u8>| String::from_utf8_lossy(cell).trim().to_owned();
                let header: Vec<String> = cells(line, delimiter).iter().map(name).collect();
                let named = header.iter().any(|name| !name.is_empty());
                return named.then_some(Self {
                    delimiter,
                    header,
                    header_length: at,
                    header_lines: lines,
                });
            }
        }
    }

    /// The JSON row of a record, as everything else reads rows; of one that does not fit the header its own text on
    /// one line, which is no row.
    pub(super) fn row(&self, columns: Option<&Header>, record: &[u8]) -> Vec<u8> {
        let cells = ByteRecord::from(cells(record, self.delimiter));
        if let Some(Ok(row)) = columns.map(|columns| columns.row(&cells)) {
            return row;
        }
        let blank = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
        record.trim_ascii_end().iter().map(blank).collect()
    }

    /// What the columns are, to make rows with.
    pub(super) fn columns(&self) -> Option<Header> {
        Header::of(&ByteRecord::from(self.header.clone())).ok()
    }

    /// The cells of a record by the names of their columns; a cell that the header has no name for is `column_<n>`.
    pub(super) fn named(&self, record: &[u8]) -> Vec<(String, String)> {
        let name = |at: usize| match self.header.get(at) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("column_{}", at + 1),
        };
        let cells = cells(record, self.delimiter);
        let text = |cell: Vec<u8>| String::from_utf8_lossy(&cell).into_owned();
        cells.into_iter().enumerate().map(|(at, cell)| (name(at), text(cell))).collect()
    }
}

/// The length of the next record of `window`, its line break included, which is left in place; 0 at the end.
pub(super) fn next(window: &mut Window) -> io::Result<usize> {
    loop {
        if let Some(length) = record(window.rest()) {
            return Ok(length);
        }
        if !window.fill()? {
            // A quote that never closes: its line stands for itself.
            let rest = window.rest();
            return Ok(memchr::memchr(b'\n', rest).map_or(rest.len(), |place| place + 1));
        }
    }
}

/// How many lines a record takes.
pub(super) fn feeds(record: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', record).count() as u64
}

/// The separator that occurs most in a header: comma, semicolon or tab.
fn usual(header: &[u8]) -> u8 {
    let count = |byte: u8| memchr::memchr_iter(byte, header).count();
    [b',', b';', b'\t'].into_iter().rev().max_by_key(|byte| count(*byte)).unwrap_or(b',')
}

/// The length of the record at the beginning of `bytes`, its line break included, if that is there.
fn record(bytes: &[u8]) -> Option<usize> {
    let mut quoted = false;
    // A quote opens only at the beginning of a cell; within one it is doubled.
    let mut fresh = true;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' if quoted && bytes.get(at + 1) == Some(&b'"') => at += 1,
            b'"' if quoted => quoted = false,
            b'"' if fresh => quoted = true,
            b'\n' if !quoted => return Some(at + 1),
            _ => {}
        }
        fresh = matches!(byte, b',' | b';' | b'\t' | b'\n' | 0xBF) || (fresh && *byte == b' ');
        at += 1;
    }
    None
}

/// The cells of a record.
fn cells(record: &[u8], delimiter: u8) -> Vec<Vec<u8>> {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    let record = record.strip_suffix(b"\r").unwrap_or(record);
    let mut cells = Vec::new();
    let mut cell = Vec::new();
    let (mut quoted, mut fresh) = (false, true);
    let mut at = 0;
    while let Some(&byte) = record.get(at) {
        match byte {
            b'"' if quoted && record.get(at + 1) == Some(&b'"') => {
                cell.push(b'"');
                at += 1;
            }
            b'"' if quoted => quoted = false,
            b'"' if fresh && cell.trim_ascii().is_empty() => {
                quoted = true;
                cell.clear();
            }
            _ if byte == delimiter && !quoted => {
                cells.push(std::mem::take(&mut cell));
                (fresh, at) = (true, at + 1);
                continue;
            }
            _ => cell.push(byte),
        }
        fresh = fresh && byte == b' ';
        at += 1;
    }
    cells.push(cell);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let csv = Csv::begin(text.as_bytes(), true).unwrap();
        let mut window = Window::over(text.as_bytes());
        window.fill().unwrap();
        window.pass(csv.header_length);
        let mut found = vec![csv.header.join("|")];
        loop {
            let length = next(&mut window).unwrap();
            if length == 0 {
                return found;
            }
            let cells = csv.named(&window.rest()[..length]);
            let cells: Vec<String> =
                cells.into_iter().map(|(name, cell)| format!("{name}={cell}")).collect();
            found.push(cells.join("|"));
            window.pass(length);
        }
    }

    #[test]
    fn quotes_breaks_and_separators_are_read_as_spreadsheets_write_them() {
        assert_eq!(
            read("\u{feff}a,b\r\n1,\"x, \"\"y\"\"\r\nz\"\r\n"),
            ["a|b", "a=1|b=x, \"y\"\r\nz"]
        );
        assert_eq!(read("sep=;\na;b\n1;2,3\n"), ["a|b", "a=1|b=2,3"]);
        assert_eq!(read("a\tb\n1\t2, 3"), ["a|b", "a=1|b=2, 3"]);
        assert_eq!(read("a,b\n1\n1,2,3\n"), ["a|b", "a=1", "a=1|b=2|column_3=3"]);
        assert_eq!(read("a,b\n5\" disk,2\n"), ["a|b", "a=5\" disk|b=2"]);
    }

    #[test]
    fn a_quote_that_never_closes_costs_its_line_only() {
        assert_eq!(read("a,b\n\"1,2\n3,4\n"), ["a|b", "a=1,2", "a=3|b=4"]);
    }

    #[test]
    fn a_header_that_is_not_all_there_is_waited_for() {
        assert_eq!(Csv::begin(b"a,b", false), None);
        assert!(Csv::begin(b"a,b", true).is_some());
        assert_eq!(Csv::begin(b"\n\n", true), None);
    }
}
