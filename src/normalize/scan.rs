//! A JSON scanner: checks the grammar and says where things begin and end, in one pass and without building
//! values. It does not decode text or numbers; so numbers of any size, duplicate keys and half surrogate
//! pairs pass, and what passes is JSON that can be copied into other JSON.

/// How deep objects and arrays may be nested in one record.
pub const DEPTH_CAP: usize = 64;

/// Why scanning stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The bytes end in the middle of a value.
    #[error("the JSON ends too early")]
    Cut,
    /// A byte that JSON does not allow there.
    #[error("not JSON at byte {0}")]
    Malformed(usize),
    /// Nested deeper than [`DEPTH_CAP`].
    #[error("nested deeper than {DEPTH_CAP}")]
    TooDeep,
}

/// What a string holds, as far as scanning tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Text {
    /// First byte after the opening quote.
    pub start: usize,
    /// The closing quote.
    pub end: usize,
    /// Whether there are escapes, so that the text must be decoded.
    pub escaped: bool,
    /// Whether there is half a surrogate pair.
    pub lone_surrogate: bool,
}

/// A place in some bytes.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// At the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// At byte `at` of `bytes`.
    #[must_use]
    pub const fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where it is.
    #[must_use]
    pub const fn place(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space, left in place.
    #[inline]
    pub fn peek(&mut self) -> Result<u8, Stop> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Stop::Cut),
            }
        }
    }

    /// Whether only white space is left.
    pub fn at_end(&mut self) -> bool {
        self.peek().is_err()
    }

    /// Takes `byte`, which must come next after white space.
    #[inline]
    pub fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.peek()? == byte {
            self.at += 1;
            Ok(())
        } else {
            Err(Stop::Malformed(self.at))
        }
    }

    /// Takes `byte` if it comes next after white space.
    #[inline]
    pub fn take(&mut self, byte: u8) -> Result<bool, Stop> {
        let found = self.peek()? == byte;
        self.at += usize::from(found);
        Ok(found)
    }

    /// After a member of an object or array: whether another one follows (`,`) or `close` ends it.
    #[inline]
    pub fn more(&mut self, close: u8) -> Result<bool, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Ok(true),
            byte if byte == close => Ok(false),
            _ => Err(Stop::Malformed(self.at - 1)),
        }
    }

    /// A member's name and the colon behind it.
    #[inline]
    pub fn key(&mut self) -> Result<Text, Stop> {
        let text = self.string()?;
        self.expect(b':')?;
        Ok(text)
    }

    /// A string.
    #[inline]
    pub fn string(&mut self) -> Result<Text, Stop> {
        self.expect(b'"')?;
        let mut text = Text { start: self.at, ..Text::default() };
        loop {
            self.at = plain_until(self.bytes, self.at);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    text.end = self.at;
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    text.escaped = true;
                    text.lone_surrogate |= self.escape()?;
                }
                Some(_) => return Err(Stop::Malformed(self.at)),
                None => return Err(Stop::Cut),
            }
        }
    }

    /// One escape, or a surrogate pair of two; whether it is half a pair.
    fn escape(&mut self) -> Result<bool, Stop> {
        let Some(letter) = self.bytes.get(self.at + 1) else { return Err(Stop::Cut) };
        match letter {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => {
                let unit = hex4(self.bytes, self.at + 2).map_err(|at| self.hex_stop(at))?;
                self.at += 6;
                match unit {
                    0xD800..=0xDBFF => {
                        if let Some([b'\\', b'u']) = self.bytes.get(self.at..self.at + 2)
                            && let Ok(0xDC00..=0xDFFF) = hex4(self.bytes, self.at + 2)
                        {
                            self.at += 6;
                        } else {
                            return Ok(true);
                        }
                    }
                    0xDC00..=0xDFFF => return Ok(true),
                    _ => {}
                }
            }
            _ => return Err(Stop::Malformed(self.at + 1)),
        }
        Ok(false)
    }

    fn hex_stop(&self, at: usize) -> Stop {
        if at < self.bytes.len() { Stop::Malformed(at) } else { Stop::Cut }
    }

    /// Any value; what it contains may be nested `depth` deeper at most.
    #[inline]
    pub fn value(&mut self, depth: usize) -> Result<Scanned, Stop> {
        let byte = self.peek()?;
        let start = self.at;
        let mut scanned = Scanned { start, ..Scanned::default() };
        match byte {
            b'"' => {
                let text = self.string()?;
                scanned.escaped = text.escaped;
                scanned.lone_surrogate = text.lone_surrogate;
            }
            b'{' | b'[' => scanned.lone_surrogate = self.nested(byte, depth)?,
            b'n' => self.word(b"null")?,
            b't' => self.word(b"true")?,
            b'f' => self.word(b"false")?,
            _ => self.number()?,
        }
        scanned.end = self.at;
        Ok(scanned)
    }

    /// An object or array, its first byte next; whether it holds half a surrogate pair.
    fn nested(&mut self, open: u8, depth: usize) -> Result<bool, Stop> {
        let Some(depth) = depth.checked_sub(1) else { return Err(Stop::TooDeep) };
        self.at += 1;
        let object = open == b'{';
        let close = if object { b'}' } else { b']' };
        if self.take(close)? {
            return Ok(false);
        }
        let mut lone_surrogate = false;
        loop {
            if object {
                lone_surrogate |= self.key()?.lone_surrogate;
            }
            lone_surrogate |= self.value(depth)?.lone_surrogate;
            if !self.more(close)? {
                return Ok(lone_surrogate);
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Stop> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.starts_with(word) {
            self.at += word.len();
            Ok(())
        } else if word.starts_with(rest) {
            Err(Stop::Cut)
        } else {
            Err(Stop::Malformed(self.at))
        }
    }

    fn number(&mut self) -> Result<(), Stop> {
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Stop> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        match (self.at > start, self.at < self.bytes.len()) {
            (true, _) => Ok(()),
            (false, true) => Err(Stop::Malformed(self.at)),
            (false, false) => Err(Stop::Cut),
        }
    }

    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

/// Where a value is, and what must be known before its text is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scanned {
    /// First byte.
    pub start: usize,
    /// First byte behind it.
    pub end: usize,
    /// For a string: whether it has escapes.
    pub escaped: bool,
    /// Whether it holds half a surrogate pair.
    pub lone_surrogate: bool,
}

/// The first place from `at` on that ends plain text: a quote, a backslash, a control character, the end.
/// Eight bytes at a time, as most text has no escapes.
#[inline]
fn plain_until(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    while let Some(eight) = bytes.get(at..at + 8).and_then(|eight| eight.first_chunk()) {
        let word = u64::from_le_bytes(*eight);
        // A byte's high bit is set where the byte is below 0x20, a quote, or a backslash. A borrow can
        // set bits above the first hit only, and the first hit is all that is read.
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let hits = (word.wrapping_sub(ONES * 0x20) & !word
            | quote.wrapping_sub(ONES) & !quote
            | backslash.wrapping_sub(ONES) & !backslash)
            & HIGHS;
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if *byte < 0x20 || *byte == b'"' || *byte == b'\\' {
            break;
        }
        at += 1;
    }
    at
}

/// Four hex digits; else the place of the first byte that is none.
fn hex4(bytes: &[u8], at: usize) -> Result<u16, usize> {
    let mut unit = 0;
    for place in at..at + 4 {
        let digit =
            bytes.get(place).and_then(|byte| char::from(*byte).to_digit(16)).ok_or(place)?;
        unit = unit << 4 | u16::try_from(digit).unwrap_or_default();
    }
    Ok(unit)
}

/// The text inside a JSON string's quotes, decoded; `true` if half a surrogate pair became U+FFFD.
/// The escapes must have been checked by a [`Scanner`]; others are left as they stand.
#[must_use]
pub fn unescape(inner: &str) -> (String, bool) {
    let mut out = String::with_capacity(inner.len());
    let mut lone = false;
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut letters = escape.chars();
        let letter = letters.next();
        rest = letters.as_str();
        match letter {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => match hex4(rest.as_bytes(), 0) {
                Ok(unit) => {
                    rest = rest.get(4..).unwrap_or_default();
                    let (decoded, used) = code_point(unit, rest);
                    rest = rest.get(used..).unwrap_or_default();
                    lone |= decoded.is_none();
                    out.push(decoded.unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                Err(_) => out.push_str("\\u"),
            },
            Some(other) => out.push(other),
            None => out.push('\\'),
        }
    }
    out.push_str(rest);
    (out, lone)
}

/// The character that starts with `unit`, and how much of `rest` its second half takes.
fn code_point(unit: u16, rest: &str) -> (Option<char>, usize) {
    if let 0xD800..=0xDBFF = unit
        && rest.starts_with("\\u")
        && let Ok(low @ 0xDC00..=0xDFFF) = hex4(rest.as_bytes(), 2)
    {
        let point = 0x1_0000 + (u32::from(unit - 0xD800) << 10) + u32::from(low - 0xDC00);
        return (char::from_u32(point), 6);
    }
    (char::from_u32(u32::from(unit)), 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(bytes: &[u8]) -> Result<(), Stop> {
        let mut scanner = Scanner::new(bytes);
        scanner.value(DEPTH_CAP)?;
        if scanner.at_end() { Ok(()) } else { Err(Stop::Malformed(scanner.place())) }
    }

    #[test]
    fn what_json_forbids_is_refused_at_its_place() {
        let at = Stop::Malformed;
        for (text, stop) in [
            ("", Stop::Cut),
            ("{", Stop::Cut),
            ("{\"a", Stop::Cut),
            ("{\"a\":tr", Stop::Cut),
            ("\"\\u12", Stop::Cut),
            ("-", Stop::Cut),
            ("{\"a\":1,}", at(7)),
            ("[1,]", at(3)),
            ("[1 2]", at(3)),
            ("01", at(1)),
            ("1.", Stop::Cut),
            ("1.x", at(2)),
            (".5", at(0)),
            ("NaN", at(0)),
            ("nul1", at(0)),
            ("\"\\x\"", at(2)),
            ("\"\\u12g4\"", at(5)),
            ("\"a\nb\"", at(2)),
            ("{'a':1}", at(1)),
            ("\u{feff}1", at(0)),
        ] {
            assert_eq!(accepts(text.as_bytes()), Err(stop), "{text:?}");
        }
    }

    #[test]
    fn nesting_stops_at_the_cap_and_not_before() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(accepts(nested(DEPTH_CAP).as_bytes()), Ok(()));
        assert_eq!(accepts(nested(DEPTH_CAP + 1).as_bytes()), Err(Stop::TooDeep));
        assert_eq!(accepts(&b"["[..].repeat(1_000_000)), Err(Stop::TooDeep));
    }

    #[test]
    fn half_pairs_are_noticed_and_whole_pairs_are_not() {
        let lone = |json: &str| Scanner::new(json.as_bytes()).value(4).unwrap().lone_surrogate;
        assert!(!lone(r#""\ud83d\ude00""#));
        for json in [r#""\ud83d""#, r#""\ude00x""#, r#""\ud83d\u0041""#, r#"[{"\ud83d":1}]"#] {
            assert!(lone(json), "{json}");
        }
        assert_eq!(
            unescape(r"\ud83d\ude00\ud83dA\u00e9\n\/\\"),
            ("😀\u{fffd}Aé\n/\\".into(), true)
        );
    }

    const TOKENS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"\\u00e9\"",
        "\"\\x\"",
        "\"\u{1}\"",
        "\"",
        "\\",
        "0",
        "1",
        "-",
        ".",
        "e",
        "+",
        "true",
        "null",
        "nul",
        " ",
        "\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]


        #[test]
        fn agrees_with_serde_json_about_what_json_is(
            tokens in proptest::collection::vec(proptest::sample::select(TOKENS), 1..7),
        ) {
            let text = tokens.concat();
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(accepts(text.as_bytes()).is_ok(), theirs, "{:?}", text);
        }

        #[test]
        fn decodes_text_as_serde_json_does(text in ".{0,40}") {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(unescape(&json[1..json.len() - 1]), (text, false));
        }

        #[test]
        fn plain_text_ends_where_a_byte_by_byte_search_says(
            bytes in proptest::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), any::<u8>(), 0x1f..0x24_u8], 0..40),
            from in 0..8_usize,
        ) {
            let from = from.min(bytes.len());
            let slow = bytes.iter().skip(from).position(|b| *b < 0x20 || *b == b'"' || *b == b'\\');
            prop_assert_eq!(plain_until(&bytes, from), slow.map_or(bytes.len(), |found| from + found));
        }
    }
}
