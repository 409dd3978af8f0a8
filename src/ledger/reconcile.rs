//! Checks hours that are due: asks the far end for its count, compares, refills what is missing and counts once
//! more. What an hour is and when it is due is the book's business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Shared;
use super::book::{Due, Finding};
use super::port::{ReckonError, Reckoner};
use crate::domain::{Table, Ticks};
use crate::pipeline::PipelineError;

/// When an hour is tried again that the far end refused to count, in seconds.
const AFTER_REFUSAL_SECONDS: i64 = 3600;
/// The same for one that is missing rows that a refill did not bring.
const AFTER_MISSING_SECONDS: i64 = 3600;
/// The same where the quota was used up and no time was named: until its next quarter of an hour.
const AFTER_QUOTA_SECONDS: i64 = 900;
/// The same for a passing fault.
const AFTER_FAULT_SECONDS: i64 = 300;

/// Why there is no count.
enum Stopped {
    /// The process ends.
    Asked,
    /// The far end says so.
    Told(ReckonError),
}

impl Shared {
    /// Checks everything that is due.
    ///
    /// # Errors
    /// Only what ends the process.
    pub(super) async fn round(&self) -> Result<(), PipelineError> {
        let now = self.clock.now();
        let due = {
            let mut book = self.book();
            book.turn(now, &self.config);
            book.due(now, &self.config)
        };
        // By tenant: its own time, once it has said it.
        let mut times: BTreeMap<String, Ticks> = BTreeMap::new();
        let mut resting: BTreeSet<String> = BTreeSet::new();
        let mut refused: BTreeMap<(String, String), ReckonError> = BTreeMap::new();
        for due in due {
            if self.is_stopping() {
                return Ok(());
            }
            let (tenant, table) = (due.account.0.clone(), Table::from_name(&due.account.1));
            if resting.contains(&tenant) {
                continue;
            }
            let Some(reckoner) = self.reckoners.get(&tenant).map(Arc::clone) else {
                let why = "no credential that may ask hunting is configured for this tenant";
                self.unproven(&due, &ReckonError::Refused(why.to_owned()));
                continue;
            };
            if let Some(error) = refused.get(&due.account) {
                self.unproven(&due, error);
                continue;
            }
            let checked = match times.get(&tenant) {
                Some(time) => Ok(*time),
                None => self.asked(reckoner.now(&table)).await,
            };
            let checked = match checked {
                // An hour that has only just ended there is not asked for, whatever our clock says.
                Ok(time) if self.too_early(&due, time) => {
                    times.insert(tenant, time);
                    continue;
                }
                Ok(time) => {
                    times.insert(tenant.clone(), time);
                    self.check(&due, &table, reckoner.as_ref()).await?
                }
                Err(stopped) => Err(stopped),
            };
            match checked {
                Ok(()) => {}
                Err(Stopped::Asked) => return Ok(()),
                Err(Stopped::Told(error)) => {
                    self.unproven(&due, &error);
                    match error {
                        ReckonError::Refused(_) => {
                            refused.insert(due.account.clone(), error);
                        }
                        ReckonError::Busy(..) | ReckonError::Later(_) => {
                            resting.insert(tenant);
                        }
                    }
                }
            }
        }
        self.show();
        Ok(())
    }

    fn too_early(&self, due: &Due, theirs: Ticks) -> bool {
        let first = self.config.check_after_hours.first().copied().unwrap_or(1);
        theirs < due.to().plus_seconds(i64::from(first) * 3600)
    }

