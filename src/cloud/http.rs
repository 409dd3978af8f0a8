//! The one HTTP client: every adapter that speaks HTTP builds it from [`HttpConfig`] and sends through
//! [`HttpClient::send`]. It has deadlines and caps, follows no redirect, uses no proxy that is not configured,
//! and looks at every status code. It does not retry, sign or log in.

mod body;
mod failure;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, DATE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use reqwest::{Method, Request, RequestBuilder, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

pub use failure::{Acted, Deadline, HttpError, Said, of_status};

use self::body::Body;
use self::failure::words;
use super::plain;
use crate::domain::Ticks;
use crate::journal::Clock;
use crate::pipeline::backoff::retry_after;

/// How to talk HTTP to one far end. Every key has a default that suits a service on the internet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Milliseconds until a connection must stand, name resolution and TLS included. Default 10,000: a
    /// handshake across the world takes one second, a lost SYN three.
    pub connect_timeout_ms: u64,
    /// Milliseconds until the head of the answer must be there, connecting included. Default 30,000, the
    /// longest that webhook receivers are told to take.
    pub header_timeout_ms: u64,
    /// Milliseconds that the body may pause. Default 30,000.
    pub idle_timeout_ms: u64,
    /// Milliseconds for the whole exchange. Default 120,000: a body that trickles for ever ends here.
    pub total_timeout_ms: u64,
    /// Bytes of an answer that are taken, after decompression. Default 64 MiB.
    pub max_response_bytes: usize,
    /// How many times larger than on the wire an answer may become. Default 200; JSON of logs reaches 30.
    pub max_response_ratio: usize,
    /// PEM file with certificates of a private authority, trusted beside the system's. Default none.
    pub ca_file: Option<PathBuf>,
    /// `environment` (`HTTPS_PROXY` and its kin) or the proxy's URL. Default none: variables that happen to be
    /// set do not redirect traffic that carries credentials.
    pub proxy: Option<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 10_000,
            header_timeout_ms: 30_000,
            idle_timeout_ms: 30_000,
            total_timeout_ms: 120_000,
            max_response_bytes: 64 << 20,
            max_response_ratio: 200,
            ca_file: None,
            proxy: None,
        }
    }
}

/// The value of `proxy` that means "as the environment says".
const PROXY_FROM_ENVIRONMENT: &str = "environment";

/// Headers in which services tell their id of an exchange, for their support and our log.
const CORRELATION: [&str; 5] =
    ["x-correlation-id", "x-request-id", "request-id", "x-ms-request-id", "client-request-id"];

/// The client for one far end. Cheap to clone; connections are shared.
#[derive(Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    config: Arc<HttpConfig>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A 2xx answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Vec<u8>,
    /// The far end's id of this exchange, if it gave one, fit to be shown.
    pub correlation: Option<String>,
    /// The far end's own time.
    pub date: Option<Ticks>,
}

/// An exchange that brought at least a head.
struct Ended {
    /// Without its body.
    answer: Answer,
    body: Result<Vec<u8>, HttpError>,
}

