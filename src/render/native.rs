//! The native event: everything Postern knows of one event, with the row as it came. The contract that
//! users, rules and other tools rely on; other schemas are projections of it.

use crate::domain::{Event, Issue, Override, Reason};

use super::json::Writer;

/// Issues whose code says already where they are; the others are written `code:column`.
const NAMES_ITS_PLACE: [&str; 4] =
    [Issue::IDENTITY_FALLBACK, Issue::BAD_TIMESTAMP, Issue::UNKNOWN_TABLE, Issue::FOREIGN_TENANT];

/// Appends `event` as one JSON object. Keys stand in the contract's order; what is empty is left out.
pub(super) fn write(event: &Event, out: &mut Vec<u8>) {
    let row = event.row_bytes();
    out.reserve(row.len() + 512);
    let mut json = Writer::new(out);
    json.open();
    json.key("id");
    json.plain(&event.id.hex());
    json.key("kind");
    json.plain(event.kind.as_str().as_bytes());
    member(&mut json, "table", event.table.name());
    member(&mut json, "tenant", &event.tenant);
    member(&mut json, "source", &event.source);
    for (key, time) in
        [("occurred", event.occurred), ("observed", event.observed), ("ingested", event.ingested)]
    {
        if let Some(time) = time {
            json.key(key);
            json.ticks(time);
        }
    }
    if let Some(arrival) = event.arrival {
        json.key("arrival");
        json.plain(arrival.as_str().as_bytes());
    }
    decision(&mut json, event);
    if !event.issues.is_empty() {
        json.key("issues");
        json.open_list();
        for issue in &event.issues {
            json.element();
            if issue.at.is_empty() || NAMES_ITS_PLACE.contains(&&*issue.code) {
                json.text(&issue.code);
            } else {
                json.joined(&[&issue.code, ":", &issue.at]);
            }
        }
        json.close_list();
    }
    if !row.is_empty() {
        json.key("raw");
        json.splice(row);
    }
    json.close();
}

fn decision(json: &mut Writer<'_>, event: &Event) {
    let decision = &event.decision;
    if !decision.tags.is_empty() {
        json.key("tags");
        json.open_list();
        for word in decision.tags.words() {
            json.element();
            json.text(word);
        }
        json.close_list();
    }
    if let Some(verdict) = decision.verdict {
        json.key("verdict");
        json.plain(verdict.as_str().as_bytes());
    }
    if let Some(latest) = decision.latest_verdict.filter(|it| Some(*it) != decision.verdict) {
        json.key("latest_verdict");
        json.plain(latest.as_str().as_bytes());
    }
    if let Some(outcome) = decision.outcome {
        json.key("outcome");
        json.plain(outcome.as_str().as_bytes());
    }
    if !decision.flags.is_empty() {
        json.key("flags");
        json.open_list();
        for flag in decision.flags.iter() {
            json.element();
            json.plain(flag.as_str().as_bytes());
        }
        json.close_list();
    }
    if !decision.overrides.is_empty() {
        json.key("overrides");
        json.open_list();
        for found in &decision.overrides {
            json.element();
            write_override(json, found);
        }
        json.close_list();
    }
    if !decision.reasons.is_empty() {
        json.key("reasons");
        json.open_list();
        for reason in &decision.reasons {
            json.element();
            write_reason(json, reason);
        }
        json.close_list();
    }
}

/// One override as an object, the same in every schema that has room for it.
pub(super) fn write_override(json: &mut Writer<'_>, found: &Override) {
    json.open();
    json.key("level");
    json.plain(found.level.as_str().as_bytes());
    json.key("direction");
    json.plain(found.direction.as_str().as_bytes());
    json.key("kind");
    json.plain(found.kind.as_str().as_bytes());
    member(json, "policy", &found.policy);
    json.key("effect");
    json.plain(found.effect.as_str().as_bytes());
    if let Some(why) = found.why {
        json.key("why");
        json.plain(why.as_str().as_bytes());
    }
    if let Some(certainty) = found.certainty {
        json.key("certainty");
        json.plain(certainty.as_str().as_bytes());
    }
    json.key("primary");
    json.flag(found.primary);
    json.close();
}

fn write_reason(json: &mut Writer<'_>, reason: &Reason) {
    json.open();
    member(json, "tag", &reason.tag);
    member(json, "rule", &reason.rule);
    if !reason.because.is_empty() {
        json.key("because");
        json.open();
        for (column, value) in &reason.because {
            json.foreign_key(column);
            json.text(value);
        }
        json.close();
    }
    json.close();
}

