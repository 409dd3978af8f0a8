//! One walk through a collection of Graph that changes while it is read: which question comes next, and how far
//! everything is surely seen. Pure: no requests, no clock, no memory of earlier walks.
//!
//! The order is asked for and never trusted: each page shows what order the far end really gives.
//!
//! * *Rising*: the next question is "from the last stamp on" (`ge`, never `gt`: rows may share a stamp). A row
//!   that is updated meanwhile moves to the end, so nothing that was passed can be missed, and every page makes
//!   all that lies before its last stamp safe. Links are not needed.
//! * *Falling* (newest first): the same downwards, but nothing is safe before the bottom is reached.
//! * *Neither*: links, or `$skip` where there are none.
//!
//! Where the order does not rise, rows can slip past between two pages, so the window is read again until a pass
//! brings nothing that an earlier one should have brought. One answer alone is one look: it needs no second.
//!
//! A list without order can look as if it rose, by chance. So the far end is asked how many rows there are when a
//! walk begins; fewer in the end mean that the order is not believed in any more, and the window is read again.
//!
//! A full page with a single stamp (a *tie*) is no step forward for such questions: the rows with that stamp are
//! then listed by themselves, with links or `$skip` and a count, until they are complete; only then the walk goes
//! on behind them. What a far end refuses to show of them is reported as missing.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::domain::Ticks;

/// Times that a window is read before it is called restless.
const PASSES: u32 = 6;
/// Times that the rows with one stamp are listed.
const TIE_PASSES: u32 = 6;

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// Lowest stamp, and whether rows that have it belong to it.
    pub(super) lower: (Ticks, bool),
    /// Highest stamp, likewise.
    pub(super) upper: Option<(Ticks, bool)>,
    /// Whether the number of all such rows is wanted.
    pub(super) count: bool,
    /// Which part of the answer.
    pub(super) part: Part,
}

/// Which part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Its beginning.
    First,
    /// What comes after so many rows.
    Skip(usize),
    /// Where the far end's link leads.
    Link(String),
}

/// A row, as far as walking needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<'p> {
    /// Its id.
    pub(super) key: &'p str,
    /// When it was last updated, if it says so.
    pub(super) stamp: Option<Ticks>,
    /// Whether it was not seen with this stamp before.
    pub(super) new: bool,
}

/// An answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed<'p> {
    /// Its rows, in the far end's order.
    pub(super) rows: &'p [Step<'p>],
    /// Whether it has as many rows as were asked for.
    pub(super) full: bool,
    /// The link to the next page.
    pub(super) link: Option<&'p str>,
    /// How many rows the far end says there are.
    pub(super) count: Option<u64>,
}

/// What an answer means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Everything with a lower stamp that the far end shows has been seen.
    pub(super) safe: Option<Ticks>,
    /// What was called safe in this walk was not: the order changed.
    pub(super) taken_back: bool,
    /// The walk is over.
    pub(super) done: bool,
    /// Rows with this stamp cannot be had: so many, where that is known.
    pub(super) missing: Option<(Ticks, Option<u64>)>,
}

/// Why a walk cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// A link leads to a page that was read before.
    #[error("a link to the next page leads to one that was read already")]
    Circle,
    /// More pages than a walk may have.
    #[error("more than {0} pages in one walk")]
    TooManyPages(u32),
    /// Every pass brings rows that an earlier one should have brought.
    #[error(
        "the list does not hold still: it was read {PASSES} times, and each time showed other rows"
    )]
    Restless,
    /// The list has no order, no links, and cannot be skipped through.
    #[error("the list has no order and no links, and the far end refuses $skip")]
    Unreadable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listing {
    /// From a stamp on.
    Up(Ticks, bool),
    /// From a stamp downwards.
    Down(Ticks, bool),
    /// Whether there is anything below the stamp that all rows of a first page have.
    Below(Ticks),
    /// What has this very stamp.
    Tie(Ticks),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Unknown,
    Rising,
    Falling,
    None,
}

#[derive(Debug, Default)]
struct Tie {
    keys: HashSet<String>,
    /// How many rows the first and the latest page said there are.
    counts: Option<(u64, u64)>,
    new: bool,
    cut: bool,
    passes: u32,
}

