//! Tokens: asked for once, renewed in time, kept while renewing fails, dropped when they are refused; and what is
//! said when there is none. Against a token endpoint over TLS that does what it is told, and the simulated cloud.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/tls_server.rs"]
mod tls_server;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use azure_core::base64::encode_url_safe;
use azure_core::credentials::TokenCredential as _;
use postern::cloud::http::{Answer, HttpError};
use postern::cloud::tenant::{Ask, TenantAccess, TenantConfig, Workload};
use postern::domain::{Failure, Ticks};
use postern::journal::{Clock, SystemClock};
use postern::simulator::cloud::settings::KnownCertificate;
use postern::simulator::cloud::{AppConfig, Cloud, CloudConfig};
use rustls_pki_types::PrivatePkcs8KeyDer;
use secrecy::ExposeSecret as _;

use tls_server::{Asked, Said, TlsServer};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
const SECRET: &str = "canary~secret+with/signs=";

/// The machine's clock, which a test can set forward.
struct Forward {
    real: SystemClock,
    seconds: AtomicU64,
}

impl Clock for Forward {
    fn now(&self) -> Ticks {
        self.real.now()
    }

    fn monotonic(&self) -> Duration {
        self.real.monotonic() + Duration::from_secs(self.seconds.load(Ordering::SeqCst))
    }
}

struct Scene {
    access: TenantAccess,
    clock: Arc<Forward>,
    home: tempfile::TempDir,
}

impl Scene {
    /// A tenant whose authority and APIs are all at `origin`, with `credential`; `{home}` in it is a directory.
    fn new(origin: &str, ca_file: &Path, credential: &str) -> Self {
        let home = tempfile::TempDir::new().unwrap();
        let credential = credential.replace("{home}", home.path().to_str().unwrap());
        std::fs::write(home.path().join("secret"), SECRET).unwrap();
        let text = format!(
            "id = \"{TENANT}\"\ncredential = {credential}\nhttp = {{ ca_file = {ca_file:?} }}\n\
             endpoints = {{ authority = {origin:?}, graph = {origin:?}, activity = {origin:?} }}\n"
        );
        let config: TenantConfig = toml::from_str(&text).unwrap();
        let clock = Arc::new(Forward { real: SystemClock::default(), seconds: AtomicU64::new(0) });
        let access = TenantAccess::new(&config, Arc::clone(&clock) as _).unwrap();
        Self { access, clock, home }
    }

    fn with_secret(server: &TlsServer) -> Self {
        Self::new(&server.origin(), &server.ca_file(), WITH_SECRET)
    }

