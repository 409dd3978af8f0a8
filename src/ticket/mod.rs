//! Floor 3: tickets. What needs a person becomes one ticket at a far end, never two: the intent is journaled
//! before the request, the key is deterministic, and what is not known is looked up or waits for a person.
//! Which events come here is the sink's filter; how they look in other sinks is not decided here.

pub mod body;
mod book;
pub mod far_end;
pub mod key;
mod sink;
pub mod webhook;

pub use self::far_end::{FarEnd, FarEndError, Ticket};
pub use self::key::external_key;
pub use self::sink::{FarEndConfig, TicketConfig, TicketSink};
pub use self::webhook::{Webhook, WebhookConfig};
