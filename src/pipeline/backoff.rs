//! How long to wait before trying again: exponential with full jitter and a cap; what the far end asked for
//! comes first. Not a timer: the caller waits.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Longest wait that a far end's `Retry-After` is obeyed for. A longer one is an error of theirs.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(3600);

/// The waits of one thing that is tried again and again.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
    random: u64,
}

impl Default for Backoff {
    /// From half a second up to a minute.
    fn default() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(60))
    }
}

impl Backoff {
    /// Waits that grow from `base` to `cap`, seeded by the operating system's randomness.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self::seeded(base, cap, RandomState::new().hash_one(0))
    }

    /// The same with a given seed.
    #[must_use]
    pub const fn seeded(base: Duration, cap: Duration, seed: u64) -> Self {
        Self { base, cap, attempt: 0, random: seed }
    }

    /// It worked: the next failure starts small again.
    pub const fn reset(&mut self) {
        self.attempt = 0;
    }

    /// It failed: how long to wait. `after` is the far end's own wish: never less than that (up to
    /// [`RETRY_AFTER_CAP`]), and up to a tenth more, so that many clients do not return at one instant.
    pub fn next(&mut self, after: Option<Duration>) -> Duration {
        let ceiling = self.base.saturating_mul(1 << self.attempt.min(20)).min(self.cap);
        self.attempt = self.attempt.saturating_add(1);
        let share = self.share();
        match after {
            Some(after) => {
                let after = after.min(RETRY_AFTER_CAP);
                after + after.mul_f64(share / 10.0)
            }
            // Never quite 0: a broken far end must not be asked in a busy loop.
            None => ceiling.mul_f64(share).max(self.base / 10),
        }
    }

    /// A number in 0..1 (splitmix64).
    #[expect(clippy::cast_precision_loss, reason = "53 random bits are plenty for jitter")]
    fn share(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_small_again_after_success() {
        for seed in 0..200 {
            let mut backoff =
                Backoff::seeded(Duration::from_millis(100), Duration::from_secs(10), seed);
            for attempt in 0..40_u32 {
                let ceiling = Duration::from_millis(100).saturating_mul(1 << attempt.min(20));
                let wait = backoff.next(None);
                assert!(wait <= ceiling.min(Duration::from_secs(10)), "seed {seed}: {wait:?}");
                assert!(wait >= Duration::from_millis(10));
            }
            backoff.reset();
            assert!(backoff.next(None) <= Duration::from_millis(100));
        }
    }

    #[test]
    fn the_far_ends_wish_is_a_lower_bound_up_to_the_cap() {
        let mut backoff = Backoff::default();
        for seconds in [0, 1, 90, 3600] {
            let wish = Duration::from_secs(seconds);
            let wait = backoff.next(Some(wish));
            assert!(wait >= wish && wait <= wish.mul_f64(1.1), "{wish:?} -> {wait:?}");
        }
        let absurd = backoff.next(Some(Duration::from_secs(1_000_000_000_000)));
        assert!(absurd <= RETRY_AFTER_CAP.mul_f64(1.1));
    }
}
