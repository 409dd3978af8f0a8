//! Incidents and alerts of Microsoft Graph. There is no push and no delta for them: both are polled, by the time of
//! their last update, and they change while they are read. One reader does it for both; it does not know what an
//! incident or an alert means.
//!
//! Guarantee: every revision of a row that the far end shows while a walk passes, and that became visible at most
//! `overlap_minutes` after its own `lastUpdateDateTime`, is handed over at least once; the journal knows what it
//! has. (A row that changes twice between two walks is seen once: Graph keeps no history.) The mark of how far it
//! is read is a stamp that the far end gave, never our time, and never lies behind something that was not seen; see
//! [`walk`] for what "seen" needs where order, links and counts cannot be trusted. What cannot be had becomes a gap.

mod alerts;
mod client;
mod cursor;
mod gaps;
mod incidents;
mod owed;
mod page;
mod reader;
mod rungs;
mod settings;
mod walk;

pub use alerts::{AlertsConfig, alerts};
pub use incidents::{Expand, IncidentsConfig, incidents};
pub use reader::Reader;
pub use settings::{Bounded, OutOfBounds};
