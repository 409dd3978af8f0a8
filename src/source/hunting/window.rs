//! How a span of time is cut into pieces that fit into one answer: half-open windows that are halved while they
//! are too full, then shards by hash where one second alone is. Pure: it asks nobody and knows no clock.

use std::collections::VecDeque;
use std::fmt;

use crate::domain::Ticks;
use crate::domain::ticks::TICKS_PER_SECOND;

/// Below this a window is not halved but sharded: rows of one ingestion batch share one instant, so halving
/// on would cost a query for each of the 23 bits of a second and separate nothing.
const SHORTEST_TICKS: i64 = TICKS_PER_SECOND;

/// Most shards of one column. More are not needed before the next column has been tried.
const MOST_SHARDS: u32 = 256;

/// A span of time, `from` included, `to` not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// First instant in it.
    pub from: Ticks,
    /// First instant after it.
    pub to: Ticks,
}

impl Window {
    /// From `from` to `to`; empty if they are the wrong way round.
    #[must_use]
    pub fn new(from: Ticks, to: Ticks) -> Self {
        Self { from, to: to.max(from) }
    }

    /// Whether there is no instant in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.from >= self.to
    }

    /// Its length in seconds, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.to.0.saturating_sub(self.from.0) / TICKS_PER_SECOND
    }

    /// The two halves, where they are worth the halving.
    fn halves(self) -> Option<[Self; 2]> {
        let length = self.to.0.saturating_sub(self.from.0);
        if length <= SHORTEST_TICKS {
            return None;
        }
        let middle = Ticks(self.from.0 + length / 2);
        Some([Self { from: self.from, to: middle }, Self { from: middle, to: self.to }])
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.from, self.to)
    }
}

/// The rows whose hash of one column, divided by `of`, leaves `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    /// Number of shards.
    pub of: u32,
    /// This one, counted from 0.
    pub index: u32,
}

/// One piece of the work: a window, and which of its shards, one per shard column that is in use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Piece {
    /// The window.
    pub window: Window,
    /// The shards; empty for all of the window.
    pub shards: Vec<Shard>,
}

impl Piece {
    /// All of a window.
    #[must_use]
    pub const fn all(window: Window) -> Self {
        Self { window, shards: Vec::new() }
    }

    /// Two pieces that together are this one; `None` if nothing is left to divide by. `columns` is the number
    /// of columns that can be hashed.
    #[must_use]
    pub fn halves(&self, columns: usize) -> Option<[Self; 2]> {
        if self.shards.is_empty()
            && let Some(halves) = self.window.halves()
        {
            return Some(halves.map(Self::all));
        }
        let (mut first, mut second) = (self.clone(), self.clone());
        match (first.shards.last_mut(), second.shards.last_mut()) {
            (Some(a), Some(b)) if a.of < MOST_SHARDS => {
                // What leaves k by n leaves k or k + n by 2 n.
                b.index += a.of;
                a.of *= 2;
                b.of *= 2;
            }
            _ if self.shards.len() < columns => {
                first.shards.push(Shard { of: 2, index: 0 });
                second.shards.push(Shard { of: 2, index: 1 });
            }
            _ => return None,
        }
        Some([first, second])
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.window)?;
        self.shards.iter().try_for_each(|shard| write!(f, " {}:{}", shard.index, shard.of))
    }
}

/// The pieces that are left, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pieces: VecDeque<Piece>,
    columns: usize,
}

impl Plan {
    /// The whole window in pieces of at most `step_seconds`. `columns` as in [`Piece::halves`].
    #[must_use]
    pub fn new(window: Window, step_seconds: i64, columns: usize) -> Self {
        let step = step_seconds.max(1);
        let mut pieces = VecDeque::new();
        let mut from = window.from;
        while from < window.to {
            let to = from.plus_seconds(step).min(window.to);
            pieces.push_back(Piece::all(Window { from, to }));
            from = to;
        }
        Self { pieces, columns }
    }

    /// The piece to fetch next.
    #[must_use]
    pub fn next(&self) -> Option<&Piece> {
        self.pieces.front()
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How many pieces are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether nothing is left; for those who look for it by this name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_done()
    }

    /// The next piece is complete. Returns up to where *everything* is complete now; `None` while shards of
    /// the same window are left.
    pub fn finish(&mut self) -> Option<Ticks> {
        let done = self.pieces.pop_front()?;
        match self.pieces.front() {
            Some(next) if next.window.from < done.window.to => None,
            _ => Some(done.window.to),
        }
    }

    /// The next piece is too full: two smaller ones take its place. `false` if it cannot be divided.
    #[must_use]
    pub fn split(&mut self) -> bool {
        let Some([first, second]) =
            self.pieces.front().and_then(|piece| piece.halves(self.columns))
        else {
            return false;
        };
        self.pieces.pop_front();
        self.pieces.push_front(second);
        self.pieces.push_front(first);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(seconds: i64) -> Window {
        let from = Ticks::parse("2026-08-20T09:00:00Z").unwrap();
        Window::new(from, from.plus_seconds(seconds))
    }

    #[test]
    fn a_full_second_is_sharded_by_one_column_and_then_by_the_next() {
        let mut plan = Plan::new(window(1), 3600, 2);
        let mut depth = 0;
        while plan.split() {
            depth += 1;
        }
        assert_eq!(depth, 16, "256 shards of each of two columns");
        let last = plan.next().unwrap();
        assert_eq!(last.shards, [Shard { of: 256, index: 0 }, Shard { of: 256, index: 0 }]);
        let mut none = Plan::new(window(1), 3600, 0);
        assert!(!none.split());
        assert_eq!(none.len(), 1, "what cannot be split is still there");
    }

    #[test]
    fn the_end_of_a_window_is_told_only_after_its_last_shard() {
        let mut plan = Plan::new(window(2), 1, 1);
        assert!(plan.split());
        assert_eq!(plan.finish(), None);
        assert_eq!(plan.finish(), Some(window(1).to));
        assert_eq!(plan.finish(), Some(window(2).to));
        assert_eq!(plan.finish(), None);
    }

    proptest! {
        /// However it is split, every row (an instant and two hashes) is in exactly one piece, and what is
        /// told to be complete never goes back.
        #[test]
        fn every_row_is_in_exactly_one_piece(
            seconds in 1_i64..4000,
            step in 1_i64..4000,
            splits in proptest::collection::vec(any::<bool>(), 0..60),
            at in 0_i64..4000 * TICKS_PER_SECOND,
            hashes in any::<[u32; 2]>(),
        ) {
            let window = window(seconds);
            let at = Ticks(window.from.0 + at % (seconds * TICKS_PER_SECOND));
            let mut plan = Plan::new(window, step, 2);
            let (mut hits, mut told) = (0, window.from);
            let mut splits = splits.into_iter();
            while let Some(piece) = plan.next().cloned() {
                if splits.next() == Some(true) && plan.split() {
                    continue;
                }
                let inside = piece.window.from <= at && at < piece.window.to;
                let shards = piece.shards.iter().zip(hashes);
                hits += usize::from(inside && shards.clone().all(|(s, hash)| hash % s.of == s.index));
                if let Some(to) = plan.finish() {
                    prop_assert!(to > told);
                    told = to;
                }
            }
            prop_assert_eq!(hits, 1);
            prop_assert_eq!(told, window.to);
        }
    }
}
