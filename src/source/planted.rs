//! Defects of polling that can be planted on purpose, to prove that the tests would see them. Not a configuration:
//! outside tests and the `planted-bugs` feature every question here is `false` at compile time.

/// One planted defect of a source that polls; each names a rule that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PollBug {
    /// The link to the next page is not followed.
    NextPageIgnored,
    /// A page of the listing that failed is taken for the last one, and the cursor moves.
    FailedPageSkipped,
    /// What could not be fetched is forgotten.
    ItemFailureSwallowed,
    /// What is gone at the far end is left out without a gap.
    GapUnsaid,
    /// Nothing is listed again.
    NoOverlap,
    /// The filter leaves out what is exactly at the cursor.
    ExclusiveStart,
    /// The cursor is our own clock.
    OurNowAsMark,
    /// What has been seen is remembered in memory only.
    SeenNotDurable,
    /// The cursor covers what has been fetched, not what is in the page.
    CursorAhead,
    /// A window is as wide as what is missing.
    WideWindow,
    /// A body that is no JSON counts as no records.
    BrokenBodyIsEmpty,
}

impl PollBug {
    /// Every defect.
    pub const ALL: [Self; 11] = [
        Self::NextPageIgnored,
        Self::FailedPageSkipped,
        Self::ItemFailureSwallowed,
        Self::GapUnsaid,
        Self::NoOverlap,
        Self::ExclusiveStart,
        Self::OurNowAsMark,
        Self::SeenNotDurable,
        Self::CursorAhead,
        Self::WideWindow,
        Self::BrokenBodyIsEmpty,
    ];
}

/// The defect that a source carries, if any.
#[derive(Debug, Clone, Copy, Default)]
pub struct Planted {
    #[cfg(any(test, feature = "planted-bugs"))]
    bug: Option<PollBug>,
}

impl Planted {
    /// A source with this defect.
    #[cfg(any(test, feature = "planted-bugs"))]
    #[must_use]
    pub const fn with(bug: PollBug) -> Self {
        Self { bug: Some(bug) }
    }

    /// Whether the defect is this one.
    #[cfg(any(test, feature = "planted-bugs"))]
    #[must_use]
    pub fn is(self, bug: PollBug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether the defect is this one: never, in a build that is shipped.
    #[cfg(not(any(test, feature = "planted-bugs")))]
    #[must_use]
    pub const fn is(self, _bug: PollBug) -> bool {
        false
    }
}
