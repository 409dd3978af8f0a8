//! Floor 2: the journal. The one place where an event is safe.

pub mod bug;
mod bytes;
pub mod clock;
mod codec;
pub mod config;
pub mod dedup;
pub mod disk;
mod durable;
pub mod embedded;
#[cfg(test)]
mod embedded_tests;
pub mod engine;
pub mod error;
#[cfg(test)]
mod format_tests;
mod frame;
mod gap;
mod identity;
mod inventory;
mod maintain;
#[cfg(any(test, feature = "planted-bugs"))]
pub mod model;
mod open;
pub mod port;
mod positions;
pub mod real;
mod recovery;
pub mod repair;
mod replay;
#[cfg(test)]
mod room_tests;
mod scan;
mod segment;
mod shared;
mod snapshot;
mod state;
mod sync;
#[cfg(test)]
mod tests;
pub mod tools;
mod view;
mod walk;
pub mod watermark;

pub use clock::{Clock, SystemClock};
pub use codec::{EncodedUnit, Encoder, TooLarge};
pub use config::JournalConfig;
pub use disk::{Disk, DiskFile};
pub use embedded::Embedded;
pub use engine::{Commit, Engine};
pub use error::OpenError;
pub use inventory::journal_id_of;
pub use port::{
    Appended, Health, Journal, JournalError, JournalStat, Numbered, Offset, OnFull, ReaderStart,
    Receipt, Unit,
};
pub use real::RealDisk;
