//! Floor 1: what a record means: its tags, each with the reason. Pure.

pub mod overrides;
