//! Writes a mail and its deliveries down as the records that Microsoft would export, each with the fact that
//! is true of it. What happens after delivery is in `aftermath`, which uses the same pen.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::domain::ticks::TICKS_PER_SECOND;
use crate::domain::{Direction, OverrideKind, Tags, Ticks};

use super::aftermath;
use super::delivery::Delivery;
use super::expected;
use super::filter::Finding;
use super::mail::{Mail, Way, domain_of, host_of};
use super::overrides::{Setting, TRANSPORT_RULE_GUID};
use super::people::Person;
use super::random::Random;
use super::record::{Allowed, Fact, Record, identity};
use super::rows::{CampaignInfo, EmailAttachmentInfo, EmailEvents, EmailUrlInfo, Original};

/// The pen.
#[derive(Debug)]
pub struct Writer {
    /// Dice for everything that follows.
    pub(super) random: Random,
    haste: u32,
}

/// What one recipient's copy is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copy<'a> {
    pub(super) mail: &'a Mail,
    pub(super) person: &'a Arc<Person>,
    pub(super) delivery: &'a Delivery,
    /// The digits in the report id, the same for all rows about this copy.
    pub(super) report: u64,
}

/// Seconds that Microsoft takes to export a row of a table.
pub(super) const fn export_seconds(table: &str) -> u64 {
    match table.as_bytes() {
        b"EmailEvents" => 148,
        b"EmailUrlInfo" => 131,
        b"EmailAttachmentInfo" => 128,
        b"EmailPostDeliveryEvents" => 88,
        b"UrlClickEvents" => 146,
        _ => 120,
    }
}

impl Writer {
    /// A pen that shortens every delay by `haste`.
    #[must_use]
    pub fn new(random: Random, haste: u32) -> Self {
        Self { random, haste: haste.max(1) }
    }

    /// Writes everything about `mail`; `deliveries` are those of its recipients, in their order.
    pub fn write(&mut self, mail: &Mail, deliveries: &[Delivery], out: &mut Vec<Record>) {
        let mut copies = Vec::with_capacity(deliveries.len());
        for (person, delivery) in mail.recipients.iter().zip(deliveries) {
            let report = 1_000_000_000_000_000_000 + (self.random.next() >> 4);
            copies.push(Copy { mail, person, delivery, report });
        }
        for copy in &copies {
            let first = self.email(*copy, Row::First, out);
            self.attachments(*copy, out);
            aftermath::of_copy(self, *copy, first, out);
        }
        if mail.way != Way::Outbound {
            self.urls(mail, out);
        }
        aftermath::alerts(self, &copies, out);
        if mail.finding.phish.is_some() && self.random.chance(300) {
            self.campaign(mail, out);
        }
    }

