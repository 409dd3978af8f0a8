//! How long to wait before trying again: exponential with full jitter and a cap; what the far end asked for
//! (`Retry-After`, in all its forms) comes first. Not a timer: the caller waits, and says what time it is.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use crate::domain::Ticks;

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
    /// [`RETRY_AFTER_CAP`]), and up to a tenth more, so that many clients do not return at one instant. A
    /// wish of 0 is none: a far end that fails and says "at once" is not asked at once.
    pub fn next(&mut self, after: Option<Duration>) -> Duration {
        let ceiling = self.base.saturating_mul(1 << self.attempt.min(20)).min(self.cap);
        self.attempt = self.attempt.saturating_add(1);
        let share = self.share();
        match after {
            Some(after) if after > Duration::ZERO => {
                let after = after.min(RETRY_AFTER_CAP);
                after + after.mul_f64(share / 10.0)
            }
            // Never quite 0: a broken far end must not be asked in a busy loop.
            Some(_) | None => ceiling.mul_f64(share).max(self.base / 10),
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

/// Reads a `Retry-After` header: whole or broken seconds, or an HTTP date, which is compared with `now` (the
/// far end's own `Date` where it sent one, so that our clock does not matter). Capped at
/// [`RETRY_AFTER_CAP`]; a date that has passed is 0. `None` where there is no header, or a negative number, or
/// anything else: the caller then backs off by itself.
#[must_use]
pub fn retry_after(header: Option<&str>, now: Ticks) -> Option<Duration> {
    let text = header?.trim();
    if text.bytes().next()?.is_ascii_digit() {
        let seconds: f64 = text.parse().ok()?;
        return Some(Duration::try_from_secs_f64(seconds).map_or(RETRY_AFTER_CAP, capped));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    let seconds = i64::try_from(since_epoch.as_secs()).ok()?.saturating_sub(now.as_seconds());
    Some(capped(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
}

fn capped(asked: Duration) -> Duration {
    asked.min(RETRY_AFTER_CAP)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: &str = "2026-08-20T09:11:04Z";

    #[track_caller]
    fn check(header: &str, expected: Option<u64>) {
        let now = Ticks::parse(NOW).unwrap();
        assert_eq!(retry_after(Some(header), now), expected.map(Duration::from_secs), "{header:?}");
    }

    /// Row C1 of the fault matrix.
    #[test]
    fn every_form_of_retry_after_is_obeyed_up_to_an_hour() {
        check("120", Some(120));
        check(" 7 ", Some(7));
        check("0", Some(0));
        check("1000000000000", Some(3600));
        check("99999999999999999999999999999", Some(3600));
        check("1e400", Some(3600));
        check("Thu, 20 Aug 2026 09:12:04 GMT", Some(60));
        check("Thursday, 20-Aug-26 09:12:04 GMT", Some(60));
        check("Thu Aug 20 09:12:04 2026", Some(60));
        check("Thu, 20 Aug 2026 09:00:00 GMT", Some(0));
        check("Thu, 20 Aug 2099 09:00:00 GMT", Some(3600));
        check("-5", None);
        check("", None);
        check("soon", None);
        check("120 seconds", None);
        assert_eq!(retry_after(None, Ticks(0)), None);
        let half = retry_after(Some("1.5"), Ticks(0));
        assert_eq!(half, Some(Duration::from_millis(1500)));
    }

    proptest! {
        #[test]
        fn never_earlier_than_asked_and_never_at_once(
            seed: u64, failures in 0_u32..200, asked in 0_u64..10_000_000,
        ) {
            let mut backoff = Backoff::seeded(Duration::from_millis(500), Duration::from_secs(60), seed);
            backoff.attempt = failures;
            let asked = Duration::from_secs(asked);
            let wait = backoff.next(Some(asked));
            prop_assert!(wait >= asked.min(RETRY_AFTER_CAP));
            prop_assert!(wait > Duration::ZERO && wait <= RETRY_AFTER_CAP.mul_f64(1.1));
        }

        #[test]
        fn no_header_panics(header in ".{0,40}", now: i64) {
            let _ = retry_after(Some(&header), Ticks(now));
        }
    }

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
        for seconds in [1, 90, 3600] {
            let wish = Duration::from_secs(seconds);
            let wait = backoff.next(Some(wish));
            assert!(wait >= wish && wait <= wish.mul_f64(1.1), "{wish:?} -> {wait:?}");
        }
        let absurd = backoff.next(Some(Duration::from_secs(1_000_000_000_000)));
        assert!(absurd <= RETRY_AFTER_CAP.mul_f64(1.1));
    }
}
