//! The seam between the stages and time. Floors 0 and 1 get times as arguments; everything above asks this.

use std::time::Duration;

use crate::domain::Ticks;

/// A clock: the wall's for stamping, a monotonic one for measuring and waiting.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. May jump in either direction; never used for waiting.
    fn now(&self) -> Ticks;
    /// Time since some fixed point; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Ticks {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ticks(i64::try_from(since_epoch.as_nanos() / 100).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
