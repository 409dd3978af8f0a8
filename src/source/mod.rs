//! Floor 3: where events come from. One far end per file or folder; the pipeline decides when they are called.

pub mod event_hubs;
