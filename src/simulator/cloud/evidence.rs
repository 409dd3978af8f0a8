//! The evidence of Graph's alerts, type by type, with the keys that Graph sends: null where it has null. Fresh
//! evidence is sparse, as on real tenants: facts of delivery come with a later revision.

use serde_json::{Value, json};

use crate::domain::Ticks;

use super::mails::{Known, Row, text};

/// State of an alert's evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// When it was added.
    pub created: Ticks,
    /// Whether the facts of delivery are there.
    pub is_full: bool,
    /// `remediationStatus` of what was in the mailbox.
    pub remediation: &'static str,
}

fn base(kind: &str, verdict: &str, remediation: &str, state: State) -> Value {
    json!({
        "@odata.type": format!("#microsoft.graph.security.{kind}"),
        "createdDateTime": state.created.to_string(),
        "verdict": verdict,
        "remediationStatus": remediation,
        "remediationStatusDetails": null,
        "roles": [],
        "detailedRoles": [],
        "tags": [],
    })
}

fn with(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}

/// The mail itself. `fields` is what the alert knows by itself (the `AdditionalFields` of its evidence row);
/// `row` the mail's own row, where it is known.
#[must_use]
pub fn message(fields: &Row, row: Option<&Row>, known: Option<&Known>, state: State) -> Value {
    let full = row.filter(|_| state.is_full);
    let word = |column: &str| full.map(|row| text(row, column)).unwrap_or_default();
    let sender = |address: &str, name: Option<&str>| {
        json!({
            "emailAddress": address,
            "displayName": name,
            "domainName": address.rsplit_once('@').map(|(_, domain)| domain),
        })
    };
    let urls: Vec<&String> = known
        .filter(|_| state.is_full)
        .map(|known| known.urls.iter().collect())
        .unwrap_or_default();
    let p1 = if state.is_full { sender(text(fields, "Sender"), None) } else { Value::Null };
    let name = full.map(|row| text(row, "SenderDisplayName"));
    with(
        base("analyzedMessageEvidence", "malicious", state.remediation, state),
        json!({
            "networkMessageId": text(fields, "NetworkMessageId"),
            "internetMessageId": text(fields, "InternetMessageId"),
            "subject": text(fields, "Subject"),
            "language": full.map(|row| text(row, "EmailLanguage")),
            "senderIp": text(fields, "SenderIP"),
            "recipientEmailAddress": text(fields, "Recipient"),
            "antiSpamDirection": full.map(|_| word("EmailDirection").to_lowercase().replace('-', "")),
            "deliveryAction": full.map(|_| delivery_action(word("DeliveryAction"))),
            "deliveryLocation": full.map(|_| delivery_location(word("DeliveryLocation"))),
            "urn": null,
            "threats": full.map(threats).unwrap_or_default(),
            "threatDetectionMethods": full.map(methods).unwrap_or_default(),
            "urls": urls,
            "urlCount": urls.len(),
            "attachmentsCount": full.and_then(|row| row.get("AttachmentCount")).cloned().unwrap_or(json!(0)),
            "receivedDateTime": row.map(|row| text(row, "Timestamp")),
            "p1Sender": p1,
            "p2Sender": sender(text(fields, "P2Sender"), name),
        }),
    )
}

fn delivery_action(word: &str) -> &'static str {
    match word {
        "Delivered" => "delivered",
        "Junked" => "junked",
        _ => "blocked",
    }
}

fn delivery_location(word: &str) -> &'static str {
    match word {
        "Inbox/folder" => "inbox",
        "Junk folder" => "junkFolder",
        "Quarantine" => "quarantine",
        _ => "external",
    }
}

/// Threats in the words of evidence.
#[must_use]
pub fn threats(row: &Row) -> Vec<String> {
    let high = text(row, "ConfidenceLevel").contains("\"Phish\":\"High\"");
    text(row, "ThreatTypes")
        .split(", ")
        .filter(|threat| !threat.is_empty())
        .map(|threat| if threat == "Phish" && high { "HighConfPhish" } else { threat }.to_owned())
        .collect()
}

/// Detection methods without blanks, as evidence writes them.
fn methods(row: &Row) -> Vec<String> {
    let methods: Row = serde_json::from_str(text(row, "DetectionMethods")).unwrap_or_default();
    let names = methods.values().filter_map(Value::as_array).flatten();
    names.filter_map(Value::as_str).map(camel).collect()
}

fn camel(words: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    };
    words.split(' ').map(word).collect()
}

fn account(address: &str, name: &str, object_id: &str) -> Value {
    let (user, domain) = address.split_once('@').unwrap_or((address, ""));
    json!({
        "accountName": user,
        "domainName": domain,
        "userSid": null,
        "azureAdUserId": Some(object_id).filter(|id| !id.is_empty()),
        "userPrincipalName": address,
        "displayName": name,
        "activeDirectoryObjectGuid": null,
        "tenantId": null,
        "resourceAccessEvents": [],
    })
}

/// The mailbox that it lies in.
#[must_use]
pub fn mailbox(address: &str, name: &str, object_id: &str, state: State) -> Value {
    with(
        base("mailboxEvidence", "unknown", "none", state),
        json!({
            "primaryAddress": address,
            "displayName": name,
            "upn": address,
            "userAccount": account(address, name, object_id),
        }),
    )
}

/// The user whom it concerns.
#[must_use]
pub fn user(address: &str, name: &str, object_id: &str, state: State) -> Value {
    with(
        base("userEvidence", "unknown", "none", state),
        json!({ "stream": null, "userAccount": account(address, name, object_id) }),
    )
}

/// A link.
#[must_use]
pub fn url(url: &str, state: State) -> Value {
    with(base("urlEvidence", "malicious", "none", state), json!({ "url": url }))
}

/// The sending server.
#[must_use]
pub fn ip(address: &str, state: State) -> Value {
    with(
        base("ipEvidence", "suspicious", "none", state),
        json!({
            "roles": ["source"],
            "ipAddress": address,
            "countryLetterCode": "NL",
            "location": {
                "countryName": "Netherlands", "state": null, "city": null, "latitude": 52.37, "longitude": 4.9
            },
            "stream": null,
        }),
    )
}

/// A file.
#[must_use]
pub fn file(row: &Row, state: State) -> Value {
    with(
        base("fileEvidence", "malicious", state.remediation, state),
        json!({
            "detectionStatus": null,
            "mdeDeviceId": null,
            "fileDetails": {
                "fileName": text(row, "FileName"),
                "filePath": null,
                "fileSize": row.get("FileSize").cloned().unwrap_or_default(),
                "filePublisher": null,
                "md5": null,
                "sha1": null,
                "sha256": text(row, "SHA256"),
                "sha256Ac": null,
                "issuer": null,
                "signer": null,
            },
        }),
    )
}

/// The mails that are like it, as an automated investigation groups them.
#[must_use]
pub fn cluster(subject: &str, domain: &str, messages: &[String], state: State) -> Value {
    let urn = messages.first().map(String::as_str).unwrap_or_default().replace('-', "");
    with(
        base("mailClusterEvidence", "suspicious", "pendingApproval", state),
        json!({
            "clusterBy": "Subject;P2SenderDomain;ContentType",
            "clusterByValue": format!("{subject};{domain};1"),
            "query": format!("((Subject:\"{subject}\") AND (P2SenderDomain:\"{domain}\"))"),
            "urn": format!("urn:Clusterinvestigation:{}", urn.get(..12).unwrap_or_default()),
            "emailCount": messages.len(),
            "networkMessageIds": messages,
        }),
    )
}
