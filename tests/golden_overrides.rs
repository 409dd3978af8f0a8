//! The worked examples of the override rules, row by row, and what must hold for every row whatever is in it.
//! The examples are data: `fixtures/overrides.jsonl` gives the columns, the tags and the details.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

#[path = "golden_overrides/activity.rs"]
mod activity;

use postern::domain::{
    Chunk, Decision, Direction, Effect, Event, Flag, Level, Position, Raw, Shape, Table, Tag, Ticks,
};
use postern::normalize::{Column, Context, Normalized, Row, SIZE_CAP, each};
use postern::tagging;
use postern::tagging::judge::{Because, Facts, Witness, judge};
use postern::tagging::outcome::of_words;
use postern::tagging::overrides::{Asked, asked_for};
use postern::tagging::verdict::{Classes, Found, Tier};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const EXAMPLES: &str = include_str!("fixtures/overrides.jsonl");

fn examples() -> Vec<Value> {
    EXAMPLES.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn context() -> Context {
    Context {
        tenant: "11111111-2222-3333-4444-555555555555".into(),
        source: "hubs".into(),
        ingested: Ticks::parse("2026-08-20T09:20:00Z"),
        normal_lag_seconds: 1800,
        backfill: false,
        size_cap: SIZE_CAP,
    }
}

/// Normalizes and tags one bare row of `table`.
fn event_of(table: Table, row: &str) -> Option<Event> {
    let chunk = Chunk {
        raw: Raw::new(row.as_bytes()),
        shape: Shape::Row(table),
        position: Position::None,
        observed: None,
        backfill: false,
    };
    let mut found = None;
    each(&chunk, &context(), &mut |normalized| {
        if let Normalized::Event { mut event, row, .. } = normalized {
            event.decision = tagging::decide(&event, row);
            found = Some(event);
        }
    });
    found
}

fn decide(row: &Value) -> Decision {
    event_of(Table::EmailEvents, &row.to_string()).unwrap().decision
}

fn words(decision: &Decision) -> Vec<&str> {
    decision.tags.words().collect()
}

#[track_caller]
fn check_example(example: &Value, decision: &Decision) {
    let id = &example["id"];
    let tags: Vec<&str> =
        example["tags"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(words(decision), tags, "{id}: tags");
    let info = &example["info"];
    assert_eq!(json!(decision.verdict), info["filter_verdict"], "{id}: verdict");
    assert_eq!(json!(decision.outcome), info["outcome"], "{id}: outcome");
    if let Some(latest) = info.get("latest_verdict") {
        assert_eq!(&json!(decision.latest_verdict), latest, "{id}: latest verdict");
    }
    for (key, flag) in [
        ("verdict_inferred", Flag::VerdictInferred),
        ("spam_filter_skipped", Flag::SpamFilterSkipped),
    ] {
        if let Some(expected) = info.get(key) {
            assert_eq!(json!(decision.flags.contains(flag)), *expected, "{id}: {key}");
        }
    }
    let expected = info["overrides"].as_array().unwrap();
    assert_eq!(decision.overrides.len(), expected.len(), "{id}: overrides");
    for (found, expected) in decision.overrides.iter().zip(expected) {
        let found = serde_json::to_value(found).unwrap();
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&found[key], value, "{id}: {key} of an override");
        }
        for key in ["why", "certainty"] {
            assert_eq!(
                found[key].is_null(),
                expected.get(key).is_none(),
                "{id}: {key} of an override"
            );
        }
    }
    let primaries = decision.overrides.iter().filter(|found| found.primary).count();
    assert_eq!(
        primaries,
        usize::from(!expected.is_empty()),
        "{id}: one override is the primary one"
    );
}

#[test]
fn every_worked_example_gives_its_tags_and_its_reasons() {
    let examples = examples();
    assert_eq!(examples.len(), 47);
    for example in &examples {
        let decision = decide(&example["in"]);
        check_example(example, &decision);
        assert_eq!(
            decision.reasons.len(),
            decision.tags.len(),
            "{}: a reason per tag",
            example["id"]
        );
        for reason in &decision.reasons {
            assert!(decision.tags.contains_word(&reason.tag) && !reason.because.is_empty());
        }
    }
}