    /// Writes one `EmailEvents` row and says when it becomes visible.
    pub(super) fn email(&mut self, copy: Copy<'_>, row: Row<'_>, out: &mut Vec<Record>) -> Ticks {
        let Copy { mail, person, delivery, report } = copy;
        let occurred = whole_seconds(mail.occurred);
        let report_id = format!("{}-{report}-1", mail.message_id);
        let found = match row {
            Row::First => &delivery.recorded,
            Row::Later { finding, .. } => finding,
        };
        let (threats, methods, confidence) =
            (found.threat_types(), found.detection_methods(), found.confidence_level());
        let rule = delivery.met.tenant.filter(|met| met.kind == OverrideKind::TransportRule);
        let row_text = EmailEvents {
            timestamp: &occurred.to_string(),
            network_message_id: &mail.message_id,
            internet_message_id: &mail.internet_message_id,
            sender_mail_from_address: &mail.sender.mail_from,
            sender_from_address: &mail.sender.address,
            sender_display_name: &mail.sender.name,
            sender_object_id: mail.sender.object_id.as_deref(),
            sender_mail_from_domain: domain_of(&mail.sender.mail_from),
            sender_from_domain: domain_of(&mail.sender.address),
            sender_ipv4: &mail.sender.ip,
            sender_ipv6: None,
            recipient_email_address: &person.address,
            recipient_object_id: Some(&*person.object_id).filter(|id| !id.is_empty()),
            subject: &mail.subject,
            email_cluster_id: mail.cluster,
            email_direction: mail.way.column(),
            delivery_action: delivery.place.delivery_action(),
            delivery_location: delivery.place.delivery_location(),
            threat_types: threats.as_deref(),
            threat_names: None,
            detection_methods: methods.as_deref(),
            confidence_level: confidence.as_deref(),
            bulk_complaint_level: found.bulk_level,
            email_action: delivery.acted.map(|(action, _)| action),
            email_action_policy: delivery.acted.map(|(_, policy)| policy),
            email_action_policy_guid: delivery
                .acted
                .map(|_| "0f6a2c11-9f0e-4c55-8a51-2b7f3f1d9e04"),
            authentication_details: mail.authentication,
            attachment_count: mail.attachments.len(),
            url_count: mail.urls.len(),
            email_language: "en",
            connectors: mail.sender.ip.starts_with("192.0.2.").then_some("Retail mail gateway"),
            org_level_action: delivery.met.tenant.map(action_word),
            org_level_policy: delivery.met.tenant.map(|setting| setting.policy),
            user_level_action: delivery.met.user.map(action_word),
            user_level_policy: delivery.met.user.map(|setting| setting.policy),
            report_id: &report_id,
            additional_fields: None,
            exchange_transport_rule: rule.map(|_| TRANSPORT_RULE_GUID),
            distribution_list: None,
            forwarding_information: None,
            context: None,
            to: mail.recipients.iter().map(|person| &*person.address).collect(),
            cc: Vec::new(),
            threat_classification: mail.subject.starts_with("Invoice").then_some("Invoice"),
            recipient_domain: domain_of(&person.address),
            email_size: mail.size,
            is_first_contact: (mail.way == Way::Inbound).then_some(mail.size.is_multiple_of(3)),
            original: row.original(),
        };
        let mut fact = Note::default();
        let visible = match row {
            Row::First => {
                fact.tags = Some(expected::first_row(mail.way, delivery));
                fact.allowed = allowed(mail, delivery);
                self.exported(mail.occurred, "EmailEvents")
            }
            Row::Later { visible, carries_original, .. } => {
                fact.tags = Some(expected::later_row(delivery, carries_original));
                visible
            }
        };
        self.record("EmailEvents", &mail.message_id, mail.occurred, visible, &row_text, fact, out);
        visible
    }

