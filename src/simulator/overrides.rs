//! The settings with which the simulated tenant and its users override the filter, and which of them a given
//! mail to a given recipient meets. What comes of it is `delivery`'s business.

use crate::domain::{Direction, Level, OverrideKind};

use super::mail::{Mail, Way, domain_of, host_of};
use super::people::{GATEWAY_DOMAIN, Person, SECOPS_MAILBOX};

/// What a setting looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Domain of the From address.
    SenderDomain(&'static str),
    /// The From address.
    SenderAddress(&'static str),
    /// Beginning of the sending server's address.
    IpPrefix(&'static str),
    /// Host of a link.
    UrlHost(&'static str),
    /// Ending of an attachment's name.
    FileExtension(&'static str),
    /// The recipient.
    Recipient(&'static str),
    /// The gateway's stamp: mail that another vendor's filter passed, for a recipient behind it.
    PassedGateway(&'static str),
}

/// One override.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The organization's or a user's.
    pub level: Level,
    /// Allow or block.
    pub direction: Direction,
    /// Which setting it is.
    pub kind: OverrideKind,
    /// The text in `OrgLevelPolicy` or `UserLevelPolicy`.
    pub policy: &'static str,
    /// When it applies.
    pub condition: Condition,
    /// For a user's setting: every how many-th person has it.
    pub every: usize,
}

/// The rule's id in `ExchangeTransportRule`.
pub const TRANSPORT_RULE_GUID: &str = "b7a5c8de-0c1d-4f6e-9a2b-1c2d3e4f5a6b";

const fn tenant(
    direction: Direction,
    kind: OverrideKind,
    policy: &'static str,
    condition: Condition,
) -> Setting {
    Setting { level: Level::Tenant, direction, kind, policy, condition, every: 1 }
}

const fn user(
    direction: Direction,
    kind: OverrideKind,
    policy: &'static str,
    condition: Condition,
    every: usize,
) -> Setting {
    Setting { level: Level::User, direction, kind, policy, condition, every }
}

/// The tenant as found: an ordinary mess, each entry once made for a good reason. Of several tenant settings
/// that a mail meets the first one listed is the one that decides and is recorded.
pub const AS_FOUND: &[Setting] = &[
    tenant(
        Direction::Allow,
        OverrideKind::PhishSimulation,
        "Phishing simulation",
        Condition::SenderDomain("awareness.example"),
    ),
    tenant(
        Direction::Allow,
        OverrideKind::SecopsMailbox,
        "SecOps Mailbox",
        Condition::Recipient(SECOPS_MAILBOX),
    ),
    tenant(
        Direction::Block,
        OverrideKind::TablSender,
        "Tenant Allow/Block List sender email address blocked",
        Condition::SenderDomain("wingtip.example"),
    ),
    tenant(
        Direction::Block,
        OverrideKind::TablUrl,
        "Tenant Allow/Block List URL blocked",
        Condition::UrlHost("prizes.litware.example"),
    ),
    tenant(
        Direction::Block,
        OverrideKind::CommonAttachmentFilter,
        "Antimalware policy block by file type",
        Condition::FileExtension(".vbs"),
    ),
    tenant(
        Direction::Block,
        OverrideKind::TransportRule,
        "Exchange transport rule",
        Condition::SenderDomain("proseware.example"),
    ),
    tenant(
        Direction::Allow,
        OverrideKind::TablUrl,
        "Tenant Allow/Block List URL",
        Condition::UrlHost("portal.northwind.example"),
    ),
    tenant(
        Direction::Allow,
        OverrideKind::TablSender,
        "Tenant Allow/Block List sender email address (Allow)",
        Condition::SenderAddress("claims@woodgrove.example"),
    ),
    tenant(
        Direction::Allow,
        OverrideKind::TransportRule,
        "Exchange transport rule",
        Condition::SenderDomain("fabrikam.example"),
    ),
    tenant(
        Direction::Allow,
        OverrideKind::IpList,
        "Connection policy",
        Condition::IpPrefix("203.0.113."),
    ),
    tenant(
        Direction::Allow,
        OverrideKind::AntispamDomainList,
        "Sender domain list (Admin Override)",
        Condition::SenderDomain("adatum.example"),
    ),
    tenant(
        Direction::Allow,
        OverrideKind::AntispamSenderList,
        "Sender address list (Admin Override)",
        Condition::SenderAddress("news@tailspin.example"),
    ),
    tenant(
        Direction::Allow,
        OverrideKind::ThirdPartyFilter,
        "3rd Party Filter",
        Condition::PassedGateway(GATEWAY_DOMAIN),
    ),
    user(
        Direction::Block,
        OverrideKind::UserSenderList,
        "Sender address list (User override)",
        Condition::SenderAddress("news@tailspin.example"),
        7,
    ),
    user(
        Direction::Allow,
        OverrideKind::UserSenderList,
        "Sender address list (User override)",
        Condition::SenderAddress("offers@tailspin.example"),
        3,
    ),
    user(
        Direction::Allow,
        OverrideKind::UserContacts,
        "Trusted contact list (User override)",
        Condition::SenderDomain("woodgrove.example"),
        4,
    ),
    user(
        Direction::Allow,
        OverrideKind::UserDomainList,
        "Sender domain list (User override)",
        Condition::SenderDomain("proseware.example"),
        5,
    ),
];

/// A set of settings. `deliver` takes one, so the same mail can be run with and without an override.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    settings: Vec<Setting>,
}

/// The settings that one mail to one recipient meets: at most one of each level, as the columns have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Met {
    /// The organization's.
    pub tenant: Option<Setting>,
    /// The recipient's own.
    pub user: Option<Setting>,
}

impl Overrides {
    /// The tenant as found.
    #[must_use]
    pub fn as_found() -> Self {
        Self { settings: AS_FOUND.to_vec() }
    }

    /// These settings.
    #[must_use]
    pub fn of(settings: &[Setting]) -> Self {
        Self { settings: settings.to_vec() }
    }

    /// The same without those that `removed` picks: the question "what if it were removed?".
    #[must_use]
    pub fn without(&self, removed: impl Fn(&Setting) -> bool) -> Self {
        let kept = self.settings.iter().filter(|setting| !removed(setting));
        Self { settings: kept.copied().collect() }
    }

    /// Which ones `mail` to `recipient` meets. Advanced delivery and the lists work on mail from outside only.
    #[must_use]
    pub fn met_by(&self, mail: &Mail, recipient: &Person) -> Met {
        if mail.way != Way::Inbound {
            return Met::default();
        }
        let first = |level: Level| {
            self.settings
                .iter()
                .find(|setting| setting.level == level && setting.applies(mail, recipient))
                .copied()
        };
        Met { tenant: first(Level::Tenant), user: first(Level::User) }
    }
}

impl Setting {
    fn applies(&self, mail: &Mail, recipient: &Person) -> bool {
        let has_it = self.level == Level::Tenant || recipient.number.is_multiple_of(self.every);
        has_it
            && match self.condition {
                Condition::SenderDomain(domain) => domain_of(&mail.sender.address) == domain,
                Condition::SenderAddress(address) => mail.sender.address == address,
                Condition::IpPrefix(prefix) => mail.sender.ip.starts_with(prefix),
                Condition::UrlHost(host) => mail.urls.iter().any(|url| host_of(url) == host),
                Condition::FileExtension(extension) => {
                    mail.attachments.iter().any(|file| file.name.ends_with(extension))
                }
                Condition::Recipient(address) => recipient.address == address,
                Condition::PassedGateway(domain) => {
                    recipient.domain == domain && mail.sender.ip.starts_with("192.0.2.")
                }
            }
    }

    /// Whether the setting is an entry for one URL, file or spoofed pair: it removes the very verdict.
    #[must_use]
    pub const fn is_entity_level(&self) -> bool {
        matches!(
            self.kind,
            OverrideKind::TablUrl
                | OverrideKind::TablFile
                | OverrideKind::TablSpoof
                | OverrideKind::TablUrlAndFile
        )
    }

    /// Whether it exists to let phish in.
    #[must_use]
    pub const fn is_advanced_delivery(&self) -> bool {
        matches!(self.kind, OverrideKind::PhishSimulation | OverrideKind::SecopsMailbox)
    }
}
