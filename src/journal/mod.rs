//! Floor 2: the journal. The one place where an event is safe.

pub mod clock;
pub mod disk;
pub mod port;

pub use clock::{Clock, SystemClock};
pub use disk::{Disk, DiskFile};
pub use port::{
    Appended, Health, Journal, JournalError, JournalStat, Numbered, Offset, OnFull, ReaderStart,
    Receipt, Unit,
};
