//! Merges runs of one epoch into one, a bounded step at a time, so that nobody waits for a large merge.
//! Until it is finished the inputs go on answering.

use super::hash::KeyedHash;
use super::run::Run;
use super::write::{RunError, RunWriter};
use crate::domain::EventId;
use crate::journal::disk::{Disk, DiskFile};

/// So many runs of about one size are merged into one.
pub(super) const FAN_IN: usize = 4;

#[derive(Debug)]
pub(super) struct Merge<F> {
    inputs: Vec<Input>,
    output: RunWriter<F>,
}

#[derive(Debug)]
struct Input {
    number: u64,
    blocks: usize,
    next_block: usize,
    /// The rest of the block that is being read, last id first.
    block: Vec<EventId>,
}

impl Input {
    fn peek<F: DiskFile>(&mut self, runs: &[Run<F>]) -> Option<EventId> {
        while self.block.is_empty() && self.next_block < self.blocks {
            let run = runs.iter().find(|run| run.state.number == self.number)?;
            self.block = run.block_or_damage(self.next_block);
            self.block.reverse();
            self.next_block += 1;
        }
        self.block.last().copied()
    }
}

impl<F: DiskFile> Merge<F> {
    /// Begins to merge the runs with these numbers.
    pub(super) fn begin<D: Disk<File = F>>(
        disk: &D,
        hash: KeyedHash,
        number: u64,
        runs: &[Run<F>],
        numbers: &[u64],
    ) -> Result<Self, RunError> {
        let chosen: Vec<_> =
            runs.iter().filter(|run| numbers.contains(&run.state.number)).collect();
        let keys = chosen.iter().map(|run| run.state.keys).sum();
        let epoch = chosen.iter().map(|run| run.state.epoch).max().unwrap_or(0);
        let inputs = chosen
            .iter()
            .map(|run| Input {
                number: run.state.number,
                blocks: run.state.blocks as usize,
                next_block: 0,
                block: Vec::new(),
            })
            .collect();
        Ok(Self { inputs, output: RunWriter::create(disk, hash, number, epoch, keys)? })
    }

    pub(super) fn output_number(&self) -> u64 {
        self.output.number()
    }

    /// Whether this run is being merged.
    pub(super) fn reads(&self, number: u64) -> bool {
        self.inputs.iter().any(|input| input.number == number)
    }

    /// Moves at most `limit` ids; `true` when there are no more.
    pub(super) fn step(&mut self, runs: &[Run<F>], limit: usize) -> Result<bool, RunError> {
        for _ in 0..limit {
            let mut smallest = None;
            for input in &mut self.inputs {
                if let Some(id) = input.peek(runs) {
                    smallest = Some(smallest.map_or(id, |other: EventId| other.min(id)));
                }
            }
            let Some(smallest) = smallest else { return Ok(true) };
            for input in &mut self.inputs {
                if input.block.last() == Some(&smallest) {
                    input.block.pop();
                }
            }
            self.output.push(smallest)?;
        }
        Ok(false)
    }

    pub(super) fn finish<D: Disk<File = F>>(self, disk: &D) -> Result<Run<F>, RunError> {
        self.output.finish(disk)
    }
}
