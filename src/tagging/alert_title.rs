//! Alerts that tell of overrides, known by their whole title: on Graph alerts, `AlertInfo`, `AlertEvidence`
//! and alert records of the Activity API alike. A tenant's own alert policies have any title and are not
//! known here.

use serde_json::Value;

use super::decide::shown;
use super::judge::Because;
use super::outcome;
use crate::domain::{
    Decision, Direction, Effect, Kind, Level, Outcome, Override, OverrideKind, Tag,
};
use crate::normalize::{Column, Row, field};

/// What an alert title says.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// The rule's name, for reasons.
    pub rule: &'static str,
    /// The tags.
    pub tags: &'static [Tag],
    /// The override, where the title names one.
    pub blames: Option<(Level, OverrideKind)>,
}

const fn told(rule: &'static str, tags: &'static [Tag]) -> Told {
    Told { rule, tags, blames: None }
}

/// The titles, squeezed as [`squeeze`] does it.
const TITLES: [(&str, Told); 25] = {
    const HC: &[Tag] = &[Tag::OverrideAllow, Tag::AllowedHcPhish];
    const PHISH: &[Tag] = &[Tag::OverrideAllow, Tag::AllowedPhish];
    const REMOVED: &[Tag] = &[Tag::LateConviction, Tag::RemediatedZap];
    const ALLOWED: &str = "alert_title.allowed";
    const DISABLED: &str = "alert_title.zap_disabled";
    const AFTER: &str = "alert_title.removed_after_delivery";
    const REPORTED: &str = "alert_title.reported";
    const TABL: &str = "alert_title.tabl_entry";
    const CLICKED: &str = "alert_title.clicked";
    const HOLE: &str = "alert_title.hole";
    [
        (
            "phishdeliveredduetoanetroverride",
            Told {
                rule: ALLOWED,
                tags: HC,
                blames: Some((Level::Tenant, OverrideKind::TransportRule)),
            },
        ),
        (
            "phishdeliveredduetoanipallowpolicy",
            Told { rule: ALLOWED, tags: HC, blames: Some((Level::Tenant, OverrideKind::IpList)) },
        ),
        ("phishdeliveredduetotenantoruseroverride", told(ALLOWED, PHISH)),
        ("userimpersonationphishdeliveredtoinboxfolder", told(ALLOWED, PHISH)),
        ("phishnotzappedbecausezapisdisabled", told(DISABLED, &[Tag::ZapDisabled])),
        ("malwarenotzappedbecausezapisdisabled", told(DISABLED, &[Tag::ZapDisabled])),
        (
            "phishdeliveredbecauseausersjunkmailfolderisdisabled",
            told("alert_title.junk_folder_disabled", &[Tag::NoOverrideDeliveredHcPhish]),
        ),
        (
            "messagescontainingmaliciousentitynotremovedafterdelivery",
            told("alert_title.not_removed", &[Tag::ZapFailed]),
        ),
        ("emailmessagescontainingmaliciousfileremovedafterdelivery", told(AFTER, REMOVED)),
        ("emailmessagescontainingmaliciousurlremovedafterdelivery", told(AFTER, REMOVED)),
        ("emailmessagesfromacampaignremovedafterdelivery", told(AFTER, REMOVED)),
        ("emailmessagesremovedafterdelivery", told(AFTER, REMOVED)),
        ("emailmessagescontainingmalwareremovedafterdelivery", told(AFTER, REMOVED)),
        ("emailmessagescontainingphishurlsremovedafterdelivery", told(AFTER, REMOVED)),
        ("useraccessedalinkinanemailsubsequentlyquarantinedbyzap", told(AFTER, REMOVED)),
        ("atenantallowblocklistentryhasbeenfoundmalicious", told(TABL, &[Tag::TablEntryMalicious])),
        ("removedanentryintenantallowblocklist", told(TABL, &[Tag::TablEntryRemoved])),
        ("tenantallowblocklistentryisabouttoexpire", told(TABL, &[Tag::TablEntryExpiring])),
        ("emailreportedbyuserasmalwareorphish", told(REPORTED, &[Tag::ReportedPhish])),
        ("emailreportedbyuserasjunk", told(REPORTED, &[Tag::ReportedJunk])),
        ("emailreportedbyuserasnotjunk", told(REPORTED, &[Tag::ReportedNotJunk])),
        ("apotentiallymaliciousurlclickwasdetected", told(CLICKED, &[Tag::ClickedMalicious])),
        ("auserclickedthroughtoapotentiallymaliciousurl", told(CLICKED, &[Tag::ClickedThrough])),
        (
            "userrequestedtoreleaseaquarantinedmessage",
            told("alert_title.release_requested", &[Tag::ReleaseRequested]),
        ),
        ("suspiciousconnectoractivity", told(HOLE, &[Tag::HoleConnector])),
    ]
};

