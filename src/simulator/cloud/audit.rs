//! Records of the unified audit log about mail, made from the tenant's rows: one for each message, click,
//! alert, report, investigation and release. Their ids come from what they are about, so one seed gives one log.

use serde_json::{Value, json};

use crate::domain::Ticks;

use super::mails::{Known, Row, text};
use super::tokens::guid;

/// A record with its id.
#[derive(Debug, Clone)]
pub struct Record {
    /// `Id`.
    pub id: String,
    /// The whole record.
    pub value: Value,
}

/// What every record has.
struct Common<'a> {
    tenant: &'a str,
    kind: u32,
    operation: &'a str,
    workload: &'a str,
    user: &'a str,
    about: &'a str,
    at: &'a str,
}

fn record(common: &Common<'_>, more: Value) -> Record {
    let id = guid(&format!("{} {} {}", common.kind, common.operation, common.about));
    let at = common.at.split(['.', 'Z']).next().unwrap_or_default();
    let key = if common.workload == "ThreatIntelligence" { "ThreatIntel" } else { common.user };
    let mut value = json!({
        "CreationTime": at,
        "Id": id,
        "Operation": common.operation,
        "OrganizationId": common.tenant,
        "RecordType": common.kind,
        "UserKey": key,
        "UserType": 4,
        "Version": 1,
        "Workload": common.workload,
        "ObjectId": common.about,
        "UserId": common.user,
    });
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    Record { id, value }
}

fn zoneless(time: &str) -> &str {
    time.trim_end_matches('Z')
}

/// `TIMailData`: one for a message with all its recipients. `None` where there is nothing to report: no
/// threat, no override.
#[must_use]
pub fn mail(tenant: &str, id: &str, known: &Known) -> Option<Record> {
    let says = |row: &&Row| {
        ["ThreatTypes", "OrgLevelAction", "UserLevelAction"]
            .iter()
            .any(|column| !text(row, column).is_empty())
    };
    let row = known.rows.values().find(says)?;
    if text(row, "EmailDirection") == "Outbound" {
        return None;
    }
    let location = match text(row, "DeliveryLocation") {
        "Inbox/folder" => "Inbox",
        "Junk folder" => "JunkFolder",
        "Quarantine" => "Quarantine",
        _ => "External",
    };
    let action = match text(row, "DeliveryAction") {
        "Junked" => "DeliveredAsSpam",
        other => other,
    };
    let threats = text(row, "ThreatTypes");
    let verdict = ["Malware", "Phish", "Spam"].into_iter().find(|word| threats.contains(word));
    let high = text(row, "ConfidenceLevel").contains("\"Phish\":\"High\"");
    let policy = match verdict {
        Some("Malware") => "AntiMalware",
        Some("Phish") if high => "HighConfidencePhish",
        Some(other) => other,
        None => "",
    };
    let methods: Row = serde_json::from_str(text(row, "DetectionMethods")).unwrap_or_default();
    let technologies: Vec<String> = methods
        .iter()
        .map(|(threat, names)| {
            let names: Vec<&str> =
                names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            format!("{threat}: [{}]", names.join(", "))
        })
        .collect();
    let authentication: Row =
        serde_json::from_str(text(row, "AuthenticationDetails")).unwrap_or_default();
    let authentication: Vec<Value> = authentication
        .iter()
        .map(|(name, value)| {
            let name = if name == "CompAuth" { "Comp Auth" } else { name };
            json!({ "Name": name, "Value": value })
        })
        .collect();
    let files: Vec<Value> = known
        .files
        .iter()
        .map(|file| {
            json!({
                "FileName": text(file, "FileName"),
                "FileType": text(file, "FileType"),
                "FileVerdict": i32::from(!text(file, "ThreatTypes").is_empty()),
                "MalwareFamily": "",
                "SHA256": text(file, "SHA256").to_uppercase(),
            })
        })
        .collect();
    let common = Common {
        tenant,
        kind: 28,
        operation: "TIMailData",
        workload: "ThreatIntelligence",
        user: "ThreatIntel",
        about: id,
        at: text(row, "Timestamp"),
    };
    let mut found = record(
        &common,
        json!({
            "AdditionalActionsAndResults": ["OriginalDelivery: [N/A]"],
            "AttachmentData": files,
            "AuthDetails": authentication,
            "DeliveryAction": action,
            "DetectionMethod": methods.values().find_map(|names| names.as_array()?.first().cloned()),
            "DetectionType": "Inline",
            "Directionality": text(row, "EmailDirection"),
            "EventDeepLink": format!("https://security.microsoft.com/?hash=/threatexplorer?messageParams={id}"),
            "InternetMessageId": text(row, "InternetMessageId"),
            "LatestDeliveryLocation": location,
            "MessageTime": zoneless(text(row, "Timestamp")),
            "NetworkMessageId": id,
            "OriginalDeliveryLocation": location,
            "P1Sender": text(row, "SenderMailFromAddress"),
            "P2Sender": text(row, "SenderFromAddress"),
            "Policy": policy,
            "PolicyAction": if location == "Quarantine" { "Quarantine" } else { "NoAction" },
            "Recipients": known.rows.keys().collect::<Vec<_>>(),
            "SenderIp": text(row, "SenderIPv4"),
            "Subject": text(row, "Subject"),
            "SystemOverrides": overrides(row, action == "Delivered"),
            "ThreatsAndDetectionTech": technologies,
            "Verdict": verdict.unwrap_or("Good"),
        }),
    );
    if verdict == Some("Phish")
        && let Some(object) = found.value.as_object_mut()
    {
        let level = if high { "High" } else { "Normal" };
        object.insert("PhishConfidenceLevel".to_owned(), level.into());
    }
    Some(found)
}

