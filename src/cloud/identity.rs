//! Who Postern is to a tenant: tokens per scope, asked for once however many want them, renewed before they expire,
//! and kept in use while renewing fails. It knows nothing of what they are used for.

mod aadsts;
mod certificate;
mod entra;
mod transport;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

pub use self::aadsts::Refusal;
pub use self::certificate::Certificate;
use self::entra::{Entra, Fresh};
use super::http::{HttpClient, HttpConfig, HttpError, configured_url};
use super::kafka::token::claims;
use super::tenant::{Credential, TenantConfig};
use crate::domain::{Failure, Ticks};
use crate::journal::Clock;
use crate::pipeline::AdapterError;

/// A token is renewed when it has less than this to live.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// One that lives longer (a managed identity's: a day) is renewed at half its life.
const LONG_LIFE: Duration = Duration::from_secs(2 * 3600);
/// A token with less than this to live is not sent: it might expire on its way.
const TOO_OLD: Duration = Duration::from_secs(30);
/// Renewing while the old token is good may hold up a request for so long.
const RENEW_WAIT: Duration = Duration::from_secs(15);
/// How long the same question is not asked again after a failure that names no time.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How long it is not asked again where somebody has to do something first, unless the credential changes.
const HELD_AGAIN: Duration = Duration::from_secs(60);
/// At most one renewal in this time because an API refused a token.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);
/// A token must be this old before a missing permission is a reason to renew it: only new ones carry new roles.
const DOUBTED_AFTER: Duration = Duration::from_secs(300);

/// Why there is no token: what to do about it, and a sentence that holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NoToken {
    /// Whether it may pass by itself.
    pub failure: Failure,
    /// The sentence.
    pub message: String,
    /// What a person can do about it, which the sentence says, too.
    pub advice: Option<&'static str>,
}

impl From<NoToken> for AdapterError {
    fn from(error: NoToken) -> Self {
        Self::new(error.failure, format!("no token: {}", error.message))
    }
}

fn wrong(message: impl Into<String>) -> NoToken {
    NoToken { failure: Failure::Hold, message: message.into(), advice: None }
}

/// A token, and how long it is still good.
#[derive(Debug, Clone)]
pub struct Token {
    /// The token.
    pub text: SecretString,
    /// How long it is good from now on.
    pub lives: Duration,
}

impl Token {
    /// The application permissions in it: best effort, for advice only. `None` where the token is opaque.
    #[must_use]
    pub fn roles(&self) -> Option<Vec<String>> {
        Some(claims(self.text.expose_secret()).ok()?.roles)
    }

    /// Whose it is, as far as it shows: the object id, else the subject.
    #[must_use]
    pub fn principal(&self) -> Option<String> {
        let claims = claims(self.text.expose_secret()).ok()?;
        claims.oid.or(claims.sub)
    }
}

/// One tenant's tokens.
pub struct Identity {
    credential: Option<Credential>,
    entra: Entra,
    clock: Arc<dyn Clock>,
    secret_expires: Option<Ticks>,
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("entra", &self.entra).finish_non_exhaustive()
    }
}

/// The token of one scope.
#[derive(Default)]
struct Slot {
    /// Held by whoever asks Entra.
    flight: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Held>,
    failed: Option<Failed>,
    /// When a refused token was dropped last.
    refused: Option<Duration>,
}

struct Held {
    text: SecretString,
    since: Duration,
    renew_at: Duration,
    ends_at: Duration,
}

struct Failed {
    until: Duration,
    /// What the credential looked like.
    material: blake3::Hash,
    error: NoToken,
}

/// What a slot has.
enum Has {
    Good(Token),
    /// Good, but to be renewed.
    Aging(Token),
    Nothing,
}

impl Slot {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, now: Duration) -> Has {
        let state = self.state();
        let Some(held) = &state.token else { return Has::Nothing };
        let token = Token { text: held.text.clone(), lives: held.ends_at.saturating_sub(now) };
        if now + TOO_OLD >= held.ends_at {
            Has::Nothing
        } else if now >= held.renew_at {
            Has::Aging(token)
        } else {
            Has::Good(token)
        }
    }
}

