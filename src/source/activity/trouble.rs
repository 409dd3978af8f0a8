//! What the API's errors mean: the one place where they are sorted. It tries nothing again itself.

use std::time::Duration;

use crate::cloud::http::HttpError;
use crate::domain::{Failure, GapCause};
use crate::pipeline::AdapterError;

/// A request that failed.
#[derive(Debug)]
pub struct Trouble {
    /// What to branch on.
    pub sort: Sort,
    /// What to say, and whether and when to try again.
    pub error: AdapterError,
}

/// What a failure concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Every request of this tenant: throttled, no connection, credentials.
    Everybody,
    /// The content type.
    Feed,
    /// Its subscription is missing or off.
    NoSubscription,
    /// Its subscription is on already: what was asked for is so.
    AlreadyEnabled,
    /// The window's ends do not please the server's clock.
    Window,
    /// The link to the next page is no longer good.
    StalePage,
    /// This blob is no more.
    Gone(GapCause),
    /// This answer is larger than we take.
    Oversize,
    /// This request alone, as far as can be told.
    Item,
}

/// Why a step of a feed failed: whom it concerns.
#[derive(Debug)]
pub enum Problem {
    /// Every content type.
    Everybody(AdapterError),
    /// This one; the others may go on.
    Feed(AdapterError),
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        match trouble.sort {
            Sort::Feed | Sort::NoSubscription => Self::Feed(trouble.error),
            _ => Self::Everybody(trouble.error),
        }
    }
}

/// What starting a subscription says while the audit log is off.
const AUDIT_LOG_OFF: &str = "the unified audit log of this tenant is off: switch it on in the Microsoft Purview portal \
    (Audit, \"Start recording user and admin activity\") or with Set-AdminAuditLogConfig \
    -UnifiedAuditLogIngestionEnabled $true, then wait up to an hour";

const MISSING_ROLE: &str = "the token lacks the application permission ActivityFeed.Read of \"Office 365 Management APIs\" \
    (for the details of DLP.All also ActivityFeed.ReadDlp): add it to the app registration (API permissions), grant \
    admin consent, and the next token will have it";

/// Sorts an error; `what` was being tried.
#[must_use]
pub fn sorted(error: HttpError, what: &str) -> Trouble {
    let after = match &error {
        HttpError::Status { retry_after, .. } => *retry_after,
        _ => None,
    };
    let code = error.said().code.to_ascii_uppercase();
    let (sort, failure, advice) = match code.as_str() {
        // A start that comes too often: the API counts these by subscription.
        _ if wished(&error).is_some() => (Sort::Feed, Failure::Retry(wished(&error)), None),
        "AF10001" => (Sort::Feed, Failure::Hold, Some(MISSING_ROLE)),
        "AF20010" => (
            Sort::Everybody,
            Failure::Hold,
            Some("the token is for another tenant than [tenant] id: compare both"),
        ),
        "AF20011" | "AF20012" if !audit_log_off(&error) => (
            Sort::Everybody,
            Failure::Hold,
            Some("the API does not know this tenant: compare [tenant] id, and the cloud"),
        ),
        "AF20013" => (Sort::Everybody, Failure::Hold, Some("[tenant] id is not a GUID")),
        "AF20022" | "AF20023" => (Sort::NoSubscription, Failure::Retry(after), None),
        "AF20024" => (Sort::AlreadyEnabled, Failure::Retry(None), None),
        "AF20030" | "AF20055" => (Sort::Window, Failure::Retry(None), None),
        "AF20031" => (Sort::StalePage, Failure::Retry(None), None),
        "AF20050" | "AF20052" => (Sort::Gone(GapCause::RemoteGone), Failure::Reject, None),
        "AF20051" => (Sort::Gone(GapCause::RetentionPassed), Failure::Reject, None),
        "AF20001" | "AF20002" | "AF20003" | "AF20020" | "AF20021" | "AF20053" | "AF20054" => {
            (Sort::Feed, Failure::Hold, Some("the API takes this request for a wrong one"))
        }
        _ if audit_log_off(&error) => (Sort::Everybody, Failure::Hold, Some(AUDIT_LOG_OFF)),
        _ => {
            let (sort, failure) = plain(&error, after);
            (sort, failure, None)
        }
    };
    let message = advice.map_or_else(|| what.to_owned(), |advice| format!("{what}: {advice}"));
    Trouble { sort, error: AdapterError::because(failure, message, error) }
}

/// An error without a code of the API's.
fn plain(error: &HttpError, after: Option<Duration>) -> (Sort, Failure) {
    match (error, error.failure()) {
        (HttpError::TooLarge { .. } | HttpError::Encoding { .. }, _) => {
            (Sort::Oversize, Failure::Retry(None))
        }
        // Nothing was sent, or nobody is there: that says nothing about what was asked for.
        (
            HttpError::Connect { .. } | HttpError::NotNow { .. } | HttpError::NoToken { .. },
            failure,
        ) => (Sort::Everybody, failure),
        (HttpError::Status { .. }, failure) if error.throttled() => (Sort::Everybody, failure),
        (_, Failure::Hold) => (Sort::Everybody, Failure::Hold),
        // A 404 of a front door, say: nothing that the API itself says so.
        (_, Failure::Reject | Failure::Fatal) => (Sort::Item, Failure::Retry(after)),
        (_, Failure::Retry(after)) => (Sort::Item, Failure::Retry(after)),
    }
}

