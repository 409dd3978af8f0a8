//! How the Azure SDK reaches the network here: through our HTTP client, with its deadlines, caps, authorities and
//! proxy, and without redirects. It also keeps what went wrong, since the SDK's own errors say less.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient as SdkClient, Request};
use reqwest::header::RETRY_AFTER;

use super::aadsts::Refusal;
use crate::cloud::http::{HttpClient, HttpError};
use crate::domain::Ticks;
use crate::pipeline::backoff::retry_after;

/// One acquisition's way to the network.
#[derive(Debug)]
pub(super) struct Transport {
    client: HttpClient,
    trouble: Mutex<Option<Trouble>>,
}

/// What went wrong last.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No answer.
    Network(HttpError),
    /// An answer that is no token.
    Refused(Refusal),
}

impl Transport {
    pub(super) const fn new(client: HttpClient) -> Self {
        Self { client, trouble: Mutex::new(None) }
    }

    /// What went wrong last, if anything did.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, trouble: Option<Trouble>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

#[async_trait]
impl SdkClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|error| Error::with_message(ErrorKind::Other, error.to_string()))?;
        let mut ours = self.client.request(method, request.url());
        for (name, value) in request.headers().iter() {
            ours = ours.header(name.as_str(), value.as_str());
        }
        match request.body() {
            Body::Bytes(bytes) => ours = ours.body(bytes.clone()),
            Body::SeekableStream(_) => {
                let message = "a request for a token has no stream";
                return Err(Error::with_message(ErrorKind::Other, message));
            }
        }
        let answer = match self.client.any_answer(ours).await {
            Ok(answer) => answer,
            Err(error) => {
                let kind = match &error {
                    HttpError::Connect { .. } => ErrorKind::Connection,
                    _ => ErrorKind::Io,
                };
                let message = error.to_string();
                self.note(Some(Trouble::Network(error)));
                return Err(Error::with_message(kind, message));
            }
        };
        let asked = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let now = answer.date.unwrap_or(Ticks(0));
        self.note((!(200..=299).contains(&answer.status)).then(|| {
            Trouble::Refused(Refusal::read(answer.status, &answer.body, retry_after(asked, now)))
        }));
        let mut headers = Headers::new();
        for (name, value) in &answer.headers {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(AsyncRawResponse::from_bytes(answer.status.into(), headers, answer.body))
    }
}
