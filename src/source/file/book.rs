//! What is known about each file: how far it is read and how to know it again. This is the cursor; it does not
//! touch the file system beyond reading a few bytes of an open file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::folder::Stamp;
use crate::domain::{Cursor, CursorKey, Cursors};

/// Bytes at the beginning and before the offset by which a file is known again.
const PRINT_BYTES: u64 = 256;

/// Cursors that the files of a source are spread over, by name, so that a page writes a part of them only.
const SHARDS: usize = 16;

/// A hash over some bytes: `<length>:<hex>`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Print(Box<str>);

impl Print {
    /// Over the `length` bytes that end at `end`.
    fn over(file: &File, end: u64, length: u64) -> io::Result<Self> {
        let length = length.min(end);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut bytes, end - length)?;
        let hash = blake3::hash(&bytes).to_hex();
        Ok(Self(format!("{length}:{}", hash.get(..16).unwrap_or_default()).into()))
    }

    fn length(&self) -> u64 {
        self.0.split_once(':').and_then(|(length, _)| length.parse().ok()).unwrap_or_default()
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Bytes that are read, after decompression.
    #[serde(rename = "o")]
    pub(super) offset: u64,
    /// Lines that are read.
    #[serde(rename = "l", default)]
    pub(super) line: u64,
    /// Whether the rest of an endless line is still to be passed over.
    #[serde(rename = "k", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) skipping: bool,
    /// Whether it is read on where it ends, instead of being read whole.
    #[serde(rename = "g", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) growing: bool,
    /// Whether nothing is left to be read of it as it was.
    #[serde(rename = "d", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) done: bool,
    #[serde(rename = "i")]
    inode: u64,
    #[serde(rename = "s")]
    pub(super) size: u64,
    #[serde(rename = "m")]
    modified: i64,
    #[serde(rename = "h")]
    head: Print,
    #[serde(rename = "t", default)]
    tail: Print,
}

impl Entry {
    pub(super) const fn stamp(&self) -> Stamp {
        Stamp { inode: self.inode, size: self.size, modified: self.modified }
    }

    /// Notes how the file is, at the offset reached.
    pub(super) fn note(&mut self, file: &File, stamp: Stamp) -> io::Result<()> {
        let offset = if self.growing { self.offset } else { 0 };
        self.head = Print::over(file, PRINT_BYTES.min(stamp.size), PRINT_BYTES)?;
        self.tail = Print::over(file, offset, PRINT_BYTES)?;
        (self.inode, self.size, self.modified) = (stamp.inode, stamp.size, stamp.modified);
        Ok(())
    }

    /// Whether the open file still begins with the bytes that were read of it.
    pub(super) fn knows(&self, file: &File, stamp: Stamp) -> bool {
        let head = self.head.length();
        if self.growing {
            stamp.size >= self.offset
                && Print::over(file, head, head).is_ok_and(|print| print == self.head)
                && Print::over(file, self.offset, PRINT_BYTES).is_ok_and(|print| print == self.tail)
        } else {
            (stamp.size, stamp.modified) == (self.size, self.modified)
                && Print::over(file, head, head).is_ok_and(|print| print == self.head)
        }
    }
}

/// All files of a source.
#[derive(Debug)]
pub(super) struct Book {
    source: Arc<str>,
    files: BTreeMap<Arc<str>, Entry>,
    changed: BTreeSet<usize>,
}

impl Book {
    /// As the cursors say. What cannot be read as a cursor is left out: the files are then read again.
    pub(super) fn read(source: &Arc<str>, cursors: &Cursors) -> Self {
        let mut files = BTreeMap::new();
        let prefix = format!("{source}/");
        for (key, cursor) in cursors.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            match serde_json::from_str::<BTreeMap<Arc<str>, Entry>>(cursor) {
                Ok(shard) => files.extend(shard),
                Err(error) => {
                    tracing::warn!(%key, %error, "a cursor cannot be read; its files are read again")
                }
            }
        }
        Self { source: Arc::clone(source), files, changed: BTreeSet::new() }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.files.get(name)
    }

    pub(super) fn set(&mut self, name: &Arc<str>, entry: Entry) {
        self.files.insert(Arc::clone(name), entry);
        self.changed.insert(shard(name));
    }

    /// Forgets a file: it is no more what it was.
    pub(super) fn remove(&mut self, name: &str) {
        if self.files.remove(name).is_some() {
            self.changed.insert(shard(name));
        }
    }

    /// Drops the files that `keep` does not want; they are returned.
    pub(super) fn drop_others(&mut self, keep: impl Fn(&str) -> bool) -> Vec<(Arc<str>, Entry)> {
        let (kept, gone) =
            std::mem::take(&mut self.files).into_iter().partition(|(name, _)| keep(name));
        self.files = kept;
        let gone: Vec<(Arc<str>, Entry)> = BTreeMap::into_iter(gone).collect();
        self.changed.extend(gone.iter().map(|(name, _)| shard(name)));
        gone
    }

    /// The cursors that changed since the last call.
    pub(super) fn cursors(&mut self) -> Vec<(CursorKey, Cursor)> {
        let mut shards: BTreeMap<usize, BTreeMap<&str, &Entry>> =
            std::mem::take(&mut self.changed).into_iter().map(|at| (at, BTreeMap::new())).collect();
        for (name, entry) in &self.files {
            if let Some(shard) = shards.get_mut(&shard(name)) {
                shard.insert(name, entry);
            }
        }
        let text =
            |files: &BTreeMap<&str, &Entry>| serde_json::to_string(files).unwrap_or_default();
        shards
            .iter()
            .map(|(at, files)| (format!("{}/files-{at:x}", self.source).into(), text(files).into()))
            .collect()
    }
}

fn shard(name: &str) -> usize {
    usize::from(*blake3::hash(name.as_bytes()).as_bytes().first().unwrap_or(&0)) % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_a_broken_cursor_is_no_cursor() {
        let source: Arc<str> = "exports".into();
        let mut book = Book::read(&source, &Cursors::new());
        for number in 0..100_u64 {
            let entry = Entry { offset: number, done: number % 2 == 0, ..Entry::default() };
            book.set(&format!("../{number}\u{202e}.json").into(), entry);
        }
        let mut cursors: Cursors = book.cursors().into_iter().collect();
        assert!(cursors.len() <= SHARDS && book.cursors().is_empty());
        cursors.insert("exports/files-0".into(), "{".into());
        cursors.insert("exports2/files-1".into(), "{".into());
        let again = Book::read(&source, &cursors);
        assert!(again.files.len() > 80 && again.files.len() < 100);
        assert_eq!(again.get("../7\u{202e}.json").map(|entry| entry.offset), Some(7));
        let gone = book.drop_others(|name| name.contains('7'));
        assert_eq!(gone.len(), 81);
        assert!(!book.cursors().is_empty());
    }
}
