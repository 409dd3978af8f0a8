//! What happened to a mail after delivery, as far as one row tells: removed, released, clicked. Joining it
//! with the row at delivery is the lifecycle reader's business.

use super::decide::shown;
use super::judge::released;
use super::verdict::{self, PLAIN};
use crate::domain::{Decision, Tag};
use crate::normalize::{Column, Row};

const ACTION: [Column; 4] =
    [Column::ActionType, Column::Action, Column::ActionTrigger, Column::ActionResult];

/// A row of `EmailPostDeliveryEvents`.
#[must_use]
pub(super) fn action(row: &Row<'_>) -> Decision {
    let mut decision = Decision::default();
    let [kind, action, trigger, result] = ACTION.map(|column| squeezed(row, column));
    let succeeded = ["success", "usertriaged"].iter().any(|word| result.starts_with(word))
        || result.ends_with("successfully");
    // Without a result nothing is claimed of a removal. A release is told of when it has happened.
    let failed = !succeeded && !result.is_empty();
    let by_admin = trigger.contains("adminaction") || kind.contains("manualremediation");

    if action.contains("quarantinerelease") || kind.contains("quarantinerelease") {
        if !failed {
            decision.tag(Tag::QuarantineRelease, "after_delivery.released", shown(row, &ACTION));
            decision.tag(Tag::OverrideAllow, "after_delivery.released", shown(row, &ACTION));
            tag_released(row, &mut decision);
        }
    } else if action.contains("movedtoinbox") && by_admin {
        if !failed {
            tag_released(row, &mut decision);
        }
    } else if kind.ends_with("zap") {
        if succeeded {
            decision.tag(Tag::RemediatedZap, "after_delivery.zap", shown(row, &ACTION));
        } else if failed {
            decision.tag(Tag::ZapFailed, "after_delivery.zap", shown(row, &ACTION));
        }
    } else if kind.contains("automatedremediation") {
        if succeeded {
            decision.tag(Tag::RemediatedAir, "after_delivery.air", shown(row, &ACTION));
        }
    } else if by_admin && succeeded && removes(&action) {
        decision.tag(Tag::RemediatedAdmin, "after_delivery.admin", shown(row, &ACTION));
    }
    decision
}

/// A row of `UrlClickEvents`.
#[must_use]
pub(super) fn click(row: &Row<'_>) -> Decision {
    let mut decision = Decision::default();
    if row.flag(Column::IsClickedThrough) == Some(true) {
        let because = shown(row, &[Column::IsClickedThrough, Column::ActionType]);
        decision.tag(Tag::ClickedThrough, "after_delivery.click", because);
    }
    decision
}

/// Tags the classes of a mail that came back. The row has no confidence of its own in most tenants, so
/// phish counts as high-confidence only where it says so.
fn tag_released(row: &Row<'_>, decision: &mut Decision) {
    for class in verdict::found(row, PLAIN).classes.each() {
        let mut because = shown(row, &ACTION);
        because.extend(shown(row, &PLAIN));
        decision.tag(released(class), "after_delivery.released", because);
    }
}

fn removes(action: &str) -> bool {
    action.contains("delete")
        || (action.starts_with("move") || action.starts_with("send"))
            && ["quarantine", "junk", "deleteditems"].iter().any(|place| action.contains(place))
}

/// The letters of a column, lower-cased.
fn squeezed(row: &Row<'_>, column: Column) -> String {
    let text = row.text(column).unwrap_or_default();
    text.chars()
        .filter(char::is_ascii_alphabetic)
        .map(|letter| letter.to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(row: &str, tags: &[Tag]) {
        let row = Row::parse(row.as_bytes()).unwrap();
        let decision = action(&row);
        assert_eq!(decision.tags.fixed().collect::<Vec<_>>(), tags, "{row:?}");
        assert_eq!(decision.reasons.len(), tags.len());
        assert!(decision.reasons.iter().all(|reason| reason.because.len() > 1));
    }

    #[test]
    fn removals_count_only_when_they_succeeded() {
        check(r#"{"ActionType":"Phish ZAP","ActionResult":"Success"}"#, &[Tag::RemediatedZap]);
        check(
            r#"{"ActionType":"Spam ZAP","ActionTrigger":"SpecialAction","ActionResult":"UserTriaged"}"#,
            &[Tag::RemediatedZap],
        );
        check(r#"{"ActionType":"Malware ZAP","ActionResult":"Error"}"#, &[Tag::ZapFailed]);
        check(
            r#"{"ActionType":"Manual remediation","Action":"Soft delete","ActionResult":"Success"}"#,
            &[Tag::RemediatedAdmin],
        );
        check(
            r#"{"ActionType":"Remediation","Action":"Moved to deleted items","ActionTrigger":"AdminAction","ActionResult":"Success"}"#,
            &[Tag::RemediatedAdmin],
        );
        check(
            r#"{"ActionType":"Automated Remediation","Action":"Soft delete","ActionTrigger":"AdminAction","ActionResult":"Success"}"#,
            &[Tag::RemediatedAir],
        );
    }

    #[test]
    fn a_release_is_an_allow_and_phish_without_confidence_is_not_high() {
        check(
            r#"{"ActionType":"Quarantine release","Action":"Quarantine release","ActionTrigger":"AdminAction","ActionResult":"Success","ThreatTypes":"Phish"}"#,
            &[Tag::OverrideAllow, Tag::QuarantineRelease, Tag::ReleasedPhish],
        );
        check(
            r#"{"Action":"Quarantine release","ActionResult":"","ThreatTypes":"Malware, Phish","ConfidenceLevel":"{\"Phish\":\"High\"}"}"#,
            &[
                Tag::OverrideAllow,
                Tag::QuarantineRelease,
                Tag::ReleasedHcPhish,
                Tag::ReleasedMalware,
            ],
        );
        check(
            r#"{"ActionType":"Manual remediation","Action":"Moved to inbox","ActionResult":"Success","ThreatTypes":"Spam"}"#,
            &[Tag::ReleasedSpam],
        );
    }

    #[test]
    fn other_rows_of_the_table_say_nothing() {
        for row in [
            r#"{"ActionType":"Redelivery","Action":"Reprocessed","ActionTrigger":"SpecialAction","ActionResult":"Success","DeliveryLocation":"Inbox"}"#,
            r#"{"ActionType":"Phish ZAP","ActionResult":null}"#,
            r#"{"ActionType":"Manual remediation","Action":"Soft delete","ActionResult":"Error"}"#,
            r#"{"Action":"Quarantine release","ActionResult":"Failed"}"#,
            "{}",
        ] {
            check(row, &[]);
        }
    }

    #[test]
    fn only_a_click_through_is_tagged_on_a_click() {
        let tags = |json: &str| click(&Row::parse(json.as_bytes()).unwrap()).tags;
        assert!(tags(r#"{"IsClickedThrough":"1"}"#).contains(Tag::ClickedThrough));
        assert!(tags(r#"{"IsClickedThrough":false,"ActionType":"ClickAllowed"}"#).is_empty());
    }
}
