//! `TIMailData` records of the Management Activity API: one message, all its recipients, and the overrides with
//! the word which of them decided. Judged by the same table as rows of `EmailEvents`.
//!
//! Three things differ. The record says which override was final; one that was not did nothing. Clean mail is
//! not reported, so that nothing was found proves nothing. And a detection that is `Delayed` or by `ZAP` was made
//! after delivery: at delivery the mail was clean, and the verdict is the latest one.

use serde_json::Value;

use super::judge::{Because, Facts, Witness, judge};
use super::outcome;
use super::overrides::{self, Asked};
use super::verdict::{Classes, Found, Tier};
use crate::domain::{Decision, Direction, Level, Tag};
use crate::normalize::words::{self, MailDirection};
use crate::normalize::{Row, field};

const OVERRIDES: &str = "SystemOverrides";
const RESULTS: &str = "AdditionalActionsAndResults";

/// Overrides that are read of one record: far more than a mail can have.
const OVERRIDE_CAP: usize = 64;

pub(super) fn mail(row: &Row<'_>) -> Decision {
    let entries = entries(row);
    let found = found(row);
    let later = field::text(row, "DetectionType")
        .is_some_and(|word| ["delayed", "zap"].iter().any(|it| word.eq_ignore_ascii_case(it)));
    let direction = field::first(row, &["Directionality", "EmailDirection"]);
    let facts = Facts {
        outbound: direction.as_deref().and_then(words::mail_direction)
            == Some(MailDirection::Outbound),
        asked: entries.iter().map(|entry| entry.asked.clone()).collect(),
        at_delivery: if later { Found::default() } else { found },
        latest: later.then_some(found),
        outcome: outcome::of_words(
            field::text(row, "DeliveryAction").as_deref(),
            field::text(row, "OriginalDeliveryLocation").as_deref(),
        ),
        bulk_level: None,
        reports_clean: false,
    };
    let mut decision = judge(&facts, &OfRecord { row, entries: &entries });
    after_delivery(row, &entries, &mut decision);
    decision
}

/// One entry of `SystemOverrides`.
struct Entry {
    asked: Asked,
    because: Because,
}

/// The overrides, tenant before user.
fn entries(row: &Row<'_>) -> Vec<Entry> {
    let Some(Value::Array(items)) = field::value(row, OVERRIDES) else { return Vec::new() };
    let items: Vec<(usize, &Value)> = items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.as_object().is_some_and(|members| !members.is_empty()))
        .take(OVERRIDE_CAP)
        .collect();
    let finals: Vec<Option<bool>> = items.iter().map(|(_, item)| is_final(item)).collect();
    // If the record says it of any, one of which it does not say so did not decide.
    let told = finals.iter().any(Option::is_some);
    let mut entries: Vec<Entry> = items
        .iter()
        .zip(finals)
        .map(|((place, item), is_final)| {
            entry(*place, item, is_final.or_else(|| told.then_some(false)))
        })
        .collect();
    entries.sort_by_key(|entry| entry.asked.level);
    entries
}

fn entry(place: usize, item: &Value, decided: Option<bool>) -> Entry {
    let text = |name| field::member_text(item, name);
    let policy = text("Details").unwrap_or_default();
    let level = match text("Source") {
        Some(source) if source.to_ascii_lowercase().starts_with("user") => Level::User,
        _ => Level::Tenant,
    };
    let direction = text("Result").as_deref().and_then(overrides::direction_of);
    let mut because = Because::new();
    for name in ["Source", "Result", "Details", "FinalOverride"] {
        if let Some(value) = text(name) {
            because.push((format!("{OVERRIDES}[{place}].{name}").into(), value.into()));
        }
    }
    Entry { asked: Asked { decided, ..overrides::asked_for(level, direction, &policy) }, because }
}

/// `Yes` or `No`, `true` or `false`, 1 or 0.
fn is_final(item: &Value) -> Option<bool> {
    let word = field::member_text(item, "FinalOverride")?;
    let is = |words: [&str; 3]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    match () {
        () if is(["yes", "true", "1"]) => Some(true),
        () if is(["no", "false", "0"]) => Some(false),
        () => None,
    }
}

