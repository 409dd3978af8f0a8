//! The one door of a tenant: links that lead elsewhere, answers that swell, throttling, tokens that are refused.
//! Knows no API's meaning.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/misbehaving_server.rs"]
mod misbehaving_server;

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use postern::cloud::http::HttpError;
use postern::cloud::tenant::{Ask, TenantAccess, TenantConfig, Workload};
use postern::domain::Failure;
use postern::journal::SystemClock;
use reqwest::Url;

use misbehaving_server::{Conduct, Server};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const TOKEN: &str = "canary-token-4711";

/// A tenant whose Graph and Activity API are at `place`, with a token in a file.
fn access_to(place: &str) -> (TenantAccess, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TOKEN).unwrap();
    let config = format!(
        "id = \"{TENANT}\"\ncredential = {{ token = {{ file = {:?} }} }}\n\
         endpoints = {{ graph = {place:?}, activity = {place:?} }}\n",
        file.path()
    );
    let config: TenantConfig = toml::from_str(&config).unwrap();
    (TenantAccess::new(&config, Arc::new(SystemClock::default())).unwrap(), file)
}

/// A listener that nobody should come to.
fn canary() -> (u16, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for _stream in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, count)
}

/// Links that lead to the canary, or name somebody, from a tenant whose API is at `127.0.0.1:H`.
const HOSTILE: [&str; 57] = [
    // Another port, host, scheme.
    "http://127.0.0.1:C/",
    "http://127.0.0.1:C/v1.0/security/incidents?$skip=50",
    "http://127.0.0.2:C/",
    "http://127.0.0.2:H/",
    "http://localhost:C/",
    "http://localhost:H/",
    "http://LOCALHOST:C/",
    "http://localhost.:C/",
    "http://127.0.0.1.:C/",
    "http://127.0.0.1/",
    "https://127.0.0.1:C/",
    "https://127.0.0.1:H/",
    "ftp://127.0.0.1:C/",
    "ws://127.0.0.1:C/",
    "file:///etc/passwd",
    "data:text/plain,x",
    "javascript:alert(1)",
    "gopher://127.0.0.1:C/",
    // Without a scheme.
    "//127.0.0.1:C/",
    "//localhost:C/v1.0",
    "///127.0.0.1:C/",
    "////127.0.0.1:C/",
    "http:/\u{2f}127.0.0.1:C/",
    // Other ways to write the address.
    "http://2130706433:C/",
    "http://0x7f000001:C/",
    "http://0177.0.0.1:C/",
    "http://127.1:C/",
    "http://127.0.1:C/",
    "http://0:C/",
    "http://0.0.0.0:C/",
    "http://[::1]:C/",
    "http://[::ffff:127.0.0.1]:C/",
    "http://[::ffff:7f00:1]:C/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:H/",
    "http://%31%32%37.0.0.1:C/",
    "http://127%2E0%2E0%2E1:C/",
    // Letters that are folded into others.
    "http://\u{ff11}27.0.0.1:C/",
    "http://①②⑦.0.0.1:C/",
    "http://127。0。0。1:C/",
    "http://loc\u{ad}alhost:C/",
    "http://ⓛocalhost:C/",
    "http://graph.microsoft.com.contoso.example:C/",
    // Somebody in front of the host.
    "http://127.0.0.1:H@127.0.0.1:C/",
    "http://user@127.0.0.1:C/",
    "http://user@127.0.0.1:H/",
    "http://user:password@127.0.0.1:H/",
    "http://:password@127.0.0.1:H/",
    "http://127.0.0.1:H%40127.0.0.1:C/",
    "//user@127.0.0.1:H/",
    // Slashes that are none, and characters that parsers drop.
    "http:\\\\127.0.0.1:C\\",
    "\\\\127.0.0.1:C/",
    "/\\127.0.0.1:C/",
    "http://127.0.0.1:H\\@127.0.0.1:C/",
    "ht\ntp://127.0.0.1:C/",
    "http://127.0.0.1:\tC/",
    "//127.0.0.1:C/\r\nHost: x",
    "http://127.0.0.1:H\u{0}@127.0.0.1:C/",
];

