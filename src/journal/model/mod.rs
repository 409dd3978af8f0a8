//! A disk in memory that fails as real ones do, for tests: what was not synced may be lost, torn, zeroed or
//! flipped by a power cut; syncs fail and forget; space runs out. Only in builds for tests.

mod disk;
mod faults;
mod inode;
mod random;
mod world;

pub use disk::{ModelDisk, ModelFile};
pub use faults::{Faults, Outcome};
pub use inode::Tail;
pub use random::Random;