    fn forward(&self, seconds: u64) {
        self.clock.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    async fn ask(&self) -> Result<Answer, HttpError> {
        let url = self.access.link(Workload::Graph, "/v1.0/security/incidents").unwrap();
        self.access.send(Workload::Graph, Ask::get(url)).await
    }
}

const WITH_SECRET: &str = "{ client_secret = { client_id = \"66666666-7777-8888-9999-000000000000\", secret = { file = \"{home}/secret\" } } }";

fn is_token(asked: &Asked) -> bool {
    asked.path.ends_with("/oauth2/v2.0/token")
}

fn token(text: &str) -> Said {
    let body = format!(
        "{{\"token_type\":\"Bearer\",\"expires_in\":3600,\"ext_expires_in\":3600,\"access_token\":{text:?}}}"
    );
    Said::json(200, body)
}

fn refusal(code: u32) -> Said {
    let body = format!(
        "{{\"error\":\"invalid_client\",\"error_description\":\"AADSTS{code}: Something about it.\",\
         \"error_codes\":[{code}],\"trace_id\":\"t-1\",\"correlation_id\":\"c-1\"}}"
    );
    Said::json(401, body)
}

#[tokio::test]
async fn many_requests_at_once_ask_for_one_token_and_the_form_is_as_entra_wants_it() {
    let server = TlsServer::start(|asked| {
        if is_token(asked) { token("first") } else { Said::json(200, "{\"value\":[]}") }
    })
    .await;
    let scene = Arc::new(Scene::with_secret(&server));
    let asking = (0..20).map(|_| {
        let scene = Arc::clone(&scene);
        tokio::spawn(async move { scene.ask().await.unwrap() })
    });
    for one in asking.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    let tokens = server.asked("token");
    assert_eq!(tokens.len(), 1, "one for all");
    assert_eq!(tokens[0].path, format!("/{TENANT}/oauth2/v2.0/token"));
    let field = |name: &str| tokens[0].field(name).unwrap();
    assert_eq!(field("grant_type"), "client_credentials");
    assert_eq!(field("client_id"), CLIENT);
    assert_eq!(field("client_secret"), SECRET);
    assert_eq!(
        field("scope"),
        "https://graph.microsoft.com/.default",
        "the cloud's, not the address"
    );
    let asked = server.asked("incidents");
    assert_eq!(asked.len(), 20);
    assert!(asked.iter().all(|asked| asked.headers["authorization"] == "Bearer first"));
    // Another API, another token; hunting shares Graph's.
    for workload in [Workload::Hunting, Workload::Activity] {
        let url = scene.access.endpoint(workload).clone();
        scene.access.send(workload, Ask::get(url)).await.unwrap();
    }
    let tokens = server.asked("token");
    assert_eq!(tokens.len(), 2);
    assert_eq!(tokens[1].field("scope").unwrap(), "https://manage.office.com/.default");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires_and_kept_while_that_fails() {
    let tokens = AtomicUsize::new(0);
    let server = TlsServer::start(move |asked| {
        if !is_token(asked) {
            return Said::json(200, "{}");
        }
        match tokens.fetch_add(1, Ordering::SeqCst) {
            0 => token("first"),
            1 => Said::json(503, "").with("retry-after", "30"),
            _ => token("second"),
        }
    })
    .await;
    let scene = Scene::with_secret(&server);
    scene.ask().await.unwrap();
    scene.forward(3200);
    scene.ask().await.unwrap();
    assert_eq!(server.asked("token").len(), 1, "more than five minutes are left");
    scene.forward(150);
    for _ in 0..3 {
        scene.ask().await.unwrap();
    }
    assert_eq!(server.asked("token").len(), 2, "asked once, then left alone as it asked");
    scene.forward(31);
    scene.ask().await.unwrap();
    let used: Vec<String> =
        server.asked("incidents").iter().map(|it| it.headers["authorization"].clone()).collect();
    assert_eq!(used[..5], ["Bearer first"; 5]);
    assert_eq!(used[5], "Bearer second");
}

/// Fault matrix: C12. An API that refuses every token costs one renewal a minute, and no loop.
#[tokio::test]
async fn a_refused_token_is_renewed_once_and_at_most_once_a_minute() {
    let tokens = AtomicUsize::new(0);
    let server = TlsServer::start(move |asked| {
        if is_token(asked) {
            return token(&format!("token-{}", tokens.fetch_add(1, Ordering::SeqCst)));
        }
        match asked.headers["authorization"].as_str() {
            "Bearer token-1" => Said::json(200, "{}"),
            _ => Said::json(
                401,
                "{\"error\":{\"code\":\"InvalidAuthenticationToken\",\"message\":\"No.\"}}",
            ),
        }
    })
    .await;
    let scene = Scene::with_secret(&server);
    // The first token is refused, the second is good: the source notices nothing.
    scene.ask().await.unwrap();
    assert_eq!(server.asked("token").len(), 2);
    assert_eq!(server.asked("incidents").len(), 2);
    // From now on it is expired for us, and every new one is refused.
    scene.forward(3600);
    for _ in 0..10 {
        let error = scene.ask().await.unwrap_err();
        assert_eq!((error.status(), error.failure()), (Some(401), Failure::Hold));
    }
    assert_eq!(server.asked("token").len(), 4, "the expired one, and one that was refused");
    assert_eq!(server.asked("incidents").len(), 2 + 10 + 1);
    scene.forward(61);
    scene.ask().await.unwrap_err();
    assert_eq!(server.asked("token").len(), 5);
}

/// Fault matrix: C12. The token is refused, and the token endpoint is down.
#[tokio::test]
async fn a_token_endpoint_that_is_down_is_asked_now_and_then_and_the_source_goes_on_by_itself() {
    let tokens = AtomicUsize::new(0);
    let server = TlsServer::start(move |asked| {
        if is_token(asked) {
            return match tokens.fetch_add(1, Ordering::SeqCst) {
                0 => token("first"),
                1 => Said::json(500, "<html>oops"),
                _ => token("second"),
            };
        }
        match asked.headers["authorization"].as_str() {
            "Bearer second" => Said::json(200, "{}"),
            _ => Said::json(401, ""),
        }
    })
    .await;
    let scene = Scene::with_secret(&server);
    for _ in 0..5 {
        let error = scene.ask().await.unwrap_err();
        assert!(matches!(error, HttpError::NoToken { .. }), "{error}");
        assert!(matches!(error.failure(), Failure::Retry(_)), "{error}");
    }
    assert_eq!(server.asked("token").len(), 2, "not hammered");
    scene.forward(6);
    scene.ask().await.unwrap();
}

/// Fault matrix: J1.
#[tokio::test]
async fn a_rotated_secret_is_picked_up_at_once_and_a_wrong_one_is_not_repeated() {
    let server = TlsServer::start(|asked| match asked.field("client_secret") {
        Some(secret) if secret == "new" => token("new"),
        Some(_) => refusal(7_000_222),
        None => Said::json(200, "{}"),
    })
    .await;
    let scene = Scene::with_secret(&server);
    for _ in 0..3 {
        let error = scene.ask().await.unwrap_err();
        assert_eq!(error.failure(), Failure::Hold);
        let text = error.to_string();
        assert!(text.contains("has expired: make a new one under App registrations"), "{text}");
        assert!(text.contains("trace t-1, correlation c-1"), "{text}");
        assert!(!text.contains("canary") && !format!("{error:?}").contains("canary"), "{text}");
    }
    assert_eq!(server.asked("token").len(), 1, "the same secret is wrong for a while");
    std::fs::write(scene.home.path().join("secret"), "new\n").unwrap();
    scene.ask().await.unwrap();
    assert!(!format!("{:?}", scene.access).contains("canary"));
}

/// Fault matrix: J4. Row S6 of the security list.
#[tokio::test]
async fn an_endpoint_that_is_not_who_it_should_be_gets_no_byte_of_a_secret() {
    let right = TlsServer::start(|_| token("x")).await;
    let other_name = TlsServer::named("elsewhere.contoso.example", |_| token("x")).await;
    for (server, ca_file) in [(&right, other_name.ca_file()), (&other_name, other_name.ca_file())] {
        let scene = Scene::new(&server.origin(), &ca_file, WITH_SECRET);
        let error = scene.ask().await.unwrap_err();
        assert!(matches!(error, HttpError::NoToken { failure: Failure::Retry(_), .. }), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
        assert_eq!(server.asked("").len(), 0);
    }
    // Nor is it sent without TLS.
    let config = format!("id = \"{TENANT}\"\nendpoints = {{ authority = \"http://localhost:1\" }}");
    let config: TenantConfig = toml::from_str(&config).unwrap();
    let refused = TenantAccess::new(&config, Arc::new(SystemClock::default())).unwrap_err();
    assert!(refused.message.contains("https only"), "{}", refused.message);
}

/// A fresh RSA key, which rcgen alone cannot make here.
fn rsa() -> rcgen::KeyPair {
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let der = PrivatePkcs8KeyDer::from(der.as_ref());
    rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256).unwrap()
}

/// The simulated Entra checks the signature, the thumbprint, the audience and the times.
#[tokio::test]
async fn a_certificate_signs_an_assertion_that_entra_takes() {
    let key = rsa();
    let params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.der());
    let known = KnownCertificate {
        thumbprint: encode_url_safe(digest).trim_end_matches('=').to_owned(),
        public_key: key.public_key_raw().to_vec(),
    };
    for (certificates, passes) in [(vec![known], true), (Vec::new(), false)] {
        let app = AppConfig { certificates, ..AppConfig::with_secret("x") };
        let credential = format!(
            "{{ certificate = {{ client_id = \"{}\", file = \"{{home}}/app.pem\" }} }}",
            app.client_id
        );
        let config = CloudConfig { app, tenant_id: TENANT.into(), ..CloudConfig::default() };
        let cloud = Cloud::start(config, Arc::new(SystemClock::default()) as Arc<dyn Clock>, None)
            .await
            .unwrap();
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), cloud.authority()).unwrap();
        let scene = Scene::new(&cloud.origin(), ca.path(), &credential);
        let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
        std::fs::write(scene.home.path().join("app.pem"), pem).unwrap();
        let token = scene.access.token_for("https://graph.microsoft.com/.default").await;
        if passes {
            let token = token.unwrap();
            let roles = token.roles().unwrap();
            assert!(roles.contains(&"SecurityIncident.Read.All".to_owned()), "{roles:?}");
            assert!(token.lives > Duration::from_secs(3000), "{:?}", token.lives);
        } else {
            let text = token.unwrap_err().to_string();
            assert!(
                text.contains("AADSTS7000") && text.contains("upload the certificate"),
                "{text}"
            );
        }
        assert!(scene.access.credential_expires().is_some(), "the certificate says it itself");
    }
}

