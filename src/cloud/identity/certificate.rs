//! A certificate with its key, from PEM or PKCS#12, and the assertion that it signs (PS256 with the SHA-256
//! thumbprint). It reads one file and asks nobody; whether the certificate is registered is Entra's to say.

use std::path::Path;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA256, RsaKeyPair};
use azure_core::Uuid;
use azure_core::base64::encode_url_safe;
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::cloud::secret::Secret;

/// How long an assertion is good, in seconds: clocks may differ by a few minutes.
const ASSERTION_SECONDS: i64 = 600;
/// Largest file that is taken for a certificate, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// A certificate that can sign.
pub struct Certificate {
    key: RsaKeyPair,
    /// SHA-256 over the whole certificate, base64url.
    thumbprint: String,
    /// When it expires, in seconds since 1970.
    not_after: i64,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads a file: PEM with certificate and key, or PKCS#12 (`.pfx`, `.p12`).
    ///
    /// # Errors
    /// One sentence; it shows nothing of the file's content.
    pub fn load(file: &Path, password: Option<&Secret>) -> Result<Self, String> {
        let place = file.display();
        let size =
            std::fs::metadata(file).map_err(|error| format!("cannot read {place}: {error}"))?;
        if size.len() > MOST_BYTES {
            return Err(format!("{place} is too large for a certificate"));
        }
        let bytes = std::fs::read(file).map_err(|error| format!("cannot read {place}: {error}"))?;
        let password = password.map(Secret::read).transpose().map_err(|error| error.to_string())?;
        let password = password.as_ref().map(|password| password.expose_secret());
        // DER begins with a sequence, PEM with text.
        let read = if bytes.first() == Some(&0x30) {
            from_pkcs12(&bytes, password.unwrap_or_default())
        } else {
            from_pem(&bytes)
        };
        read.and_then(|(key, certificates)| Self::fitting(key, &certificates))
            .map_err(|why| format!("{place}: {why}"))
    }

    /// The certificate that the key belongs to, among those of the file.
    fn fitting(key: RsaKeyPair, certificates: &[Vec<u8>]) -> Result<Self, String> {
        for der in certificates {
            let Ok((_, parsed)) = X509Certificate::from_der(der) else { continue };
            if parsed.public_key().subject_public_key.data.as_ref() == key.public_key().as_ref() {
                return Ok(Self {
                    thumbprint: encode_url_safe(digest::digest(&digest::SHA256, der))
                        .trim_end_matches('=')
                        .to_owned(),
                    not_after: parsed.validity().not_after.timestamp(),
                    key,
                });
            }
        }
        Err("it holds a key, but no certificate that belongs to it".to_owned())
    }

    /// When it expires, in seconds since 1970.
    #[must_use]
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }

    /// A signed assertion that `client_id` is who asks at `audience`, at `now` (seconds since 1970).
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn assertion(&self, client_id: &str, audience: &str, now: i64) -> Result<String, String> {
        let header = serde_json::json!({"alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint});
        let claims = serde_json::json!({
            "aud": audience,
            "iss": client_id,
            "sub": client_id,
            "jti": Uuid::new_v4().to_string(),
            "nbf": now,
            "iat": now,
            "exp": now.saturating_add(ASSERTION_SECONDS),
        });
        let part = |bytes: &[u8]| encode_url_safe(bytes).trim_end_matches('=').to_owned();
        let signed = format!(
            "{}.{}",
            part(header.to_string().as_bytes()),
            part(claims.to_string().as_bytes())
        );
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| "the certificate's key does not sign".to_owned())?;
        Ok(format!("{signed}.{}", part(&signature)))
    }
}

type Parts = (RsaKeyPair, Vec<Vec<u8>>);

const NOT_RSA: &str = "the key is not RSA with 2048 to 8192 bits, which is all that Entra takes";

fn from_pem(bytes: &[u8]) -> Result<Parts, String> {
    if find(bytes, b"BEGIN ENCRYPTED PRIVATE KEY") || find(bytes, b"Proc-Type: 4,ENCRYPTED") {
        return Err("the key in this PEM is encrypted: use PKCS#12 (.pfx) with `password`, or an unencrypted key in \
                    a file that only Postern can read"
            .to_owned());
    }
    let certificates: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(bytes)
        .filter_map(Result::ok)
        .map(|certificate| certificate.to_vec())
        .collect();
    let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|_| {
        "there is no private key in it (expected PEM with certificate and key, or PKCS#12)"
            .to_owned()
    })?;
    let key = match &key {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(NOT_RSA.to_owned()),
    };
    Ok((key.map_err(|_| NOT_RSA.to_owned())?, certificates))
}

