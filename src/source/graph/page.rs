//! An answer of Graph, read as far as fetching needs it: which rows, with which stamps, and what follows. What the
//! rows mean is `normalize`'s business; their bytes are handed on unchanged.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::{Raw, Ticks};

/// A row, as far as fetching needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Its id; for a row without one, a hash of its bytes.
    pub(super) key: String,
    /// `lastUpdateDateTime`, where it is a time.
    pub(super) stamp: Option<Ticks>,
    /// The incident that this one was merged into.
    pub(super) redirect: Option<String>,
    /// Its bytes.
    pub(super) raw: Raw,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Listing {
    /// All of it.
    pub(super) raw: Raw,
    /// Its rows.
    pub(super) rows: Vec<Row>,
    /// The link to the next page, as given.
    pub(super) link: Option<String>,
    /// How many rows there are, where that was asked for and answered.
    pub(super) count: Option<u64>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    value: Vec<&'a RawValue>,
    #[serde(borrow, rename = "@odata.nextLink")]
    link: Option<Cow<'a, str>>,
    #[serde(rename = "@odata.count")]
    count: Option<u64>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "lastUpdateDateTime")]
    stamp: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow, rename = "redirectIncidentId")]
    redirect: Option<&'a RawValue>,
}

/// Reads a page.
///
/// # Errors
/// If it is not a JSON object with a `value` that is an array: a gateway's page, an empty body, a cut one. In words.
pub(super) fn listing(body: Vec<u8>) -> Result<Listing, String> {
    let raw = Raw::from(body);
    let envelope: Envelope<'_> =
        serde_json::from_slice(raw.as_bytes()).map_err(|error| error.to_string())?;
    let rows = envelope.value.iter().map(|row| row_of(&raw, row.get().as_bytes())).collect();
    let link = envelope.link.filter(|link| !link.is_empty()).map(Cow::into_owned);
    Ok(Listing { rows, link, count: envelope.count, raw })
}

/// Reads an answer that is one row itself.
///
/// # Errors
/// If it is not a JSON object with an id. In words.
pub(super) fn single(body: Vec<u8>) -> Result<Row, String> {
    let raw = Raw::from(body);
    let fields: Fields<'_> =
        serde_json::from_slice(raw.as_bytes()).map_err(|error| error.to_string())?;
    fields.id.ok_or("there is no id")?;
    Ok(row_of(&raw, raw.as_bytes()))
}

/// Reads a row leniently: one that is odd goes its way like any other, it is only not recognised again.
fn row_of(whole: &Raw, bytes: &[u8]) -> Row {
    let raw = whole.slice_of(bytes);
    let fields: Option<Fields<'_>> = serde_json::from_slice(bytes).ok();
    let fields = fields.as_ref();
    let redirected = fields
        .and_then(|fields| text(fields.status))
        .is_some_and(|status| status.eq_ignore_ascii_case("redirected"));
    Row {
        key: fields
            .and_then(|fields| text(fields.id))
            .unwrap_or_else(|| format!("#{}", blake3::hash(bytes).to_hex())),
        stamp: fields.and_then(|fields| text(fields.stamp)).and_then(|text| Ticks::parse(&text)),
        redirect: fields.and_then(|fields| text(fields.redirect)).filter(|_| redirected),
        raw,
    }
}

/// A string or a number, as text.
fn text(value: Option<&RawValue>) -> Option<String> {
    let text = match serde_json::from_str(value?.get()).ok()? {
        serde_json::Value::String(text) => text,
        serde_json::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault matrix: C14.
    #[test]
    fn only_an_object_with_an_array_of_values_is_a_page() {
        for body in [
            "",
            " ",
            "<html></html>",
            "null",
            "[]",
            "{}",
            r#"{"value":{}}"#,
            r#"{"value":[{"id":"1"}"#,
        ] {
            listing(body.as_bytes().to_vec()).unwrap_err();
        }
        for body in ["", "<html></html>", "{}", r#"{"id":null}"#, r#"{"id":"1""#] {
            single(body.as_bytes().to_vec()).unwrap_err();
        }
        assert_eq!(listing(br#"{"value":[]}"#.to_vec()).unwrap().rows, []);
    }

    /// Fault matrix: C13.
    #[test]
    fn odd_rows_are_rows() {
        let body = r#"{"@odata.nextLink":"https:\/\/x\/y","@odata.count":4,"value":[
            {"id":"4711","lastUpdateDateTime":"2026-08-20T09:16:02.13Z","status":"Redirected","redirectIncidentId":"1"},
            {"id":12,"lastUpdateDateTime":12,"redirectIncidentId":"7","status":"active"}, 5, null]}"#;
        let page = listing(body.as_bytes().to_vec()).unwrap();
        assert_eq!((page.link.as_deref(), page.count), (Some("https://x/y"), Some(4)));
        let [first, second, third, fourth] = page.rows.as_slice() else {
            panic!("{:?}", page.rows)
        };
        assert_eq!((first.key.as_str(), first.redirect.as_deref()), ("4711", Some("1")));
        assert_eq!(first.stamp, Ticks::parse("2026-08-20T09:16:02.13Z"));
        assert!(first.raw.as_bytes().starts_with(b"{\"id\":\"4711\""));
        assert_eq!((second.key.as_str(), second.stamp, &second.redirect), ("12", None, &None));
        assert_eq!(third.raw.as_bytes(), b"5");
        assert!(third.key.starts_with('#') && third.key != fourth.key);
    }
}
