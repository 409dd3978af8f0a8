//! A disk in memory that fails as real ones do, for tests: what was not synced may be lost, torn, zeroed or
//! flipped by a power cut; syncs fail and forget; space runs out. Only in builds for tests.

mod disk;
mod inode;
mod random;

pub use disk::{Faults, ModelDisk, ModelFile, Outcome, Tail};
pub use random::Random;