fn from_pkcs12(bytes: &[u8], password: &str) -> Result<Parts, String> {
    let store = KeyStore::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Relaxed)
        .map_err(|_| "it cannot be opened as PKCS#12: is `password` right?".to_owned())?;
    let (_, chain) =
        store.private_key_chain().ok_or_else(|| "there is no private key in it".to_owned())?;
    let key = RsaKeyPair::from_pkcs8(chain.key().as_der()).map_err(|_| NOT_RSA.to_owned())?;
    Ok((key, chain.certs().iter().map(|certificate| certificate.as_der().to_vec()).collect()))
}

fn find(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    fn part(text: &str) -> Vec<u8> {
        crate::cloud::kafka::token::base64url(text).unwrap()
    }

    /// A certificate over a fresh RSA key, and the key: both PEM.
    fn made() -> (String, String) {
        let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        let der = rustls_pki_types::PrivatePkcs8KeyDer::from(der.as_ref());
        let key =
            rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256).unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 5, 6);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn an_assertion_is_ps256_with_the_sha256_thumbprint_and_its_signature_holds() {
        let (certificate, key) = made();
        let (stranger, _) = made();
        // A chain in any order: the certificate that fits the key is found.
        let file = file(format!("{stranger}{key}{certificate}").as_bytes());
        let loaded = Certificate::load(file.path(), None).unwrap();
        assert_eq!(loaded.not_after(), 1_935_792_000);
        let audience = "https://login.contoso.example/t/oauth2/v2.0/token";
        let assertion = loaded.assertion("client-1", audience, 1_900_000_000).unwrap();
        let parts: Vec<&str> = assertion.split('.').collect();
        let header: serde_json::Value = serde_json::from_slice(&part(parts[0])).unwrap();
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let thumbprint = encode_url_safe(digest::digest(&digest::SHA256, &der));
        assert_eq!(header["alg"], "PS256");
        assert_eq!(header["x5t#S256"], thumbprint.trim_end_matches('='));
        let claims: serde_json::Value = serde_json::from_slice(&part(parts[1])).unwrap();
        assert_eq!(claims["aud"], audience);
        assert_eq!((&claims["iss"], &claims["sub"]), (&"client-1".into(), &"client-1".into()));
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["nbf"].as_i64().unwrap(), 600);
        let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, loaded.key.public_key());
        let signed = assertion.rsplit_once('.').unwrap().0;
        public.verify(signed.as_bytes(), &part(parts[2])).unwrap();
        let again = loaded.assertion("client-1", audience, 1_900_000_000).unwrap();
        assert_ne!(again, assertion, "each has an id of its own");
    }

    #[test]
    fn pkcs12_is_opened_with_its_password_only() {
        let (certificate, key) = made();
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let PrivateKeyDer::Pkcs8(key) = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()
        else {
            panic!("rcgen writes PKCS#8")
        };
        let chain = p12_keystore::PrivateKeyChain::new(
            b"1".as_slice(),
            p12_keystore::PrivateKey::from_der(key.secret_pkcs8_der()).unwrap(),
            [p12_keystore::Certificate::from_der(&der).unwrap()],
        );
        let mut store = KeyStore::new();
        store.add_entry("app", p12_keystore::KeyStoreEntry::PrivateKeyChain(chain));
        let pfx = file(&store.writer("hunter2").write().unwrap());
        let secret = |text: &str| {
            let kept = file(text.as_bytes());
            (Secret::File(kept.path().to_owned()), kept)
        };
        let (right, _right_file) = secret("hunter2\n");
        let loaded = Certificate::load(pfx.path(), Some(&right)).unwrap();
        assert_eq!(loaded.not_after(), 1_935_792_000);
        let (wrong, _wrong_file) = secret("hunter3");
        for password in [Some(&wrong), None] {
            let refused = Certificate::load(pfx.path(), password).unwrap_err();
            assert!(refused.contains("is `password` right?"), "{refused}");
            assert!(!refused.contains("hunter"), "{refused}");
        }
    }

    #[test]
    fn what_cannot_sign_says_why_without_showing_it() {
        let (certificate, key) = made();
        let (stranger, _) = made();
        let elliptic = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for (content, why) in [
            (certificate.clone(), "there is no private key"),
            (format!("{stranger}{key}"), "no certificate that belongs to it"),
            (format!("{certificate}{elliptic}"), "not RSA"),
            (key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "encrypted"),
            (String::new(), "there is no private key"),
            ("0".to_owned(), "PKCS#12"),
        ] {
            let file = file(content.as_bytes());
            let refused = Certificate::load(file.path(), None).unwrap_err();
            assert!(refused.contains(why), "{refused}");
            assert!(!refused.contains("MII"), "{refused}");
        }
    }
}
