//! What tagging found out about one record: verdict, outcome, overrides, tags, and the reason for each.
//! The words are fixed; the procedure that chooses them is `tagging`.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::tag::{Tag, Tags};

/// Declares a closed word list: an enum whose variants have one fixed text each.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The fixed text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What the filter itself found. Where several classes apply this is the first of malware,
    /// high-confidence phish, phish, spam.
    Verdict {
        /// Nothing was found.
        Clean = "clean",
        /// Malware.
        Malware = "malware",
        /// Phish, and the confidence says High.
        HcPhish = "hc_phish",
        /// Phish of normal, low, medium or unknown confidence.
        Phish = "phish",
        /// Spam or bulk.
        Spam = "spam",
        /// A block override made (or may have made) the verdict itself.
        Confounded = "confounded",
    }
}

words! {
    /// Where the mail ended up at delivery.
    Outcome {
        /// Where the user can open it, or it left the tenant.
        Delivered = "delivered",
        /// Junk or deleted items.
        Junk = "junk",
        /// Quarantined, failed or dropped.
        Blocked = "blocked",
        /// The record does not say.
        Unknown = "unknown",
    }
}

words! {
    /// Whose setting an override is: decided by the column, never by the policy text.
    Level {
        /// The organization's (`OrgLevelAction`, `OrgLevelPolicy`).
        Tenant = "tenant",
        /// The recipient's own mailbox (`UserLevelAction`, `UserLevelPolicy`).
        User = "user",
    }
}

words! {
    /// What an override asked for.
    Direction {
        /// Let the mail in.
        Allow = "allow",
        /// Keep the mail out.
        Block = "block",
        /// Neither can be told.
        Unknown = "unknown",
    }
}

words! {
    /// Which setting an override is.
    OverrideKind {
        /// Advanced delivery: a third-party phishing simulation.
        PhishSimulation = "phish_simulation",
        /// Advanced delivery: a security-operations mailbox.
        SecopsMailbox = "secops_mailbox",
        /// The MX points to another filter.
        ThirdPartyFilter = "third_party_filter",
        /// Tenant Allow/Block List: URL and file together.
        TablUrlAndFile = "tabl_url_and_file",
        /// Tenant Allow/Block List: URL.
        TablUrl = "tabl_url",
        /// Tenant Allow/Block List: file.
        TablFile = "tabl_file",
        /// Tenant Allow/Block List: spoofed sender.
        TablSpoof = "tabl_spoof",
        /// Tenant Allow/Block List: sender address or domain.
        TablSender = "tabl_sender",
        /// Tenant Allow/Block List: IP address.
        TablIp = "tabl_ip",
        /// A mail-flow rule.
        TransportRule = "transport_rule",
        /// The connection filter's IP allow or block list.
        IpList = "ip_list",
        /// Allowed or blocked senders of the anti-spam policy.
        AntispamSenderList = "antispam_sender_list",
        /// Allowed or blocked domains of the anti-spam policy.
        AntispamDomainList = "antispam_domain_list",
        /// The user's safe or blocked senders.
        UserSenderList = "user_sender_list",
        /// The user's safe or blocked domains.
        UserDomainList = "user_domain_list",
        /// An advanced setting of the anti-spam policy.
        AntispamSetting = "antispam_setting",
        /// The anti-malware policy's file-type block.
        CommonAttachmentFilter = "common_attachment_filter",
        /// The anti-spam policy's language filter.
        AntispamLanguage = "antispam_language",
        /// The anti-spam policy's region filter.
        AntispamRegion = "antispam_region",
        /// Filtering was skipped because an on-premises organization had filtered.
        OnpremSkip = "onprem_skip",
        /// Released from quarantine, after delivery.
        QuarantineRelease = "quarantine_release",
        /// A ZAP that an administrator started, after delivery.
        AdminTimeTravel = "admin_time_travel",
        /// Data loss prevention.
        Dlp = "dlp",
        /// The user takes mail from trusted senders only.
        UserExclusive = "user_exclusive",
        /// The user trusts their contacts.
        UserContacts = "user_contacts",
        /// The user's safe recipients.
        UserSafeRecipient = "user_safe_recipient",
        /// The user's safe recipient domains.
        UserSafeRecipientDomain = "user_safe_recipient_domain",
        /// An action without a policy text.
        Unspecified = "unspecified",
        /// A policy text that is not known here; the text is kept.
        Other = "other",
    }
}

