//! A mail as it was sent, with what the filter finds in it: everything that does not depend on settings.

use std::sync::Arc;

use crate::domain::Ticks;

use super::filter::Finding;
use super::people::Person;

/// Where mail comes from and goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From outside.
    Inbound,
    /// To outside.
    Outbound,
    /// Between people of the tenant.
    IntraOrg,
}

impl Way {
    /// `EmailDirection`.
    #[must_use]
    pub const fn column(self) -> &'static str {
        match self {
            Self::Inbound => "Inbound",
            Self::Outbound => "Outbound",
            Self::IntraOrg => "Intra-org",
        }
    }
}

/// Who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// From header.
    pub address: String,
    /// Name in the From header.
    pub name: String,
    /// Envelope sender.
    pub mail_from: String,
    /// Last relaying server.
    pub ip: String,
    /// Entra object id of an internal sender.
    pub object_id: Option<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Name with extension.
    pub name: String,
    /// 64 hex digits.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// `FileType`.
    pub kind: &'static str,
}

/// One mail to one or more recipients.
#[derive(Debug, Clone)]
pub struct Mail {
    /// `NetworkMessageId`.
    pub message_id: String,
    /// `InternetMessageId`.
    pub internet_message_id: String,
    /// Direction of travel.
    pub way: Way,
    /// Sender.
    pub sender: Sender,
    /// Recipients inside the tenant, or outside it for outbound mail.
    pub recipients: Vec<Arc<Person>>,
    /// Subject.
    pub subject: String,
    /// Links in the body.
    pub urls: Vec<String>,
    /// Files.
    pub attachments: Vec<Attachment>,
    /// `EmailClusterId`: similar mails share it.
    pub cluster: u64,
    /// What the filter finds.
    pub finding: Finding,
    /// What it will find a little later, when it learns that it was wrong to find nothing.
    pub finding_later: Option<Finding>,
    /// `AuthenticationDetails`.
    pub authentication: &'static str,
    /// Bytes.
    pub size: u64,
    /// When it arrived.
    pub occurred: Ticks,
}

/// The part of an address behind the `@`.
#[must_use]
pub fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// The host of a link.
#[must_use]
pub fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', ':']).next().unwrap_or_default()
}
