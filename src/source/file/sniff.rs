//! What a file is, by its first bytes: how it is laid out and what its records are. What the configuration says
//! goes first.

use serde_json::{Map, Value};

use super::csv::Csv;
use super::documents::list_begins;
use super::{Content, FileFormat, FileSourceConfig};
use crate::domain::Table;
use crate::normalize::scan::{DEPTH_CAP, Scanner};
use crate::normalize::{Row, guess};

/// Bytes that are looked at.
pub(super) const HEAD: usize = 64 << 10;

/// How a file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    Lines,
    Documents,
    Csv(Csv),
}

/// What its records are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holds {
    Streaming,
    Rows(Table),
    Hunting(Table),
    Incidents,
    Alerts,
    Activity,
    Submissions,
}

/// What the first bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sniffed {
    Known(Format, Holds),
    /// More of it must be there.
    NotYet,
    /// It is no text that can be read.
    Unreadable(&'static str),
}

/// Looks at the decompressed beginning of a file; `all` if nothing follows (or no more than this is looked at).
pub(super) fn sniff(head: &[u8], all: bool, config: &FileSourceConfig) -> Sniffed {
    match head {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => {
            return Sniffed::Unreadable("it is UTF-16; convert it to UTF-8 first");
        }
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            return Sniffed::Unreadable("it is compressed twice");
        }
        [b'P', b'K', 3, 4, ..] => {
            return Sniffed::Unreadable(
                "it is a ZIP archive or a workbook; unpack it or export CSV",
            );
        }
        _ if head.contains(&0) => return Sniffed::Unreadable("it is not text"),
        _ => {}
    }
    let all = all || head.len() >= HEAD;
    let begin = start(head);
    let Some(first) = head.get(begin) else {
        if head.len() < HEAD {
            return Sniffed::NotYet;
        }
        // Blanks as far as one looks: passed over as the lines that they are.
        return Sniffed::Known(Format::Lines, Holds::Rows(Table::Other("".into())));
    };
    let text = head.get(begin..).unwrap_or_default();
    let line = memchr::memchr(b'\n', text);
    let format = match (config.format, first) {
        (FileFormat::Ndjson, _) => Format::Lines,
        (FileFormat::Json, _) | (FileFormat::Auto, b'[') => Format::Documents,
        (FileFormat::Csv, _) => match Csv::begin(head, all) {
            Some(csv) => Format::Csv(csv),
            None if all => return Sniffed::Unreadable("its first line does not name columns"),
            None => return Sniffed::NotYet,
        },
        (FileFormat::Auto, b'{') => match line {
            Some(_) if is_answer(text) => Format::Documents,
            Some(length) if is_whole(text.get(..length).unwrap_or_default()) => Format::Lines,
            None if !all => return Sniffed::NotYet,
            // Longer than what is looked at, or the only line there is.
            None if is_whole(text) && !is_answer(text) => Format::Lines,
            Some(_) | None => Format::Documents,
        },
        (FileFormat::Auto, _) => match (line, Csv::begin(head, all)) {
            (None, _) if !all => return Sniffed::NotYet,
            (_, Some(csv)) if csv.header.len() > 1 => Format::Csv(csv),
            _ => Format::Lines,
        },
    };
    if !all && format == Format::Lines && line.is_none() {
        return Sniffed::NotYet;
    }
    let holds = holds(text, &format, config);
    Sniffed::Known(format, holds)
}

/// Where the text begins, behind marks and blanks.
fn start(head: &[u8]) -> usize {
    head.iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x1E | 0xEF | 0xBB | 0xBF))
        .count()
}

fn is_whole(line: &[u8]) -> bool {
    let mut scanner = Scanner::new(line);
    scanner.value(DEPTH_CAP * 2).is_ok() && scanner.at_end()
}

/// Whether it is one of Graph's or hunting's answers. (Messages of the Streaming API are lines like any other.)
fn is_answer(text: &[u8]) -> bool {
    list_begins(text).is_ok_and(|inside| inside.is_some())
        && !keys(text).iter().any(|key| key.eq_ignore_ascii_case("records"))
}

