//! What the journal remembers of tickets: the intent before the POST, the unknown between, the result after.

use serde::{Deserialize, Serialize};

use super::ticks::Ticks;

/// The deterministic external key of a ticket: the same for the same (tenant, policy, fold key), for ever.
pub type TicketKey = Box<str>;

/// Where a ticket stands. Every change is journaled and durable before the next step is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TicketState {
    /// We are about to create it. Found after a restart, this means the answer was lost: `Unknown`.
    Intent,
    /// A request was sent and its outcome is not known. Never POST again before a look-up, unless the far end
    /// takes the key as an idempotency key.
    Unknown,
    /// It exists; the far end's own number or URL, where it told one.
    Open {
        /// The far end's reference.
        reference: Box<str>,
    },
    /// The far end refused it for good; it is a dead letter too.
    Refused {
        /// The far end's words, shortened.
        detail: Box<str>,
    },
    /// Closed.
    Closed,
}

/// One change of one ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketRecord {
    /// The sink that opens it.
    pub sink: Box<str>,
    /// Its external key.
    pub key: TicketKey,
    /// Its new state.
    pub state: TicketState,
    /// How many requests have been sent for it so far.
    pub attempts: u32,
    /// When.
    pub at: Ticks,
}
