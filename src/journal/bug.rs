//! Defects that can be planted on purpose, to prove that the simulation and the damage tests would see them.
//! Not a configuration: outside tests and the `planted-bugs` feature every question here is `false` at
//! compile time.

/// One planted defect; each names a rule that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// A unit is reported durable before its frame is synced.
    AckBeforeSync,
    /// Readers are shown a frame before it is synced.
    UnsyncedVisible,
    /// Cursors are written in a frame of their own before the events.
    CursorsOutsideFrame,
    /// Dedup keys are remembered by the snapshot only, not by the frame.
    DedupOutsideFrame,
    /// The directory is not synced after a segment has been created.
    NoDirectorySync,
    /// What was written before the disk was full stays in the segment.
    PartialWriteKept,
    /// A failed sync is tried again and believed.
    SyncRetried,
    /// Segments are removed before the snapshot that replaces them is durable.
    UnlinkBeforeSnapshot,
    /// A snapshot is renamed into place without being synced.
    SnapshotNotSynced,
    /// The checksum does not cover the segment's salt, and the salt is not compared.
    CrcWithoutSalt,
    /// Recovery goes on appending to the segment that it found.
    RecoveryAppends,
    /// A reader's position is made durable although it is ahead of the durable events.
    PositionAhead,
    /// Recovery shows the tail that it found without rewriting and syncing it.
    TailNotRewritten,
}

impl Bug {
    /// Every defect.
    pub const ALL: [Self; 13] = [
        Self::AckBeforeSync,
        Self::UnsyncedVisible,
        Self::CursorsOutsideFrame,
        Self::DedupOutsideFrame,
        Self::NoDirectorySync,
        Self::PartialWriteKept,
        Self::SyncRetried,
        Self::UnlinkBeforeSnapshot,
        Self::SnapshotNotSynced,
        Self::CrcWithoutSalt,
        Self::RecoveryAppends,
        Self::PositionAhead,
        Self::TailNotRewritten,
    ];
}

/// The defect that an engine carries, if any.
#[derive(Debug, Clone, Copy, Default)]
pub struct Planted {
    #[cfg(any(test, feature = "planted-bugs"))]
    bug: Option<Bug>,
}

impl Planted {
    /// An engine with this defect.
    #[cfg(any(test, feature = "planted-bugs"))]
    #[must_use]
    pub const fn with(bug: Bug) -> Self {
        Self { bug: Some(bug) }
    }

    /// Whether the defect is this one.
    #[cfg(any(test, feature = "planted-bugs"))]
    #[must_use]
    pub fn is(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether the defect is this one: never, in a build that is shipped.
    #[cfg(not(any(test, feature = "planted-bugs")))]
    #[must_use]
    pub const fn is(self, _bug: Bug) -> bool {
        false
    }
}
