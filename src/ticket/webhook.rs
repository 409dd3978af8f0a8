//! Far end `webhook`: any receiver of Standard Webhooks 1.0. The external key is the `webhook-id`, the same on
//! each attempt, by which the receiver recognizes what it has already. Whether a receiver does so is its promise,
//! not ours.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::far_end::{FarEnd, FarEndError, Ticket};
use crate::cloud::http::{
    Acted, HttpClient, HttpConfig, HttpError, configured_url, place_of, sensitive,
};
use crate::cloud::plain;
use crate::cloud::secret::Secret;
use crate::domain::{DeadLetterReason, Failure};
use crate::journal::Clock;
use crate::pipeline::AdapterError;

/// How a signing secret begins.
const PREFIX: &str = "whsec_";

/// Shortest signing secret in base64 digits: 24 bytes, as the standard asks.
const SECRET_DIGITS: usize = 32;

/// Configuration of the far end `webhook`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where tickets are posted to. Plain `http` and private hosts are allowed: the configuration is trusted.
    /// Redirects are never followed.
    pub url: String,
    /// The signing secrets, `whsec_…`. Every one signs, so that a receiver can move from an old one to a new one;
    /// read again on each attempt. At least one.
    pub secrets: Vec<Secret>,
    /// The whole value of an `Authorization` header, for receivers that want one beside the signature. Default
    /// none.
    #[serde(default)]
    pub authorization: Option<Secret>,
    /// Deadlines, private authority, proxy.
    #[serde(default)]
    pub http: HttpConfig,
}

/// The far end.
pub struct Webhook {
    config: WebhookConfig,
    url: Url,
    client: HttpClient,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("place", &place_of(&self.url)).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Makes it; connects to nothing and reads no secret.
    ///
    /// # Errors
    /// If the URL, the list of secrets or a certificate file is no good.
    pub fn new(config: WebhookConfig, clock: Arc<dyn Clock>) -> Result<Self, AdapterError> {
        let wrong = |detail: String| AdapterError::new(Failure::Hold, format!("webhook: {detail}"));
        let url = configured_url(&config.url).map_err(|detail| wrong(format!("url: {detail}")))?;
        if config.secrets.is_empty() {
            return Err(wrong("secrets: at least one is needed to sign".to_owned()));
        }
        let client = HttpClient::new(config.http.clone(), Arc::clone(&clock))
            .map_err(|error| error.during("setting up the webhook"))?;
        Ok(Self { config, url, client, clock })
    }

    /// The `webhook-signature` header: one signature for each secret.
    fn signatures(&self, id: &str, timestamp: i64, body: &[u8]) -> Result<HeaderValue, String> {
        let mut signatures = Vec::with_capacity(self.config.secrets.len());
        for secret in &self.config.secrets {
            let secret = secret.read().map_err(|error| error.to_string())?;
            signatures.push(sign(&secret, id, timestamp, body)?);
        }
        HeaderValue::from_str(&signatures.join(" ")).map_err(|error| error.to_string())
    }

    fn request(&self, ticket: Ticket<'_>) -> Result<reqwest::RequestBuilder, String> {
        let timestamp = self.clock.now().as_seconds();
        let mut request = self
            .client
            .request(Method::POST, &self.url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-id", ticket.key)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.signatures(ticket.key, timestamp, ticket.body)?);
        if let Some(secret) = &self.config.authorization {
            let secret = secret.read().map_err(|error| error.to_string())?;
            request = request.header(AUTHORIZATION, sensitive(&secret)?);
        }
        Ok(request.body(ticket.body.to_vec()))
    }
}

/// One `v1` signature over `{id}.{timestamp}.{body}`.
fn sign(secret: &SecretString, id: &str, timestamp: i64, body: &[u8]) -> Result<String, String> {
    // The messages show nothing of the secret.
    let digits = secret
        .expose_secret()
        .strip_prefix(PREFIX)
        .ok_or_else(|| format!("a signing secret begins with {PREFIX}"))?;
    if digits.len() < SECRET_DIGITS {
        return Err("a signing secret has at least 24 bytes".to_owned());
    }
    let signer = standardwebhooks::Webhook::new(digits)
        .map_err(|_| "a signing secret is base64 after its prefix".to_owned())?;
    signer.sign(id, timestamp, body).map_err(|error| error.to_string())
}

#[async_trait]
impl FarEnd for Webhook {
    fn idempotent(&self) -> bool {
        true
    }

    fn look_up_lag(&self) -> Option<Duration> {
        None
    }

    async fn create(&mut self, ticket: Ticket<'_>) -> Result<String, FarEndError> {
        let request = self.request(ticket).map_err(|detail| FarEndError {
            failure: Failure::Hold,
            acted: Acted::No,
            whole: true,
            reason: DeadLetterReason::SinkRejected,
            detail: format!("cannot sign for {}: {detail}", place_of(&self.url)),
        })?;
        let answer = self.client.send(request).await;
        match answer {
            Ok(answer) => {
                let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
                Ok(location.map(|text| plain::plain(text, 500)).unwrap_or_default())
            }
            // Accepted; what it says about that is too long or garbled, and nobody needs it.
            Err(HttpError::TooLarge { .. } | HttpError::Encoding { .. }) => Ok(String::new()),
            Err(error) => Err(error.into()),
        }
    }

    async fn look_up(&mut self, _key: &str) -> Result<Option<String>, FarEndError> {
        Ok(None)
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        self.signatures("probe", 0, b"{}").map_err(|detail| {
            AdapterError::new(Failure::Hold, format!("cannot sign for the webhook: {detail}"))
        })?;
        let answer = self.client.send(self.client.request(Method::HEAD, &self.url)).await;
        let status = match answer {
            Ok(answer) => answer.status,
            // It is there; whether it takes a POST shows when one comes.
            Err(HttpError::Status { status: status @ (400 | 404 | 405 | 501), .. }) => status,
            Err(error) => return Err(error.during("asking the webhook for its head")),
        };
        let place = place_of(&self.url);
        Ok(format!("{place} answers ({status} to HEAD) and there is a secret to sign with"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The known answer that the standard's own libraries are tested with.
    #[test]
    fn the_signature_is_the_one_that_the_standard_gives_as_an_example() {
        let signature = sign(
            &SecretString::from(SECRET),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            b"{\"test\": 2432232314}",
        );
        assert_eq!(signature.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn weak_and_malformed_secrets_are_refused_without_being_shown() {
        for secret in ["canary", "whsec_canary", "whsec_canary-canary-canary-canary-canary!"] {
            let error = sign(&SecretString::from(secret), "id", 0, b"{}").unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_webhook_without_a_secret_or_with_an_odd_url_is_refused() {
        let config = |url: &str, secrets| WebhookConfig {
            url: url.to_owned(),
            secrets,
            authorization: None,
            http: HttpConfig::default(),
        };
        let secrets = vec![Secret::Env("HOOK".to_owned())];
        let clock: Arc<dyn Clock> = Arc::new(crate::journal::SystemClock::default());
        for config in [
            config("https://hooks.contoso.example/", Vec::new()),
            config("hooks.contoso.example", secrets.clone()),
        ] {
            let error = Webhook::new(config, Arc::clone(&clock)).unwrap_err();
            assert_eq!(error.failure, Failure::Hold);
        }
        Webhook::new(config("http://127.0.0.1:1/x", secrets), clock).unwrap();
    }
}