/// What the filter found: `Verdict`, and where that is empty the threats before the detection technologies.
fn found(row: &Row<'_>) -> Found {
    let high = field::text(row, "PhishConfidenceLevel")
        .is_some_and(|word| word.eq_ignore_ascii_case("high"));
    let tier = if high { Tier::High } else { Tier::Normal };
    let mut classes = Classes::default();
    if let Some(verdict) = field::text(row, "Verdict") {
        for class in words::threat_words(&verdict).filter_map(words::threat_class) {
            classes.add(class, tier);
        }
    }
    if !classes.is_clean() {
        return Found { classes, inferred: false, scl: None };
    }
    for technology in field::list(row, "ThreatsAndDetectionTech") {
        let threat = technology.split(':').next().unwrap_or_default();
        if let Some(class) = words::threat_class(threat) {
            classes.add(class, tier);
        }
    }
    Found { classes, inferred: !classes.is_clean(), scl: None }
}

/// What the record says of removals: `Zap: [Success: Message moved to quarantine]`.
fn after_delivery(row: &Row<'_>, entries: &[Entry], decision: &mut Decision) {
    const RULE: &str = "after_delivery.zap";
    for text in texts(row, RESULTS) {
        let Some((action, result)) = text.split_once(':') else { continue };
        let result = result.trim().trim_start_matches('[').trim_end_matches(']').trim();
        if result.is_empty() || result.eq_ignore_ascii_case("N/A") {
            continue;
        }
        let succeeded = result.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("success"));
        let because = || vec![(RESULTS.into(), text.as_str().into())];
        let letters: String = action.chars().filter(char::is_ascii_alphabetic).collect();
        match (&*letters.to_ascii_lowercase(), succeeded) {
            ("zap", true) => decision.tag(Tag::RemediatedZap, RULE, because()),
            ("zap", false) => {
                decision.tag(Tag::ZapFailed, RULE, because());
                let allow = entries.iter().find(|it| it.asked.direction == Direction::Allow);
                if let Some(allow) = allow {
                    let mut both = because();
                    both.extend(allow.because.iter().cloned());
                    decision.tag(Tag::OverrideMayBlockZap, "after_delivery.zap_under_allow", both);
                }
            }
            ("manualremediation", true) => {
                decision.tag(Tag::RemediatedAdmin, "after_delivery.admin", because());
            }
            ("automatedremediation" | "air", true) => {
                decision.tag(Tag::RemediatedAir, "after_delivery.air", because());
            }
            _ => {}
        }
    }
}

/// A list whose texts may hold separators themselves.
fn texts(row: &Row<'_>, name: &str) -> Vec<String> {
    match field::value(row, name) {
        Some(Value::Array(items)) => {
            items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        }
        Some(Value::String(text)) => vec![text],
        _ => Vec::new(),
    }
}

/// The fields of a record as grounds.
struct OfRecord<'r, 'a> {
    row: &'r Row<'a>,
    entries: &'r [Entry],
}

impl OfRecord<'_, '_> {
    fn shown(&self, names: &[&'static str]) -> Because {
        shown(self.row, names)
    }
}

impl Witness for OfRecord<'_, '_> {
    fn asked(&self, level: Level) -> Because {
        let entries = self.entries.iter().filter(|entry| entry.asked.level == level);
        entries.flat_map(|entry| entry.because.iter().cloned()).collect()
    }

    fn verdict(&self) -> Because {
        self.shown(&["Verdict", "PhishConfidenceLevel", "ThreatsAndDetectionTech", "DetectionType"])
    }

    fn latest(&self) -> Because {
        self.shown(&["Verdict", "PhishConfidenceLevel", "DetectionType"])
    }

    fn outcome(&self) -> Because {
        self.shown(&["OriginalDeliveryLocation", "DeliveryAction"])
    }

    fn bulk_level(&self) -> Because {
        Because::new()
    }
}

/// Fields with their values. The first of them is shown even where it is empty.
pub(super) fn shown(row: &Row<'_>, names: &[&'static str]) -> Because {
    let mut because = Because::new();
    for (place, name) in names.iter().enumerate() {
        let text = field::text(row, name);
        if place == 0 || text.is_some() {
            because.push(((*name).into(), text.unwrap_or_default().into()));
        }
    }
    because
}
