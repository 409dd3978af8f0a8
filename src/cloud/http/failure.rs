//! Everything that can go wrong with one HTTP exchange, and what each means: whether to try again, and whether
//! the far end may have acted. Not the client, and not what a sink does about it.

use std::time::Duration;

use crate::cloud::plain;
use crate::domain::Failure;
use crate::pipeline::AdapterError;

/// An exchange that did not end with a 2xx answer. Texts name the far end by scheme, host and port only: a
/// path or a query may be a secret (webhooks, SAS).
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The client or the request could not be built: a bad URL, header or certificate file.
    #[error("cannot build the request to {place}: {detail}")]
    Unbuilt {
        /// The far end.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// Nothing was sent: the far end is to be left alone for a while, or the budget is used up.
    #[error("nothing was sent to {place}: {reason}; again in {} s", .after.as_secs() + 1)]
    NotNow {
        /// The far end.
        place: String,
        /// Why not.
        reason: String,
        /// When it makes sense to ask again.
        after: Duration,
    },
    /// Nothing was sent: there is no token for it.
    #[error("no token for {place}: {detail}")]
    NoToken {
        /// The far end.
        place: String,
        /// What is wrong, and what to do about it.
        detail: String,
        /// What that means for the caller.
        failure: Failure,
    },
    /// No connection: name resolution, TCP, TLS or the proxy. Nothing was sent.
    #[error("cannot connect to {place}: {detail}")]
    Connect {
        /// The far end.
        place: String,
        /// The library's words.
        detail: String,
    },
    /// A deadline passed before the answer was complete. The far end may have acted.
    #[error("{place} did not answer within {} ms ({which})", .limit.as_millis())]
    Timeout {
        /// The far end.
        place: String,
        /// Which deadline.
        which: Deadline,
        /// How long it was.
        limit: Duration,
    },
    /// The connection broke before the answer was complete. The far end may have acted.
    #[error("the connection to {place} broke: {detail}")]
    Broken {
        /// The far end.
        place: String,
        /// The library's words.
        detail: String,
    },
    /// The answer is larger than we take. The far end has acted.
    #[error("{place} answered with more than {limit} bytes")]
    TooLarge {
        /// The far end.
        place: String,
        /// The cap, in bytes after decompression.
        limit: usize,
    },
    /// The answer cannot be decompressed, or swells too much. The far end has acted.
    #[error("the answer of {place} cannot be decompressed: {detail}")]
    Encoding {
        /// The far end.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// An answer that is not 2xx.
    #[error("{place} answered {status}{}{}", if .body.is_empty() { "" } else { ": " }, .body)]
    Status {
        /// The far end.
        place: String,
        /// The status code.
        status: u16,
        /// What the far end asks for, if it does.
        retry_after: Option<Duration>,
        /// The beginning of the body, fit to be shown.
        body: String,
        /// The far end's own code and sentence, where the body has them in one of the usual shapes.
        said: Box<Said>,
        /// The far end's id of this exchange, if it gave one.
        correlation: Option<String>,
    },
}

/// What an error body says in JSON: `{"error":{"code","message"}}` (Graph, Activity API, Azure) or
/// `{"error","error_description"}` (OAuth). Empty where it says nothing so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// The code: a word to branch on.
    pub code: String,
    /// The sentence, fit to be shown.
    pub message: String,
}

impl Said {
    /// Reads a body.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
            return Self::default();
        };
        let text = |value: Option<&serde_json::Value>| {
            plain::plain(value.and_then(|value| value.as_str()).unwrap_or_default(), 1000)
        };
        match body.get("error") {
            Some(serde_json::Value::String(code)) => {
                Self { code: plain::plain(code, 100), message: text(body.get("error_description")) }
            }
            Some(error) => {
                Self { code: text(error.get("code")), message: text(error.get("message")) }
            }
            None => Self::default(),
        }
    }
}

/// Which deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// The head of the answer.
    Header,
    /// A pause within the body.
    Idle,
    /// The whole exchange.
    Total,
}

impl std::fmt::Display for Deadline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "waiting for the head of the answer",
            Self::Idle => "waiting for more of the answer",
            Self::Total => "the whole exchange",
        })
    }
}

/// Whether the far end may have acted on a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acted {
    /// Surely not.
    No,
    /// It cannot be told: look before the same is sent again.
    Unknown,
}

