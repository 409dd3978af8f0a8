//! The ledger's part of the register. What counts when is the ledger's business.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{counters, gauge, gauges};
use crate::domain::Table;

/// The words of the `result` label.
const RESULTS: [&str; 4] = ["complete", "missing", "more", "unverified"];

/// Metrics of the completeness ledger.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each metric's help text is its documentation")]
pub struct LedgerMetrics {
    pub hours: IntGaugeVec,
    pub keys: IntGauge,
    pub gaps: IntCounterVec,
    pub refilled: IntCounterVec,
    pub checks: IntCounterVec,
}

impl LedgerMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            hours: gauges(
                registry,
                "postern_ledger_hours",
                "Hours of a table, by what is known of their completeness.",
                &["tenant", "table", "state"],
            )?,
            keys: gauge(
                registry,
                "postern_ledger_keys",
                "Identities held for hours that can still be checked.",
            )?,
            gaps: counters(
                registry,
                "postern_ledger_gaps_total",
                "Checks that found rows missing here.",
                &["tenant", "table"],
            )?,
            refilled: counters(
                registry,
                "postern_ledger_refilled_events_total",
                "Events that refills of such hours brought.",
                &["tenant", "table"],
            )?,
            checks: counters(
                registry,
                "postern_ledger_checks_total",
                "Checks of an hour, by what they came to.",
                &["tenant", "result"],
            )?,
        })
    }

    /// Makes the series of a tenant, at 0.
    pub fn init(&self, tenant: &str) {
        for result in RESULTS {
            self.checks.with_label_values(&[tenant, result]);
        }
        for table in &Table::TYPED {
            self.gaps.with_label_values(&[tenant, table.label()]);
            self.refilled.with_label_values(&[tenant, table.label()]);
        }
    }
}
