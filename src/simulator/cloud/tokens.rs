//! Entra for one application: hands out tokens of the real form and refuses with the real codes, and reads its
//! own tokens again at the door of the APIs.

use serde_json::{Value, json};

use crate::domain::Ticks;

use super::asked::{Asked, Reply};
use super::settings::AppConfig;

/// A resource that tokens are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Microsoft Graph.
    Graph,
    /// The Office 365 Management APIs.
    Activity,
    /// Azure Storage.
    Storage,
}

/// Hosts that name a resource in a scope, in all of Microsoft's clouds.
const RESOURCES: [(&str, Resource); 10] = [
    ("graph.microsoft.com", Resource::Graph),
    ("graph.microsoft.us", Resource::Graph),
    ("dod-graph.microsoft.us", Resource::Graph),
    ("microsoftgraph.chinacloudapi.cn", Resource::Graph),
    ("manage.office.com", Resource::Activity),
    ("manage-gcc.office.com", Resource::Activity),
    ("manage.office365.us", Resource::Activity),
    ("manage.protection.apps.mil", Resource::Activity),
    ("storage.azure.com", Resource::Storage),
    ("storage.azure.us", Resource::Storage),
];

/// The part of Entra that the simulated cloud plays.
#[derive(Debug)]
pub struct Tokens {
    tenant: String,
    app: AppConfig,
    key: [u8; 32],
}

/// Why a token does not open the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is none, or it is no token of ours.
    Invalid,
    /// It was good once.
    Expired,
    /// It is for another API.
    Audience,
    /// The role is not in it.
    Role,
}

impl Tokens {
    /// For `app` in `tenant`; `key` signs.
    #[must_use]
    pub fn new(tenant: &str, app: AppConfig, key: [u8; 32]) -> Self {
        Self { tenant: tenant.to_ascii_lowercase(), app, key }
    }

    /// `POST /{tenant}/oauth2/v2.0/token`.
    #[must_use]
    pub fn answer(&self, tenant: &str, asked: &Asked, now: Ticks) -> Reply {
        match self.token(tenant, asked, now) {
            Ok(token) => Reply::json(
                200,
                &json!({
                    "token_type": "Bearer",
                    "expires_in": self.app.token_seconds,
                    "ext_expires_in": self.app.token_seconds,
                    "access_token": token,
                }),
            ),
            Err(problem) => problem.reply(now, asked),
        }
    }