#[test]
fn mail_of_unknown_or_missing_direction_is_judged_as_inbound() {
    for direction in [Value::Null, json!(""), json!("Unknown"), json!("Inbound"), json!("IntraOrg")]
    {
        for example in &examples() {
            let mut row = example["in"].as_object().unwrap().clone();
            if row.get("EmailDirection").is_some_and(|found| found == "Outbound") {
                continue;
            }
            row.insert("EmailDirection".into(), direction.clone());
            check_example(example, &decide(&Value::Object(row)));
        }
    }
}

#[test]
fn the_same_rows_as_streaming_records_give_the_same_tags() {
    for example in &examples() {
        let record = json!({
            "time": "2026-08-20T09:13:32Z",
            "category": "AdvancedHunting-EmailEvents",
            "properties": example["in"],
        });
        let message = json!({"records": [record]}).to_string();
        let chunk = Chunk {
            raw: Raw::new(message.as_bytes()),
            shape: Shape::Streaming,
            position: Position::None,
            observed: None,
            backfill: false,
        };
        let mut seen = 0;
        each(&chunk, &context(), &mut |normalized| {
            let Normalized::Event { event, row, .. } = normalized else { panic!("a dead letter") };
            check_example(example, &tagging::decide(&event, row));
            seen += 1;
        });
        assert_eq!(seen, 1);
    }
}

fn example(id: &str) -> Value {
    examples().into_iter().find(|example| example["id"] == id).unwrap()
}

fn action_tags(row: &Value) -> Vec<String> {
    let event = event_of(Table::EmailPostDeliveryEvents, &row.to_string()).unwrap();
    words(&event.decision).into_iter().map(str::to_owned).collect()
}

#[test]
fn the_single_rows_of_the_sequences_say_their_part() {
    // S1, S2, S5: removed, not removed, removed by an administrator.
    let zap = |result: &str| json!({"ActionType": "Phish ZAP", "Action": "Moved to quarantine", "ActionResult": result});
    assert_eq!(action_tags(&zap("Success")), ["remediated.zap"]);
    assert_eq!(action_tags(&zap("Error")), ["zap_failed"]);
    let removed = json!({"ActionType": "Manual remediation", "Action": "Soft delete", "ActionResult": "Success"});
    assert_eq!(action_tags(&removed), ["remediated.admin"]);
    // S4: released; the row has no confidence, so the class is phish until it is joined.
    let release = json!({"ActionType": "Quarantine release", "Action": "Quarantine release",
        "ActionTrigger": "AdminAction", "ActionResult": "Success", "ThreatTypes": "Phish"});
    assert_eq!(action_tags(&release), ["override.allow", "quarantine_release", "released.phish"]);
    // S8: each recipient by itself.
    assert!(words(&decide(&example("X02")["in"])).contains(&"allowed.phish"));
    assert!(words(&decide(&example("X30")["in"])).is_empty());
}

#[test]
fn a_later_row_keeps_what_was_asked_for_and_claims_nothing_else() {
    for example in &examples() {
        let mut row = example["in"].as_object().unwrap().clone();
        row.insert("NetworkMessageId".into(), json!("m-1"));
        row.insert("RecipientEmailAddress".into(), json!("Adele@contoso.example"));
        let mut event = event_of(Table::EmailEvents, &Value::Object(row).to_string()).unwrap();
        let verdict = event.decision.verdict;
        let directions = ["override.allow", "override.block", "override.unknown"];
        let mut kept: Vec<&str> =
            words(&event.decision).into_iter().filter(|word| directions.contains(word)).collect();
        kept.push("re_verdict");
        kept.sort_unstable();
        let kept: Vec<String> = kept.into_iter().map(str::to_owned).collect();
        tagging::as_later_row(&mut event);
        assert_eq!(words(&event.decision), kept, "{}", example["id"]);
        assert_eq!(event.decision.reasons.len(), kept.len());
        assert_eq!((event.decision.verdict, event.decision.latest_verdict), (None, verdict));
        assert!(event.decision.overrides.iter().all(|found| found.effect == Effect::Unknown));
    }
}

#[test]
fn a_policy_text_with_several_policies_is_kept_whole_and_flagged() {
    let mut row = example("X02")["in"].clone();
    row["OrgLevelPolicy"] = json!("Connection policy; Exchange transport rule");
    let decision = decide(&row);
    assert!(decision.flags.contains(Flag::SeveralPolicies));
    assert_eq!(decision.overrides[0].kind.as_str(), "ip_list");
    assert_eq!(&*decision.overrides[0].policy, "Connection policy; Exchange transport rule");
}

