//! Postern carries what Microsoft Defender for Office 365 sees to the tools that a security operations
//! centre works in, and marks every mail that an override let past the filter.
//!
//! The modules form five floors; a file uses its own floor and those below (see `ARCHITECTURE.md`).

// floor 0
pub mod domain;
// floor 1
pub mod normalize;
pub mod render;
pub mod tagging;
// floor 2
pub mod journal;
pub mod ledger;
pub mod pipeline;
// floor 3
pub mod cloud;
pub mod simulator;
pub mod sink;
pub mod source;
pub mod ticket;
// floor 4
pub mod app;
pub mod cli;
pub mod config;
