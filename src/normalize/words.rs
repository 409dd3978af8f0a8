//! The words that columns use, with all the spellings met. Letter case, blanks and punctuation never
//! matter. A word that is not here reads as nothing and is counted, so that a new spelling shows up.

use super::column::Column;
use super::row::Row;
use crate::domain::{Issue, OverrideKind, Table};
use crate::tagging::overrides;

/// Where a mail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// The inbox or another folder that the user opens.
    Inbox,
    /// Junk mail.
    Junk,
    /// Deleted items.
    Deleted,
    /// Quarantine.
    Quarantine,
    /// Delivery failed.
    Failed,
    /// Dropped.
    Dropped,
    /// Outside: on premises or another organization.
    External,
    /// Forwarded.
    Forwarded,
    /// The record says that it does not know.
    Unknown,
}

/// What was done with a mail at delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryAction {
    /// Delivered, with its attachments replaced or not.
    Delivered,
    /// Put into junk.
    Junked,
    /// Quarantined, failed or dropped.
    Blocked,
    /// The record says that it does not know.
    Unknown,
}

/// Which way a mail went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailDirection {
    /// Into the organization.
    Inbound,
    /// Out of it.
    Outbound,
    /// Within it.
    IntraOrg,
    /// The record says that it does not know.
    Unknown,
}

/// A class of threat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreatClass {
    /// Malware.
    Malware,
    /// Phish of any confidence.
    Phish,
    /// Spam or bulk.
    Spam,
}

/// Reads a location.
#[must_use]
pub fn location(text: &str) -> Option<Location> {
    Some(match Letters::of(text).word() {
        b"inboxfolder" | b"inbox" => Location::Inbox,
        b"junkfolder" | b"junk" | b"junkemailfolder" | b"junkmailfolder" | b"junkemail" => {
            Location::Junk
        }
        b"quarantine" => Location::Quarantine,
        b"onpremisesexternal" | b"onpremexternal" | b"external" => Location::External,
        b"failed" | b"deliveredfailed" | b"deliveryfailed" => Location::Failed,
        b"dropped" => Location::Dropped,
        b"deleteditems" | b"deleteditemsfolder" | b"deletedfolder" => Location::Deleted,
        b"forwarded" => Location::Forwarded,
        b"unknown" => Location::Unknown,
        _ => return None,
    })
}

/// Reads an action at delivery.
#[must_use]
pub fn delivery_action(text: &str) -> Option<DeliveryAction> {
    Some(match Letters::of(text).word() {
        b"delivered" | b"replaced" => DeliveryAction::Delivered,
        b"junked" | b"deliveredasspam" | b"deliveredtojunk" | b"junk" => DeliveryAction::Junked,
        b"blocked" => DeliveryAction::Blocked,
        b"unknown" => DeliveryAction::Unknown,
        _ => return None,
    })
}

/// Reads a mail's direction.
#[must_use]
pub fn mail_direction(text: &str) -> Option<MailDirection> {
    Some(match Letters::of(text).word() {
        b"inbound" => MailDirection::Inbound,
        b"outbound" => MailDirection::Outbound,
        b"intraorg" => MailDirection::IntraOrg,
        b"unknown" => MailDirection::Unknown,
        _ => return None,
    })
}

/// Reads one threat word.
#[must_use]
pub fn threat_class(word: &str) -> Option<ThreatClass> {
    Some(match Letters::of(word).word() {
        b"phish" | b"phishing" => ThreatClass::Phish,
        b"malware" | b"malicious" => ThreatClass::Malware,
        b"spam" | b"bulk" => ThreatClass::Spam,
        _ => return None,
    })
}

/// The single words of a threat column: separated by `,`, `;` or `|`, possibly in a JSON array.
/// Words for "nothing" are left out.
pub fn threat_words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ';', '|'])
        .map(|word| word.trim_matches([' ', '"', '[', ']', '\t', '\r', '\n']))
        .filter(|word| !is_nothing(word))
}

/// Whether a word says that there is nothing to say.
#[must_use]
pub fn is_nothing(word: &str) -> bool {
    ["", "none", "null", "unknown", "{}", "[]"]
        .iter()
        .any(|nothing| word.eq_ignore_ascii_case(nothing))
}

