//! The vendor's bytes, unchanged, shared without copying between the records of one message.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A slice of a shared, immutable buffer. Cloning and slicing cost a reference count; a record cut out
/// of a 1 MB message keeps the whole message alive, so nothing long-lived should hold one (call
/// [`Raw::compact`] first).
#[derive(Clone)]
pub struct Raw {
    buffer: Arc<[u8]>,
    start: usize,
    end: usize,
}

impl Raw {
    /// All of `bytes`, copied once.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self { buffer: Arc::from(bytes), start: 0, end: bytes.len() }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// A part of this slice, by positions inside it. A range that lies outside gives an empty slice.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let start = self.start.saturating_add(range.start);
        let end = self.start.saturating_add(range.end);
        if start > end || end > self.end {
            return Self { buffer: Arc::clone(&self.buffer), start: self.start, end: self.start };
        }
        Self { buffer: Arc::clone(&self.buffer), start, end }
    }

    /// The part of this slice that `inner` is; empty if `inner` does not lie inside
    /// [`Raw::as_bytes`] of this very value.
    #[must_use]
    pub fn slice_of(&self, inner: &[u8]) -> Self {
        let base = self.as_bytes().as_ptr().addr();
        let start = inner.as_ptr().addr().wrapping_sub(base);
        self.slice(start..start.saturating_add(inner.len()))
    }

    /// A copy that holds no more memory than its own bytes.
    #[must_use]
    pub fn compact(&self) -> Self {
        Self::new(self.as_bytes())
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }
}

impl From<Vec<u8>> for Raw {
    fn from(bytes: Vec<u8>) -> Self {
        let end = bytes.len();
        Self { buffer: Arc::from(bytes), start: 0, end }
    }
}

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Raw {}

impl Default for Raw {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_the_buffer_and_foreign_slices_are_empty() {
        let raw = Raw::new(b"{\"records\":[{},{}]}");
        let record = raw.slice(12..14);
        assert_eq!(record.as_bytes(), b"{}");
        let inner = raw.as_bytes().get(15..17).unwrap();
        assert_eq!(raw.slice_of(inner).as_bytes(), b"{}");
        assert_eq!(record.slice_of(record.as_bytes()).as_bytes(), b"{}");
        let foreign = b"{}".to_vec();
        assert!(record.slice_of(&foreign).is_empty());
        assert!(record.slice(1..9).is_empty());
        assert_eq!(record.compact(), record);
    }
}
