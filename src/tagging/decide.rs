//! From a row to its decision: which rules apply to which kind of event. The rules themselves are in
//! `judge`, `after_delivery`, `alert_title` and, for audit records, `activity_mail`, `audit` and `reported`.

use super::judge::{Because, Facts, Witness, judge};
use super::overrides;
use super::verdict::{self, PLAIN, VerdictColumns};
use super::{activity_mail, after_delivery, alert_title, audit, outcome, reported};
use crate::domain::{Decision, Event, Kind, Level, Outcome, Table, Tag};
use crate::normalize::words::{self, MailDirection};
use crate::normalize::{Column, Row};

/// The table of reports from third-party tools.
const USER_REPORTS: &str = "submissions";

/// The record type of investigations that nobody started by hand.
const AUTOMATIC_INVESTIGATION: &str = "AirInvestigation";

/// Judges `event`, whose row is `row`, as if it were the first of its mail.
#[must_use]
pub fn decide(event: &Event, row: &Row<'_>) -> Decision {
    match event.kind {
        Kind::Email => mail(row),
        Kind::EmailPostDelivery => after_delivery::action(row),
        Kind::EmailActivity => activity_mail::mail(row),
        Kind::UrlClick if event.table == Table::UrlClickEvents => after_delivery::click(row),
        Kind::UrlClick => audit::click(row),
        Kind::Alert | Kind::AlertEvidence | Kind::Incident => alert_title::alert(event.kind, row),
        Kind::Submission if event.table.name() == USER_REPORTS => reported::by_tool(row),
        Kind::Submission => reported::in_audit_log(row),
        Kind::Quarantine => audit::quarantine(row),
        Kind::Investigation => {
            audit::investigation(row, event.table.name() != AUTOMATIC_INVESTIGATION)
        }
        Kind::EmailUrl | Kind::EmailAttachment | Kind::MailState | Kind::Gap | Kind::Row => {
            Decision::default()
        }
    }
}

/// Takes back what only the first row of a mail can say: a later one without `Original*` columns tells the
/// verdict of today, not the one at delivery. What its overrides asked for stays.
pub fn as_later_row(event: &mut Event) {
    let decision = &mut event.decision;
    for tag in decision.tags.fixed() {
        if !matches!(tag, Tag::OverrideAllow | Tag::OverrideBlock | Tag::OverrideUnknown) {
            decision.tags.remove(tag);
        }
    }
    let tags = &decision.tags;
    decision.reasons.retain(|reason| tags.contains_word(&reason.tag));
    for found in &mut decision.overrides {
        found.effect = crate::domain::Effect::Unknown;
        found.why = None;
        found.certainty = None;
    }
    decision.latest_verdict = decision.verdict.take();
    let mut because = Because::new();
    if let Some(message) = &event.key {
        because.push((Column::NetworkMessageId.name().into(), message.clone()));
    }
    if let Some(recipient) = &event.recipient {
        because.push((Column::RecipientEmailAddress.name().into(), recipient.clone()));
    }
    decision.tag(Tag::ReVerdict, "later_row", because);
}

fn mail(row: &Row<'_>) -> Decision {
    let outcome = outcome::of_row(row);
    let verdicts = verdict::of_row(row, outcome);
    let asked = overrides::of_row(row);
    let found = verdicts.at_delivery;
    if asked.is_empty() && found.classes.is_clean() && verdicts.latest.is_none() {
        return ordinary(outcome, found.scl);
    }
    let direction = row.text(Column::EmailDirection);
    let facts = Facts {
        outbound: direction.as_deref().and_then(words::mail_direction)
            == Some(MailDirection::Outbound),
        asked,
        at_delivery: found,
        latest: verdicts.latest,
        outcome,
        bulk_level: row.int(Column::BulkComplaintLevel),
        reports_clean: true,
    };
    judge(&facts, &OfRow { row, verdict: verdicts.columns })
}

/// Clean mail without overrides, which is most of it.
fn ordinary(outcome: Outcome, scl: Option<i64>) -> Decision {
    let mut decision = Decision {
        verdict: Some(crate::domain::Verdict::Clean),
        outcome: Some(outcome),
        ..Decision::default()
    };
    if scl == Some(verdict::FILTER_SKIPPED) {
        decision.flags.insert(crate::domain::Flag::SpamFilterSkipped);
    }
    decision
}

/// The columns of a row of `EmailEvents` as grounds.
struct OfRow<'r, 'a> {
    row: &'r Row<'a>,
    verdict: VerdictColumns,
}

impl Witness for OfRow<'_, '_> {
    fn asked(&self, level: Level) -> Because {
        let (action, policy) = overrides::columns_of(level);
        shown(self.row, &[action, policy])
    }

    fn verdict(&self) -> Because {
        shown(self.row, &self.verdict)
    }

    fn latest(&self) -> Because {
        shown(self.row, &PLAIN)
    }

    fn outcome(&self) -> Because {
        shown(self.row, &[Column::DeliveryAction, Column::DeliveryLocation])
    }

    fn bulk_level(&self) -> Because {
        shown(self.row, &[Column::BulkComplaintLevel])
    }
}

/// Columns with their values. The first of them is shown even where it is empty, since that may be just the
/// reason.
pub(super) fn shown(row: &Row<'_>, columns: &[Column]) -> Because {
    let mut because = Because::new();
    for (place, column) in columns.iter().enumerate() {
        let text = row.text(*column);
        if place == 0 || text.is_some() {
            because.push((column.name().into(), text.unwrap_or_default().into()));
        }
    }
    because
}
