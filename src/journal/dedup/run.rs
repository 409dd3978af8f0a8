//! A sorted run: ids that left memory, in one immutable file. Reading here, writing in `write`.
//!
//! ```text
//! block  × n   255 ids × 16 bytes, ascending, unused ones zero │ ids used: u32 │ 8 bytes zero
//!              │ crc32c: u32 over run number, block number and the 4,092 bytes before
//! index        the first 8 bytes (big endian) of each block's first id
//! filter       the words of the filter
//! footer       "PSTNRUN1" │ run number u64 │ ids u64 │ blocks u32 │ filter bytes u32 │ crc of index
//!              │ crc of filter │ crc of the footer before
//! ```
//! All numbers little endian. How each part can be broken: a missing file, or a block whose checksum does not
//! match, costs the ids in it, which count as never seen: the event may come a second time, it is never lost.
//! Index, filter and footer hold nothing that the blocks do not say; if one is broken it is made anew.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::hash::KeyedHash;
use crate::domain::EventId;
use crate::journal::disk::{Disk, DiskFile};

pub(super) const BLOCK: usize = 4096;
pub(super) const KEYS_PER_BLOCK: usize = 255;
pub(super) const MAGIC: &[u8; 8] = b"PSTNRUN1";
pub(super) const FOOTER: usize = 44;
const USED_AT: usize = KEYS_PER_BLOCK * 16;
/// An interrupted or transiently failing read is tried this often before the block counts as damaged.
const READ_ATTEMPTS: usize = 3;

/// What the snapshot says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunState {
    pub(super) number: u64,
    pub(super) keys: u64,
    pub(super) blocks: u32,
    /// The span of time in which its ids were first seen.
    pub(super) epoch: u64,
}

pub(super) fn file_name(number: u64) -> String {
    format!("dedup-{number:010}.run")
}

pub(super) fn temporary_name(number: u64) -> String {
    format!("dedup-{number:010}.tmp")
}

/// The number in a run's name, finished or temporary.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("dedup-")?;
    rest.strip_suffix(".run").or_else(|| rest.strip_suffix(".tmp"))?.parse().ok()
}

#[derive(Debug)]
pub(super) struct Run<F> {
    pub(super) state: RunState,
    pub(super) filter: Option<Filter>,
    index: Vec<u64>,
    /// `None` where the file is missing.
    file: Option<F>,
    /// Blocks that could not be read when they were needed.
    damaged_reads: AtomicU64,
}

impl<F: DiskFile> Run<F> {
    pub(super) fn new(state: RunState, file: F, index: Vec<u64>, filter: Filter) -> Self {
        let filter = Some(filter);
        Self { state, filter, index, file: Some(file), damaged_reads: AtomicU64::new(0) }
    }

    /// Opens a run that a snapshot names. Never fails: what is broken is made anew or counts as damaged.
    pub(super) fn open<D: Disk<File = F>>(state: RunState, disk: &D, hash: KeyedHash) -> Self {
        let file = (0..READ_ATTEMPTS).find_map(|_| disk.open(&file_name(state.number)).ok());
        let mut run =
            Self { state, filter: None, index: Vec::new(), file, damaged_reads: AtomicU64::new(0) };
        if run.file.is_none() {
            run.damaged_reads.store(u64::from(state.blocks), Ordering::Relaxed);
        } else if run.read_tables().is_none() {
            run.rebuild_tables(hash);
        }
        run
    }

    /// Whether `id` is in the run. A block that cannot be read holds nothing.
    pub(super) fn contains(&self, id: EventId, hash: u64) -> bool {
        if self.filter.as_ref().is_some_and(|filter| !filter.may_contain(hash)) {
            return false;
        }
        let prefix = prefix(id);
        // Usually one block; several only where many ids share their first eight bytes.
        let first = self.index.partition_point(|start| *start < prefix).saturating_sub(1);
        let end = self.index.partition_point(|start| *start <= prefix);
        (first..end).any(|block| {
            self.readable_block(block)
                .is_some_and(|bytes| keys_of(&bytes).binary_search(&id.0).is_ok())
        })
    }