impl Identity {
    /// Builds it; asks nobody.
    ///
    /// # Errors
    /// If the authority or the HTTP settings are no good.
    pub fn new(
        config: &TenantConfig,
        client: &HttpClient,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AdapterError> {
        let hold = |message: String| AdapterError::new(Failure::Hold, message);
        let authority = config.endpoints.authority.as_deref().unwrap_or(config.cloud.authority());
        let authority =
            configured_url(authority).map_err(|why| hold(format!("endpoints.authority: {why}")))?;
        if authority.scheme() != "https" {
            return Err(hold("endpoints.authority: secrets are sent over https only".to_owned()));
        }
        let direct = match config.http.proxy {
            None => client.clone(),
            Some(_) => {
                let direct = HttpConfig { proxy: None, ..config.http.clone() };
                HttpClient::new(direct, Arc::clone(&clock))
                    .map_err(|error| error.during("making the HTTP client for tokens"))?
            }
        };
        let entra = Entra {
            tenant: config.id.to_ascii_lowercase().into(),
            authority,
            client: client.clone(),
            direct,
        };
        Ok(Self {
            credential: config.credential.clone(),
            entra,
            clock,
            secret_expires: config.secret_expires.map(|day| day.0),
            slots: Mutex::default(),
        })
    }

    /// A token for `scope` that is good for a while. Cancel-safe.
    ///
    /// # Errors
    /// Why there is none, and what to do about it.
    pub async fn token(&self, scope: &str) -> Result<Token, NoToken> {
        let credential = self.credential()?;
        if let Credential::Token(secret) = credential {
            return given(secret, self.clock.now());
        }
        let slot = self.slot(scope);
        match slot.has(self.clock.monotonic()) {
            Has::Good(token) => return Ok(token),
            Has::Aging(token) => {
                // Whoever comes first renews it; the others use the old one, and so does he if that fails.
                if let Ok(_flight) = slot.flight.try_lock() {
                    let renewing = self.renew(&slot, credential, scope);
                    if let Ok(Ok(fresh)) = tokio::time::timeout(RENEW_WAIT, renewing).await {
                        return Ok(fresh);
                    }
                }
                return Ok(token);
            }
            Has::Nothing => {}
        }
        let _flight = slot.flight.lock().await;
        match slot.has(self.clock.monotonic()) {
            Has::Good(token) | Has::Aging(token) => Ok(token),
            Has::Nothing => self.renew(&slot, credential, scope).await,
        }
    }

    /// An API has refused `used` with 401: whether it makes sense to ask once more, with another token. A refused
    /// token is dropped, at most once a minute.
    pub fn refused(&self, scope: &str, used: &SecretString) -> bool {
        if let Some(Credential::Token(secret)) = &self.credential {
            // Something else keeps it fresh, and may just have done so.
            return secret.read().is_ok_and(|now| now.expose_secret() != used.expose_secret());
        }
        let slot = self.slot(scope);
        let now = self.clock.monotonic();
        let mut state = slot.state();
        if state
            .token
            .as_ref()
            .is_some_and(|held| held.text.expose_secret() != used.expose_secret())
        {
            return true;
        }
        if state.refused.is_some_and(|before| now < before + REFUSED_AGAIN) {
            return false;
        }
        state.refused = Some(now);
        state.token = None;
        true
    }

    /// An API says that a permission is missing: the next request gets a new token if this one is not quite new,
    /// since only new ones carry roles that were granted meanwhile.
    pub fn doubted(&self, scope: &str) {
        let slot = self.slot(scope);
        let now = self.clock.monotonic();
        if let Some(held) = &mut slot.state().token
            && now >= held.since + DOUBTED_AFTER
        {
            held.renew_at = now;
        }
    }

    /// When the credential expires, as far as that is known: the certificate's own end, or `secret_expires`.
    #[must_use]
    pub fn expires(&self) -> Option<Ticks> {
        match &self.credential {
            Some(Credential::Certificate { file, password, .. }) => {
                let certificate = Certificate::load(file, password.as_ref()).ok()?;
                Some(Ticks::from_millis(certificate.not_after().saturating_mul(1000)))
            }
            _ => self.secret_expires,
        }
    }

    fn credential(&self) -> Result<&Credential, NoToken> {
        self.credential.as_ref().ok_or_else(|| {
            wrong("the tenant has no `credential`: set client_secret, certificate, workload_identity or \
                   managed_identity under [tenant.<name>]")
        })
    }

    fn slot(&self, scope: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(scope) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot::default());
        slots.insert(scope.to_owned(), Arc::clone(&slot));
        slot
    }