    fn token(&self, tenant: &str, asked: &Asked, now: Ticks) -> Result<String, Problem> {
        if asked.method != "POST" {
            return Err(Problem::new(900_144, "The endpoint only accepts POST requests."));
        }
        let form = asked.form();
        let field =
            |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let missing = |name: &str| {
            let text = format!("The request body must contain the following parameter: '{name}'.");
            Problem::new(900_144, &text)
        };
        let tenant = tenant.to_ascii_lowercase();
        if tenant != self.tenant && tenant != "contoso.example" {
            let text = format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing \
                 into the correct cloud."
            );
            return Err(Problem::new(90_002, &text));
        }
        if field("grant_type").ok_or_else(|| missing("grant_type"))? != "client_credentials" {
            return Err(Problem::new(70_003, "The app requested an unsupported grant type."));
        }
        let client = field("client_id").ok_or_else(|| missing("client_id"))?;
        if !client.eq_ignore_ascii_case(&self.app.client_id) {
            let text = format!(
                "Application with identifier '{client}' was not found in the directory 'Contoso'. This can happen \
                 if the application has not been installed by the administrator of the tenant."
            );
            return Err(Problem::new(700_016, &text));
        }
        let scope = field("scope").ok_or_else(|| missing("scope"))?;
        match (field("client_secret"), field("client_assertion")) {
            (Some(secret), _) => self.check_secret(secret)?,
            (None, Some(assertion)) => {
                let url = format!("{}{}", asked.origin(), asked.path);
                super::assertion::check(assertion, &self.app, &url, now)
                    .map_err(|(code, text)| Problem::new(code, &text))?;
            }
            (None, None) => {
                return Err(Problem::new(
                    7_000_218,
                    "The request body must contain the following parameter: 'client_assertion' or \
                     'client_secret'.",
                ));
            }
        }
        let (audience, resource) = self.resource(scope, asked)?;
        Ok(self.issue(&audience, resource, now))
    }

    fn check_secret(&self, secret: &str) -> Result<(), Problem> {
        if self.app.expired_secrets.iter().any(|expired| expired == secret) {
            let text = format!(
                "The provided client secret keys for app '{}' are expired. Visit the Azure portal to create new \
                 keys for your app, or consider using certificate credentials for added security.",
                self.app.client_id
            );
            return Err(Problem::new(7_000_222, &text));
        }
        if secret == self.app.secret {
            return Ok(());
        }
        let text = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret \
             value, not the client secret ID, for a secret added to app '{}'.",
            self.app.client_id
        );
        Err(Problem::new(7_000_215, &text))
    }

    /// The audience, and whose it is: nobody in particular's where the scope names this server itself.
    fn resource(&self, scope: &str, asked: &Asked) -> Result<(String, Option<Resource>), Problem> {
        let mut scopes = scope.split_ascii_whitespace();
        let (Some(scope), None) = (scopes.next(), scopes.next()) else {
            return Err(Problem::new(
                70_011,
                "The provided value for the input parameter 'scope' is not valid. One resource per request.",
            ));
        };
        let Some(audience) = scope.strip_suffix("/.default") else {
            let text = format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have a scope \
                 value with /.default suffixed to the resource identifier (application ID URI)."
            );
            return Err(Problem::new(1_002_012, &text));
        };
        let audience = audience.trim_end_matches('/');
        if audience == asked.origin() {
            return Ok((audience.to_owned(), None));
        }
        let host = audience.strip_prefix("https://").unwrap_or(audience);
        match RESOURCES.iter().find(|(known, _)| *known == host) {
            Some((_, resource)) => Ok((audience.to_owned(), Some(*resource))),
            None => {
                let text = format!(
                    "The resource principal named {audience} was not found in the tenant named Contoso. This can \
                     happen if the application has not been installed by the administrator of the tenant."
                );
                Err(Problem::new(500_011, &text))
            }
        }
    }

    /// A token for every API at once, which Entra would never give: for clients that get theirs from elsewhere.
    #[must_use]
    pub fn everywhere(&self, now: Ticks) -> String {
        self.issue("https://everywhere.contoso.example", None, now)
    }

    fn issue(&self, audience: &str, resource: Option<Resource>, now: Ticks) -> String {
        let roles: Vec<&String> = self
            .app
            .roles
            .iter()
            .filter(|role| resource.is_none_or(|resource| resource_of(role) == resource))
            .collect();
        let now = now.as_seconds();
        let life = i64::try_from(self.app.token_seconds).unwrap_or(3599);
        let claims = json!({
            "aud": audience,
            "iss": format!("https://sts.windows.net/{}/", self.tenant),
            "iat": now - 300,
            "nbf": now - 300,
            "exp": now + life,
            "appid": self.app.client_id,
            "idtyp": "app",
            "roles": roles,
            "tid": self.tenant,
            "ver": "1.0",
        });
        let head = base64url(br#"{"typ":"JWT","alg":"RS256","kid":"simulated"}"#);
        let signed = format!("{head}.{}", base64url(claims.to_string().as_bytes()));
        let signature = blake3::keyed_hash(&self.key, signed.as_bytes());
        format!("{signed}.{}", base64url(signature.as_bytes()))
    }

    /// Whether the request may use `resource` with one of `roles` (any, if there are none).
    ///
    /// # Errors
    /// Why not.
    pub fn admits(
        &self,
        asked: &Asked,
        resource: Resource,
        roles: &[&str],
        now: Ticks,
    ) -> Result<(), Refused> {
        let header = asked.header("authorization").ok_or(Refused::Invalid)?;
        let token = header.strip_prefix("Bearer ").ok_or(Refused::Invalid)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Invalid)?;
        let hash = blake3::keyed_hash(&self.key, signed.as_bytes());
        if signature != base64url(hash.as_bytes()) {
            return Err(Refused::Invalid);
        }
        let claims = signed.split_once('.').and_then(|(_, claims)| from_base64url(claims));
        let claims: Value = claims
            .and_then(|claims| serde_json::from_slice(&claims).ok())
            .ok_or(Refused::Invalid)?;
        if claims.get("exp").and_then(Value::as_i64).is_none_or(|exp| exp <= now.as_seconds()) {
            return Err(Refused::Expired);
        }
        let audience = claims.get("aud").and_then(Value::as_str).unwrap_or_default();
        let host = audience.strip_prefix("https://").unwrap_or(audience);
        let is_for = RESOURCES.iter().find(|(known, _)| *known == host).map(|(_, own)| *own);
        if is_for.is_some_and(|own| own != resource) {
            return Err(Refused::Audience);
        }
        let granted = claims.get("roles").and_then(Value::as_array);
        let has = |role: &&str| {
            granted.is_some_and(|granted| granted.iter().any(|own| own.as_str() == Some(role)))
        };
        if roles.is_empty() || roles.iter().any(has) { Ok(()) } else { Err(Refused::Role) }
    }
}