/// A witness with nothing to show.
struct Silent;

impl Witness for Silent {
    fn asked(&self, _: Level) -> Because {
        Because::new()
    }
    fn verdict(&self) -> Because {
        Because::new()
    }
    fn latest(&self) -> Because {
        Because::new()
    }
    fn outcome(&self) -> Because {
        Because::new()
    }
    fn bulk_level(&self) -> Because {
        Because::new()
    }
}

/// Judges mail whose record says of each override whether it decided: level, direction, policy, final.
fn judged(
    classes: Classes,
    outcome: (&str, &str),
    overrides: &[(Level, Direction, &str, bool)],
) -> Decision {
    let asked = overrides.iter().map(|(level, direction, policy, decided)| Asked {
        decided: Some(*decided),
        ..asked_for(*level, Some(*direction), policy)
    });
    let facts = Facts {
        outbound: false,
        asked: asked.collect(),
        at_delivery: Found { classes, inferred: false, scl: None },
        latest: None,
        outcome: of_words(Some(outcome.0), Some(outcome.1)),
        bulk_level: None,
        reports_clean: false,
    };
    judge(&facts, &Silent)
}

#[test]
fn where_the_record_says_which_override_decided_the_others_did_nothing() {
    const ETR: &str = "Exchange transport rule";
    let high = Classes { phish: Some(Tier::High), ..Classes::default() };
    let malware = Classes { malware: true, ..Classes::default() };
    let (tenant, user) = (Level::Tenant, Level::User);
    let effects = |decision: &Decision| -> Vec<(&str, Option<&str>, bool)> {
        let effects = decision.overrides.iter();
        effects.map(|o| (o.effect.as_str(), o.why.map(|why| why.as_str()), o.primary)).collect()
    };
    // M1: the block did not decide, and the verdict may be its own.
    let m1 = judged(high, ("Blocked", "Quarantine"), &[(tenant, Direction::Block, ETR, false)]);
    assert_eq!(words(&m1), ["override.block"]);
    assert_eq!(effects(&m1), [("unknown", Some("not_final"), true)]);
    // M2 to M5: without overrides only mail that came in says something.
    let phish = Classes { phish: Some(Tier::Normal), ..Classes::default() };
    assert!(words(&judged(high, ("Delivered", "JunkFolder"), &[])).is_empty());
    assert_eq!(words(&judged(phish, ("Delivered", "Inbox"), &[])), ["no_override.delivered.phish"]);
    assert!(words(&judged(phish, ("DeliveredAsSpam", "JunkFolder"), &[])).is_empty());
    assert!(words(&judged(malware, ("Blocked", "Quarantine"), &[])).is_empty());
    // M6: the rule decided.
    let m6 = judged(high, ("Delivered", "Inbox"), &[(tenant, Direction::Allow, ETR, true)]);
    assert_eq!(words(&m6), ["allowed.hc_phish", "override.allow", "override.harmful"]);
    assert_eq!(effects(&m6), [("effective", None, true)]);
    // M7: of two allows the user's decided.
    let m7 = judged(
        high,
        ("Delivered", "Inbox"),
        &[
            (tenant, Direction::Allow, "Connection policy", false),
            (user, Direction::Allow, "Sender address list", true),
        ],
    );
    assert_eq!(words(&m7), words(&m6));
    assert_eq!(
        effects(&m7),
        [("ineffective", Some("not_final"), false), ("effective", None, true)]
    );
    // M9: the filter blocked it anyway.
    let common = "Antimalware policy block by file type";
    let m9 =
        judged(malware, ("Blocked", "Quarantine"), &[(tenant, Direction::Block, common, false)]);
    assert_eq!(words(&m9), ["override.block"]);
    assert_eq!(effects(&m9), [("ineffective", Some("not_final"), true)]);
    // One that did not decide and no verdict to speak of: never harmful, whatever was found.
    let only = judged(high, ("Delivered", "Inbox"), &[(tenant, Direction::Allow, ETR, false)]);
    assert_eq!(words(&only), ["override.allow"]);
    assert_eq!(effects(&only), [("ineffective", Some("not_final"), true)]);
    // One that did not decide, and the mail was kept out: it did not get its way.
    let lost =
        judged(malware, ("Blocked", "Quarantine"), &[(tenant, Direction::Allow, ETR, false)]);
    assert_eq!(words(&lost), ["override.allow", "override.ineffective"]);
}