words! {
    /// What an override did.
    Effect {
        /// It had its way against the filter or another override.
        Effective = "effective",
        /// It did not.
        Ineffective = "ineffective",
        /// It did what it exists for.
        Expected = "expected",
        /// The mail would have been delivered without it.
        Unnecessary = "unnecessary",
        /// The mail was clean at delivery and convicted later.
        LateConviction = "late_conviction",
        /// It acted after delivery.
        PostDelivery = "post_delivery",
        /// Outbound mail: not judged.
        NotEvaluated = "not_evaluated",
        /// Cannot be told.
        Unknown = "unknown",
    }
}

words! {
    /// Why an override had the effect it had.
    Why {
        /// Malware and high-confidence phish are quarantined whatever an allow says.
        SecureByDefault = "secure_by_default",
        /// Another control kept the mail out.
        OtherControl = "other_control",
        /// The tenant's block won over the user's allow.
        TenantBlockWins = "tenant_block_wins",
        /// The user's block won over the tenant's allow.
        UserBlockWins = "user_block_wins",
        /// The user's allow won over the tenant's block.
        UserAllowWins = "user_allow_wins",
        /// The tenant's allow won over the user's block.
        TenantAllowWins = "tenant_allow_wins",
        /// The mail went to junk in spite of the allow.
        JunkedAnyway = "junked_anyway",
        /// The mail was delivered in spite of the block.
        NotHonoured = "not_honoured",
        /// It beat a block of the other level.
        BeatABlock = "beat_a_block",
        /// `FinalOverride` says that it did not decide.
        NotFinal = "not_final",
    }
}

words! {
    /// How sure it is that an override was unnecessary.
    Certainty {
        /// The spam filter ran and found nothing.
        High = "high",
        /// There is no SCL to tell.
        Medium = "medium",
        /// Filtering was switched off, or the allow removes the very verdict one would look for.
        Low = "low",
    }
}

words! {
    /// Facts beside the tags.
    Flag {
        /// The verdict comes from detection methods, phish confidence or SCL, not from threat types.
        VerdictInferred = "verdict_inferred",
        /// SCL -1: the spam filter did not run.
        SpamFilterSkipped = "spam_filter_skipped",
        /// A policy column names several policies; the first one gave the kind.
        SeveralPolicies = "several_policies",
    }
}

/// A set of [`Flag`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flags(u8);

impl Flags {
    /// Adds `flag`.
    pub const fn insert(&mut self, flag: Flag) {
        self.0 |= 1 << flag as u8;
    }

    /// Whether `flag` is set.
    #[must_use]
    pub const fn contains(self, flag: Flag) -> bool {
        self.0 & (1 << flag as u8) != 0
    }

    /// Whether none is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The flags that are set.
    pub fn iter(self) -> impl Iterator<Item = Flag> {
        Flag::ALL.iter().copied().filter(move |flag| self.contains(*flag))
    }
}

/// One override that a record names, and what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Whose setting it is.
    pub level: Level,
    /// What it asked for.
    pub direction: Direction,
    /// Which setting it is.
    pub kind: OverrideKind,
    /// The policy text, unchanged; empty if the record gives none.
    pub policy: Box<str>,
    /// What it did.
    pub effect: Effect,
    /// Why, where one word says it.
    pub why: Option<Why>,
    /// How sure, where the effect is `unnecessary`.
    pub certainty: Option<Certainty>,
    /// Whether this is the one override to blame or thank if only one may be named.
    pub primary: bool,
}

/// Why one tag was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The tag's word.
    pub tag: Cow<'static, str>,
    /// The rule, by the section of the specification or the name of the user's rule.
    pub rule: Cow<'static, str>,
    /// The columns and values that decided.
    pub because: Vec<(Cow<'static, str>, Box<str>)>,
}

/// Everything that tagging says about one record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Decision {
    /// The tags.
    pub tags: Tags,
    /// The filter's verdict at delivery; `None` where the record carries no verdict to judge.
    pub verdict: Option<Verdict>,
    /// The latest verdict, where it differs from the one at delivery.
    pub latest_verdict: Option<Verdict>,
    /// The outcome at delivery.
    pub outcome: Option<Outcome>,
    /// Facts beside the tags.
    pub flags: Flags,
    /// The overrides, tenant before user.
    pub overrides: Vec<Override>,
    /// A reason for each tag.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Adds `tag` and the reason for it; a tag that is there already keeps its first reason.
    pub fn tag(
        &mut self,
        tag: Tag,
        rule: &'static str,
        because: Vec<(Cow<'static, str>, Box<str>)>,
    ) {
        if !self.tags.contains(tag) {
            self.tags.insert(tag);
            self.reasons.push(Reason { tag: tag.as_str().into(), rule: rule.into(), because });
        }
    }

    /// The level of the primary override, for metrics and ticket policies.
    #[must_use]
    pub fn primary_level(&self) -> Option<Level> {
        self.overrides.iter().find(|found| found.primary).map(|found| found.level)
    }
}
