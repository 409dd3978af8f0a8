//! The journal's id beside its directory, so that an empty or foreign volume in its place is noticed. The id itself is
//! in every segment.

use std::path::{Path, PathBuf};

use super::disk::{Disk as _, DiskFile as _};
use super::durable::{TEMPORARY, append_full};
use super::error::OpenError;
use super::real::RealDisk;

fn id_path(directory: &Path) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(".id");
    directory.with_file_name(name)
}

pub(crate) fn mismatch(
    directory: &Path,
    expected: Option<String>,
    found: Option<String>,
) -> OpenError {
    let word = |id: Option<String>| id.unwrap_or_else(|| "none".to_owned());
    OpenError::Mismatch {
        directory: directory.display().to_string(),
        expected: word(expected),
        found: word(found),
        id_file: id_path(directory).display().to_string(),
    }
}

pub(crate) fn read_id(directory: &Path) -> Result<Option<String>, OpenError> {
    let path = id_path(directory);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io(format!("read {}", path.display()))(error)),
    }
}

pub(crate) fn note_id(directory: &Path, id: &str) -> Result<(), OpenError> {
    let path = id_path(directory);
    let action = || format!("write {}", path.display());
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let disk = RealDisk::existing(parent.unwrap_or(Path::new(".")))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("journal.id");
    let temporary = format!("{name}{TEMPORARY}");
    let _ = disk.remove(&temporary);
    let write = || {
        let mut file = disk.create(&temporary)?;
        append_full(&mut file, format!("{id}\n").as_bytes())?;
        file.sync()?;
        disk.rename(&temporary, name)?;
        disk.sync_directory()
    };
    write().map_err(OpenError::io(action()))
}