fn overrides(row: &Row, delivered: bool) -> Vec<Value> {
    let one = |level: &str, source: &str| {
        let result = text(row, &format!("{level}Action")).to_owned();
        let policy = text(row, &format!("{level}Policy")).to_owned();
        let is_final = (result == "Allow") == delivered;
        (!result.is_empty()).then(|| {
            json!({
                "Details": policy,
                "FinalOverride": if is_final { "Yes" } else { "No" },
                "Result": result,
                "Source": source,
            })
        })
    };
    [one("OrgLevel", "Tenant"), one("UserLevel", "User")].into_iter().flatten().collect()
}

/// `TIUrlClickData`.
#[must_use]
pub fn click(tenant: &str, row: &Row) -> Record {
    let common = Common {
        tenant,
        kind: 41,
        operation: "TIUrlClickData",
        workload: "ThreatIntelligence",
        user: text(row, "AccountUpn"),
        about: text(row, "ReportId"),
        at: text(row, "Timestamp"),
    };
    let action = if text(row, "ActionType") == "ClickBlocked" { 2 } else { 4 };
    record(
        &common,
        json!({
            "AppName": "Mail",
            "AppVersion": "0.0.0000",
            "EventDeepLink": "https://security.microsoft.com/threatexplorer",
            "SourceId": text(row, "NetworkMessageId"),
            "TimeOfClick": zoneless(text(row, "Timestamp")),
            "Url": text(row, "Url"),
            "UrlClickAction": action,
            "UserIp": text(row, "IPAddress"),
        }),
    )
}

/// `AlertTriggered`.
#[must_use]
pub fn alert(tenant: &str, row: &Row) -> Record {
    alert_record(tenant, row, "AlertTriggered", "", json!({}))
}

/// `AlertEntityGenerated`: one mailbox that an alert is about.
#[must_use]
pub fn alert_entity(tenant: &str, row: &Row) -> Record {
    let upn = text(row, "AccountUpn");
    alert_record(
        tenant,
        row,
        "AlertEntityGenerated",
        upn,
        json!({ "AlertEntityId": upn, "EntityType": "Recipients" }),
    )
}

