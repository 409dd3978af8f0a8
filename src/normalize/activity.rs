//! Audit records of the Management Activity API: which sort of thing each is, what identifies it, and when it
//! happened. What its overrides did is `tagging`'s business.
//!
//! | record type | kind | key | recipient |
//! |---|---|---|---|
//! | 28 ThreatIntelligence (`TIMailData`) | `email.activity` | `NetworkMessageId` | the recipient, if there is one only |
//! | 41 ThreatIntelligenceUrl (`TIUrlClickData`) | `url.click` | `SourceId` of a click in a mail | `UserId` |
//! | 40 SecurityComplianceAlerts | `alert` | `AlertId` | – |
//! | 64, 86, 89 AIR | `investigation` | `InvestigationId` | – |
//! | 29 MailSubmission | `submission` | `NetworkMessageId`, else `InternetMessageId` | the recipient, if there is one only |
//! | 65 Quarantine | `quarantine` | `NetworkMessageId` | `ReleaseTo`, if it is one only |
//! | any other | `row` | `NetworkMessageId` or `AlertId` | – |
//!
//! The table is the record type's name, or its number where it has no name here. A record type may come as a
//! number, as a text with a number, or as its name; a record without one is known by its operation.
//!
//! Identity: the record's `Id`, under the name `activity` whatever its kind. A submission is its `SubmissionId`
//! and its state (`SubmissionState`, and where it has none its `Operation`), because one submission is
//! recorded several times.
//!
//! `occurred` is `CreationTime`, for a click `TimeOfClick`; neither has a zone, and both are UTC.

use std::borrow::Cow;

use super::field;
use super::item::{Item, Part};
use super::row::Row;
use crate::domain::{Kind, Table, Ticks};

/// The name in the identity of an audit record.
const IDENTITY: &str = "activity";

/// The record types that are known by name.
const NAMES: [(i64, &str); 64] = [
    (1, "ExchangeAdmin"),
    (2, "ExchangeItem"),
    (3, "ExchangeItemGroup"),
    (4, "SharePoint"),
    (6, "SharePointFileOperation"),
    (8, "AzureActiveDirectory"),
    (9, "AzureActiveDirectoryAccountLogon"),
    (11, "ComplianceDLPSharePoint"),
    (13, "ComplianceDLPExchange"),
    (14, "SharePointSharingOperation"),
    (15, "AzureActiveDirectoryStsLogon"),
    (18, "SecurityComplianceCenterEOPCmdlet"),
    (20, "PowerBIAudit"),
    (24, "Discovery"),
    (25, "MicrosoftTeams"),
    (28, "ThreatIntelligence"),
    (29, "MailSubmission"),
    (30, "MicrosoftFlow"),
    (31, "AeD"),
    (32, "MicrosoftStream"),
    (33, "ComplianceDLPSharePointClassification"),
    (34, "ThreatFinder"),
    (35, "Project"),
    (36, "SharePointListOperation"),
    (38, "DataGovernance"),
    (40, "SecurityComplianceAlerts"),
    (41, "ThreatIntelligenceUrl"),
    (42, "SecurityComplianceInsights"),
    (43, "MIPLabel"),
    (47, "ThreatIntelligenceAtpContent"),
    (50, "ExchangeItemAggregated"),
    (51, "HygieneEvent"),
    (52, "DataInsightsRestApiAudit"),
    (54, "SharePointListItemOperation"),
    (55, "SharePointContentTypeOperation"),
    (56, "SharePointFieldOperation"),
    (61, "InformationWorkerProtection"),
    (62, "Campaign"),
    (63, "DLPEndpoint"),
    (64, "AirInvestigation"),
    (65, "Quarantine"),
    (66, "MicrosoftForms"),
    (78, "WDATPAlerts"),
    (85, "AttackSim"),
    (86, "AirManualInvestigation"),
    (87, "SecurityComplianceRBAC"),
    (88, "UserTraining"),
    (89, "AirAdminActionInvestigation"),
    (90, "MSTIC"),
    (98, "MCASAlerts"),
    (99, "OnPremisesFileShareScannerDlp"),
    (100, "OnPremisesSharePointScannerDlp"),
    (107, "ComplianceDLPExchangeClassification"),
    (113, "MS365DCustomDetection"),
    (218, "AttackSimAdmin"),
    (235, "MicrosoftDefenderForIdentityAudit"),
    (237, "DefenderExpertsforXDRAdmin"),
    (261, "CopilotInteraction"),
    (294, "AadRiskDetection"),
    (307, "PurviewInsiderRiskAlerts"),
    (360, "NoisyAlertPolicy"),
    (381, "FilteringMailMetadataExtended"),
    (462, "MicrosoftTeamsUserConcern"),
    (0, "Unknown"),
];

