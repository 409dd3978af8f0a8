//! What the Kafka source and the Kafka sink share: where the brokers are and how to log in, tokens, and what
//! librdkafka's errors mean. No topics, no events.

pub mod access;
pub mod link;
pub mod token;
pub mod trouble;

pub use access::{Access, Auth};
pub use link::Link;
pub use token::{BearerToken, FixedToken, TenantTokens, TokenProvider};
pub use trouble::{Trouble, code_of};
