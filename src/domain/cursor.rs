//! How far a source is read. The journal stores cursors in the same frame as the events behind them.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Names one cursor: `<source name>/<part>`, for example `hubs/email/3` for a partition.
pub type CursorKey = Arc<str>;

/// A cursor's value: text (JSON) that only its source reads.
pub type Cursor = Arc<str>;

/// The cursors of one source, or of all, by key.
pub type Cursors = BTreeMap<CursorKey, Cursor>;
