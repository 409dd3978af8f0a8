//! A user's report of a mail from a third-party tool, as a `submission`. The keys are ours; a source whose tool
//! uses others renames them. What a category means is `tagging`'s business.
//!
//! | key | meaning |
//! |---|---|
//! | `message_id` | the mail's `Message-ID` header |
//! | `network_message_id` | Defender's id of the mail, where the tool knows it |
//! | `reporter` | address of the user who reported it |
//! | `recipient` | mailbox that it was in; the reporter's own where missing |
//! | `subject`, `sender` | of the mail |
//! | `reported_at` | when, ISO 8601; no zone means UTC |
//! | `category` | what the user called it: phish, malware, junk, not junk |
//!
//! Identity: the message id (`message_id` without angle brackets, else `network_message_id`), the reporter, the
//! time. Other keys pass through. Table: `submissions`.

use std::borrow::Cow;

use super::field;
use super::item::{Item, Part};
use super::row::Row;
use crate::domain::{Kind, Table, Ticks};

/// The keys that mean something here.
pub const KEYS: [&str; 8] = [
    "message_id",
    "network_message_id",
    "reporter",
    "recipient",
    "subject",
    "sender",
    "reported_at",
    "category",
];

/// A report.
pub(super) fn item<'a>(row: &Row<'a>) -> Item<'a> {
    let header = field::text(row, "message_id");
    let network = field::text(row, "network_message_id");
    let reporter = field::text(row, "reporter");
    let reported = field::text(row, "reported_at");
    let message = header.clone().map(bare).or_else(|| network.clone()).unwrap_or_default();
    Item {
        kind: Kind::Submission,
        table: Table::Other("submissions".into()),
        unknown_table: false,
        tenant: Cow::Borrowed(""),
        identity: (
            Kind::Submission.as_str(),
            vec![
                Part::Text(message),
                Part::Address(reporter.clone().unwrap_or_default()),
                Part::Time(reported.clone().unwrap_or_default()),
            ],
        ),
        key: network.or(header),
        recipient: field::text(row, "recipient").or(reporter),
        occurred: reported.as_deref().and_then(Ticks::parse),
        observed: None,
        time_field: "reported_at",
    }
}

/// A message id without its angle brackets.
fn bare(id: Cow<'_, str>) -> Cow<'_, str> {
    match id.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
        Some(inner) => Cow::Owned(inner.to_owned()),
        None => id,
    }
}
