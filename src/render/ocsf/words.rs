//! The closed words of OCSF's Email Activity class, and how Defender's own words become them. Values are
//! compared by their letters only, since the same place is spelled in several ways by several surfaces.

use std::borrow::Cow;

use crate::domain::{Decision, Event, Tag, Tags, Verdict};
use crate::normalize::{Column, Row};

/// An enum value: the number, and the text that stands beside it (the caption, or the source's own word
/// for 99).
pub(super) type Word<'a> = (i64, Cow<'a, str>);

/// `action_id` and `disposition_id`.
pub(super) struct Disposition<'a> {
    pub(super) action: (i64, &'static str),
    pub(super) disposition: Word<'a>,
}

const UNKNOWN: (i64, &str) = (0, "Unknown");
const ALLOWED: (i64, &str) = (1, "Allowed");
const DENIED: (i64, &str) = (2, "Denied");
const OBSERVED: (i64, &str) = (3, "Observed");
const MODIFIED: (i64, &str) = (4, "Modified");

const fn both(action: (i64, &'static str), id: i64, text: &'static str) -> Disposition<'static> {
    Disposition { action, disposition: (id, Cow::Borrowed(text)) }
}

/// Junk has no number of its own.
const JUNKED: Disposition<'_> = both(MODIFIED, 99, "Junked");

/// What `activity_id` says of a mail row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Activity {
    Unknown = 0,
    Send = 1,
    Receive = 2,
    Scan = 3,
}

/// What `direction_id` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Unknown = 0,
    Inbound = 1,
    Outbound = 2,
    Internal = 3,
}

/// The direction of a mail from `EmailDirection`.
pub(super) fn direction(text: &str) -> Direction {
    match () {
        () if is(text, "inbound") => Direction::Inbound,
        () if is(text, "outbound") => Direction::Outbound,
        () if is(text, "intraorg") => Direction::Internal,
        () => Direction::Unknown,
    }
}

/// The activity of a row of `EmailEvents`: a later row of a mail already seen is another look at it.
pub(super) fn activity(direction: Direction, tags: &Tags) -> Activity {
    if tags.contains(Tag::ReVerdict) {
        return Activity::Scan;
    }
    match direction {
        Direction::Inbound | Direction::Internal => Activity::Receive,
        Direction::Outbound => Activity::Send,
        Direction::Unknown => Activity::Unknown,
    }
}

/// Whether the letters of `text`, whatever their case and whatever stands between them, are `letters`
/// (which are lower case).
fn is(text: &str, letters: &str) -> bool {
    let mut expected = letters.bytes();
    text.bytes()
        .filter(u8::is_ascii_alphabetic)
        .all(|byte| expected.next() == Some(byte.to_ascii_lowercase()))
        && expected.next().is_none()
}

fn is_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| is(text, word))
}

/// What became of a mail at delivery. The location decides, the action only where there is no known
/// location or where it says more.
pub(super) fn at_delivery(action: &str, location: &str) -> Disposition<'static> {
    if is_any(location, &["inboxfolder", "inbox"]) || is_out_of_tenant(location) {
        return match () {
            () if is(action, "blocked") => both(DENIED, 2, "Blocked"),
            () if is(action, "replaced") => both(MODIFIED, 11, "Corrected"),
            () => both(ALLOWED, 1, "Allowed"),
        };
    }
    if is(location, "quarantine") {
        return both(DENIED, 3, "Quarantined");
    }
    if is_any(location, &["junkfolder", "junk", "junkemailfolder"])
        || is_any(location, &["deleteditems", "deleteditemsfolder", "deletedfolder"])
    {
        return JUNKED;
    }
    if is_failed(location) {
        return both(DENIED, 25, "Rejected");
    }
    if is(location, "dropped") {
        return both(DENIED, 6, "Dropped");
    }
    match () {
        () if is(action, "delivered") => both(ALLOWED, 1, "Allowed"),
        () if is(action, "replaced") => both(MODIFIED, 11, "Corrected"),
        () if is_any(action, &["junked", "junk", "deliveredasspam", "deliveredtojunk"]) => JUNKED,
        () if is(action, "blocked") => both(DENIED, 2, "Blocked"),
        () => both(UNKNOWN, 0, "Unknown"),
    }
}

