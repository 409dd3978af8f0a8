//! Floor 1: from a source's bytes to events. Pure: the same bytes give the same events, whatever the time
//! and the place. It maps; it does not judge (`tagging`) and does not look anything up.

pub mod column;
pub mod row;
pub mod scan;

pub use column::Column;
pub use row::Row;
