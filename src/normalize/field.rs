//! Fields of records that are no rows of a table: found by name, as spelled or else whatever the letter case,
//! since the same API has been seen to write both.

use std::borrow::Cow;

use serde_json::Value;

use super::row::{Row, decode};
use super::scan::{DEPTH_CAP, Scanner};
use crate::domain::Ticks;

/// The field's JSON as it stands.
#[must_use]
pub fn json<'a>(row: &Row<'a>, name: &str) -> Option<&'a str> {
    row.columns()
        .find(|(key, _)| *key == name)
        .or_else(|| row.columns().find(|(key, _)| key.eq_ignore_ascii_case(name)))
        .map(|(_, json)| json)
}

/// The field as text, trimmed; `None` for null, missing, or nothing left. What is no JSON string reads as its
/// JSON.
#[must_use]
pub fn text<'a>(row: &Row<'a>, name: &str) -> Option<Cow<'a, str>> {
    let json = json(row, name)?;
    decode(json, json.contains('\\'))
}

/// The first of these fields that holds anything.
#[must_use]
pub fn first<'a>(row: &Row<'a>, names: &[&str]) -> Option<Cow<'a, str>> {
    names.iter().find_map(|name| text(row, name))
}

/// The field as a point in time; no zone means UTC.
#[must_use]
pub fn time(row: &Row<'_>, name: &str) -> Option<Ticks> {
    Ticks::parse(&text(row, name)?)
}

/// The field as JSON, where it is JSON or a text that holds JSON; any other text as a string.
#[must_use]
pub fn value(row: &Row<'_>, name: &str) -> Option<Value> {
    let json = json(row, name)?;
    if !json.starts_with('"') {
        return serde_json::from_str(json).ok().filter(|value| *value != Value::Null);
    }
    let text = decode(json, json.contains('\\'))?;
    Some(inner(&text).unwrap_or_else(|| Value::String(text.into_owned())))
}

/// The object or array that a text holds.
#[must_use]
pub fn inner(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let mut scanner = Scanner::new(text.as_bytes());
    scanner.value(DEPTH_CAP).ok()?;
    serde_json::from_str(text).ok().filter(|_| scanner.at_end())
}

/// The field as a list of texts: an array, a text that holds one, or words between separators, with or without
/// brackets around them.
#[must_use]
pub fn list(row: &Row<'_>, name: &str) -> Vec<String> {
    let texts: Vec<String> = match value(row, name) {
        Some(Value::Array(items)) => items.iter().filter_map(scalar).collect(),
        Some(Value::String(text)) => text
            .trim_start_matches('[')
            .trim_end_matches(']')
            .split([',', ';'])
            .map(|word| word.trim().trim_matches('"').to_owned())
            .collect(),
        Some(other) => scalar(&other).into_iter().collect(),
        None => Vec::new(),
    };
    texts.into_iter().filter(|text| !text.is_empty()).collect()
}

/// A member of an object, as spelled or else whatever the letter case.
#[must_use]
pub fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let members = value.as_object()?;
    members.get(name).or_else(|| {
        members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    })
}

/// A member as text: a string with anything in it, a number or a boolean.
#[must_use]
pub fn member_text(value: &Value, name: &str) -> Option<String> {
    member(value, name)
        .and_then(scalar)
        .map(|text| text.trim().to_owned())
        .filter(|it| !it.is_empty())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_as_spelled_and_else_in_any_letter_case() {
        let row = Row::parse(br#"{"url":"a","URL":"","Nothing":{},"N":7}"#).unwrap();
        assert_eq!(text(&row, "N").as_deref(), Some("7"));
        assert_eq!(text(&row, "n").as_deref(), Some("7"));
        assert_eq!(text(&row, "Nothing"), None);
        assert_eq!(text(&row, "missing"), None);
    }

    #[test]
    fn a_list_comes_as_an_array_as_text_and_as_an_array_in_text() {
        for json in [
            r#"["a@x.example","b@x.example"]"#,
            r#""[a@x.example, b@x.example]""#,
            r#""a@x.example;b@x.example""#,
            r#""[\"a@x.example\",\"b@x.example\"]""#,
        ] {
            let record = format!(r#"{{"Recipients":{json}}}"#);
            let row = Row::parse(record.as_bytes()).unwrap();
            assert_eq!(list(&row, "Recipients"), ["a@x.example", "b@x.example"], "{json}");
        }
        let row = Row::parse(br#"{"Recipients":null,"Other":{}}"#).unwrap();
        assert!(list(&row, "Recipients").is_empty() && list(&row, "Other").is_empty());
    }
}
