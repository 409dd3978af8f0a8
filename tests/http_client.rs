//! The one HTTP client against servers that break the rules: deadlines, caps, proxies, certificates. How its
//! failures are used is tested with the adapters that use it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/misbehaving_server.rs"]
mod misbehaving_server;

use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use postern::cloud::http::{
    Acted, Answer, Deadline, HttpClient, HttpConfig, HttpError, configured_url,
};
use postern::journal::SystemClock;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use misbehaving_server::{Conduct, Server};

fn quick() -> HttpConfig {
    HttpConfig {
        connect_timeout_ms: 2000,
        header_timeout_ms: 500,
        idle_timeout_ms: 500,
        total_timeout_ms: 900,
        ..HttpConfig::default()
    }
}

async fn get(config: HttpConfig, url: &str) -> Result<Answer, HttpError> {
    let client = HttpClient::new(config, Arc::new(SystemClock::default())).unwrap();
    let url = configured_url(url).unwrap();
    let sent = client.send(client.request(reqwest::Method::GET, &url));
    tokio::time::timeout(Duration::from_secs(10), sent).await.expect("ends by itself")
}

/// Row C3 of the fault matrix.
#[tokio::test]
async fn every_wait_has_its_deadline_and_leaves_the_outcome_unknown() {
    let server = Server::start().await;
    server.plan([Conduct::LoseAnswer]);
    let error = get(quick(), &server.url()).await.unwrap_err();
    assert!(matches!(error, HttpError::Timeout { which: Deadline::Header, .. }), "{error}");
    assert_eq!(error.acted(), Acted::Unknown);
    // It trickles fast enough for the idle deadline and for ever.
    server.plan([Conduct::Trickle]);
    let error = get(quick(), &server.url()).await.unwrap_err();
    assert!(matches!(error, HttpError::Timeout { which: Deadline::Total, .. }), "{error}");
    server.plan([Conduct::Trickle]);
    let impatient = HttpConfig { idle_timeout_ms: 5, ..quick() };
    let error = get(impatient, &server.url()).await.unwrap_err();
    assert!(matches!(error, HttpError::Timeout { which: Deadline::Idle, .. }), "{error}");
    server.plan([Conduct::CutBody]);
    let error = get(quick(), &server.url()).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error}");
    // A port where nobody listens: surely nothing was done.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = get(quick(), &format!("http://{free}/")).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "{error}");
    assert_eq!(error.acted(), Acted::No);
}

/// Row S9 of the security list.
#[tokio::test]
async fn answers_are_opened_under_caps_and_a_bomb_is_refused() {
    let zipped = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let answer = |body: Vec<u8>| Conduct::Answer {
        status: 200,
        headers: vec![("content-encoding", "gzip".to_owned()), ("x-request-id", "r-1".to_owned())],
        body,
    };
    let server = Server::start().await;
    server.plan([answer(zipped(b"{\"value\":[]}")), answer(zipped(&vec![0; 100 << 20]))]);
    let opened = get(quick(), &server.url()).await.unwrap();
    assert_eq!(opened.body, b"{\"value\":[]}");
    assert_eq!(opened.correlation.as_deref(), Some("r-1"));
    assert_eq!(server.requests()[0].headers["accept-encoding"], "gzip");
    let patient = HttpConfig { total_timeout_ms: 8000, ..quick() };
    let error = get(patient, &server.url()).await.unwrap_err();
    assert!(matches!(error, HttpError::Encoding { .. }), "{error}");
}

/// What an error shows of the answer is one line, without what steers a terminal.
#[tokio::test]
async fn an_error_shows_the_beginning_of_the_answer_fit_to_be_shown() {
    let server = Server::start().await;
    let body = format!("{{\"error\":\"\u{1b}]0;x\u{7}\r\n{}\"}}", "long ".repeat(1000));
    server.plan([Conduct::Answer { status: 400, headers: Vec::new(), body: body.into_bytes() }]);
    let error = get(quick(), &server.url()).await.unwrap_err().to_string();
    assert!(error.contains("answered 400: {\"error\":\"\\u{1b}]0;x\\u{7}  long"), "{error}");
    assert!(error.len() < 500 && !error.chars().any(char::is_control), "{error}");
}

/// A proxy that only counts who comes.
async fn counting_proxy() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 204 Proxied\r\nconnection: close\r\n\r\n").await;
        }
    });
    (place, count)
}

#[tokio::test]
async fn a_configured_proxy_is_used() {
    let (proxy, count) = counting_proxy().await;
    let config = HttpConfig { proxy: Some(proxy), ..quick() };
    get(config, "http://tickets.contoso.example/").await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

/// Row S5 of the security list. The environment of a process cannot be changed safely from within, so the test
/// runs itself again with the variables set.
#[tokio::test]
async fn proxies_of_the_environment_are_used_only_where_the_configuration_says_so() {
    const ROLE: &str = "POSTERN_TEST_PROXY_URL";
    if let Ok(url) = std::env::var(ROLE) {
        get(quick(), &url).await.unwrap();
        let config = HttpConfig { proxy: Some("environment".to_owned()), ..quick() };
        get(config, "http://tickets.contoso.example/").await.unwrap();
        return;
    }
    let (proxy, count) = counting_proxy().await;
    let server = Server::start().await;
    let url = server.url();
    let child = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "proxies_of_the_environment_are_used_only_where_the_configuration_says_so",
        ]);
        for name in
            ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        {
            command.env(name, &proxy);
        }
        for name in ["NO_PROXY", "no_proxy", "REQUEST_METHOD"] {
            command.env_remove(name);
        }
        command.env(ROLE, url).output().unwrap()
    });
    let output = child.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(server.requests().len(), 1, "without the word the way is direct");
    assert_eq!(count.load(Ordering::SeqCst), 1, "with it the way is the proxy's");
}

/// A TLS server for `name`; counts the requests that it could read.
async fn tls_server(
    authority: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
    expired: bool,
) -> (u16, Arc<AtomicUsize>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let certificate = params.signed_by(&key, authority).unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            let _ = stream.write_all(b"HTTP/1.1 204 Fine\r\nconnection: close\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    (port, count)
}

/// Row S6 of the security list, row J4 of the fault matrix.
#[tokio::test]
async fn a_private_authority_is_trusted_by_file_and_bad_certificates_get_no_header() {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let home = tempfile::TempDir::new().unwrap();
    let ca_file = home.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let trusting = HttpConfig { ca_file: Some(ca_file), ..quick() };

    let (port, count) = tls_server(&authority, "localhost", false).await;
    get(trusting.clone(), &format!("https://localhost:{port}/")).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let error = get(quick(), &format!("https://localhost:{port}/")).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "an unknown authority: {error}");
    assert_eq!(count.load(Ordering::SeqCst), 1);

    for (name, expired) in [("elsewhere.contoso.example", false), ("localhost", true)] {
        let (port, count) = tls_server(&authority, name, expired).await;
        let error = get(trusting.clone(), &format!("https://localhost:{port}/")).await.unwrap_err();
        assert!(matches!(error, HttpError::Connect { .. }), "{name}: {error}");
        assert_eq!(count.load(Ordering::SeqCst), 0, "{name}");
    }
}
