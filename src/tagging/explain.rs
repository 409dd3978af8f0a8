//! A decision in words, for a person at a terminal: what the filter found, what came of the mail, what each
//! override asked for and did, why each tag is there, and what may not be concluded. It decides nothing.

use std::fmt::Write as _;

use crate::domain::{
    Certainty, Decision, Direction, Effect, Event, Flag, Kind, Level, Outcome, Override, Tag,
    Verdict, Why,
};

/// Appends the explanation of `event` to `out`, ending with a line end. Values of the record are quoted and
/// stay on their line, so a hostile subject or policy cannot pretend to be our words.
pub fn explain(event: &Event, out: &mut String) {
    let decision = &event.decision;
    heading(event, out);
    if let Some(verdict) = decision.verdict {
        line(out, &verdict_words(verdict, decision));
    }
    if let Some(latest) = decision.latest_verdict {
        line(out, &format!("Today the filter says: {}.", found_words(latest)));
    }
    if let Some(outcome) = decision.outcome {
        line(out, outcome_words(outcome));
    }
    for found in &decision.overrides {
        override_words(found, decision, out);
    }
    if decision.overrides.is_empty() && matches!(event.kind, Kind::Email | Kind::EmailActivity) {
        line(out, "No override is named.");
    }
    if decision.flags.contains(Flag::SeveralPolicies) {
        line(out, "A policy column names several policies; the first one was taken for the kind.");
    }
    for reason in &decision.reasons {
        let mut text = format!("Tag {} (rule {})", reason.tag, reason.rule);
        for (place, (column, value)) in reason.because.iter().enumerate() {
            let before = if place == 0 { ", because " } else { ", " };
            let _ = write!(text, "{before}{column} is {value:?}");
        }
        line(out, &text);
    }
    if decision.tags.is_empty() {
        line(out, "No tags.");
    }
    cautions(decision, out);
    for issue in &event.issues {
        let place = if issue.at.is_empty() { String::new() } else { format!(" at {:?}", issue.at) };
        line(out, &format!("Odd about the record: {}{place}.", issue.code));
    }
}

fn heading(event: &Event, out: &mut String) {
    let _ = write!(out, "{} {}", event.kind, event.id);
    if let Some(key) = &event.key {
        let _ = write!(out, " {key:?}");
    }
    if let Some(recipient) = &event.recipient {
        let _ = write!(out, " to {recipient:?}");
    }
    if let Some(occurred) = event.occurred {
        let _ = write!(out, " at {occurred}");
    }
    out.push('\n');
}

fn line(out: &mut String, text: &str) {
    out.push_str("  ");
    out.push_str(text);
    out.push('\n');
}

fn found_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clean => "nothing found",
        Verdict::Malware => "malware",
        Verdict::HcPhish => "high-confidence phish",
        Verdict::Phish => "phish of normal or unknown confidence",
        Verdict::Spam => "spam or bulk",
        Verdict::Confounded => "not told apart from a block",
    }
}

fn verdict_words(verdict: Verdict, decision: &Decision) -> String {
    if verdict == Verdict::Confounded {
        return "At delivery a block applied that itself marks mail, so what the filter alone found cannot be told."
            .to_owned();
    }
    let mut text = format!("At delivery the filter said: {}", found_words(verdict));
    if decision.flags.contains(Flag::VerdictInferred) {
        text.push_str(" (inferred: the threat types are empty)");
    }
    if decision.flags.contains(Flag::SpamFilterSkipped) {
        text.push_str("; the spam filter did not run (SCL -1)");
    }
    text.push('.');
    text
}

const fn outcome_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => {
            "It was delivered to where the user can open it, or left the organization."
        }
        Outcome::Junk => "It went to junk or deleted items.",
        Outcome::Blocked => "It was kept out: quarantined, failed or dropped.",
        Outcome::Unknown => "The record does not say where it ended up.",
    }
}