impl HttpClient {
    /// Builds it; connects to nothing.
    ///
    /// # Errors
    /// [`HttpError::Unbuilt`] if the certificate file or the proxy is no good.
    pub fn new(config: HttpConfig, clock: Arc<dyn Clock>) -> Result<Self, HttpError> {
        let unbuilt = |what: &str, detail: String| HttpError::Unbuilt {
            place: "any far end".to_owned(),
            detail: format!("{what}: {detail}"),
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_millis(config.connect_timeout_ms))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            // Decompressed by us, under caps.
            .no_gzip()
            .pool_idle_timeout(Duration::from_secs(60))
            .referer(false);
        match config.proxy.as_deref() {
            None => builder = builder.no_proxy(),
            Some(PROXY_FROM_ENVIRONMENT) => {}
            Some(url) => {
                let proxy = reqwest::Proxy::all(url).map_err(|e| unbuilt("proxy", words(e)))?;
                builder = builder.proxy(proxy);
            }
        }
        if let Some(path) = &config.ca_file {
            let place = format!("ca_file {}", path.display());
            let pem = std::fs::read(path).map_err(|error| unbuilt(&place, error.to_string()))?;
            let found = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| unbuilt(&place, words(error)))?;
            if found.is_empty() {
                return Err(unbuilt(&place, "there is no certificate in it".to_owned()));
            }
            builder = builder.tls_certs_merge(found);
        }
        let client = builder.build().map_err(|error| unbuilt("TLS", words(error)))?;
        Ok(Self { client, config: Arc::new(config), clock })
    }

    /// The same client, connections shared, for a far end that thinks longer before it answers: deadlines for the
    /// head and for the whole exchange that are at least these.
    #[must_use]
    pub fn patient(&self, header: Duration, total: Duration) -> Self {
        let at_least = |own: u64, least: Duration| {
            own.max(u64::try_from(least.as_millis()).unwrap_or(u64::MAX))
        };
        let config = HttpConfig {
            header_timeout_ms: at_least(self.config.header_timeout_ms, header),
            total_timeout_ms: at_least(self.config.total_timeout_ms, total),
            ..self.config.as_ref().clone()
        };
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// Begins a request.
    pub fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.client.request(method, url.clone())
    }

    /// Sends it and reads the whole answer. One attempt. Cancel-safe in that nothing of ours is left behind;
    /// the far end may have acted.
    ///
    /// # Errors
    /// Everything but a 2xx answer that was read to its end within deadlines and caps.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, HttpError> {
        let (place, ended) = self.fetch(request).await?;
        let status = ended.answer.status;
        if (200..=299).contains(&status) {
            return Ok(Answer { body: ended.body?, ..ended.answer });
        }
        let asked = ended.answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let now = ended.answer.date.unwrap_or_else(|| self.clock.now());
        Err(HttpError::Status {
            place,
            status,
            retry_after: retry_after(asked, now),
            // The code is what counts; a body that cannot be read does not change it.
            said: Box::new(ended.body.as_deref().map(Said::of).unwrap_or_default()),
            body: ended.body.map(|body| plain::answer(&body)).unwrap_or_default(),
            correlation: ended.answer.correlation,
        })
    }

    /// As [`HttpClient::send`], but an answer of any status is an answer: for a library that reads them itself.
    ///
    /// # Errors
    /// If there was no answer, or its body could not be read within deadlines and caps.
    pub async fn any_answer(&self, request: RequestBuilder) -> Result<Answer, HttpError> {
        let (_, ended) = self.fetch(request).await?;
        Ok(Answer { body: ended.body?, ..ended.answer })
    }

    async fn fetch(&self, request: RequestBuilder) -> Result<(String, Ended), HttpError> {
        let mut request = request.build().map_err(|error| HttpError::Unbuilt {
            place: error.url().map(place_of).unwrap_or_default(),
            detail: words(error),
        })?;
        let place = place_of(request.url());
        request.headers_mut().entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("gzip"));
        let total = Duration::from_millis(self.config.total_timeout_ms);
        let method = request.method().clone();
        let started = self.clock.monotonic();
        let exchange = self.exchange(request, &place);
        let ended = tokio::time::timeout(total, exchange).await.unwrap_or_else(|_| {
            Err(HttpError::Timeout { place: place.clone(), which: Deadline::Total, limit: total })
        });
        let answer = ended.as_ref().ok().map(|ended| &ended.answer);
        tracing::debug!(
            %method,
            place,
            status = answer.map(|answer| answer.status),
            correlation = answer.and_then(|answer| answer.correlation.as_deref()),
            milliseconds = self.clock.monotonic().saturating_sub(started).as_secs_f64() * 1e3,
            "http exchange"
        );
        Ok((place, ended?))
    }

    async fn exchange(&self, request: Request, place: &str) -> Result<Ended, HttpError> {
        let limit = Duration::from_millis(self.config.header_timeout_ms);
        let response = tokio::time::timeout(limit, self.client.execute(request))
            .await
            .map_err(|_| HttpError::Timeout {
                place: place.to_owned(),
                which: Deadline::Header,
                limit,
            })?
            .map_err(|error| sorted(error, place))?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let correlation = correlation_of(&headers);
        let date = date_of(&headers);
        let body = self.read(response, place).await;
        Ok(Ended { answer: Answer { status, headers, body: Vec::new(), correlation, date }, body })
    }

    async fn read(&self, mut response: Response, place: &str) -> Result<Vec<u8>, HttpError> {
        let limit = Duration::from_millis(self.config.idle_timeout_ms);
        let encoding = response.headers().get(CONTENT_ENCODING).cloned();
        let mut body = Body::new(encoding.as_ref(), &self.config, place)?;
        loop {
            let chunk = tokio::time::timeout(limit, response.chunk()).await.map_err(|_| {
                HttpError::Timeout { place: place.to_owned(), which: Deadline::Idle, limit }
            })?;
            match chunk.map_err(|error| sorted(error, place))? {
                Some(bytes) => body.push(&bytes)?,
                None => return body.finish(),
            }
        }
    }
}

