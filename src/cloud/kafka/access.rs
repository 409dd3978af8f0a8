//! Where the brokers are and how to log in, as librdkafka settings. It connects to nothing.

use std::path::PathBuf;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use crate::cloud::secret::Secret;
use crate::domain::Failure;
use crate::pipeline::port::AdapterError;

/// The user name that Event Hubs expects in front of a connection string, literally.
const CONNECTION_STRING_USER: &str = "$ConnectionString";

/// Event Hubs' Kafka port, where a connection string names no other address.
const KAFKA_PORT: u16 = 9093;

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// Not at all: a broker in a test, or one that knows clients by their certificate.
    #[default]
    None,
    /// An Event Hubs connection string, whole (`Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…`), with
    /// the Listen claim to read, Send to write. Shared access signatures made beforehand do not work here.
    ConnectionString(Secret),
    /// SASL PLAIN with a user name.
    Plain {
        /// Who.
        user: String,
        /// With which password.
        password: Secret,
    },
    /// SASL SCRAM-SHA-256.
    ScramSha256 {
        /// Who.
        user: String,
        /// With which password.
        password: Secret,
    },
    /// SASL SCRAM-SHA-512.
    ScramSha512 {
        /// Who.
        user: String,
        /// With which password.
        password: Secret,
    },
    /// SASL OAUTHBEARER with a token that something else keeps fresh in a file (or an environment variable): a
    /// JWT whose `exp` says how long it lives; the file is read again when four fifths of that are over.
    Token(Secret),
    /// SASL OAUTHBEARER with tokens that the tenant's own `credential` gets from Entra, for the namespace in
    /// `bootstrap`. It needs the role Azure Event Hubs Data Receiver there. For sources: a sink belongs to no tenant.
    Tenant,
}

/// Address and login.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// `host:port`, several with commas. May be left out where a connection string names the namespace.
    pub bootstrap: Option<String>,
    /// How to log in.
    pub auth: Auth,
    /// Encrypt; on unless there is no login.
    pub tls: Option<bool>,
    /// The authority that signed the brokers' certificates (PEM); the system's list if not given.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate (PEM), where brokers ask for one.
    pub client_certificate_file: Option<PathBuf>,
    /// Its key (PEM).
    pub client_key_file: Option<PathBuf>,
}

fn wrong(message: impl Into<String>) -> AdapterError {
    AdapterError::new(Failure::Hold, message)
}

impl Access {
    /// What a token for these brokers is asked for: the namespace of the first of them.
    #[must_use]
    pub fn scope(&self) -> String {
        let first =
            self.bootstrap.as_deref().unwrap_or_default().split(',').next().unwrap_or_default();
        let host = first.trim().rsplit_once(':').map_or(first.trim(), |(host, _)| host);
        format!("https://{host}/.default")
    }

    /// Says what in it cannot work, without reading a secret.
    ///
    /// # Errors
    /// One sentence that names the setting.
    pub fn check(&self) -> Result<(), AdapterError> {
        let logs_in = !matches!(self.auth, Auth::None);
        if logs_in && self.tls == Some(false) {
            return Err(wrong("`tls = false` would send the login unencrypted: leave it out"));
        }
        if self.bootstrap.is_none() && !matches!(self.auth, Auth::ConnectionString(_)) {
            return Err(wrong("`bootstrap` is missing: host:port of the brokers"));
        }
        if self.client_certificate_file.is_some() != self.client_key_file.is_some() {
            return Err(wrong("`client_certificate_file` and `client_key_file` belong together"));
        }
        Ok(())
    }

