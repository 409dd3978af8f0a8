//! The `activity` source against a small Management Activity API on the loopback that breaks every rule in its turn:
//! what is lost (nothing), what comes twice (nothing, but after a crash), what becomes a gap, and what the API is
//! asked. Each loss bug that other readers of the unified audit log have is a test here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "../support/activity_server.rs"]
mod activity_server;
mod blobs;
mod listing;
mod pipeline;
mod rig;
mod seeded;
mod subscriptions;
mod throttled;
