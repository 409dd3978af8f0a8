//! One tenant's way into Microsoft's APIs: where they are, who asks, and the one door through which every request
//! with a token goes. It knows no API's meaning.

mod cloud;
mod config;
mod gate;

use std::sync::Arc;
use std::time::Duration;

use azure_core::Uuid;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret as _, SecretString};

pub use self::cloud::Cloud;
pub use self::config::{Budgets, Credential, Endpoints, TenantConfig};
use self::gate::Gate;
use super::http::{Answer, HttpClient, HttpError, configured_url, place_of, sensitive};
use crate::domain::Failure;
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
        let token = self.token().map_err(|detail| HttpError::NoToken {
            place: place_of(home),
            detail,
            failure: Failure::Hold,
        })?;
        self.attempt(workload, &ask, &token).await
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

    fn token(&self) -> Result<SecretString, String> {
        match &self.shared.config.credential {
            Some(Credential::Token(secret)) => secret.read().map_err(|error| error.to_string()),
            None => Err("the tenant has no credential".to_owned()),
        }
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
