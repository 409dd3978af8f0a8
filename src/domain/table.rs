//! The advanced-hunting tables that are typed here. Every other table passes through by its name.

use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// A table of the Streaming API or advanced hunting (`category` = `AdvancedHunting-<name>`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Table {
    /// One row per message and recipient.
    EmailEvents,
    /// What happened to a mail after delivery (ZAP, remediation, release).
    EmailPostDeliveryEvents,
    /// One row per URL in a message.
    EmailUrlInfo,
    /// One row per attachment and recipient.
    EmailAttachmentInfo,
    /// Clicks seen by Safe Links.
    UrlClickEvents,
    /// One row per alert.
    AlertInfo,
    /// One row per entity of an alert.
    AlertEvidence,
    /// Any other table or record type, by the source's own name; empty where nothing told it.
    Other(Box<str>),
}

impl Table {
    /// The typed tables.
    pub const TYPED: [Self; 7] = [
        Self::EmailEvents,
        Self::EmailPostDeliveryEvents,
        Self::EmailUrlInfo,
        Self::EmailAttachmentInfo,
        Self::UrlClickEvents,
        Self::AlertInfo,
        Self::AlertEvidence,
    ];

    /// By name, case-insensitively for the typed tables, with or without the `AdvancedHunting-` prefix.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        const PREFIX: &str = "AdvancedHunting-";
        let name = name.trim();
        let name = match name.get(..PREFIX.len()) {
            Some(head) if head.eq_ignore_ascii_case(PREFIX) => {
                name.get(PREFIX.len()..).unwrap_or_default()
            }
            _ => name,
        };
        Self::TYPED
            .into_iter()
            .find(|table| table.name().eq_ignore_ascii_case(name))
            .unwrap_or_else(|| Self::Other(name.into()))
    }

    /// The table's name as Microsoft writes it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::EmailEvents => "EmailEvents",
            Self::EmailPostDeliveryEvents => "EmailPostDeliveryEvents",
            Self::EmailUrlInfo => "EmailUrlInfo",
            Self::EmailAttachmentInfo => "EmailAttachmentInfo",
            Self::UrlClickEvents => "UrlClickEvents",
            Self::AlertInfo => "AlertInfo",
            Self::AlertEvidence => "AlertEvidence",
            Self::Other(name) => name,
        }
    }

    /// For metric labels, a closed set: the name of a typed table, else `other`.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Other(_) => "other",
            typed => typed.name(),
        }
    }

    /// The kind of event that a row of this table becomes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::EmailEvents => Kind::Email,
            Self::EmailPostDeliveryEvents => Kind::EmailPostDelivery,
            Self::EmailUrlInfo => Kind::EmailUrl,
            Self::EmailAttachmentInfo => Kind::EmailAttachment,
            Self::UrlClickEvents => Kind::UrlClick,
            Self::AlertInfo => Kind::Alert,
            Self::AlertEvidence => Kind::AlertEvidence,
            Self::Other(_) => Kind::Row,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_and_bare_names_name_the_same_table() {
        assert_eq!(Table::from_name("AdvancedHunting-EmailEvents"), Table::EmailEvents);
        assert_eq!(Table::from_name(" emailurlinfo "), Table::EmailUrlInfo);
        assert_eq!(
            Table::from_name("AdvancedHunting-DeviceInfo"),
            Table::Other("DeviceInfo".into())
        );
        assert_eq!(Table::from_name("ÄdvancedHunting-X").kind(), Kind::Row);
    }
}
