//! The `[journal]` table of the configuration, and the same figures as the engine wants them. Where the
//! directory is and who opens it is not said here.

use serde::Deserialize;

/// The `[journal]` table. Every field has a default that suits one machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// Size at which a segment is sealed and the next begun, in bytes of file. Default 32 MiB: a recovery
    /// copies at most one segment, and truncation frees space in pieces of this size. At most a sixteenth
    /// of the quota is used.
    pub segment_bytes: u64,
    /// Limit for all files of the journal together, in bytes, but for those of the dedup set (16 bytes for each
    /// id seen in `dedup_days`). Default 10 GiB. At the limit the readers' `on_full` decides.
    pub quota_bytes: u64,
    /// How many days delivered events are kept for `replay` and `export` while the quota has room. Default 7.
    pub retention_days: u32,
    /// Bytes of disk that are held back so that positions and truncation can still be written when the
    /// disk is full, and so that a start on a full disk can copy the last segment. Default 40 MiB, a little
    /// more than a segment; 0 switches it off.
    pub reserve_bytes: u64,
    /// How long duplicates of an event are recognised, in days. Default 7.
    pub dedup_days: u32,
    /// Memory that the recognition of duplicates may use, in bytes. Default 128 MiB.
    pub dedup_memory_bytes: u64,
    /// How long an unresolved dead letter is kept, in days. Default 30.
    pub dead_letter_days: u32,
    /// Limit for the bytes of all kept dead letters, which are held in memory. Default 32 MiB; the oldest
    /// are given up first, and counted.
    pub dead_letter_bytes: u64,
    /// How long the record of a settled ticket is kept after its last change, in days. Default 180; open
    /// tickets are kept for ever.
    pub ticket_days: u32,
    /// A commit waits at most this long for company while the journal is busy, in milliseconds. Default 5.
    /// An idle journal commits at once.
    pub linger_ms: u64,
    /// A commit does not wait for more once it has this many bytes. Default 1 MiB.
    pub group_bytes: u64,
    /// Events kept decoded in memory for readers that are caught up, in bytes of raw records. Default 16 MiB.
    pub cache_bytes: u64,
    /// Compression of what is written: a zstd level from 1 to 19, or 0 for none. Default 1.
    pub compression_level: i32,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 32 << 20,
            quota_bytes: 10 << 30,
            retention_days: 7,
            reserve_bytes: 40 << 20,
            dedup_days: 7,
            dedup_memory_bytes: 128 << 20,
            dead_letter_days: 30,
            dead_letter_bytes: 32 << 20,
            ticket_days: 180,
            linger_ms: 5,
            group_bytes: 1 << 20,
            cache_bytes: 16 << 20,
            compression_level: 1,
        }
    }
}

impl JournalConfig {
    /// The size at which a segment is sealed: what is configured, but small enough that removing one segment
    /// makes a difference to the quota.
    #[must_use]
    pub fn segment_limit(&self) -> u64 {
        self.segment_bytes.min(self.quota_bytes / 16).max(4 << 10)
    }
}
