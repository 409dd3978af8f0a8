//! Lines of a CSV export (the portal's, or of a hunting result) as the JSON rows that everything else reads. It
//! does not open files, and does not know which table a line is from beyond what its header tells.
//!
//! RFC 4180 as `csv` reads it: a header line, quoted fields with line breaks inside, either line end, a byte order
//! mark in front. Comma, semicolon or tab, whichever the header has most of. Use [`delimiter`] on the first line,
//! [`reader`] over the bytes, [`Header::of`] for the first record, [`Header::row`] for each other one.
//!
//! # What becomes of a field
//!
//! A field without content is null: the column is there, as in an answer to a hunting query. Columns that are known as
//! numbers or booleans become such where the field is one, so that the row looks as it does over other ways; every
//! other field is text, also where it holds JSON. A time that the portal wrote in its American form becomes
//! ISO 8601 and counts as UTC; **such a form has no fraction of a second, so the row has another id than over
//! other ways** where the time has one.

use std::io::Read;

use super::column::{Column, Shape};
use super::guess;
use super::row::Row;
use super::scan::Scanner;
use crate::domain::Table;

/// Columns that are read at most: more than any table has.
const COLUMN_CAP: usize = 4096;

/// Why a line gives no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvProblem {
    /// The header names nothing, or more than can be.
    #[error("the first line is no CSV header")]
    NoHeader,
    /// Cut off, or not of this table.
    #[error("{found} fields where the header names {expected}")]
    Fields {
        /// Fields of the line.
        found: usize,
        /// Columns of the header.
        expected: usize,
    },
    /// Another encoding.
    #[error("the line is not UTF-8")]
    NotUtf8,
}

/// The separator that a header line uses.
#[must_use]
pub fn delimiter(first_line: &[u8]) -> u8 {
    let line = first_line.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    let count = |wanted: u8| line.iter().filter(|byte| **byte == wanted).count();
    [b',', b';', b'\t'].into_iter().rev().max_by_key(|byte| count(*byte)).unwrap_or(b',')
}

/// A reader of records, the header being the first of them. Every record says where it began
/// (`ByteRecord::position`).
pub fn reader<R: Read>(input: R, delimiter: u8) -> csv::Reader<R> {
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .from_reader(input)
}

/// The names of the columns.
#[derive(Debug, Clone)]
pub struct Header {
    columns: Vec<(Option<Column>, String)>,
}

impl Header {
    /// From the first record. Columns without a name get their place as one (`column_3`).
    pub fn of(record: &csv::ByteRecord) -> Result<Self, CsvProblem> {
        let mut columns: Vec<(Option<Column>, String)> = Vec::with_capacity(record.len());
        for (place, name) in record.iter().enumerate() {
            let name = std::str::from_utf8(name).map_err(|_| CsvProblem::NotUtf8)?;
            let name = name.trim().trim_start_matches('\u{feff}').trim();
            let taken = columns.iter().any(|(_, known)| known == name);
            let name = if name.is_empty() || taken {
                format!("column_{}", place + 1)
            } else {
                name.to_owned()
            };
            columns.push((Column::from_name(&name), name));
        }
        let named = columns.iter().any(|(_, name)| !name.starts_with("column_"));
        if !named || columns.len() > COLUMN_CAP {
            return Err(CsvProblem::NoHeader);
        }
        Ok(Self { columns })
    }

    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(_, name)| name.as_str())
    }

    /// The table that has these columns; `Other` without a name if they do not tell.
    #[must_use]
    pub fn table(&self) -> Table {
        let members: serde_json::Map<String, serde_json::Value> =
            self.names().map(|name| (name.to_owned(), serde_json::Value::Null)).collect();
        let text = serde_json::Value::Object(members).to_string();
        Row::parse(text.as_bytes()).map_or(Table::Other("".into()), |row| guess::table(&row))
    }

    /// Another name for every column that `rename` gives one for.
    #[must_use]
    pub fn renamed(mut self, rename: impl Fn(&str) -> Option<String>) -> Self {
        for (column, name) in &mut self.columns {
            if let Some(other) = rename(name) {
                *column = Column::from_name(&other);
                *name = other;
            }
        }
        self
    }

    /// The JSON row of a record.
    pub fn row(&self, record: &csv::ByteRecord) -> Result<Vec<u8>, CsvProblem> {
        let expected = self.columns.len();
        let surplus = record.iter().skip(expected).any(|field| !field.trim_ascii().is_empty());
        if record.len() < expected || surplus {
            return Err(CsvProblem::Fields { found: record.len(), expected });
        }
        let mut out = vec![b'{'];
        for ((column, name), field) in self.columns.iter().zip(record) {
            let field = std::str::from_utf8(field).map_err(|_| CsvProblem::NotUtf8)?.trim();
            if out.len() > 1 {
                out.push(b',');
            }
            text(name, &mut out);
            out.push(b':');
            value(column.map(Column::shape), field, &mut out);
        }
        out.push(b'}');
        Ok(out)
    }
}