#[tokio::test]
async fn a_service_accounts_token_is_the_assertion_and_is_read_again() {
    let server = TlsServer::start(|asked| match asked.field("client_assertion") {
        Some(assertion) if assertion == "second" => token("good"),
        Some(_) => refusal(700_024),
        None => Said::json(200, "{}"),
    })
    .await;
    let credential = format!(
        "{{ workload_identity = {{ client_id = \"{CLIENT}\", token_file = \"{{home}}/token\" }} }}"
    );
    let scene = Scene::new(&server.origin(), &server.ca_file(), &credential);
    let missing = scene.ask().await.unwrap_err();
    assert_eq!(missing.failure(), Failure::Hold, "{missing}");
    std::fs::write(scene.home.path().join("token"), "first").unwrap();
    let stale = scene.ask().await.unwrap_err().to_string();
    assert!(stale.contains("see that the token file is renewed"), "{stale}");
    std::fs::write(scene.home.path().join("token"), "second").unwrap();
    scene.ask().await.unwrap();
}

/// What the Azure SDK's own clients get.
#[tokio::test]
async fn the_sdks_clients_get_the_same_tokens() {
    let server = TlsServer::start(|_| token("for-blobs")).await;
    let scene = Scene::with_secret(&server);
    let scope = scene.access.scope(Workload::Storage);
    for _ in 0..3 {
        let token = scene.access.get_token(&[&scope], None).await.unwrap();
        assert_eq!(token.token.secret(), "for-blobs");
    }
    let asked = server.asked("token");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].field("scope").unwrap(), "https://storage.azure.com/.default");
    let own = scene.access.token_for(&scope).await.unwrap();
    assert_eq!(own.text.expose_secret(), "for-blobs");
}

