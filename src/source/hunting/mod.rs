//! Advanced hunting over Graph: asks for the rows of tables window by window.

mod answer;
mod client;
mod config;
mod desk;
pub mod query;
mod reckoner;
mod source;
mod trouble;
mod window;

pub use answer::{HuntingAnswer, Row};
pub use client::{CountCheck, Fetched, HuntingClient, Ingestion, Limits, Step, Walk, chunk};
pub use config::{HuntingConfig, OwnQuery, TableName, TimeChoice};
pub use query::{Subject, TimeColumn};
pub use source::Hunting;
pub use trouble::{HuntingError, Trouble};
pub use window::{Piece, Plan, Shard, Window};
