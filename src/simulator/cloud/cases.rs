//! Alerts and incidents as Graph shows them: made from the tenant's alert rows, folded into incidents, changed
//! by investigations, analysts and merges. Only the newest revision of each can be asked for; each has its
//! stamp. When something happens is the store's business.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use crate::domain::Ticks;

use super::evidence::{self, State};
use super::mails::{Mails, Row, text};
use super::odata::Item;

/// An alert.
#[derive(Debug, Clone)]
pub struct Alert {
    /// With its source's prefix.
    pub id: String,
    /// The incident that it is in.
    pub incident: u64,
    row: Row,
    evidence: Vec<Row>,
    /// When it was made.
    pub created: Ticks,
    /// When it changed last.
    pub updated: Ticks,
    status: &'static str,
    assigned: Option<&'static str>,
    investigation: Option<&'static str>,
    resolved: Option<Ticks>,
    is_full: bool,
    has_cluster: bool,
    remediation: &'static str,
}

/// An incident.
#[derive(Debug, Clone)]
pub struct Incident {
    /// Its number.
    pub id: u64,
    name: String,
    severity: String,
    /// When it was made.
    pub created: Ticks,
    /// When it changed last.
    pub updated: Ticks,
    status: &'static str,
    redirect: Option<u64>,
    alerts: Vec<String>,
    assigned: Option<&'static str>,
    classification: &'static str,
    determination: &'static str,
    modified_by: &'static str,
}

/// A change of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertStep {
    /// Facts of delivery, links, files and addresses are added.
    Enrich,
    /// An automated investigation begins.
    Investigate,
    /// It ends, and what was in the mailboxes is gone.
    Conclude,
}

/// What is asked for.
#[derive(Debug, Default)]
pub struct Cases {
    tenant: String,
    rows: HashMap<String, (Row, Vec<Row>)>,
    /// By id.
    pub alerts: BTreeMap<String, Alert>,
    /// By number.
    pub incidents: BTreeMap<u64, Incident>,
    by_cluster: HashMap<String, u64>,
}

/// Alerts that are folded into one incident; the next begins another.
const MOST_ALERTS: usize = 6;
/// The first incident's number.
const FIRST_INCIDENT: u64 = 4701;

impl Cases {
    /// None yet, of this tenant.
    #[must_use]
    pub fn of(tenant: &str) -> Self {
        Self { tenant: tenant.to_owned(), ..Self::default() }
    }

    /// An `AlertInfo` row; true if it is a new one, so that the alert is due.
    pub fn info(&mut self, row: &Row) -> bool {
        let id = text(row, "AlertId");
        if self.alerts.contains_key(id) {
            return false;
        }
        let entry = self.rows.entry(id.to_owned()).or_default();
        let is_new = entry.0.is_empty();
        entry.0 = row.clone();
        is_new
    }

    /// An `AlertEvidence` row; true if a shown alert changes by it.
    pub fn evidence(&mut self, row: &Row) -> bool {
        let id = text(row, "AlertId");
        self.rows.entry(id.to_owned()).or_default().1.push(row.clone());
        self.alerts.contains_key(id)
    }

    /// The alert appears, in an incident of its own or in one about the same mails. Returns the incident's
    /// number and whether it is new.
    pub fn appear(&mut self, id: &str, mails: &Mails, stamp: Ticks) -> Option<(u64, bool)> {
        let (row, evidence) = self.rows.remove(id)?;
        let message =
            evidence.iter().map(|row| text(row, "NetworkMessageId")).find(|id| !id.is_empty());
        let known =
            message.and_then(|id| mails.get(id)).and_then(|known| known.rows.values().next());
        let cluster = known
            .and_then(|row| row.get("EmailClusterId"))
            .map_or_else(|| message.unwrap_or_default().to_owned(), Value::to_string);
        let open = self.by_cluster.get(&cluster).copied().filter(|id| {
            self.incidents.get(id).is_some_and(|incident| {
                incident.status == "active" && incident.alerts.len() < MOST_ALERTS
            })
        });
        let is_new = open.is_none();
        let title = text(&row, "Title").trim_end_matches('\u{200b}').to_owned();
        let severity = text(&row, "Severity").to_lowercase();
        let number = open.unwrap_or_else(|| {
            let last = self.incidents.keys().next_back();
            last.map_or(FIRST_INCIDENT, |last| last + 1)
        });
        let incident = self.incidents.entry(number).or_insert_with(|| Incident {
            id: number,
            name: format!("{title} involving one user"),
            severity: severity.clone(),
            created: stamp,
            updated: Ticks(0),
            status: "active",
            redirect: None,
            alerts: Vec::new(),
            assigned: None,
            classification: "unknown",
            determination: "unknown",
            modified_by: "Microsoft 365 Defender-IncidentCreation",
        });
        incident.alerts.push(id.to_owned());
        if incident.alerts.len() == 2 {
            incident.name = incident.name.replace("one user", "multiple users");
        }
        if rank(&severity) > rank(&incident.severity) {
            incident.severity = severity;
        }
        touch(&mut incident.updated, stamp);
        self.by_cluster.insert(cluster, number);
        let alert = Alert {
            id: id.to_owned(),
            incident: number,
            row,
            evidence,
            created: stamp,
            updated: stamp,
            status: "new",
            assigned: None,
            investigation: None,
            resolved: None,
            is_full: false,
            has_cluster: false,
            remediation: "active",
        };
        self.alerts.insert(id.to_owned(), alert);
        Some((number, is_new))
    }