fn resource_of(role: &str) -> Resource {
    match role {
        _ if role.starts_with("ActivityFeed.") || role == "ServiceHealth.Read" => {
            Resource::Activity
        }
        _ if role.starts_with("Storage ") => Resource::Storage,
        _ => Resource::Graph,
    }
}

/// A refusal in Entra's words.
struct Problem {
    code: u32,
    text: String,
}

impl Problem {
    fn new(code: u32, text: &str) -> Self {
        Self { code, text: text.to_owned() }
    }

    fn reply(&self, now: Ticks, asked: &Asked) -> Reply {
        let (status, error) = match self.code {
            7_000_215 | 7_000_222 | 7_000_218 | 700_027 | 700_024 | 7_000_112 => {
                (401, "invalid_client")
            }
            700_016 => (400, "unauthorized_client"),
            70_011 | 1_002_012 => (400, "invalid_scope"),
            500_011 => (400, "invalid_resource"),
            70_003 => (400, "unsupported_grant_type"),
            _ => (400, "invalid_request"),
        };
        let (code, text) = (self.code, &self.text);
        let trace = guid(&format!("trace {} {}", now.0, asked.path));
        let correlation = asked
            .header("client-request-id")
            .map_or_else(|| guid(&format!("correlation {} {}", now.0, asked.path)), str::to_owned);
        let whole = now.plus_seconds(0).as_seconds();
        let stamp = Ticks(whole * crate::domain::ticks::TICKS_PER_SECOND).to_string();
        let stamp = stamp.replace('T', " ");
        Reply::json(
            status,
            &json!({
                "error": error,
                "error_description": format!(
                    "AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}"
                ),
                "error_codes": [code],
                "timestamp": stamp,
                "trace_id": trace,
                "correlation_id": correlation,
                "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
            }),
        )
    }
}

/// A GUID made from `text`.
#[must_use]
pub fn guid(text: &str) -> String {
    let hash = blake3::hash(text.as_bytes()).to_hex();
    let part = |from: usize, to: usize| hash.get(from..to).unwrap_or_default().to_owned();
    format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 for URLs, without padding.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0_u8; 4];
        for (slot, byte) in group.iter_mut().skip(1).zip(chunk) {
            *slot = *byte;
        }
        let bits = u32::from_be_bytes(group);
        for place in 0..=chunk.len() {
            let digit = (bits >> (18 - 6 * place)) & 63;
            let digit = DIGITS.get(usize::try_from(digit).unwrap_or(0)).copied().unwrap_or(b'A');
            text.push(char::from(digit));
        }
    }
    text
}