fn override_words(found: &Override, decision: &Decision, out: &mut String) {
    let whose = match found.level {
        Level::Tenant => "The organization's",
        Level::User => "The user's",
    };
    let mut text = format!("{whose} setting {}", found.kind);
    if !found.policy.is_empty() {
        let _ = write!(text, " ({:?})", found.policy);
    }
    text.push_str(match found.direction {
        Direction::Allow => " asked to let it in",
        Direction::Block => " asked to keep it out",
        Direction::Unknown => " is named, but not what it asked for",
    });
    text.push_str(": ");
    text.push_str(effect_words(found, decision));
    if let Some(why) = found.why {
        let _ = write!(text, ", {}", why_words(why));
    }
    text.push('.');
    if let Some(certainty) = found.certainty {
        let _ = write!(text, " {}", certainty_words(certainty));
    }
    if found.primary && decision.overrides.len() > 1 {
        text.push_str(" If only one may be named, it is this one.");
    }
    line(out, &text);
}

fn effect_words(found: &Override, decision: &Decision) -> &'static str {
    match (found.effect, found.direction) {
        (Effect::Effective, Direction::Block) => "it kept it out",
        (Effect::Effective, _) => "it had its way",
        (Effect::Ineffective, _) => "it did not get its way",
        (Effect::Expected, _) => "it did what it exists for",
        (Effect::Unnecessary, _) => "nothing asked for it, the mail would have come in without it",
        (Effect::LateConviction, _) => {
            "nothing asked for it at delivery, but the mail was convicted later"
        }
        (Effect::PostDelivery, _) => "it acted after delivery",
        (Effect::NotEvaluated, _) => "outgoing mail is not judged",
        (Effect::Unknown, _) if decision.tags.contains(Tag::ReVerdict) => {
            "a later row does not tell what it did at delivery"
        }
        (Effect::Unknown, _) => "what it did cannot be told from this record",
    }
}

const fn why_words(why: Why) -> &'static str {
    match why {
        Why::SecureByDefault => {
            "since malware and high-confidence phish are quarantined whatever an allow says"
        }
        Why::OtherControl => "since another control kept the mail out",
        Why::TenantBlockWins => "since the organization's block won",
        Why::UserBlockWins => "since the user's block won",
        Why::UserAllowWins => "since the user's allow won",
        Why::TenantAllowWins => "since the organization's allow won",
        Why::JunkedAnyway => "since the mail went to junk anyway",
        Why::NotHonoured => "though nothing spoke against it",
        Why::BeatABlock => "against a block of the other level",
        Why::NotFinal => "since the record says that it did not decide",
    }
}

const fn certainty_words(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::High => {
            "That is certain as far as it goes: the spam filter ran and found nothing."
        }
        Certainty::Medium => {
            "That is fairly certain: there is no SCL to say whether the spam filter ran."
        }
        Certainty::Low => {
            "That is weak: filtering was switched off, or the allow removes the very verdict to look for."
        }
    }
}