/// Operations that say the type of a record which does not.
const OPERATIONS: [(&str, i64); 7] = [
    ("TIMailData", 28),
    ("TIUrlClickData", 41),
    ("AlertTriggered", 40),
    ("AlertEntityGenerated", 40),
    ("AlertUpdated", 40),
    ("AirInvestigationData", 64),
    ("AtpDetection", 47),
];

/// An audit record.
pub(super) fn item<'a>(row: &Row<'a>) -> Item<'a> {
    let (number, name) = record_type(row);
    let kind = kind_of(number);
    let created = field::text(row, "CreationTime");
    let clicked = match kind {
        Kind::UrlClick => field::time(row, "TimeOfClick"),
        _ => None,
    };
    let created = created.as_deref().and_then(Ticks::parse);
    Item {
        kind,
        unknown_table: kind == Kind::Row && !is_named(&name),
        table: Table::Other(name),
        tenant: field::text(row, "OrganizationId").unwrap_or_default(),
        identity: identity(row, kind),
        key: key(row, kind),
        recipient: recipient(row, kind),
        occurred: clicked.or(created),
        observed: clicked.and(created),
        time_field: "CreationTime",
    }
}

/// The kind of a record of this type.
const fn kind_of(number: Option<i64>) -> Kind {
    match number {
        Some(28) => Kind::EmailActivity,
        Some(29) => Kind::Submission,
        Some(40) => Kind::Alert,
        Some(41) => Kind::UrlClick,
        Some(64 | 86 | 89) => Kind::Investigation,
        Some(65) => Kind::Quarantine,
        _ => Kind::Row,
    }
}

fn is_named(name: &str) -> bool {
    NAMES.iter().any(|(_, known)| *known == name)
}

/// The record's type: its number where that is known, and its name.
fn record_type(row: &Row<'_>) -> (Option<i64>, Box<str>) {
    let by_operation = || {
        let operation = field::text(row, "Operation")?;
        OPERATIONS.iter().find(|(word, _)| operation.eq_ignore_ascii_case(word)).map(|(_, it)| *it)
    };
    let word = field::text(row, "RecordType");
    let number = match word.as_deref() {
        Some(word) => word.parse().ok().or_else(|| {
            NAMES
                .iter()
                .find(|(_, name)| name.eq_ignore_ascii_case(word))
                .map(|(number, _)| *number)
        }),
        None => by_operation(),
    };
    let name = number
        .and_then(|number| NAMES.iter().find(|(known, _)| *known == number))
        .map(|(_, name)| Box::from(*name))
        .or_else(|| word.map(|word| word.into_owned().into_boxed_str()))
        .unwrap_or_default();
    (number, name)
}

fn identity<'a>(row: &Row<'a>, kind: Kind) -> (&'static str, Vec<Part<'a>>) {
    if kind == Kind::Submission
        && let Some(submission) = field::text(row, "SubmissionId")
    {
        let state = field::first(row, &["SubmissionState", "Operation"]).unwrap_or_default();
        return (kind.as_str(), vec![Part::Text(submission), Part::Text(state)]);
    }
    (IDENTITY, vec![Part::Text(field::text(row, "Id").unwrap_or_default())])
}

fn key<'a>(row: &Row<'a>, kind: Kind) -> Option<Cow<'a, str>> {
    match kind {
        Kind::UrlClick => {
            let in_mail =
                field::text(row, "AppName").is_none_or(|app| app.eq_ignore_ascii_case("Mail"));
            field::text(row, "SourceId").filter(|_| in_mail)
        }
        Kind::Alert => field::text(row, "AlertId"),
        Kind::Investigation => field::text(row, "InvestigationId"),
        Kind::Submission => field::first(row, &["NetworkMessageId", "InternetMessageId"]),
        _ => field::first(row, &["NetworkMessageId", "AlertId"]),
    }
}

fn recipient<'a>(row: &Row<'a>, kind: Kind) -> Option<Cow<'a, str>> {
    let only = |name| match <[String; 1]>::try_from(field::list(row, name)) {
        Ok([only]) => Some(Cow::Owned(only)),
        Err(_) => None,
    };
    match kind {
        Kind::EmailActivity | Kind::Submission => only("Recipients"),
        Kind::UrlClick => field::text(row, "UserId"),
        Kind::Quarantine => only("ReleaseTo"),
        _ => None,
    }
}
