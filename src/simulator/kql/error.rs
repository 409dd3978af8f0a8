//! What is wrong with a query, and where. Inside, a place is a byte offset; outside, a line and a column.

use std::fmt;

/// Why a query got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KqlErrorKind {
    /// The query is wrong, or is outside the subset.
    Bad,
    /// The query is right, but its answer or the work for it is past a limit.
    TooLarge,
}

/// A refusal, as Kusto words it, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KqlError {
    /// What is wrong.
    pub message: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// Whose fault it is.
    pub kind: KqlErrorKind,
}

impl fmt::Display for KqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            KqlErrorKind::Bad => {
                write!(f, "{} [line:position={}:{}]", self.message, self.line, self.column)
            }
            KqlErrorKind::TooLarge => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for KqlError {}

/// A refusal with the byte where it is.
#[derive(Debug)]
pub(super) struct Fault {
    message: String,
    at: usize,
    kind: KqlErrorKind,
}

pub(super) type Tried<T> = Result<T, Fault>;

impl Fault {
    /// The text does not follow the grammar: `token` is where it goes wrong.
    pub(super) fn syntax(at: usize, token: &str, expected: &str) -> Self {
        let token: String = token.chars().take(60).collect();
        Self::bad(
            at,
            format!(
                "Query could not be parsed at '{token}': {expected}. Fix syntax errors in your query."
            ),
        )
    }

    /// The text is grammatical but means nothing.
    pub(super) fn semantic(at: usize, message: impl fmt::Display) -> Self {
        Self::bad(at, format!("{message}. Fix semantic errors in your query."))
    }

    /// A name that nothing has.
    pub(super) fn unresolved(at: usize, name: &str) -> Self {
        let name: String = name.chars().take(120).collect();
        Self::semantic(at, format!("Failed to resolve table or column expression named '{name}'"))
    }

    /// Part of the language, but not of this subset.
    pub(super) fn unsupported(at: usize, what: &str) -> Self {
        let what: String = what.chars().take(120).collect();
        Self::bad(at, format!("{what} is not supported. Fix semantic errors in your query."))
    }

    /// The result would be past the limit.
    pub(super) fn too_large() -> Self {
        let message = "Query execution has exceeded the allowed result size. Optimize your query by limiting \
                       the number of results and try again.";
        Self { message: message.to_owned(), at: 0, kind: KqlErrorKind::TooLarge }
    }

    /// The work would be past the limit.
    pub(super) fn too_much_work() -> Self {
        let message = "Query stopped due to excessive resource consumption.";
        Self { message: message.to_owned(), at: 0, kind: KqlErrorKind::TooLarge }
    }

    fn bad(at: usize, message: String) -> Self {
        Self { message, at, kind: KqlErrorKind::Bad }
    }

    /// The same, said by the operator it happened in.
    pub(super) fn inside(mut self, operator: &str) -> Self {
        if self.kind == KqlErrorKind::Bad && !self.message.starts_with('\'') {
            self.message = format!("'{operator}' operator: {}", self.message);
        }
        self
    }

    /// With the line and column of `query`.
    pub(super) fn placed(self, query: &str) -> KqlError {
        let before = query.get(..self.at).unwrap_or(query);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        KqlError { message: self.message, line, column, kind: self.kind }
    }
}