/// The metadata service is at a fixed address, so the test runs itself again in a network of its own where that
/// address is on the loopback.
#[tokio::test]
async fn a_managed_identity_asks_the_metadata_service_of_its_machine() {
    const ROLE: &str = "POSTERN_TEST_METADATA";
    if std::env::var(ROLE).is_err() {
        let inside = "ip link set lo up && ip address add 169.254.169.254/32 dev lo && exec \"$@\"";
        let me = std::env::current_exe().unwrap();
        let child = tokio::task::spawn_blocking(move || {
            let mut command = std::process::Command::new("unshare");
            command.args(["--net", "--map-root-user", "sh", "-c", inside, "sh"]).arg(me);
            command
                .args(["--exact", "a_managed_identity_asks_the_metadata_service_of_its_machine"]);
            command.env(ROLE, "1").env_remove("IDENTITY_ENDPOINT").env_remove("IMDS_ENDPOINT");
            command.output()
        });
        let output = match child.await.unwrap() {
            Ok(output) => output,
            Err(error) => return println!("not shown here, no unshare: {error}"),
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("unshare failed") || said.contains("Operation not permitted") {
            return println!("not shown here, no network of its own: {said}");
        }
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && shown.contains("1 passed"), "{shown}{said}");
        return;
    }
    let listener = tokio::net::TcpListener::bind("169.254.169.254:80").await.unwrap();
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        let ends = std::time::SystemTime::now() + Duration::from_secs(86_400);
        let ends = ends.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let body = format!(
            "{{\"access_token\":\"machine\",\"expires_in\":\"86400\",\"expires_on\":\"{ends}\",\
             \"not_before\":\"1\",\"resource\":\"https://graph.microsoft.com\",\"token_type\":\"Bearer\"}}"
        );
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request[..length].to_vec()).unwrap()
    });
    let credential = format!("{{ managed_identity = {{ client_id = \"{CLIENT}\" }} }}");
    let text = format!(
        "id = \"{TENANT}\"\ncredential = {credential}\nhttp = {{ proxy = \"http://127.0.0.1:1\" }}"
    );
    let config: TenantConfig = toml::from_str(&text).unwrap();
    let access = TenantAccess::new(&config, Arc::new(SystemClock::default())).unwrap();
    let token = access.token_for("https://graph.microsoft.com/.default").await.unwrap();
    assert_eq!(token.text.expose_secret(), "machine");
    assert!(token.lives > Duration::from_secs(86_000));
    let request = server.await.unwrap();
    assert!(request.starts_with("GET /metadata/identity/oauth2/token?"), "{request}");
    assert!(request.contains("resource=https%3A%2F%2Fgraph.microsoft.com&"), "{request}");
    assert!(request.contains(&format!("client_id={CLIENT}")), "{request}");
    assert!(request.to_ascii_lowercase().contains("metadata: true"), "{request}");
}
