//! What may go wrong on the model disk, and how a life of the process ends. That it does happens in `world`.

use super::inode::Tail;

/// How often what goes wrong, per million calls, and how much fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// An append takes fewer bytes than given.
    pub short_write: u32,
    /// An append or read is interrupted.
    pub interrupted: u32,
    /// An append fails for want of space although there is some, after writing a part.
    pub append_full: u32,
    /// A sync of a file fails and forgets what was unsynced.
    pub sync_error: u32,
    /// A sync of the directory fails and forgets likewise.
    pub directory_sync_error: u32,
    /// A read fails, once.
    pub read_error: u32,
    /// A file cannot be created.
    pub create_error: u32,
    /// A file cannot be opened, once.
    pub open_error: u32,
    /// A rename fails.
    pub rename_error: u32,
    /// A removal fails.
    pub remove_error: u32,
    /// A truncation fails.
    pub truncate_error: u32,
    /// The machine stops at a call.
    pub crash: u32,
    /// Bytes that fit.
    pub capacity: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            short_write: 0,
            interrupted: 0,
            append_full: 0,
            sync_error: 0,
            directory_sync_error: 0,
            read_error: 0,
            create_error: 0,
            open_error: 0,
            rename_error: 0,
            remove_error: 0,
            truncate_error: 0,
            crash: 0,
            capacity: u64::MAX,
        }
    }
}

/// How a life of the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// `kill -9` or an orderly end: the page cache survives, synced or not.
    Killed,
    /// The power went off; unsynced changes are left as the tail says (`None`: each file as chance has it).
    PowerLost(Option<Tail>),
}
