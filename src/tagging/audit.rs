//! Audit records of the Management Activity API about clicks, quarantine and investigations. Mail is
//! `activity_mail`'s business, reports are `reported`'s, alerts are `alert_title`'s.

use serde_json::Value;

use super::activity_mail::shown;
use crate::domain::{Decision, Tag};
use crate::normalize::{Row, field};

/// A click (`TIUrlClickData`): tagged where the user went on behind a warning page.
pub(super) fn click(row: &Row<'_>) -> Decision {
    const ACTION: &str = "UrlClickAction";
    let mut decision = Decision::default();
    let through = field::text(row, ACTION).is_some_and(|word| {
        ["4", "5"].contains(&&*word)
            || ["blockpageoverride", "pendingdetonationpageoverride"]
                .iter()
                .any(|known| word.eq_ignore_ascii_case(known))
    });
    if through {
        decision.tag(Tag::ClickedThrough, "after_delivery.click", shown(row, &[ACTION]));
    }
    decision
}

/// What was done with quarantined mail: released, or asked to be.
pub(super) fn quarantine(row: &Row<'_>) -> Decision {
    const SHOWN: [&str; 3] = ["Operation", "RequestType", "ResultStatus"];
    let mut decision = Decision::default();
    let failed = field::text(row, "ResultStatus").is_some_and(|word| {
        ["fail", "false", "partial"].iter().any(|head| {
            word.get(..head.len()).is_some_and(|start| start.eq_ignore_ascii_case(head))
        })
    });
    match request(row) {
        Some(Request::Release) if !failed => {
            let because = shown(row, &SHOWN);
            decision.tag(Tag::QuarantineRelease, "after_delivery.released", because.clone());
            decision.tag(Tag::OverrideAllow, "after_delivery.released", because);
        }
        Some(Request::AskForRelease) => {
            decision.tag(Tag::ReleaseRequested, "quarantine.requested", shown(row, &SHOWN));
        }
        Some(Request::Release) | None => {}
    }
    decision
}

enum Request {
    Release,
    AskForRelease,
}

/// What was asked for, by the number or its name; where there is none, by the operation.
fn request(row: &Row<'_>) -> Option<Request> {
    let letters = |text: &str| -> String {
        let kept = text.chars().filter(char::is_ascii_alphanumeric);
        kept.map(|letter| letter.to_ascii_lowercase()).collect()
    };
    if let Some(word) = field::text(row, "RequestType") {
        return match &*letters(&word) {
            "2" | "release" => Some(Request::Release),
            "5" | "releaserequest" => Some(Request::AskForRelease),
            _ => None,
        };
    }
    match &*letters(&field::text(row, "Operation")?) {
        "quarantinereleasemessage" => Some(Request::Release),
        "quarantinereleaserequestmessage" | "quarantinereleaserequest" => {
            Some(Request::AskForRelease)
        }
        _ => None,
    }
}

/// An investigation that removed mail. `by_admin` where a person started it. Mail entities inside are not
/// judged: one investigation holds many mails, and a tag would not say which of them it is about.
pub(super) fn investigation(row: &Row<'_>, by_admin: bool) -> Decision {
    let mut decision = Decision::default();
    let mut because = shown(row, &["Status"]);
    let remediated =
        field::text(row, "Status").is_some_and(|word| word.eq_ignore_ascii_case("remediated"));
    let completed = !remediated && completed_removal(row);
    if remediated || completed {
        if completed {
            because.push(("Actions.ActionStatus".into(), "Completed".into()));
        }
        let (tag, rule) = if by_admin {
            (Tag::RemediatedAdmin, "after_delivery.admin")
        } else {
            (Tag::RemediatedAir, "after_delivery.air")
        };
        decision.tag(tag, rule, because);
    }
    decision
}

/// Whether an action on mail has been completed.
fn completed_removal(row: &Row<'_>) -> bool {
    let Some(Value::Array(actions)) = field::value(row, "Actions") else { return false };
    actions.iter().any(|action| {
        let is = |name, word: &str| {
            field::member_text(action, name).is_some_and(|text| text.eq_ignore_ascii_case(word))
        };
        is("ActionType", "EmailRemediation") && is("ActionStatus", "Completed")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(decide: impl Fn(&Row<'_>) -> Decision, record: &str) -> Vec<&'static str> {
        let decision = decide(&Row::parse(record.as_bytes()).unwrap());
        assert_eq!(decision.reasons.len(), decision.tags.len(), "{record}");
        assert!(decision.reasons.iter().all(|reason| !reason.because.is_empty()));
        decision.tags.fixed().map(Tag::as_str).collect()
    }

    #[test]
    fn only_a_click_through_is_tagged_whatever_the_enum_comes_as() {
        for word in
            ["4", "5", "\"4\"", "\"BlockPageOverride\"", "\"pendingDetonationPageOverride\""]
        {
            let record = format!(r#"{{"URLClickAction":{word}}}"#);
            assert_eq!(tags(click, &record), ["clicked.through"], "{record}");
        }
        for word in ["2", "3", "null", "\"Blockpage\"", "44"] {
            assert!(tags(click, &format!(r#"{{"UrlClickAction":{word}}}"#)).is_empty(), "{word}");
        }
        assert!(tags(click, "{}").is_empty());
    }

    #[test]
    fn a_release_is_an_allow_and_a_request_is_only_a_request() {
        let release = ["override.allow", "quarantine_release"];
        assert_eq!(tags(quarantine, r#"{"RequestType":2,"ResultStatus":"Successful"}"#), release);
        assert_eq!(tags(quarantine, r#"{"Operation":"QuarantineReleaseMessage"}"#), release);
        assert_eq!(tags(quarantine, r#"{"RequestType":"Release request"}"#), ["release_requested"]);
        assert_eq!(tags(quarantine, r#"{"RequestType":"5"}"#), ["release_requested"]);
        for record in [
            r#"{"RequestType":2,"ResultStatus":"Failed"}"#,
            r#"{"RequestType":0,"Operation":"QuarantineReleaseMessage"}"#,
            r#"{"Operation":"QuarantineDeleteMessage"}"#,
            "{}",
        ] {
            assert!(tags(quarantine, record).is_empty(), "{record}");
        }
    }

    #[test]
    fn an_investigation_that_removed_mail_says_who_started_it() {
        let air = |row: &Row<'_>| investigation(row, false);
        assert_eq!(tags(air, r#"{"Status":"Remediated"}"#), ["remediated.air"]);
        let record = r#"{"Status":"Running","Actions":[{"ActionType":"EmailRemediation","ActionStatus":"Completed"}]}"#;
        assert_eq!(tags(air, record), ["remediated.air"]);
        assert_eq!(tags(|row| investigation(row, true), record), ["remediated.admin"]);
        assert!(tags(air, &record.replace("Completed", "Pending")).is_empty());
        assert!(tags(air, r#"{"Status":"Pending Action","Actions":7}"#).is_empty());
    }
}