/// Collects the columns of a typed row that hold a word which is not known here.
pub fn unknown_values(table: &Table, row: &Row<'_>, issues: &mut Vec<Issue>) {
    match table {
        Table::EmailEvents => {
            check(row, Column::EmailDirection, issues, |text| mail_direction(text).is_some());
            check(row, Column::DeliveryAction, issues, |text| delivery_action(text).is_some());
            check(row, Column::DeliveryLocation, issues, |text| location(text).is_some());
            for column in [Column::OrgLevelAction, Column::UserLevelAction] {
                check(row, column, issues, |text| overrides::direction_of(text).is_some());
            }
            for column in [Column::OrgLevelPolicy, Column::UserLevelPolicy] {
                check(row, column, issues, |text| {
                    overrides::kind_of(text, crate::domain::Level::Tenant) != OverrideKind::Other
                });
            }
            for column in [Column::ThreatTypes, Column::OriginalThreatTypes] {
                check(row, column, issues, known_threats);
            }
        }
        Table::EmailPostDeliveryEvents => {
            check(row, Column::DeliveryLocation, issues, |text| location(text).is_some());
            check(row, Column::ThreatTypes, issues, known_threats);
        }
        Table::EmailAttachmentInfo | Table::UrlClickEvents => {
            check(row, Column::ThreatTypes, issues, known_threats);
        }
        Table::EmailUrlInfo | Table::AlertInfo | Table::AlertEvidence | Table::Other(_) => {}
    }
}

fn known_threats(text: &str) -> bool {
    threat_words(text).all(|word| threat_class(word).is_some())
}

fn check(row: &Row<'_>, column: Column, issues: &mut Vec<Issue>, known: impl Fn(&str) -> bool) {
    if let Some(text) = row.text(column)
        && !known(&text)
    {
        issues.push(Issue::new(Issue::UNKNOWN_VALUE, column.name()));
    }
}

/// The letters of a short text, lower-cased; longer texts are no word of any list.
struct Letters {
    letters: [u8; Self::MOST],
    count: usize,
}

impl Letters {
    const MOST: usize = 24;

    fn of(text: &str) -> Self {
        let mut found = Self { letters: [0; Self::MOST], count: 0 };
        for byte in text.bytes() {
            if byte.is_ascii_alphabetic()
                && let Some(place) = found.letters.get_mut(found.count)
            {
                *place = byte.to_ascii_lowercase();
                found.count += 1;
            } else if byte.is_ascii_alphabetic() || !byte.is_ascii() {
                found.count = 0;
                break;
            }
        }
        found
    }

    fn word(&self) -> &[u8] {
        self.letters.get(..self.count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_met_means_the_same_place() {
        for (expected, spellings) in [
            (Location::Inbox, &["Inbox/folder", "Inbox/Folder", "inbox_folder", " INBOX "][..]),
            (Location::Junk, &["Junk folder", "JunkFolder", "Junk Email folder", "junk"]),
            (Location::External, &["On-premises/external", "onprem_external", "External"]),
            (Location::Failed, &["Failed", "Delivered failed"]),
            (Location::Deleted, &["Deleted items", "Deleted Items folder", "deletedFolder"]),
        ] {
            for spelling in spellings {
                assert_eq!(location(spelling), Some(expected), "{spelling}");
            }
        }
        for stranger in ["", "Archive", "Ínbox", "Inbox/folder of somebody with a long name"] {
            assert_eq!(location(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn threat_words_come_apart_at_every_separator_and_nothing_is_nothing() {
        let words = |text| threat_words(text).map(threat_class).collect::<Vec<_>>();
        let both = [Some(ThreatClass::Phish), Some(ThreatClass::Spam)];
        for text in ["Phish, Spam", "phish|bulk", "Phishing;SPAM;", "[\"Phish\",\"Spam\"]"] {
            assert_eq!(words(text), both, "{text}");
        }
        for text in ["None", "unknown", " , ", "[]"] {
            assert_eq!(words(text), [], "{text}");
        }
        assert_eq!(words("Quishing"), [None]);
    }

    #[test]
    fn a_word_that_is_not_on_its_list_is_an_issue_at_its_column() {
        let row = Row::parse(
            br#"{"DeliveryLocation":"Attic","DeliveryAction":"Delivered","OrgLevelPolicy":"New thing",
                "ThreatTypes":"Phish, Vish","UserLevelAction":"Perhaps","EmailDirection":null}"#,
        )
        .unwrap();
        let mut issues = Vec::new();
        unknown_values(&Table::EmailEvents, &row, &mut issues);
        let at: Vec<_> = issues.iter().map(|issue| &*issue.at).collect();
        assert_eq!(at, ["DeliveryLocation", "UserLevelAction", "OrgLevelPolicy", "ThreatTypes"]);
        assert!(issues.iter().all(|issue| issue.code == Issue::UNKNOWN_VALUE));
    }
}