/// Fault matrix: C7. Rows S1 and S3 of the security list.
#[tokio::test]
async fn a_link_that_leads_elsewhere_is_refused_before_anybody_is_asked() {
    let server = Server::start().await;
    let home = format!("http://127.0.0.1:{}", server.port());
    let (access, _file) = access_to(&home);
    let (canary, visitors) = canary();
    for pattern in HOSTILE {
        let text = pattern
            .replace(":C", &format!(":{canary}"))
            .replace("\tC", &format!("\t{canary}"))
            .replace(":H", &format!(":{}", server.port()));
        for workload in [Workload::Graph, Workload::Hunting, Workload::Activity] {
            let refused = access.link(workload, &text).expect_err(pattern);
            assert_eq!(refused.failure, Failure::Hold, "{pattern}");
            assert!(!refused.message.contains("password"), "{pattern}: {}", refused.message);
        }
        // What a source forgets to check the door checks again.
        if let Ok(url) = Url::parse(&home).unwrap().join(&text)
            && !pattern.contains('\\')
            && !pattern.contains(|c: char| c.is_control())
        {
            let refused = access.send(Workload::Graph, Ask::get(url)).await.expect_err(pattern);
            assert!(matches!(refused, HttpError::Unbuilt { .. }), "{pattern}: {refused}");
        }
    }
    assert_eq!(visitors.load(Ordering::SeqCst), 0, "connections to the canary");
    assert_eq!(server.connections(), 0, "connections home, with somebody's name");
    // And what leads home is followed, with the token.
    for text in ["/v1.0/next?$skiptoken=a%20b", "?$skip=5", &format!("{home}/v1.0/next"), ""] {
        let url = access.link(Workload::Graph, text).expect(text);
        access.send(Workload::Graph, Ask::get(url)).await.unwrap();
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[0].path, "/v1.0/next?$skiptoken=a%20b");
    for request in &requests {
        assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"));
    }
    assert_ne!(
        requests[0].headers["client-request-id"], requests[1].headers["client-request-id"],
        "each request has an id of its own, for support"
    );
}

/// Row S4 of the security list.
#[tokio::test]
async fn a_redirect_is_an_error_and_takes_no_token_along() {
    let server = Server::start().await;
    let home = format!("http://127.0.0.1:{}", server.port());
    let (access, _file) = access_to(&home);
    let (canary, visitors) = canary();
    for target in [format!("http://127.0.0.1:{canary}/"), format!("{home}/elsewhere")] {
        server.plan([Conduct::with_header(302, "location", &target)]);
        let url = access.endpoint(Workload::Graph).clone();
        let error = access.send(Workload::Graph, Ask::get(url)).await.unwrap_err();
        assert_eq!((error.status(), error.failure()), (Some(302), Failure::Hold));
    }
    assert_eq!(visitors.load(Ordering::SeqCst), 0);
    assert_eq!(server.requests().len(), 2, "not followed home either");
}

/// Fault matrix: C1.
#[tokio::test]
async fn what_is_throttled_is_left_alone_and_other_workloads_are_not() {
    let server = Server::start().await;
    let (access, _file) = access_to(&format!("http://127.0.0.1:{}", server.port()));
    let ask = || Ask::get(access.endpoint(Workload::Activity).clone());
    let body =
        b"{\"error\":{\"code\":\"AF429\",\"message\":\"Too many requests. Method=GetBlob\"}}";
    server.plan([Conduct::Answer {
        status: 403,
        headers: vec![("retry-after", "120".to_owned())],
        body: body.to_vec(),
    }]);
    let error = access.send(Workload::Activity, ask()).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Retry(Some(Duration::from_secs(120))), "{error}");
    let error = access.send(Workload::Activity, ask()).await.unwrap_err();
    let HttpError::NotNow { after, .. } = &error else { panic!("{error}") };
    assert!(*after > Duration::from_secs(110) && *after <= Duration::from_secs(132), "{after:?}");
    assert_eq!(error.failure(), Failure::Retry(Some(*after)));
    assert!(error.to_string().contains("asked for patience"), "{error}");
    assert_eq!(server.requests().len(), 1, "the second one never left");
    access.send(Workload::Graph, ask()).await.unwrap();
}

