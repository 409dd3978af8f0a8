//! The fixed tag vocabulary, and the set of tags on one event. When a tag applies is `tagging`'s business.
//! Source of the words: the override specification's decision table, its alert titles and its lifecycle.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A tag that Postern itself gives. Declared in the alphabetical order of the words, which is the order
/// in which they are written. Tags of the user's own rules live beside them under `user.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tag {
    /// A tenant or user setting delivered mail that the filter called high-confidence phish.
    AllowedHcPhish,
    /// A setting delivered malware.
    AllowedMalware,
    /// A setting delivered phish of normal or unknown confidence.
    AllowedPhish,
    /// A setting delivered spam or bulk mail.
    AllowedSpam,
    /// An alert says that a potentially malicious URL was clicked.
    ClickedMalicious,
    /// A user clicked through a Safe Links warning.
    ClickedThrough,
    /// As `allowed.hc_phish`, by a setting made for it (simulation, SecOps mailbox).
    ExpectedHcPhish,
    /// As `allowed.malware`, by a setting made for it.
    ExpectedMalware,
    /// As `allowed.phish`, by a setting made for it.
    ExpectedPhish,
    /// As `allowed.spam`, by a setting made for it.
    ExpectedSpam,
    /// A connector was created or used in a way that opens a hole.
    HoleConnector,
    /// A transport rule was created that opens a hole.
    HoleRule,
    /// Delivered clean without an override, convicted later.
    LateConviction,
    /// Delivered clean under an allow, convicted later.
    LateConvictionUnderOverride,
    /// High-confidence phish delivered and no override asked for it.
    NoOverrideDeliveredHcPhish,
    /// Malware delivered and no override asked for it.
    NoOverrideDeliveredMalware,
    /// Phish delivered and no override asked for it.
    NoOverrideDeliveredPhish,
    /// A setting asked to let the mail in.
    OverrideAllow,
    /// A setting asked to keep the mail out.
    OverrideBlock,
    /// Whether an override mattered cannot be told from the record.
    OverrideEffectUnknown,
    /// An allow that exists for this purpose (simulation, SecOps mailbox).
    OverrideExpected,
    /// An allow brought phish or malware to where the user can open it.
    OverrideHarmful,
    /// An override that did not get its way.
    OverrideIneffective,
    /// An override whose direction cannot be told.
    OverrideUnknown,
    /// An allow without which the mail would have been delivered too.
    OverrideUnnecessary,
    /// ZAP failed and an allow is present that can stop it.
    OverrideMayBlockZap,
    /// Released from quarantine.
    QuarantineRelease,
    /// A later row of a mail already seen, with a new verdict or location.
    ReVerdict,
    /// A user asked for release from quarantine.
    ReleaseRequested,
    /// High-confidence phish was released from quarantine.
    ReleasedHcPhish,
    /// Malware was released from quarantine.
    ReleasedMalware,
    /// Phish was released from quarantine.
    ReleasedPhish,
    /// Spam was released from quarantine.
    ReleasedSpam,
    /// Removed by an administrator.
    RemediatedAdmin,
    /// Removed by automated investigation and response.
    RemediatedAir,
    /// Removed by zero-hour auto purge.
    RemediatedZap,
    /// A user reported the mail as junk.
    ReportedJunk,
    /// A user reported the mail as not junk.
    ReportedNotJunk,
    /// A user reported the mail as malware or phish.
    ReportedPhish,
    /// A Tenant Allow/Block List entry is about to expire.
    TablEntryExpiring,
    /// A Tenant Allow/Block List allow entry was found malicious and stays in force.
    TablEntryMalicious,
    /// Microsoft removed a Tenant Allow/Block List entry that is no longer needed.
    TablEntryRemoved,
    /// The verdict at delivery was withdrawn later.
    VerdictWithdrawn,
    /// Phish or malware stays because ZAP is switched off.
    ZapDisabled,
    /// A ZAP or removal after delivery did not succeed.
    ZapFailed,
}

