//! The small code to branch on when something fails. The chain to print is the error beside it.

use std::time::Duration;

/// What to do about a failure. Sorting an adapter's errors into these happens in one exhaustive `match` in
/// the adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Try the same again; not before the time given, where the far end gave one.
    Retry(Option<Duration>),
    /// This one item can never pass: dead letter it, go on with its neighbours.
    Reject,
    /// Credentials or configuration are wrong: keep the position, say degraded, probe again.
    Hold,
    /// The process must end (a poisoned journal).
    Fatal,
}
