//! The primitives that `watermark` is built from, under names that a test can replace by a model's.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