impl Tag {
    /// Every tag, in the order in which tags are written.
    pub const ALL: [Self; 45] = [
        Self::AllowedHcPhish,
        Self::AllowedMalware,
        Self::AllowedPhish,
        Self::AllowedSpam,
        Self::ClickedMalicious,
        Self::ClickedThrough,
        Self::ExpectedHcPhish,
        Self::ExpectedMalware,
        Self::ExpectedPhish,
        Self::ExpectedSpam,
        Self::HoleConnector,
        Self::HoleRule,
        Self::LateConviction,
        Self::LateConvictionUnderOverride,
        Self::NoOverrideDeliveredHcPhish,
        Self::NoOverrideDeliveredMalware,
        Self::NoOverrideDeliveredPhish,
        Self::OverrideAllow,
        Self::OverrideBlock,
        Self::OverrideEffectUnknown,
        Self::OverrideExpected,
        Self::OverrideHarmful,
        Self::OverrideIneffective,
        Self::OverrideUnknown,
        Self::OverrideUnnecessary,
        Self::OverrideMayBlockZap,
        Self::QuarantineRelease,
        Self::ReVerdict,
        Self::ReleaseRequested,
        Self::ReleasedHcPhish,
        Self::ReleasedMalware,
        Self::ReleasedPhish,
        Self::ReleasedSpam,
        Self::RemediatedAdmin,
        Self::RemediatedAir,
        Self::RemediatedZap,
        Self::ReportedJunk,
        Self::ReportedNotJunk,
        Self::ReportedPhish,
        Self::TablEntryExpiring,
        Self::TablEntryMalicious,
        Self::TablEntryRemoved,
        Self::VerdictWithdrawn,
        Self::ZapDisabled,
        Self::ZapFailed,
    ];

    /// The word as it is written in events, filters and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllowedHcPhish => "allowed.hc_phish",
            Self::AllowedMalware => "allowed.malware",
            Self::AllowedPhish => "allowed.phish",
            Self::AllowedSpam => "allowed.spam",
            Self::ClickedMalicious => "clicked.malicious",
            Self::ClickedThrough => "clicked.through",
            Self::ExpectedHcPhish => "expected.hc_phish",
            Self::ExpectedMalware => "expected.malware",
            Self::ExpectedPhish => "expected.phish",
            Self::ExpectedSpam => "expected.spam",
            Self::HoleConnector => "hole.connector",
            Self::HoleRule => "hole.rule",
            Self::LateConviction => "late_conviction",
            Self::LateConvictionUnderOverride => "late_conviction_under_override",
            Self::NoOverrideDeliveredHcPhish => "no_override.delivered.hc_phish",
            Self::NoOverrideDeliveredMalware => "no_override.delivered.malware",
            Self::NoOverrideDeliveredPhish => "no_override.delivered.phish",
            Self::OverrideAllow => "override.allow",
            Self::OverrideBlock => "override.block",
            Self::OverrideEffectUnknown => "override.effect_unknown",
            Self::OverrideExpected => "override.expected",
            Self::OverrideHarmful => "override.harmful",
            Self::OverrideIneffective => "override.ineffective",
            Self::OverrideUnknown => "override.unknown",
            Self::OverrideUnnecessary => "override.unnecessary",
            Self::OverrideMayBlockZap => "override_may_block_zap",
            Self::QuarantineRelease => "quarantine_release",
            Self::ReVerdict => "re_verdict",
            Self::ReleaseRequested => "release_requested",
            Self::ReleasedHcPhish => "released.hc_phish",
            Self::ReleasedMalware => "released.malware",
            Self::ReleasedPhish => "released.phish",
            Self::ReleasedSpam => "released.spam",
            Self::RemediatedAdmin => "remediated.admin",
            Self::RemediatedAir => "remediated.air",
            Self::RemediatedZap => "remediated.zap",
            Self::ReportedJunk => "reported.junk",
            Self::ReportedNotJunk => "reported.not_junk",
            Self::ReportedPhish => "reported.phish",
            Self::TablEntryExpiring => "tabl.entry_expiring",
            Self::TablEntryMalicious => "tabl.entry_malicious",
            Self::TablEntryRemoved => "tabl.entry_removed",
            Self::VerdictWithdrawn => "verdict_withdrawn",
            Self::ZapDisabled => "zap_disabled",
            Self::ZapFailed => "zap_failed",
        }
    }

    /// The tag with this exact word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| tag.as_str() == word)
    }

    const fn bit(self) -> u64 {
        1 << self as u8
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The prefix of tags that come from the user's own rules.
pub const USER_PREFIX: &str = "user.";

/// The tags of one event: a set, always read in sorted order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags {
    bits: u64,
    user: Vec<Arc<str>>,
}