fn is_out_of_tenant(location: &str) -> bool {
    is_any(location, &["onpremisesexternal", "onpremexternal", "external", "forwarded"])
}

fn is_failed(location: &str) -> bool {
    is_any(location, &["failed", "deliveredfailed", "deliveryfailed"])
}

/// `status_id` of a row of `EmailEvents`.
pub(super) fn delivery_status<'a>(action: Cow<'a, str>, location: &str) -> Word<'a> {
    match () {
        () if is_failed(location) => (2, "Failure".into()),
        () if is_any(&action, &["delivered", "replaced"]) => (1, "Success".into()),
        () if action.is_empty() => (0, "Unknown".into()),
        () => (99, action),
    }
}

/// `status_id` of a row of `EmailPostDeliveryEvents`.
pub(super) fn action_status(result: &str) -> (i64, &'static str) {
    match () {
        () if result.is_empty() => UNKNOWN,
        () if is_any(result, &["success", "usertriaged"]) => (1, "Success"),
        () => (2, "Failure"),
    }
}

/// What became of a mail after delivery.
pub(super) fn after_delivery<'a>(action: Cow<'a, str>, status: i64) -> Disposition<'a> {
    if status == 2 {
        return both(OBSERVED, 27, "Error");
    }
    match () {
        () if action.is_empty() => both(UNKNOWN, 0, "Unknown"),
        () if is_any(&action, &["movedtoquarantine", "sendtoquarantine", "quarantine"]) => {
            both(DENIED, 3, "Quarantined")
        }
        () if is_any(&action, &["softdelete", "harddelete", "movedtodeleteditems"]) => {
            both(DENIED, 5, "Deleted")
        }
        () if is_any(&action, &["movedtojunkfolder", "movedtojunk"]) => JUNKED,
        () if is_any(&action, &["quarantinerelease", "movedtoinbox"]) => {
            both(ALLOWED, 9, "Restored")
        }
        () if is(&action, "reprocessed") => both(ALLOWED, 10, "Exonerated"),
        () if is(&action, "blocked") => both(DENIED, 2, "Blocked"),
        () => Disposition { action: (99, "Other"), disposition: (99, action) },
    }
}

/// `severity_id` by what the tags say; informational where they say nothing.
pub(super) fn severity(tags: &Tags) -> i64 {
    let has = |tag| tags.contains(tag);
    match () {
        () if tags.is_empty() => 1,
        () if has(Tag::AllowedHcPhish) || has(Tag::AllowedMalware) => 4,
        () if has(Tag::AllowedPhish) => 3,
        () if has(Tag::AllowedSpam)
            || has(Tag::LateConviction)
            || has(Tag::LateConvictionUnderOverride) =>
        {
            2
        }
        () => 1,
    }
}

/// `severity_id` by an alert's own word.
pub(super) fn severity_word(text: &str) -> i64 {
    match () {
        () if is(text, "informational") => 1,
        () if is(text, "low") => 2,
        () if is(text, "medium") => 3,
        () if is(text, "high") => 4,
        () => 0,
    }
}

/// Whether somebody should be told.
pub(super) fn is_alert(tags: &Tags) -> bool {
    [Tag::AllowedHcPhish, Tag::AllowedMalware, Tag::OverrideHarmful]
        .into_iter()
        .any(|tag| tags.contains(tag))
}

/// `confidence_id`: how sure the filter was that this is phish.
pub(super) fn confidence(event: &Event, row: &Row<'_>) -> (i64, &'static str) {
    const HIGH: (i64, &str) = (3, "High");
    let Decision { verdict, .. } = event.decision;
    let original = Column::OriginalConfidenceLevel;
    let column = if row.text(original).is_some() { original } else { Column::ConfidenceLevel };
    if verdict == Some(Verdict::HcPhish) {
        return HIGH;
    }
    let Some(text) = row.text(column) else { return UNKNOWN };
    // Most rows have an SCL and nothing else: not worth decoding.
    if is_scl_only(&text) {
        return UNKNOWN;
    }
    let tier = match row.json(column) {
        Some(serde_json::Value::Object(levels)) => levels
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case("phish"))
            .and_then(|(_, tier)| tier.as_str().map(str::to_owned)),
        Some(serde_json::Value::Array(words)) => {
            words.first().and_then(|tier| tier.as_str().map(str::to_owned))
        }
        Some(serde_json::Value::String(word)) => Some(word),
        _ => None,
    };
    match tier {
        Some(tier) if is(&tier, "high") => HIGH,
        Some(tier) if is_any(&tier, &["normal", "low", "medium"]) => (2, "Medium"),
        _ => UNKNOWN,
    }
}

