//! Writes JSON straight into a byte buffer. Not a serializer: the caller says what comes when, and may
//! splice values that are JSON already.

use crate::domain::Ticks;

/// `,"name":`, the form that [`Writer::prepared_key`] takes.
#[macro_export]
#[doc(hidden)]
macro_rules! prepared_key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// Appends JSON to a buffer. Commas are put by looking at the last byte written, so there is no state to
/// carry between an object and the objects inside it.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// `{`
    pub fn open(&mut self) {
        self.out.push(b'{');
    }

    /// `}`
    pub fn close(&mut self) {
        self.out.push(b'}');
    }

    /// `[`
    pub fn open_list(&mut self) {
        self.out.push(b'[');
    }

    /// `]`
    pub fn close_list(&mut self) {
        self.out.push(b']');
    }

    /// The comma before an element of a list, where one is due.
    pub fn element(&mut self) {
        if self.out.last() != Some(&b'[') {
            self.out.push(b',');
        }
    }

    /// A key of the object that is open. `name` is one of ours and needs no escaping.
    pub fn key(&mut self, name: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// As [`Writer::key`], for a key written out beforehand with comma, quotes and colon
    /// (see [`prepared_key!`]).
    #[inline]
    pub fn prepared_key(&mut self, key: &'static str) {
        let text = if self.out.last() == Some(&b'{') { key.get(1..) } else { Some(key) };
        self.out.extend_from_slice(text.unwrap_or_default().as_bytes());
    }

    /// A key that comes from outside.
    pub fn foreign_key(&mut self, name: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.text(name);
        self.out.push(b':');
    }

    /// A string.
    pub fn text(&mut self, text: &str) {
        self.out.push(b'"');
        escape(text.as_bytes(), self.out);
        self.out.push(b'"');
    }

    /// A string that is known to hold neither quotes, backslashes nor control characters.
    pub fn plain(&mut self, text: &[u8]) {
        self.out.push(b'"');
        self.out.extend_from_slice(text);
        self.out.push(b'"');
    }

    /// A string out of several pieces.
    pub fn joined(&mut self, pieces: &[&str]) {
        self.out.push(b'"');
        for piece in pieces {
            escape(piece.as_bytes(), self.out);
        }
        self.out.push(b'"');
    }

    /// JSON text as a string: quoted and escaped, otherwise byte for byte.
    pub fn quoted(&mut self, json: &[u8]) {
        self.out.push(b'"');
        escape(json, self.out);
        self.out.push(b'"');
    }

    /// A number.
    pub fn int(&mut self, value: i64) {
        if value < 0 {
            self.out.push(b'-');
        }
        let mut digits = [0_u8; 20];
        let mut left = value.unsigned_abs();
        let mut length = 0;
        for place in digits.iter_mut().rev() {
            *place = b'0' + (left % 10) as u8;
            left /= 10;
            length += 1;
            if left == 0 {
                break;
            }
        }
        self.out.extend_from_slice(digits.get(20 - length..).unwrap_or_default());
    }

    /// `true` or `false`.
    pub fn flag(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// A point in time in its text form.
    pub fn ticks(&mut self, ticks: Ticks) {
        self.out.push(b'"');
        ticks.write_to(self.out);
        self.out.push(b'"');
    }

    /// A value that is JSON already, byte for byte except that line breaks between its tokens are left
    /// out, so that one event stays on one line.
    pub fn splice(&mut self, json: &[u8]) {
        if memchr::memchr2(b'\n', b'\r', json).is_none() {
            self.out.extend_from_slice(json);
        } else {
            splice_without_line_breaks(json, self.out);
        }
    }

    /// As [`Writer::splice`], except that a number too large for a double becomes a string, since many
    /// readers refuse the whole document for it. Says whether it is there as it was.
    pub fn splice_readable(&mut self, json: &[u8]) -> bool {
        let is_number = matches!(json.first(), Some(b'-' | b'0'..=b'9'));
        let may_be_huge = json.len() > 17 || json.iter().any(|byte| matches!(byte, b'e' | b'E'));
        if is_number && may_be_huge && !is_in_range(json) {
            self.quoted(json);
            return false;
        }
        self.splice(json);
        true
    }

    /// As [`Writer::splice_readable`], and half surrogate pairs become U+FFFD, since strict readers refuse
    /// them too.
    pub fn splice_repaired(&mut self, json: &[u8]) {
        let repaired = without_half_pairs(json);
        self.splice_readable(&repaired);
    }

    /// Appends bytes as they stand: a prefix prepared beforehand.
    pub fn prepared(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

fn is_in_range(number: &[u8]) -> bool {
    let text = std::str::from_utf8(number).unwrap_or_default();
    text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// `json` with each `\ud800` to `\udfff` that is not part of a pair replaced by `\ufffd`.
fn without_half_pairs(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'\\' {
            out.push(*byte);
            rest = after;
            continue;
        }
        let escape = if after.first() == Some(&b'u') { 6 } else { 2 };
        let high = unit(rest).is_some_and(|unit| (0xD800..0xDC00).contains(&unit));
        let low = |text: &[u8]| unit(text).is_some_and(|unit| (0xDC00..0xE000).contains(&unit));
        let taken = if high && rest.get(6..).is_some_and(low) { 12 } else { escape };
        let (text, after) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
        if taken == 6 && (high || low(text)) {
            out.extend_from_slice(b"\\ufffd");
        } else {
            out.extend_from_slice(text);
        }
        rest = after;
    }
    out
}

/// The UTF-16 unit of a `\uXXXX` at the start of `text`.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// What a byte becomes inside a JSON string: 0 itself, `u` a `\u00xx`, else backslash and this letter.
const fn escape_of(byte: u8) -> u8 {
    match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0A => b'n',
        0x0C => b'f',
        0x0D => b'r',
        0x00..=0x1F => b'u',
        _ => 0,
    }
}

/// Texts shorter than this are mostly values without anything to escape.
const SHORT: usize = 48;

/// Appends `text`, escaped for the inside of a JSON string.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    if text.len() >= SHORT {
        let base = out.len();
        out.resize(base + 2 * text.len() + WINDOW, 0);
        let (read, written) = escape_words(text, out.get_mut(base..).unwrap_or_default());
        out.truncate(base + written);
        escape_bytes(text.get(read..).unwrap_or_default(), out);
    } else if text.iter().fold(false, |any, byte| any | (escape_of(*byte) != 0)) {
        escape_bytes(text, out);
    } else {
        out.extend_from_slice(text);
    }
}

