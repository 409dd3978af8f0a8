//! The storage account: append blobs that grow line by line, block blobs, what was deleted or replaced. Knows
//! no HTTP and not what a line says.

use std::collections::BTreeMap;

use crate::domain::Ticks;

/// A blob.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its bytes.
    pub data: Vec<u8>,
    /// Changes with every change.
    pub version: u64,
    /// When it was made.
    pub created: Ticks,
    /// When it changed last.
    pub modified: Ticks,
    /// `AppendBlob` or `BlockBlob`.
    pub kind: &'static str,
    /// Blocks appended so far.
    pub blocks: u32,
}

/// Containers with their blobs by name.
#[derive(Debug, Default)]
pub struct Shelf {
    containers: BTreeMap<String, BTreeMap<String, Blob>>,
    versions: u64,
}

impl Shelf {
    /// Appends to a blob, which is made where there is none, its container too.
    pub fn append(&mut self, container: &str, name: &str, bytes: &[u8], at: Ticks) {
        self.versions += 1;
        let version = self.versions;
        let blobs = self.containers.entry(container.to_owned()).or_default();
        let blob = blobs.entry(name.to_owned()).or_insert_with(|| Blob {
            data: Vec::new(),
            version,
            created: at,
            modified: at,
            kind: "AppendBlob",
            blocks: 0,
        });
        blob.data.extend_from_slice(bytes);
        blob.version = version;
        blob.modified = at;
        blob.blocks += 1;
    }

    /// Puts a blob in the place of whatever was there.
    pub fn put(&mut self, container: &str, name: &str, data: Vec<u8>, at: Ticks) {
        self.versions += 1;
        let blob = Blob {
            data,
            version: self.versions,
            created: at,
            modified: at,
            kind: "BlockBlob",
            blocks: 0,
        };
        self.containers.entry(container.to_owned()).or_default().insert(name.to_owned(), blob);
    }

    /// Deletes a blob; false if there is none.
    pub fn delete(&mut self, container: &str, name: &str) -> bool {
        self.containers.get_mut(container).is_some_and(|blobs| blobs.remove(name).is_some())
    }

    /// The blobs of a container; `None` if nothing was ever written to it.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&BTreeMap<String, Blob>> {
        self.containers.get(name)
    }

    /// Names of all containers.
    pub fn containers(&self) -> impl Iterator<Item = &str> {
        self.containers.keys().map(String::as_str)
    }
}
