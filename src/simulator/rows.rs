//! The rows of the Streaming API, column for column and in its order: JSON in strings where it has JSON in
//! strings, null where it has null. Columns without content here are `Nothing`.

use serde::Serialize;

/// A column that is always null.
pub type Nothing = Option<()>;

/// A row of `EmailEvents`. The `original` part is on later rows of tenants that have those columns.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the names are the columns' own")]
pub struct EmailEvents<'a> {
    pub timestamp: &'a str,
    pub network_message_id: &'a str,
    pub internet_message_id: &'a str,
    pub sender_mail_from_address: &'a str,
    pub sender_from_address: &'a str,
    pub sender_display_name: &'a str,
    pub sender_object_id: Option<&'a str>,
    pub sender_mail_from_domain: &'a str,
    pub sender_from_domain: &'a str,
    #[serde(rename = "SenderIPv4")]
    pub sender_ipv4: &'a str,
    #[serde(rename = "SenderIPv6")]
    pub sender_ipv6: Nothing,
    pub recipient_email_address: &'a str,
    pub recipient_object_id: Option<&'a str>,
    pub subject: &'a str,
    pub email_cluster_id: u64,
    pub email_direction: &'a str,
    pub delivery_action: &'a str,
    pub delivery_location: &'a str,
    pub threat_types: Option<&'a str>,
    pub threat_names: Nothing,
    pub detection_methods: Option<&'a str>,
    pub confidence_level: Option<&'a str>,
    pub bulk_complaint_level: Option<u8>,
    pub email_action: Option<&'a str>,
    pub email_action_policy: Option<&'a str>,
    pub email_action_policy_guid: Option<&'a str>,
    pub authentication_details: &'a str,
    pub attachment_count: usize,
    pub url_count: usize,
    pub email_language: &'a str,
    pub connectors: Option<&'a str>,
    pub org_level_action: Option<&'a str>,
    pub org_level_policy: Option<&'a str>,
    pub user_level_action: Option<&'a str>,
    pub user_level_policy: Option<&'a str>,
    pub report_id: &'a str,
    pub additional_fields: Nothing,
    pub exchange_transport_rule: Option<&'a str>,
    pub distribution_list: Nothing,
    pub forwarding_information: Nothing,
    pub context: Nothing,
    pub to: Vec<&'a str>,
    pub cc: Vec<&'a str>,
    pub threat_classification: Option<&'a str>,
    pub recipient_domain: &'a str,
    pub email_size: u64,
    pub is_first_contact: Option<bool>,
    #[serde(flatten)]
    pub original: Option<Original>,
}

/// The verdict at delivery, kept beside the latest one.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "the names are the columns' own")]
#[serde(rename_all = "PascalCase")]
pub struct Original {
    pub original_threat_types: Nothing,
    pub original_detection_methods: Nothing,
    pub original_confidence_level: Nothing,
}

/// A row of `EmailUrlInfo`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the names are the columns' own")]
pub struct EmailUrlInfo<'a> {
    pub timestamp: &'a str,
    pub network_message_id: &'a str,
    pub url: &'a str,
    pub url_domain: &'a str,
    pub url_location: &'a str,
    pub report_id: &'a str,
    pub url_chain_id: Nothing,
    pub url_chain_position: u8,
}

/// A row of `EmailAttachmentInfo`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the names are the columns' own")]
pub struct EmailAttachmentInfo<'a> {
    pub timestamp: &'a str,
    pub network_message_id: &'a str,
    pub sender_from_address: &'a str,
    pub sender_display_name: &'a str,
    pub sender_object_id: Option<&'a str>,
    pub recipient_email_address: &'a str,
    pub recipient_object_id: &'a str,
    pub file_name: &'a str,
    pub file_type: &'a str,
    #[serde(rename = "SHA256")]
    pub sha256: &'a str,
    pub file_size: u64,
    pub threat_types: Option<&'a str>,
    pub threat_names: Nothing,
    pub detection_methods: Option<&'a str>,
    pub report_id: &'a str,
    pub file_extension: &'a str,
}

