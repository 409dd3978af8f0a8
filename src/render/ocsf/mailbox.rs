//! Mail addresses as OCSF's types take them, and the results of sender authentication. Not a mail parser.

use std::borrow::Cow;

use serde_json::Value;

use crate::normalize::{Column, Row};

/// Whether `text` is an address in the form that OCSF's `email_t` has: ASCII, one `@`, and a domain of at
/// least two labels. Anything else (the null sender, an internationalized address) goes elsewhere.
pub(super) fn is_address(text: &str) -> bool {
    let at = |text: &str, byte| text.bytes().position(|it| it == byte);
    let Some(sign) = at(text, b'@') else { return false };
    let (local, domain) =
        (text.get(..sign).unwrap_or_default(), text.get(sign + 1..).unwrap_or_default());
    let Some(dot) = at(domain, b'.') else { return false };
    let (label, rest) =
        (domain.get(..dot).unwrap_or_default(), domain.get(dot + 1..).unwrap_or_default());
    !local.is_empty()
        && local.bytes().all(|byte| class(byte) != 0)
        && !label.is_empty()
        && label.bytes().all(|byte| class(byte) & DOMAIN != 0)
        && !rest.is_empty()
        && rest.bytes().all(|byte| class(byte) & DOMAIN != 0 || byte == b'.')
}

const LOCAL: u8 = 1;
const DOMAIN: u8 = 2;

/// In which parts of an address a byte may stand.
const fn class(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => LOCAL | DOMAIN,
        b'!' | b'#'..=b'\'' | b'*'..=b'/' | b'=' | b'?' | b'^'..=b'`' | b'{'..=b'~' => LOCAL,
        _ => 0,
    }
}

/// One entry of a list of addresses.
pub(super) struct Listed<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) is_address: bool,
}

impl<'a> Listed<'a> {
    fn of(text: Cow<'a, str>) -> Option<Self> {
        let is_address = is_address(&text);
        (!text.is_empty()).then_some(Self { text, is_address })
    }
}

/// A column that lists addresses: a JSON list, a list in a string, or text with separators.
pub(super) fn list<'a>(row: &Row<'a>, column: Column) -> Vec<Listed<'a>> {
    let Some(json) = row.json_text(column).filter(|json| !matches!(*json, "[]" | "null")) else {
        return Vec::new();
    };
    // Nearly always one address: no list of lists is made for it.
    if let Some(only) = json.strip_prefix("[\"").and_then(|rest| rest.strip_suffix("\"]"))
        && is_address(only)
    {
        return vec![Listed { text: Cow::Borrowed(only), is_address: true }];
    }
    match row.json(column) {
        Some(Value::Array(addresses)) => addresses
            .into_iter()
            .filter_map(|address| match address {
                Value::String(text) => Listed::of(Cow::Owned(text.trim().to_owned())),
                other => Listed::of(Cow::Owned(other.to_string())),
            })
            .collect(),
        Some(Value::String(text)) => text
            .split([';', ','])
            .filter_map(|text| Listed::of(Cow::Owned(text.trim().to_owned())))
            .collect(),
        Some(other) => Listed::of(Cow::Owned(other.to_string())).into_iter().collect(),
        None => Vec::new(),
    }
}

/// What `AuthenticationDetails` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Authentication<'a> {
    pub(super) spf: Option<Cow<'a, str>>,
    pub(super) dkim: Option<Cow<'a, str>>,
    pub(super) dmarc: Option<Cow<'a, str>>,
    /// Composite authentication, which OCSF has no place for.
    pub(super) comp_auth: Option<Cow<'a, str>>,
    /// Whether there is nothing else in the column.
    pub(super) is_complete: bool,
}

impl<'a> Authentication<'a> {
    /// Reads the column; `None` where it holds nothing.
    pub(super) fn of(row: &Row<'a>) -> Option<Self> {
        let json = row.json_text(Column::AuthenticationDetails)?;
        if let Some(found) = Self::flat(json) {
            return Some(found);
        }
        let mut found = Self { is_complete: true, ..Self::default() };
        match row.json(Column::AuthenticationDetails)? {
            Value::Object(members) => {
                for (name, value) in members {
                    let text = value.as_str().map(|text| Cow::Owned(text.to_owned()));
                    found.put(&name, text);
                }
            }
            // The form of the Management API: a list of `{"Name": …, "Value": …}`.
            Value::Array(members) => {
                for member in members {
                    let text = |key: &str| member.get(key).and_then(Value::as_str);
                    let value = text("Value").map(|text| Cow::Owned(text.to_owned()));
                    found.put(text("Name").unwrap_or_default(), value);
                }
            }
            _ => found.is_complete = false,
        }
        Some(found)
    }

