//! What a document of `postern tag` is: which interface's answer, or a bare row of which table. Guessed by
//! what is in it, within what the user said with `--from`.

use serde_json::Value;

use crate::domain::{Shape, Table};
use crate::normalize::{Column, Row, field, guess};

/// What records may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Whatever it looks like.
    Auto,
    /// Streaming API messages and records, and bare rows.
    Streaming,
    /// The same, one record to a line.
    Storage,
    /// Answers to hunting queries, and bare rows.
    Hunting,
    /// Incidents and alerts of Graph.
    Graph,
    /// Audit records of the Management Activity API.
    Activity,
    /// A CSV export.
    Csv,
}

impl From {
    /// Every value with its word.
    pub const WORDS: [(&str, Self); 7] = [
        ("auto", Self::Auto),
        ("streaming", Self::Streaming),
        ("storage", Self::Storage),
        ("hunting", Self::Hunting),
        ("graph", Self::Graph),
        ("activity", Self::Activity),
        ("csv", Self::Csv),
    ];
}

impl std::str::FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, from)| *from).ok_or_else(|| {
            let words: Vec<&str> = Self::WORDS.iter().map(|(word, _)| *word).collect();
            format!("there is: {}", words.join(", "))
        })
    }
}

/// The shape of the object that `bytes` are; `table` is the one that bare rows are from, if the user named it.
pub fn shape_of(from: From, bytes: &[u8], table: Option<&Table>) -> Shape {
    if is_envelope(bytes) && matches!(from, From::Auto | From::Streaming | From::Storage) {
        return Shape::Streaming;
    }
    if from == From::Activity {
        return Shape::Activity;
    }
    let Ok(row) = Row::parse(bytes) else {
        return match from {
            From::Hunting => Shape::Hunting(named(table)),
            From::Graph => Shape::Alerts,
            _ => Shape::Streaming,
        };
    };
    let bare = || Shape::Row(table.cloned().unwrap_or_else(|| guess::table(&row)));
    let hunting = || hunting_table(&row, table).map(Shape::Hunting);
    match from {
        From::Auto if row.unknown().any(|(name, json)| is_envelope_member(name, json)) => {
            Shape::Streaming
        }
        From::Auto => answer(&row).or_else(hunting).unwrap_or_else(bare),
        From::Hunting => hunting().unwrap_or_else(bare),
        From::Graph => graph(&row).unwrap_or(Shape::Alerts),
        From::Activity => Shape::Activity,
        From::Streaming | From::Storage | From::Csv => {
            if row.unknown().any(|(name, json)| is_envelope_member(name, json)) {
                Shape::Streaming
            } else {
                bare()
            }
        }
    }
}

fn named(table: Option<&Table>) -> Table {
    table.cloned().unwrap_or_else(|| Table::Other("".into()))
}

/// Graph's, or an audit record, as far as the fields tell.
fn answer(row: &Row<'_>) -> Option<Shape> {
    let has = |name: &str| field::json(row, name).is_some();
    // Rows of a table have neither of these together.
    if has("RecordType") && (has("Operation") || has("CreationTime")) && !row.has(Column::Timestamp)
    {
        return Some(Shape::Activity);
    }
    graph(row)
}

/// A page of Graph's, one incident or one alert.
fn graph(row: &Row<'_>) -> Option<Shape> {
    if let Some(list) = field::json(row, "value").filter(|json| json.starts_with('[')) {
        let context = field::text(row, "@odata.context").unwrap_or_default().to_ascii_lowercase();
        return match () {
            () if context.contains("incidents") => Some(Shape::Incidents { alerts: true }),
            () if context.contains("alerts") => Some(Shape::Alerts),
            () => match serde_json::from_str::<Vec<Value>>(list).ok()?.first() {
                Some(first) => one(&|name| field::member(first, name).is_some()),
                None => Some(Shape::Alerts),
            },
        };
    }
    one(&|name| field::json(row, name).is_some())
}

/// An incident or an alert, by the fields that it has.
fn one(has: &dyn Fn(&str) -> bool) -> Option<Shape> {
    let any = |names: &[&str]| names.iter().any(|name| has(name));
    let older = has("incidentId") && any(&["incidentName", "redirectIncidentId"]);
    if older
        || has("id") && any(&["incidentWebUrl", "redirectIncidentId", "alerts"]) && !has("title")
    {
        return Some(Shape::Incidents { alerts: true });
    }
    let change = ["lastUpdateDateTime", "lastUpdatedTime"];
    let alert = ["providerAlertId", "alertWebUrl", "evidence", "serviceSource", "detectorId"];
    if has("title") && (has("id") && any(&alert) || any(&change)) {
        return Some(Shape::Alerts);
    }
    (has("id") && has("displayName") && any(&change)).then_some(Shape::Incidents { alerts: true })
}

