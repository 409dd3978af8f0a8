//! Floor 4: the running daemon. It puts the parts together and owns every task; what the parts do is theirs.

pub mod exit;
pub mod log;
pub mod ops;

pub use exit::Exit;
