//! The ladder for `$expand=alerts`: on large tenants Graph answers 500 to it, again and again, and whoever repeats
//! the question never gets on. So pages get smaller, then alerts are fetched incident by incident; after a while
//! without failure it climbs again. Volatile: a restart begins at the top.

use std::time::Duration;

/// How long a rung must do well until the next one is tried.
const REST: Duration = Duration::from_secs(300);

/// Where on the ladder a source is.
#[derive(Debug)]
pub(super) struct Rungs {
    sizes: Vec<u32>,
    at: usize,
    since: Duration,
}

impl Rungs {
    /// A ladder whose highest rung are pages of `most` rows.
    pub(super) fn new(most: u32) -> Self {
        let mut sizes: Vec<u32> =
            [most, 25, 10, 1].into_iter().filter(|size| *size <= most).collect();
        sizes.dedup();
        Self { sizes, at: 0, since: Duration::ZERO }
    }

    /// Rows of a page with its alerts; `None` where alerts are fetched one by one.
    pub(super) fn size(&self) -> Option<u32> {
        self.sizes.get(self.at).copied()
    }

    /// It failed at this rung. Whether there was one below.
    pub(super) fn down(&mut self, now: Duration) -> bool {
        self.since = now;
        let below = self.at < self.sizes.len();
        self.at = (self.at + 1).min(self.sizes.len());
        below
    }

    /// Back to the top: what failed was not the size.
    pub(super) const fn top(&mut self) {
        self.at = 0;
    }

    /// It did well at this rung.
    pub(super) fn well(&mut self, now: Duration) {
        if self.at > 0 && now.saturating_sub(self.since) >= REST {
            self.since = now;
            self.at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_down_by_failures_and_up_by_time() {
        let second = Duration::from_secs;
        let mut rungs = Rungs::new(50);
        let mut sizes = Vec::new();
        for tick in 0..6 {
            sizes.push(rungs.size());
            rungs.down(second(tick));
        }
        assert_eq!(sizes, [Some(50), Some(25), Some(10), Some(1), None, None]);
        rungs.well(second(100));
        assert_eq!(rungs.size(), None);
        rungs.well(second(306));
        rungs.well(second(307));
        assert_eq!(rungs.size(), Some(1));
        rungs.top();
        assert_eq!(rungs.size(), Some(50));
        assert_eq!(Rungs::new(10).sizes, [10, 1]);
        assert_eq!(Rungs::new(1).sizes, [1]);
    }
}
