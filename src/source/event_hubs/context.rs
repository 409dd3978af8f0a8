//! librdkafka's callbacks for the source: tokens, troubles, and the topic ids, which it tells in its log only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::TopicPartitionList;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;

use crate::cloud::kafka::Link;

/// How librdkafka's log names an id that it does not know yet.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// One consumer's callbacks.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) link: Link,
    ids: Mutex<HashMap<String, String>>,
    recreated: AtomicBool,
}

impl Callbacks {
    pub(super) fn new(link: Link) -> Self {
        Self { link, ..Self::default() }
    }

    /// The topic's id, if librdkafka has told it.
    pub(super) fn topic_id(&self, topic: &str) -> Option<String> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// Whether a topic got another id since the last question. The log line stands in the queue before the first
    /// message of the new topic, so asking after each message is soon enough.
    pub(super) fn take_recreated(&self) -> bool {
        self.recreated.load(Ordering::Relaxed) && self.recreated.swap(false, Ordering::Relaxed)
    }

    fn note_id(&self, line: &str) {
        let Some((topic, old, new)) = changed_id(line) else {
            return;
        };
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ids.insert(topic.to_owned(), new.to_owned());
        // librdkafka forgets a topic that nobody reads just now, and then names no old id.
        if old != NO_ID || known.is_some_and(|known| known != new) {
            self.recreated.store(true, Ordering::Relaxed);
        }
    }
}

/// Reads `[thrd:main]: Topic <topic> changed id from <old> to <new>`. A later librdkafka may say it otherwise;
/// then ids are unknown, and fingerprints and watermarks must do (a test on a real broker would tell).
fn changed_id(line: &str) -> Option<(&str, &str, &str)> {
    let (_, rest) = line.split_once("Topic ")?;
    let (topic, rest) = rest.split_once(" changed id from ")?;
    let (old, new) = rest.split_once(" to ")?;
    Some((topic, old, new.trim()))
}

impl ClientContext for Callbacks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Debug => self.note_id(line),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {}
            RDKafkaLogLevel::Warning
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Emerg => tracing::debug!(facility, line, "librdkafka"),
        }
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.link.note(&error, reason);
    }

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.link.oauth_token()
    }
}

impl ConsumerContext for Callbacks {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "the group's offsets were not taken; our own cursors do not need them");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_is_read_from_the_log_and_a_change_is_told_once() {
        let callbacks = Callbacks::default();
        let line = |old: &str, new: &str| {
            format!("[thrd:main]: Topic mail changed id from {old} to {new}")
        };
        callbacks.note_id(&line(NO_ID, "Rk-1"));
        assert!(!callbacks.take_recreated());
        assert_eq!(callbacks.topic_id("mail").as_deref(), Some("Rk-1"));
        callbacks.note_id("[thrd:main]:   Topic mail [0] Leader 1 Epoch 0");
        assert!(!callbacks.take_recreated());
        callbacks.note_id(&line("Rk-1", "Rk-2"));
        assert!(callbacks.take_recreated());
        assert!(!callbacks.take_recreated());
        assert_eq!(callbacks.topic_id("mail").as_deref(), Some("Rk-2"));
    }
}
