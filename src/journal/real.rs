//! The real disk: one directory of the file system. What the files mean is not known here.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::{Clock as _, SystemClock};
use super::disk::{Disk, DiskFile};
use super::error::OpenError;

/// The file that is locked for as long as the journal is open. It is never removed: a lock on a removed file
/// would exclude nobody.
const LOCK: &str = "lock";

/// A directory. Files are 0600 in a directory of 0700, and symbolic links are not followed.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    directory: File,
    clock: SystemClock,
    last_sync_nanos: Arc<AtomicU64>,
}

/// An open file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    file: File,
    clock: SystemClock,
    last_sync_nanos: Arc<AtomicU64>,
}

/// Held for as long as the journal is open.
#[derive(Debug)]
pub struct DirectoryLock(#[expect(dead_code, reason = "the lock goes with the handle")] File);

impl RealDisk {
    /// The directory, created if it is missing.
    pub fn create(path: &Path) -> Result<Self, OpenError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(OpenError::io(format!("create {}", path.display())))?;
        Self::existing(path)
    }

    /// The directory, which must exist; nothing is changed.
    pub fn existing(path: &Path) -> Result<Self, OpenError> {
        let directory =
            File::open(path).map_err(OpenError::io(format!("open {}", path.display())))?;
        Ok(Self {
            path: path.to_owned(),
            directory,
            clock: SystemClock::default(),
            last_sync_nanos: Arc::default(),
        })
    }

    /// Takes the directory's lock (fault matrix: A12).
    pub fn lock(&self) -> Result<DirectoryLock, OpenError> {
        let path = self.path.join(LOCK);
        let action = || format!("lock {}", path.display());
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(&path)
            .map_err(OpenError::io(action()))?;
        match file.try_lock() {
            Ok(()) => Ok(DirectoryLock(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(self.path.display().to_string())),
            Err(TryLockError::Error(error)) => Err(OpenError::io(action())(error)),
        }
    }

    /// How long the last sync of a file took.
    pub(crate) fn last_sync_seconds(&self) -> f64 {
        let nanos = self.last_sync_nanos.load(Ordering::Relaxed);
        std::time::Duration::from_nanos(nanos).as_secs_f64()
    }

    fn file(&self, file: File) -> RealFile {
        let last_sync_nanos = Arc::clone(&self.last_sync_nanos);
        RealFile { file, clock: self.clock, last_sync_nanos }
    }
}

fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

impl Disk for RealDisk {
    type File = RealFile;

    fn create(&self, name: &str) -> io::Result<RealFile> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(self.path.join(name))?;
        Ok(self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        let file =
            OpenOptions::new().read(true).custom_flags(no_follow()).open(self.path.join(name))?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed since; happens to whoever looks on from beside the daemon.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if let Some(name) = entry.file_name().to_str().filter(|_| metadata.is_file()) {
                files.push((name.to_owned(), metadata.len()));
            }
        }
        Ok(files)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::fstatvfs(&self.directory)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

impl DiskFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        let start = self.clock.monotonic();
        let done = self.file.sync_data();
        let nanos = (self.clock.monotonic() - start).as_nanos();
        self.last_sync_nanos.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
        done
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Makes writes beyond the process's file-size limit fail with an error (which counts as a full disk) instead of
/// ending the process: the signal gets a handler that does nothing (fault matrix: B15). Without a tokio runtime the
/// signal keeps its meaning.
pub(crate) fn survive_file_size_limit() {
    const SIGXFSZ: i32 = 25;
    if tokio::runtime::Handle::try_current().is_ok() {
        let kind = tokio::signal::unix::SignalKind::from_raw(SIGXFSZ);
        if let Err(error) = tokio::signal::unix::signal(kind) {
            tracing::debug!(%error, "no handler for the file-size signal");
        }
    }
}
