//! The files of one `file` sink on disk: recovery, appending, rotation. Synchronous, and knows no events: it
//! is given whole lines and the position behind them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::FileConfig;
use super::position::Position;
use crate::domain::{Failure, Ticks};
use crate::journal::Offset;
use crate::pipeline::AdapterError;

/// Mail metadata is nobody else's business; a group may be let in to collect the files.
const MODE: u32 = 0o640;

/// Digits of the sequence number, so that names sort: enough for a file a second for three years.
const DIGITS: usize = 8;

/// After how many filtered events the position is written though there is nothing to write. Until then a
/// crash costs scanning them again.
const IDLE_OFFSETS: Offset = 10_000;

/// What went wrong, where.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{path}: {detail}; {advice}")]
    Unexpected { path: PathBuf, detail: String, advice: &'static str },
}

impl FileError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { action, path: path.to_path_buf(), cause }
    }

    /// What to do about it.
    fn failure(&self) -> Failure {
        match self {
            Self::Io { cause, .. } => match cause.kind() {
                // Somebody must change rights, mounts or the configuration.
                ErrorKind::PermissionDenied
                | ErrorKind::NotFound
                | ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::InvalidData => Failure::Hold,
                // Space comes back (also quotas and size limits); a failed sync is repaired by looking at the
                // disk again and writing the batch anew, never by syncing once more.
                _ => Failure::Retry(None),
            },
            Self::Unexpected { .. } => Failure::Hold,
        }
    }

    pub(super) fn sorted(self) -> AdapterError {
        let failure = self.failure();
        let message = self.to_string();
        match self {
            Self::Io { cause, .. } => AdapterError::because(failure, message, cause),
            Self::Unexpected { .. } => AdapterError::new(failure, message),
        }
    }
}

/// The current file, open for appending, and what is known to be delivered.
#[derive(Debug)]
pub(super) struct Writer {
    stem: String,
    config: FileConfig,
    directory: File,
    file: File,
    path: PathBuf,
    position: Position,
    /// `position.next` as last written to disk.
    recorded: Offset,
}

impl Writer {
    /// Makes what is on disk agree with the recorded position and opens the current file. Without a record a
    /// new file is begun at `position`.
    pub(super) fn open(
        stem: &str,
        config: FileConfig,
        position: Offset,
        now: Ticks,
    ) -> Result<Self, FileError> {
        if stem.contains(['/', '\0']) || stem.starts_with('.') {
            return Err(FileError::Unexpected {
                path: config.directory,
                detail: format!("{stem:?} cannot be the beginning of a file name"),
                advice: "give the sink another name",
            });
        }
        make_directory(&config.directory)?;
        let directory = File::open(&config.directory)
            .map_err(FileError::io("open the directory", &config.directory))?;
        let record = position_path(stem, &config.directory);
        let known = Position::read(&record).map_err(FileError::io("read", &record))?;
        let sequences = sequences(stem, &config.directory)?;
        let newest = sequences.last().copied().unwrap_or(0);
        let (position, fresh) = match known {
            Some(known) => {
                let ahead: Vec<u64> =
                    sequences.into_iter().filter(|found| *found > known.sequence).collect();
                if let [_, second, ..] = ahead.as_slice() {
                    // A rotation leaves at most one file ahead of the record. More means that the record is
                    // an old one, and then cutting would destroy what was delivered.
                    return Err(FileError::Unexpected {
                        path: file_path(stem, &config.directory, *second),
                        detail: "is newer than the recorded position".to_owned(),
                        advice: "move the newer files away, or remove the .position file",
                    });
                }
                for sequence in ahead {
                    let path = file_path(stem, &config.directory, sequence);
                    fs::remove_file(&path).map_err(FileError::io("remove", &path))?;
                }
                let path = file_path(stem, &config.directory, known.sequence);
                if cut(&path, known.length)? {
                    (known, false)
                } else {
                    tracing::warn!(
                        file = %path.display(),
                        expected_bytes = known.length,
                        "a delivered file was shortened or taken away while nobody looked; a new one is begun"
                    );
                    (Position::new(known.sequence + 1, known.next, now), true)
                }
            }
            None => {
                if newest > 0 {
                    cut_torn_line(&file_path(stem, &config.directory, newest))?;
                }
                (Position::new(newest + 1, position, now), true)
            }
        };
        let path = file_path(stem, &config.directory, position.sequence);
        let file = open_file(&path, fresh)?;
        directory.sync_all().map_err(FileError::io("sync the directory", &config.directory))?;
        let recorded = position.next;
        let mut writer =
            Self { stem: stem.to_owned(), config, directory, file, path, position, recorded };
        if fresh {
            writer.record()?;
        }
        Ok(writer)
    }

    /// Journal offset of the first event that is not in the files.
    pub(super) const fn position(&self) -> Offset {
        self.position.next
    }

    /// Appends whole lines and the position behind them. Durable when it returns. After an error the writer
    /// must be opened again: what is in the file is not known.
    pub(super) fn append(
        &mut self,
        lines: &[u8],
        next: Offset,
        now: Ticks,
    ) -> Result<(), FileError> {
        if lines.is_empty() {
            self.position.next = next;
            if next.saturating_sub(self.recorded) >= IDLE_OFFSETS {
                self.record()?;
            }
            return Ok(());
        }
        if self.is_due(lines.len(), now) {
            self.rotate(now)?;
        }
        if let Err(error) = self.file.write_all(lines) {
            // Half a line does not wait for the next look at the disk; if this fails too, that look cuts it.
            let _ = self.file.set_len(self.position.length);
            return Err(FileError::io("write", &self.path)(error));
        }
        self.file.sync_data().map_err(FileError::io("sync", &self.path))?;
        self.position.length += lines.len() as u64;
        self.position.next = next;
        self.record()
    }

