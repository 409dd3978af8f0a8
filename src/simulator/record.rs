//! A record as the tenant exports it, and the fact that goes into the ground truth: which record it is, told
//! by the table's identity columns themselves (no hash, no normalizing), and what must be said about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::domain::{Tags, Ticks};

/// What the model knows of a record that Postern must get right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The table, without prefix.
    pub table: &'static str,
    /// The identity columns as JSON text, keys sorted, empty ones left out; for `EmailEvents` the columns of
    /// the revision too; for tables without a key of their own every column.
    pub identity: Box<str>,
    /// Set where an ordinary allow delivered high-confidence phish.
    pub allowed: Option<Allowed>,
    /// The tags it must get, where the model knows.
    pub tags: Option<Tags>,
}

/// High-confidence phish that a setting let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The word of the setting that let it in.
    pub kind: &'static str,
    /// The mail's cluster.
    pub cluster: u64,
}

/// A record, ready to be exported.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it can be seen (the envelope's `time`).
    pub visible: Ticks,
    /// `_TimeReceivedBySvc`, in the table's own form.
    pub received: Arc<str>,
    /// Records with the same lane keep their order.
    pub lane: u64,
    /// The row.
    pub properties: Arc<RawValue>,
    /// What is true of it.
    pub fact: Arc<Fact>,
}

const EMAIL_EVENTS: &[&str] = &[
    "NetworkMessageId",
    "RecipientEmailAddress",
    "ReportId",
    "Timestamp",
    "ThreatTypes",
    "DetectionMethods",
    "ConfidenceLevel",
    "OrgLevelAction",
    "OrgLevelPolicy",
    "UserLevelAction",
    "UserLevelPolicy",
    "DeliveryAction",
    "DeliveryLocation",
];
const POST_DELIVERY: &[&str] =
    &["NetworkMessageId", "RecipientEmailAddress", "Timestamp", "ActionType", "Action", "ReportId"];
const URL_INFO: &[&str] = &["NetworkMessageId", "ReportId", "Url", "UrlLocation"];
const ATTACHMENT_INFO: &[&str] =
    &["NetworkMessageId", "RecipientEmailAddress", "ReportId", "SHA256", "FileName"];
const CLICKS: &[&str] =
    &["ReportId", "Timestamp", "AccountUpn", "ActionType", "IsClickedThrough", "Url"];

/// The identity of a row of `table`, as in [`Fact::identity`]; `None` if `row` is not a JSON object.
#[must_use]
pub fn identity(table: &str, row: &str) -> Option<String> {
    let row: Map<String, Value> = serde_json::from_str(row).ok()?;
    let columns = match table {
        "EmailEvents" => EMAIL_EVENTS,
        "EmailPostDeliveryEvents" => POST_DELIVERY,
        "EmailUrlInfo" => URL_INFO,
        "EmailAttachmentInfo" => ATTACHMENT_INFO,
        "UrlClickEvents" => CLICKS,
        "AlertEvidence" => return serde_json::to_string(&evidence(&row)).ok(),
        _ => return serde_json::to_string(&all(&row)).ok(),
    };
    let chosen: BTreeMap<&str, Value> = columns
        .iter()
        .filter_map(|column| {
            let value = row.get(*column).filter(|value| says_something(value))?;
            Some((*column, plain(column, value)))
        })
        .collect();
    serde_json::to_string(&chosen).ok()
}

fn all(row: &Map<String, Value>) -> BTreeMap<&str, Value> {
    row.iter()
        .filter(|(_, value)| says_something(value))
        .map(|(column, value)| (&**column, plain(column, value)))
        .collect()
}

/// A value in one form, whichever transport brought it: hunting writes 0 and 1 for false and true, and times
/// with as many digits as it likes.
fn plain(column: &str, value: &Value) -> Value {
    match (column, value) {
        ("IsClickedThrough", Value::Number(number)) => (number.as_i64() != Some(0)).into(),
        ("Timestamp", Value::String(text)) => match Ticks::parse(text) {
            Some(time) => time.to_string().into(),
            None => value.clone(),
        },
        _ => value.clone(),
    }
}

fn evidence(row: &Map<String, Value>) -> BTreeMap<&str, Value> {
    let text = row.get("AdditionalFields").and_then(Value::as_str).unwrap_or_default();
    let fields: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let Some(entity) = fields.get("MergeByKeyHex") else { return all(row) };
    let mut chosen = BTreeMap::from([("MergeByKeyHex", entity.clone())]);
    for column in ["AlertId", "EntityType", "EvidenceRole"] {
        if let Some(value) = row.get(column) {
            chosen.insert(column, value.clone());
        }
    }
    chosen
}

fn says_something(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_verdict_is_a_new_record_and_another_subject_is_not() {
        let identity = |row| identity("EmailEvents", row).unwrap();
        let first = r#"{"NetworkMessageId":"m","ReportId":"r","Subject":"a","ThreatTypes":null}"#;
        let later =
            r#"{"NetworkMessageId":"m","ReportId":"r","Subject":"a","ThreatTypes":"Phish"}"#;
        let again = r#"{"ThreatTypes":"","NetworkMessageId":"m","ReportId":"r","Subject":"b"}"#;
        assert_ne!(identity(first), identity(later));
        assert_eq!(identity(first), identity(again));
    }

    #[test]
    fn evidence_is_told_by_its_entity_and_without_one_by_everything() {
        let row = |fields: &str, title: &str| {
            let row = serde_json::json!({
                "AlertId": "a", "EntityType": "Ip", "AdditionalFields": fields, "Title": title
            });
            identity("AlertEvidence", &row.to_string()).unwrap()
        };
        assert_eq!(row(r#"{"MergeByKeyHex":"00"}"#, "x"), row(r#"{"MergeByKeyHex":"00"}"#, "y"));
        assert_ne!(row("{}", "x"), row("{}", "y"));
    }
}