/// What may not be concluded.
fn cautions(decision: &Decision, out: &mut String) {
    let weak = decision.overrides.iter().any(|found| found.certainty == Some(Certainty::Low));
    if weak {
        line(
            out,
            "It does not follow that the override can be removed: only no detection needed it here.",
        );
    }
    let allows =
        decision.overrides.iter().filter(|found| found.direction == Direction::Allow).count();
    if allows > 1 {
        line(
            out,
            "It does not follow that removing one of the allows changes anything: the other one remains.",
        );
    }
    let tags = &decision.tags;
    if tags.contains(Tag::AllowedPhish) {
        line(
            out,
            "It does not follow that the phish was of low confidence: what is not said to be high may be unknown.",
        );
    }
    if tags.contains(Tag::VerdictWithdrawn) {
        line(out, "It does not follow that harm was done: the verdict was withdrawn later.");
    }
    if tags.contains(Tag::ZapFailed) {
        line(out, "It does not follow that the mail is still there: the user may have moved it.");
    }
    if tags.contains(Tag::ReVerdict) {
        line(
            out,
            "It does not follow that the mail had this verdict at delivery: only its first row tells.",
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::{Chunk, Event, Position, Raw, Shape, Table};
    use crate::normalize::{Context, Normalized, SIZE_CAP, each};
    use crate::tagging;

    use super::*;

    fn event_of(row: &str) -> Event {
        let context = Context {
            tenant: "".into(),
            source: "file".into(),
            ingested: None,
            normal_lag_seconds: 0,
            backfill: false,
            size_cap: SIZE_CAP,
        };
        let chunk = Chunk {
            raw: Raw::new(row.as_bytes()),
            shape: Shape::Row(Table::EmailEvents),
            position: Position::None,
            observed: None,
            backfill: false,
        };
        let mut found = None;
        each(&chunk, &context, &mut |normalized| {
            if let Normalized::Event { mut event, row, .. } = normalized {
                event.decision = tagging::decide(&event, row);
                found = Some(event);
            }
        });
        found.unwrap()
    }

    #[track_caller]
    fn check(row: &str, expected: &[&str]) {
        let mut out = String::new();
        explain(&event_of(row), &mut out);
        for part in expected {
            assert!(out.contains(part), "{part:?} is not in:\n{out}");
        }
    }

    #[test]
    fn a_person_reads_what_was_found_what_came_of_it_and_why() {
        check(
            r#"{"Timestamp":"2026-08-20T09:11:04Z","NetworkMessageId":"m-1","RecipientEmailAddress":"Adele@contoso.example",
                "ThreatTypes":"Phish","ConfidenceLevel":"{\"Phish\":\"High\"}","OrgLevelAction":"Allow",
                "OrgLevelPolicy":"Exchange transport rule","DeliveryAction":"Delivered","DeliveryLocation":"Inbox/folder"}"#,
            &[
                "\"m-1\" to \"adele@contoso.example\" at 2026-08-20T09:11:04Z\n",
                "  At delivery the filter said: high-confidence phish.\n",
                "  The organization's setting transport_rule (\"Exchange transport rule\") asked to let it in: it had its way.\n",
                "  Tag allowed.hc_phish (rule allow.delivered.verdict), because OrgLevelAction is \"Allow\", ",
                "DeliveryLocation is \"Inbox/folder\"\n",
            ],
        );
    }

    #[test]
    fn what_would_not_follow_is_said() {
        check(
            r#"{"ConfidenceLevel":"{\"Spam\":\"-1\"}","OrgLevelAction":"Allow","UserLevelAction":"Allow","DeliveryAction":"Delivered"}"#,
            &[
                "the spam filter did not run (SCL -1).",
                "would have come in without it. That is weak",
                "It does not follow that the override can be removed",
                "It does not follow that removing one of the allows changes anything",
                "Odd about the record: identity_fallback.\n",
                "Odd about the record: bad_timestamp at \"Timestamp\".\n",
            ],
        );
        check(
            r#"{"ThreatTypes":"Spam","OrgLevelAction":"Block","OrgLevelPolicy":"ETR","UserLevelAction":"Allow","DeliveryAction":"Delivered"}"#,
            &[
                "what the filter alone found cannot be told",
                "asked to keep it out: it did not get its way, since the user's allow won.",
                "If only one may be named, it is this one.",
            ],
        );
    }

    #[test]
    fn text_of_the_record_cannot_pretend_to_be_ours() {
        let mut out = String::new();
        let row =
            r#"{"OrgLevelAction":"Allow","OrgLevelPolicy":"x\n  Tag override.harmful\u001b[2J"}"#;
        explain(&event_of(row), &mut out);
        assert!(!out.contains("\n  Tag override.harmful") && !out.contains('\u{1b}'), "{out}");
    }
}
