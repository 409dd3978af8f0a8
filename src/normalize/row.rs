//! A row as its bytes: which columns it has and what is in them, found in one pass and decoded only where
//! somebody asks. What the columns mean is `tagging`'s and `render`'s business.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;

use super::column::{Column, is_empty_object};
use super::scan::{DEPTH_CAP, Scanner, Stop, unescape};
use crate::domain::{Issue, Ticks};

/// Keys that Azure Monitor's plumbing adds to a row; they say nothing.
const PLUMBING: &str = "__UDI_RequiredFields_";

/// Issues kept per record: enough to see what is wrong, and a hostile record cannot make more.
pub const ISSUE_CAP: usize = 32;

/// JSON in text in JSON in text: levels that [`Row::json`] unpacks.
const INNER_LEVELS: usize = 3;

/// The bytes are not a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotARow {
    /// Not UTF-8, so not JSON.
    #[error("not UTF-8 at byte {0}")]
    NotUtf8(usize),
    /// JSON, but no object.
    #[error("not a JSON object")]
    NotAnObject,
    /// Not JSON, or nested too deep.
    #[error(transparent)]
    Stop(#[from] Stop),
    /// Something behind the object.
    #[error("something follows the JSON object at byte {0}")]
    Trailing(usize),
}

/// One row of a table. Lookup by [`Column`] costs an array access.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    cells: Vec<Cell<'a>>,
    /// Where a column is in `cells`, counted from 1; 0 where the row lacks it.
    places: [u32; Column::COUNT],
    issues: Vec<Issue>,
}

#[derive(Debug, Clone)]
struct Cell<'a> {
    name: Cow<'a, str>,
    column: Option<Column>,
    json: &'a str,
    escaped: bool,
}

