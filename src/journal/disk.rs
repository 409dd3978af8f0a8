//! The seam between the journal and a file system: one flat directory of files. The real one is
//! [`RealDisk`]; the simulation brings a model that tears, loses and flips bytes.
//! Nothing here knows what the files mean.

use std::io;

/// A directory of files, as much of a file system as the journal uses.
///
/// Contract, the same for the real disk and the model: nothing is durable before it is synced. A file's bytes
/// are durable after [`DiskFile::sync`]; its *name* (creation, rename, removal) is durable after
/// [`Disk::sync_directory`]. After an error from either, nothing unsynced may be trusted ever again: the file
/// system may have marked the pages clean.
pub trait Disk: Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Creates a new file for appending and reading. Fails with `AlreadyExists` if the name is taken.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens an existing file for reading only.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Renames within the directory, replacing `to` if it exists.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Open handles go on reading.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The files and their lengths, in any order.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Makes creations, renames and removals durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Bytes that can still be written by us.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. Files are only ever appended to; there is no overwriting.
pub trait DiskFile: Send + Sync + 'static {
    /// Appends some of `bytes` and says how many: may be fewer than given (a short write), never 0 for a
    /// non-empty `bytes` except as an error.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts the file to `length` (to take back a partial write on a full disk).
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Makes the bytes durable (`fdatasync`).
    fn sync(&mut self) -> io::Result<()>;
    /// Reads at `offset` without moving anything; may be short; 0 means end of file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// The length in bytes.
    fn length(&self) -> io::Result<u64>;
}
