//! Cuts a query into tokens, each with its place. Knows words, not what they mean.

use super::error::{Fault, Tried};
use super::timespan;

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A word: a name, a keyword, an operator that is a word (`has`, `!in~`, `$left`).
    Word(String),
    /// A whole number.
    Long(i64),
    /// A number with a point or an exponent.
    Real(f64),
    /// A length of time, in ticks.
    Span(i64),
    /// A string.
    Text(String),
    /// `word(raw)` for the words whose parentheses hold no expression: `datetime(2026-08-20)`.
    Literal(String, String),
    /// Punctuation.
    Mark(&'static str),
    /// The end of the query.
    End,
}

/// A token and where it starts, in bytes.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) at: usize,
}

/// Longest first, so that the first that fits is the right one.
const MARKS: [&str; 25] = [
    "==", "!=", "=~", "!~", "<=", ">=", "=>", "..", "<", ">", "=", "|", "(", ")", "[", "]", "{",
    "}", ",", ";", ".", "+", "-", "*", "/",
];

const MORE_MARKS: [&str; 2] = ["%", ":"];

/// Words whose parentheses hold a literal.
const LITERALS: [&str; 13] = [
    "datetime", "date", "timespan", "time", "dynamic", "int", "long", "real", "double", "bool",
    "boolean", "guid", "decimal",
];

/// The tokens of `query`, ending with [`Token::End`].
pub(super) fn tokens(query: &str) -> Tried<Vec<Placed>> {
    let mut lexer = Lexer { query, at: 0 };
    let mut found = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let token = lexer.token()?;
        let done = token == Token::End;
        found.push(Placed { token, at });
        if done {
            return Ok(found);
        }
    }
}

struct Lexer<'a> {
    query: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.query.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_blank(&mut self) {
        loop {
            let trimmed =
                self.rest().trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
            self.at = self.query.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn token(&mut self) -> Tried<Token> {
        let Some(first) = self.peek() else { return Ok(Token::End) };
        let rest = self.rest();
        if matches!(first, '"' | '\'') {
            return self.text(false);
        }
        let mut after = rest.chars();
        after.next();
        let second = after.next();
        let third = after.next();
        if first == '@' && matches!(second, Some('"' | '\'')) {
            self.at += 1;
            return self.text(true);
        }
        if matches!(first, 'h' | 'H') && matches!(second, Some('"' | '\'')) {
            self.at += 1;
            return self.text(false);
        }
        if matches!(first, 'h' | 'H') && second == Some('@') && matches!(third, Some('"' | '\'')) {
            self.at += 2;
            return self.text(true);
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if is_first_of_word(first) {
            return self.word(0);
        }
        if matches!(first, '!' | '$') && second.is_some_and(is_first_of_word) {
            return self.word(1);
        }
        for mark in MARKS.into_iter().chain(MORE_MARKS) {
            if rest.starts_with(mark) {
                self.at += mark.len();
                return Ok(Token::Mark(mark));
            }
        }
        Err(Fault::syntax(self.at, &first.to_string(), "unexpected character"))
    }

    fn word(&mut self, prefix: usize) -> Tried<Token> {
        let start = self.at;
        let rest = self.rest();
        let body = rest.get(prefix..).unwrap_or_default();
        let length = body.find(|c: char| !is_of_word(c)).unwrap_or(body.len()) + prefix;
        self.at += length;
        let mut word = rest.get(..length).unwrap_or_default().to_owned();
        if matches!(word.as_str(), "in" | "!in") && self.peek() == Some('~') {
            self.at += 1;
            word.push('~');
        }
        if LITERALS.contains(&word.as_str()) {
            let after = self.rest();
            let inside = after.trim_start();
            if inside.starts_with('(') {
                let open = self.at + (after.len() - inside.len());
                return self.literal(word, open);
            }
        }
        if word == "!" || word == "$" {
            return Err(Fault::syntax(start, &word, "unexpected character"));
        }
        Ok(Token::Word(word))
    }

    /// From the opening parenthesis at `open` to the one that closes it; strings inside may hold parentheses.
    fn literal(&mut self, word: String, open: usize) -> Tried<Token> {
        let inside = self.query.get(open + 1..).unwrap_or_default();
        let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
        for (place, letter) in inside.char_indices() {
            match quote {
                Some(_) if escaped => escaped = false,
                Some(_) if letter == '\\' => escaped = true,
                Some(mark) if letter == mark => quote = None,
                Some(_) => {}
                None => match letter {
                    '"' | '\'' => quote = Some(letter),
                    '(' => depth += 1,
                    ')' if depth > 0 => depth -= 1,
                    ')' => {
                        self.at = open + 1 + place + 1;
                        let raw = inside.get(..place).unwrap_or_default().trim().to_owned();
                        return Ok(Token::Literal(word, raw));
                    }
                    _ => {}
                },
            }
        }
        Err(Fault::syntax(open, "(", "the parenthesis is never closed"))
    }

    fn number(&mut self) -> Tried<Token> {
        let start = self.at;
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let mut end = digits(0);
        let mut real = false;
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            real = true;
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                real = true;
                end = digits(end + 1 + sign);
            }
        }
        let number = rest.get(..end).unwrap_or_default();
        let tail = rest.get(end..).unwrap_or_default();
        let unit = tail.get(..tail.find(|c: char| !is_of_word(c)).unwrap_or(tail.len()));
        let unit = unit.unwrap_or_default();
        self.at += end + unit.len();
        let whole = rest.get(..end + unit.len()).unwrap_or_default();
        let wrong = || Fault::syntax(start, whole, "not a number");
        if !unit.is_empty() {
            return timespan::literal(number, unit).map(Token::Span).ok_or_else(wrong);
        }
        if real {
            return number.parse().map(Token::Real).map_err(|_| wrong());
        }
        number.parse().map(Token::Long).map_err(|_| wrong())
    }

    fn text(&mut self, verbatim: bool) -> Tried<Token> {
        let start = self.at;
        let mut letters = self.rest().char_indices().peekable();
        let Some((_, quote)) = letters.next() else { return Ok(Token::End) };
        let mut text = String::new();
        while let Some((place, letter)) = letters.next() {
            if letter == quote {
                if verbatim && letters.peek().is_some_and(|(_, next)| *next == quote) {
                    letters.next();
                    text.push(quote);
                    continue;
                }
                self.at = start + place + letter.len_utf8();
                return Ok(Token::Text(text));
            }
            if letter == '\\' && !verbatim {
                match letters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, 'u')) => {
                        let mut code = 0;
                        for _ in 0..4 {
                            let digit = letters.next().and_then(|(_, c)| c.to_digit(16));
                            let Some(digit) = digit else {
                                return Err(Fault::syntax(start + place, "\\u", "not an escape"));
                            };
                            code = code * 16 + digit;
                        }
                        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    Some((_, other @ ('\\' | '"' | '\''))) => text.push(other),
                    _ => return Err(Fault::syntax(start + place, "\\", "not an escape")),
                }
                continue;
            }
            if letter == '\n' && !verbatim {
                break;
            }
            text.push(letter);
        }
        Err(Fault::syntax(start, &quote.to_string(), "the string is never closed"))
    }
}

fn is_first_of_word(letter: char) -> bool {
    letter.is_alphabetic() || letter == '_'
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}