    /// Asks Entra, unless the same question failed a moment ago. Called by whoever holds the flight.
    async fn renew(
        &self,
        slot: &Slot,
        credential: &Credential,
        scope: &str,
    ) -> Result<Token, NoToken> {
        let material = material(credential);
        let now = self.clock.monotonic();
        if let Some(failed) = &slot.state().failed
            && now < failed.until
            && failed.material == material
        {
            let failure = match failed.error.failure {
                Failure::Retry(_) => Failure::Retry(Some(failed.until - now)),
                other => other,
            };
            return Err(NoToken { failure, ..failed.error.clone() });
        }
        let asked = self.entra.acquire(credential, scope).await;
        let now = self.clock.monotonic();
        let mut state = slot.state();
        match asked {
            Ok(Fresh { text, lives }) => {
                let early =
                    if lives >= LONG_LIFE { lives / 2 } else { RENEW_BEFORE.min(lives / 2) };
                state.token = Some(Held {
                    text: text.clone(),
                    since: now,
                    renew_at: now + lives.saturating_sub(early),
                    ends_at: now + lives,
                });
                state.failed = None;
                Ok(Token { text, lives })
            }
            Err(error) => {
                if state.token.is_some() {
                    tracing::warn!(scope, %error, "the token cannot be renewed; the old one is still in use");
                }
                let wait = match error.failure {
                    Failure::Retry(after) => after.unwrap_or(ASK_AGAIN).max(ASK_AGAIN),
                    _ => HELD_AGAIN,
                };
                state.failed = Some(Failed { until: now + wait, material, error: error.clone() });
                Err(error)
            }
        }
    }
}

/// A token that something else keeps fresh.
fn given(secret: &super::secret::Secret, now: Ticks) -> Result<Token, NoToken> {
    let text = secret.read().map_err(|error| wrong(error.to_string()))?;
    let ends = claims(text.expose_secret()).ok().and_then(|claims| claims.exp);
    let lives = ends.map_or(RENEW_BEFORE.as_secs(), |ends| {
        u64::try_from(ends.saturating_sub(now.as_seconds())).unwrap_or(0)
    });
    Ok(Token { text, lives: Duration::from_secs(lives) })
}

/// What the credential looks like now, so that a change is noticed. Not the secret itself.
fn material(credential: &Credential) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut secret = |secret: &super::secret::Secret| {
        if let Ok(text) = secret.read() {
            hasher.update(text.expose_secret().as_bytes());
        }
    };
    match credential {
        Credential::Token(text) | Credential::ClientSecret { secret: text, .. } => secret(text),
        Credential::Certificate { file, password, .. } => {
            if let Some(password) = password {
                secret(password);
            }
            hasher.update(&std::fs::read(file).unwrap_or_default());
        }
        Credential::WorkloadIdentity { token_file: Some(file), .. } => {
            hasher.update(&std::fs::read(file).unwrap_or_default());
        }
        Credential::WorkloadIdentity { token_file: None, .. } | Credential::ManagedIdentity(_) => {}
    }
    hasher.finalize()
}

impl NoToken {
    /// As the error of a request that could not be sent.
    pub(super) fn for_request(self, place: String) -> HttpError {
        HttpError::NoToken { place, detail: self.message, failure: self.failure }
    }
}
