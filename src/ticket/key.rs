//! The external key of a ticket: what makes "the same ticket" the same on every attempt, after every restart and
//! on every installation. Pure.

use crate::domain::{Event, TicketKey};

/// Changes only if keys must never again agree with older ones.
const VERSION: u8 = 1;

/// The first 128 bits of BLAKE3 over version, tenant, policy and fold key, as 32 hex digits. Each part is
/// preceded by its length, so that no two triples read alike.
#[must_use]
pub fn external_key(tenant: &str, policy: &str, fold: &str) -> TicketKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[VERSION]);
    for part in [tenant, policy, fold] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().chars().take(32).collect::<String>().into()
}

/// What folds events into one ticket: the message, alert or incident id; the event's own id where there is none.
#[must_use]
pub fn fold_key(event: &Event) -> String {
    match &event.key {
        Some(key) => key.trim().to_ascii_lowercase(),
        None => event.id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These values may never change: a receiver that has them would get the same ticket again.
    #[test]
    fn keys_are_the_same_for_ever() {
        let tenant = "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a";
        let key = external_key(tenant, "allowed_mail", "7250ff78-0000-4000-8000-000000000001");
        assert_eq!(&*key, "4e1e6fef721b9e5adf1e924dde028c67");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let keys = [
            external_key("a", "b", "c"),
            external_key("ab", "", "c"),
            external_key("a", "bc", ""),
            external_key("", "ab", "c"),
        ];
        for (place, key) in keys.iter().enumerate() {
            assert_eq!(key.len(), 32);
            assert!(!keys[..place].contains(key));
        }
    }

    #[test]
    fn a_message_folds_whatever_the_letter_case_and_an_event_without_key_stands_alone() {
        let mut event = crate::sink::tests::event("{}");
        assert_eq!(fold_key(&event), event.id.to_string());
        event.key = Some(" 7250FF78-AA ".into());
        assert_eq!(fold_key(&event), "7250ff78-aa");
    }
}