    /// librdkafka's settings for this, with the secrets read just now.
    ///
    /// # Errors
    /// [`Failure::Hold`] if a secret cannot be read or settings do not go together.
    pub fn client_config(&self) -> Result<ClientConfig, AdapterError> {
        self.check()?;
        let mut config = ClientConfig::new();
        let mut bootstrap = self.bootstrap.clone();
        let read = |secret: &Secret| {
            secret
                .read()
                .map_err(|cause| AdapterError::because(Failure::Hold, cause.to_string(), cause))
        };
        let mut login = |mechanism: &str, user: &str, password: &str| {
            config.set("sasl.mechanism", mechanism);
            config.set("sasl.username", user).set("sasl.password", password);
        };
        match &self.auth {
            Auth::None => {}
            Auth::ConnectionString(secret) => {
                let text = read(secret)?;
                let endpoint = endpoint_of(text.expose_secret()).ok_or_else(|| {
                    wrong(
                        "the connection string holds no `Endpoint=sb://…`: give it whole, as the portal shows \
                         it under Shared access policies",
                    )
                })?;
                bootstrap.get_or_insert_with(|| format!("{endpoint}:{KAFKA_PORT}"));
                login("PLAIN", CONNECTION_STRING_USER, text.expose_secret());
            }
            Auth::Plain { user, password } => {
                login("PLAIN", user, read(password)?.expose_secret());
            }
            Auth::ScramSha256 { user, password } => {
                login("SCRAM-SHA-256", user, read(password)?.expose_secret());
            }
            Auth::ScramSha512 { user, password } => {
                login("SCRAM-SHA-512", user, read(password)?.expose_secret());
            }
            Auth::Token(_) | Auth::Tenant => {
                config.set("sasl.mechanism", "OAUTHBEARER");
            }
        }
        let logs_in = !matches!(self.auth, Auth::None);
        let encrypts = self.tls.unwrap_or(logs_in);
        config.set(
            "security.protocol",
            match (logs_in, encrypts) {
                (true, _) => "SASL_SSL",
                (false, true) => "SSL",
                (false, false) => "PLAINTEXT",
            },
        );
        if encrypts {
            match &self.ca_file {
                Some(file) => config.set("ssl.ca.location", file.display().to_string()),
                // OpenSSL is compiled in and does not know where this system keeps its list.
                None => config.set("ssl.ca.location", "probe"),
            };
        }
        if let (Some(certificate), Some(key)) =
            (&self.client_certificate_file, &self.client_key_file)
        {
            config.set("ssl.certificate.location", certificate.display().to_string());
            config.set("ssl.key.location", key.display().to_string());
        }
        config
            .set("bootstrap.servers", bootstrap.unwrap_or_default())
            .set("client.id", "postern")
            // Azure's balancer drops a connection after 240 s of silence.
            .set("socket.keepalive.enable", "true")
            .set("metadata.max.age.ms", "180000")
            .set("topic.metadata.refresh.interval.ms", "60000")
            .set("reconnect.backoff.max.ms", "5000")
            // A topic that is missing is an error to tell, not one to paper over.
            .set("allow.auto.create.topics", "false")
            .set("enable.metrics.push", "false")
            .set_log_level(RDKafkaLogLevel::Warning);
        Ok(config)
    }

    /// The address, for messages.
    #[must_use]
    pub fn place(&self) -> &str {
        self.bootstrap.as_deref().unwrap_or("the namespace in the connection string")
    }
}

/// The host in a connection string's `Endpoint`.
fn endpoint_of(connection_string: &str) -> Option<&str> {
    let endpoint = connection_string.split(';').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("endpoint").then_some(value.trim())
    })?;
    let host = endpoint.strip_prefix("sb://")?.trim_end_matches('/');
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(toml: &str) -> Access {
        #[derive(Deserialize)]
        struct Wrap {
            auth: Auth,
        }
        let auth = toml::from_str::<Wrap>(toml).unwrap().auth;
        Access { auth, ..Access::default() }
    }

    fn secret(text: &str) -> (tempfile::NamedTempFile, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().display().to_string();
        (file, path)
    }

    #[test]
    fn a_connection_string_gives_the_address_and_the_literal_user() {
        let text = "Endpoint=sb://contoso-ns.servicebus.example/;SharedAccessKeyName=k;SharedAccessKey=eA==";
        let (_file, path) = secret(&format!("{text}\n"));
        let config = access(&format!("auth = {{ connection_string = {{ file = {path:?} }} }}"))
            .client_config()
            .unwrap();
        assert_eq!(config.get("bootstrap.servers"), Some("contoso-ns.servicebus.example:9093"));
        assert_eq!(config.get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(config.get("sasl.username"), Some("$ConnectionString"));
        assert_eq!(config.get("sasl.password"), Some(text));
    }

    #[test]
    fn half_a_connection_string_is_refused_without_showing_it() {
        let (_file, path) = secret("SharedAccessKey=c2VjcmV0");
        let refused = access(&format!("auth = {{ connection_string = {{ file = {path:?} }} }}"))
            .client_config()
            .unwrap_err();
        assert_eq!(refused.failure, Failure::Hold);
        assert!(refused.message.contains("Endpoint=sb://"), "{}", refused.message);
        assert!(!format!("{refused:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn a_login_is_never_sent_unencrypted() {
        let mut access = access(r#"auth = { plain = { user = "u", password = { env = "X" } } }"#);
        access.bootstrap = Some("broker.contoso.example:9092".to_owned());
        access.tls = Some(false);
        assert!(access.client_config().unwrap_err().message.contains("unencrypted"));
    }
}
