//! Writes a run: ids in ascending order into a temporary file, which gets its name when all of it is durable.
//! A run is used by this life at once and by the next only if a durable snapshot names it.

use std::io;

use super::filter::Filter;
use super::hash::KeyedHash;
use super::run::{
    BLOCK, KEYS_PER_BLOCK, MAGIC, Run, RunState, block_checksum, file_name, prefix, temporary_name,
};
use crate::domain::EventId;
use crate::journal::disk::{Disk, DiskFile};

/// Bytes gathered before they are handed to the disk.
const BUFFER: usize = 64 * 1024;

/// Why a run could not be written.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Creating or appending failed, most likely for want of space. Nothing has changed; try again later.
    #[error("cannot write a dedup run: {0}")]
    Write(#[source] io::Error),
    /// A sync or rename failed. The set in memory is as it was, but nothing unsynced in the directory can
    /// be trusted any more: the journal must be poisoned.
    #[error("cannot make a dedup run durable: {0}")]
    Sync(#[source] io::Error),
}

#[derive(Debug)]
pub(super) struct RunWriter<F> {
    file: F,
    state: RunState,
    hash: KeyedHash,
    filter: Filter,
    index: Vec<u64>,
    block: Vec<EventId>,
    buffer: Vec<u8>,
}

impl<F: DiskFile> RunWriter<F> {
    /// Begins run `number` with at most `keys` ids.
    pub(super) fn create<D: Disk<File = F>>(
        disk: &D,
        hash: KeyedHash,
        number: u64,
        epoch: u64,
        keys: u64,
    ) -> Result<Self, RunError> {
        let file = disk.create(&temporary_name(number)).map_err(RunError::Write)?;
        Ok(Self {
            file,
            state: RunState { number, keys: 0, blocks: 0, epoch },
            hash,
            filter: Filter::for_keys(keys),
            index: Vec::new(),
            block: Vec::with_capacity(KEYS_PER_BLOCK),
            buffer: Vec::with_capacity(BUFFER + BLOCK),
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.state.number
    }

    /// The next id, larger than the one before.
    pub(super) fn push(&mut self, id: EventId) -> Result<(), RunError> {
        self.filter.insert(self.hash.of(id));
        self.state.keys += 1;
        self.block.push(id);
        if self.block.len() == KEYS_PER_BLOCK { self.end_block() } else { Ok(()) }
    }

    /// Makes the run durable and gives it its name.
    pub(super) fn finish<D: Disk<File = F>>(mut self, disk: &D) -> Result<Run<F>, RunError> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let index: Vec<u8> = self.index.iter().flat_map(|start| start.to_le_bytes()).collect();
        let filter = self.filter.to_bytes();
        let mut footer = MAGIC.to_vec();
        footer.extend(self.state.number.to_le_bytes());
        footer.extend(self.state.keys.to_le_bytes());
        footer.extend(self.state.blocks.to_le_bytes());
        footer.extend(u32::try_from(filter.len()).unwrap_or(u32::MAX).to_le_bytes());
        footer.extend(crc32c::crc32c(&index).to_le_bytes());
        footer.extend(crc32c::crc32c(&filter).to_le_bytes());
        footer.extend(crc32c::crc32c(&footer).to_le_bytes());
        for part in [index, filter, footer] {
            self.buffer.extend(part);
            self.flush()?;
        }
        self.file.sync().map_err(RunError::Sync)?;
        let number = self.state.number;
        disk.rename(&temporary_name(number), &file_name(number)).map_err(RunError::Sync)?;
        disk.sync_directory().map_err(RunError::Sync)?;
        Ok(Run::new(self.state, self.file, self.index, self.filter))
    }

    fn end_block(&mut self) -> Result<(), RunError> {
        self.index.extend(self.block.first().map(|first| prefix(*first)));
        let start = self.buffer.len();
        for id in &self.block {
            self.buffer.extend(id.0);
        }
        self.buffer.resize(start + KEYS_PER_BLOCK * 16, 0);
        self.buffer.extend(u32::try_from(self.block.len()).unwrap_or(0).to_le_bytes());
        self.buffer.resize(start + BLOCK - 4, 0);
        let body = self.buffer.get(start..).unwrap_or_default();
        let sum = block_checksum(self.state.number, self.state.blocks as usize, body);
        self.buffer.extend(sum.to_le_bytes());
        self.state.blocks += 1;
        self.block.clear();
        if self.buffer.len() < BUFFER { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), RunError> {
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            match self.file.append(rest) {
                Ok(0) => return Err(RunError::Write(io::ErrorKind::WriteZero.into())),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(RunError::Write(error)),
            }
        }
        self.buffer.clear();
        Ok(())
    }
}