    /// The ids of a block; none, and one more damaged read, if it cannot be read.
    pub(super) fn block_or_damage(&self, block: usize) -> Vec<EventId> {
        self.readable_block(block)
            .map(|bytes| keys_of(&bytes).iter().map(|key| EventId(*key)).collect())
            .unwrap_or_default()
    }

    fn readable_block(&self, block: usize) -> Option<[u8; BLOCK]> {
        let bytes = (0..READ_ATTEMPTS).find_map(|_| self.block(block).ok());
        if bytes.is_none() {
            self.damaged_reads.fetch_add(1, Ordering::Relaxed);
        }
        bytes
    }

    pub(super) fn damaged_reads(&self) -> u64 {
        self.damaged_reads.load(Ordering::Relaxed)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.index.capacity() * 8 + self.filter.as_ref().map_or(0, Filter::memory_bytes)
    }

    fn block(&self, block: usize) -> io::Result<[u8; BLOCK]> {
        let mut bytes = [0; BLOCK];
        self.read(&mut bytes, (block * BLOCK) as u64)?;
        let (body, sum) = bytes.split_at(BLOCK - 4);
        if u32_at(sum, 0) != Some(block_checksum(self.state.number, block, body)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "checksum of a block"));
        }
        Ok(bytes)
    }

    /// Footer, index and filter as the writer left them; `None` if anything about them is odd.
    fn read_tables(&mut self) -> Option<()> {
        let blocks = self.state.blocks as usize;
        let length = self.file.as_ref()?.length().ok()?;
        let footer_at = length.checked_sub(FOOTER as u64)?;
        let mut footer = [0; FOOTER];
        self.read(&mut footer, footer_at).ok()?;
        let (body, sum) = footer.split_at(FOOTER - 4);
        let valid = u32_at(sum, 0) == Some(crc32c::crc32c(body))
            && body.starts_with(MAGIC)
            && u64_at(body, 8) == Some(self.state.number)
            && u64_at(body, 16) == Some(self.state.keys)
            && u32_at(body, 24) == Some(self.state.blocks);
        let filter_bytes = u32_at(body, 28)? as usize;
        if !valid || length != (blocks * (BLOCK + 8) + filter_bytes + FOOTER) as u64 {
            return None;
        }
        let mut index = vec![0; blocks * 8];
        self.read(&mut index, (blocks * BLOCK) as u64).ok()?;
        let mut filter = vec![0; filter_bytes];
        self.read(&mut filter, (blocks * (BLOCK + 8)) as u64).ok()?;
        if u32_at(body, 32) != Some(crc32c::crc32c(&index))
            || u32_at(body, 36) != Some(crc32c::crc32c(&filter))
        {
            return None;
        }
        self.filter = Some(Filter::from_bytes(&filter)?);
        self.index =
            index.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        Some(())
    }

    fn rebuild_tables(&mut self, hash: KeyedHash) {
        let mut filter = Filter::for_keys(self.state.keys);
        let mut index = Vec::with_capacity(self.state.blocks as usize);
        let mut last = 0;
        for block in 0..self.state.blocks as usize {
            let keys = self.block_or_damage(block);
            last = keys.first().map_or(last, |first| prefix(*first));
            index.push(last);
            for key in keys {
                filter.insert(hash.of(key));
            }
        }
        (self.index, self.filter) = (index, Some(filter));
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => done += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The ids in a block whose checksum matched.
fn keys_of(block: &[u8; BLOCK]) -> &[[u8; 16]] {
    let used = u32_at(block, USED_AT).map_or(0, |used| used as usize).min(KEYS_PER_BLOCK);
    block.as_chunks::<16>().0.get(..used).unwrap_or_default()
}

/// The first eight bytes, so that they order as the ids do.
pub(super) fn prefix(id: EventId) -> u64 {
    id.0.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

pub(super) fn block_checksum(number: u64, block: usize, body: &[u8]) -> u32 {
    let place = crc32c::crc32c(&number.to_le_bytes());
    let place = crc32c::crc32c_append(place, &(block as u64).to_le_bytes());
    crc32c::crc32c_append(place, body)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}
