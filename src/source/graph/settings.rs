//! What both sources of Graph can be told: their keys, checked when they are read.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// A whole number within bounds, so that a bad one is found when the configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct Bounded<const LEAST: u32, const MOST: u32>(u32);

impl<const LEAST: u32, const MOST: u32> Bounded<LEAST, MOST> {
    /// The number, brought within bounds.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        if number < LEAST {
            return Self(LEAST);
        }
        Self(if number > MOST { MOST } else { number })
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The number is out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfBounds(u32, u32, u32);

impl fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {}, expected {} to {}", self.0, self.1, self.2)
    }
}

impl<const LEAST: u32, const MOST: u32> TryFrom<u32> for Bounded<LEAST, MOST> {
    type Error = OutOfBounds;

    fn try_from(number: u32) -> Result<Self, OutOfBounds> {
        if (LEAST..=MOST).contains(&number) {
            Ok(Self(number))
        } else {
            Err(OutOfBounds(number, LEAST, MOST))
        }
    }
}

/// What the reader of a collection needs to know.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// From the end of one walk to the beginning of the next.
    pub(super) pause: Duration,
    /// How late a row may become visible and is still found by the next walk.
    pub(super) overlap_seconds: i64,
    /// How far the first walk goes back.
    pub(super) lookback_seconds: i64,
    /// How often a walk goes back farther than the overlap; never where it is 0.
    pub(super) rescan_every_seconds: i64,
    /// How far.
    pub(super) rescan_seconds: i64,
    /// Rows of a page.
    pub(super) page_size: u32,
    /// Pages of a walk.
    pub(super) max_pages: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_out_of_bounds_is_refused_in_words() {
        let read = serde_json::from_str::<Bounded<1, 50>>;
        assert_eq!(read("50").unwrap().get(), 50);
        let error = read("51").unwrap_err().to_string();
        assert!(error.contains("found 51, expected 1 to 50"), "{error}");
        read("0").unwrap_err();
        assert_eq!((Bounded::<1, 50>::new(60).get(), Bounded::<1, 50>::new(0).get()), (50, 1));
    }
}