/// Something that is wrong without an HTTP error: an answer that is none.
#[must_use]
pub fn no_answer(what: &str, why: &str) -> Trouble {
    let error = AdapterError::new(Failure::Retry(None), format!("{what}: {why}"));
    Trouble { sort: Sort::Item, error }
}

fn audit_log_off(error: &HttpError) -> bool {
    let HttpError::Status { body, said, .. } = error else { return false };
    [body, &said.message].into_iter().any(|text| {
        text.contains("DataServiceException")
            && text.contains("Tenant")
            && text.contains("does not exist")
    })
}

/// The wait that a sentence names: "Please retry again after 14m 56s".
fn wished(error: &HttpError) -> Option<Duration> {
    let HttpError::Status { body, .. } = error else { return None };
    let (_, rest) = body.split_once("retry again after ")?;
    let mut seconds = 0_u64;
    for word in rest.split_ascii_whitespace().take(3) {
        let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
        let unit = match word.chars().nth(digits.len()) {
            Some('h') => 3600,
            Some('m') => 60,
            Some('s') => 1,
            _ => break,
        };
        let Ok(number) = digits.parse::<u64>() else { break };
        seconds = seconds.saturating_add(number.saturating_mul(unit));
    }
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::http::Said;

    fn answer(status: u16, code: &str, message: &str) -> HttpError {
        let body = serde_json::json!({"error": {"code": code, "message": message}}).to_string();
        HttpError::Status {
            place: "https://manage.office.com".into(),
            status,
            retry_after: Some(Duration::from_secs(7)),
            said: Box::new(Said::of(body.as_bytes())),
            body,
            correlation: None,
        }
    }

    #[track_caller]
    fn check(status: u16, code: &str, sort: Sort, failure: Failure) {
        let trouble = sorted(answer(status, code, "words"), "listing");
        assert_eq!((trouble.sort, trouble.error.failure), (sort, failure), "{status} {code}");
    }

    #[test]
    fn every_code_of_the_api_is_sorted() {
        let seven = Failure::Retry(Some(Duration::from_secs(7)));
        check(403, "AF429", Sort::Everybody, seven);
        check(429, "AF429", Sort::Everybody, seven);
        check(429, "", Sort::Everybody, seven);
        check(403, "AF10001", Sort::Feed, Failure::Hold);
        check(400, "AF20010", Sort::Everybody, Failure::Hold);
        check(400, "AF20011", Sort::Everybody, Failure::Hold);
        check(400, "AF20012", Sort::Everybody, Failure::Hold);
        check(400, "AF20013", Sort::Everybody, Failure::Hold);
        check(400, "AF20022", Sort::NoSubscription, seven);
        check(400, "AF20023", Sort::NoSubscription, seven);
        check(400, "AF20024", Sort::AlreadyEnabled, Failure::Retry(None));
        check(400, "AF20030", Sort::Window, Failure::Retry(None));
        check(400, "AF20055", Sort::Window, Failure::Retry(None));
        check(400, "AF20031", Sort::StalePage, Failure::Retry(None));
        check(400, "AF20050", Sort::Gone(GapCause::RemoteGone), Failure::Reject);
        check(400, "af20051", Sort::Gone(GapCause::RetentionPassed), Failure::Reject);
        check(400, "AF20052", Sort::Gone(GapCause::RemoteGone), Failure::Reject);
        check(400, "AF20020", Sort::Feed, Failure::Hold);
        check(500, "AF50000", Sort::Item, seven);
        check(500, "AF50005", Sort::Item, seven);
        check(503, "", Sort::Item, seven);
        check(404, "", Sort::Item, seven);
        check(401, "", Sort::Everybody, Failure::Hold);
        check(403, "", Sort::Everybody, Failure::Hold);
        check(302, "", Sort::Everybody, Failure::Hold);
    }

    #[test]
    fn a_start_that_comes_too_often_waits_as_long_as_the_sentence_says() {
        let words =
            "Too many frequent subscription start requests. Please retry again after 14m 56s";
        for code in ["AF429", ""] {
            let trouble = sorted(answer(429, code, words), "starting");
            let expected = Failure::Retry(Some(Duration::from_secs(14 * 60 + 56)));
            assert_eq!(trouble.error.failure, expected);
        }
    }

    #[test]
    fn an_audit_log_that_is_off_says_what_to_switch_on() {
        let words = "Microsoft.Office.Compliance.Audit.DataServiceException: Tenant 9f4c1b1e does not exist.";
        for code in ["", "AF20011", "AF50000"] {
            let trouble = sorted(answer(400, code, words), "starting");
            assert_eq!(trouble.error.failure, Failure::Hold);
            assert!(trouble.error.message.contains("UnifiedAuditLogIngestionEnabled"));
        }
        let trouble = sorted(answer(403, "AF10001", "missing"), "listing");
        assert!(trouble.error.message.contains("ActivityFeed.Read "), "{}", trouble.error);
    }
}