/// Room for eight bytes, each of them escaped by one more.
const WINDOW: usize = 16;

/// Escapes eight bytes at a time into `room`; returns how many bytes were read and written. Stops early at
/// a byte that needs more than a backslash, which JSON text, the usual input, does not hold. Nearly every
/// second word of JSON text has a quote in it, so no step depends on where in the word it is.
fn escape_words(text: &[u8], room: &mut [u8]) -> (usize, usize) {
    let (mut read, mut written) = (0, 0);
    for word in text.chunks_exact(8) {
        let Some(word) = word.first_chunk::<8>() else { break };
        let Some(window) = room.get_mut(written..).and_then(<[u8]>::first_chunk_mut::<WINDOW>)
        else {
            break;
        };
        let bits = u64::from_le_bytes(*word);
        let escaped = bytes_equal(bits, b'"') | bytes_equal(bits, b'\\');
        if zero_bytes(bits & (0xE0 * EACH)) != 0 {
            break;
        }
        if escaped == 0 {
            let (place, _) = window.split_at_mut(8);
            place.copy_from_slice(word);
            written += 8;
        } else {
            let mut place = 0_usize;
            for (number, byte) in word.iter().enumerate() {
                let more = usize::from((escaped >> (8 * number)) & 0x80 != 0);
                // The masks say what is true anyway (a place is below 16), so that nothing is checked.
                if let Some(at) = window.get_mut(place & 15) {
                    *at = b'\\';
                }
                if let Some(at) = window.get_mut((place + more) & 15) {
                    *at = *byte;
                }
                place += 1 + more;
            }
            written += place;
        }
        read += 8;
    }
    (read, written)
}

/// A one in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;

/// The high bit of each byte of `bits` that is `byte`.
const fn bytes_equal(bits: u64, byte: u8) -> u64 {
    zero_bytes(bits ^ (EACH * byte as u64))
}

