//! A record's decision in plain words, for a person at a terminal. What it says is all in the event; nothing
//! is judged here.

use std::fmt::Write as _;

use crate::domain::{Decision, Event, Override};

/// The reading of `event`: what it is, what the filter said, each override, and each tag with its reason.
#[must_use]
pub fn explain(event: &Event) -> String {
    let mut text = String::new();
    let Decision { verdict, latest_verdict, outcome, overrides, reasons, .. } = &event.decision;
    let _ = write!(text, "{} {}", event.kind, event.id);
    if let Some(key) = &event.key {
        let _ = write!(text, " {key}");
    }
    if let Some(recipient) = &event.recipient {
        let _ = write!(text, " to {recipient}");
    }
    text.push('\n');
    if let Some(verdict) = verdict {
        let _ = write!(text, "  filter verdict: {verdict}");
        if let Some(latest) = latest_verdict {
            let _ = write!(text, ", now {latest}");
        }
        text.push('\n');
    }
    if let Some(outcome) = outcome {
        let _ = writeln!(text, "  outcome at delivery: {outcome}");
    }
    for flag in event.decision.flags.iter() {
        let _ = writeln!(text, "  note: {flag}");
    }
    for found in overrides {
        line_of(found, &mut text);
    }
    for reason in reasons {
        let _ = write!(text, "  {} by rule {}", reason.tag, reason.rule);
        for (place, (column, value)) in reason.because.iter().enumerate() {
            let lead = if place == 0 { " because " } else { ", " };
            let _ = write!(text, "{lead}{column} is {value:?}");
        }
        text.push('\n');
    }
    if reasons.is_empty() {
        text.push_str("  no tags\n");
    }
    for issue in &event.issues {
        let _ = writeln!(text, "  issue: {} {}", issue.code, issue.at);
    }
    text
}

fn line_of(found: &Override, text: &mut String) {
    let Override { level, direction, kind, effect, .. } = found;
    let _ = write!(text, "  {level} {direction} ({kind}");
    if !found.policy.is_empty() {
        let _ = write!(text, ", {:?}", found.policy);
    }
    let _ = write!(text, "): {effect}");
    if let Some(why) = found.why {
        let _ = write!(text, ", {why}");
    }
    if let Some(certainty) = found.certainty {
        let _ = write!(text, ", certainty {certainty}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::domain::{Chunk, Position, Raw, Shape, Table};
    use crate::normalize::{self, Context, Normalized};
    use crate::tagging;

    use super::*;

    #[test]
    fn an_override_is_told_with_its_effect_and_each_tag_with_its_columns() {
        let row = r#"{"NetworkMessageId":"m1","RecipientEmailAddress":"Adele@contoso.example",
            "ReportId":"r","Timestamp":"2026-08-20T09:11:04Z","EmailDirection":"Inbound",
            "ThreatTypes":"Phish","ConfidenceLevel":"{\"Phish\":\"High\"}","OrgLevelAction":"Allow",
            "OrgLevelPolicy":"Exchange transport rule","DeliveryAction":"Delivered",
            "DeliveryLocation":"Inbox/folder"}"#;
        let chunk = Chunk {
            raw: Raw::new(row.as_bytes()),
            shape: Shape::Row(Table::EmailEvents),
            position: Position::None,
            observed: None,
        };
        let context = Context {
            tenant: Arc::from(""),
            source: Arc::from("file"),
            ingested: None,
            normal_lag_seconds: 0,
            backfill: false,
            size_cap: normalize::SIZE_CAP,
        };
        let mut text = String::new();
        normalize::each(&chunk, &context, &mut |found| {
            let Normalized::Event { mut event, row, .. } = found else { panic!("{found:?}") };
            event.decision = tagging::decide(&event, row);
            text = explain(&event);
        });
        for part in [
            "m1 to adele@contoso.example\n",
            "  filter verdict: hc_phish\n  outcome at delivery: delivered\n",
            "  tenant allow (transport_rule, \"Exchange transport rule\"): effective",
            "  allowed.hc_phish by rule ",
            "OrgLevelAction is \"Allow\"",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
