//! librdkafka's callbacks for the sink: troubles, refused records, and every sign that the line was not smooth.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaErrorCode as Code;
use serde::Deserialize;

use crate::cloud::kafka::{Link, code_of};

/// What librdkafka calls its log lines about a connection that broke or a request that got no answer.
const ROUGH: [&str; 4] = ["FAIL", "REQTMOUT", "ERROR", "TXNERR"];

/// One client's callbacks.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) link: Link,
    /// See [`Callbacks::take_rough`].
    rough: AtomicBool,
    counted: AtomicI64,
    /// Records that were not taken: index in the batch, and why.
    failed: Mutex<Vec<(usize, Code)>>,
}

impl Callbacks {
    pub(super) fn new(link: Link) -> Self {
        Self { link, ..Self::default() }
    }

    /// Whether, since the last question, a connection broke, a request timed out or was sent twice. A copy of it
    /// may then still be on its way.
    pub(super) fn take_rough(&self) -> bool {
        self.rough.swap(false, Ordering::Relaxed)
    }

    pub(super) fn take_failed(&self) -> Vec<(usize, Code)> {
        std::mem::take(&mut *self.failed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The few figures of librdkafka's statistics that matter here.
#[derive(Deserialize)]
struct Figures {
    #[serde(default)]
    brokers: std::collections::HashMap<String, BrokerFigures>,
}

#[derive(Deserialize)]
struct BrokerFigures {
    #[serde(default)]
    txretries: i64,
    #[serde(default)]
    req_timeouts: i64,
    #[serde(default)]
    disconnects: i64,
}

impl ClientContext for Callbacks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if ROUGH.contains(&facility) {
            self.rough.store(true, Ordering::Relaxed);
        }
        tracing::debug!(?level, facility, line, "librdkafka");
    }

    fn stats_raw(&self, text: &[u8]) {
        let Ok(figures) = serde_json::from_slice::<Figures>(text) else { return };
        let sum =
            |broker: &BrokerFigures| broker.txretries + broker.req_timeouts + broker.disconnects;
        let now = figures.brokers.values().map(sum).sum();
        if self.counted.swap(now, Ordering::Relaxed) != now {
            self.rough.store(true, Ordering::Relaxed);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.rough.store(true, Ordering::Relaxed);
        self.link.note(&error, reason);
    }

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.link.oauth_token()
    }
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        if let Err((error, _)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.push((index, code_of(error)));
        }
    }
}

impl ConsumerContext for Callbacks {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_seen_in_the_log_the_statistics_and_the_error_callback() {
        let callbacks = Callbacks::default();
        assert!(!callbacks.take_rough());
        callbacks.log(RDKafkaLogLevel::Info, "FAIL", "Disconnected");
        assert!(callbacks.take_rough() && !callbacks.take_rough());
        callbacks.log(RDKafkaLogLevel::Info, "TELEMETRY", "…");
        assert!(!callbacks.take_rough());
        callbacks.stats_raw(
            br#"{"brokers":{"a":{"txretries":1,"req_timeouts":0,"disconnects":0,"x":[]}}}"#,
        );
        assert!(callbacks.take_rough());
        callbacks
            .stats_raw(br#"{"brokers":{"a":{"txretries":1,"req_timeouts":0,"disconnects":0}}}"#);
        assert!(!callbacks.take_rough());
        callbacks.error(KafkaError::Global(Code::BrokerTransportFailure), "gone");
        assert!(callbacks.take_rough());
    }
}
