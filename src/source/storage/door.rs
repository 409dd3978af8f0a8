//! The one way to the account: the SDK's requests go through Postern's own HTTP client, which has deadlines and
//! caps, follows no redirect and prints no query. What shows who we are is added here, at the last moment, so that
//! the SDK never sees it and cannot print it either. It does not know blobs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::Headers;
use azure_core::http::request::Body;
use azure_core::http::{
    AsyncRawResponse, ClientOptions, Request, RetryOptions, StatusCode, Transport,
};
use azure_storage_blob::{BlobContainerClient, BlobContainerClientOptions};
use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use super::{StorageAuth, StorageConfig, sas};
use crate::cloud::http::{HttpClient, HttpError, configured_url, place_of, sensitive};
use crate::cloud::tenant::{TenantAccess, Workload};
use crate::domain::{Failure, Ticks};
use crate::journal::Clock;
use crate::pipeline::port::AdapterError;

/// See the module.
pub(super) struct Door {
    client: HttpClient,
    tenant: TenantAccess,
    clock: Arc<dyn Clock>,
    auth: StorageAuth,
    /// The account's name, which signatures name.
    account: String,
    /// The address of its blobs.
    home: Url,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// A signature of our own, and until when it lasts.
    signature: Option<(Arc<SecretString>, Ticks)>,
    /// The account's own time when it answered last, and our monotonic clock then.
    date: Option<(Ticks, Duration)>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("home", &self.home.as_str()).finish_non_exhaustive()
    }
}

impl Door {
    pub(super) fn new(
        config: &StorageConfig,
        tenant: &TenantAccess,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AdapterError> {
        let wrong = |message: String| AdapterError::new(Failure::Hold, message);
        let named = config.account.trim();
        let address = if named.contains("://") {
            named.to_owned()
        } else if !named.is_empty() && named.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            format!("https://{named}.{}", tenant.config().cloud.blob_suffix())
        } else {
            return Err(wrong(format!(
                "`account` is {named:?}, expected the account's name or its address"
            )));
        };
        let home = configured_url(&address).map_err(|why| wrong(format!("account: {why}")))?;
        if home.query().is_some() {
            return Err(wrong(
                "`account` has a query; a signature belongs to auth.sas_url".to_owned(),
            ));
        }
        // Emulators have the account in the path, the service in the host's name.
        let in_path = home.path_segments().and_then(|mut parts| parts.next()).unwrap_or_default();
        let in_host = home.host_str().and_then(|host| host.split('.').next()).unwrap_or_default();
        let account = if in_path.is_empty() { in_host } else { in_path }.to_owned();
        let client = HttpClient::new(tenant.config().http.clone(), Arc::clone(&clock))
            .map_err(|error| error.during("making the HTTP client"))?;
        let auth = config.auth.clone();
        let tenant = tenant.clone();
        Ok(Self { client, tenant, clock, auth, account, home, state: Mutex::default() })
    }

    /// The SDK's client for a container.
    pub(super) fn container(
        door: &Arc<Self>,
        name: &str,
    ) -> Result<BlobContainerClient, AdapterError> {
        let mut url = door.home.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().push(name);
        }
        let transport: Arc<dyn azure_core::http::HttpClient> = Arc::clone(door) as _;
        let options = BlobContainerClientOptions {
            client_options: ClientOptions {
                transport: Some(Transport::new(transport)),
                // The pipeline waits, and it knows how long.
                retry: RetryOptions::none(),
                ..ClientOptions::default()
            },
            ..BlobContainerClientOptions::default()
        };
        BlobContainerClient::new(url, None, Some(options)).map_err(|error| {
            AdapterError::because(Failure::Hold, format!("container {name} has no address"), error)
        })
    }

    /// The account, as a person knows it.
    pub(super) fn place(&self) -> String {
        place_of(&self.home)
    }

    /// The account's own time, or ours while it has not answered yet.
    pub(super) fn now(&self) -> Ticks {
        let date = self.state.lock().unwrap_or_else(PoisonError::into_inner).date;
        date.map_or_else(
            || self.clock.now(),
            |(date, then)| {
                let since = self.clock.monotonic().saturating_sub(then).as_secs();
                date.plus_seconds(i64::try_from(since).unwrap_or_default())
            },
        )
    }

    /// Makes the next request come with a new signature.
    pub(super) fn forget_signature(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).signature = None;
    }

    /// The query that shows who we are; `None` where a token does.
    fn signature(&self) -> Result<Option<Arc<SecretString>>, String> {
        match &self.auth {
            StorageAuth::Tenant => Ok(None),
            StorageAuth::SasUrl(secret) => {
                let text = secret.read().map_err(|error| error.to_string())?;
                sas::of_url(&text, &self.home).map(|signature| Some(Arc::new(signature)))
            }
            StorageAuth::AccountKey(secret) => {
                let now = self.now();
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((signature, until)) = &state.signature
                    && now < until.plus_seconds(-sas::RENEW_SECONDS)
                {
                    return Ok(Some(Arc::clone(signature)));
                }
                let key = secret.read().map_err(|error| error.to_string())?;
                let until = now.plus_seconds(sas::LASTS_SECONDS);
                let signature = Arc::new(sas::of_key(&self.account, &key, until)?);
                state.signature = Some((Arc::clone(&signature), until));
                Ok(Some(signature))
            }
        }
    }

    async fn send(&self, request: &Request) -> Result<AsyncRawResponse, HttpError> {
        let unbuilt = |detail: String| HttpError::Unbuilt { place: self.place(), detail };
        let mut url = request.url().clone();
        if url.origin() != self.home.origin() {
            return Err(unbuilt(format!("{} is another place", place_of(&url))));
        }
        let signature = self.signature().map_err(unbuilt)?;
        if let Some(signature) = &signature {
            let query = match url.query() {
                Some(query) if !query.is_empty() => {
                    format!("{query}&{}", signature.expose_secret())
                }
                _ => signature.expose_secret().to_owned(),
            };
            url.set_query(Some(&query));
        }
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|error| unbuilt(error.to_string()))?;
        let mut sent = self.client.request(method, &url);
        for (name, value) in request.headers().iter() {
            sent = sent.header(name.as_str(), value.as_str());
        }
        if signature.is_none() {
            let scope = self.tenant.scope(Workload::Storage);
            let token =
                self.tenant.token_for(&scope).await.map_err(|error| HttpError::NoToken {
                    place: self.place(),
                    failure: error.failure,
                    detail: error.to_string(),
                })?;
            let bearer = SecretString::from(format!("Bearer {}", token.text.expose_secret()));
            let bearer = sensitive(&bearer).map_err(unbuilt)?;
            sent = sent.header(reqwest::header::AUTHORIZATION, bearer);
        }
        // Offsets count the bytes as they are stored.
        sent = sent.header(reqwest::header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Body::Bytes(bytes) = request.body()
            && !bytes.is_empty()
        {
            sent = sent.body(bytes.to_vec());
        }
        let answer = self.client.send(sent).await?;
        if let Some(date) = answer.date {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.date = Some((date, self.clock.monotonic()));
        }
        let mut headers = Headers::new();
        for (name, value) in &answer.headers {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(AsyncRawResponse::from_bytes(StatusCode::from(answer.status), headers, answer.body))
    }
}

#[async_trait]
impl azure_core::http::HttpClient for Door {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.send(request).await.map_err(|error| Error::new(ErrorKind::Other, error))
    }
}
