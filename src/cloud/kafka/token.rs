//! Bearer tokens for SASL OAUTHBEARER. Where they come from is behind a trait: a file that something else
//! keeps fresh, or the tenant's own credential.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::cloud::secret::Secret;
use crate::cloud::tenant::TenantAccess;
use crate::domain::Ticks;
use crate::journal::Clock;

/// A token, whose it is, and until when it is good.
#[derive(Debug, Clone)]
pub struct BearerToken {
    /// The token.
    pub text: SecretString,
    /// Whose it is, for the brokers' logs.
    pub principal: String,
    /// When it expires, in milliseconds since 1970.
    pub expires_ms: i64,
}

/// Gives tokens. Called from librdkafka's polling thread, at start and when four fifths of a token's life are
/// over, so it may block for a while (seconds), and says in one sentence why it has none. It never puts a
/// secret in that sentence.
pub trait TokenProvider: Send + Sync + 'static {
    /// A token that is good now.
    ///
    /// # Errors
    /// One sentence that says what is missing.
    fn token(&self) -> Result<BearerToken, String>;
}

/// A JWT in a file or an environment variable, read anew each time.
#[derive(Debug, Clone)]
pub struct FixedToken(pub Secret);

impl TokenProvider for FixedToken {
    fn token(&self) -> Result<BearerToken, String> {
        let text = self.0.read().map_err(|error| error.to_string())?;
        let claims = claims(text.expose_secret())?;
        let expires_ms = claims
            .exp
            .map(|seconds| seconds.saturating_mul(1000))
            .ok_or("the token has no `exp`, so nobody knows how long it lives")?;
        let principal = claims.oid.or(claims.sub).unwrap_or_else(|| "postern".to_owned());
        Ok(BearerToken { text, principal, expires_ms })
    }
}

/// The tenant's own credential. Asks from a thread that may block, inside the runtime.
pub struct TenantTokens {
    /// The tenant's door.
    pub access: TenantAccess,
    /// What for.
    pub scope: String,
    /// The clock that says when a token that lives so long is over.
    pub clock: Arc<dyn Clock>,
}

impl TokenProvider for TenantTokens {
    fn token(&self) -> Result<BearerToken, String> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| "tokens can only be asked for while the daemon runs".to_owned())?;
        let token = runtime
            .block_on(self.access.token_for(&self.scope))
            .map_err(|error| error.to_string())?;
        let lives = Ticks::from_millis(i64::try_from(token.lives.as_millis()).unwrap_or(i64::MAX));
        let expires = self.clock.now().0.saturating_add(lives.0);
        Ok(BearerToken {
            principal: token.principal().unwrap_or_else(|| "postern".to_owned()),
            expires_ms: expires / Ticks::from_millis(1).0,
            text: token.text,
        })
    }
}

/// What a token says about itself. Nobody here has checked its signature: for advice, names and times only.
#[derive(Deserialize)]
pub(in crate::cloud) struct Claims {
    #[serde(deserialize_with = "whole_seconds", default)]
    pub(in crate::cloud) exp: Option<i64>,
    pub(in crate::cloud) oid: Option<String>,
    pub(in crate::cloud) sub: Option<String>,
    #[serde(default)]
    pub(in crate::cloud) roles: Vec<String>,
}

/// `exp` may be written as a whole number or as a decimal.
fn whole_seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, and half a second is nothing here"
    )]
    Ok(number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds as i64)))
}

/// The middle part of a JWT. Its signature is the broker's business.
pub(in crate::cloud) fn claims(token: &str) -> Result<Claims, String> {
    let middle = token.split('.').nth(1).ok_or("the token is not a JWT (three parts with dots)")?;
    let bytes = base64url(middle).ok_or("the token's claims are not base64url")?;
    serde_json::from_slice(&bytes)
        .map_err(|_| "the token's claims are not a JSON object".to_owned())
}

/// Unpadded base64 with `-` and `_`.
pub(in crate::cloud) fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(six)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_of(text: &str) -> Result<BearerToken, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        FixedToken(Secret::File(file.path().to_owned())).token()
    }

    #[test]
    fn a_token_says_whose_it_is_and_until_when() {
        // {"alg":"none"} . {"exp":1900000000,"sub":"carol?>"}
        let token =
            token_of("eyJhbGciOiJub25lIn0.eyJleHAiOjE5MDAwMDAwMDAsInN1YiI6ImNhcm9sPz4ifQ.\n")
                .unwrap();
        assert_eq!(token.principal, "carol?>");
        assert_eq!(token.expires_ms, 1_900_000_000_000);
    }

    #[test]
    fn what_is_not_a_token_is_refused_without_showing_it() {
        for text in ["s3cret", "a.s3cret!.b", "e30.e30.", "a.eyJleHAi.b"] {
            let refused = token_of(text).unwrap_err();
            assert!(!refused.contains("s3cret"), "{refused}");
        }
    }
}
