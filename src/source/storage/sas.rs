//! Shared access signatures: made from an account's key, and read out of a URL. It connects to nothing.

use azure_core::base64;
use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::Ticks;

/// The version of the service whose rules for signing are used.
const VERSION: &str = "2022-11-02";
/// How long a signature lasts, and how much of that is left when it is renewed.
pub(super) const LASTS_SECONDS: i64 = 60 * 60;
pub(super) const RENEW_SECONDS: i64 = 20 * 60;

/// The query of a signature for listing and reading all blobs of `account` until `until`.
pub(super) fn of_key(
    account: &str,
    key: &SecretString,
    until: Ticks,
) -> Result<SecretString, String> {
    let key = base64::decode(key.expose_secret().trim())
        .map_err(|_| "the account key is not base64".to_owned())?;
    let expiry = time_of(until);
    // account, permissions, services, resource types, start, expiry, addresses, protocols, version, scope
    let text = format!("{account}\nrl\nb\nco\n\n{expiry}\n\nhttps,http\n{VERSION}\n\n");
    let signature = base64::encode(hmac_sha256::HMAC::mac(text.as_bytes(), &key));
    let mut query = url_form();
    for (name, value) in [
        ("sv", VERSION),
        ("ss", "b"),
        ("srt", "co"),
        ("sp", "rl"),
        ("se", &expiry),
        ("spr", "https,http"),
        ("sig", &signature),
    ] {
        query.query_pairs_mut().append_pair(name, value);
    }
    Ok(SecretString::from(query.query().unwrap_or_default().to_owned()))
}

/// The query of a signature that was made elsewhere, given as a URL or as the query alone.
pub(super) fn of_url(text: &SecretString, home: &reqwest::Url) -> Result<SecretString, String> {
    let text = text.expose_secret().trim();
    let query = if text.contains("://") {
        let url = reqwest::Url::parse(text).map_err(|_| "sas_url is no URL".to_owned())?;
        if url.origin() != home.origin() {
            return Err(format!("sas_url is for another place than {home}"));
        }
        url.query().unwrap_or_default().to_owned()
    } else {
        text.trim_start_matches('?').to_owned()
    };
    let signed = query.split('&').any(|pair| pair.starts_with("sig="));
    if signed {
        Ok(SecretString::from(query))
    } else {
        Err("sas_url has no signature (sig=)".to_owned())
    }
}

/// `2026-08-20T09:11:04Z`, without a fraction.
fn time_of(ticks: Ticks) -> String {
    let text = ticks.to_string();
    format!("{}Z", text.get(..19).unwrap_or(&text))
}

/// Somewhere to write a query to.
fn url_form() -> reqwest::Url {
    #[expect(clippy::expect_used, reason = "a constant that is a URL")]
    reqwest::Url::parse("https://contoso.example/").expect("a URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_the_service_computes() {
        // Made with another implementation of HMAC-SHA256 over the text that the service documents.
        let key = SecretString::from("c2VjcmV0".to_owned());
        let until = Ticks::parse("2026-08-20T09:11:04.5Z").unwrap();
        let query = of_key("contosologs", &key, until).unwrap();
        let expected =
            "sv=2022-11-02&ss=b&srt=co&sp=rl&se=2026-08-20T09%3A11%3A04Z&spr=https%2Chttp&sig=";
        assert!(query.expose_secret().starts_with(expected), "{}", query.expose_secret());
        assert!(query.expose_secret().ends_with("%3D"));
        assert!(of_key("contosologs", &SecretString::from("§".to_owned()), until).is_err());
    }

    #[test]
    fn a_signature_of_another_place_or_none_is_refused_without_showing_it() {
        let home = reqwest::Url::parse("https://contosologs.blob.core.windows.net").unwrap();
        let of = |text: &str| of_url(&SecretString::from(text.to_owned()), &home);
        for text in [
            "https://contosologs.blob.core.windows.net/?sv=1&sig=canary",
            "?sv=1&sig=canary",
            "sv=1&sig=canary\n",
        ] {
            assert_eq!(of(text).unwrap().expose_secret(), "sv=1&sig=canary");
        }
        for text in ["https://evil.example/?sv=1&sig=canary", "sv=1", "://?sig=canary"] {
            let error = of(text).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