    /// Writes the position down.
    pub(super) fn record(&mut self) -> Result<(), FileError> {
        let path = position_path(&self.stem, &self.config.directory);
        self.position.write(&path, &self.directory).map_err(FileError::io("write", &path))?;
        self.recorded = self.position.next;
        Ok(())
    }

    fn is_due(&self, more: usize, now: Ticks) -> bool {
        let length = self.position.length;
        if length == 0 {
            return false;
        }
        let age = now.as_seconds().saturating_sub(self.position.began.as_seconds());
        let old = self.config.rotate_minutes.saturating_mul(60);
        let too_old = old > 0 && u64::try_from(age).is_ok_and(|age| age >= old);
        too_old || length.saturating_add(more as u64) > self.config.rotate_bytes
    }

    /// Begins the next file. The record still names the old one until the first lines are in the new one.
    fn rotate(&mut self, now: Ticks) -> Result<(), FileError> {
        let position = Position::new(self.position.sequence + 1, self.position.next, now);
        let path = file_path(&self.stem, &self.config.directory, position.sequence);
        self.file = open_file(&path, true)?;
        self.directory
            .sync_all()
            .map_err(FileError::io("sync the directory", &self.config.directory))?;
        (self.path, self.position) = (path, position);
        self.forget_old_files()
    }

    fn forget_old_files(&self) -> Result<(), FileError> {
        if self.config.keep_files == 0 {
            return Ok(());
        }
        let sequences = sequences(&self.stem, &self.config.directory)?;
        // The file before the current one is what the record names until the next append.
        let keep = self.config.keep_files.max(2);
        for sequence in sequences.iter().rev().skip(keep) {
            let path = file_path(&self.stem, &self.config.directory, *sequence);
            fs::remove_file(&path).map_err(FileError::io("remove", &path))?;
        }
        Ok(())
    }

    /// Proves that the directory can be written, without touching the files.
    pub(super) fn probe(stem: &str, config: &FileConfig) -> Result<String, FileError> {
        make_directory(&config.directory)?;
        let path = config.directory.join(format!("{stem}.probe"));
        let mut file = File::create(&path).map_err(FileError::io("create", &path))?;
        file.write_all(b"\n").map_err(FileError::io("write", &path))?;
        fs::remove_file(&path).map_err(FileError::io("remove", &path))?;
        Ok(format!("a file can be written in {}", config.directory.display()))
    }
}

fn position_path(stem: &str, directory: &Path) -> PathBuf {
    directory.join(format!("{stem}.position"))
}

fn file_path(stem: &str, directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{stem}-{sequence:0DIGITS$}.ndjson"))
}

/// The numbers of this sink's files, ascending.
fn sequences(stem: &str, directory: &Path) -> Result<Vec<u64>, FileError> {
    let failed = || FileError::io("list", directory);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(".ndjson"))
            .filter(|digits| digits.len() >= DIGITS && digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

fn make_directory(path: &Path) -> Result<(), FileError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(FileError::io("make the directory", path))?,
    }
    // Its name must survive a power cut, or all that is synced inside would be lost with it.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let failed = || FileError::io("sync the directory", parent);
    File::open(parent).map_err(failed())?.sync_all().map_err(failed())
}

fn open_file(path: &Path, fresh: bool) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.append(true).create_new(fresh).mode(MODE);
    options.open(path).map_err(FileError::io("open", path))
}

/// Cuts a file to the length that counts. `false` if it is not there or is shorter.
fn cut(path: &Path, length: u64) -> Result<bool, FileError> {
    let file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(FileError::io("open", path)(error)),
    };
    let there = file.metadata().map_err(FileError::io("look at", path))?.len();
    if there < length {
        drop(file);
        cut_torn_line(path)?;
        return Ok(false);
    }
    if there > length {
        file.set_len(length).map_err(FileError::io("cut", path))?;
        file.sync_all().map_err(FileError::io("sync", path))?;
    }
    Ok(true)
}

/// Cuts a file after its last line break.
fn cut_torn_line(path: &Path) -> Result<(), FileError> {
    const STEP: u64 = 1 << 16;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(FileError::io("open", path))?;
    let length = file.metadata().map_err(FileError::io("look at", path))?.len();
    let mut end = length;
    let mut block = Vec::new();
    let keep = loop {
        let start = end.saturating_sub(STEP);
        block.clear();
        file.seek(SeekFrom::Start(start)).map_err(FileError::io("read", path))?;
        (&file).take(end - start).read_to_end(&mut block).map_err(FileError::io("read", path))?;
        if let Some(place) = memchr::memrchr(b'\n', &block) {
            break start + place as u64 + 1;
        }
        if start == 0 {
            break 0;
        }
        end = start;
    };
    if keep < length {
        tracing::warn!(file = %path.display(), bytes = length - keep, "half a line was cut off");
        file.set_len(keep).map_err(FileError::io("cut", path))?;
        file.sync_all().map_err(FileError::io("sync", path))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