fn holds(text: &[u8], format: &Format, config: &FileSourceConfig) -> Holds {
    let outer = match format {
        Format::Csv(csv) => csv.header.clone(),
        Format::Lines | Format::Documents => keys(text),
    };
    let inside = match list_begins(text) {
        Ok(Some(inside)) => text.get(inside..).unwrap_or_default(),
        _ if text.starts_with(b"[") => text.get(1..).unwrap_or_default(),
        _ => &[],
    };
    let keys = if inside.is_empty() { outer.clone() } else { keys(inside) };
    let table = || match &config.table {
        Some(name) => Table::from_name(name),
        None => table_of(&keys),
    };
    let has = |name: &str| keys.iter().any(|key| key == name);
    let answer = |name: &str| outer.iter().any(|key| key.eq_ignore_ascii_case(name));
    match config.content {
        Content::Streaming => Holds::Streaming,
        Content::Rows => Holds::Rows(table()),
        Content::Hunting => Holds::Hunting(table()),
        Content::GraphIncidents => Holds::Incidents,
        Content::GraphAlerts => Holds::Alerts,
        Content::Activity => Holds::Activity,
        Content::Submissions => Holds::Submissions,
        Content::Auto if !config.columns.is_empty() => Holds::Submissions,
        Content::Auto if config.table.is_some() && answer("results") => Holds::Hunting(table()),
        Content::Auto if config.table.is_some() => Holds::Rows(table()),
        Content::Auto if answer("records") => Holds::Streaming,
        Content::Auto if has("properties") && (has("category") || has("tenantId")) => {
            Holds::Streaming
        }
        Content::Auto if answer("results") => Holds::Hunting(table()),
        Content::Auto if has("incidentWebUrl") || has("redirectIncidentId") => Holds::Incidents,
        Content::Auto if has("alertWebUrl") || has("providerAlertId") => Holds::Alerts,
        Content::Auto if has("RecordType") && (has("Operation") || has("Workload")) => {
            Holds::Activity
        }
        Content::Auto if has("reporter") && (has("message_id") || has("network_message_id")) => {
            Holds::Submissions
        }
        Content::Auto => Holds::Rows(table()),
    }
}

/// The names of the first object's members, as far as they are there.
fn keys(text: &[u8]) -> Vec<String> {
    let mut scanner = Scanner::at(text, start(text));
    let mut found = Vec::new();
    if scanner.expect(b'{').is_err() {
        return found;
    }
    while let Ok(key) = scanner.key() {
        let name = text.get(key.start..key.end).unwrap_or_default();
        found.push(String::from_utf8_lossy(name).into_owned());
        let passed = scanner.value(DEPTH_CAP * 2).and_then(|_| scanner.more(b'}'));
        if passed != Ok(true) {
            break;
        }
    }
    found
}

/// The table whose columns these are.
fn table_of(columns: &[String]) -> Table {
    let row: Map<String, Value> = columns.iter().map(|name| (name.clone(), Value::Null)).collect();
    let row = serde_json::to_vec(&row).unwrap_or_default();
    Row::parse(&row).map_or(Table::Other("".into()), |row| guess::table(&row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &str, format: &str, holds: Holds) {
        let config = FileSourceConfig::of("x".into());
        match sniff(head.as_bytes(), true, &config) {
            Sniffed::Known(found, held) => {
                let word = match found {
                    Format::Lines => "lines",
                    Format::Documents => "documents",
                    Format::Csv(_) => "csv",
                };
                assert_eq!((word, held), (format, holds), "{head}");
            }
            other => panic!("{other:?}: {head}"),
        }
    }

    #[test]
    fn the_first_record_tells_what_a_file_is() {
        let mail = r#"{"NetworkMessageId":"m","DeliveryAction":"Delivered"}"#;
        check(&format!("{mail}\n{mail}\n"), "lines", Holds::Rows(Table::EmailEvents));
        check(mail, "lines", Holds::Rows(Table::EmailEvents));
        check(&format!("[\n{mail}]"), "documents", Holds::Rows(Table::EmailEvents));
        let record = format!(r#"{{"time":"t","tenantId":"x","category":"c","properties":{mail}}}"#);
        check(&format!("\u{feff}{record}\r\n"), "lines", Holds::Streaming);
        check(&format!(r#"{{"records":[{record}]}}"#), "lines", Holds::Streaming);
        check(&format!("{{\"records\":[\n{record}]}}"), "documents", Holds::Streaming);
        let hunting = format!(r#"{{"schema":[{{"name":"x"}}],"results":[{mail}]}}"#);
        check(&hunting, "documents", Holds::Hunting(Table::EmailEvents));
        check(
            &hunting.replace("results", "Results"),
            "documents",
            Holds::Hunting(Table::EmailEvents),
        );
        check(
            r#"{"value":[{"id":"1","incidentWebUrl":"u","alerts":[]}]}"#,
            "documents",
            Holds::Incidents,
        );
        check(r#"[{"id":"1","providerAlertId":"u"}]"#, "documents", Holds::Alerts);
        check("{\n\"RecordType\":28,\"Operation\":\"x\"}", "documents", Holds::Activity);
        check(
            "Timestamp,NetworkMessageId,DeliveryAction\n",
            "csv",
            Holds::Rows(Table::EmailEvents),
        );
        check("reporter;message_id\na;b\n", "csv", Holds::Submissions);
        check("nonsense", "lines", Holds::Rows(Table::Other("".into())));
    }

    #[test]
    fn what_is_not_all_there_is_waited_for_and_what_is_no_text_is_named() {
        let config = FileSourceConfig::of("x".into());
        for head in ["", "\u{feff}", "{\"a\":1}", "{\"a\":", "Timestamp,Net"] {
            assert_eq!(sniff(head.as_bytes(), false, &config), Sniffed::NotYet, "{head}");
        }
        for head in [&b"\xff\xfe{"[..], b"\x1f\x8b\x08", b"PK\x03\x04", b"{\0"] {
            assert!(matches!(sniff(head, true, &config), Sniffed::Unreadable(_)));
        }
    }
}
