//! CSV exports in `postern tag`: finding out that an input is one, and reading it line by line. What a line means
//! is `normalize::csv_row`'s business.

use std::io::{self, Chain, Cursor, Read, Write};

use anyhow::Context as _;

use crate::normalize::csv_row::{self, Header};

use super::form;
use super::tagger::Tagger;

/// Bytes looked at for the first line.
const FIRST_LINE: usize = 64 * 1024;

/// The longest record. A quote that is left open would otherwise make the rest of a file one record.
const RECORD_CAP: u64 = 64 * 1024 * 1024;

/// An input whose beginning has been looked at.
pub type Opened<R> = Chain<Cursor<Vec<u8>>, R>;

/// Looks at the first line of `input`; whether it is a CSV header, and the whole input again.
pub fn open<R: Read>(mut input: R) -> io::Result<(Vec<u8>, bool, Opened<R>)> {
    let mut begin = Vec::new();
    let mut room = [0; 4096];
    let looks = |begin: &[u8]| begin.len() < FIRST_LINE && !begin.trim_ascii().contains(&b'\n');
    // JSON shows itself with its first byte: nothing more is read ahead.
    while looks(&begin) && !matches!(begin.trim_ascii_start().first(), Some(b'{' | b'[')) {
        let count = match input.read(&mut room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        if count == 0 {
            break;
        }
        begin.extend_from_slice(room.get(..count).unwrap_or_default());
    }
    let line = begin.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
    let is_csv = form::is_csv_header(&line);
    Ok((line, is_csv, Cursor::new(begin).chain(input)))
}

/// Tags every line of a CSV export whose first line is `first_line`.
pub fn tag(
    tagger: &mut Tagger,
    name: &str,
    first_line: &[u8],
    input: impl Read,
    output: &mut impl Write,
    tell: &dyn Fn(&str),
) -> anyhow::Result<()> {
    let input = Bounded { input, left: RECORD_CAP };
    let mut reader = csv_row::reader(input, csv_row::delimiter(first_line));
    let mut record = csv::ByteRecord::new();
    let mut header: Option<Header> = None;
    let mut table = None;
    loop {
        reader.get_mut().left = RECORD_CAP;
        let line = reader.position().line();
        if !reader.read_byte_record(&mut record).with_context(|| format!("cannot read {name}"))? {
            break;
        }
        let line = record.position().map_or(line, csv::Position::line);
        match &header {
            None => match Header::of(&record) {
                Ok(found) => {
                    table = Some(found.table());
                    header = Some(found);
                }
                Err(problem) => {
                    tagger.reject_line(line, &problem.to_string());
                    tagger.settle(tell);
                    break;
                }
            },
            Some(header) => {
                match header.row(&record) {
                    Ok(row) => tagger.row(&row, line, table.as_ref()),
                    Err(problem) => tagger.reject_line(line, &problem.to_string()),
                }
                tagger.settle(tell);
            }
        }
        super::hand_on(tagger, output, super::WRITE)?;
    }
    super::hand_on(tagger, output, 0)
}

/// Gives up where one record takes too much.
struct Bounded<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other(
                "a CSV record is longer than 64 MiB; is a quote left open?",
            ));
        }
        let count = self.input.read(room)?;
        self.left = self.left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}
