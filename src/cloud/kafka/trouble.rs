//! What librdkafka's errors mean to us: a small closed list, a sentence that says what to do, and what the
//! pipeline should do about it. Nothing here retries.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::domain::Failure;
use crate::pipeline::port::AdapterError;

/// How soon to look whether a line works again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What is wrong, as far as it matters for what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No connection, or it broke.
    Unreachable,
    /// The other side's certificate, or ours, is not accepted.
    Certificate,
    /// The login is refused.
    Login,
    /// Logged in, but not allowed to do this.
    Rights,
    /// There is no such topic (hub) or partition.
    MissingTopic,
    /// A record is larger than the far end takes.
    TooLarge,
    /// A setting or the cluster's version does not go with what is asked.
    Settings,
    /// The far end asks for patience.
    Throttled,
    /// Another producer with the same identity has taken over.
    Fenced,
    /// The offset asked for is not there.
    OffsetGone,
    /// Something passing: an election, a coordinator on the move, a broker starting.
    Passing,
}

/// The code inside an error, if it has one.
#[must_use]
pub fn code_of(error: &KafkaError) -> Code {
    match error {
        KafkaError::Transaction(inner) => inner.code(),
        // An admin operation or a client that could not even be made says what is wrong in words only.
        other => other.rdkafka_error_code().unwrap_or(Code::Fail),
    }
}

impl Trouble {
    /// Sorts a code; `reason` is librdkafka's sentence, which alone tells a bad certificate from a cut line.
    ///
    /// librdkafka's list is open, so the last arm is a decision: what nobody has listed passes by itself.
    #[must_use]
    pub fn of(code: Code, reason: &str) -> Self {
        match code {
            Code::SSL if names_certificate(reason) => Self::Certificate,
            // A broker that goes down in the middle of a handshake also says SSL.
            Code::SSL
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::BrokerNotAvailable
            | Code::NetworkException
            | Code::BrokerDestroy
            | Code::DestroyBroker => {
                if names_certificate(reason) {
                    Self::Certificate
                } else {
                    Self::Unreachable
                }
            }
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::IllegalSASLState
            | Code::UnacceptableCredential
            | Code::PrincipalDeserializationFailure => Self::Login,
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed => Self::Rights,
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopicId
            | Code::InvalidTopic => Self::MissingTopic,
            Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
                Self::TooLarge
            }
            Code::UnsupportedSASLMechanism
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::UnsupportedCompressionType
            | Code::UnsupportedForMessageFormat
            | Code::SecurityDisabled
            | Code::InvalidArgument
            | Code::InvalidConfig
            | Code::InvalidRequest
            | Code::InvalidRequiredAcks
            | Code::InvalidTransactionTimeout
            | Code::InvalidReplicationFactor
            | Code::PolicyViolation
            | Code::NotConfigured
            | Code::NotImplemented => Self::Settings,
            Code::ThrottlingQuotaExceeded => Self::Throttled,
            Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::FencedInstanceId => Self::Fenced,
            Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::LogTruncation => {
                Self::OffsetGone
            }
            _ => Self::Passing,
        }
    }

    /// What the pipeline should do about it.
    #[must_use]
    pub const fn failure(self) -> Failure {
        match self {
            // Certificates, logins, rights, topics and settings get right only when somebody puts them right.
            Self::Certificate
            | Self::Login
            | Self::Rights
            | Self::MissingTopic
            | Self::TooLarge
            | Self::Settings => Failure::Hold,
            // librdkafka connects again by itself and backs off on its own: a growing pause on top of that would
            // only keep us away from a broker that is back.
            Self::Unreachable | Self::Passing => Failure::Retry(Some(LOOK_AGAIN)),
            Self::Throttled | Self::Fenced | Self::OffsetGone => Failure::Retry(None),
        }
    }

    /// What a person can do about it, for either direction.
    const fn advice(self, reads: bool) -> &'static str {
        match (self, reads) {
            (Self::Unreachable, true) => {
                "check the address and that port 9093 (Kafka) is open outbound; where it cannot be opened, use \
                 a `storage` source, which needs only HTTPS"
            }
            (Self::Unreachable, false) => "check the address and that the port is open outbound",
            (Self::Certificate, _) => {
                "the brokers' certificate is not signed by an authority that is trusted here, or is for another \
                 name: set `ca_file`, or use the name in the certificate"
            }
            (Self::Login, true) => {
                "check the connection string (whole, the right policy's key, its EntityPath) or the token; the \
                 Basic tier of Event Hubs has no Kafka endpoint"
            }
            (Self::Login, false) => {
                "check the user and password, the connection string or the token"
            }
            (Self::Rights, true) => {
                "the policy needs the Listen claim, or the identity the role Azure Event Hubs Data Receiver on \
                 the namespace or hub; on Kafka: Read and Describe on the topic, Read on the group; the Basic \
                 tier of Event Hubs answers so to everybody"
            }
            (Self::Rights, false) => {
                "it needs Write and Describe on the topic and the cursor topic, Read on the cursor topic, Write \
                 and Describe on the transactional id, and Create on the cluster if topics are to be created"
            }
            (Self::MissingTopic, true) => {
                "check the hub's name; hubs named by Defender appear with their first event, and nothing is \
                 created from here"
            }
            (Self::MissingTopic, false) => "create it, or set `create_topics = true`",
            (Self::TooLarge, _) => "raise max.message.bytes on the topic, or shorten the records",
            (Self::Settings, true) => "check the settings against what the cluster offers",
            (Self::Settings, false) => {
                "the cluster does not offer what is asked; where it has no transactions, set \
                 `delivery = \"at_least_once\"`; Event Hubs takes no compression but gzip"
            }
            (Self::Throttled, _) => {
                "the quota is used up; it goes on by itself, more throughput units help"
            }
            (Self::Fenced, _) => "another process uses the same transactional id",
            (Self::OffsetGone | Self::Passing, _) => "it goes on by itself",
        }
    }

    /// The error for the pipeline: what was tried, what came back, what to do.
    #[must_use]
    pub fn error(self, tried: &str, detail: &str, reads: bool) -> AdapterError {
        let advice = self.advice(reads);
        AdapterError::new(self.failure(), format!("{tried}: {detail} ({advice})"))
    }
}