fn member(json: &mut Writer<'_>, key: &str, text: &str) {
    if !text.is_empty() {
        json.key(key);
        json.text(text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::domain::{
        Arrival, Certainty, Decision, Direction, Effect, EventId, Flag, Issue, Kind, Level,
        Outcome, OverrideKind, Raw, Table, Tag, Ticks, Verdict, Why,
    };

    use super::*;

    fn bare(raw: &str) -> Event {
        Event {
            id: EventId([0xAB; 16]),
            kind: Kind::Email,
            table: Table::EmailEvents,
            tenant: Arc::from(""),
            source: Arc::from("file"),
            occurred: None,
            observed: None,
            ingested: None,
            arrival: None,
            key: None,
            recipient: None,
            decision: Decision::default(),
            issues: Vec::new(),
            row: (0, u32::try_from(raw.len()).unwrap()),
            raw: Raw::new(raw.as_bytes()),
        }
    }

    fn line(event: &Event) -> String {
        let mut out = Vec::new();
        write(event, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_empty_is_left_out() {
        assert_eq!(
            line(&bare("{\n \"Subject\": \"\\ud800\" }")),
            concat!(
                r#"{"id":"abababababababababababababababab","kind":"email","#,
                r#""table":"EmailEvents","source":"file","raw":{ "Subject": "\ud800" }}"#
            )
        );
    }

    #[test]
    fn a_full_event_has_every_key_in_the_order_of_the_contract() {
        let mut event = bare(r#"{"time":"x","properties":{"A":1}}"#);
        event.row = (25, 32);
        event.tenant = "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a".into();
        event.source = "hub".into();
        event.occurred = Some(Ticks::parse("2026-08-20T09:11:04Z").unwrap());
        event.observed = Some(Ticks::parse("2026-08-20T09:13:32.3832981Z").unwrap());
        event.ingested = Some(Ticks::parse("2026-08-20T09:14:00Z").unwrap());
        event.arrival = Some(Arrival::Live);
        let decision = &mut event.decision;
        let because = vec![("OrgLevelAction".into(), "Allow \"x\"".into())];
        decision.tag(Tag::OverrideHarmful, "2.5", because);
        decision.tag(Tag::AllowedHcPhish, "2.5", Vec::new());
        decision.tags.insert_user("vip");
        decision.verdict = Some(Verdict::HcPhish);
        decision.latest_verdict = Some(Verdict::Clean);
        decision.outcome = Some(Outcome::Delivered);
        decision.flags.insert(Flag::SpamFilterSkipped);
        decision.flags.insert(Flag::VerdictInferred);
        decision.overrides.push(Override {
            level: Level::Tenant,
            direction: Direction::Allow,
            kind: OverrideKind::TransportRule,
            policy: "Exchange transport rule".into(),
            effect: Effect::Effective,
            why: Some(Why::BeatABlock),
            certainty: Some(Certainty::Low),
            primary: true,
        });
        event.issues.push(Issue::new(Issue::IDENTITY_FALLBACK, "NetworkMessageId"));
        event.issues.push(Issue::new(Issue::ODD_TYPE, "Subject"));
        assert_eq!(
            line(&event),
            concat!(
                r#"{"id":"abababababababababababababababab","kind":"email","table":"EmailEvents","#,
                r#""tenant":"9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a","source":"hub","#,
                r#""occurred":"2026-08-20T09:11:04Z","observed":"2026-08-20T09:13:32.3832981Z","#,
                r#""ingested":"2026-08-20T09:14:00Z","arrival":"live","#,
                r#""tags":["allowed.hc_phish","override.harmful","user.vip"],"#,
                r#""verdict":"hc_phish","latest_verdict":"clean","outcome":"delivered","#,
                r#""flags":["verdict_inferred","spam_filter_skipped"],"#,
                r#""overrides":[{"level":"tenant","direction":"allow","kind":"transport_rule","#,
                r#""policy":"Exchange transport rule","effect":"effective","why":"beat_a_block","#,
                r#""certainty":"low","primary":true}],"#,
                r#""reasons":[{"tag":"override.harmful","rule":"2.5","#,
                r#""because":{"OrgLevelAction":"Allow \"x\""}},{"tag":"allowed.hc_phish","rule":"2.5"}],"#,
                r#""issues":["identity_fallback","odd_type:Subject"],"raw":{"A":1}}"#
            )
        );
    }
}
