//! Which files there are and how one is opened, without ever leaving the folder. It does not look inside.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::FileSourceConfig;
use crate::cloud::plain::plain;

/// Most files of a folder that are looked at: what is known about each is in memory and in the cursor.
pub(super) const MOST_FILES: usize = 20_000;

/// What tells a file that changed from one that did not, without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.len(),
            modified: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
        }
    }
}

/// A file that may be read.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Its name, fit to be shown and to be a key; never used as a path.
    pub(super) name: Arc<str>,
    /// Where it really is, links resolved.
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

/// What a look at the folder brought.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In the order of their names.
    pub(super) files: Vec<Found>,
    /// What could not be looked at or was refused, for a person.
    pub(super) troubles: Vec<String>,
}

/// Looks at the configured path.
pub(super) fn list(config: &FileSourceConfig) -> io::Result<Listing> {
    let path = &config.path;
    let metadata = std::fs::metadata(path)?;
    let mut listing = Listing::default();
    if !metadata.is_dir() {
        let name = path.file_name().map(|name| shown(name.as_encoded_bytes())).unwrap_or_default();
        let real = std::fs::canonicalize(path)?;
        listing.files.push(Found { name: name.into(), path: real, stamp: Stamp::of(&metadata) });
        return Ok(listing);
    }
    let home = std::fs::canonicalize(path)?;
    for entry in std::fs::read_dir(&home)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let bytes = file_name.as_encoded_bytes();
        let wanted = config.suffixes.is_empty()
            || config.suffixes.iter().any(|suffix| bytes.ends_with(suffix.as_bytes()));
        if bytes.starts_with(b".") || !wanted {
            continue;
        }
        if listing.files.len() == MOST_FILES {
            listing.troubles.push(format!("more than {MOST_FILES} files: the others are not read"));
            break;
        }
        match look(&home, &entry.path(), shown(bytes)) {
            Ok(Some(found)) => listing.files.push(found),
            Ok(None) => {}
            Err(trouble) => listing.troubles.push(trouble),
        }
    }
    listing.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listing)
}

/// One entry of the folder; `None` if it is no file, or gone.
fn look(home: &Path, path: &Path, name: String) -> Result<Option<Found>, String> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(None),
        _ => Err(format!("{name} cannot be looked at: {error}")),
    };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return gone(error),
    };
    let (path, metadata) = if metadata.is_symlink() {
        let real = match std::fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => return gone(error),
        };
        if !real.starts_with(home) {
            return Err(format!("{name} is a link out of the folder: refused"));
        }
        match std::fs::symlink_metadata(&real) {
            Ok(metadata) => (real, metadata),
            Err(error) => return gone(error),
        }
    } else {
        (path.to_owned(), metadata)
    };
    Ok(metadata.is_file().then(|| Found { name: name.into(), path, stamp: Stamp::of(&metadata) }))
}

/// Opens it, if it still is the plain file that was listed: what has become a link or a pipe is not followed.
pub(super) fn open(found: &Found) -> io::Result<(File, Stamp)> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(&found.path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    Ok((file, Stamp::of(&metadata)))
}

/// A name as text. What is not plain text is told apart by a hash of its bytes.
fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if plain(text, usize::MAX) == text => text.to_owned(),
        _ => {
            let hash = blake3::hash(name).to_hex();
            let hash = hash.get(..16).unwrap_or_default();
            format!("{}#{hash}", plain(&String::from_utf8_lossy(name), 100))
        }
    }
}
