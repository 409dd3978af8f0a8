//! Hunting as the ledger's witness: counts the identities of an hour, and brings its rows.

use std::time::Duration;

use async_trait::async_trait;

use super::client::{HuntingClient, Limits};
use super::query::{Subject, TimeColumn};
use super::trouble::{HuntingError, Trouble};
use super::window::Window;
use crate::domain::{Chunk, Failure, Table, Ticks};
use crate::ledger::{ReckonError, Reckoner};
use crate::pipeline::chain;

#[async_trait]
impl Reckoner for HuntingClient {
    async fn now(&self, table: &Table) -> Result<Ticks, ReckonError> {
        Self::now(self, table).await.map_err(|error| sorted(&error))
    }

    async fn count(&self, table: &Table, from: Ticks, to: Ticks) -> Result<u64, ReckonError> {
        let counted = Self::count(self, &subject(table), Window::new(from, to)).await;
        counted.map_err(|error| sorted(&error))
    }

    async fn rows(&self, table: &Table, from: Ticks, to: Ticks) -> Result<Vec<Chunk>, ReckonError> {
        let window = Window::new(from, to);
        let rows = Self::rows(self, &subject(table), window, Limits::default()).await;
        rows.map_err(|error| sorted(&error))
    }
}

fn subject(table: &Table) -> Subject {
    Subject::of(table.clone(), TimeColumn::timestamp())
}

/// What an error means for the proof of an hour.
fn sorted(error: &HuntingError) -> ReckonError {
    let why = chain(error);
    match error.trouble {
        Trouble::Missing | Trouble::Wrong | Trouble::Hold => ReckonError::Refused(why),
        Trouble::Quota(after) => ReckonError::Busy(after, why),
        Trouble::Retry | Trouble::Split | Trouble::Slow => match error.failure() {
            Failure::Retry(Some(after)) if after > Duration::ZERO => {
                ReckonError::Busy(Some(after), why)
            }
            _ => ReckonError::Later(why),
        },
    }
}