impl Tags {
    /// No tags.
    #[must_use]
    pub const fn new() -> Self {
        Self { bits: 0, user: Vec::new() }
    }

    /// Adds `tag`; adding twice is the same as once.
    pub const fn insert(&mut self, tag: Tag) {
        self.bits |= tag.bit();
    }

    /// Adds the tag of a user's rule; `name` is what follows `user.`.
    pub fn insert_user(&mut self, name: &str) {
        let word: Arc<str> = format!("{USER_PREFIX}{name}").into();
        if let Err(place) = self.user.binary_search(&word) {
            self.user.insert(place, word);
        }
    }

    /// Takes `tag` away.
    pub const fn remove(&mut self, tag: Tag) {
        self.bits &= !tag.bit();
    }

    /// Whether `tag` is in the set.
    #[must_use]
    pub const fn contains(&self, tag: Tag) -> bool {
        self.bits & tag.bit() != 0
    }

    /// Whether a tag with this word, `user.*` included, is in the set.
    #[must_use]
    pub fn contains_word(&self, word: &str) -> bool {
        Tag::from_word(word).is_some_and(|tag| self.contains(tag))
            || self.user.iter().any(|known| &**known == word)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bits == 0 && self.user.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bits.count_ones() as usize + self.user.len()
    }

    /// The tags of the fixed vocabulary.
    pub fn fixed(&self) -> impl Iterator<Item = Tag> + use<> {
        let bits = self.bits;
        Tag::ALL.into_iter().filter(move |tag| bits & tag.bit() != 0)
    }

    /// All words, sorted.
    pub fn words<'a>(&'a self) -> impl Iterator<Item = &'a str> {
        let word = |tag: Tag| -> &'a str { tag.as_str() };
        let before = self.fixed().map(word).take_while(|word| *word < USER_PREFIX);
        let after = self.fixed().map(word).skip_while(|word| *word < USER_PREFIX);
        before.chain(self.user.iter().map(|word| &**word)).chain(after)
    }
}

impl FromIterator<Tag> for Tags {
    fn from_iter<I: IntoIterator<Item = Tag>>(tags: I) -> Self {
        let mut set = Self::new();
        for tag in tags {
            set.insert(tag);
        }
        set
    }
}

/// As a list of words. Binary formats too, so that a stored set survives a change of the vocabulary.
impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let mut list = serializer.serialize_seq(Some(self.len()))?;
        for word in self.words() {
            list.serialize_element(word)?;
        }
        list.end()
    }
}

/// A word that is not in the vocabulary any more is kept as it stands.
impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut tags = Self::new();
        for word in Vec::<std::borrow::Cow<'de, str>>::deserialize(deserializer)? {
            match Tag::from_word(&word) {
                Some(tag) => tags.insert(tag),
                None => tags.user.push(Arc::from(&*word)),
            }
        }
        tags.user.sort_unstable();
        tags.user.dedup();
        Ok(tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_sorted_and_find_their_tag() {
        let words: Vec<&str> = Tag::ALL.iter().map(|tag| tag.as_str()).collect();
        assert!(words.is_sorted_by(|a, b| a < b));
        assert!(words.len() <= 64, "the set is one u64");
        for tag in Tag::ALL {
            assert_eq!(Tag::from_word(tag.as_str()), Some(tag));
        }
    }

    #[test]
    fn a_set_reads_sorted_with_user_tags_in_place() {
        let mut tags: Tags = [Tag::ZapFailed, Tag::OverrideAllow].into_iter().collect();
        tags.insert_user("vip");
        tags.insert_user("vip");
        tags.insert(Tag::OverrideAllow);
        assert_eq!(tags.words().collect::<Vec<_>>(), ["override.allow", "user.vip", "zap_failed"]);
        assert_eq!(tags.len(), 3);
        let json = serde_json::to_string(&tags).unwrap();
        assert_eq!(serde_json::from_str::<Tags>(&json).unwrap(), tags);
        tags.remove(Tag::ZapFailed);
        assert!(!tags.contains(Tag::ZapFailed) && tags.contains_word("user.vip"));
    }
}
