//! Floor 1: turns an event into one line of a schema. It decides nothing about the event and asks nobody:
//! what a mail is tagged with is settled before, how a line travels is a sink's business.

pub mod json;
mod native;
mod ocsf;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::Event;
use crate::normalize::Row;

/// A schema that an event can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Postern's own: everything that is known, and the row as it came.
    Native,
    /// Open Cybersecurity Schema Framework 1.8.0.
    Ocsf,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Native, Self::Ocsf];

    /// The word in the configuration and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Ocsf => "ocsf",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no format that is built in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFormat(Box<str>);

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<&str> = Format::ALL.iter().map(|format| format.as_str()).collect();
        write!(f, "unknown format {:?}; there is: {}", self.0, known.join(", "))
    }
}

impl std::error::Error for UnknownFormat {}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| UnknownFormat(text.into()))
    }
}

/// Appends `event` to `out` as one JSON object on one line, without the newline.
pub fn render(format: Format, event: &Event, out: &mut Vec<u8>) {
    match format {
        Format::Native => native::write(event, out),
        Format::Ocsf => {
            // What was read once reads again; an event without a row renders with what it has.
            let row = Row::parse(event.row_bytes()).unwrap_or_default();
            ocsf::write(event, &row, out);
        }
    }
}

/// As [`render`], where the event's row has been read already.
pub fn render_row(format: Format, event: &Event, row: &Row<'_>, out: &mut Vec<u8>) {
    match format {
        Format::Native => native::write(event, out),
        Format::Ocsf => ocsf::write(event, row, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_found_by_its_name_and_another_name_lists_what_there_is() {
        for format in Format::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        let refused = "leef".parse::<Format>().unwrap_err().to_string();
        assert_eq!(refused, "unknown format \"leef\"; there is: native, ocsf");
    }
}