/// The values of an example's row, each with its letters in another case and blanks around it, as text.
fn distorted(value: &Value, upper: bool, blanks: &str) -> Value {
    match value {
        Value::String(text) => {
            let text = if upper { text.to_uppercase() } else { text.to_lowercase() };
            json!(format!("{blanks}{text}{blanks}"))
        }
        other => other.clone(),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("Allow"),
        Just("Block"),
        Just("Phish"),
        Just("Malware, Spam"),
        Just("Delivered"),
        Just("Blocked"),
        Just("Inbox/folder"),
        Just("Quarantine"),
        Just("{\"Phish\":\"High\"}"),
        Just("{\"Phish\":"),
        Just("[]"),
        Just("Exchange transport rule"),
        Just("-1"),
        Just("\u{0}"),
        Just("Quarantine release"),
        Just("Phish ZAP"),
        Just("Success"),
        Just("\u{1F600}(;"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("Phish|Spam|[a-z]{1,5}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_row() -> impl Strategy<Value = Map<String, Value>> {
    let column = proptest::sample::select(Column::ALL).prop_map(|column| column.name().to_owned());
    proptest::collection::btree_map(
        prop_oneof![9 => column, 1 => "[A-Za-z]{1,9}".boxed()],
        any_value(),
        0..30,
    )
    .prop_map(|map| map.into_iter().collect())
}

proptest! {
    #[test]
    fn no_value_in_any_column_panics_and_every_tag_has_its_reason(row in any_row(), table in 0..8_usize) {
        let table = Table::TYPED.get(table).cloned().unwrap_or(Table::Other("Anything".into()));
        let mut event = event_of(table, &Value::Object(row).to_string()).unwrap();
        prop_assert_eq!(event.decision.reasons.len(), event.decision.tags.len());
        tagging::as_later_row(&mut event);
        prop_assert_eq!(event.decision.reasons.len(), event.decision.tags.len());
    }

    #[test]
    fn no_bytes_panic_in_any_layout(bytes in proptest::collection::vec(any::<u8>(), 0..200), layout in 0..3) {
        let shape = match layout {
            0 => Shape::Streaming,
            1 => Shape::StreamingLines,
            _ => Shape::Row(Table::EmailEvents),
        };
        let chunk = Chunk { raw: Raw::new(&bytes), shape, position: Position::None, observed: None, backfill: false };
        each(&chunk, &context(), &mut |_| {});
    }

    #[test]
    fn confidence_that_is_not_high_never_counts_as_high(row in any_row(), word in "[A-Za-z]{0,8}|(Very )?[Hh]igh[a-z]{0,3}|[1-9]") {
        prop_assume!(!word.eq_ignore_ascii_case("high"));
        let mut row = row;
        for column in ["ConfidenceLevel", "OriginalConfidenceLevel"] {
            row.retain(|name, _| !name.eq_ignore_ascii_case(column));
            row.insert(column.into(), json!({"Phish": word}));
        }
        let decision = decide(&Value::Object(row));
        for tag in [Tag::AllowedHcPhish, Tag::ExpectedHcPhish, Tag::ReleasedHcPhish, Tag::NoOverrideDeliveredHcPhish] {
            prop_assert!(!decision.tags.contains(tag), "{:?}", decision.tags);
        }
    }

    #[test]
    fn tags_do_not_depend_on_column_order_letter_case_or_blanks(
        place in 0..47_usize,
        order in Just(()).prop_perturb(|(), mut rng| rng.random::<u64>()),
        upper in any::<bool>(),
        blanks in "[ \t\n]{0,3}",
    ) {
        let example = &examples()[place];
        let mut columns: Vec<(String, Value)> = example["in"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| {
                let name = if upper { name.to_uppercase() } else { name.clone() };
                (name, distorted(value, upper, &blanks))
            })
            .collect();
        columns.sort_by_key(|(name, _)| blake3::hash(format!("{order}{name}").as_bytes()).as_bytes().to_owned());
        let body: Vec<String> =
            columns.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        let row = format!("{{{}}}", body.join(","));
        let event = event_of(Table::EmailEvents, &row).unwrap();
        prop_assert_eq!(json!(words(&event.decision)), example["tags"].clone(), "{}", row);
        prop_assert!(Row::parse(row.as_bytes()).is_ok());
    }
}
