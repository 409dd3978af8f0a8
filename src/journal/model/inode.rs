//! One file of the model disk: what the page cache shows, what the platter holds, and the writes between.

use super::random::Random;

/// Disks write sectors whole or not at all.
const SECTOR: usize = 512;

/// What a power cut leaves of a file's unsynced writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Lost,
    /// All of it.
    Kept,
    /// The first so many writes.
    Prefix,
    /// The first writes, the last of them cut at a sector.
    Torn,
    /// Any of the sectors; the others read as zeros.
    Zeroed,
    /// All of it, with one bit flipped.
    Flipped,
    /// The length grew, but what was not written shows what an older file had there.
    Stale,
}

impl Tail {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Lost,
        Self::Kept,
        Self::Prefix,
        Self::Torn,
        Self::Zeroed,
        Self::Flipped,
        Self::Stale,
    ];

    /// The word in traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "tail lost",
            Self::Kept => "tail kept",
            Self::Prefix => "tail prefix",
            Self::Torn => "tail torn",
            Self::Zeroed => "tail zeroed",
            Self::Flipped => "tail flipped",
            Self::Stale => "tail stale",
        }
    }
}

#[derive(Debug, Clone)]
enum Change {
    Append { at: usize, bytes: Vec<u8> },
    Truncate { to: usize },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    /// What reads see.
    pub(super) cached: Vec<u8>,
    /// What a power cut surely leaves.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// After a failed sync: the pages are marked clean, so no later sync writes them.
    forgotten: Vec<Change>,
}

impl Inode {
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.unsynced.push(Change::Append { at: self.cached.len(), bytes: bytes.to_vec() });
        self.cached.extend_from_slice(bytes);
    }

    pub(super) fn truncate(&mut self, to: usize) {
        if to < self.cached.len() {
            self.unsynced.push(Change::Truncate { to });
            self.cached.truncate(to);
        }
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            apply(&mut self.durable, &change);
        }
    }

    /// A sync that fails: some first writes may have reached the platter, the rest never will by syncing.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        let written = random.index(self.unsynced.len() + 1);
        for change in self.unsynced.drain(..written) {
            apply(&mut self.durable, &change);
        }
        self.forgotten.append(&mut self.unsynced);
    }

    pub(super) fn is_clean(&self) -> bool {
        self.unsynced.is_empty() && self.forgotten.is_empty()
    }

    /// The power goes off and comes back. `older` is what a removed file had in the same place.
    pub(super) fn lose_power(&mut self, tail: Tail, older: &[u8], random: &mut Random) {
        let mut image = std::mem::take(&mut self.durable);
        let before = image.len();
        let mut changes = std::mem::take(&mut self.forgotten);
        changes.append(&mut self.unsynced);
        match tail {
            Tail::Lost => changes.clear(),
            Tail::Kept | Tail::Flipped | Tail::Zeroed | Tail::Stale => {}
            Tail::Prefix => changes.truncate(random.index(changes.len() + 1)),
            Tail::Torn => {
                changes.truncate(random.index(changes.len() + 1));
                if let Some(Change::Append { at, bytes }) = changes.last_mut() {
                    let sectors = (*at + bytes.len()).div_ceil(SECTOR) - *at / SECTOR;
                    let cut = (*at / SECTOR + random.index(sectors + 1)) * SECTOR;
                    bytes.truncate(cut.saturating_sub(*at));
                }
            }
        }
        for change in &changes {
            match change {
                Change::Append { at, bytes } if tail == Tail::Zeroed => {
                    write_some_sectors(&mut image, *at, bytes, random);
                }
                Change::Append { at, bytes } if tail == Tail::Stale => {
                    let old = older.get(*at..).unwrap_or_default();
                    let stale: Vec<u8> =
                        old.iter().copied().chain(std::iter::repeat(0)).take(bytes.len()).collect();
                    write_at(&mut image, *at, &stale);
                    if random.below(4) == 0 {
                        write_some_sectors(&mut image, *at, bytes, random);
                    }
                }
                change => apply(&mut image, change),
            }
        }
        if tail == Tail::Flipped && image.len() > before {
            let at = before + random.index(image.len() - before);
            if let Some(byte) = image.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        self.cached.clone_from(&image);
        self.durable = image;
    }

    /// Damages one durable byte, as a platter does in time.
    pub(super) fn flip(&mut self, at: usize, mask: u8) {
        for image in [&mut self.cached, &mut self.durable] {
            if let Some(byte) = image.get_mut(at) {
                *byte ^= mask;
            }
        }
    }
}

fn apply(image: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Append { at, bytes } => write_at(image, *at, bytes),
        Change::Truncate { to } => image.truncate(*to),
    }
}

fn write_at(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if image.len() < at + bytes.len() {
        image.resize(at + bytes.len(), 0);
    }
    if let Some(place) = image.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// The length grew, but not every sector was written.
fn write_some_sectors(image: &mut Vec<u8>, at: usize, bytes: &[u8], random: &mut Random) {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let sector = rest.len().min(SECTOR - (at + done) % SECTOR);
        let part = rest.get(..sector).unwrap_or_default();
        if random.below(2) == 0 {
            write_at(image, at + done, part);
        } else if image.len() < at + done + sector {
            image.resize(at + done + sector, 0);
        }
        done += sector;
    }
}