impl Default for Row<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Row<'a> {
    /// A row without columns.
    #[must_use]
    pub const fn new() -> Self {
        Self { cells: Vec::new(), places: [0; Column::COUNT], issues: Vec::new() }
    }

    /// Reads the JSON object that `bytes` are.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotARow> {
        let text = simdutf8::compat::from_utf8(bytes)
            .map_err(|error| NotARow::NotUtf8(error.valid_up_to()))?;
        let mut row = Self::new();
        let mut scanner = Scanner::new(bytes);
        if scanner.peek()? != b'{' {
            return Err(NotARow::NotAnObject);
        }
        row.fill(text, &mut scanner, DEPTH_CAP)?;
        if scanner.at_end() { Ok(row) } else { Err(NotARow::Trailing(scanner.place())) }
    }

    /// Reads the object that comes next in `scanner` (which runs over `text`) into this row, in place of
    /// what was in it; its memory is used again. `depth` is how deep the object may nest, itself included.
    pub fn fill(
        &mut self,
        text: &'a str,
        scanner: &mut Scanner<'a>,
        depth: usize,
    ) -> Result<(), Stop> {
        self.cells.clear();
        self.places = [0; Column::COUNT];
        self.issues.clear();
        if self.cells.capacity() == 0 {
            self.cells.reserve(64);
        }
        let Some(depth) = depth.checked_sub(1) else { return Err(Stop::TooDeep) };
        scanner.expect(b'{')?;
        if scanner.take(b'}')? {
            return Ok(());
        }
        let mut strangers = 0_usize;
        loop {
            let key = scanner.key()?;
            let value = scanner.value(depth)?;
            let name = text.get(key.start..key.end).unwrap_or_default();
            let name = if key.escaped { Cow::Owned(unescape(name).0) } else { Cow::Borrowed(name) };
            let column = Column::from_name(&name);
            let json = text.get(value.start..value.end).unwrap_or_default();
            let cell = Cell { name, column, json, escaped: value.escaped };
            let plumbing = column.is_none() && cell.name.starts_with(PLUMBING);
            if (value.lone_surrogate || key.lone_surrogate) && !plumbing {
                self.issue(Issue::LONE_SURROGATE, &cell.name);
            }
            match column {
                Some(column) => self.put(column, cell),
                None if plumbing => {}
                None => {
                    strangers += 1;
                    self.cells.push(cell);
                }
            }
            if !scanner.more(b'}')? {
                break;
            }
        }
        if strangers > 1 {
            self.drop_repeated_strangers();
        }
        Ok(())
    }

    fn put(&mut self, column: Column, cell: Cell<'a>) {
        let place = self.places.get(column as usize).copied().unwrap_or_default();
        if place == 0 {
            if column.shape().is_odd(cell.json) {
                self.issue(Issue::ODD_TYPE, column.name());
            }
            self.cells.push(cell);
            if let Some(place) = self.places.get_mut(column as usize) {
                *place = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
            }
        } else {
            self.issue(Issue::DUPLICATE_KEY, column.name());
            if let Some(earlier) = self.cells.get_mut(place as usize - 1) {
                *earlier = cell;
            }
        }
    }

    /// Of several cells with one unknown name the last one stays.
    fn drop_repeated_strangers(&mut self) {
        let mut order: Vec<usize> =
            (0..self.cells.len()).filter(|place| self.stranger(*place).is_some()).collect();
        order.sort_by(|a, b| self.stranger(*a).cmp(&self.stranger(*b)));
        let mut repeated: Vec<usize> = order
            .iter()
            .zip(order.iter().skip(1))
            .filter(|(a, b)| self.stranger(**a) == self.stranger(**b))
            .map(|(earlier, _)| *earlier)
            .collect();
        if repeated.is_empty() {
            return;
        }
        repeated.sort_unstable();
        for place in &repeated {
            if let Some(name) = self.cells.get(*place).map(|cell| cell.name.clone()) {
                self.issue(Issue::DUPLICATE_KEY, &name);
            }
        }
        let mut place = 0;
        self.cells.retain(|_| {
            place += 1;
            repeated.binary_search(&(place - 1)).is_err()
        });
        for (place, cell) in self.cells.iter().enumerate() {
            if let Some(known) = cell.column.and_then(|c| self.places.get_mut(c as usize)) {
                *known = u32::try_from(place + 1).unwrap_or(u32::MAX);
            }
        }
    }

    fn stranger(&self, place: usize) -> Option<&str> {
        self.cells.get(place).filter(|cell| cell.column.is_none()).map(|cell| &*cell.name)
    }

    fn cell(&self, column: Column) -> Option<&Cell<'a>> {
        let place = *self.places.get(column as usize)?;
        self.cells.get(place.checked_sub(1)? as usize)
    }

    fn issue(&mut self, code: &'static str, at: &str) {
        if self.issues.len() < ISSUE_CAP {
            self.issues.push(Issue::new(code, at));
        }
    }

    /// What was odd while reading: repeated keys, half surrogate pairs, odd types.
    #[must_use]
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    /// Whether the key is there, whatever its value.
    #[must_use]
    pub fn has(&self, column: Column) -> bool {
        self.places.get(column as usize).is_some_and(|place| *place != 0)
    }

    /// The column's JSON as it stands, `null` included; `None` if the key is missing.
    #[must_use]
    pub fn json_text(&self, column: Column) -> Option<&'a str> {
        self.cell(column).map(|cell| cell.json)
    }

    /// As [`Row::json_text`], as serde's type.
    #[must_use]
    pub fn raw(&self, column: Column) -> Option<&'a RawValue> {
        serde_json::from_str(self.json_text(column)?).ok()
    }

    /// The column as text, trimmed; `None` for null, missing, or nothing left. What is not a JSON string
    /// reads as its JSON. Half a surrogate pair reads as U+FFFD.
    #[must_use]
    #[inline]
    pub fn text(&self, column: Column) -> Option<Cow<'a, str>> {
        let cell = self.cell(column)?;
        let text = decode(cell.json, cell.escaped)?;
        if column == Column::InternetMessageId && text.contains("\\u003") {
            // Some exporters escape the angle brackets twice.
            return Some(text.replace("\\u003c", "<").replace("\\u003e", ">").into());
        }
        Some(text)
    }

    /// The column as an integer: a number without a fraction, or a text with one.
    #[must_use]
    pub fn int(&self, column: Column) -> Option<i64> {
        integer(&self.text(column)?)
    }

    /// The column as a boolean: `true`, `false`, 0, 1, or one of these as text.
    #[must_use]
    pub fn flag(&self, column: Column) -> Option<bool> {
        let text = self.text(column)?;
        match &*text {
            "1" => Some(true),
            "0" => Some(false),
            word if word.eq_ignore_ascii_case("true") => Some(true),
            word if word.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// The column as a point in time.
    #[must_use]
    pub fn time(&self, column: Column) -> Option<Ticks> {
        Ticks::parse(&self.text(column)?)
    }

    /// The column as JSON, where it is JSON or a text that holds JSON, also doubly encoded. Any other
    /// text comes back as a string, also where it is broken or too deeply nested JSON.
    #[must_use]
    pub fn json(&self, column: Column) -> Option<Value> {
        let cell = self.cell(column)?;
        if !cell.json.starts_with('"') {
            return serde_json::from_str(cell.json).ok().filter(|value| *value != Value::Null);
        }
        let mut text = decode(cell.json, cell.escaped)?.into_owned();
        for _ in 0..INNER_LEVELS {
            let mut scanner = Scanner::new(text.as_bytes());
            if scanner.value(DEPTH_CAP).is_err() || !scanner.at_end() {
                break;
            }
            match serde_json::from_str(&text) {
                Ok(Value::String(inner)) => text = inner.trim().to_owned(),
                Ok(Value::Null) => return None,
                Ok(value) => return Some(value),
                Err(_) => break,
            }
        }
        (!text.is_empty()).then_some(Value::String(text))
    }

    /// Every column in the order of the record: its name and its JSON. Repeated keys come once.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.cells.iter().map(|cell| (&*cell.name, cell.json))
    }

    /// As [`Row::columns`], with the column that the name stands for where it is a known one.
    pub fn entries(&self) -> impl Iterator<Item = (Option<Column>, &str, &'a str)> {
        self.cells.iter().map(|cell| (cell.column, &*cell.name, cell.json))
    }

    /// The columns that are not known by name, in the order of the record.
    pub fn unknown(&self) -> impl Iterator<Item = (&str, &'a str)> {
        let strangers = self.cells.iter().filter(|cell| cell.column.is_none());
        strangers.map(|cell| (&*cell.name, cell.json))
    }

    /// A column by any name, as [`Row::text`] gives it; of unknown ones the letter case must match.
    #[must_use]
    pub fn text_of(&self, name: &str) -> Option<Cow<'a, str>> {
        match Column::from_name(name) {
            Some(column) => self.text(column),
            None => {
                let cell = self.cells.iter().find(|cell| cell.name == name)?;
                decode(cell.json, cell.escaped)
            }
        }
    }
}

