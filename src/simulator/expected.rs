//! What Postern ought to say about a mail, from the model's point of view: the model knows what was found and
//! which setting decided, so it needs no columns to tell. Shares nothing with `tagging`, which is judged by it.

use crate::domain::{Direction, Tag, Tags};

use super::delivery::{Delivery, Place};
use super::filter::{Confidence, Finding};
use super::mail::Way;
use super::overrides::Setting;

/// Tags of the first row of a mail.
#[must_use]
pub fn first_row(way: Way, delivery: &Delivery) -> Tags {
    let mut tags = directions(delivery);
    let allows = of(delivery, Direction::Allow);
    let blocks = of(delivery, Direction::Block);
    if way == Way::Outbound {
        return tags;
    }
    let delivered = delivery.place.is_delivered();
    if (!blocks.is_empty() && delivered) || (!allows.is_empty() && !delivered) {
        tags.insert(Tag::OverrideIneffective);
    }
    if !delivered || !blocks.is_empty() {
        return tags;
    }
    let found = &delivery.recorded;
    let expected = !allows.is_empty() && allows.iter().all(Setting::is_advanced_delivery);
    if expected {
        tags.insert(Tag::OverrideExpected);
    }
    if allows.is_empty() {
        add(&mut tags, classes(found).filter_map(|class| class.missed));
    } else if expected {
        add(&mut tags, classes(found).map(|class| class.expected));
    } else if !found.is_clean() {
        add(&mut tags, classes(found).map(|class| class.allowed));
        if !found.malware.is_empty() || found.phish.is_some() {
            tags.insert(Tag::OverrideHarmful);
        }
    } else if found.spam_level == Some(-1) && found.bulk_level.is_some_and(|level| level >= 5) {
        tags.insert(Tag::OverrideEffectUnknown);
    } else {
        tags.insert(Tag::OverrideUnnecessary);
    }
    tags
}

/// Tags of a later row of the same mail, which carries the verdict at delivery beside the new one or not.
/// The model convicts later only what it had delivered as clean.
#[must_use]
pub fn later_row(delivery: &Delivery, carries_original: bool) -> Tags {
    let mut tags = directions(delivery);
    if !carries_original {
        tags.insert(Tag::ReVerdict);
    } else if !of(delivery, Direction::Allow).is_empty() {
        tags.insert(Tag::LateConvictionUnderOverride);
    } else {
        tags.insert(Tag::LateConviction);
    }
    tags
}

/// Whether the model is sure of what a later row must say: not where a block took part, nor where spam
/// filtering was off for a mail that may have been bulk.
#[must_use]
pub fn can_be_convicted_later(delivery: &Delivery) -> bool {
    delivery.place == Place::Inbox
        && delivery.recorded.is_clean()
        && delivery.recorded.bulk_level.is_none()
        && !delivery.has_block()
        && !of(delivery, Direction::Allow).iter().any(Setting::is_advanced_delivery)
}

struct Class {
    allowed: Tag,
    expected: Tag,
    missed: Option<Tag>,
}

fn classes(found: &Finding) -> impl Iterator<Item = Class> + use<> {
    let malware = (!found.malware.is_empty()).then_some(Class {
        allowed: Tag::AllowedMalware,
        expected: Tag::ExpectedMalware,
        missed: Some(Tag::NoOverrideDeliveredMalware),
    });
    let phish = found.phish.as_ref().map(|(confidence, _)| match confidence {
        Confidence::High => Class {
            allowed: Tag::AllowedHcPhish,
            expected: Tag::ExpectedHcPhish,
            missed: Some(Tag::NoOverrideDeliveredHcPhish),
        },
        Confidence::Normal => Class {
            allowed: Tag::AllowedPhish,
            expected: Tag::ExpectedPhish,
            missed: Some(Tag::NoOverrideDeliveredPhish),
        },
    });
    let spam = (!found.spam.is_empty()).then_some(Class {
        allowed: Tag::AllowedSpam,
        expected: Tag::ExpectedSpam,
        missed: None,
    });
    [malware, phish, spam].into_iter().flatten()
}

fn add(tags: &mut Tags, more: impl Iterator<Item = Tag>) {
    more.for_each(|tag| tags.insert(tag));
}

fn of(delivery: &Delivery, direction: Direction) -> Vec<Setting> {
    let met = [delivery.met.tenant, delivery.met.user].into_iter().flatten();
    met.filter(|setting| setting.direction == direction).collect()
}

fn directions(delivery: &Delivery) -> Tags {
    let mut tags = Tags::new();
    if !of(delivery, Direction::Allow).is_empty() {
        tags.insert(Tag::OverrideAllow);
    }
    if !of(delivery, Direction::Block).is_empty() {
        tags.insert(Tag::OverrideBlock);
    }
    tags
}

/// Tags of an alert of the tenant, by what its title says.
#[must_use]
pub fn alert(title: &str) -> Tags {
    let tags: &[Tag] = if title.starts_with("Phish delivered due to") {
        &[Tag::OverrideAllow, Tag::AllowedHcPhish]
    } else if title.contains("removed after delivery") {
        &[Tag::LateConviction, Tag::RemediatedZap]
    } else if title.contains("found malicious") {
        &[Tag::TablEntryMalicious]
    } else if title.contains("reported by user") {
        &[Tag::ReportedPhish]
    } else if title.contains("URL click") {
        &[Tag::ClickedMalicious]
    } else if title.contains("requested to release") {
        &[Tag::ReleaseRequested]
    } else {
        &[]
    };
    tags.iter().copied().collect()
}
