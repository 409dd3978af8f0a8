//! A value of the merged document with its key and place, and how errors about it are worded. How types are
//! read from it is in `strict.rs`; what the types are is not known here.

use config::{Value, ValueKind};
use serde::de;

use super::document::{Document, join};
use super::error::{ConfigError, did_you_mean};
use super::strict::Fault;

/// Values longer than this are cut in error messages.
const MAX_SHOWN: usize = 60;

/// A value of the document with its key.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    pub(super) document: &'a Document,
    pub(super) value: &'a Value,
    key: String,
    /// Keys of this table that somebody else reads: known, though not to the type at hand.
    pub(super) shared: &'static [&'static str],
}

impl<'a> Node<'a> {
    /// The whole document.
    #[must_use]
    pub fn root(document: &'a Document) -> Self {
        Self { document, value: document.root(), key: String::new(), shared: &[] }
    }

    /// The key, with dots.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value below `step` (a key, or an index into a list), if there is one.
    #[must_use]
    pub fn get(&self, step: &str) -> Option<Self> {
        let value = match &self.value.kind {
            ValueKind::Table(table) => table.get(step),
            ValueKind::Array(array) => step.parse().ok().and_then(|index: usize| array.get(index)),
            _ => None,
        }?;
        Some(self.below(step, value))
    }

    /// The value at a key with dots, if there is one.
    #[must_use]
    pub fn at(&self, key: &str) -> Option<Self> {
        key.split('.').try_fold(self.clone(), |node, step| node.get(step))
    }

    /// The values of a table, sorted by name. Empty if it is no table.
    #[must_use]
    pub fn children(&self) -> Vec<(&'a str, Self)> {
        let ValueKind::Table(table) = &self.value.kind else { return Vec::new() };
        let mut children: Vec<_> =
            table.iter().map(|(step, value)| (step.as_str(), self.below(step, value))).collect();
        children.sort_by_key(|(step, _)| *step);
        children
    }

    /// Whether it is a table.
    #[must_use]
    pub const fn is_table(&self) -> bool {
        matches!(self.value.kind, ValueKind::Table(_))
    }

    /// What [`Node::own`] needs: this table without the `shared` keys.
    #[must_use]
    pub fn without(&self, shared: &[&str]) -> Value {
        let ValueKind::Table(table) = &self.value.kind else { return self.value.clone() };
        let left = table.iter().filter(|(step, _)| !shared.contains(&step.as_str()));
        let left = left.map(|(step, value)| (step.clone(), value.clone())).collect();
        Value::new(None, ValueKind::Table(left))
    }