    /// Evidence that came later is added.
    pub fn more_evidence(&mut self, id: &str, stamp: Ticks) -> bool {
        let Some((_, more)) = self.rows.remove(id) else { return false };
        let Some(alert) = self.alerts.get_mut(id) else { return false };
        alert.evidence.extend(more);
        touch(&mut alert.updated, stamp);
        true
    }

    /// An alert changes; false if there is none.
    pub fn step(&mut self, id: &str, step: AlertStep, stamp: Ticks) -> bool {
        let Some(alert) = self.alerts.get_mut(id) else { return false };
        match step {
            AlertStep::Enrich => alert.is_full = true,
            AlertStep::Investigate => {
                alert.status = "inProgress";
                alert.assigned = Some("Automation");
                alert.investigation = Some("running");
                alert.has_cluster = true;
            }
            AlertStep::Conclude => {
                alert.status = "resolved";
                alert.investigation = Some("successfullyRemediated");
                alert.remediation = "remediated";
                alert.resolved = Some(stamp);
            }
        }
        touch(&mut alert.updated, stamp);
        true
    }

    /// An analyst closes the incident; false if it is not open.
    pub fn resolve(&mut self, number: u64, stamp: Ticks) -> bool {
        let Some(incident) = self.incidents.get_mut(&number) else { return false };
        if incident.status != "active" {
            return false;
        }
        incident.status = "resolved";
        incident.classification = "truePositive";
        incident.determination = "phishing";
        incident.assigned = Some("soc@contoso.example");
        incident.modified_by = "soc@contoso.example";
        touch(&mut incident.updated, stamp);
        true
    }

    /// Correlation moves everything in `from` into an older open incident. Returns the target and the alerts
    /// that moved.
    pub fn merge(&mut self, from: u64, stamp: Ticks) -> Option<(u64, Vec<String>)> {
        let is_open = |incident: &&Incident| incident.status == "active";
        self.incidents.get(&from).filter(is_open)?;
        let target =
            self.incidents.range(..from).rev().map(|(_, incident)| incident).find(is_open)?.id;
        let source = self.incidents.get_mut(&from)?;
        source.status = "redirected";
        source.redirect = Some(target);
        source.modified_by = "Microsoft Defender XDR - alert correlation";
        touch(&mut source.updated, stamp);
        let moved = std::mem::take(&mut source.alerts);
        for id in &moved {
            if let Some(alert) = self.alerts.get_mut(id) {
                alert.incident = target;
                touch(&mut alert.updated, stamp);
            }
        }
        let incident = self.incidents.get_mut(&target)?;
        incident.alerts.extend(moved.iter().cloned());
        touch(&mut incident.updated, stamp);
        for number in self.by_cluster.values_mut().filter(|number| **number == from) {
            *number = target;
        }
        Some((target, moved))
    }

    /// Graph's JSON of an alert.
    #[must_use]
    pub fn alert_json(&self, alert: &Alert, mails: &Mails) -> Value {
        let row = &alert.row;
        let title = text(row, "Title");
        let id = &alert.id;
        let tenant = &self.tenant;
        let provider = id.get(2..).unwrap_or_default();
        json!({
            "id": id,
            "providerAlertId": provider,
            "incidentId": alert.incident.to_string(),
            "status": alert.status,
            "severity": text(row, "Severity").to_lowercase(),
            "classification": "unknown",
            "determination": "unknown",
            "serviceSource": "microsoftDefenderForOffice365",
            "detectionSource": "microsoftDefenderForOffice365",
            "productName": "Microsoft Defender for Office 365",
            "detectorId": super::tokens::guid(title),
            "tenantId": tenant,
            "title": title,
            "description": format!("{title}. -V1.0.0.1"),
            "recommendedActions": "",
            "category": "InitialAccess",
            "categories": ["InitialAccess"],
            "assignedTo": alert.assigned,
            "alertWebUrl": format!("https://security.microsoft.com/alerts/{id}?tid={tenant}"),
            "incidentWebUrl": web_url(alert.incident, tenant),
            "actorDisplayName": null,
            "threatDisplayName": null,
            "threatFamilyName": null,
            "mitreTechniques": ["T1566"],
            "createdDateTime": alert.created.to_string(),
            "lastUpdateDateTime": alert.updated.to_string(),
            "resolvedDateTime": alert.resolved.map(|at| at.to_string()),
            "firstActivityDateTime": text(row, "Timestamp"),
            "lastActivityDateTime": text(row, "Timestamp"),
            "investigationState": alert.investigation,
            "systemTags": [],
            "alertPolicyId": null,
            "comments": [],
            "customDetails": {},
            "additionalData": { "InvestigationState": alert.investigation.map_or(8192, |_| 32) },
            "evidence": evidence_of(alert, mails),
        })
    }

