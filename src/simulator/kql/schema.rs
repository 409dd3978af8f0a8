//! The columns of the mail and alert tables, with their types, as hunting has them. `name:type` in one text per
//! table; a column without a type is a string.

use super::tables::Column;
use super::value::Type;

/// Every table that a tenant with Defender for Office 365 has here.
pub(super) const MAIL_TABLES: [(&str, &str); 8] = [
    (
        "EmailEvents",
        "Timestamp:datetime NetworkMessageId InternetMessageId SenderMailFromAddress SenderFromAddress \
         SenderDisplayName SenderObjectId SenderMailFromDomain SenderFromDomain SenderIPv4 SenderIPv6 \
         RecipientEmailAddress RecipientObjectId Subject EmailClusterId:long EmailDirection DeliveryAction \
         DeliveryLocation ThreatTypes ThreatNames DetectionMethods ConfidenceLevel BulkComplaintLevel:int \
         EmailAction EmailActionPolicy EmailActionPolicyGuid AuthenticationDetails AttachmentCount:int \
         UrlCount:int EmailLanguage Connectors OrgLevelAction OrgLevelPolicy UserLevelAction UserLevelPolicy \
         ReportId AdditionalFields ExchangeTransportRule DistributionList ForwardingInformation Context \
         To:dynamic Cc:dynamic ThreatClassification RecipientDomain EmailSize:long IsFirstContact:bool \
         LatestDeliveryAction LatestDeliveryLocation OriginalThreatTypes OriginalDetectionMethods \
         OriginalConfidenceLevel",
    ),
    (
        "EmailPostDeliveryEvents",
        "Timestamp:datetime NetworkMessageId InternetMessageId Action ActionType ActionTrigger ActionResult \
         RecipientEmailAddress DeliveryLocation ThreatTypes DetectionMethods ReportId SenderFromAddress \
         EmailDirection",
    ),
    (
        "EmailUrlInfo",
        "Timestamp:datetime NetworkMessageId Url UrlDomain UrlLocation ReportId UrlChainId \
         UrlChainPosition:int",
    ),
    (
        "EmailAttachmentInfo",
        "Timestamp:datetime NetworkMessageId SenderFromAddress SenderDisplayName SenderObjectId \
         RecipientEmailAddress RecipientObjectId FileName FileType SHA256 FileSize:long ThreatTypes ThreatNames \
         DetectionMethods ReportId FileExtension",
    ),
    (
        "UrlClickEvents",
        "Timestamp:datetime Url ActionType AccountUpn Workload NetworkMessageId ThreatTypes DetectionMethods \
         IPAddress IsClickedThrough:bool UrlChain ReportId AppName AppVersion SourceId",
    ),
    (
        "AlertInfo",
        "Timestamp:datetime AlertId Title Category Severity ServiceSource DetectionSource MachineGroup \
         AttackTechniques",
    ),
    (
        "AlertEvidence",
        "Timestamp:datetime AlertId EntityType EvidenceRole SHA1 SHA256 RemoteIP LocalIP RemoteUrl AccountName \
         AccountDomain AccountSid AccountObjectId DeviceId ThreatFamily EvidenceDirection AdditionalFields \
         MachineGroup NetworkMessageId ServiceSource FileName FolderPath ProcessCommandLine EmailSubject \
         ApplicationId:int Application DeviceName FileSize:long RegistryKey RegistryValueName \
         RegistryValueData AccountUpn OAuthApplicationId Categories Title AttackTechniques DetectionSource \
         Severity CloudResource CloudPlatform ResourceType ResourceID SubscriptionId",
    ),
    (
        "CampaignInfo",
        "Timestamp:datetime CampaignName CampaignId CampaignType CampaignSubtype NetworkMessageId \
         RecipientEmailAddress ReportId",
    ),
];

/// The columns that such a text names.
pub(super) fn columns(text: &str) -> Vec<Column> {
    text.split_whitespace()
        .map(|word| {
            let (name, ty) = word.split_once(':').unwrap_or((word, "string"));
            Column::new(name, Type::from_word(ty).unwrap_or(Type::Text))
        })
        .collect()
}
