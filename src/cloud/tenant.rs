//! One tenant's way into Microsoft's APIs: where they are, who asks, and the one door through which every request
//! with a token goes. It knows no API's meaning.

mod cloud;
mod config;
mod gate;
mod need;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::Uuid;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error as SdkError, ErrorKind};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret as _, SecretString};

pub use self::cloud::Cloud;
pub use self::config::{
    Budgets, Credential, Day, Endpoints, ManagedIdentity, Scopes, TenantConfig,
};
use self::gate::Gate;
pub use self::need::Need;
use super::http::{Answer, HttpClient, HttpError, configured_url, place_of, sensitive};
use super::identity::{Identity, NoToken, Token};
use crate::domain::{Failure, Ticks};
use crate::journal::Clock;
use crate::pipeline::AdapterError;

/// A hunting query may run for three minutes before its answer begins, and 50 MB follow.
const HUNTING_HEADER: Duration = Duration::from_secs(200);
const HUNTING_TOTAL: Duration = Duration::from_secs(300);

/// An API of Microsoft's, with an address, a token and a budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// Graph's incidents and alerts.
    Graph,
    /// Graph's advanced hunting: the same address and token as [`Workload::Graph`], another budget.
    Hunting,
    /// The Office 365 Management Activity API.
    Activity,
    /// Blob storage. Its address is the account's, so it is the source's own key.
    Storage,
}

/// A request to one of the APIs; the token is added at the door.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// The whole URL: below the workload's address, or a link that passed [`TenantAccess::link`].
    pub url: Url,
    /// Headers beside those that every request has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body, sent as `application/json; charset=utf-8` where there is one.
    pub body: Option<Vec<u8>>,
}

impl Ask {
    /// A GET without anything special.
    #[must_use]
    pub const fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: Vec::new(), body: None }
    }
}

/// The door. Cheap to clone; tokens, budgets and connections are shared by all sources of the tenant.
#[derive(Debug, Clone)]
pub struct TenantAccess {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: TenantConfig,
    id: Arc<str>,
    graph: Url,
    activity: Url,
    graph_gate: Gate,
    hunting_gate: Gate,
    activity_gate: Gate,
    identity: Identity,
    client: HttpClient,
    hunting_client: HttpClient,
}

impl TenantAccess {
    /// Builds it; connects to nothing.
    ///
    /// # Errors
    /// If an address or the HTTP settings are no good.
    pub fn new(config: &TenantConfig, clock: Arc<dyn Clock>) -> Result<Self, AdapterError> {
        let client = HttpClient::new(config.http.clone(), Arc::clone(&clock))
            .map_err(|error| error.during("making the HTTP client"))?;
        let url = |own: &Option<String>, usual: &str, what: &str| {
            configured_url(own.as_deref().unwrap_or(usual))
                .map_err(|why| AdapterError::new(Failure::Hold, format!("{what}: {why}")))
        };
        let gate = |per_minute| Gate::new(per_minute, Arc::clone(&clock));
        let (cloud, endpoints) = (config.cloud, &config.endpoints);
        Ok(Self {
            shared: Arc::new(Shared {
                id: config.id.to_ascii_lowercase().into(),
                graph: url(&endpoints.graph, cloud.graph(), "endpoints.graph")?,
                activity: url(&endpoints.activity, cloud.activity(), "endpoints.activity")?,
                graph_gate: gate(config.budgets.graph_per_minute),
                hunting_gate: gate(config.budgets.hunting_per_minute),
                activity_gate: gate(config.budgets.activity_per_minute),
                hunting_client: client.patient(HUNTING_HEADER, HUNTING_TOTAL),
                identity: Identity::new(config, &client, clock)?,
                client,
                config: config.clone(),
            }),
        })
    }

    /// The Entra tenant id, lower-case.
    #[must_use]
    pub fn tenant_id(&self) -> &Arc<str> {
        &self.shared.id
    }