/// `confidence_id` by the one word that audit records have.
pub(super) fn confidence_word(text: &str) -> (i64, &'static str) {
    match () {
        () if is(text, "high") => (3, "High"),
        () if is_any(text, &["normal", "low", "medium"]) => (2, "Medium"),
        () => UNKNOWN,
    }
}

/// `{"Spam":"1"}` or a bare number.
fn is_scl_only(text: &str) -> bool {
    let number = text.strip_prefix("{\"Spam\":\"").and_then(|rest| rest.strip_suffix("\"}"));
    number.unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// The threat word that means malware, as the source spells it, if `ThreatTypes` has one.
pub(super) fn malware_word(threat_types: &str) -> Option<&str> {
    threat_types
        .split([',', ';', '|'])
        .map(str::trim)
        .find(|word| is_any(word, &["malware", "malicious"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_decides_and_action_only_where_it_says_more() {
        #[track_caller]
        fn check(action: &str, location: &str, expected: (i64, i64)) {
            let found = at_delivery(action, location);
            assert_eq!((found.action.0, found.disposition.0), expected, "{action} {location}");
        }
        check("Delivered", "Inbox/folder", (1, 1));
        check("Delivered", "On-premises/external", (1, 1));
        check("Delivered", "Forwarded", (1, 1));
        check("Blocked", "Inbox/folder", (2, 2));
        check("Replaced", "Inbox/Folder", (4, 11));
        check("Delivered", "Quarantine", (2, 3));
        check("Blocked", "Dropped", (2, 6));
        check("Blocked", "Delivered failed", (2, 25));
        check("Junked", "Junk Email folder", (4, 99));
        check("Delivered", "Deleted Items folder", (4, 99));
        check("DeliveredAsSpam", "Unknown", (4, 99));
        check("Delivered", "", (1, 1));
        check("", "", (0, 0));
        check("Teleported", "Moon", (0, 0));
    }

    #[test]
    fn what_happens_after_delivery_has_a_disposition_and_a_failure_is_only_observed() {
        #[track_caller]
        fn check(action: &str, result: &str, expected: (i64, i64)) {
            let found = after_delivery(action.into(), action_status(result).0);
            assert_eq!((found.action.0, found.disposition.0), expected, "{action} {result}");
        }
        check("Moved to quarantine", "Success", (2, 3));
        check("Soft delete", "UserTriaged", (2, 5));
        check("Hard delete", "", (2, 5));
        check("Moved to quarantine", "Error", (3, 27));
        check("Moved to junk folder", "Success", (4, 99));
        check("Quarantine release", "Success", (1, 9));
        check("Moved to inbox", "Success", (1, 9));
        check("Reprocessed", "Success", (1, 10));
        check("Redirect", "Success", (99, 99));
        check("", "Success", (0, 0));
    }

    #[test]
    fn the_status_keeps_the_source_s_word_where_no_number_fits() {
        assert_eq!(delivery_status("Delivered".into(), "Inbox/folder"), (1, "Success".into()));
        assert_eq!(delivery_status("Blocked".into(), "Failed"), (2, "Failure".into()));
        assert_eq!(delivery_status("Junked".into(), "Junk"), (99, "Junked".into()));
        assert_eq!(delivery_status("".into(), "Inbox"), (0, "Unknown".into()));
    }

    #[test]
    fn malware_is_found_among_several_words() {
        assert_eq!(malware_word("Spam, Malware"), Some("Malware"));
        assert_eq!(malware_word("Phish|Malicious"), Some("Malicious"));
        assert_eq!(malware_word("Phish"), None);
    }
}