    /// The usual form, an object of plain words in a string, without decoding it first: pieces between
    /// escaped quotes are, in turn, a name, a colon, a value, a comma.
    fn flat(json: &'a str) -> Option<Self> {
        let inner = json.strip_prefix("\"{")?.strip_suffix("}\"")?;
        let mut found = Self { is_complete: true, ..Self::default() };
        let mut rest = inner;
        let mut piece = || -> Option<&'a str> {
            let place = memchr::memchr(b'\\', rest.as_bytes())?;
            let (piece, after) = rest.split_at_checked(place)?;
            rest = after.strip_prefix("\\\"")?;
            Some(piece)
        };
        if !piece()?.is_empty() {
            return None;
        }
        loop {
            let name = piece()?;
            if piece()? != ":" {
                return None;
            }
            let value = piece()?;
            found.put(name, Some(Cow::Borrowed(value)));
            match piece() {
                Some(",") => {}
                Some(_) => return None,
                None => break,
            }
        }
        rest.is_empty().then_some(found)
    }

    fn put(&mut self, name: &str, value: Option<Cow<'a, str>>) {
        let place = match () {
            () if name.eq_ignore_ascii_case("SPF") => &mut self.spf,
            () if name.eq_ignore_ascii_case("DKIM") => &mut self.dkim,
            () if name.eq_ignore_ascii_case("DMARC") => &mut self.dmarc,
            () if name.eq_ignore_ascii_case("CompAuth")
                || name.eq_ignore_ascii_case("Comp Auth") =>
            {
                &mut self.comp_auth
            }
            () => {
                self.is_complete = false;
                return;
            }
        };
        if value.is_none() {
            self.is_complete = false;
        }
        *place = value.filter(|text| !text.trim().is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_the_schema_takes_for_one() {
        for good in ["a@b.c", "x.y+z@mail.contoso.example", "o'neil{}@x-1.example", "a@b.c."] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "<>",
            "a@b",
            "@b.c",
            "a@.c",
            "a@b.",
            "ä@b.example",
            "a@bücher.example",
            "a b@c.d",
            "a@b@c.d",
            "(a)@b.c",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn authentication_is_read_in_every_form_it_comes_in() {
        #[track_caller]
        fn check(json: &str, expected: [&str; 4], complete: bool) {
            let record = format!(r#"{{"AuthenticationDetails":{json}}}"#);
            let row = Row::parse(record.as_bytes()).unwrap();
            let found = Authentication::of(&row).unwrap();
            let words = [found.spf, found.dkim, found.dmarc, found.comp_auth];
            assert_eq!(words.map(Option::unwrap_or_default), expected, "{json}");
            assert_eq!(found.is_complete, complete, "{json}");
        }
        check(r#""{\"SPF\":\"pass\",\"DKIM\":\"none\"}""#, ["pass", "none", "", ""], true);
        check(
            r#""{\"SPF\":\"fail\",\"DKIM\":\"none\",\"DMARC\":\"fail\",\"CompAuth\":\"fail\"}""#,
            ["fail", "none", "fail", "fail"],
            true,
        );
        check(r#""{ \"SPF\" : \"pass\" }""#, ["pass", "", "", ""], true);
        check(r#"{"DMARC":"bestguesspass","ARC":"pass"}"#, ["", "", "bestguesspass", ""], false);
        check(r#""[{\"Name\":\"Comp Auth\",\"Value\":\"fail\"}]""#, ["", "", "", "fail"], true);
        check(r#""{\"SPF\":\"a\\\\b\"}""#, ["a\\b", "", "", ""], true);
        check(r#""{\"SPF\":7}""#, ["", "", "", ""], false);
        check(r#""pass""#, ["", "", "", ""], false);
        let empty = Row::parse(br#"{"AuthenticationDetails":null}"#).unwrap();
        assert_eq!(Authentication::of(&empty), None);
    }

    #[test]
    fn a_list_of_addresses_comes_as_a_list_a_text_or_a_list_in_a_text() {
        for json in [r#"["a@b.c","d@e.f"]"#, r#""[\"a@b.c\",\"d@e.f\"]""#, r#""a@b.c; d@e.f""#] {
            let record = format!(r#"{{"To":{json}}}"#);
            let row = Row::parse(record.as_bytes()).unwrap();
            let listed = list(&row, Column::To);
            let texts: Vec<&str> = listed.iter().map(|it| &*it.text).collect();
            assert_eq!(texts, ["a@b.c", "d@e.f"], "{json}");
        }
    }
}