/// The high bit of each byte of `bits` that is zero.
const fn zero_bytes(bits: u64) -> u64 {
    const LOW: u64 = 0x7F * EACH;
    !((bits & LOW).wrapping_add(LOW) | bits | LOW)
}

fn escape_bytes(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match escape_of(byte) {
            0 => out.push(byte),
            b'u' => {
                let digit =
                    |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
                out.extend_from_slice(&[
                    b'\\',
                    b'u',
                    b'0',
                    b'0',
                    digit(byte >> 4),
                    digit(byte & 15),
                ]);
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
    }
}

/// A line break outside strings is white space and goes; inside a string, where strict JSON has none, it
/// becomes its escape.
#[cold]
fn splice_without_line_breaks(json: &[u8], out: &mut Vec<u8>) {
    let mut in_string = false;
    let mut escaped = false;
    for &byte in json {
        match byte {
            b'\n' | b'\r' if in_string => escape_bytes(&[byte], out),
            b'\n' | b'\r' => {}
            other => out.push(other),
        }
        if in_string && !escaped && byte == b'\\' {
            escaped = true;
        } else {
            if byte == b'"' && !escaped {
                in_string = !in_string;
            }
            escaped = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn commas_stand_between_members_and_elements_only() {
        let text = written(|w| {
            w.open();
            w.key("a");
            w.open_list();
            for number in [0, -7, i64::MIN, i64::MAX] {
                w.element();
                w.int(number);
            }
            w.close_list();
            w.key("b");
            w.open();
            w.close();
            w.foreign_key("c\"");
            w.flag(true);
            w.close();
        });
        assert_eq!(
            text,
            r#"{"a":[0,-7,-9223372036854775808,9223372036854775807],"b":{},"c\"":true}"#
        );
    }

    #[test]
    fn a_spliced_value_stays_on_one_line_and_is_otherwise_unchanged() {
        let spliced = |json: &str| written(|w| w.splice(json.as_bytes()));
        assert_eq!(spliced(r#"{"a": [1,  2]}"#), r#"{"a": [1,  2]}"#);
        assert_eq!(
            spliced("{\r\n  \"a\": \"x\\\"\\n\\\\\",\n\"b\":1}"),
            r#"{  "a": "x\"\n\\","b":1}"#
        );
        assert_eq!(spliced("{\"not strict\":\"a\nb\"\n}"), r#"{"not strict":"a\nb"}"#);
    }

    #[test]
    fn half_pairs_and_numbers_beyond_a_double_become_readable() {
        let repaired = |json: &str| written(|w| w.splice_repaired(json.as_bytes()));
        assert_eq!(repaired(r#""\ud800x""#), r#""\ufffdx""#);
        assert_eq!(repaired(r#""\ud83d\ude00 \uDE00\ud83d""#), r#""\ud83d\ude00 \ufffd\ufffd""#);
        assert_eq!(repaired(r#""\\ud800 \n\u0041""#), r#""\\ud800 \n\u0041""#);
        let huge = format!("1{}", "0".repeat(400));
        assert_eq!(repaired(&huge), format!("\"{huge}\""));
        assert_eq!(repaired("-1E999"), "\"-1E999\"");
        assert_eq!(repaired("9007199254740993"), "9007199254740993");
    }

    #[test]
    fn long_text_is_escaped_wherever_the_quote_stands() {
        for length in SHORT..SHORT + 20 {
            for place in 0..length {
                for odd in ["\"", "\\", "\n", "\u{1}", "\u{7f}", "\"\\\"", "\u{fc}"] {
                    let mut text = "x".repeat(length);
                    text.insert_str(place, odd);
                    let json = written(|w| w.text(&text));
                    assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text, "{text:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_back_as_itself(text in "[\\x00-\\x7f]{0,80}|.{0,80}|[\"\\\\a]{0,80}") {
            let json = written(|w| w.text(&text));
            prop_assert!(!json.bytes().any(|byte| byte < 0x20));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text.clone());
            let joined = written(|w| w.joined(&[&text, "", &text]));
            prop_assert_eq!(serde_json::from_str::<String>(&joined).unwrap(), text.repeat(2));
        }

        #[test]
        fn any_number_reads_back_as_itself(number in any::<i64>()) {
            prop_assert_eq!(written(|w| w.int(number)).parse(), Ok(number));
        }
    }
}
