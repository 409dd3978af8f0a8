//! Entra's look at a client assertion (a signed JWT instead of a secret): its form, its claims, its
//! certificate's thumbprint, and the PS256 signature where the certificate is known.

use serde_json::Value;
use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;

use crate::domain::Ticks;

use super::settings::AppConfig;
use super::tokens::from_base64url;

/// How far clocks may be apart, in seconds.
const SKEW: i64 = 300;

/// Whether `assertion` is good for `app` at the token endpoint `url`.
///
/// # Errors
/// Entra's code and text.
pub fn check(assertion: &str, app: &AppConfig, url: &str, now: Ticks) -> Result<(), (u32, String)> {
    let bad = |text: &str| {
        (
            700_027,
            format!(
                "The certificate used to sign the client assertion is not registered on the application or the assertion is invalid. {text}"
            ),
        )
    };
    let mut parts = assertion.split('.');
    let (Some(head), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad("It is no JWT."));
    };
    let read = |text: &str| -> Option<Value> {
        serde_json::from_slice(&from_base64url(text)?).ok().filter(Value::is_object)
    };
    let (Some(header), Some(body)) = (read(head), read(claims)) else {
        return Err(bad("It is no JWT."));
    };
    let text = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let is_me = |name: &str| text(&body, name).eq_ignore_ascii_case(&app.client_id);
    if !is_me("iss") || !is_me("sub") {
        return Err(bad("Issuer and subject must be the client id."));
    }
    let audience = text(&body, "aud");
    if path_of(&audience) != path_of(url) {
        return Err((
            700_212,
            format!(
                "No matching audience found for the presented assertion audience '{audience}'."
            ),
        ));
    }
    let number = |name: &str| body.get(name).and_then(Value::as_i64);
    let now = now.as_seconds();
    let is_early = number("nbf").is_some_and(|from| from > now + SKEW);
    let is_late = number("exp").is_none_or(|until| until <= now - SKEW);
    if is_early || is_late {
        return Err((700_024, "Client assertion is not within its valid time range.".to_owned()));
    }
    let thumbprint = text(&header, "x5t#S256");
    let Some(known) = app.certificates.iter().find(|known| known.thumbprint == thumbprint) else {
        return Err(bad(&format!("Thumbprint of key used by client: '{thumbprint}'.")));
    };
    if text(&header, "alg") != "PS256" {
        return Err(bad("The algorithm must be PS256."));
    }
    let signed = format!("{head}.{claims}");
    let signature = from_base64url(signature).unwrap_or_default();
    if !is_signed(&known.public_key, signed.as_bytes(), &signature) {
        return Err(bad("The signature does not match."));
    }
    Ok(())
}

/// Behind scheme and host: an authority may be reached by several names.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or_default()
}

/// Whether the PS256 signature is that of the key (`RSAPublicKey`, DER).
fn is_signed(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let algorithms = default_provider().signature_verification_algorithms;
    algorithms
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == SignatureScheme::RSA_PSS_SHA256)
        .flat_map(|(_, algorithms)| *algorithms)
        .any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
}
