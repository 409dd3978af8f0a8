//! What a user called the mail that they reported: `reported.*`, from audit records of submissions and from
//! third-party reports. An administrator's submission is no user's report, and a category that is not clear
//! gives no tag.

use serde_json::Value;

use super::activity_mail::shown;
use super::judge::Because;
use crate::domain::{Decision, Tag};
use crate::normalize::{Row, field};

/// The rule's name, for reasons.
const RULE: &str = "submission.category";

/// A report of a third-party tool.
pub(super) fn by_tool(row: &Row<'_>) -> Decision {
    let mut decision = Decision::default();
    if let Some(tag) = field::text(row, "category").as_deref().and_then(category) {
        decision.tag(tag, RULE, shown(row, &["category"]));
    }
    decision
}

/// An audit record of a submission.
pub(super) fn in_audit_log(row: &Row<'_>) -> Decision {
    let mut decision = Decision::default();
    let operation = field::text(row, "Operation").unwrap_or_default();
    let by_user = ["UserSubmission", "UserSubmissionTriage", "CustomSubmission"]
        .iter()
        .any(|known| operation.eq_ignore_ascii_case(known));
    if !by_user {
        return decision;
    }
    let custom = operation.eq_ignore_ascii_case("CustomSubmission");
    let found = told_category(row).or_else(|| if custom { in_subject(row) } else { None });
    if let Some((tag, because)) = found {
        let mut all = shown(row, &["Operation"]);
        all.extend(because);
        decision.tag(tag, RULE, all);
    }
    decision
}

/// `SubmissionCategory`, as a field or among `ExtendedProperties`.
fn told_category(row: &Row<'_>) -> Option<(Tag, Because)> {
    const NAME: &str = "SubmissionCategory";
    let word = match field::text(row, NAME) {
        Some(word) => word.into_owned(),
        None => extended(row, NAME)?,
    };
    Some((category(&word)?, vec![(NAME.into(), word.into())]))
}

fn extended(row: &Row<'_>, name: &str) -> Option<String> {
    let Some(Value::Array(properties)) = field::value(row, "ExtendedProperties") else {
        return None;
    };
    properties
        .iter()
        .find(|property| {
            field::member_text(property, "Name").is_some_and(|it| it.eq_ignore_ascii_case(name))
        })
        .and_then(|property| field::member_text(property, "Value"))
}

/// What the mark in front of the subject says, which a tool puts there for the reporting mailbox.
fn in_subject(row: &Row<'_>) -> Option<(Tag, Because)> {
    let subject = field::text(row, "Subject")?;
    let (mark, _) = subject.split_once(['|', ':'])?;
    let tag = match mark.trim() {
        "1" => Tag::ReportedJunk,
        "2" => Tag::ReportedNotJunk,
        "3" => Tag::ReportedPhish,
        word if word.eq_ignore_ascii_case("junk") => Tag::ReportedJunk,
        word if word.eq_ignore_ascii_case("not junk") => Tag::ReportedNotJunk,
        word if word.eq_ignore_ascii_case("phishing") => Tag::ReportedPhish,
        _ => return None,
    };
    Some((tag, vec![("Subject".into(), (&*subject).into())]))
}

/// The tag of a category word.
fn category(word: &str) -> Option<Tag> {
    let letters: String = word
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    Some(match &*letters {
        "phish" | "phishing" | "malware" | "malwareorphish" | "phishormalware" | "malicious"
        | "threat" => Tag::ReportedPhish,
        "junk" | "spam" | "junkmail" | "bulk" => Tag::ReportedJunk,
        "notjunk" | "notspam" | "ham" | "clean" | "safe" | "legitimate" | "falsepositive"
        | "notphish" | "nothreat" => Tag::ReportedNotJunk,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(decide: impl Fn(&Row<'_>) -> Decision, record: &str) -> Vec<&'static str> {
        let decision = decide(&Row::parse(record.as_bytes()).unwrap());
        assert_eq!(decision.reasons.len(), decision.tags.len(), "{record}");
        decision.tags.fixed().map(Tag::as_str).collect()
    }

    #[test]
    fn a_clear_category_is_tagged_and_another_is_not() {
        for (word, expected) in [
            ("Phish", Some("reported.phish")),
            (" MALWARE ", Some("reported.phish")),
            ("Spam", Some("reported.junk")),
            ("Not junk", Some("reported.not_junk")),
            ("not_spam", Some("reported.not_junk")),
            ("Unknown", None),
            ("", None),
        ] {
            let record = format!(r#"{{"category":"{word}"}}"#);
            assert_eq!(tags(by_tool, &record), Vec::from_iter(expected), "{word}");
        }
    }

    #[test]
    fn a_users_submission_is_tagged_by_its_category_and_an_administrators_is_not() {
        let extended = |operation: &str| {
            format!(
                r#"{{"Operation":"{operation}","ExtendedProperties":[{{"Name":"X"}},{{"Name":"SubmissionCategory","Value":"Phish"}}]}}"#
            )
        };
        assert_eq!(tags(in_audit_log, &extended("UserSubmission")), ["reported.phish"]);
        assert_eq!(tags(in_audit_log, &extended("UserSubmissionTriage")), ["reported.phish"]);
        assert!(tags(in_audit_log, &extended("AdminSubmissionTriage")).is_empty());
        assert!(tags(in_audit_log, &extended("AttackSimUserSubmission")).is_empty());
        let subject = |mark: &str| {
            format!(r#"{{"Operation":"CustomSubmission","Subject":"{mark}Overdue invoice"}}"#)
        };
        assert_eq!(tags(in_audit_log, &subject("3|")), ["reported.phish"]);
        assert_eq!(tags(in_audit_log, &subject("Not junk: ")), ["reported.not_junk"]);
        assert!(tags(in_audit_log, &subject("Re: ")).is_empty());
    }
}