/// The library's errors, sorted into ours.
fn sorted(error: reqwest::Error, place: &str) -> HttpError {
    let place = place.to_owned();
    if error.is_builder() {
        return HttpError::Unbuilt { place, detail: words(error) };
    }
    if error.is_connect() {
        return HttpError::Connect { place, detail: words(error) };
    }
    HttpError::Broken { place, detail: words(error) }
}

/// Scheme, host and port: all of a URL that may be shown.
#[must_use]
pub fn place_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("-");
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

/// Reads a URL from the configuration. It is trusted: private and loopback hosts and plain `http` are allowed.
///
/// # Errors
/// In words, without the URL itself (it may hold a secret).
pub fn configured_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("not an http or https URL with a host".to_owned());
    }
    Ok(url)
}

/// A header's value that holds a secret: it does not show itself in logs, and may not be indexed by HTTP/2.
///
/// # Errors
/// If the secret has characters that no header may have; the text does not show it.
pub fn sensitive(value: &SecretString) -> Result<HeaderValue, String> {
    let mut header = HeaderValue::from_str(value.expose_secret())
        .map_err(|_| "the secret has characters that a header cannot carry".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}

fn correlation_of(headers: &HeaderMap) -> Option<String> {
    let found = CORRELATION.iter().find_map(|name| headers.get(*name))?;
    Some(plain::plain(found.to_str().ok()?, 100))
}

fn date_of(headers: &HeaderMap) -> Option<Ticks> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Ticks::from_millis(i64::try_from(since_epoch.as_millis()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_with_a_host_are_taken() {
        for text in ["https://hooks.contoso.example/x?y", "http://127.0.0.1:8080/"] {
            configured_url(text).unwrap();
        }
        for text in ["", "hooks.contoso.example", "ftp://contoso.example/", "file:///etc/passwd"] {
            configured_url(text).unwrap_err();
        }
    }

    /// Row S8 of the security list.
    #[test]
    fn a_place_shows_neither_user_nor_path_nor_query() {
        let url = Url::parse("https://ada:canary@hooks.contoso.example:8443/canary?sig=canary");
        assert_eq!(place_of(&url.unwrap()), "https://hooks.contoso.example:8443");
    }

    /// Rows S7 and S27 of the security list.
    #[test]
    fn a_secret_header_does_not_show_itself_and_takes_no_line_breaks() {
        let header = sensitive(&SecretString::from("canary")).unwrap();
        assert!(!format!("{header:?}").contains("canary"));
        let refused = sensitive(&SecretString::from("can\r\nary: x")).unwrap_err();
        assert!(!refused.contains("ary:"), "{refused}");
    }

    #[test]
    fn a_certificate_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config =
            HttpConfig { ca_file: Some(file.path().to_path_buf()), ..HttpConfig::default() };
        let clock = Arc::new(crate::journal::SystemClock::default());
        let error = HttpClient::new(config, clock).unwrap_err().to_string();
        assert!(error.contains("no certificate"), "{error}");
    }
}
