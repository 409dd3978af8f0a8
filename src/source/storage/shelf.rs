//! What is known about a container's blobs: how far each is read. This is the cursor of a container; it holds the
//! blobs within the look-back only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bytes before the offset by which a blob that changed is known again.
const PRINT_BYTES: usize = 256;

/// How far one blob is read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Bytes that are read: all of them whole lines.
    #[serde(rename = "o")]
    pub(super) offset: u64,
    /// Lines that are read.
    #[serde(rename = "l")]
    pub(super) line: u64,
    /// Its length when it was read last. What lies between the offset and this is half a line.
    #[serde(rename = "s")]
    pub(super) length: u64,
    /// Its ETag then.
    #[serde(rename = "e")]
    pub(super) etag: Box<str>,
    /// When it was created.
    #[serde(rename = "c", default)]
    pub(super) created: Box<str>,
    /// Over the bytes before the offset: `<length>:<hash>`.
    #[serde(rename = "p", default)]
    pub(super) print: Box<str>,
    /// Whether the rest of an endless line is still to be passed over.
    #[serde(rename = "k", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) skipping: bool,
}

impl Mark {
    /// How many bytes before the offset the print is over.
    pub(super) fn print_length(&self) -> u64 {
        self.print.split_once(':').and_then(|(length, _)| length.parse().ok()).unwrap_or_default()
    }
}

/// The print over the end of `bytes`.
pub(super) fn print(bytes: &[u8]) -> Box<str> {
    let tail = bytes.get(bytes.len().saturating_sub(PRINT_BYTES)..).unwrap_or_default();
    let hash = blake3::hash(tail).to_hex();
    format!("{}:{}", tail.len(), hash.get(..16).unwrap_or_default()).into()
}

/// A container's blobs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Shelf {
    /// The day of the last look that was completed: `2026-08-20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) day: Option<String>,
    /// By name, without the prefix that all have.
    pub(super) blobs: BTreeMap<Box<str>, Mark>,
}

impl Shelf {
    pub(super) fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