fn value(shape: Option<Shape>, field: &str, out: &mut Vec<u8>) {
    match shape {
        _ if field.is_empty() => out.extend_from_slice(b"null"),
        Some(Shape::Flag) if field.eq_ignore_ascii_case("true") || field == "1" => {
            out.extend_from_slice(b"true");
        }
        Some(Shape::Flag) if field.eq_ignore_ascii_case("false") || field == "0" => {
            out.extend_from_slice(b"false");
        }
        Some(Shape::Number) if is_number(field) => out.extend_from_slice(field.as_bytes()),
        Some(Shape::Time) => match american_time(field) {
            Some(time) => text(&time, out),
            None => text(field, out),
        },
        _ => text(field, out),
    }
}

/// Whether a field is a number just as JSON writes it.
fn is_number(field: &str) -> bool {
    let first = field.as_bytes().first().copied().unwrap_or_default();
    let mut scanner = Scanner::new(field.as_bytes());
    matches!(first, b'-' | b'0'..=b'9') && scanner.value(0).is_ok() && scanner.at_end()
}

fn text(text: &str, out: &mut Vec<u8>) {
    // Writing a string to a vector cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// `Aug 20, 2026 9:11:04 AM` and `8/20/2026 9:11:04 AM` as ISO 8601. Without `AM` or `PM` the order of day and month
/// cannot be told, and the text stays as it is.
fn american_time(field: &str) -> Option<String> {
    let squeezed = field.replace([',', '\u{202f}', '\u{a0}'], " ");
    let mut words = squeezed.split_whitespace();
    let first = words.next()?;
    let (year, month, day) = if let Some((month, rest)) = first.split_once('/') {
        let (day, year) = rest.split_once('/')?;
        (year, month.parse::<u32>().ok()?, day)
    } else {
        let month = month_of(first)?;
        let day = words.next()?;
        (words.next()?, month, day)
    };
    let (time, half) = (words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let mut parts = time.split(':').map(str::parse::<u32>);
    let (hour, minute) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let second = parts.next().unwrap_or(Ok(0)).ok()?;
    let after_noon = match () {
        () if half.eq_ignore_ascii_case("AM") => 0,
        () if half.eq_ignore_ascii_case("PM") => 12,
        () => return None,
    };
    let (year, day) = (year.parse::<u32>().ok()?, day.parse::<u32>().ok()?);
    if !(1..=12).contains(&hour) {
        return None;
    }
    let hour = hour % 12 + after_noon;
    let iso = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
    crate::domain::Ticks::parse(&iso).map(|_| iso)
}

fn month_of(word: &str) -> Option<u32> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let head = word.get(..3)?.to_ascii_lowercase();
    let place = MONTHS.iter().position(|month| *month == head)?;
    u32::try_from(place + 1).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn rows(csv: &[u8]) -> Vec<Result<Value, CsvProblem>> {
        let mut reader = reader(csv, delimiter(csv));
        let mut records = reader.byte_records();
        let Some(Ok(first)) = records.next() else { return Vec::new() };
        let header = match Header::of(&first) {
            Ok(header) => header,
            Err(problem) => return vec![Err(problem)],
        };
        records
            .map(|record| {
                let row = header.row(&record.unwrap())?;
                Ok(serde_json::from_slice(&row).expect("a row is JSON"))
            })
            .collect()
    }

    #[test]
    fn fields_of_known_columns_look_as_they_do_over_other_ways() {
        let csv = concat!(
            "\u{feff}Timestamp,NetworkMessageId,AttachmentCount,IsFirstContact,Subject,ConfidenceLevel,Own thing\r\n",
            "2026-08-20T09:11:04.1234567Z,m-1,2,True,\"Two\r\nlines, \"\"quoted\"\"\",\"{\"\"Phish\"\":\"\"High\"\"}\",007\r\n",
            "\"Aug 20, 2026 9:11:04 PM\",m-2,many,0,,,\r\n",
        );
        assert_eq!(
            rows(csv.as_bytes()),
            [
                Ok(json!({
                    "Timestamp": "2026-08-20T09:11:04.1234567Z", "NetworkMessageId": "m-1",
                    "AttachmentCount": 2, "IsFirstContact": true,
                    "Subject": "Two\r\nlines, \"quoted\"",
                    "ConfidenceLevel": "{\"Phish\":\"High\"}", "Own thing": "007",
                })),
                Ok(json!({
                    "Timestamp": "2026-08-20T21:11:04Z", "NetworkMessageId": "m-2",
                    "AttachmentCount": "many", "IsFirstContact": false, "Subject": null,
                    "ConfidenceLevel": null, "Own thing": null,
                })),
            ]
        );
    }

    #[test]
    fn other_separators_are_seen_and_short_or_long_lines_are_refused() {
        assert_eq!(rows(b"a;b\n1;2,3\n"), [Ok(json!({"a": "1", "b": "2,3"}))]);
        assert_eq!(rows(b"a\tb\n1\t2\n"), [Ok(json!({"a": "1", "b": "2"}))]);
        let fields = |found| Err(CsvProblem::Fields { found, expected: 2 });
        let lines = rows(b"a,b\n1\n1,2,3\n1,2,,\n");
        assert_eq!(lines, [fields(1), fields(3), Ok(json!({"a": "1", "b": "2"}))]);
        assert_eq!(rows(b"a,b\n\xff,2\n"), [Err(CsvProblem::NotUtf8)]);
        assert_eq!(rows(b",,\n1,2,3\n"), [Err(CsvProblem::NoHeader)]);
        assert_eq!(rows(b"a,a\n1,2\n"), [Ok(json!({"a": "1", "column_2": "2"}))]);
    }

    #[test]
    fn american_times_become_iso_and_others_stay() {
        for (text, iso) in [
            ("8/20/2026 9:11:04 AM", Some("2026-08-20T09:11:04Z")),
            ("8/20/2026, 12:00 AM", Some("2026-08-20T00:00:00Z")),
            ("August 20, 2026 12:30:00\u{202f}PM", Some("2026-08-20T12:30:00Z")),
            ("20/8/2026 9:11:04 AM", None),
            ("20/08/2026 09:11:04", None),
            ("2026-08-20T09:11:04Z", None),
            ("", None),
        ] {
            assert_eq!(american_time(text).as_deref(), iso, "{text}");
        }
    }

    #[test]
    fn the_header_tells_the_table_and_can_be_renamed() {
        let header = |names: &[&str]| Header::of(&csv::ByteRecord::from(names.to_vec())).unwrap();
        assert_eq!(header(&["x", "OrgLevelPolicy"]).table(), Table::EmailEvents);
        assert_eq!(header(&["x"]).table(), Table::Other("".into()));
        let renamed = header(&["Reported by", "x"])
            .renamed(|name| (name == "Reported by").then(|| "reporter".to_owned()));
        assert_eq!(renamed.names().collect::<Vec<_>>(), ["reporter", "x"]);
    }

    proptest! {
        #[test]
        fn every_record_is_json_or_a_problem(
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), proptest::sample::select(b",\"\n\r a1\\".to_vec())], 0..200,
            ),
        ) {
            let _ = rows(&bytes);
        }
    }
}