/// Titles of rules that open a hole; the last one is about a connector as well.
const HOLES: [(&str, Told); 3] = [
    ("newtransportruleremovingantispamheader", told("alert_title.hole", &[Tag::HoleRule])),
    ("suspiciousemailtransportruledetected", told("alert_title.hole", &[Tag::HoleRule])),
    (
        "suspiciousinboundconnectorandtransportrulecreatedtoremovesenderemailheaders",
        told("alert_title.hole", &[Tag::HoleConnector, Tag::HoleRule]),
    ),
];

/// What the title of an alert says; `None` for a title that is not known, however similar.
/// An `incident` may add whom it involves behind the title of its alert.
#[must_use]
pub fn recognize(title: &str, incident: bool) -> Option<&'static Told> {
    let squeezed = squeeze(title);
    let known = |text: &str| {
        TITLES.iter().chain(&HOLES).find(|(known, _)| *known == text).map(|(_, told)| told)
    };
    known(&squeezed).or_else(|| {
        let (before, _) = squeezed.rsplit_once("involving").filter(|_| incident)?;
        known(before)
    })
}

/// Tags `decision` with what `title` says. `kept_out` says that the mail in question was blocked or
/// quarantined; then nothing was let in.
pub fn tag(
    title: &str,
    incident: bool,
    kept_out: bool,
    because: &Because,
    decision: &mut Decision,
) {
    let Some(told) = recognize(title, incident) else { return };
    for tag in told.tags {
        let lets_in = matches!(
            tag,
            Tag::AllowedHcPhish | Tag::AllowedPhish | Tag::NoOverrideDeliveredHcPhish
        );
        if !(lets_in && kept_out) {
            decision.tag(*tag, told.rule, because.clone());
        }
    }
    if let Some((level, kind)) = told.blames {
        decision.overrides.push(Override {
            level,
            direction: Direction::Allow,
            kind,
            policy: "".into(),
            effect: if kept_out { Effect::Ineffective } else { Effect::Effective },
            why: None,
            certainty: None,
            primary: true,
        });
    }
}

/// An alert, a row of its evidence, or an incident.
pub(super) fn alert(kind: Kind, row: &Row<'_>) -> Decision {
    let mut decision = Decision::default();
    let incident = kind == Kind::Incident;
    let names: &[&'static str] = match kind {
        Kind::Incident => &["displayName", "incidentName", "title"],
        // Audit records have a name instead of a title.
        _ => &["Title", "Name"],
    };
    let Some((name, title)) = names.iter().find_map(|name| Some((*name, field::text(row, name)?)))
    else {
        return decision;
    };
    if recognize(&title, incident).is_none() {
        return decision;
    }
    let mut because: Because = vec![(name.into(), (&*title).into())];
    let kept_out = match kind {
        Kind::AlertEvidence => kept_out(row.json(Column::AdditionalFields).as_slice()),
        Kind::Incident => kept_out(&incident_evidence(row)),
        _ => kept_out(&evidence(row)) || audit_says_kept_out(row, &mut because),
    };
    if kept_out && kind == Kind::AlertEvidence {
        because.extend(shown(row, &[Column::AdditionalFields]));
    }
    tag(&title, incident, kept_out, &because, &mut decision);
    decision
}

/// The `evidence` of a Graph alert; the older API calls it `entities`.
fn evidence(row: &Row<'_>) -> Vec<Value> {
    let list = |name| match field::value(row, name) {
        Some(Value::Array(items)) => Some(items),
        _ => None,
    };
    list("evidence").or_else(|| list("entities")).unwrap_or_default()
}

/// The evidence of all alerts that are expanded in an incident.
fn incident_evidence(row: &Row<'_>) -> Vec<Value> {
    let Some(Value::Array(alerts)) = field::value(row, "alerts") else { return Vec::new() };
    let mut found = Vec::new();
    for alert in &alerts {
        let list = field::member(alert, "evidence").or_else(|| field::member(alert, "entities"));
        found.extend(list.and_then(Value::as_array).into_iter().flatten().cloned());
    }
    found
}

/// An audit record tells of one entity, in the short keys of its `Data`: `ttr` is what came of the mail.
fn audit_says_kept_out(row: &Row<'_>, because: &mut Because) -> bool {
    let Some(data) = field::value(row, "Data") else { return false };
    let Some(result) = field::member_text(&data, "ttr") else { return false };
    let letters = squeeze(&result);
    let is_kept_out = letters.contains("quarantined") || letters.contains("blocked");
    if is_kept_out {
        because.push(("Data.ttr".into(), result.into()));
    }
    is_kept_out
}