/// Kilobytes of memory that this process has used at most, or now.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|text| text.starts_with(line)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// 10 GiB of zeros as about 10 MB of gzip: one compressed mebibyte, again and again (a deflate stream whose
/// blocks end on a byte boundary can be repeated).
fn bomb(of: usize) -> Vec<u8> {
    let mut one = flate2::Compress::new(Compression::best(), false);
    let block = vec![0_u8; 1 << 20];
    let mut packed = Vec::with_capacity(1 << 16);
    one.compress_vec(&block, &mut packed, flate2::FlushCompress::Full).unwrap();
    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for _ in 0..of {
        bomb.extend_from_slice(&packed);
    }
    bomb
}

/// Row S9 of the security list.
#[tokio::test]
async fn a_bomb_of_ten_gigabytes_is_refused_at_once_and_costs_no_memory() {
    let server = Server::start().await;
    let (access, _file) = access_to(&format!("http://127.0.0.1:{}", server.port()));
    let wire = bomb(10 << 10);
    let bytes = wire.len();
    assert!((8 << 20..16 << 20).contains(&bytes), "{bytes} bytes on the wire");
    let mut beginning = Vec::new();
    let opened = flate2::read::GzDecoder::new(&wire[..1 << 16]).read_to_end(&mut beginning);
    assert!(opened.is_err() && beginning.len() > 30 << 20, "it is one: {}", beginning.len());
    drop(beginning);
    let headers = vec![("content-encoding", "gzip".to_owned())];
    server.plan([Conduct::Answer { status: 200, headers, body: wire }]);
    let before = memory("VmRSS:");
    let started = Instant::now();
    let url = access.endpoint(Workload::Graph).clone();
    let error = access.send(Workload::Graph, Ask::get(url)).await.unwrap_err();
    let took = started.elapsed();
    assert!(matches!(error, HttpError::Encoding { .. }), "{error}");
    let grown = memory("VmRSS:").saturating_sub(before);
    println!("a bomb of {bytes} bytes: {took:?}, {grown} kB more, {} kB at most", memory("VmHWM:"));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// The same with an honest ratio: the cap on the size ends it.
#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read_to_its_end() {
    let server = Server::start().await;
    let (access, _file) = access_to(&format!("http://127.0.0.1:{}", server.port()));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(&vec![b'x'; 65 << 20]).unwrap();
    let headers = vec![("content-encoding", "gzip".to_owned())];
    let body = encoder.finish().unwrap();
    server.plan([Conduct::Answer { status: 200, headers, body }]);
    let url = access.endpoint(Workload::Graph).clone();
    let error = access.send(Workload::Graph, Ask::get(url)).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { .. }), "{error}");
}

/// A cloud without an API is not asked for it.
#[tokio::test]
async fn a_workload_that_the_cloud_does_not_have_is_refused_in_a_sentence() {
    let text = format!(
        "id = \"{TENANT}\"\ncloud = \"china\"\ncredential = {{ token = {{ env = \"HOME\" }} }}"
    );
    let config: TenantConfig = toml::from_str(&text).unwrap();
    let access = TenantAccess::new(&config, Arc::new(SystemClock::default())).unwrap();
    let url = access.endpoint(Workload::Hunting).clone();
    let error = access.send(Workload::Hunting, Ask::get(url)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Hold);
    assert!(error.to_string().contains("no Defender APIs"), "{error}");
}
