//! What a hunting query that failed means: the far end says nearly everything with 400 and a sentence. Sorted
//! here once; what a source or a command then does is theirs.

use std::time::Duration;

use crate::cloud::http::{HttpError, Said};
use crate::domain::{Failure, Table};
use crate::pipeline::AdapterError;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The same again, later.
    Retry,
    /// The quota is used up: not before this time, or, where none was given, in the next quarter of an hour.
    Quota(Option<Duration>),
    /// More than an answer may hold: ask for less, at once.
    Split,
    /// More than fits into the time of a query: ask for less, after a pause.
    Slow,
    /// The table is not there: not licensed, or not in this cloud. Not broken.
    Missing,
    /// This query's text is wrong and stays wrong: that table waits for a person, others go on.
    Wrong,
    /// Credentials, permission or configuration: everything waits.
    Hold,
}

/// A query that did not bring an answer.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HuntingError {
    /// What to do.
    pub trouble: Trouble,
    /// What was asked and what came back; for a wrong query with the far end's own words and the position
    /// they name.
    pub message: String,
    /// The cause, if there is one to print beneath it.
    #[source]
    pub cause: Option<Box<HttpError>>,
}

impl HuntingError {
    /// One without an exchange beneath it.
    #[must_use]
    pub fn new(trouble: Trouble, message: impl Into<String>) -> Self {
        Self { trouble, message: message.into(), cause: None }
    }

    /// Sorts a failed exchange about `table`.
    #[must_use]
    pub fn of(error: HttpError, table: &Table) -> Self {
        let trouble = sort(&error, table);
        let said = error.said();
        let name = table.name();
        let message = match trouble {
            Trouble::Missing => format!(
                "hunting has no table {name} here: it comes with a licence (Defender for Office 365 Plan 2 for mail) or a workload that this tenant does not have"
            ),
            Trouble::Wrong => {
                let place = position(&said.message)
                    .map(|(line, column)| format!(" at line {line}, character {column}"))
                    .unwrap_or_default();
                let words = if said.message.is_empty() { "no reason" } else { &said.message };
                format!("the query for {name} is refused{place}: {words}")
            }
            Trouble::Hold if error.status() == Some(403) => format!(
                "hunting is not permitted (needed: the application permission ThreatHunting.Read.All with admin consent), asked about {name}"
            ),
            Trouble::Quota(_) => {
                format!("the tenant's hunting quota is used up, asked about {name}")
            }
            Trouble::Retry | Trouble::Split | Trouble::Slow | Trouble::Hold => {
                format!("hunting in {name}")
            }
        };
        // What the message says already is not said twice.
        let known = matches!(trouble, Trouble::Wrong | Trouble::Missing);
        let cause = (!known).then(|| Box::new(error));
        Self { trouble, message, cause }
    }

    /// The code for the pipeline.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self.trouble {
            Trouble::Retry => match self.cause.as_ref().map(|cause| cause.failure()) {
                Some(Failure::Retry(after)) => Failure::Retry(after),
                _ => Failure::Retry(None),
            },
            Trouble::Quota(after) => Failure::Retry(after),
            Trouble::Split | Trouble::Slow => Failure::Retry(None),
            Trouble::Missing | Trouble::Wrong | Trouble::Hold => Failure::Hold,
        }
    }
}

impl From<HuntingError> for AdapterError {
    fn from(error: HuntingError) -> Self {
        let failure = error.failure();
        let HuntingError { message, cause, .. } = error;
        match cause {
            Some(cause) => Self::because(failure, message, *cause),
            None => Self::new(failure, message),
        }
    }
}

fn sort(error: &HttpError, table: &Table) -> Trouble {
    match error {
        HttpError::Status { status, retry_after, said, body, .. } => {
            // The sentence may stand outside the envelope that we know.
            let words = if said.message.is_empty() { body } else { &said.message };
            of_status(*status, *retry_after, words, said, table)
        }
        HttpError::Timeout { .. } => Trouble::Slow,
        HttpError::TooLarge { .. } => Trouble::Split,
        HttpError::NotNow { after, .. } => Trouble::Quota(Some(*after)),
        HttpError::Unbuilt { .. } | HttpError::NoToken { failure: Failure::Hold, .. } => {
            Trouble::Hold
        }
        HttpError::NoToken { .. } => Trouble::Retry,
        HttpError::Connect { .. } | HttpError::Broken { .. } | HttpError::Encoding { .. } => {
            Trouble::Retry
        }
    }
}

fn of_status(
    status: u16,
    after: Option<Duration>,
    words: &str,
    said: &Said,
    table: &Table,
) -> Trouble {
    let words = words.to_ascii_lowercase();
    let any = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
    // Too much is told with 400 and with 5xx alike.
    if matches!(status, 400 | 413 | 500..=599) && any(&TOO_LARGE) {
        return Trouble::Split;
    }
    if matches!(status, 400 | 500..=599) && any(&TOO_DEAR) {
        return Trouble::Slow;
    }
    match status {
        413 => Trouble::Split,
        429 => Trouble::Quota(after),
        // The gateway gave up waiting for the query.
        408 | 504 => Trouble::Slow,
        400 | 404 | 422 if is_missing(&words, table) => Trouble::Missing,
        // A quota that is told with the wrong number.
        400 if said.code.eq_ignore_ascii_case("TooManyRequests") => Trouble::Quota(after),
        400 | 422 => Trouble::Wrong,
        _ => match crate::cloud::http::of_status(status, after) {
            Failure::Retry(_) => Trouble::Retry,
            Failure::Reject | Failure::Hold | Failure::Fatal => Trouble::Hold,
        },
    }
}

