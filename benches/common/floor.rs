//! The floor: what reading a Streaming message into a typed struct and writing an OCSF document of the same
//! shape costs with `serde_json` alone. It borrows strings, keeps the row as JSON text, and does nothing of
//! what Postern is for: no identity, no tags, no issues, no unknown columns.

use std::borrow::Cow;
use std::io::{self, BufRead, BufWriter, Write};

use postern::domain::Ticks;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    records: Vec<Record<'a>>,
}

#[derive(Deserialize)]
struct Record<'a> {
    time: &'a str,
    #[serde(rename = "tenantId")]
    tenant: &'a str,
    category: &'a str,
    #[serde(borrow)]
    properties: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row<'a> {
    timestamp: &'a str,
    network_message_id: &'a str,
    #[serde(borrow)]
    internet_message_id: Cow<'a, str>,
    #[serde(borrow)]
    sender_mail_from_address: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sender_from_address: Cow<'a, str>,
    #[serde(borrow)]
    sender_display_name: Option<Cow<'a, str>>,
    #[serde(rename = "SenderIPv4")]
    sender_ip: Option<&'a str>,
    #[serde(borrow)]
    recipient_email_address: Cow<'a, str>,
    recipient_object_id: Option<&'a str>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    email_cluster_id: u64,
    email_direction: &'a str,
    delivery_action: &'a str,
    delivery_location: &'a str,
    #[serde(borrow)]
    threat_types: Option<Cow<'a, str>>,
    #[serde(borrow)]
    detection_methods: Option<Cow<'a, str>>,
    #[serde(borrow)]
    confidence_level: Option<Cow<'a, str>>,
    #[serde(borrow)]
    authentication_details: Option<Cow<'a, str>>,
    #[serde(borrow)]
    connectors: Option<Cow<'a, str>>,
    #[serde(borrow)]
    org_level_action: Option<Cow<'a, str>>,
    #[serde(borrow)]
    org_level_policy: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_level_action: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_level_policy: Option<Cow<'a, str>>,
    report_id: &'a str,
    email_size: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Authentication<'a> {
    spf: Option<&'a str>,
    dkim: Option<&'a str>,
    dmarc: Option<&'a str>,
}

#[derive(Serialize)]
struct Document<'a> {
    class_uid: u32,
    category_uid: u32,
    activity_id: u32,
    type_uid: u32,
    time: i64,
    severity_id: u32,
    direction_id: u32,
    status_id: u32,
    status: &'a str,
    action_id: u32,
    action: &'a str,
    disposition_id: u32,
    disposition: &'a str,
    confidence_id: u32,
    confidence: &'a str,
    message_trace_uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    to: [&'a str; 1],
    email: Email<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_auth: Option<EmailAuth<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_endpoint: Option<Endpoint<'a>>,
    observables: Vec<Observable<'a>>,
    metadata: Metadata<'a>,
    unmapped: Unmapped<'a>,
}

#[derive(Serialize)]
struct Email<'a> {
    from: &'a str,
    from_mailbox: String,
    to: [&'a str; 1],
    delivered_to_list: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    return_path: Option<&'a str>,
    message_uid: &'a str,
    subject: &'a str,
    size: i64,
}

#[derive(Serialize)]
struct EmailAuth<'a> {
    spf: Option<&'a str>,
    dkim: Option<&'a str>,
    dmarc: Option<&'a str>,
}

#[derive(Serialize)]
struct Endpoint<'a> {
    ip: &'a str,
}

#[derive(Serialize)]
struct Observable<'a> {
    name: &'a str,
    type_id: u32,
    value: &'a str,
}

#[derive(Serialize)]
struct Metadata<'a> {
    version: &'a str,
    profiles: [&'a str; 1],
    product: Product<'a>,
    log_name: &'a str,
    log_provider: &'a str,
    tenant_uid: &'a str,
    uid: &'a str,
    original_event_uid: &'a str,
    original_time: &'a str,
    correlation_uid: &'a str,
    transmit_time: i64,
}

#[derive(Serialize)]
struct Product<'a> {
    name: &'a str,
    vendor_name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Unmapped<'a> {
    recipient_object_id: Option<&'a str>,
    email_cluster_id: u64,
    email_direction: &'a str,
    delivery_action: &'a str,
    delivery_location: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    threat_types: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detection_methods: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence_level: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connectors: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    org_level_action: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    org_level_policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_level_action: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_level_policy: Option<&'a str>,
    #[serde(rename = "raw")]
    raw: &'a RawValue,
}

