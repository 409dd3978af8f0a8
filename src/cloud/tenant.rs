//! One tenant's way into Microsoft's APIs: where they are, who asks, and the one door through which every request
//! with a token goes. It knows no API's meaning.

use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::http::{Answer, HttpClient, HttpConfig, HttpError, configured_url, place_of, sensitive};
use super::secret::Secret;
use crate::domain::Failure;
use crate::journal::Clock;
use crate::pipeline::AdapterError;

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

/// `[tenant.<name>]`: one Entra tenant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// The tenant's id as Entra shows it (a GUID). It goes into every event and its identity, so it must not
    /// change later.
    pub id: String,
    /// Who Postern is to this tenant. Needed by every source but `event_hubs` and `file`.
    pub credential: Option<Credential>,
    /// Addresses that differ from Microsoft's own.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// Deadlines, caps, private authority and proxy for all of this tenant's APIs.
    #[serde(default)]
    pub http: HttpConfig,
}

/// Who Postern is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Credential {
    /// A bearer token that something else keeps fresh. Read at each request.
    Token(Secret),
}

/// Addresses that differ from Microsoft's own, each scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoints {
    /// Graph, without `/v1.0`. Default `https://graph.microsoft.com`.
    pub graph: Option<String>,
    /// The Management Activity API, without `/api`. Default `https://manage.office.com`.
    pub activity: Option<String>,
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
    id: Arc<str>,
    credential: Option<Credential>,
    graph: Url,
    activity: Url,
    client: HttpClient,
}

impl TenantAccess {
    /// Builds it; connects to nothing.
    ///
    /// # Errors
    /// If an address or the HTTP settings are no good.
    pub fn new(config: &TenantConfig, clock: Arc<dyn Clock>) -> Result<Self, AdapterError> {
        let client = HttpClient::new(config.http.clone(), clock)
            .map_err(|error| error.during("making the HTTP client"))?;
        let url = |own: &Option<String>, usual: &str, what: &str| {
            configured_url(own.as_deref().unwrap_or(usual))
                .map_err(|why| AdapterError::new(Failure::Hold, format!("{what}: {why}")))
        };
        Ok(Self {
            shared: Arc::new(Shared {
                id: config.id.to_ascii_lowercase().into(),
                credential: config.credential.clone(),
                graph: url(
                    &config.endpoints.graph,
                    "https://graph.microsoft.com",
                    "endpoints.graph",
                )?,
                activity: url(
                    &config.endpoints.activity,
                    "https://manage.office.com",
                    "endpoints.activity",
                )?,
                client,
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

    /// A link that the far end gave (a next page, a blob): taken only with the scheme, host and port of the
    /// workload's own address, since the token goes with it.
    ///
    /// # Errors
    /// [`Failure::Hold`] if it leads elsewhere; the text does not show its path or query.
    pub fn link(&self, workload: Workload, text: &str) -> Result<Url, AdapterError> {
        let home = self.endpoint(workload);
        let link = home.join(text).map_err(|error| {
            AdapterError::new(
                Failure::Hold,
                format!("a link that the far end gave is no URL: {error}"),
            )
        })?;
        if link.origin() != home.origin()
            || !link.username().is_empty()
            || link.password().is_some()
        {
            let (link, home) = (place_of(&link), place_of(home));
            let message =
                format!("the far end gave a link to {link}, expected one to {home}: not followed");
            return Err(AdapterError::new(Failure::Hold, message));
        }
        Ok(link)
    }

    /// Sends one request with the tenant's token and reads the whole answer. One attempt.
    ///
    /// # Errors
    /// As [`HttpClient::send`]; [`HttpError::Unbuilt`] also where there is no token, or the URL is not the
    /// workload's.
    pub async fn send(&self, workload: Workload, ask: Ask) -> Result<Answer, HttpError> {
        let home = self.endpoint(workload);
        let unbuilt = |detail: String| HttpError::Unbuilt { place: place_of(home), detail };
        if ask.url.origin() != home.origin() {
            return Err(unbuilt(format!("{} is another place", place_of(&ask.url))));
        }
        let token = self.token().map_err(unbuilt)?;
        let bearer = SecretString::from(format!("Bearer {}", token.expose_secret()));
        let mut request = self.shared.client.request(ask.method, &ask.url);
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        if let Some(body) = ask.body {
            request = request
                .header(reqwest::header::CONTENT_TYPE, "application/json; charset=utf-8")
                .body(body);
        }
        let request = request
            .header(AUTHORIZATION, sensitive(&bearer).map_err(unbuilt)?)
            .header(reqwest::header::ACCEPT, "application/json");
        self.shared.client.send(request).await
    }

    fn token(&self) -> Result<SecretString, String> {
        match &self.shared.credential {
            Some(Credential::Token(secret)) => secret.read().map_err(|error| error.to_string()),
            None => Err("the tenant has no credential".to_owned()),
        }
    }
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
