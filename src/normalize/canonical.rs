//! One byte form for values that mean the same: whatever the white space, the order of keys, the way in
//! which "nothing" is written, and whether JSON stands in a text or for itself. The form is written down
//! in `identity`; it is for hashing and is never read back.

use std::borrow::Cow;

use super::scan::{DEPTH_CAP, Scanner, unescape};

/// What happens to ASCII letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// They stay.
    Kept,
    /// They become lower case.
    Folded,
}

/// JSON in text in JSON in text: levels that are unpacked.
const INNER_LEVELS: usize = 3;

/// Appends the JSON value `json` to `out`; nothing if it is left out. `json` must be valid.
pub fn value(json: &str, case: Case, out: &mut Vec<u8>) {
    nested(json, case, INNER_LEVELS, out);
}

/// Appends a length and `bytes`.
pub fn text(bytes: &[u8], case: Case, out: &mut Vec<u8>) {
    count(bytes.len(), out);
    let start = out.len();
    out.extend_from_slice(bytes);
    if case == Case::Folded
        && let Some(added) = out.get_mut(start..)
    {
        added.make_ascii_lowercase();
    }
}

/// Appends an object of members that are sorted, and none of which is empty.
pub fn object(members: &[(Cow<'_, str>, Vec<u8>)], out: &mut Vec<u8>) {
    out.push(b'o');
    count(members.len(), out);
    for (name, value) in members {
        text(name.as_bytes(), Case::Kept, out);
        out.extend_from_slice(value);
    }
}

fn count(count: usize, out: &mut Vec<u8>) {
    // A record is at most 4 MiB, so no length comes near the limit.
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn nested(json: &str, case: Case, levels: usize, out: &mut Vec<u8>) {
    let json = json.trim();
    match json.as_bytes().first() {
        Some(b'"') => {
            let inner = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
            let decoded = if inner.contains('\\') {
                Cow::Owned(unescape(inner).0)
            } else {
                Cow::Borrowed(inner)
            };
            string(decoded.trim(), case, levels, out);
        }
        Some(b'{') => members(json, case, levels, out),
        Some(b'[') => elements(json, case, levels, out),
        Some(b'n') | None => {}
        Some(b't' | b'f') => scalar(json, case, out),
        Some(_) => scalar(&number(json), case, out),
    }
}

fn string(content: &str, case: Case, levels: usize, out: &mut Vec<u8>) {
    if content.is_empty() {
        return;
    }
    if let Some(levels) = levels.checked_sub(1)
        && content.starts_with(['{', '[', '"'])
    {
        let mut scanner = Scanner::new(content.as_bytes());
        if scanner.value(DEPTH_CAP).is_ok() && scanner.at_end() {
            return nested(content, case, levels, out);
        }
    }
    scalar(content, case, out);
}

fn scalar(content: &str, case: Case, out: &mut Vec<u8>) {
    out.push(b's');
    text(content.as_bytes(), case, out);
}

fn members(json: &str, case: Case, levels: usize, out: &mut Vec<u8>) {
    let mut found: Vec<(Cow<'_, str>, Vec<u8>)> = Vec::new();
    let mut scanner = Scanner::new(json.as_bytes());
    let mut more = scanner.expect(b'{').is_ok() && scanner.take(b'}') == Ok(false);
    while more {
        let (Ok(key), Ok(member)) = (scanner.key(), scanner.value(DEPTH_CAP)) else { break };
        let name = json.get(key.start..key.end).unwrap_or_default();
        let mut name = if key.escaped { unescape(name).0.into() } else { Cow::Borrowed(name) };
        if case == Case::Folded && name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            name.to_mut().make_ascii_lowercase();
        }
        let mut bytes = Vec::new();
        nested(json.get(member.start..member.end).unwrap_or_default(), case, levels, &mut bytes);
        found.push((name, bytes));
        more = scanner.more(b'}') == Ok(true);
    }
    // The sort is stable: of repeated keys the last one stands behind the others.
    found.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    found.reverse();
    found.dedup_by(|later, kept| later.0 == kept.0);
    found.reverse();
    found.retain(|(_, bytes)| !bytes.is_empty());
    if !found.is_empty() {
        object(&found, out);
    }
}

fn elements(json: &str, case: Case, levels: usize, out: &mut Vec<u8>) {
    let mut scanner = Scanner::new(json.as_bytes());
    let mut more = scanner.expect(b'[').is_ok() && scanner.take(b']') == Ok(false);
    let (mut kept, mut bytes) = (0, Vec::new());
    while more {
        let Ok(element) = scanner.value(DEPTH_CAP) else { break };
        let before = bytes.len();
        nested(json.get(element.start..element.end).unwrap_or_default(), case, levels, &mut bytes);
        kept += usize::from(bytes.len() > before);
        more = scanner.more(b']') == Ok(true);
    }
    if kept > 0 {
        out.push(b'a');
        count(kept, out);
        out.append(&mut bytes);
    }
}

/// A number as its one text.
fn number(json: &str) -> Cow<'_, str> {
    let digits = json.strip_prefix('-').unwrap_or(json);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return if digits == "0" { "0".into() } else { json.into() };
    }
    match json.parse::<f64>() {
        Ok(0.0) => "0".into(),
        Ok(float) if float.is_finite() => format!("{float}").into(),
        _ => json.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn bytes(json: &str, case: Case) -> Vec<u8> {
        let mut out = Vec::new();
        value(json, case, &mut out);
        out
    }

    #[track_caller]
    fn same(a: &str, b: &str) {
        assert_eq!(bytes(a, Case::Kept), bytes(b, Case::Kept), "{a} and {b}");
    }

    #[test]
    fn forms_that_mean_the_same_are_the_same_bytes() {
        same(r#"{"a":1,"b":[2]}"#, "{ \"b\" : [2] , \"a\" : 1 }");
        same(r#""{\"a\":1}""#, r#"{"a":"1"}"#);
        same(r#""\"{\\\"a\\\":1}\"""#, r#"{"a":1}"#);
        same(r#"{"a":null,"b":"","c":{},"d":[],"e":[null,""]}"#, "null");
        same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#);
        same("1.0", "1");
        same("1e2", "100");
        same("-0", "0");
        same("-0.0", "0");
        same("0.50", "5e-1");
        same(r#"" x ""#, r#""x""#);
        assert_eq!(
            bytes(r#"{"Phish":"HIGH"}"#, Case::Folded),
            bytes(r#"{"phish":"high"}"#, Case::Kept)
        );
    }

    #[test]
    fn forms_that_differ_have_other_bytes() {
        for (a, b) in [
            (r#"["a","b"]"#, r#"["ab"]"#),
            (r#"{"a":"b"}"#, r#"["a","b"]"#),
            ("[[1],2]", "[1,2]"),
            ("\"a\"", "\"A\""),
            ("12345678901234567890123", "12345678901234567890124"),
            ("1e999", "1e998"),
        ] {
            assert_ne!(bytes(a, Case::Kept), bytes(b, Case::Kept), "{a} and {b}");
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_written_layout() {
        assert_eq!(
            bytes(r#"{"b":[true,{}],"a":"x"}"#, Case::Kept),
            [
                &b"o\x02\0\0\0"[..],
                b"\x01\0\0\0a",
                b"s\x01\0\0\0x",
                b"\x01\0\0\0b",
                b"a\x01\0\0\0s\x04\0\0\0true",
            ]
            .concat()
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[ a-c\"\\\\{\\[é]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn white_space_and_packing_into_text_change_nothing(value in any_json()) {
            let plain = value.to_string();
            let spaced = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(bytes(&plain, Case::Kept), bytes(&spaced, Case::Kept));
            if value.is_object() || value.is_array() {
                let packed = json!(plain).to_string();
                prop_assert_eq!(bytes(&plain, Case::Kept), bytes(&packed, Case::Kept));
            }
        }
    }
}