fn names_certificate(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["certificate", "verify failed", "unknown ca", "self-signed"]
        .iter()
        .any(|sign| reason.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: Code, reason: &str, trouble: Trouble, failure: Failure) {
        assert_eq!(Trouble::of(code, reason), trouble, "{code:?}");
        assert_eq!(trouble.failure(), failure, "{code:?}");
    }

    #[test]
    fn what_only_a_person_can_put_right_is_held_and_what_passes_is_retried() {
        let again = Failure::Retry(Some(LOOK_AGAIN));
        check(Code::TopicAuthorizationFailed, "", Trouble::Rights, Failure::Hold);
        check(Code::Authentication, "", Trouble::Login, Failure::Hold);
        check(Code::SSL, "certificate verify failed", Trouble::Certificate, Failure::Hold);
        check(Code::SSL, "handshake failed: EOF", Trouble::Unreachable, again);
        check(Code::UnknownTopicOrPartition, "", Trouble::MissingTopic, Failure::Hold);
        check(Code::AllBrokersDown, "", Trouble::Unreachable, again);
        check(Code::NotLeaderForPartition, "", Trouble::Passing, again);
        check(Code::OffsetOutOfRange, "", Trouble::OffsetGone, Failure::Retry(None));
    }

    #[test]
    fn a_refusal_names_the_missing_role_and_a_closed_port_names_the_other_way() {
        let refused = Trouble::Rights.error("reading hub x", "denied", true).message;
        assert!(refused.contains("Azure Event Hubs Data Receiver"), "{refused}");
        assert!(refused.contains("Basic"), "{refused}");
        let closed = Trouble::Unreachable.error("connecting", "timed out", true).message;
        assert!(closed.contains("9093") && closed.contains("`storage`"), "{closed}");
    }
}
