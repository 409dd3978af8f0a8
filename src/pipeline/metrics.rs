//! The one metrics register: every series of the process, in one place, with labels from closed sets
//! (configured names, fixed vocabularies), initialised at 0. What counts when is its users' business.

mod ledger;

use prometheus::{
    Encoder as _, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::ledger::LedgerMetrics;
use crate::domain::{Arrival, DeadLetterReason, GapCause, Issue, Level, Tag};

/// The label value of `level` where no override of either level is to name.
pub const NO_LEVEL: &str = "none";

/// Every metric of the process. Names are `postern_<stage>_<noun>_<unit>[_total]`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each metric's help text is its documentation")]
pub struct Metrics {
    registry: Registry,
    pub source_records_received: IntCounterVec,
    pub source_records_deduplicated: IntCounterVec,
    pub source_records_journaled: IntCounterVec,
    pub source_records_dead_lettered: IntCounterVec,
    pub source_arrival: IntCounterVec,
    pub source_issues: IntCounterVec,
    pub source_gaps: IntCounterVec,
    pub source_errors: IntCounterVec,
    pub source_backlog: IntGaugeVec,
    pub source_lag_seconds: GaugeVec,
    pub source_up: IntGaugeVec,
    pub tag_events: IntCounterVec,
    pub journal_bytes: IntGauge,
    pub journal_quota_bytes: IntGauge,
    pub journal_segments: IntGauge,
    pub journal_next_offset: IntGauge,
    pub journal_first_offset: IntGauge,
    pub journal_dedup_keys: IntGauge,
    pub journal_dedup_memory_bytes: IntGauge,
    pub journal_dead_letters: IntGauge,
    pub journal_frames: IntCounter,
    pub journal_written_bytes: IntCounter,
    pub journal_fsync_seconds: Histogram,
    pub journal_tails_repaired: IntCounter,
    pub journal_full: IntGauge,
    pub sink_events_sent: IntCounterVec,
    pub sink_events_retried: IntCounterVec,
    pub sink_events_rejected: IntCounterVec,
    pub sink_events_filtered: IntCounterVec,
    pub sink_errors: IntCounterVec,
    pub sink_lag_events: IntGaugeVec,
    pub sink_lag_seconds: GaugeVec,
    pub sink_on_hold: IntGaugeVec,
    pub sink_delivery_seconds: HistogramVec,
    pub ledger: LedgerMetrics,
    pub log_lines_dropped: IntCounter,
    pub process_task_panics: IntCounter,
    pub process_ready: IntGauge,
    pub credential_expires: IntGaugeVec,
}

/// The words of the `failure` label.
pub const FAILURES: [&str; 4] = ["retry", "reject", "hold", "fatal"];

impl Metrics {
    /// A fresh register.
    ///
    /// # Errors
    /// If two metrics carry the same name (a defect, shown by the tests).
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        let metrics = Self {
            source_records_received: counters(
                r,
                "postern_source_records_received_total",
                "Records cut from what the source gave. Equals deduplicated + journaled + dead-lettered.",
                &["source"],
            )?,
            source_records_deduplicated: counters(
                r,
                "postern_source_records_deduplicated_total",
                "Records that had been seen within the horizon.",
                &["source"],
            )?,
            source_records_journaled: counters(
                r,
                "postern_source_records_journaled_total",
                "Records that are durable in the journal as events.",
                &["source"],
            )?,
            source_records_dead_lettered: counters(
                r,
                "postern_source_records_dead_lettered_total",
                "Records that could not become events and are durable as dead letters.",
                &["source", "reason"],
            )?,
            source_arrival: counters(
                r,
                "postern_source_events_arrival_total",
                "Journaled events by arrival: live, late or backfill.",
                &["source", "arrival"],
            )?,
            source_issues: counters(
                r,
                "postern_source_record_issues_total",
                "Oddities noticed in records that became events.",
                &["source", "code"],
            )?,
            source_gaps: counters(
                r,
                "postern_source_gaps_total",
                "Gap records written: something is known to be missing.",
                &["source", "cause"],
            )?,
            source_errors: counters(
                r,
                "postern_source_errors_total",
                "Failed polls, by what is done about them.",
                &["source", "failure"],
            )?,
            source_backlog: gauges(
                r,
                "postern_source_backlog_messages",
                "What waits at the far end, where it can tell.",
                &["source"],
            )?,
            source_lag_seconds: float_gauges(
                r,
                "postern_source_lag_seconds",
                "Age of the newest journaled event when it arrived, by the vendor's export time.",
                &["source"],
            )?,
            source_up: gauges(
                r,
                "postern_source_up",
                "1 while the last poll succeeded.",
                &["source"],
            )?,
            tag_events: counters(
                r,
                "postern_tag_events_total",
                "Journaled events by tag, level of the primary override, and arrival.",
                &["tag", "level", "arrival"],
            )?,
            journal_bytes: gauge(r, "postern_journal_bytes", "Bytes of all journal files.")?,
            journal_quota_bytes: gauge(
                r,
                "postern_journal_quota_bytes",
                "Quota for all journal files.",
            )?,
            journal_segments: gauge(r, "postern_journal_segments", "Segment files.")?,
            journal_next_offset: gauge(
                r,
                "postern_journal_next_offset",
                "Offset after the last durable event.",
            )?,
            journal_first_offset: gauge(
                r,
                "postern_journal_first_offset",
                "Oldest offset that can be read.",
            )?,
            journal_dedup_keys: gauge(
                r,
                "postern_journal_dedup_keys",
                "Keys in the dedup set, in memory and on disk.",
            )?,
            journal_dedup_memory_bytes: gauge(
                r,
                "postern_journal_dedup_memory_bytes",
                "Memory that the dedup set holds.",
            )?,
            journal_dead_letters: gauge(r, "postern_journal_dead_letters", "Dead letters kept.")?,
            journal_frames: counter(r, "postern_journal_frames_total", "Frames made durable.")?,
            journal_written_bytes: counter(
                r,
                "postern_journal_written_bytes_total",
                "Bytes made durable.",
            )?,
            journal_fsync_seconds: histogram(
                r,
                "postern_journal_fsync_seconds",
                "Time of one fdatasync of the journal.",
            )?,
            journal_tails_repaired: counter(
                r,
                "postern_journal_tail_repaired_total",
                "Torn tails cut at start.",
            )?,
            journal_full: gauge(
                r,
                "postern_journal_full",
                "1 while the disk or the quota is full and sources are paused.",
            )?,
            sink_events_sent: counters(
                r,
                "postern_sink_events_sent_total",
                "Events that the far end has for good.",
                &["sink"],
            )?,
            sink_events_retried: counters(
                r,
                "postern_sink_events_retried_total",
                "Events that had to be sent again.",
                &["sink"],
            )?,
            sink_events_rejected: counters(
                r,
                "postern_sink_events_rejected_total",
                "Events refused for good, now dead letters.",
                &["sink", "reason"],
            )?,
            sink_events_filtered: counters(
                r,
                "postern_sink_events_filtered_total",
                "Events that the sink's filter left out.",
                &["sink"],
            )?,
            sink_errors: counters(
                r,
                "postern_sink_errors_total",
                "Failed deliveries as a whole, by what is done about them.",
                &["sink", "failure"],
            )?,
            sink_lag_events: gauges(
                r,
                "postern_sink_lag_events",
                "Events in the journal that the sink is not past.",
                &["sink"],
            )?,
            sink_lag_seconds: float_gauges(
                r,
                "postern_sink_lag_seconds",
                "Age of the oldest event that the sink is not past; 0 when it is past all.",
                &["sink"],
            )?,
            sink_on_hold: gauges(
                r,
                "postern_sink_on_hold",
                "1 while credentials or configuration keep the sink from delivering.",
                &["sink"],
            )?,
            sink_delivery_seconds: histograms(
                r,
                "postern_sink_delivery_seconds",
                "Time of one delivery of a batch.",
                &["sink"],
            )?,
            ledger: LedgerMetrics::new(r)?,
            log_lines_dropped: counter(
                r,
                "postern_log_lines_dropped_total",
                "Log lines dropped because standard error did not take them.",
            )?,
            process_task_panics: counter(
                r,
                "postern_process_task_panics_total",
                "Tasks that panicked.",
            )?,
            process_ready: gauge(r, "postern_process_ready", "1 while /ready answers 200.")?,
            credential_expires: gauges(
                r,
                "postern_credential_expires_timestamp_seconds",
                "When a tenant's certificate or client secret expires (Unix time), where that is known.",
                &["tenant"],
            )?,
            registry,
        };
        register(&metrics.registry, {
            let info = IntGauge::with_opts(
                Opts::new("postern_process_build_info", "1, labelled with the version.")
                    .const_label("version", env!("CARGO_PKG_VERSION")),
            )?;
            info.set(1);
            info
        })?;
        for tag in Tag::ALL {
            for level in Level::ALL.iter().map(|level| level.as_str()).chain([NO_LEVEL]) {
                for arrival in Arrival::ALL {
                    let labels = [tag.as_str(), level, arrival.as_str()];
                    metrics.tag_events.with_label_values(&labels).reset();
                }
            }
        }
        Ok(metrics)
    }

    /// Creates the series of a source at 0, so that a rate over its first event is seen.
    pub fn init_source(&self, source: &str) {
        for family in [
            &self.source_records_received,
            &self.source_records_deduplicated,
            &self.source_records_journaled,
        ] {
            family.with_label_values(&[source]).inc_by(0);
        }
        for reason in DeadLetterReason::ALL {
            self.source_records_dead_lettered
                .with_label_values(&[source, reason.as_str()])
                .inc_by(0);
        }
        for arrival in Arrival::ALL {
            self.source_arrival.with_label_values(&[source, arrival.as_str()]).inc_by(0);
        }
        for code in Issue::CODES {
            self.source_issues.with_label_values(&[source, code]).inc_by(0);
        }
        for cause in GapCause::ALL {
            self.source_gaps.with_label_values(&[source, cause.as_str()]).inc_by(0);
        }
        for failure in FAILURES {
            self.source_errors.with_label_values(&[source, failure]).inc_by(0);
        }
        self.source_up.with_label_values(&[source]).set(0);
        self.source_lag_seconds.with_label_values(&[source]).set(0.0);
    }

    /// Creates the series of a sink at 0.
    pub fn init_sink(&self, sink: &str) {
        for family in
            [&self.sink_events_sent, &self.sink_events_retried, &self.sink_events_filtered]
        {
            family.with_label_values(&[sink]).inc_by(0);
        }
        for reason in DeadLetterReason::ALL {
            self.sink_events_rejected.with_label_values(&[sink, reason.as_str()]).inc_by(0);
        }
        for failure in FAILURES {
            self.sink_errors.with_label_values(&[sink, failure]).inc_by(0);
        }
        self.sink_lag_events.with_label_values(&[sink]).set(0);
        self.sink_lag_seconds.with_label_values(&[sink]).set(0.0);
        self.sink_on_hold.with_label_values(&[sink]).set(0);
    }

    /// Takes the series of a sink away (it was removed from the configuration).
    pub fn forget_sink(&self, sink: &str) {
        for family in [&self.sink_lag_events, &self.sink_on_hold] {
            let _ = family.remove_label_values(&[sink]);
        }
        let _ = self.sink_lag_seconds.remove_label_values(&[sink]);
    }

    /// Copies the journal's figures into their gauges.
    #[expect(clippy::cast_possible_wrap, reason = "figures far below 2^63")]
    pub fn show_journal(&self, stat: &crate::journal::JournalStat) {
        self.journal_bytes.set(stat.bytes as i64);
        self.journal_quota_bytes.set(stat.quota_bytes as i64);
        self.journal_segments.set(stat.segments as i64);
        self.journal_next_offset.set(stat.next as i64);
        self.journal_first_offset.set(stat.first as i64);
        self.journal_dedup_keys.set(stat.dedup_keys as i64);
        self.journal_dedup_memory_bytes.set(stat.dedup_memory_bytes as i64);
        self.journal_dead_letters.set(stat.dead_letters as i64);
        let repaired = stat.tails_repaired.saturating_sub(self.journal_tails_repaired.get());
        self.journal_tails_repaired.inc_by(repaired);
    }

    /// The text exposition format.
    ///
    /// # Errors
    /// If a metric cannot be encoded (a defect).
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    register(registry, IntCounter::new(name, help)?)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(registry, IntGauge::new(name, help)?)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn float_gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<GaugeVec, prometheus::Error> {
    register(registry, GaugeVec::new(Opts::new(name, help), labels)?)
}

/// From half a millisecond to 30 s: a sync, a request, a stuck one.
const SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

fn histogram(registry: &Registry, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
    register(
        registry,
        Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))?,
    )
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<HistogramVec, prometheus::Error> {
    register(
        registry,
        HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)?,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_of_a_source_and_a_sink_is_there_before_its_first_event() {
        let metrics = Metrics::new().unwrap();
        metrics.init_source("hubs");
        metrics.init_sink("siem");
        let text = metrics.text().unwrap();
        for line in [
            "postern_source_records_received_total{source=\"hubs\"} 0",
            "postern_source_records_dead_lettered_total{reason=\"too_deep\",source=\"hubs\"} 0",
            "postern_sink_events_sent_total{sink=\"siem\"} 0",
            "postern_tag_events_total{arrival=\"live\",level=\"tenant\",tag=\"allowed.hc_phish\"} 0",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }
}