/// One message, read and written; returns how many records it held.
pub fn message(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let message: Message<'_> = serde_json::from_slice(bytes).unwrap();
    for record in &message.records {
        let row: Row<'_> = serde_json::from_str(record.properties.get()).unwrap();
        write(record, &row, out);
        out.push(b'\n');
    }
    message.records.len()
}

fn write(record: &Record<'_>, row: &Row<'_>, out: &mut Vec<u8>) {
    let details = row.authentication_details.as_deref();
    let auth = details.and_then(|text| serde_json::from_str::<Authentication<'_>>(text).ok());
    let millis = |text| Ticks::parse(text).unwrap_or_default().as_millis();
    let (disposition_id, disposition) = match row.delivery_location {
        "Quarantine" => (3, "Quarantined"),
        "Junk folder" => (99, "Junked"),
        _ => (1, "Allowed"),
    };
    let to = [&*row.recipient_email_address];
    let document = Document {
        class_uid: 4009,
        category_uid: 4,
        activity_id: 2,
        type_uid: 400_902,
        time: millis(row.timestamp),
        severity_id: 1,
        direction_id: 1,
        status_id: 1,
        status: "Success",
        action_id: 1,
        action: "Allowed",
        disposition_id,
        disposition,
        confidence_id: 0,
        confidence: "Unknown",
        message_trace_uid: row.network_message_id,
        from: row.sender_mail_from_address.as_deref(),
        to,
        email: Email {
            from: &row.sender_from_address,
            from_mailbox: format!(
                "\"{}\" <{}>",
                row.sender_display_name.as_deref().unwrap_or_default(),
                row.sender_from_address
            ),
            to,
            delivered_to_list: to,
            return_path: row.sender_mail_from_address.as_deref(),
            message_uid: &row.internet_message_id,
            subject: &row.subject,
            size: row.email_size,
        },
        email_auth: auth.as_ref().map(|auth| EmailAuth {
            spf: auth.spf,
            dkim: auth.dkim,
            dmarc: auth.dmarc,
        }),
        src_endpoint: row.sender_ip.map(|ip| Endpoint { ip }),
        observables: vec![
            Observable { name: "email.from", type_id: 5, value: &row.sender_from_address },
            Observable { name: "to", type_id: 5, value: &row.recipient_email_address },
            Observable {
                name: "src_endpoint.ip",
                type_id: 2,
                value: row.sender_ip.unwrap_or_default(),
            },
        ],
        metadata: Metadata {
            version: "1.8.0",
            profiles: ["security_control"],
            product: Product {
                name: "Microsoft Defender for Office 365",
                vendor_name: "Microsoft",
            },
            log_name: record.category,
            log_provider: "Microsoft Defender XDR",
            tenant_uid: record.tenant,
            uid: "00000000000000000000000000000000",
            original_event_uid: row.report_id,
            original_time: row.timestamp,
            correlation_uid: row.network_message_id,
            transmit_time: millis(record.time),
        },
        unmapped: Unmapped {
            recipient_object_id: row.recipient_object_id,
            email_cluster_id: row.email_cluster_id,
            email_direction: row.email_direction,
            delivery_action: row.delivery_action,
            delivery_location: row.delivery_location,
            threat_types: row.threat_types.as_deref(),
            detection_methods: row.detection_methods.as_deref(),
            confidence_level: row.confidence_level.as_deref(),
            connectors: row.connectors.as_deref(),
            org_level_action: row.org_level_action.as_deref(),
            org_level_policy: row.org_level_policy.as_deref(),
            user_level_action: row.user_level_action.as_deref(),
            user_level_policy: row.user_level_policy.as_deref(),
            raw: record.properties,
        },
    };
    serde_json::to_writer(out, &document).unwrap();
}

/// The floor as a process of its own: standard input to standard output.
pub fn process() {
    let mut input = io::BufReader::with_capacity(1 << 20, io::stdin().lock());
    let mut output = BufWriter::with_capacity(1 << 18, io::stdout().lock());
    let (mut line, mut out) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).unwrap() == 0 {
            break;
        }
        out.clear();
        message(&line, &mut out);
        output.write_all(&out).unwrap();
    }
    output.flush().unwrap();
}
