//! Advanced hunting over Graph: asks for the rows of tables window by window.

mod answer;
mod client;
pub mod query;
mod trouble;
mod window;

pub use answer::{HuntingAnswer, Row};
pub use client::{CountCheck, Fetched, HuntingClient, Ingestion, Limits, Step, Walk, chunk};
pub use query::{Subject, TimeColumn};
pub use trouble::{HuntingError, Trouble};
pub use window::{Piece, Plan, Shard, Window};
