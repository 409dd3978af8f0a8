//! A keyed hash of ids for the tables and filters in memory. Ids are public and unkeyed, so without a secret
//! anybody who can send mail could craft ids that fall into one bucket. Never part of an event's identity.

use crate::domain::EventId;

/// SipHash-1-3 under a key of this installation, for messages of exactly 16 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyedHash {
    key: (u64, u64),
}

impl KeyedHash {
    pub(super) fn new(seed: u128) -> Self {
        let [low, high] = halves(seed);
        Self { key: (low, high) }
    }

    pub(super) fn of(self, id: EventId) -> u64 {
        let (k0, k1) = self.key;
        let mut state = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        // The third word is the length of the message in its top byte.
        let [first, second] = halves(u128::from_le_bytes(id.0));
        for word in [first, second, 16 << 56] {
            let [v0, v1, v2, v3] = state;
            let [v0, v1, v2, v3] = round([v0, v1, v2, v3 ^ word]);
            state = [v0 ^ word, v1, v2, v3];
        }
        let [v0, v1, v2, v3] = state;
        let [v0, v1, v2, v3] = round(round(round([v0, v1, v2 ^ 0xff, v3])));
        v0 ^ v1 ^ v2 ^ v3
    }
}

fn halves(value: u128) -> [u64; 2] {
    [value as u64, (value >> 64) as u64]
}

fn round([mut v0, mut v1, mut v2, mut v3]: [u64; 4]) -> [u64; 4] {
    v0 = v0.wrapping_add(v1);
    v1 = v1.rotate_left(13) ^ v0;
    v0 = v0.rotate_left(32);
    v2 = v2.wrapping_add(v3);
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.wrapping_add(v3);
    v3 = v3.rotate_left(21) ^ v0;
    v2 = v2.wrapping_add(v1);
    v1 = v1.rotate_left(17) ^ v2;
    v2 = v2.rotate_left(32);
    [v0, v1, v2, v3]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard library's hasher is SipHash-1-3 under a zero key.
    #[test]
    #[expect(deprecated, reason = "an independent implementation to compare with")]
    fn agrees_with_the_standard_library_under_a_zero_key() {
        use std::hash::{DefaultHasher, Hasher as _, SipHasher};
        for seed in 0..100_u8 {
            let id = EventId(std::array::from_fn(|i| seed.wrapping_mul(31).wrapping_add(i as u8)));
            let mut theirs = DefaultHasher::new();
            theirs.write(&id.0);
            assert_eq!(KeyedHash::new(0).of(id), theirs.finish());
            let mut other = SipHasher::new();
            other.write(&id.0);
            assert_ne!(KeyedHash::new(0).of(id), other.finish(), "that one is SipHash-2-4");
        }
    }

    #[test]
    fn another_installation_has_other_buckets() {
        let id = EventId([7; 16]);
        assert_ne!(KeyedHash::new(1).of(id), KeyedHash::new(2).of(id));
    }
}