    /// Compares one hour, and refills it.
    async fn check(
        &self,
        due: &Due,
        table: &Table,
        reckoner: &dyn Reckoner,
    ) -> Result<Result<(), Stopped>, PipelineError> {
        let mut theirs = match self.asked(reckoner.count(table, due.from(), due.to())).await {
            Ok(theirs) => theirs,
            Err(stopped) => return Ok(Err(stopped)),
        };
        // What came in the meantime counts, or a row that the far end has just counted would be missed.
        self.catch_up().await;
        let mut refilled = 0;
        if theirs > self.book().ours(due) && self.config.refill {
            match self.refilled(due, table, reckoner, theirs).await? {
                Ok(count) => refilled = count,
                Err(Stopped::Asked) => return Ok(Err(Stopped::Asked)),
                // Rows are missing, that is known; that they cannot be fetched now does not make it unknown.
                Err(Stopped::Told(error)) => {
                    tracing::warn!(table = table.name(), hour = %due.from(), ?error, "refilling failed");
                }
            }
        }
        if theirs != self.book().ours(due) {
            theirs = match self.asked(reckoner.count(table, due.from(), due.to())).await {
                Ok(theirs) => theirs,
                Err(stopped) => return Ok(Err(stopped)),
            };
            self.catch_up().await;
        }
        self.proven(due, theirs, refilled);
        Ok(Ok(()))
    }

    async fn refilled(
        &self,
        due: &Due,
        table: &Table,
        reckoner: &dyn Reckoner,
        theirs: u64,
    ) -> Result<Result<u64, Stopped>, PipelineError> {
        let ours = self.book().ours(due);
        let labels = [self.name_of(&due.account.0), table.label()];
        self.metrics.ledger.gaps.with_label_values(&labels).inc();
        tracing::warn!(
            tenant = due.account.0,
            table = table.name(),
            hour = %due.from(),
            ours,
            theirs,
            "rows of this hour are missing here: refilling it"
        );
        let chunks = match self.asked(reckoner.rows(table, due.from(), due.to())).await {
            Ok(chunks) => chunks,
            Err(stopped) => return Ok(Err(stopped)),
        };
        let mut count = 0;
        for chunk in chunks {
            count += self.refill.refill(&due.account.0, vec![chunk]).await?;
        }
        self.metrics.ledger.refilled.with_label_values(&labels).inc_by(count);
        self.catch_up().await;
        Ok(Ok(count))
    }

    fn proven(&self, due: &Due, theirs: u64, refilled: u64) {
        let now = self.clock.now();
        let again = now.plus_seconds(AFTER_MISSING_SECONDS);
        let mut book = self.book();
        let ours = book.ours(due);
        let finding = Finding::Counted { theirs, refilled };
        book.settle(due, finding, now, again, &self.config);
        drop(book);
        let result = match theirs.cmp(&ours) {
            std::cmp::Ordering::Equal => "complete",
            std::cmp::Ordering::Greater => "missing",
            std::cmp::Ordering::Less => "more",
        };
        if result == "missing" {
            tracing::warn!(
                tenant = due.account.0,
                table = due.account.1,
                hour = %due.from(),
                ours,
                theirs,
                "rows of this hour are still missing"
            );
        }
        self.metrics.ledger.checks.with_label_values(&[self.name_of(&due.account.0), result]).inc();
    }

    fn unproven(&self, due: &Due, error: &ReckonError) {
        let (seconds, reason) = match error {
            ReckonError::Refused(why) => (AFTER_REFUSAL_SECONDS, why.clone()),
            ReckonError::Busy(after, why) => {
                let named = after.and_then(|after| i64::try_from(after.as_secs()).ok());
                (named.unwrap_or(AFTER_QUOTA_SECONDS).clamp(1, 86_400), why.clone())
            }
            ReckonError::Later(why) => (AFTER_FAULT_SECONDS, why.clone()),
        };
        tracing::warn!(
            tenant = due.account.0,
            table = due.account.1,
            hour = %due.from(),
            reason,
            "this hour cannot be verified now"
        );
        let now = self.clock.now();
        let finding = Finding::Unverified(reason);
        self.book().settle(due, finding, now, now.plus_seconds(seconds), &self.config);
        let labels = [self.name_of(&due.account.0), "unverified"];
        self.metrics.ledger.checks.with_label_values(&labels).inc();
    }

    /// Waits for an answer of the far end, but not past the end of the process.
    async fn asked<T>(
        &self,
        answer: impl Future<Output = Result<T, ReckonError>>,
    ) -> Result<T, Stopped> {
        tokio::select! {
            answer = answer => answer.map_err(Stopped::Told),
            () = self.stopped() => Err(Stopped::Asked),
        }
    }
}