    /// This table as its adapter reads it: `rest` (from [`Node::without`]) in place of all.
    #[must_use]
    pub fn own<'b>(&self, rest: &'b Value, shared: &'static [&'static str]) -> Node<'b>
    where
        'a: 'b,
    {
        Node { shared, ..self.with(rest) }
    }

    fn with<'b>(&self, value: &'b Value) -> Node<'b>
    where
        'a: 'b,
    {
        Node { document: self.document, value, key: self.key.clone(), shared: &[] }
    }

    /// Reads it as a `T`.
    ///
    /// # Errors
    /// If it is not one.
    pub fn read<T: de::DeserializeOwned>(&self) -> Result<T, ConfigError> {
        T::deserialize(self.clone()).map_err(|fault| match self.placed(fault) {
            Fault::Placed(error) => *error,
            other => self.error(other.to_string()),
        })
    }

    /// An error at this place.
    #[must_use]
    pub fn error(&self, problem: impl Into<String>) -> ConfigError {
        let place = self
            .document
            .place(&self.key, Some(self.value))
            .or_else(|| self.document.place_around(&self.key));
        ConfigError::new(place, &self.key, problem)
    }

    /// The error for a key of this table that nobody knows.
    #[must_use]
    pub fn unknown<'w>(&self, expected: impl IntoIterator<Item = &'w str> + Clone) -> ConfigError {
        let name = self.key.rsplit('.').next().unwrap_or_default();
        let error = self.error("unknown key");
        match did_you_mean(name, expected.clone()) {
            Some(meant) => error.hint(format!("did you mean {meant}?")),
            None => {
                let known: Vec<&str> = expected.into_iter().collect();
                error.hint(format!("known here: {}", known.join(", ")))
            }
        }
    }

    /// The error for a required key of this table that is not there.
    #[must_use]
    pub fn missing(&self, name: &str, expected: &str) -> ConfigError {
        let mut error = self.error(format!("missing, expected {expected}"));
        error.key = join(&self.key, name);
        error
    }

    /// The value without places, in an order of its own: equal exactly if the values are.
    #[must_use]
    pub fn canonical(&self) -> String {
        match &self.value.kind {
            ValueKind::Table(_) => {
                let entry = |(step, node): (&str, Node<'_>)| format!("{step}={}", node.canonical());
                let entries: Vec<String> = self.children().into_iter().map(entry).collect();
                format!("{{{}}}", entries.join(","))
            }
            ValueKind::Array(array) => {
                let entry = |value| self.with(value).canonical();
                let entries: Vec<String> = array.iter().map(entry).collect();
                format!("[{}]", entries.join(","))
            }
            // A variable's text and a file's number mean the same.
            ValueKind::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// The value in words, for "found …"; never if it could be a secret.
    #[must_use]
    pub fn found(&self) -> String {
        let shown = |text: String| {
            if self.may_be_secret(&text) { String::new() } else { format!(" {}", cut(&text)) }
        };
        match &self.value.kind {
            ValueKind::Nil => "nothing".to_owned(),
            ValueKind::Boolean(flag) => format!("{flag}"),
            ValueKind::I64(number) => format!("the number{}", shown(number.to_string())),
            ValueKind::I128(number) => format!("the number{}", shown(number.to_string())),
            ValueKind::U64(number) => format!("the number{}", shown(number.to_string())),
            ValueKind::U128(number) => format!("the number{}", shown(number.to_string())),
            ValueKind::Float(number) => format!("the number{}", shown(number.to_string())),
            ValueKind::String(text) => format!("the text{}", shown(format!("{text:?}"))),
            ValueKind::Table(_) => "a table".to_owned(),
            ValueKind::Array(_) => "a list".to_owned(),
        }
    }

    pub(super) fn below(&self, step: &str, value: &'a Value) -> Self {
        Node { document: self.document, value, key: join(&self.key, step), shared: &[] }
    }

    fn may_be_secret(&self, text: &str) -> bool {
        const KEYS: [&str; 9] = [
            "secret",
            "password",
            "passphrase",
            "token",
            "key",
            "credential",
            "connection",
            "auth",
            "sas",
        ];
        const VALUES: [&str; 5] = ["accesskey", "accountkey", "password", "bearer", "sig="];
        let (key, text) = (self.key.to_lowercase(), text.to_lowercase());
        KEYS.iter().any(|word| key.contains(word))
            || VALUES.iter().any(|word| text.contains(word))
            || (text.contains("://") && text.contains('@'))
    }

    pub(super) fn placed(&self, fault: Fault) -> Fault {
        let error = match fault {
            Fault::Placed(error) => return Fault::Placed(error),
            Fault::Expected(expected) => {
                self.error(format!("found {}, expected {}", self.found(), humane(&expected)))
            }
            Fault::UnknownKey(name, known) => {
                let value = Value::new(None, ValueKind::Nil);
                self.get(&name).unwrap_or_else(|| self.with(&value)).unknown(known.iter().copied())
            }
            Fault::UnknownWord(words) => self.unknown_word(words),
            Fault::Missing(name) => self.missing(name, "it to be set"),
            Fault::Other(message) => match &self.value.kind {
                ValueKind::Table(_) | ValueKind::Array(_) | ValueKind::Nil => self.error(message),
                _ => self.error(format!("found {}: {message}", self.found())),
            },
        };
        Fault::Placed(Box::new(error))
    }

    /// The error for a word that is not on the list.
    #[must_use]
    pub fn unknown_word(&self, words: &[&str]) -> ConfigError {
        let error =
            self.error(format!("found {}, expected one of: {}", self.found(), words.join(", ")));
        let ValueKind::String(text) = &self.value.kind else { return error };
        match did_you_mean(text, words.iter().copied()) {
            Some(meant) => error.hint(format!("did you mean {meant}?")),
            None => error,
        }
    }
}

/// The type's expectation in an operator's words.
fn humane(expected: &str) -> String {
    match expected {
        "u64" | "usize" | "u128" => "a whole number, 0 or more".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u8" => "a whole number from 0 to 255".to_owned(),
        "i64" | "isize" | "i32" => "a whole number".to_owned(),
        "f64" | "f32" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "a borrowed string" | "path string" => "a text in quotes".to_owned(),
        "a sequence" => "a list in [ ]".to_owned(),
        "socket address" => "an address with a port, like 127.0.0.1:9464".to_owned(),
        "a map" => "a table".to_owned(),
        nonzero if nonzero.starts_with("a nonzero") => "a whole number, 1 or more".to_owned(),
        table if table.starts_with("struct ") => "a table".to_owned(),
        words if words.contains("enum ") => "a word or a table with one key".to_owned(),
        other => other.to_owned(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