fn alert_record(tenant: &str, row: &Row, operation: &str, entity: &str, more: Value) -> Record {
    let (title, at) = (text(row, "Title"), text(row, "Timestamp"));
    let id = text(row, "AlertId").get(2..).unwrap_or_default();
    let about = format!("{id} {entity}");
    let common = Common {
        tenant,
        kind: 40,
        operation,
        workload: "SecurityComplianceCenter",
        user: "SecurityComplianceAlerts",
        about: &about,
        at,
    };
    let data = json!({ "f3u": entity, "ts": at, "te": at, "tid": tenant, "tdc": "1", "an": title });
    let mut found = record(
        &common,
        json!({
            "ResultStatus": "Succeeded",
            "ObjectId": id,
            "AlertId": id,
            "AlertLinks": [{ "AlertLinkHref": "" }],
            "AlertType": "System",
            "Category": "ThreatManagement",
            "Comments": "New alert",
            "Data": data.to_string(),
            "Name": title,
            "PolicyId": guid(title),
            "Severity": text(row, "Severity"),
            "Source": "Office 365 Security & Compliance",
            "Status": "Active",
        }),
    );
    if let (Some(object), Value::Object(more)) = (found.value.as_object_mut(), more) {
        object.extend(more);
    }
    found
}

/// `UserSubmission`: a user has reported the mail of this evidence.
#[must_use]
pub fn submission(tenant: &str, row: &Row) -> Record {
    let fields: Row = serde_json::from_str(text(row, "AdditionalFields")).unwrap_or_default();
    let recipient = text(&fields, "Recipient");
    let about = format!("{} {recipient}", text(row, "AlertId"));
    let common = Common {
        tenant,
        kind: 29,
        operation: "UserSubmission",
        workload: "SecurityComplianceCenter",
        user: recipient,
        about: &about,
        at: text(row, "Timestamp"),
    };
    let sender = text(&fields, "P2Sender");
    record(
        &common,
        json!({
            "SubmissionId": guid(&about),
            "SubmissionType": "0",
            "SubmissionContentType": "Mail",
            "SubmissionContentSubType": "MsftAndCustomMbxSubmission",
            "SubmissionState": "Submitted",
            "SubmitterId": guid(recipient),
            "KesMailId": guid(&format!("kes {about}")),
            "InternetMessageId": text(&fields, "InternetMessageId"),
            "Subject": text(&fields, "Subject"),
            "MessageDate": zoneless(text(row, "Timestamp")),
            "SenderIP": text(&fields, "SenderIP"),
            "P1Sender": text(&fields, "Sender"),
            "P2Sender": sender,
            "P2SenderDomain": sender.rsplit_once('@').map(|(_, domain)| domain),
            "Recipients": format!("[{recipient}]"),
            "BCLValue": "0",
            "Language": "en",
            "ExtendedProperties": [{ "Name": "SubmissionCategory", "Value": "Phish" }],
        }),
    )
}

/// `QuarantineReleaseMessage`.
#[must_use]
pub fn release(tenant: &str, row: &Row) -> Record {
    let common = Common {
        tenant,
        kind: 65,
        operation: "QuarantineReleaseMessage",
        workload: "Quarantine",
        user: "soc@contoso.example",
        about: text(row, "ReportId"),
        at: text(row, "Timestamp"),
    };
    record(
        &common,
        json!({
            "ResultStatus": "Successful",
            "NetworkMessageId": text(row, "NetworkMessageId"),
            "ReleaseTo": text(row, "RecipientEmailAddress"),
            "RequestType": 2,
            "RequestSource": 0,
        }),
    )
}

/// `AirInvestigationData`: an automated investigation of an alert has changed its state.
#[must_use]
pub fn investigation(tenant: &str, alert: &str, status: &str, at: Ticks) -> Record {
    let about = format!("{alert} {status}");
    let at = at.to_string();
    let common = Common {
        tenant,
        kind: 64,
        operation: "AirInvestigationData",
        workload: "AirInvestigation",
        user: "AirInvestigation",
        about: &about,
        at: &at,
    };
    let id = format!("urn:ZappedUrlInvestigation:{}", guid(alert).replace('-', ""));
    record(
        &common,
        json!({
            "InvestigationId": id,
            "InvestigationName": format!("Mail with malicious urls is zapped - {id}"),
            "InvestigationType": "ZappedUrlInvestigation",
            "LastUpdateTimeUtc": zoneless(&at),
            "Status": status,
            "DeepLinkUrl": format!("https://security.microsoft.com/mtp-investigation/{id}"),
            "Actions": [],
            "Data": json!({ "Version": "3.0", "ProviderName": "OATP", "Status": status }).to_string(),
        }),
    )
}