/// A row of `EmailPostDeliveryEvents`: strings only.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the names are the columns' own")]
pub struct EmailPostDeliveryEvents<'a> {
    pub timestamp: &'a str,
    pub network_message_id: &'a str,
    pub internet_message_id: &'a str,
    pub action: &'a str,
    pub action_type: &'a str,
    pub action_trigger: &'a str,
    pub action_result: &'a str,
    pub recipient_email_address: &'a str,
    pub delivery_location: &'a str,
    pub threat_types: Option<&'a str>,
    pub detection_methods: Option<&'a str>,
    pub report_id: &'a str,
    pub sender_from_address: &'a str,
    pub email_direction: &'a str,
}

/// A row of `UrlClickEvents`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the names are the columns' own")]
pub struct UrlClickEvents<'a> {
    pub timestamp: &'a str,
    pub url: &'a str,
    pub action_type: &'a str,
    pub account_upn: &'a str,
    pub workload: &'a str,
    pub network_message_id: &'a str,
    pub threat_types: Option<&'a str>,
    pub detection_methods: Nothing,
    #[serde(rename = "IPAddress")]
    pub ip_address: &'a str,
    pub is_clicked_through: bool,
    pub url_chain: &'a str,
    pub report_id: &'a str,
    pub app_name: &'a str,
    pub app_version: &'a str,
    pub source_id: &'a str,
}

/// A row of `AlertInfo`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the names are the columns' own")]
pub struct AlertInfo<'a> {
    pub timestamp: &'a str,
    pub alert_id: &'a str,
    pub title: &'a str,
    pub category: &'a str,
    pub severity: &'a str,
    pub service_source: &'a str,
    pub detection_source: &'a str,
    pub machine_group: Nothing,
    pub attack_techniques: &'a str,
}

/// A row of `AlertEvidence`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the names are the columns' own")]
pub struct AlertEvidence<'a> {
    pub timestamp: &'a str,
    pub alert_id: &'a str,
    pub entity_type: &'a str,
    pub evidence_role: &'a str,
    #[serde(rename = "SHA1")]
    pub sha1: Nothing,
    #[serde(rename = "SHA256")]
    pub sha256: Nothing,
    #[serde(rename = "RemoteIP")]
    pub remote_ip: Nothing,
    #[serde(rename = "LocalIP")]
    pub local_ip: Nothing,
    pub remote_url: Option<&'a str>,
    pub account_name: Option<&'a str>,
    pub account_domain: Nothing,
    pub account_sid: Nothing,
    pub account_object_id: Option<&'a str>,
    pub device_id: Nothing,
    pub threat_family: Nothing,
    pub evidence_direction: Nothing,
    pub additional_fields: &'a str,
    pub machine_group: Nothing,
    pub network_message_id: Option<&'a str>,
    pub service_source: &'a str,
    pub file_name: Nothing,
    pub folder_path: Nothing,
    pub process_command_line: Nothing,
    pub email_subject: Option<&'a str>,
    pub application_id: Nothing,
    pub application: Nothing,
    pub device_name: Nothing,
    pub file_size: Nothing,
    pub registry_key: Nothing,
    pub registry_value_name: Nothing,
    pub registry_value_data: Nothing,
    pub account_upn: Option<&'a str>,
    #[serde(rename = "OAuthApplicationId")]
    pub oauth_application_id: Nothing,
    pub categories: &'a str,
    pub title: &'a str,
    pub attack_techniques: &'a str,
    pub detection_source: &'a str,
    pub severity: &'a str,
    pub cloud_resource: Nothing,
    pub cloud_platform: &'a str,
    pub resource_type: Nothing,
    #[serde(rename = "ResourceID")]
    pub resource_id: Nothing,
    pub subscription_id: &'a str,
}

/// A row of `CampaignInfo`, a table that Postern has no name for: it must pass through.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the names are the columns' own")]
pub struct CampaignInfo<'a> {
    pub timestamp: &'a str,
    pub campaign_name: &'a str,
    pub campaign_id: &'a str,
    pub campaign_type: &'a str,
    pub campaign_subtype: Nothing,
    pub network_message_id: &'a str,
    pub recipient_email_address: &'a str,
    pub report_id: &'a str,
}
