//! The text of a ticket: a fixed JSON body that says what happened, to whom, which override let it in, what the
//! filter said, and carries the native event. Text out of mails is a value in it, never a template, a link or
//! markup. It does not decide whether there is a ticket.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::cloud::plain::{defanged, plain};
use crate::domain::{Event, Kind, Override, Tag};
use crate::normalize::column::Column;
use crate::normalize::row::Row;
use crate::render::{Format, render};

/// Most bytes of a body: receivers of webhooks are told to expect less than 20 KB.
pub const BODY_CAP: usize = 20_000;

/// Most characters of one piece of text out of a mail.
const PIECE_CHARS: usize = 300;

/// Most overrides that are told.
const OVERRIDES: usize = 8;

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    key: &'a str,
    title: String,
    severity: &'static str,
    summary: Vec<String>,
    links: Vec<Link>,
    tags: Vec<&'a str>,
    event: Box<RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    event_shortened: bool,
}

#[derive(Serialize)]
struct Link {
    text: &'static str,
    href: String,
}

/// What a tag means to the person who opens the ticket.
struct Meaning {
    tag: Tag,
    r#type: &'static str,
    severity: &'static str,
    words: &'static str,
}

const fn meaning(
    tag: Tag,
    r#type: &'static str,
    severity: &'static str,
    words: &'static str,
) -> Meaning {
    Meaning { tag, r#type, severity, words }
}

const ALLOWED: &str = "mail.override.allowed";
const DELIVERED: &str = "mail.malicious.delivered";
const RELEASED: &str = "mail.quarantine.released";
const REMOVAL: &str = "mail.removal.failed";
const LATE: &str = "mail.convicted.late";
const HOLE: &str = "override.hole.opened";
const ENTRY: &str = "override.entry.changed";
const REPORTED: &str = "mail.reported";
const CLICKED: &str = "mail.link.clicked";

/// The first that an event has gives the ticket its type, severity and title.
const MEANINGS: [Meaning; 28] = [
    meaning(Tag::AllowedMalware, ALLOWED, "high", "Malware was let in by an override"),
    meaning(
        Tag::AllowedHcPhish,
        ALLOWED,
        "high",
        "High-confidence phish was let in by an override",
    ),
    meaning(Tag::AllowedPhish, ALLOWED, "medium", "Phish was let in by an override"),
    meaning(Tag::OverrideHarmful, ALLOWED, "medium", "A harmful mail was let in by an override"),
    meaning(Tag::AllowedSpam, ALLOWED, "low", "Spam was let in by an override"),
    meaning(Tag::ClickedThrough, CLICKED, "high", "A user clicked through a warning"),
    meaning(Tag::ClickedMalicious, CLICKED, "high", "A malicious link was clicked"),
    meaning(
        Tag::NoOverrideDeliveredMalware,
        DELIVERED,
        "high",
        "Malware was delivered without any override",
    ),
    meaning(
        Tag::NoOverrideDeliveredHcPhish,
        DELIVERED,
        "high",
        "High-confidence phish was delivered without any override",
    ),
    meaning(
        Tag::NoOverrideDeliveredPhish,
        DELIVERED,
        "medium",
        "Phish was delivered without any override",
    ),
    meaning(Tag::ReleasedMalware, RELEASED, "high", "Malware was released from quarantine"),
    meaning(
        Tag::ReleasedHcPhish,
        RELEASED,
        "high",
        "High-confidence phish was released from quarantine",
    ),
    meaning(Tag::ReleasedPhish, RELEASED, "medium", "Phish was released from quarantine"),
    meaning(Tag::ReleasedSpam, RELEASED, "low", "Spam was released from quarantine"),
    meaning(Tag::ReleaseRequested, RELEASED, "low", "A user asks for release from quarantine"),
    meaning(
        Tag::ZapFailed,
        REMOVAL,
        "high",
        "A malicious mail could not be removed after delivery",
    ),
    meaning(
        Tag::ZapDisabled,
        REMOVAL,
        "medium",
        "A malicious mail stays because ZAP is switched off",
    ),
    meaning(
        Tag::LateConvictionUnderOverride,
        LATE,
        "medium",
        "A mail under an allow was convicted after delivery",
    ),
    meaning(Tag::LateConviction, LATE, "medium", "A mail was convicted after delivery"),
    meaning(Tag::HoleRule, HOLE, "high", "A mail-flow rule opens a hole in the filter"),
    meaning(Tag::HoleConnector, HOLE, "high", "A connector opens a hole in the filter"),
    meaning(
        Tag::TablEntryMalicious,
        ENTRY,
        "high",
        "A Tenant Allow/Block List entry allows something malicious",
    ),
    meaning(Tag::TablEntryRemoved, ENTRY, "low", "A Tenant Allow/Block List entry was removed"),
    meaning(
        Tag::TablEntryExpiring,
        ENTRY,
        "low",
        "A Tenant Allow/Block List entry is about to expire",
    ),
    meaning(Tag::ReportedPhish, REPORTED, "medium", "A user reported a mail as malware or phish"),
    meaning(Tag::ReportedJunk, REPORTED, "low", "A user reported a mail as junk"),
    meaning(Tag::ReportedNotJunk, REPORTED, "low", "A user reported a mail as not junk"),
    meaning(Tag::OverrideAllow, ALLOWED, "low", "An override asked to let a mail in"),
];

/// Builds the body. The same event gives the same bytes, on every attempt and after every restart.
#[must_use]
pub fn body(event: &Event, key: &str, portal: &str) -> Vec<u8> {
    let row = Row::parse(event.row_bytes()).unwrap_or_default();
    let found = MEANINGS.iter().find(|meaning| event.decision.tags.contains(meaning.tag));
    let (r#type, severity, words) = match found {
        Some(found) => (found.r#type, found.severity, found.words),
        None => match event.kind {
            Kind::Alert | Kind::AlertEvidence => ("alert.raised", "medium", "Alert"),
            Kind::Incident => ("incident.raised", "medium", "Incident"),
            Kind::Gap => ("pipeline.gap", "medium", "Events are missing"),
            _ => ("event.matched", "info", "An event matched the policy"),
        },
    };
    let when = event.occurred.or(event.observed).or(event.ingested).unwrap_or_default();
    let mut body = Body {
        r#type,
        timestamp: when.to_string(),
        data: Data {
            key,
            title: title(words, &row),
            severity,
            summary: summary(event, words, &row),
            links: links(event, portal),
            tags: event.decision.tags.words().collect(),
            event: native(event),
            event_shortened: false,
        },
    };
    let whole = written(&body);
    if whole.len() <= BODY_CAP {
        return whole;
    }
    body.data.event_shortened = true;
    for drop in [&["raw"][..], &["raw", "reasons"], &["raw", "reasons", "overrides", "issues"]] {
        body.data.event = shortened(event, drop);
        let shorter = written(&body);
        if shorter.len() <= BODY_CAP {
            return shorter;
        }
    }
    body.data.event = RawValue::NULL.to_owned();
    // What is left is bounded piece by piece, but for tags of the user's own rules.
    body.data.tags.truncate(40);
    written(&body)
}

fn written(body: &Body<'_>) -> Vec<u8> {
    // Strings, lists and checked JSON: nothing here that serde_json could refuse.
    serde_json::to_vec(body).unwrap_or_default()
}

fn native(event: &Event) -> Box<RawValue> {
    let mut line = Vec::new();
    render(Format::Native, event, &mut line);
    String::from_utf8(line)
        .ok()
        .and_then(|line| RawValue::from_string(line).ok())
        .unwrap_or_else(|| RawValue::NULL.to_owned())
}

fn shortened(event: &Event, without: &[&str]) -> Box<RawValue> {
    let parsed: Option<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(native(event).get()).ok();
    let Some(mut object) = parsed else { return RawValue::NULL.to_owned() };
    object.retain(|key, _| !without.contains(&key.as_str()));
    serde_json::value::to_raw_value(&object).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn title(words: &str, row: &Row<'_>) -> String {
    let name = [Column::Subject, Column::Title].into_iter().find_map(|column| row.text(column));
    match name {
        Some(name) => format!("{words}: {}", defanged(&name, 150)),
        None => words.to_owned(),
    }
}

/// One fact a line, for people.
fn summary(event: &Event, words: &str, row: &Row<'_>) -> Vec<String> {
    let mut lines = vec![format!("What happened: {words}")];
    let mut tell = |label: &str, columns: &[Column]| {
        let values: Vec<String> = columns
            .iter()
            .filter_map(|c| row.text(*c))
            .map(|v| defanged(&v, PIECE_CHARS))
            .collect();
        if !values.is_empty() {
            lines.push(format!("{label}: {}", values.join(", ")));
        }
    };
    tell("Subject", &[Column::Subject]);
    tell("To", &[Column::RecipientEmailAddress]);
    tell("From", &[Column::SenderFromAddress]);
    tell("Envelope sender", &[Column::SenderMailFromAddress]);
    tell("Sending address", &[Column::SenderIPv4, Column::SenderIPv6]);
    tell("Alert", &[Column::Title, Column::Category, Column::Severity]);
    let overrides = &event.decision.overrides;
    lines.extend(overrides.iter().take(OVERRIDES).map(override_line));
    if overrides.len() > OVERRIDES {
        lines.push(format!("and {} more overrides", overrides.len() - OVERRIDES));
    }
    if let Some(verdict) = event.decision.verdict {
        let mut line = format!("The filter said: {verdict}");
        for column in [Column::ThreatTypes, Column::DetectionMethods, Column::ConfidenceLevel] {
            if let Some(value) = row.text(column) {
                line.push_str(&format!("; {}: {}", column.name(), defanged(&value, PIECE_CHARS)));
            }
        }
        lines.push(line);
    }
    if let Some(outcome) = event.decision.outcome {
        let place = row.text(Column::DeliveryLocation);
        let place = place.map(|place| format!(" ({})", defanged(&place, 60))).unwrap_or_default();
        lines.push(format!("Where it ended up: {outcome}{place}"));
    }
    if let Some(occurred) = event.occurred {
        lines.push(format!("When: {occurred}"));
    }
    lines
}

fn override_line(found: &Override) -> String {
    let mut line = format!(
        "Override: {} {} {}{}, {}",
        found.level,
        found.direction,
        found.kind,
        if found.primary { " (decided)" } else { "" },
        found.effect,
    );
    if let Some(why) = found.why {
        line.push_str(&format!(", {why}"));
    }
    if !found.policy.is_empty() {
        line.push_str(&format!(": {}", defanged(&found.policy, PIECE_CHARS)));
    }
    line
}

/// Places in the portal. The ids go in by the URL's own rules.
fn links(event: &Event, portal: &str) -> Vec<Link> {
    let Some(key) = event.key.as_deref() else { return Vec::new() };
    let Ok(mut url) = reqwest::Url::parse(portal) else { return Vec::new() };
    let key = plain(key, 200);
    let (text, path, query): (_, Vec<&str>, Vec<(&str, String)>) = match event.kind {
        Kind::Email | Kind::EmailActivity | Kind::EmailPostDelivery | Kind::MailState => {
            let mut query = vec![("f", "summary".to_owned()), ("id", key)];
            if let Some(occurred) = event.occurred {
                query.push(("startTime", occurred.plus_seconds(-86_400).to_string()));
                query.push(("endTime", occurred.plus_seconds(86_400).to_string()));
            }
            query.extend(event.recipient.as_deref().map(|to| ("recipient", plain(to, 320))));
            ("The mail in Defender", vec!["emailentity"], query)
        }
        Kind::Alert | Kind::AlertEvidence => {
            ("The alert in Defender", vec!["alerts", &key], Vec::new())
        }
        Kind::Incident => {
            ("The incident in Defender", vec!["incident2", &key, "overview"], Vec::new())
        }
        _ => return Vec::new(),
    };
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url.query_pairs_mut().extend_pairs(query).append_pair("tid", &event.tenant);
    vec![Link { text, href: url.into() }]
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