    /// Graph's JSON of an incident.
    #[must_use]
    pub fn incident_json(&self, incident: &Incident, expand: bool, mails: &Mails) -> Value {
        let mut value = json!({
            "id": incident.id.to_string(),
            "tenantId": self.tenant,
            "status": incident.status,
            "incidentWebUrl": web_url(incident.id, &self.tenant),
            "redirectIncidentId": incident.redirect.map(|id| id.to_string()),
            "displayName": incident.name,
            "createdDateTime": incident.created.to_string(),
            "lastUpdateDateTime": incident.updated.to_string(),
            "assignedTo": incident.assigned,
            "classification": incident.classification,
            "determination": incident.determination,
            "severity": incident.severity,
            "customTags": incident.redirect.map_or_else(Vec::new, |_| vec!["Redirected"]),
            "systemTags": [],
            "description": null,
            "summary": null,
            "lastModifiedBy": incident.modified_by,
            "resolvingComment": null,
            "priorityScore": 12,
            "comments": [],
        });
        if expand && let Some(object) = value.as_object_mut() {
            let alerts = incident.alerts.iter().filter_map(|id| self.alerts.get(id));
            let alerts: Vec<Value> = alerts.map(|alert| self.alert_json(alert, mails)).collect();
            object.insert("alerts".to_owned(), alerts.into());
        }
        value
    }
}

fn web_url(incident: u64, tenant: &str) -> String {
    format!("https://security.microsoft.com/incident2/{incident}/overview?tid={tenant}")
}

fn evidence_of(alert: &Alert, mails: &Mails) -> Vec<Value> {
    let state =
        State { created: alert.created, is_full: alert.is_full, remediation: alert.remediation };
    let mut out = Vec::new();
    let mut messages = Vec::new();
    let (mut urls, mut files, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    for row in &alert.evidence {
        let fields: Row = serde_json::from_str(text(row, "AdditionalFields")).unwrap_or_default();
        if text(row, "EntityType") == "MailMessage" {
            let id = text(&fields, "NetworkMessageId");
            let known = mails.get(id);
            let mail = known.and_then(|known| known.rows.get(text(&fields, "Recipient")));
            out.push(evidence::message(&fields, mail, known, state));
            messages.push(id.to_owned());
            addresses.push(text(&fields, "SenderIP").to_owned());
            urls.extend(known.into_iter().flat_map(|known| known.urls.clone()));
            files.extend(known.into_iter().flat_map(|known| known.files.clone()));
        } else {
            let address = text(&fields, "MailboxPrimaryAddress");
            let (name, id) = (text(row, "AccountName"), text(row, "AccountObjectId"));
            out.push(evidence::mailbox(address, name, id, state));
            out.push(evidence::user(address, name, id, state));
        }
    }
    messages.sort();
    messages.dedup();
    if alert.is_full {
        urls.sort();
        urls.dedup();
        out.extend(urls.iter().map(|url| evidence::url(url, state)));
        addresses.sort();
        addresses.dedup();
        out.extend(addresses.iter().map(|address| evidence::ip(address, state)));
        out.extend(files.iter().map(|row| evidence::file(row, state)));
    }
    if alert.has_cluster
        && let Some(row) = alert.evidence.iter().find(|row| !text(row, "EmailSubject").is_empty())
    {
        let fields: Row = serde_json::from_str(text(row, "AdditionalFields")).unwrap_or_default();
        let domain = text(&fields, "P2Sender").rsplit_once('@').map_or("", |(_, domain)| domain);
        out.push(evidence::cluster(text(row, "EmailSubject"), domain, &messages, state));
    }
    out
}

/// Stamps move forward with every change.
fn touch(updated: &mut Ticks, stamp: Ticks) {
    *updated = stamp.max(Ticks(updated.0 + 1));
}

fn rank(severity: &str) -> usize {
    ["informational", "low", "medium", "high"]
        .iter()
        .position(|word| *word == severity)
        .unwrap_or(0)
}

impl Item for Alert {
    fn time(&self, field: &str) -> Ticks {
        if field == "createdDateTime" { self.created } else { self.updated }
    }

    fn word(&self, field: &str) -> Option<&str> {
        match field {
            "status" => Some(self.status),
            "severity" => Some(known_severity(text(&self.row, "Severity"))),
            "serviceSource" => Some("microsoftDefenderForOffice365"),
            "assignedTo" => self.assigned,
            _ => Some("unknown"),
        }
    }
}

fn known_severity(word: &str) -> &'static str {
    match word {
        "High" => "high",
        "Medium" => "medium",
        "Low" => "low",
        _ => "informational",
    }
}

impl Item for Incident {
    fn time(&self, field: &str) -> Ticks {
        if field == "createdDateTime" { self.created } else { self.updated }
    }

    fn word(&self, field: &str) -> Option<&str> {
        match field {
            "status" => Some(self.status),
            "severity" => Some(&self.severity),
            "assignedTo" => self.assigned,
            "classification" => Some(self.classification),
            _ => Some(self.determination),
        }
    }
}
