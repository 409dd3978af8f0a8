//! Getting one token from Entra (or from the machine's metadata service) through the Azure SDK. One attempt, no
//! cache: both are the caller's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{AccessToken, Secret as SdkSecret, TokenCredential};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::{
    ClientMethodOptions, ClientOptions, RetryOptions, Transport as SdkTransport,
};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions,
    ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use secrecy::{ExposeSecret as _, SecretString};

use super::certificate::Certificate;
use super::transport::{Transport, Trouble};
use super::{NoToken, wrong};
use crate::cloud::http::{HttpClient, place_of};
use crate::cloud::plain;
use crate::cloud::tenant::{Credential, ManagedIdentity};
use crate::domain::Failure;

/// Variables that the workload identity webhook of Kubernetes sets.
const CLIENT_ID: &str = "AZURE_CLIENT_ID";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";

/// The metadata service is given so long to wake up; the SDK asks it again meanwhile.
const METADATA_WAIT: Duration = Duration::from_secs(90);

/// Where and for whom tokens are asked for.
#[derive(Debug)]
pub(super) struct Entra {
    pub(super) tenant: Arc<str>,
    pub(super) authority: reqwest::Url,
    /// As configured.
    pub(super) client: HttpClient,
    /// The same without a proxy: the metadata service is on this very machine.
    pub(super) direct: HttpClient,
}

/// A fresh token.
pub(super) struct Fresh {
    pub(super) text: SecretString,
    /// How long it lives from now on.
    pub(super) lives: Duration,
}

impl Entra {
    /// Asks for a token for `scope`.
    pub(super) async fn acquire(
        &self,
        credential: &Credential,
        scope: &str,
    ) -> Result<Fresh, NoToken> {
        let (place, client) = match credential {
            Credential::ManagedIdentity(_) => {
                ("the metadata service of this machine".to_owned(), self.direct.clone())
            }
            _ => (place_of(&self.authority), self.client.clone()),
        };
        let transport = Arc::new(Transport::new(client));
        // A new one each time: the SDK's has a cache of its own, and secrets may have changed.
        let made = self.credential(credential, self.options(&transport))?;
        let scopes = [scope];
        let asking = made.get_token(&scopes, None);
        let asked = tokio::time::timeout(METADATA_WAIT, asking).await.map_err(|_| NoToken {
            failure: Failure::Retry(None),
            message: format!("{place} did not answer in time"),
            advice: None,
        })?;
        asked.map_or_else(
            |error| Err(explained(&place, transport.trouble(), &error)),
            |token| Ok(fresh(&token)),
        )
    }

    fn options(&self, transport: &Arc<Transport>) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = self.authority.as_str().to_owned();
        ClientOptions {
            transport: Some(SdkTransport::new(Arc::clone(transport) as _)),
            // Whoever asks for tokens backs off.
            retry: RetryOptions::none(),
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            ..ClientOptions::default()
        }
    }

    fn credential(
        &self,
        credential: &Credential,
        client_options: ClientOptions,
    ) -> Result<Arc<dyn TokenCredential>, NoToken> {
        let tenant = self.tenant.to_string();
        let made: azure_core::Result<Arc<dyn TokenCredential>> = match credential {
            Credential::Token(_) => return Err(wrong("a token is no way to get tokens")),
            Credential::ClientSecret { client_id, secret } => {
                let secret = secret.read().map_err(|error| wrong(error.to_string()))?;
                let secret = SdkSecret::new(secret.expose_secret().to_owned());
                let options = ClientSecretCredentialOptions { client_options };
                ClientSecretCredential::new(&tenant, client_id.clone(), secret, Some(options))
                    .map(|made| made as _)
            }
            Credential::Certificate { client_id, file, password } => {
                let certificate = Certificate::load(file, password.as_ref()).map_err(wrong)?;
                let audience = self
                    .authority
                    .join(&format!("/{tenant}/oauth2/v2.0/token"))
                    .map_err(|error| wrong(error.to_string()))?;
                let assertion =
                    Signed { certificate, client_id: client_id.clone(), audience: audience.into() };
                let options = ClientAssertionCredentialOptions { client_options };
                ClientAssertionCredential::new(tenant, client_id.clone(), assertion, Some(options))
                    .map(|made| made as _)
            }
            Credential::WorkloadIdentity { client_id, token_file } => {
                let variable =
                    |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
                let missing = |what: &str, name: &str| {
                    wrong(format!(
                        "workload_identity has no {what}, and {name} is not set: is the pod labelled \
                                   azure.workload.identity/use=true?"
                    ))
                };
                let client_id = client_id.clone().or_else(|| variable(CLIENT_ID));
                let file = token_file.clone().or_else(|| variable(TOKEN_FILE).map(Into::into));
                let options = WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options },
                    tenant_id: Some(tenant),
                    client_id: Some(client_id.ok_or_else(|| missing("client_id", CLIENT_ID))?),
                    token_file_path: Some(file.ok_or_else(|| missing("token_file", TOKEN_FILE))?),
                };
                WorkloadIdentityCredential::new(Some(options)).map(|made| made as _)
            }
            Credential::ManagedIdentity(which) => {
                let user_assigned_id = assigned(which)?;
                let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
                ManagedIdentityCredential::new(Some(options)).map(|made| made as _)
            }
        };
        made.map_err(|error| wrong(plain::plain(&error.to_string(), 500)))
    }
}

fn assigned(which: &ManagedIdentity) -> Result<Option<UserAssignedId>, NoToken> {
    let ids = [
        which.client_id.clone().map(UserAssignedId::ClientId),
        which.object_id.clone().map(UserAssignedId::ObjectId),
        which.resource_id.clone().map(UserAssignedId::ResourceId),
    ];
    let mut ids = ids.into_iter().flatten();
    match (ids.next(), ids.next()) {
        (_, Some(_)) => {
            Err(wrong("managed_identity takes one of client_id, object_id and resource_id"))
        }
        (one, None) => Ok(one),
    }
}

fn fresh(token: &AccessToken) -> Fresh {
    let seconds = token.expires_on.unix_timestamp();
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let lives = u64::try_from(seconds).unwrap_or(0).saturating_sub(now.as_secs());
    Fresh {
        text: SecretString::from(token.token.secret().to_owned()),
        lives: Duration::from_secs(lives),
    }
}

/// What came back, in words that say what to do.
fn explained(place: &str, trouble: Option<Trouble>, error: &Error) -> NoToken {
    match trouble {
        Some(Trouble::Refused(refusal)) => NoToken {
            failure: refusal.failure(),
            message: format!("{place}: {refusal}"),
            advice: refusal.advice(),
        },
        Some(Trouble::Network(error)) => {
            NoToken { failure: error.failure(), message: error.to_string(), advice: None }
        }
        // The SDK refused before it asked, or could not read what it got.
        None => NoToken {
            failure: Failure::Hold,
            message: format!("{place}: {}", plain::plain(&error.to_string(), 300)),
            advice: None,
        },
    }
}

/// Signs an assertion whenever the SDK wants one.
#[derive(Debug)]
struct Signed {
    certificate: Certificate,
    client_id: String,
    audience: String,
}

#[async_trait]
impl ClientAssertion for Signed {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.certificate
            .assertion(&self.client_id, &self.audience, now)
            .map_err(|why| Error::with_message(ErrorKind::Credential, why))
    }
}
