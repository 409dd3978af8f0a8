//! Where a mail ended up at delivery. The location decides; the action only where there is no location,
//! because "delivered" mail has been seen in junk.

use crate::domain::Outcome;
use crate::normalize::words::{self, DeliveryAction, Location};
use crate::normalize::{Column, Row};

/// The outcome of a row of `EmailEvents`.
#[must_use]
pub fn of_row(row: &Row<'_>) -> Outcome {
    of_words(
        row.text(Column::DeliveryAction).as_deref(),
        row.text(Column::DeliveryLocation).as_deref(),
    )
}

/// The outcome that an action and a location tell.
#[must_use]
pub fn of_words(action: Option<&str>, location: Option<&str>) -> Outcome {
    let action = action.and_then(words::delivery_action);
    match location.and_then(words::location) {
        Some(Location::Quarantine | Location::Failed | Location::Dropped) => Outcome::Blocked,
        Some(Location::Junk | Location::Deleted) => Outcome::Junk,
        Some(Location::Inbox | Location::External | Location::Forwarded) => match action {
            Some(DeliveryAction::Blocked) => Outcome::Blocked,
            _ => Outcome::Delivered,
        },
        Some(Location::Unknown) | None => match action {
            Some(DeliveryAction::Delivered) => Outcome::Delivered,
            Some(DeliveryAction::Junked) => Outcome::Junk,
            Some(DeliveryAction::Blocked) => Outcome::Blocked,
            Some(DeliveryAction::Unknown) | None => Outcome::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_location_decides_and_the_action_stands_in_for_it() {
        for (action, location, outcome) in [
            ("Delivered", "Junk folder", Outcome::Junk),
            ("Delivered", "Deleted items", Outcome::Junk),
            ("Delivered", "Quarantine", Outcome::Blocked),
            ("Blocked", "Inbox/folder", Outcome::Blocked),
            ("Junked", "Inbox/folder", Outcome::Delivered),
            ("Blocked", "On-premises/external", Outcome::Blocked),
            ("", "Forwarded", Outcome::Delivered),
            ("", "Dropped", Outcome::Blocked),
            ("Replaced", "", Outcome::Delivered),
            ("DeliveredAsSpam", "Attic", Outcome::Junk),
            ("Blocked", "Unknown", Outcome::Blocked),
            ("Unknown", "Unknown", Outcome::Unknown),
            ("", "", Outcome::Unknown),
        ] {
            assert_eq!(of_words(Some(action), Some(location)), outcome, "{action}, {location}");
        }
    }
}
