//! A filter that says "surely not in this run": a Bloom filter whose bits for one id lie in one cache line.
//! A "maybe" is always checked against the run itself, so the filter can cost time but never an event.

const WORDS_PER_BLOCK: usize = 8;
/// With seven probes of 512-bit blocks about one stranger in 150 passes.
const BITS_PER_KEY: usize = 12;
const PROBES: u32 = 7;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// An empty filter for at most `keys` ids.
    pub(super) fn for_keys(keys: u64) -> Self {
        Self { words: vec![0; Self::words_for(keys)] }
    }

    pub(super) fn words_for(keys: u64) -> usize {
        let bits = usize::try_from(keys).unwrap_or(usize::MAX / 64).saturating_mul(BITS_PER_KEY);
        bits.div_ceil(64 * WORDS_PER_BLOCK).max(1) * WORDS_PER_BLOCK
    }

    pub(super) fn insert(&mut self, hash: u64) {
        let block = self.block(hash);
        if let Some(words) = self.words.get_mut(block..block + WORDS_PER_BLOCK) {
            for (word, bit) in probes(hash) {
                if let Some(word) = words.get_mut(word) {
                    *word |= bit;
                }
            }
        }
    }

    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let block = self.block(hash);
        let words = self.words.get(block..block + WORDS_PER_BLOCK).unwrap_or_default();
        probes(hash).all(|(word, bit)| words.get(word).is_some_and(|word| word & bit != 0))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .filter_map(|word| word.try_into().ok().map(u64::from_le_bytes))
            .collect();
        let whole = !words.is_empty() && words.len().is_multiple_of(WORDS_PER_BLOCK);
        (whole && words.len() * 8 == bytes.len()).then_some(Self { words })
    }

    fn block(&self, hash: u64) -> usize {
        let blocks = (self.words.len() / WORDS_PER_BLOCK) as u64;
        (((hash >> 32) * blocks) >> 32) as usize * WORDS_PER_BLOCK
    }
}

/// Word within the block, and bit within the word.
fn probes(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    let spread = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..PROBES).map(move |probe| {
        let bits = spread >> (probe * 9);
        ((bits >> 6) as usize & (WORDS_PER_BLOCK - 1), 1 << (bits & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EventId;
    use crate::journal::dedup::hash::KeyedHash;

    #[test]
    fn no_member_is_denied_and_few_strangers_pass() {
        let hash = |number: u128| KeyedHash::new(3).of(EventId(number.to_le_bytes()));
        for keys in [1, 100, 50_000] {
            let mut filter = Filter::for_keys(keys);
            for number in 0..u128::from(keys) {
                filter.insert(hash(number));
            }
            let again = Filter::from_bytes(&filter.to_bytes()).unwrap();
            assert_eq!(again, filter);
            assert!((0..u128::from(keys)).all(|number| again.may_contain(hash(number))));
            let strangers = (1 << 40..(1 << 40) + 20_000_u128)
                .filter(|number| again.may_contain(hash(*number)))
                .count();
            assert!(strangers < 300, "{strangers} of 20,000 with {keys} keys");
        }
    }

    #[test]
    fn odd_bytes_are_no_filter() {
        assert_eq!(Filter::from_bytes(&[]), None);
        assert_eq!(Filter::from_bytes(&[0; 63]), None);
        assert_eq!(Filter::from_bytes(&[0; 65]), None);
    }
}
