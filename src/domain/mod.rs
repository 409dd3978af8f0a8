//! Floor 0: the values that everything else is about. They know nothing of files, sockets, clocks,
//! JSON parsing or tasks: `std` and `serde` only.

pub mod chunk;
pub mod cursor;
pub mod dead_letter;
pub mod decision;
pub mod event;
pub mod failure;
pub mod gap;
pub mod id;
pub mod kind;
pub mod raw;
pub mod table;
pub mod tag;
pub mod ticket;
pub mod ticks;

pub use chunk::{Chunk, Shape};
pub use cursor::{Cursor, CursorKey, Cursors};
pub use dead_letter::{DeadLetter, DeadLetterReason};
pub use decision::{
    Certainty, Decision, Direction, Effect, Flag, Flags, Level, Outcome, Override, OverrideKind,
    Reason, Verdict, Why,
};
pub use event::{Arrival, Event, Issue, Position};
pub use failure::Failure;
pub use gap::{Gap, GapCause};
pub use id::EventId;
pub use kind::Kind;
pub use raw::Raw;
pub use table::Table;
pub use tag::{Tag, Tags};
pub use ticket::{TicketKey, TicketRecord, TicketState};
pub use ticks::Ticks;
