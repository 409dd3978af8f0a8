//! Floor 3: the simulated tenant. A seeded model of an organization's mail (streams, a filter, policies,
//! overrides) that exports what Microsoft would export, misbehaves as Microsoft's pipe does, and keeps the
//! ground truth of everything it sent. It knows nothing of how Postern reads, and nothing of tagging.

pub mod aftermath;
pub mod broker;
pub mod cloud;
pub mod delivery;
pub mod envelope;
pub mod expected;
pub mod feed;
pub mod filter;
pub mod judge;
pub mod kql;
pub mod mail;
pub mod overrides;
pub mod people;
pub mod policy;
pub mod random;
pub mod record;
pub mod rows;
pub mod shown;
pub mod streams;
pub mod tenant;
pub mod truth;
pub mod writer;
