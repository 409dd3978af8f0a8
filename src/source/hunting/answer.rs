//! The answer to a hunting query as far as fetching needs it: is it one, how many rows has it, what does a
//! query with one value say. Rows become records elsewhere (`normalize`), from the body as it came.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;

use crate::domain::{Raw, Ticks};

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct HuntingAnswer {
    /// The body as it came.
    pub body: Raw,
    /// How many rows it has.
    pub rows: usize,
    /// The far end's own time, from the answer's head.
    pub date: Option<Ticks>,
}

impl HuntingAnswer {
    /// Reads a body. Anything but a complete object with rows is no answer: "nothing there" is said with no rows,
    /// not with an empty body, a page of HTML or half a JSON text.
    ///
    /// # Errors
    /// In words.
    pub fn read(body: Vec<u8>, date: Option<Ticks>) -> Result<Self, String> {
        if body.is_empty() {
            return Err("the answer is empty".to_owned());
        }
        let counted: Counted = serde_json::from_slice(&body).map_err(|error| {
            let kind = if error.is_eof() { "breaks off" } else { "is not that of a hunting query" };
            format!("the answer of {} bytes {kind}: {error}", body.len())
        })?;
        Ok(Self { body: Raw::from(body), rows: counted.rows.0, date })
    }

    /// The value in the first row under `column`, however the far end writes that name; `None` if there is no
    /// row or the value is null (for which `{}` has been seen).
    #[must_use]
    pub fn first(&self, column: &str) -> Option<Value> {
        self.table().into_iter().next()?.get_mut(column).map(Value::take)
    }

    /// All rows of a small answer, keys as `columns` of ours are spelled where they differ by case only.
    #[must_use]
    pub fn table(&self) -> Vec<Row> {
        let Ok(read) = serde_json::from_slice::<Table>(self.body.as_bytes()) else {
            return Vec::new();
        };
        read.results.into_iter().map(Row).collect()
    }
}

/// A row of a small answer.
#[derive(Debug)]
pub struct Row(serde_json::Map<String, Value>);

impl Row {
    /// The value under `column`, unless it is null.
    pub fn get_mut(&mut self, column: &str) -> Option<&mut Value> {
        self.0
            .iter_mut()
            .find(|(name, _)| name.eq_ignore_ascii_case(column))
            .map(|(_, value)| value)
            .filter(|value| !is_null(value))
    }

    /// A number, also as text.
    #[must_use]
    pub fn number(&mut self, column: &str) -> Option<u64> {
        number(self.get_mut(column)?)
    }

    /// A point in time.
    #[must_use]
    pub fn time(&mut self, column: &str) -> Option<Ticks> {
        Ticks::parse(self.get_mut(column)?.as_str()?)
    }
}

/// A number, also as text.
#[must_use]
pub fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn is_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
    }
}

#[derive(Deserialize)]
struct Counted {
    #[serde(rename = "results", alias = "Results")]
    rows: Rows,
}

#[derive(Deserialize)]
struct Table {
    #[serde(alias = "Results")]
    results: Vec<serde_json::Map<String, Value>>,
}

/// How many elements an array has, without keeping any.
struct Rows(usize);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counter;
        impl<'de> Visitor<'de> for Counter {
            type Value = Rows;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of rows")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Rows, A::Error> {
                let mut count = 0;
                while rows.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Rows(count))
            }
        }
        deserializer.deserialize_seq(Counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_in_both_spellings_and_small_values_are_found() {
        let body = r#"{"@odata.context":"x","schema":[{"name":"Now","type":"DateTime"}],"results":[{"now":"2026-08-20T09:00:00.5Z","Empty":{},"n":"12"},{}]}"#;
        let answer = HuntingAnswer::read(body.into(), None).unwrap();
        assert_eq!(answer.rows, 2);
        let mut row = answer.table().remove(0);
        assert_eq!(row.time("Now").unwrap().to_string(), "2026-08-20T09:00:00.5000000Z");
        assert_eq!(row.time("Empty"), None);
        assert_eq!(row.number("N"), Some(12));
        let older = br#"{"Stats":{},"Schema":[],"Results":[]}"#;
        assert_eq!(HuntingAnswer::read(older.to_vec(), None).unwrap().rows, 0);
    }

    /// Fault matrix: C14.
    #[test]
    fn what_is_no_whole_answer_is_an_error_and_never_no_rows() {
        for body in [
            "",
            "<html>Service Unavailable</html>",
            "null",
            "[]",
            "{}",
            r#"{"results":null}"#,
            r#"{"results":{}}"#,
            r#"{"schema":[],"results":[{"a":1}"#,
            r#"{"schema":[],"results":[{"a":1}]"#,
            r#"{"schema":[],"results":[{"a":1}]} trailing"#,
        ] {
            assert!(HuntingAnswer::read(body.into(), None).is_err(), "{body}");
        }
    }

    #[test]
    fn a_row_nested_very_deep_is_still_counted() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let body = format!(r#"{{"results":[{{"x":{deep}}}]}}"#);
        assert_eq!(HuntingAnswer::read(body.into(), None).unwrap().rows, 1);
    }
}