/// Whether evidence tells where its mail is, and all of it was kept out. Silence proves nothing.
fn kept_out(evidence: &[Value]) -> bool {
    let mut told = evidence
        .iter()
        .filter_map(|item| {
            let field = |name: &str| {
                let members = item.as_object()?.iter();
                let found = members.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.and_then(|(_, value)| value.as_str())
            };
            let outcome = outcome::of_words(field("DeliveryAction"), field("DeliveryLocation"));
            (outcome != Outcome::Unknown).then_some(outcome == Outcome::Blocked)
        })
        .peekable();
    told.peek().is_some() && told.all(|blocked| blocked)
}

/// Letters and digits only, lower-cased: blanks, zero-width characters and punctuation come and go.
fn squeeze(title: &str) -> String {
    title.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(title: &str) -> Vec<Tag> {
        recognize(title, false).map(|told| told.tags.to_vec()).unwrap_or_default()
    }

    #[test]
    fn whole_titles_are_known_whatever_blanks_case_and_invisible_letters() {
        let hc = [Tag::OverrideAllow, Tag::AllowedHcPhish];
        for title in [
            "Phish delivered due to an ETR override",
            "phish delivered  due to an etr OVERRIDE\u{200b}",
            "PhishdeliveredduetoanETRoverride",
            "\u{feff}Phish\u{a0}delivered due to an IP allow policy",
        ] {
            assert_eq!(tags(title), hc, "{title}");
        }
        assert_eq!(
            tags("Email messages containing malicious URL removed after delivery\u{200b}"),
            [Tag::LateConviction, Tag::RemediatedZap]
        );
        assert_eq!(
            tags("Phish delivered because a user’s Junk Mail folder is disabled"),
            [Tag::NoOverrideDeliveredHcPhish]
        );
        assert_eq!(tags("Removed an entry in Tenant Allow/Block List"), [Tag::TablEntryRemoved]);
        assert_eq!(tags("Email reported by user as not junk"), [Tag::ReportedNotJunk]);
        assert_eq!(tags("New transport rule removing antispam header"), [Tag::HoleRule]);
    }

    #[test]
    fn a_title_that_only_begins_alike_is_not_known() {
        for title in [
            "",
            "Phish delivered due to an ETR override (test)",
            "Phish delivered due to an ETR override involving one user",
            "Phish delivered",
            "Re: Phish delivered due to an ETR override",
        ] {
            assert_eq!(tags(title), [], "{title}");
        }
    }

    #[test]
    fn an_incident_may_say_whom_it_involves() {
        let title = "Phish delivered due to an ETR override involving one user";
        assert!(recognize(title, true).is_some() && recognize(title, false).is_none());
        assert!(recognize("involving one user", true).is_none());
    }

    #[track_caller]
    fn check(kind: Kind, row: &str, expected: &[Tag]) {
        let decision = alert(kind, &Row::parse(row.as_bytes()).unwrap());
        assert_eq!(decision.tags.fixed().collect::<Vec<_>>(), expected, "{row}");
        assert_eq!(decision.reasons.len(), expected.len());
    }

    #[test]
    fn evidence_that_was_kept_out_takes_no_allowed_tag() {
        let evidence = |fields: &str| {
            format!(
                r#"{{"Title":"Phish delivered due to an ETR override","AdditionalFields":{fields}}}"#
            )
        };
        let let_in = [Tag::AllowedHcPhish, Tag::OverrideAllow];
        let row = Kind::AlertEvidence;
        check(row, &evidence(r#""{\"Recipient\":\"a@contoso.example\"}""#), &let_in);
        check(row, &evidence(r#""{\"DeliveryLocation\":\"Inbox\"}""#), &let_in);
        check(row, &evidence(r#""{\"deliverylocation\":\"Quarantine\"}""#), &[Tag::OverrideAllow]);
        check(row, &evidence(r#"{"DeliveryAction":"Blocked"}"#), &[Tag::OverrideAllow]);
        let graph = |places: &str| {
            format!(
                r#"{{"id":"a","title":"Phish delivered due to an IP allow policy","evidence":[{places}]}}"#
            )
        };
        check(
            Kind::Alert,
            &graph(r#"{"deliveryLocation":"quarantine"},{"x":1}"#),
            &[Tag::OverrideAllow],
        );
        check(
            Kind::Alert,
            &graph(r#"{"deliveryLocation":"quarantine"},{"deliveryLocation":"inbox"}"#),
            &let_in,
        );
        check(Kind::Alert, &graph(""), &let_in);
    }

    #[test]
    fn the_title_names_the_override_to_blame() {
        let row = br#"{"Title":"Phish delivered due to an ETR override"}"#;
        let decision = alert(Kind::Alert, &Row::parse(row).unwrap());
        assert_eq!(decision.primary_level(), Some(Level::Tenant));
        assert_eq!(decision.overrides[0].kind, OverrideKind::TransportRule);
    }

    #[test]
    fn titles_are_squeezed_in_the_list_already() {
        for (title, told) in TITLES.iter().chain(&HOLES) {
            assert_eq!(squeeze(title), **title);
            assert!(!told.tags.is_empty());
        }
    }
}
