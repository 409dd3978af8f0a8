//! Which blobs are settled, by hashes of their ids, kept where a listing may name them again: in cursors of their
//! own, one for each quarter of an hour of `contentCreated`, so that a page rewrites only those that it adds to. The
//! cursors form a ring; what is older than the overlap is overwritten.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::domain::{Cursor, CursorKey, Cursors, Ticks};

/// Seconds of `contentCreated` in one cursor.
const SLOT_SECONDS: i64 = 900;

/// Cursors in the ring: 64 hours. The largest overlap is a day, and a window that is not finished another.
const RING: i64 = 256;

/// 96 bits of a content id's hash: a million ids collide with a chance of 1 in 10^17.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdHash([u8; 12]);

impl IdHash {
    /// Hashes an id.
    #[must_use]
    pub fn of(id: &str) -> Self {
        let mut bytes = [0; 12];
        for (to, from) in bytes.iter_mut().zip(blake3::hash(id.as_bytes()).as_bytes()) {
            *to = *from;
        }
        Self(bytes)
    }

    fn write(self, text: &mut String) {
        for byte in self.0 {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
    }

    fn read(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 12];
        for (to, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *to = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// The value of one of the ring's cursors.
#[derive(Serialize, Deserialize)]
struct Slot {
    /// Which quarter of an hour since the epoch.
    slot: i64,
    /// The hashes, 24 hex digits each.
    ids: String,
}

/// The set.
#[derive(Debug, Default)]
pub struct Seen {
    slots: BTreeMap<i64, Vec<IdHash>>,
    all: HashSet<IdHash>,
    dirty: BTreeSet<i64>,
}

impl Seen {
    /// Reads what the journal holds below `key`.
    ///
    /// # Errors
    /// The key that cannot be read.
    pub fn load(key: &str, cursors: &Cursors) -> Result<Self, CursorKey> {
        let mut seen = Self::default();
        let prefix = format!("{key}/");
        for (name, value) in cursors.range(CursorKey::from(prefix.as_str())..) {
            if !name.starts_with(&prefix) {
                break;
            }
            let slot: Slot = serde_json::from_str(value).map_err(|_| name.clone())?;
            let (ids, rest) = slot.ids.as_bytes().as_chunks::<24>();
            let ids: Option<Vec<IdHash>> = ids.iter().map(|id| IdHash::read(id)).collect();
            let ids = ids.filter(|_| rest.is_empty()).ok_or_else(|| name.clone())?;
            seen.all.extend(&ids);
            seen.slots.insert(slot.slot, ids);
        }
        Ok(seen)
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn contains(&self, id: IdHash) -> bool {
        self.all.contains(&id)
    }

    /// Adds a blob that was created at `created`.
    pub fn insert(&mut self, created: Ticks, id: IdHash) {
        if self.all.insert(id) {
            let slot = created.as_seconds().div_euclid(SLOT_SECONDS);
            self.slots.entry(slot).or_default().push(id);
            self.dirty.insert(slot);
        }
    }

    /// Forgets what was created before `before`: it is not listed again. The cursors stay until the ring comes
    /// round.
    pub fn prune(&mut self, before: Ticks) {
        let first = before.as_seconds().div_euclid(SLOT_SECONDS);
        let kept = self.slots.split_off(&first);
        for id in std::mem::replace(&mut self.slots, kept).into_values().flatten() {
            self.all.remove(&id);
        }
        self.dirty = self.dirty.split_off(&first);
    }

    /// Whether something is not saved yet.
    #[must_use]
    pub fn changed(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The cursors that changed.
    pub fn save(&mut self, key: &str, into: &mut Vec<(CursorKey, Cursor)>) {
        for slot in std::mem::take(&mut self.dirty) {
            let ids = self.slots.get(&slot).map(Vec::as_slice).unwrap_or_default();
            let mut text = String::with_capacity(ids.len() * 24);
            for id in ids {
                id.write(&mut text);
            }
            let value = serde_json::to_string(&Slot { slot, ids: text }).unwrap_or_default();
            into.push((format!("{key}/{:03}", slot.rem_euclid(RING)).into(), value.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_seen_within_the_overlap_is_known_after_any_number_of_restarts(
            blobs in prop::collection::vec((0_i64..200_000, 0_u32..500, any::<bool>()), 1..200),
        ) {
            let mut cursors = Cursors::new();
            let mut seen = Seen::default();
            let mut expected = BTreeMap::new();
            for (second, number, restart) in blobs {
                let id = IdHash::of(&number.to_string());
                let created = Ticks::from_millis(second * 1000);
                seen.insert(created, id);
                expected.entry(id).or_insert(created);
                if restart {
                    let mut changed = Vec::new();
                    seen.save("a/Audit.General", &mut changed);
                    cursors.extend(changed);
                    cursors.insert("a/Audit.GeneralX/000".into(), "not ours".into());
                    seen = Seen::load("a/Audit.General", &cursors).unwrap();
                }
                prop_assert!(expected.keys().all(|id| seen.contains(*id)));
            }
            let before = Ticks::from_millis(100_000_000);
            seen.prune(before);
            for (id, created) in expected {
                if created >= before {
                    prop_assert!(seen.contains(id));
                }
                if created < before.plus_seconds(-SLOT_SECONDS) {
                    prop_assert!(!seen.contains(id));
                }
            }
        }
    }

    #[test]
    fn a_cursor_that_cannot_be_read_is_named() {
        for value in ["", "{}", r#"{"slot":1,"ids":"zz"}"#, r#"{"slot":1,"ids":"0"}"#] {
            let cursors = Cursors::from([("a/x/001".into(), value.into())]);
            assert_eq!(&*Seen::load("a/x", &cursors).unwrap_err(), "a/x/001", "{value}");
        }
    }
}