    fn attachments(&mut self, copy: Copy<'_>, out: &mut Vec<Record>) {
        let Copy { mail, person, report, .. } = copy;
        for (number, file) in mail.attachments.iter().enumerate() {
            let infected = !mail.finding.malware.is_empty();
            let extension = file.name.rfind('.').and_then(|dot| file.name.get(dot..));
            let row = EmailAttachmentInfo {
                timestamp: &whole_seconds(mail.occurred).to_string(),
                network_message_id: &mail.message_id,
                sender_from_address: &mail.sender.address,
                sender_display_name: &mail.sender.name,
                sender_object_id: mail.sender.object_id.as_deref(),
                recipient_email_address: &person.address,
                recipient_object_id: &person.object_id,
                file_name: &file.name,
                file_type: file.kind,
                sha256: &file.sha256,
                file_size: file.size,
                threat_types: infected.then_some("Malware"),
                threat_names: None,
                detection_methods: infected.then_some(r#"{"Malware":["File detonation"]}"#),
                report_id: &format!("{}-{report}-{}-{}", mail.message_id, file.sha256, number + 1),
                file_extension: extension.unwrap_or_default(),
            };
            let visible = self.exported(mail.occurred, "EmailAttachmentInfo");
            let (id, at) = (&mail.message_id, mail.occurred);
            self.record("EmailAttachmentInfo", id, at, visible, &row, Note::default(), out);
        }
    }

    fn urls(&mut self, mail: &Mail, out: &mut Vec<Record>) {
        let report = 1_000_000_000_000_000_000 + (self.random.next() >> 4);
        for url in &mail.urls {
            let row = EmailUrlInfo {
                timestamp: &whole_seconds(mail.occurred).to_string(),
                network_message_id: &mail.message_id,
                url,
                url_domain: host_of(url),
                url_location: "Body",
                report_id: &format!("{}-{report}", mail.message_id),
                url_chain_id: None,
                url_chain_position: 0,
            };
            let visible = self.exported(mail.occurred, "EmailUrlInfo");
            let (id, at) = (&mail.message_id, mail.occurred);
            self.record("EmailUrlInfo", id, at, visible, &row, Note::default(), out);
        }
    }

    fn campaign(&mut self, mail: &Mail, out: &mut Vec<Record>) {
        let recipient = mail.recipients.first().map(|person| &*person.address);
        let row = CampaignInfo {
            timestamp: &whole_seconds(mail.occurred).to_string(),
            campaign_name: &mail.subject,
            campaign_id: &mail.cluster.to_string(),
            campaign_type: "Phish",
            campaign_subtype: None,
            network_message_id: &mail.message_id,
            recipient_email_address: recipient.unwrap_or_default(),
            report_id: &self.random.guid(),
        };
        let visible = self.exported(mail.occurred, "CampaignInfo");
        let (id, at) = (&mail.message_id, mail.occurred);
        self.record("CampaignInfo", id, at, visible, &row, Note::default(), out);
    }

    /// When a row that was written at `occurred` is exported: the table's own delay, more or less.
    pub(super) fn exported(&mut self, occurred: Ticks, table: &str) -> Ticks {
        let percent = self.random.between(60, 140);
        self.after(occurred, export_seconds(table) * percent, 100)
    }

    /// `seconds / parts` after `occurred`, in this tenant's haste.
    pub(super) fn after(&self, occurred: Ticks, seconds: u64, parts: u64) -> Ticks {
        let ticks = seconds.saturating_mul(TICKS_PER_SECOND.unsigned_abs())
            / parts.max(1)
            / u64::from(self.haste);
        Ticks(occurred.0.saturating_add(i64::try_from(ticks).unwrap_or(i64::MAX)))
    }

    /// Puts a row down as a record.
    #[expect(clippy::too_many_arguments, reason = "one place where a record is made")]
    pub(super) fn record(
        &mut self,
        table: &'static str,
        belongs_to: &str,
        occurred: Ticks,
        visible: Ticks,
        row: &impl Serialize,
        note: Note,
        out: &mut Vec<Record>,
    ) {
        let Ok(properties) = to_raw_value(row) else { return };
        let identity = identity(table, properties.get()).unwrap_or_default().into_boxed_str();
        let zone = if table.starts_with("Email") { "" } else { "Z" };
        out.push(Record {
            visible,
            received: format!("{}{zone}", seven_digits(occurred)).into(),
            lane: lane(belongs_to),
            properties: Arc::from(properties),
            fact: Arc::new(Fact { table, identity, allowed: note.allowed, tags: note.tags }),
        });
    }
}

/// What is known of a row beside its columns.
#[derive(Debug, Default)]
pub(super) struct Note {
    pub(super) allowed: Option<Allowed>,
    pub(super) tags: Option<Tags>,
}

/// Which of a mail's rows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Row<'a> {
    /// The one at delivery.
    First,
    /// A later one with a new verdict.
    Later {
        /// The new verdict.
        finding: &'a Finding,
        /// When it becomes visible: after the first one.
        visible: Ticks,
        /// Whether it carries the verdict at delivery beside the new one.
        carries_original: bool,
    },
}

impl Row<'_> {
    const fn original(self) -> Option<Original> {
        match self {
            Row::Later { carries_original: true, .. } => Some(Original {
                original_threat_types: None,
                original_detection_methods: None,
                original_confidence_level: None,
            }),
            _ => None,
        }
    }
}

fn allowed(mail: &Mail, delivery: &Delivery) -> Option<Allowed> {
    let to_blame = [delivery.met.tenant, delivery.met.user]
        .into_iter()
        .flatten()
        .find(|setting| setting.direction == Direction::Allow && !setting.is_advanced_delivery())?;
    (mail.way == Way::Inbound && delivery.allowed_high_confidence_phish())
        .then(|| Allowed { kind: to_blame.kind.as_str(), cluster: mail.cluster })
}

const fn action_word(setting: Setting) -> &'static str {
    match setting.direction {
        Direction::Block => "Block",
        _ => "Allow",
    }
}

/// The time cut to whole seconds, as the mail tables have it.
pub(super) const fn whole_seconds(time: Ticks) -> Ticks {
    Ticks(time.as_seconds() * TICKS_PER_SECOND)
}

/// The time with seven fraction digits and without a zone.
pub(super) fn seven_digits(time: Ticks) -> String {
    let text = time.to_string();
    let text = text.trim_end_matches('Z');
    if text.contains('.') { text.to_owned() } else { format!("{text}.0000000") }
}

/// Records about the same thing stay in order.
fn lane(belongs_to: &str) -> u64 {
    belongs_to.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
