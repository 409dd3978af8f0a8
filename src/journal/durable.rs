//! Writing so that it lasts: whole writes, syncs, files that appear under their name only when they are durable, and the
//! difference between a full disk and one that is not to be trusted. Not a format.

use std::io;

use super::bug::{Bug, Planted};
use super::bytes::position;
use super::disk::{Disk, DiskFile};

/// What a file is called until it may be used.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Fills `buffer` from `offset` on, as far as the file goes; says how many bytes that were.
pub(crate) fn read_full<F: DiskFile>(
    file: &F,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut done = 0;
    while let Some(room) = buffer.get_mut(done..).filter(|room| !room.is_empty()) {
        match file.read_at(room, offset + position(done)) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Appends all of `bytes`; short writes and interruptions are gone on with (fault matrix: B14).
pub(crate) fn append_full<F: DiskFile>(file: &mut F, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.append(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an error means "no room now" rather than "this disk is not to be trusted".
pub(crate) fn is_full(error: &io::Error) -> bool {
    /// `EMFILE` and `ENFILE`: no file handles are left, which passes as well.
    const NO_HANDLES: [i32; 2] = [24, 23];
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero
    ) || error.raw_os_error().is_some_and(|code| NO_HANDLES.contains(&code))
}

/// A write that did not come about.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// There is no room; everything is as it was before.
    Full(io::Error),
    /// Nothing unsynced may be trusted any more: what was tried, and what came back.
    Poison(String),
}

impl WriteError {
    pub(crate) fn poison(action: &str) -> impl FnOnce(io::Error) -> Self {
        let action = action.to_owned();
        move |error| Self::Poison(format!("{action}: {error}"))
    }
}

/// Writes a file under a temporary name, syncs it, renames it into place and syncs the directory. On a full disk
/// nothing is left of it.
pub(crate) fn write_whole<D: Disk>(
    disk: &D,
    name: &str,
    planted: Planted,
    write: impl FnOnce(&mut D::File) -> io::Result<()>,
) -> Result<D::File, WriteError> {
    let temporary = format!("{name}{TEMPORARY}");
    let mut file = match create_fresh(disk, &temporary) {
        Ok(file) => file,
        Err(error) if is_full(&error) => return Err(WriteError::Full(error)),
        Err(error) => return Err(WriteError::Poison(format!("create {temporary}: {error}"))),
    };
    if let Err(error) = write(&mut file) {
        drop(file);
        disk.remove(&temporary).map_err(WriteError::poison("remove a temporary file"))?;
        return Err(if is_full(&error) {
            WriteError::Full(error)
        } else {
            WriteError::Poison(format!("write {temporary}: {error}"))
        });
    }
    if !(planted.is(Bug::SnapshotNotSynced) && name.starts_with("snapshot")) {
        sync_file(&mut file, planted).map_err(WriteError::poison(&format!("sync {temporary}")))?;
    }
    disk.rename(&temporary, name).map_err(WriteError::poison(&format!("rename {temporary}")))?;
    if !planted.is(Bug::NoDirectorySync) {
        disk.sync_directory().map_err(WriteError::poison("sync the directory"))?;
    }
    Ok(file)
}

/// A leftover of the same temporary name is taken away first.
fn create_fresh<D: Disk>(disk: &D, name: &str) -> io::Result<D::File> {
    match disk.create(name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(name)?;
            disk.create(name)
        }
        result => result,
    }
}

/// One sync. A failed one is never repeated: the file system may have marked the pages clean, so that the second
/// one would succeed without having written anything.
pub(crate) fn sync_file<F: DiskFile>(file: &mut F, planted: Planted) -> io::Result<()> {
    match file.sync() {
        Err(_) if planted.is(Bug::SyncRetried) => file.sync(),
        result => result,
    }
}
