//! Floor 2: the stages between the ports.

pub mod port;

pub use port::{AdapterError, Batch, Filter, Limits, Page, Sent, Sink, Source};
