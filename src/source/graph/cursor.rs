//! What survives a restart: how far the collection is read, and which single incidents are still owed. Kept as JSON
//! in one cursor, so that it moves in the same unit as the events behind it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{Cursor, CursorKey, Cursors, Failure, Ticks};
use crate::pipeline::AdapterError;

/// The state of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    /// Everything with a lower stamp that the far end showed is in the journal. A stamp that the far end gave, less
    /// the time that the walk took: what became visible while it went on is found by the next one.
    pub(super) high: Ticks,
    /// While the first walk goes on: its end. What is older was fetched on purpose for a time that has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) first_until: Option<Ticks>,
    /// Where `high` was when the window last went far back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) looked_back: Option<Ticks>,
    /// Where `high` was when it was said that the far end does not keep anything so old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retention_told: Option<Ticks>,
    /// Incidents that are to be fetched one by one, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) owed: BTreeMap<String, Owed>,
}

/// An incident that is to be fetched by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Owed {
    /// A revision that is at least as new as this settles it.
    pub(super) stamp: Ticks,
    /// Why.
    pub(super) why: Why,
    /// How often it was tried in vain.
    #[serde(default)]
    pub(super) tries: u32,
    /// How many redirects led here.
    #[serde(default)]
    pub(super) redirects: u32,
}

/// Why an incident is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    /// The far end failed to expand its alerts; it was handed over without them.
    Alerts,
    /// Another one was merged into it.
    Merged,
}

/// The key of the state.
pub(super) fn key(source: &str) -> CursorKey {
    format!("{source}/window").into()
}

/// Reads the state; none where the source has not begun.
///
/// # Errors
/// If it cannot be read: then it is not begun anew quietly.
pub(super) fn read(key: &CursorKey, cursors: &Cursors) -> Result<Option<Saved>, AdapterError> {
    let Some(text) = cursors.get(key) else { return Ok(None) };
    let saved = serde_json::from_str(text).map_err(|error| {
        let message = format!("the cursor {key} in the journal cannot be read");
        AdapterError::because(Failure::Hold, message, error)
    })?;
    Ok(Some(saved))
}

/// The state as a cursor, if it differs from what `cursors` hold.
pub(super) fn changed(
    key: &CursorKey,
    saved: &Saved,
    cursors: &Cursors,
) -> Option<(CursorKey, Cursor)> {
    // Plain fields and keys that are strings: it cannot fail. If it did, the cursor would stay behind, which is safe.
    let text = serde_json::to_string(saved).ok()?;
    let same = cursors.get(key).is_some_and(|old| **old == *text);
    (!same).then(|| (key.clone(), text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_survives_a_restart_and_is_written_only_when_it_changes() {
        let key = key("incidents");
        let mut cursors = Cursors::new();
        assert_eq!(read(&key, &cursors).unwrap(), None);
        let high = Ticks::parse("2026-08-20T09:16:02.1300001Z").unwrap();
        let owed = Owed { stamp: high, why: Why::Alerts, tries: 3, redirects: 0 };
        let saved = Saved {
            high,
            first_until: None,
            looked_back: Some(high),
            retention_told: None,
            owed: [("4711".to_owned(), owed)].into(),
        };
        cursors.extend(changed(&key, &saved, &cursors));
        assert_eq!(read(&key, &cursors).unwrap(), Some(saved.clone()));
        assert_eq!(changed(&key, &saved, &cursors), None);
        cursors.insert(key.clone(), "{\"high\":".into());
        assert_eq!(read(&key, &cursors).unwrap_err().failure, Failure::Hold);
    }
}