impl HttpError {
    /// What to do about it: the one place where this is decided.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            // Only a change of the configuration mends these.
            Self::Unbuilt { .. } => Failure::Hold,
            Self::NotNow { after, .. } => Failure::Retry(Some(*after)),
            Self::NoToken { failure, .. } => *failure,
            // The network, or the far end is down.
            Self::Connect { .. } | Self::Timeout { .. } | Self::Broken { .. } => {
                Failure::Retry(None)
            }
            // A proxy or a portal in between does this, and it passes.
            Self::TooLarge { .. } | Self::Encoding { .. } => Failure::Retry(None),
            Self::Status { retry_after, .. } if self.throttled() => Failure::Retry(*retry_after),
            Self::Status { status, retry_after, .. } => of_status(*status, *retry_after),
        }
    }

    /// Whether the far end says that this is too much at once: 429, or the Management Activity API's code for it,
    /// which comes with 403, too.
    #[must_use]
    pub fn throttled(&self) -> bool {
        match self {
            Self::Status { status, said, .. } => *status == 429 || said.code == "AF429",
            Self::Unbuilt { .. }
            | Self::NotNow { .. }
            | Self::NoToken { .. }
            | Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::TooLarge { .. }
            | Self::Encoding { .. } => false,
        }
    }

    /// Whether the far end may have acted.
    #[must_use]
    pub const fn acted(&self) -> Acted {
        match self {
            Self::Unbuilt { .. }
            | Self::NotNow { .. }
            | Self::NoToken { .. }
            | Self::Connect { .. } => Acted::No,
            Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::TooLarge { .. }
            | Self::Encoding { .. } => Acted::Unknown,
            // 5xx may come from a gateway after the work was done; so may 408.
            Self::Status { status, .. } => match *status {
                408 | 500..=599 => Acted::Unknown,
                _ => Acted::No,
            },
        }
    }

    /// The status code, where there was an answer.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Unbuilt { .. }
            | Self::NotNow { .. }
            | Self::NoToken { .. }
            | Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::TooLarge { .. }
            | Self::Encoding { .. } => None,
        }
    }

    /// What the far end said in JSON; empty where there was no answer or no such body.
    #[must_use]
    pub fn said(&self) -> Said {
        match self {
            Self::Status { said, .. } => said.as_ref().clone(),
            _ => Said::default(),
        }
    }

    /// As the pipeline's error, with what was tried in front.
    #[must_use]
    pub fn during(self, what: &str) -> AdapterError {
        AdapterError::because(self.failure(), what, self)
    }
}

/// What an answer's status code means for the same request sent again.
#[must_use]
pub const fn of_status(status: u16, retry_after: Option<Duration>) -> Failure {
    match status {
        // Not errors; whoever expected a body and got none decides otherwise.
        200..=299 => Failure::Retry(None),
        // Never followed: a credential must not travel to a place that the configuration does not name.
        300..=399 => Failure::Hold,
        // Credentials, permissions, payment, a proxy's credentials.
        401 | 402 | 403 | 407 => Failure::Hold,
        // The endpoint is gone for good and says so: it must be configured anew.
        410 => Failure::Hold,
        // Too slow, too early, too many.
        408 | 425 | 429 => Failure::Retry(retry_after),
        // This very request is wrong and stays wrong.
        400 | 404..=406 | 409 | 411..=424 | 426..=428 | 430..=499 => Failure::Reject,
        // Their trouble.
        500..=599 => Failure::Retry(retry_after),
        // Not HTTP as we know it.
        0..=199 | 600.. => Failure::Retry(None),
    }
}

/// The library's error as text, without its URL, causes included.
pub(super) fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    plain::plain(&text, plain::ANSWER_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_code_is_sorted() {
        let asked = Some(Duration::from_secs(9));
        for status in 100..=999 {
            let failure = of_status(status, asked);
            let expected = match status {
                300..=399 | 401 | 402 | 403 | 407 | 410 => Failure::Hold,
                408 | 425 | 429 | 500..=599 => Failure::Retry(asked),
                400..=499 => Failure::Reject,
                _ => Failure::Retry(None),
            };
            assert_eq!(failure, expected, "{status}");
        }
    }

    /// The Management Activity API throttles with 403, which would otherwise be a missing permission.
    #[test]
    fn a_throttle_that_comes_as_403_is_retried() {
        let refused = |code: &str| HttpError::Status {
            place: String::new(),
            status: 403,
            retry_after: None,
            body: String::new(),
            said: Box::new(Said { code: code.to_owned(), message: String::new() }),
            correlation: None,
        };
        assert_eq!(refused("AF429").failure(), Failure::Retry(None));
        assert_eq!(refused("AF10001").failure(), Failure::Hold);
    }

    #[test]
    fn only_what_surely_did_not_arrive_counts_as_not_acted() {
        let status = |status| HttpError::Status {
            place: "https://tickets.contoso.example".into(),
            status,
            retry_after: None,
            body: String::new(),
            said: Box::default(),
            correlation: None,
        };
        assert_eq!(status(500).acted(), Acted::Unknown);
        assert_eq!(status(502).acted(), Acted::Unknown);
        assert_eq!(status(429).acted(), Acted::No);
        assert_eq!(status(400).acted(), Acted::No);
        let broken = HttpError::Broken { place: String::new(), detail: String::new() };
        assert_eq!(broken.acted(), Acted::Unknown);
        assert_eq!(status(404).to_string(), "https://tickets.contoso.example answered 404");
    }
}