/// The walk.
#[derive(Debug)]
pub(super) struct Walk {
    from: Ticks,
    listing: Listing,
    part: Part,
    /// Rows of the present listing so far, for `$skip`.
    listed: usize,
    links: HashSet<String>,
    tie: Tie,
    rises: bool,
    falls: bool,
    last: Option<Ticks>,
    high: Option<Ticks>,
    /// Highest stamp when the last pass ended.
    settled: Option<Ticks>,
    unsettled: bool,
    /// How many rows the far end said there are when the pass began, and those that came (by a hash).
    expected: Option<u64>,
    came: HashSet<u64>,
    pass: u32,
    pass_pages: u32,
    pages: u32,
    max_pages: u32,
}

impl Walk {
    /// A walk through everything from `from` on.
    pub(super) fn new(from: Ticks, max_pages: u32) -> Self {
        Self {
            from,
            listing: Listing::Up(from, true),
            part: Part::First,
            listed: 0,
            links: HashSet::new(),
            tie: Tie::default(),
            rises: true,
            falls: true,
            last: None,
            high: None,
            settled: None,
            unsettled: false,
            expected: None,
            came: HashSet::new(),
            pass: 1,
            pass_pages: 0,
            pages: 0,
            max_pages,
        }
    }

    /// What to ask for now. The same until it is answered.
    pub(super) fn question(&self) -> Question {
        let (lower, upper) = match self.listing {
            Listing::Up(at, with) => ((at, with), None),
            Listing::Down(at, with) => ((self.from, true), Some((at, with))),
            Listing::Below(at) => ((self.from, true), Some((at, false))),
            Listing::Tie(at) => ((at, true), Some((at, true))),
        };
        let tie = matches!(self.listing, Listing::Tie(_));
        let count = tie || self.pages == 0;
        Question { lower, upper, count, part: self.part.clone() }
    }

    /// Takes an answer.
    pub(super) fn answered(&mut self, page: &Listed<'_>) -> Result<Progress, Trouble> {
        if self.pages == 0 {
            self.expected = page.count;
        }
        self.pages += 1;
        self.pass_pages += 1;
        if self.pages > self.max_pages {
            return Err(Trouble::TooManyPages(self.max_pages));
        }
        self.listed += page.rows.len();
        for row in page.rows {
            self.high = self.high.max(row.stamp);
            let earlier = row.stamp.is_none() || row.stamp <= self.settled;
            self.unsettled |= self.pass > 1 && row.new && earlier;
            if self.expected.is_some() {
                self.came.insert(hash(row.key));
            }
        }
        let more = page.full || page.link.is_some();
        match self.listing {
            Listing::Tie(at) => self.in_tie(at, page, more),
            Listing::Below(at) => self.below(at, page),
            Listing::Up(..) | Listing::Down(..) => self.in_window(page, more),
        }
    }

    /// The far end refused to skip so far.
    pub(super) fn skip_refused(&mut self) -> Result<Progress, Trouble> {
        match self.listing {
            Listing::Tie(at) => {
                self.tie.cut = true;
                self.end_of_tie(at)
            }
            Listing::Up(..) | Listing::Down(..) | Listing::Below(_) => Err(Trouble::Unreadable),
        }
    }

    /// Begins the present listing anew: a link of it does not lead anywhere any more, or must not be used.
    pub(super) fn begin_listing_anew(&mut self) {
        self.list(self.listing);
    }

    fn in_window(&mut self, page: &Listed<'_>, more: bool) -> Result<Progress, Trouble> {
        let before = self.order();
        for stamp in page.rows.iter().filter_map(|row| row.stamp) {
            if let Some(last) = self.last {
                self.rises &= stamp >= last;
                self.falls &= stamp <= last;
            }
            self.last = Some(stamp);
        }
        let order = self.order();
        if before != order && before != Order::Unknown {
            return Ok(self.begin_anew(before));
        }
        if !more {
            return self.end_of_pass();
        }
        let stamps = || page.rows.iter().filter_map(|row| row.stamp);
        let (Some(low), Some(high)) = (stamps().min(), stamps().max()) else {
            return self.along(page);
        };
        match (order, self.listing) {
            (Order::None, _) => self.along(page),
            (Order::Unknown, _) => {
                self.list(Listing::Below(high));
                Ok(Progress::default())
            }
            (Order::Rising, Listing::Up(bound, _)) if high > bound => {
                self.list(Listing::Up(high, true));
                Ok(Progress { safe: Some(high), ..Progress::default() })
            }
            (Order::Rising, _) => self.enter_tie(high),
            (Order::Falling, Listing::Down(bound, _)) if low >= bound => self.enter_tie(low),
            (Order::Falling, _) => {
                self.list(Listing::Down(low, true));
                Ok(Progress::default())
            }
        }
    }

