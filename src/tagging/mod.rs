//! Floor 1: what a record means: its tags, each with the reason. Pure: the same row gives the same decision,
//! and nothing is looked up. What several records of one mail mean together is not asked here.

mod activity_mail;
mod after_delivery;
pub mod alert_title;
mod audit;
mod decide;
mod explain;
pub mod judge;
pub mod outcome;
pub mod overrides;
mod reported;
pub mod verdict;

pub use decide::{as_later_row, decide};
pub use explain::explain;
