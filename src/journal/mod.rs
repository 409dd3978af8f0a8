//! Floor 2: the journal. The one place where an event is safe.

pub mod bug;
pub mod clock;
pub mod config;
pub mod dedup;
pub mod disk;
pub mod engine;
pub mod error;
#[cfg(any(test, feature = "planted-bugs"))]
pub mod model;
pub mod port;

pub use clock::{Clock, SystemClock};
pub use config::JournalConfig;
pub use disk::{Disk, DiskFile};
pub use engine::{Commit, Engine};
pub use error::OpenError;
pub use port::{
    Appended, Health, Journal, JournalError, JournalStat, Numbered, Offset, OnFull, ReaderStart,
    Receipt, Unit,
};
