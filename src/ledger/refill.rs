//! Refilled rows go through the intake like all others: known ones are dropped there, new ones become events.

use async_trait::async_trait;

use super::port::Refill;
use crate::domain::Chunk;
use crate::normalize::SIZE_CAP;
use crate::pipeline::intake::{Intake, SourceSettings};
use crate::pipeline::{Page, PipelineError};

/// The source that refilled events name.
pub const SOURCE: &str = "ledger";

#[async_trait]
impl Refill for Intake {
    async fn refill(&self, tenant: &str, chunks: Vec<Chunk>) -> Result<u64, PipelineError> {
        let settings = SourceSettings {
            name: SOURCE.into(),
            tenant: tenant.into(),
            // Without meaning: what is fetched on purpose is neither late nor live.
            normal_lag_seconds: i64::MAX,
            size_cap: SIZE_CAP,
        };
        let page = Page { chunks, ..Page::default() };
        Ok(self.append_page(&settings, page).await?.new)
    }
}