/// The table of a hunting answer: the one named, else what the columns of its schema or first row tell.
fn hunting_table(row: &Row<'_>, table: Option<&Table>) -> Option<Table> {
    let results = field::json(row, "results").filter(|json| json.starts_with('['))?;
    if let Some(table) = table {
        return Some(table.clone());
    }
    let mut columns = serde_json::Map::new();
    if let Some(Value::Array(schema)) = field::value(row, "schema") {
        for column in &schema {
            if let Some(name) = field::member_text(column, "name") {
                columns.insert(name, Value::Null);
            }
        }
    }
    if columns.is_empty() {
        let rows: Vec<&serde_json::value::RawValue> = serde_json::from_str(results).ok()?;
        columns =
            rows.first().and_then(|row| serde_json::from_str(row.get()).ok()).unwrap_or_default();
    }
    let text = Value::Object(columns).to_string();
    Some(Row::parse(text.as_bytes()).map_or(named(None), |row| guess::table(&row)))
}

/// The two beginnings that the Streaming API writes, without looking further.
fn is_envelope(bytes: &[u8]) -> bool {
    bytes.starts_with(b"{\"records\":[") || bytes.starts_with(b"{\"time\":\"")
}

fn is_envelope_member(name: &str, json: &str) -> bool {
    (name.eq_ignore_ascii_case("records") && json.starts_with('['))
        || (name.eq_ignore_ascii_case("properties") && json.starts_with('{'))
}

/// Whether a first line is that of a CSV export: no JSON, and at least two known columns.
pub fn is_csv_header(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii_start();
    if matches!(line.first(), None | Some(b'{' | b'[')) {
        return false;
    }
    let Ok(text) = std::str::from_utf8(line) else { return false };
    let fields = text.split([',', ';', '\t']).map(|name| name.trim().trim_matches('"').trim());
    fields.filter(|name| Column::from_name(name).is_some()).count() >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: From, json: &str, expected: Shape) {
        assert_eq!(shape_of(from, json.as_bytes(), None), expected, "{json}");
    }

    #[test]
    fn a_document_is_known_by_what_is_in_it() {
        let auto = From::Auto;
        let incidents = Shape::Incidents { alerts: true };
        let unknown = || Table::Other("".into());
        check(auto, r#"{"records":[{"a":1}]}"#, Shape::Streaming);
        check(auto, r#"{ "category":"x", "properties":{} }"#, Shape::Streaming);
        check(auto, r#"{"DeliveryAction":"x"}"#, Shape::Row(Table::EmailEvents));
        check(auto, r#"{"value":[{"id":"1","alerts":[],"displayName":"x"}]}"#, incidents.clone());
        check(
            auto,
            r#"{"@odata.context":"https://x/$metadata#security/incidents","value":[]}"#,
            incidents.clone(),
        );
        check(
            auto,
            r#"{"@odata.context":"https://x/$metadata#security/alerts_v2","value":[]}"#,
            Shape::Alerts,
        );
        check(auto, r#"{"value":[{"id":"1","title":"x","evidence":[]}]}"#, Shape::Alerts);
        check(
            auto,
            r#"{"value":[{"incidentId":1,"incidentName":"x","alerts":[]}]}"#,
            incidents.clone(),
        );
        check(
            auto,
            r#"{"id":"1","title":"x","incidentWebUrl":"x","alertWebUrl":"x"}"#,
            Shape::Alerts,
        );
        check(auto, r#"{"id":"4","displayName":"x","lastUpdateDateTime":"x"}"#, incidents);
        check(
            auto,
            r#"{"Id":"1","RecordType":28,"Operation":"TIMailData","DeliveryAction":"x"}"#,
            Shape::Activity,
        );
        check(
            auto,
            r#"{"schema":[{"name":"Timestamp"},{"name":"OrgLevelAction"}],"results":[]}"#,
            Shape::Hunting(Table::EmailEvents),
        );
        check(
            auto,
            r#"{"Stats":{},"Results":[{"isClickedThrough":0}]}"#,
            Shape::Hunting(Table::UrlClickEvents),
        );
        check(auto, r#"{"AlertId":"a","Title":"x","ServiceSource":"y"}"#, Shape::Row(unknown()));
        check(auto, r#"{"anything":1}"#, Shape::Row(unknown()));
        check(From::Graph, r#"{"id":"1"}"#, Shape::Alerts);
        check(From::Activity, r#"{"Id":"1"}"#, Shape::Activity);
        check(
            From::Hunting,
            r#"{"results":[{"UrlLocation":"x"}]}"#,
            Shape::Hunting(Table::EmailUrlInfo),
        );
        check(From::Hunting, r#"{"UrlLocation":"x"}"#, Shape::Row(Table::EmailUrlInfo));
        check(From::Streaming, r#"{"RecordType":28,"Operation":"x"}"#, Shape::Row(unknown()));
    }

    #[test]
    fn a_csv_header_has_known_columns_and_is_no_json() {
        assert!(is_csv_header(b"\xef\xbb\xbf\"Timestamp\",\"NetworkMessageId\""));
        assert!(is_csv_header(b"Timestamp;Subject;x"));
        for line in [
            &b"{\"Timestamp\":1,\"Subject\":2}"[..],
            b"[",
            b"",
            b"Timestamp",
            b"one,two",
            b"\xff,Subject,Url",
        ] {
            assert!(!is_csv_header(line), "{line:?}");
        }
    }
}