/// Undoes [`base64url`]; padding and the usual alphabet are taken too.
#[must_use]
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let byte = match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        };
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        bits = (bits << 6 | u32::try_from(digit).ok()?) & 0x00ff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::cloud::asked::pairs;

    const TENANT: &str = "7c0a3f52-4d1e-4b8a-9c60-2f1d5e8b7a11";
    const NOW: Ticks = Ticks(17_000_000_000_000_000);

    fn tokens() -> Tokens {
        let app =
            AppConfig { expired_secrets: vec!["old".into()], ..AppConfig::with_secret("right") };
        Tokens::new(TENANT, app, [7; 32])
    }

    fn ask(form: &str) -> Asked {
        Asked { method: "POST".into(), path: "/t".into(), body: form.into(), ..Asked::default() }
    }

    fn form(more: &str) -> String {
        format!(
            "client_id={}&grant_type=client_credentials&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default&{more}",
            AppConfig::with_secret("").client_id
        )
    }

    fn code(tenant: &str, form: &str) -> (u16, i64) {
        let reply = tokens().answer(tenant, &ask(form), NOW);
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        let code = body["error_codes"][0].as_i64().unwrap_or(0);
        let description = body["error_description"].as_str().unwrap_or_default();
        assert!(code == 0 || description.starts_with(&format!("AADSTS{code}: ")), "{body}");
        (reply.status, code)
    }

    #[test]
    fn each_mistake_gets_its_own_code() {
        let right = form("client_secret=right");
        assert_eq!(code(TENANT, &right), (200, 0));
        assert_eq!(code(TENANT, &form("client_secret=wrong")), (401, 7_000_215));
        assert_eq!(code(TENANT, &form("client_secret=old")), (401, 7_000_222));
        assert_eq!(code(TENANT, &form("")), (401, 7_000_218));
        assert_eq!(code(TENANT, &form("client_assertion=x.y.z")), (401, 700_027));
        assert_eq!(code("other", &right), (400, 90_002));
        assert_eq!(code(TENANT, &right.replace("client_id=", "client_id=0")), (400, 700_016));
        assert_eq!(code(TENANT, &right.replace(".default", "x")), (400, 1_002_012));
        assert_eq!(code(TENANT, &right.replace("graph.microsoft", "nobody")), (400, 500_011));
        assert_eq!(code(TENANT, "grant_type=client_credentials"), (400, 900_144));
    }

    #[test]
    fn a_token_opens_its_own_api_for_its_own_time_and_roles() {
        let tokens = tokens();
        let reply = tokens.answer(TENANT, &ask(&form("client_secret=right")), NOW);
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        let token = body["access_token"].as_str().unwrap();
        let with = |token: &str| Asked {
            headers: vec![("authorization".into(), format!("Bearer {token}"))],
            query: pairs(""),
            ..Asked::default()
        };
        let admits = |token: &str, resource, roles: &[&str], now| {
            tokens.admits(&with(token), resource, roles, now)
        };
        let read = ["SecurityIncident.Read.All"];
        assert_eq!(admits(token, Resource::Graph, &read, NOW), Ok(()));
        assert_eq!(admits(token, Resource::Graph, &["Mail.Read"], NOW), Err(Refused::Role));
        assert_eq!(admits(token, Resource::Activity, &[], NOW), Err(Refused::Audience));
        let later = NOW.plus_seconds(3600);
        assert_eq!(admits(token, Resource::Graph, &read, later), Err(Refused::Expired));
        assert_eq!(admits("a.b.c", Resource::Graph, &read, NOW), Err(Refused::Invalid));
        let forged = token.replacen('.', ".e30", 1);
        assert_eq!(admits(&forged, Resource::Graph, &read, NOW), Err(Refused::Invalid));
    }

    #[test]
    fn base64_goes_there_and_back() {
        for text in ["", "a", "ab", "abc", "abcd", "\u{ff}\u{fe}?>"] {
            assert_eq!(from_base64url(&base64url(text.as_bytes())).unwrap(), text.as_bytes());
        }
        assert_eq!(base64url(b"Hello"), "SGVsbG8");
        assert_eq!(from_base64url("!"), None);
    }
}
