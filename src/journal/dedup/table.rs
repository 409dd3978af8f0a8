//! A set of ids in memory: open addressing over whole 16-byte ids, so that a look-up is exact.
//! Knows nothing of time, disk or durability.

use super::hash::KeyedHash;
use crate::domain::EventId;

const SMALLEST: usize = 64;
/// The empty slot. An id of sixteen zero bytes is possible, and remembered in `has_empty`.
const EMPTY: EventId = EventId([0; 16]);

#[derive(Debug)]
pub(super) struct Table {
    hash: KeyedHash,
    /// A power of two, at most three quarters full: linear probing then looks at two cache lines or so.
    slots: Vec<EventId>,
    used: usize,
    has_empty: bool,
}

impl Table {
    pub(super) fn new(hash: KeyedHash) -> Self {
        Self { hash, slots: Vec::new(), used: 0, has_empty: false }
    }

    pub(super) fn len(&self) -> usize {
        self.used + usize::from(self.has_empty)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<EventId>()
    }

    /// How many ids fit into `bytes` without growing past them.
    pub(super) fn keys_for(bytes: usize) -> usize {
        let slots = bytes / size_of::<EventId>();
        let slots = if slots.is_power_of_two() { slots } else { slots.next_power_of_two() / 2 };
        slots.max(SMALLEST) / 4 * 3
    }

    pub(super) fn contains(&self, id: EventId) -> bool {
        if id == EMPTY { self.has_empty } else { self.find(id).is_ok() }
    }

    /// Whether it was not there yet.
    pub(super) fn insert(&mut self, id: EventId) -> bool {
        if id == EMPTY {
            return !std::mem::replace(&mut self.has_empty, true);
        }
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        match self.find(id) {
            Ok(_) => false,
            Err(place) => {
                if let Some(slot) = self.slots.get_mut(place) {
                    *slot = id;
                    self.used += 1;
                }
                true
            }
        }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, id: EventId) -> bool {
        if id == EMPTY {
            return std::mem::replace(&mut self.has_empty, false);
        }
        let Ok(mut hole) = self.find(id) else { return false };
        self.used -= 1;
        // Moves later ids of the same cluster back into the hole, so that no probe ends too early.
        let mask = self.slots.len() - 1;
        let mut next = hole;
        loop {
            next = (next + 1) & mask;
            let moving = self.slots.get(next).copied().unwrap_or(EMPTY);
            if moving == EMPTY {
                break;
            }
            let home = self.home(moving);
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.put(hole, moving);
                hole = next;
            }
        }
        self.put(hole, EMPTY);
        true
    }

    fn put(&mut self, place: usize, id: EventId) {
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = id;
        }
    }

    fn home(&self, id: EventId) -> usize {
        self.hash.of(id) as usize & (self.slots.len().wrapping_sub(1))
    }

    /// `Ok` where it is, `Err` where it would go.
    fn find(&self, id: EventId) -> Result<usize, usize> {
        if self.slots.is_empty() {
            return Err(usize::MAX);
        }
        let mask = self.slots.len() - 1;
        let mut place = self.home(id);
        loop {
            match self.slots.get(place) {
                Some(found) if *found == id => return Ok(place),
                Some(found) if *found == EMPTY => return Err(place),
                Some(_) => place = (place + 1) & mask,
                None => return Err(usize::MAX),
            }
        }
    }

    fn grow(&mut self) {
        let larger = (self.slots.len() * 2).max(SMALLEST);
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; larger]);
        for id in old.into_iter().filter(|id| *id != EMPTY) {
            if let Err(place) = self.find(id) {
                self.put(place, id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> EventId {
        EventId([number; 16])
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(steps in prop::collection::vec((any::<bool>(), 0..200_u8), 0..2_000)) {
            let mut table = Table::new(KeyedHash::new(7));
            let mut model = HashSet::new();
            for (insert, number) in steps {
                if insert {
                    prop_assert_eq!(table.insert(id(number)), model.insert(number));
                } else {
                    prop_assert_eq!(table.remove(id(number)), model.remove(&number));
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for number in 0..=255 {
                prop_assert_eq!(table.contains(id(number)), model.contains(&number), "{}", number);
            }
        }
    }

    #[test]
    fn the_stated_bytes_are_kept() {
        for bytes in [10_000, 1 << 20, 3 << 20] {
            let mut table = Table::new(KeyedHash::new(7));
            for number in 0..Table::keys_for(bytes) as u128 {
                assert!(table.insert(EventId((number + 1).to_le_bytes())));
            }
            assert!(table.memory_bytes() <= bytes, "{} of {bytes}", table.memory_bytes());
        }
    }
}