/// The words for an answer that would be too large.
const TOO_LARGE: [&str; 3] =
    ["allowed result size", "amount of results", "exceeded the maximum result size"];

/// The words for a query that cost too much and was stopped.
const TOO_DEAR: [&str; 4] = [
    "excessive resource consumption",
    "exceeded the allowed limits",
    "preempted",
    "query execution lacks memory resources",
];

/// Whether the name that could not be resolved is the table's own, not that of a column.
fn is_missing(words: &str, table: &Table) -> bool {
    let name = table.name().to_ascii_lowercase();
    (words.contains("failed to resolve") || words.contains("could not be resolved"))
        && [format!("'{name}'"), format!("\"{name}\""), format!("[{name}]")]
            .iter()
            .any(|quoted| words.contains(quoted))
}

/// The line and character that a sentence of the far end's names: `[line:position]=[3:7]`, `at [3,7]`,
/// `line 3, position 7`, `Line: 3, Col: 7`.
#[must_use]
pub fn position(message: &str) -> Option<(u64, u64)> {
    let words = message.to_ascii_lowercase();
    let numbers = |text: &str| {
        let mut numbers = text
            .split(|c: char| !c.is_ascii_digit())
            .filter(|digits| !digits.is_empty())
            .map(|digits| digits.parse::<u64>().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    let bracketed = words.match_indices('[').find_map(|(at, _)| {
        let (inside, _) = words.get(at + 1..)?.split_once(']')?;
        let plain = |c: char| c.is_ascii_digit() || matches!(c, ':' | ',' | ' ');
        inside.chars().all(plain).then(|| numbers(inside)).flatten()
    });
    bracketed.or_else(|| {
        let (at, _) = words.match_indices("line").find(|(at, _)| {
            let after = words.get(at + 4..).unwrap_or_default();
            after.trim_start_matches([':', ' ']).starts_with(|c: char| c.is_ascii_digit())
        })?;
        numbers(words.get(at..)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<u64>, message: &str) -> HttpError {
        HttpError::Status {
            place: "https://graph.contoso.example".into(),
            status,
            retry_after: retry_after.map(Duration::from_secs),
            body: String::new(),
            said: Box::new(Said { code: "BadRequest".into(), message: message.into() }),
            correlation: None,
        }
    }

    #[track_caller]
    fn check(code: u16, message: &str, expected: Trouble) {
        let error = HuntingError::of(status(code, None, message), &Table::EmailEvents);
        assert_eq!(error.trouble, expected, "{code} {message}: {error}");
    }

    #[test]
    fn every_documented_error_is_sorted() {
        let size = "Query execution has exceeded the allowed result size. Optimize your query by limiting the number of results and try again.";
        check(400, size, Trouble::Split);
        check(400, &size.replace("result size", "amount of results"), Trouble::Split);
        check(400, "Query stopped due to excessive resource consumption.", Trouble::Slow);
        check(
            500,
            "Query execution has exceeded the allowed limits. It was preempted.",
            Trouble::Slow,
        );
        check(504, "", Trouble::Slow);
        check(500, "", Trouble::Retry);
        check(503, "", Trouble::Retry);
        check(429, "", Trouble::Quota(None));
        check(403, "", Trouble::Hold);
        check(401, "", Trouble::Hold);
        let unresolved = "'where' operator: Failed to resolve table or column expression named 'X'. Fix semantic errors in your query.";
        check(400, unresolved, Trouble::Wrong);
        check(400, &unresolved.replace('X', "EmailEvents"), Trouble::Missing);
        check(400, &unresolved.replace('X', "EmailEventsX"), Trouble::Wrong);
        check(400, "A syntax error has been identified in the query.", Trouble::Wrong);
    }

    #[test]
    fn a_refused_query_is_told_with_the_far_ends_words_and_position() {
        let words = "Syntax error: Query could not be parsed at '|' on line [3,7]";
        let error = HuntingError::of(status(400, None, words), &Table::Other("bulk".into()));
        assert_eq!(
            error.to_string(),
            format!("the query for bulk is refused at line 3, character 7: {words}")
        );
        assert_eq!(error.failure(), Failure::Hold);
        for (text, expected) in [
            ("[line:position]=[3:7]. Token: '|'", Some((3, 7))),
            ("Query could not be parsed. Line: 12, Position: 4", Some((12, 4))),
            ("error at line 2, character 9", Some((2, 9))),
            ("SEM0100: no position", None),
            ("the line is bad", None),
            ("[", None),
        ] {
            assert_eq!(position(text), expected, "{text}");
        }
    }
}