    /// The address of a workload: scheme, host and port. Storage has none here.
    #[must_use]
    pub fn endpoint(&self, workload: Workload) -> &Url {
        match workload {
            Workload::Graph | Workload::Hunting | Workload::Storage => &self.shared.graph,
            Workload::Activity => &self.shared.activity,
        }
    }

    /// The tenant as configured.
    #[must_use]
    pub fn config(&self) -> &TenantConfig {
        &self.shared.config
    }

    /// A link that the far end gave (a next page, a blob): taken only with the scheme, host and port of the
    /// workload's own address, and without a user, since the token goes with it.
    ///
    /// # Errors
    /// [`Failure::Hold`] if it leads elsewhere; the text does not show its path or query.
    pub fn link(&self, workload: Workload, text: &str) -> Result<Url, AdapterError> {
        let refused = |message: String| AdapterError::new(Failure::Hold, message);
        let home = self.endpoint(workload);
        // What a URL may not contain, and what parsers disagree about: some drop it, some read it as a slash.
        if text.chars().any(|c| c.is_control() || c == '\\') {
            return Err(refused(
                "a link that the far end gave has characters that no link has: not followed"
                    .to_owned(),
            ));
        }
        let link = home
            .join(text)
            .map_err(|error| refused(format!("a link that the far end gave is no URL: {error}")))?;
        if !same_place(&link, home) {
            let (link, home) = (place_of(&link), place_of(home));
            return Err(refused(format!(
                "the far end gave a link to {link}, expected one to {home}: not followed"
            )));
        }
        Ok(link)
    }

    /// Sends one request with the tenant's token and reads the whole answer. It waits for the workload's budget
    /// first, up to a minute. One attempt; a second one, with a new token, where the first is answered 401.
    ///
    /// # Errors
    /// As [`HttpClient::send`]; [`HttpError::NotNow`] while the far end is to be left alone,
    /// [`HttpError::NoToken`] where there is no token, [`HttpError::Unbuilt`] also where the URL is not the
    /// workload's or the cloud does not have the workload.
    pub async fn send(&self, workload: Workload, ask: Ask) -> Result<Answer, HttpError> {
        let home = self.endpoint(workload);
        let unbuilt = |detail: String| HttpError::Unbuilt { place: place_of(home), detail };
        if let Some(why) = self.shared.config.lacks(workload) {
            return Err(unbuilt(why.to_owned()));
        }
        if !same_place(&ask.url, home) {
            return Err(unbuilt(format!("{} is another place", place_of(&ask.url))));
        }
        let scope = self.scope(workload);
        let identity = &self.shared.identity;
        let no_token = |error: NoToken| error.for_request(place_of(home));
        let token = identity.token(&scope).await.map_err(no_token)?;
        let answer = self.attempt(workload, &ask, &token.text).await;
        match answer.as_ref().err().filter(|error| !error.throttled()).and_then(HttpError::status) {
            Some(401) if identity.refused(&scope, &token.text) => {
                let token = identity.token(&scope).await.map_err(no_token)?;
                self.attempt(workload, &ask, &token.text).await
            }
            Some(403) => {
                identity.doubted(&scope);
                answer
            }
            _ => answer,
        }
    }

