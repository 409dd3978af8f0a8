//! What a Kafka client keeps about its line: the token it logs in with, and the last thing that went wrong,
//! which librdkafka tells in callbacks only. It decides nothing.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::OAuthToken;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use secrecy::ExposeSecret as _;

use super::access::Auth;
use super::token::{FixedToken, TokenProvider};
use super::trouble::{Trouble, code_of};
use crate::pipeline::port::AdapterError;

/// Shared by a client's callbacks and its owner.
#[derive(Default)]
pub struct Link {
    tokens: Option<Arc<dyn TokenProvider>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The worst of the last troubles, with librdkafka's sentence.
    trouble: Option<(Trouble, String)>,
    has_token: bool,
    token_refused: Option<String>,
}

impl Link {
    /// For a client that logs in so.
    #[must_use]
    pub fn new(auth: &Auth) -> Self {
        let tokens: Option<Arc<dyn TokenProvider>> = match auth {
            Auth::Token(secret) => Some(Arc::new(FixedToken(secret.clone()))),
            // Whose tenant it is, only the source knows.
            Auth::None
            | Auth::Tenant
            | Auth::ConnectionString(_)
            | Auth::Plain { .. }
            | Auth::ScramSha256 { .. }
            | Auth::ScramSha512 { .. } => None,
        };
        Self { tokens, state: Mutex::default() }
    }

    /// With tokens from elsewhere.
    #[must_use]
    pub fn with_tokens(tokens: Arc<dyn TokenProvider>) -> Self {
        Self { tokens: Some(tokens), state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For `ClientContext::generate_oauth_token`.
    ///
    /// # Errors
    /// If there is no token; the sentence is kept for [`Link::error`].
    pub fn oauth_token(&self) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let answer = match &self.tokens {
            Some(tokens) => tokens.token(),
            None => Err("no token is configured".to_owned()),
        };
        let mut state = self.state();
        match answer {
            Ok(token) => {
                state.has_token = true;
                state.token_refused = None;
                Ok(OAuthToken {
                    token: token.text.expose_secret().to_owned(),
                    principal_name: token.principal,
                    lifetime_ms: token.expires_ms,
                })
            }
            Err(sentence) => {
                state.token_refused = Some(sentence.clone());
                Err(sentence.into())
            }
        }
    }

    /// Whether a token is still to be fetched before anything can be asked.
    #[must_use]
    pub fn waits_for_token(&self) -> bool {
        let state = self.state();
        self.tokens.is_some() && !state.has_token && state.token_refused.is_none()
    }

    /// For `ClientContext::error`.
    pub fn note(&self, error: &KafkaError, reason: &str) {
        if code_of(error) == Code::PartitionEOF {
            return;
        }
        let trouble = Trouble::of(code_of(error), reason);
        tracing::debug!(?trouble, reason, "kafka client");
        let mut state = self.state();
        // "All brokers are down" follows the reason why and must not hide it.
        let rank = |trouble| match trouble {
            Trouble::Passing => 0,
            Trouble::Unreachable => 1,
            _ => 2,
        };
        let all_down = code_of(error) == Code::AllBrokersDown;
        let known = state.trouble.as_ref().map(|(known, _)| rank(*known));
        if known.is_none_or(|known| rank(trouble) >= known && !all_down) {
            state.trouble = Some((trouble, reason.to_owned()));
        }
    }

    /// The line works: what was noted is over.
    pub fn works(&self) {
        self.state().trouble = None;
    }

    /// What was noted last and is not over.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.state().trouble.as_ref().map(|(trouble, _)| *trouble)
    }

    /// The error to hand up for `error` while `tried`: the noted reason where it tells more.
    #[must_use]
    pub fn error(&self, error: &KafkaError, tried: &str, reads: bool) -> AdapterError {
        let own = Trouble::of(code_of(error), &error.to_string());
        let state = self.state();
        if let Some(sentence) = &state.token_refused {
            return Trouble::Login.error(tried, sentence, reads);
        }
        match (&state.trouble, own) {
            (Some((noted, reason)), Trouble::Unreachable | Trouble::Passing) => {
                noted.error(tried, reason, reads)
            }
            _ => own.error(tried, &error.to_string(), reads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Failure;

    #[test]
    fn the_reason_why_no_broker_answers_is_told_and_not_only_that_none_does() {
        let link = Link::default();
        link.note(&KafkaError::Global(Code::Authentication), "SASL authentication error: no");
        link.note(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        let timeout = KafkaError::MetadataFetch(Code::OperationTimedOut);
        let told = link.error(&timeout, "connecting", true);
        assert_eq!(told.failure, Failure::Hold);
        assert!(told.message.contains("SASL authentication error"), "{}", told.message);
        link.works();
        let refused = KafkaError::Global(Code::BrokerTransportFailure);
        link.note(&refused, "connection refused");
        link.note(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        let told = link.error(&timeout, "connecting", true);
        assert!(matches!(told.failure, Failure::Retry(_)));
        assert!(told.message.contains("connection refused"), "{}", told.message);
    }
}