    /// A first page on which all rows have one stamp does not show an order: is there anything below?
    fn below(&mut self, at: Ticks, page: &Listed<'_>) -> Result<Progress, Trouble> {
        let any = page.rows.iter().any(|row| row.stamp.is_some_and(|stamp| stamp < at));
        if any {
            self.rises = false;
        } else if page.link.is_some() {
            return self.along(page);
        } else {
            self.falls = false;
        }
        self.enter_tie(at)
    }

    fn enter_tie(&mut self, at: Ticks) -> Result<Progress, Trouble> {
        self.tie = Tie::default();
        self.list(Listing::Tie(at));
        let safe = (self.order() == Order::Rising).then_some(at);
        Ok(Progress { safe, ..Progress::default() })
    }

    fn in_tie(&mut self, at: Ticks, page: &Listed<'_>, more: bool) -> Result<Progress, Trouble> {
        for row in page.rows.iter().filter(|row| row.stamp == Some(at)) {
            self.tie.new |= row.new;
            self.tie.keys.insert(row.key.to_owned());
        }
        if let Some(count) = page.count {
            self.tie.counts = Some((self.tie.counts.map_or(count, |(first, _)| first), count));
        }
        if more { self.along(page) } else { self.end_of_tie(at) }
    }

    fn end_of_tie(&mut self, at: Ticks) -> Result<Progress, Trouble> {
        self.tie.passes += 1;
        let known = self.tie.keys.len() as u64;
        let short = self.tie.counts.map(|(_, latest)| latest.saturating_sub(known));
        let complete = match self.tie.counts {
            // Rows that left meanwhile would hide as many that were missed.
            Some((first, latest)) => first == latest && latest <= known,
            None => !self.tie.new && !self.tie.cut,
        };
        let mut missing = None;
        if !complete {
            if self.tie.passes < TIE_PASSES {
                self.tie = Tie { passes: self.tie.passes, ..Tie::default() };
                self.list(Listing::Tie(at));
                return Ok(Progress::default());
            }
            let steady = self.tie.counts.is_some_and(|(first, latest)| first == latest);
            if !self.tie.cut && !steady {
                return Err(Trouble::Restless);
            }
            missing = Some((at, short));
            // They would be missed in the number of all rows, too.
            self.expected = None;
        }
        match self.order() {
            Order::Falling => self.list(Listing::Down(at, false)),
            Order::Rising | Order::Unknown | Order::None => self.list(Listing::Up(at, false)),
        }
        Ok(Progress { missing, ..Progress::default() })
    }

    /// The next page of the present listing.
    fn along(&mut self, page: &Listed<'_>) -> Result<Progress, Trouble> {
        self.part = match page.link {
            Some(link) => {
                if !self.links.insert(link.to_owned()) {
                    return Err(Trouble::Circle);
                }
                Part::Link(link.to_owned())
            }
            None => Part::Skip(self.listed),
        };
        Ok(Progress::default())
    }

    fn end_of_pass(&mut self) -> Result<Progress, Trouble> {
        let believed = self.order();
        let few = self.expected > Some(self.came.len() as u64);
        if few && self.pass_pages > 1 && believed != Order::None {
            (self.rises, self.falls) = (false, false);
            return Ok(self.begin_anew(believed));
        }
        let safe = if believed == Order::Rising || self.pass_pages == 1 {
            Some(self.high)
        } else if self.pass > 1 && !self.unsettled {
            Some(self.settled)
        } else {
            None
        };
        if let Some(safe) = safe {
            return Ok(Progress { safe, done: true, ..Progress::default() });
        }
        self.pass += 1;
        if self.pass > PASSES {
            return Err(Trouble::Restless);
        }
        self.settled = self.high;
        self.begin_pass();
        Ok(Progress::default())
    }

    /// The far end's order is not what it was, so what followed from it does not hold. Happens once at most: after
    /// that no order is believed in.
    fn begin_anew(&mut self, believed: Order) -> Progress {
        self.pass = 1;
        self.settled = None;
        self.begin_pass();
        Progress { taken_back: believed == Order::Rising, ..Progress::default() }
    }

    fn begin_pass(&mut self) {
        self.pass_pages = 0;
        self.unsettled = false;
        self.last = None;
        self.list(Listing::Up(self.from, true));
    }

    fn list(&mut self, listing: Listing) {
        self.listing = listing;
        self.part = Part::First;
        self.listed = 0;
        self.links.clear();
    }

    const fn order(&self) -> Order {
        match (self.rises, self.falls) {
            (true, true) => Order::Unknown,
            (true, false) => Order::Rising,
            (false, true) => Order::Falling,
            (false, false) => Order::None,
        }
    }
}

fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