    /// Asks the address of `workload` for anything at all, without a token: whether it can be reached, and what
    /// time it is there.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn look(&self, workload: Workload) -> Result<Option<Ticks>, HttpError> {
        let request = self.shared.client.request(Method::GET, self.endpoint(workload));
        Ok(self.shared.client.any_answer(request).await?.date)
    }

    /// What tokens for `workload` are asked for.
    #[must_use]
    pub fn scope(&self, workload: Workload) -> String {
        let scopes = &self.shared.config.scopes;
        let own = match workload {
            Workload::Graph | Workload::Hunting => &scopes.graph,
            Workload::Activity => &scopes.activity,
            Workload::Storage => &scopes.storage,
        };
        own.clone().unwrap_or_else(|| self.shared.config.cloud.scope(workload))
    }

    /// A token for any scope (`<resource>/.default`), for libraries that send requests themselves.
    ///
    /// # Errors
    /// Why there is none, and what to do about it.
    pub async fn token_for(&self, scope: &str) -> Result<Token, NoToken> {
        self.shared.identity.token(scope).await
    }

    /// When the tenant's credential expires, as far as that is known. It may read a file.
    #[must_use]
    pub fn credential_expires(&self) -> Option<Ticks> {
        self.shared.identity.expires()
    }

    /// One attempt, through the workload's gate.
    async fn attempt(
        &self,
        workload: Workload,
        ask: &Ask,
        token: &SecretString,
    ) -> Result<Answer, HttpError> {
        let home = self.endpoint(workload);
        let unbuilt = |detail: String| HttpError::Unbuilt { place: place_of(home), detail };
        let bearer = SecretString::from(format!("Bearer {}", token.expose_secret()));
        let mut request = self.shared.client.request(ask.method.clone(), &ask.url);
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &ask.body {
            request = request
                .header(reqwest::header::CONTENT_TYPE, "application/json; charset=utf-8")
                .body(body.clone());
        }
        let request = request
            .header(AUTHORIZATION, sensitive(&bearer).map_err(unbuilt)?)
            .header(reqwest::header::ACCEPT, "application/json")
            .header("client-request-id", Uuid::new_v4().to_string());
        let pass = match self.gate(workload) {
            Some(gate) => Some(gate.enter().await.map_err(|not_now| HttpError::NotNow {
                place: place_of(home),
                reason: not_now.reason.to_string(),
                after: not_now.after,
            })?),
            None => None,
        };
        let answer = self.client(workload).send(request).await;
        if let Some(pass) = pass {
            pass.settle(&answer);
        }
        answer
    }

    fn client(&self, workload: Workload) -> &HttpClient {
        match workload {
            Workload::Hunting => &self.shared.hunting_client,
            Workload::Graph | Workload::Activity | Workload::Storage => &self.shared.client,
        }
    }

    fn gate(&self, workload: Workload) -> Option<&Gate> {
        match workload {
            Workload::Graph => Some(&self.shared.graph_gate),
            Workload::Hunting => Some(&self.shared.hunting_gate),
            Workload::Activity => Some(&self.shared.activity_gate),
            // Its library has its own way to the network.
            Workload::Storage => None,
        }
    }
}

/// The tenant as the Azure SDK's clients want it.
#[async_trait]
impl TokenCredential for TenantAccess {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let refused = |why: String| SdkError::with_message(ErrorKind::Credential, why);
        let [scope] = scopes else {
            return Err(refused(format!("expected one scope, got {}", scopes.len())));
        };
        let token = self.token_for(scope).await.map_err(|error| refused(error.to_string()))?;
        let ends = std::time::SystemTime::now() + token.lives;
        Ok(AccessToken::new(token.text.expose_secret().to_owned(), ends.into()))
    }
}

/// Whether a token for `home` may go to `url`: scheme, host and port are the same, and nobody is named in front.
fn same_place(url: &Url, home: &Url) -> bool {
    url.origin() == home.origin() && url.username().is_empty() && url.password().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::SystemClock;

    #[test]
    fn a_link_to_another_place_is_not_followed() {
        let config: TenantConfig =
            serde_json::from_str(r#"{"id":"9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a"}"#).unwrap();
        let access = TenantAccess::new(&config, Arc::new(SystemClock::default())).unwrap();
        let link = |text| access.link(Workload::Graph, text);
        link("https://graph.microsoft.com/v1.0/security/incidents?$skip=50").unwrap();
        link("/v1.0/security/incidents").unwrap();
        for text in [
            "http://graph.microsoft.com/x",
            "https://graph.microsoft.com:444/x",
            "https://graph.microsoft.com.contoso.example/x",
            "https://user@graph.microsoft.com/x",
            "//graph.contoso.example/x",
        ] {
            assert_eq!(link(text).unwrap_err().failure, Failure::Hold, "{text}");
        }
    }
}
