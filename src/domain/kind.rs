//! What sort of thing an event is. A closed list: `row` is the kind of every table we have no name for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kind of an event, as in the native format's `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A row of `EmailEvents`: one message to one recipient.
    #[serde(rename = "email")]
    Email,
    /// A row of `EmailUrlInfo`.
    #[serde(rename = "email.url")]
    EmailUrl,
    /// A row of `EmailAttachmentInfo`.
    #[serde(rename = "email.attachment")]
    EmailAttachment,
    /// A row of `EmailPostDeliveryEvents`.
    #[serde(rename = "email.post_delivery")]
    EmailPostDelivery,
    /// A `TIMailData` record of the Management Activity API: one message, all recipients.
    #[serde(rename = "email.activity")]
    EmailActivity,
    /// Derived: what is known of one mail after joining its records.
    #[serde(rename = "mail.state")]
    MailState,
    /// A row of `UrlClickEvents`.
    #[serde(rename = "url.click")]
    UrlClick,
    /// A user's or administrator's report of a mail.
    #[serde(rename = "submission")]
    Submission,
    /// A quarantine action.
    #[serde(rename = "quarantine")]
    Quarantine,
    /// An automated investigation.
    #[serde(rename = "investigation")]
    Investigation,
    /// An alert: Graph, a row of `AlertInfo`, or an activity record.
    #[serde(rename = "alert")]
    Alert,
    /// A row of `AlertEvidence`.
    #[serde(rename = "alert.evidence")]
    AlertEvidence,
    /// An incident.
    #[serde(rename = "incident")]
    Incident,
    /// Something that is known to be missing, and why.
    #[serde(rename = "gap")]
    Gap,
    /// A row of any other table, passed through.
    #[serde(rename = "row")]
    Row,
}

impl Kind {
    /// Every kind, in the order of the native format's documentation.
    pub const ALL: [Self; 15] = [
        Self::Email,
        Self::EmailUrl,
        Self::EmailAttachment,
        Self::EmailPostDelivery,
        Self::EmailActivity,
        Self::MailState,
        Self::UrlClick,
        Self::Submission,
        Self::Quarantine,
        Self::Investigation,
        Self::Alert,
        Self::AlertEvidence,
        Self::Incident,
        Self::Gap,
        Self::Row,
    ];

    /// The word in the native format, in filters and in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::EmailUrl => "email.url",
            Self::EmailAttachment => "email.attachment",
            Self::EmailPostDelivery => "email.post_delivery",
            Self::EmailActivity => "email.activity",
            Self::MailState => "mail.state",
            Self::UrlClick => "url.click",
            Self::Submission => "submission",
            Self::Quarantine => "quarantine",
            Self::Investigation => "investigation",
            Self::Alert => "alert",
            Self::AlertEvidence => "alert.evidence",
            Self::Incident => "incident",
            Self::Gap => "gap",
            Self::Row => "row",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("unknown kind {text:?}, expected one of: {}", known.join(", "))
        })
    }
}