/// A JSON value as text, trimmed; `None` for null and for nothing left.
#[inline]
pub(super) fn decode(json: &str, escaped: bool) -> Option<Cow<'_, str>> {
    let Some(inner) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return (json != "null" && !is_empty_object(json)).then_some(Cow::Borrowed(json));
    };
    if !escaped {
        let text = trimmed(inner);
        return (!text.is_empty()).then_some(Cow::Borrowed(text));
    }
    let (mut text, _) = unescape(inner);
    text.truncate(text.trim_end().len());
    let blanks = text.len() - text.trim_start().len();
    text.drain(..blanks);
    (!text.is_empty()).then_some(Cow::Owned(text))
}

/// As `trim`, without decoding letters where both ends are plain ASCII.
#[inline]
fn trimmed(text: &str) -> &str {
    match text.as_bytes() {
        [b'!'..=b'~', .., b'!'..=b'~'] => text,
        _ => text.trim(),
    }
}

/// An integer as JSON or people write it; a fraction of zeros is allowed.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| {
        let (whole, fraction) = text.split_once('.')?;
        fraction.bytes().all(|digit| digit == b'0').then(|| whole.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn row(json: &str) -> Row<'_> {
        Row::parse(json.as_bytes()).expect(json)
    }

    #[test]
    fn null_missing_and_empty_are_one_and_the_key_is_still_seen() {
        let row = row(r#"{"Subject":null,"ThreatTypes":"","OrgLevelPolicy":" \t\n "}"#);
        for column in [Column::Subject, Column::ThreatTypes, Column::OrgLevelPolicy] {
            assert_eq!(row.text(column), None, "{column:?}");
            assert_eq!(row.json(column), None, "{column:?}");
            assert!(row.has(column) && row.raw(column).is_some(), "{column:?}");
        }
        assert!(!row.has(Column::Url) && row.raw(Column::Url).is_none());
    }

    #[test]
    fn text_without_escapes_is_borrowed_and_other_text_is_decoded_and_trimmed() {
        let row = row(r#"{"Subject":" Grüße ","Url":"\u0020a\/b\n","ReportId":7,"To":["x"]}"#);
        assert!(matches!(row.text(Column::Subject), Some(Cow::Borrowed("Grüße"))));
        assert_eq!(row.text(Column::Url).as_deref(), Some("a/b"));
        assert_eq!(row.text(Column::ReportId).as_deref(), Some("7"));
        assert_eq!(row.text(Column::To).as_deref(), Some("[\"x\"]"));
    }

    #[test]
    fn names_of_any_letter_case_and_with_escapes_are_the_same_column() {
        let row = row(r#"{"threattypes":"Phish","Sub\u006aect":"hi","Farbe":"rot"}"#);
        assert_eq!(row.text(Column::ThreatTypes).as_deref(), Some("Phish"));
        assert_eq!(row.text(Column::Subject).as_deref(), Some("hi"));
        assert_eq!(row.unknown().collect::<Vec<_>>(), [("Farbe", "\"rot\"")]);
        assert_eq!(row.text_of("Farbe").as_deref(), Some("rot"));
        assert_eq!(row.text_of("subject").as_deref(), Some("hi"));
    }

    #[test]
    fn of_repeated_keys_the_last_one_counts_and_an_issue_says_so() {
        let row = row(r#"{"Subject":"a","x":1,"y":2,"subject":"b","x":3,"Url":"u","x":4}"#);
        assert_eq!(row.text(Column::Subject).as_deref(), Some("b"));
        assert_eq!(row.text(Column::Url).as_deref(), Some("u"));
        assert_eq!(
            row.columns().collect::<Vec<_>>(),
            [("subject", "\"b\""), ("y", "2"), ("Url", "\"u\""), ("x", "4")]
        );
        let at: Vec<_> = row.issues().iter().map(|i| (&*i.code, &*i.at)).collect();
        let repeated = Issue::DUPLICATE_KEY;
        assert_eq!(at, [(repeated, "Subject"), (repeated, "x"), (repeated, "x")]);
    }

    #[test]
    fn numbers_and_booleans_may_be_text() {
        let row = row(
            r#"{"UrlCount":"3","AttachmentCount":2,"EmailSize":"5.0","FileSize":1e999,"EmailClusterId":9007199254740993,
                "BulkComplaintLevel":"x","IsFirstContact":"True","IsClickedThrough":0}"#,
        );
        assert_eq!(row.int(Column::UrlCount), Some(3));
        assert_eq!(row.int(Column::AttachmentCount), Some(2));
        assert_eq!(row.int(Column::EmailSize), Some(5));
        assert_eq!(row.int(Column::FileSize), None);
        assert_eq!(row.int(Column::EmailClusterId), Some(9_007_199_254_740_993));
        assert_eq!(row.int(Column::BulkComplaintLevel), None);
        assert_eq!(row.flag(Column::IsFirstContact), Some(true));
        assert_eq!(row.flag(Column::IsClickedThrough), Some(false));
        assert_eq!(row.flag(Column::UrlCount), None);
    }

    #[test]
    fn json_in_text_is_unpacked_and_a_bare_word_stays_a_word() {
        #[track_caller]
        fn check(column_json: &str, expected: Option<Value>) {
            let record = format!(r#"{{"ConfidenceLevel":{column_json}}}"#);
            assert_eq!(row(&record).json(Column::ConfidenceLevel), expected, "{column_json}");
        }
        check(r#"{"Phish":"High"}"#, Some(json!({"Phish": "High"})));
        check(r#""{\"Phish\":\"High\"}""#, Some(json!({"Phish": "High"})));
        check(r#""\"{\\\"Phish\\\":\\\"High\\\"}\"""#, Some(json!({"Phish": "High"})));
        check(r#""[\"High\"]""#, Some(json!(["High"])));
        check(r#"" High ""#, Some(json!("High")));
        check(r#""5""#, Some(json!(5)));
        check("5", Some(json!(5)));
        check(r#""null""#, None);
        check(r#""\" \"""#, None);
        check(r#""{\"Phish\":""#, Some(json!("{\"Phish\":")));
        let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
        check(&format!("\"{deep}\""), Some(json!(deep)));
    }

    #[test]
    fn half_pairs_and_odd_types_are_issues_and_plumbing_is_left_out() {
        let row = row(
            r#"{"Subject":"\ud83d x","UrlCount":[],"ThreatTypes":true,"__UDI_RequiredFields_TenantId":"t"}"#,
        );
        assert_eq!(row.text(Column::Subject).as_deref(), Some("\u{fffd} x"));
        let at: Vec<_> = row.issues().iter().map(|i| (&*i.code, &*i.at)).collect();
        assert_eq!(
            at,
            [
                (Issue::LONE_SURROGATE, "Subject"),
                (Issue::ODD_TYPE, "UrlCount"),
                (Issue::ODD_TYPE, "ThreatTypes")
            ]
        );
        assert_eq!(row.columns().count(), 3);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let refused = |bytes: &[u8]| Row::parse(bytes).unwrap_err();
        assert_eq!(refused(b"[]"), NotARow::NotAnObject);
        assert_eq!(refused(b"{} x"), NotARow::Trailing(3));
        assert_eq!(refused(b"{\"a\":\"\xff\"}"), NotARow::NotUtf8(6));
        assert_eq!(refused(b""), NotARow::Stop(Stop::Cut));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(DEPTH_CAP), "]".repeat(DEPTH_CAP));
        assert_eq!(refused(deep.as_bytes()), NotARow::Stop(Stop::TooDeep));
    }

    #[test]
    fn brackets_of_a_message_id_that_were_escaped_twice_are_read_as_brackets() {
        let row = row(r#"{"InternetMessageId":"\\u003cx@contoso.example\\u003e"}"#);
        assert_eq!(row.text(Column::InternetMessageId).as_deref(), Some("<x@contoso.example>"));
    }

    proptest! {
        #[test]
        fn every_column_reads_as_serde_json_reads_it(
            text in ".{0,20}", key in "[a-zA-Z]{1,12}", number in any::<i64>(),
        ) {
            let record = json!({&key: &text, "EmailClusterId": number, "Subject": &text}).to_string();
            let row = row(&record);
            let trimmed = Some(text.trim()).filter(|text| !text.is_empty());
            if !key.eq_ignore_ascii_case("subject") && !key.eq_ignore_ascii_case("emailclusterid") {
                let read = row.text_of(&key);
                prop_assert_eq!(read.as_deref(), trimmed);
                prop_assert_eq!(row.int(Column::EmailClusterId), Some(number));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Row::parse(&bytes);
        }
    }
}
