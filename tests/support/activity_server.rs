//! A small Management Activity API on the loopback: subscriptions, a paged listing by `contentCreated`, blobs that
//! become visible late, and every rule of the real one that a client can break. It keeps its own time, notes what
//! was asked, and does wrong what a test tells it to. It speaks just enough HTTP/1.1 over a bare socket that it can
//! break the rules.

#![allow(dead_code, reason = "shared by several tests, each of which uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern::domain::Ticks;
use postern::journal::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The tenant and publisher of every test.
pub const TENANT: &str = "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a";

/// When the server's time begins.
pub const BEGIN: &str = "2026-08-20T12:00:00Z";

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The subscriptions.
    List,
    /// A subscription to be started.
    Start(String),
    /// A page of a listing.
    Content { content: String, from: Ticks, to: Ticks, page: usize },
    /// A blob.
    Blob(String),
    /// Anything else.
    Other(String),
}

/// What the server does instead of what it should.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers with a code of the API's.
    Code { status: u16, code: &'static str, message: String, retry_after: Option<String> },
    /// Answers 200 with this body (and the right length).
    Body(Vec<u8>),
    /// Answers 200 with a body shorter than announced.
    Cut,
    /// Resets the connection.
    Reset,
    /// Answers a listing as it should, with this link to the next page.
    Link(String),
    /// Answers a blob as it should, with only the first half of its bytes.
    Half,
}

impl Fault {
    /// A code of the API's.
    pub fn code(status: u16, code: &'static str) -> Self {
        Self::Code { status, code, message: "no such luck".to_owned(), retry_after: None }
    }

    /// A throttle.
    pub fn throttle(status: u16, retry_after: Option<&str>) -> Self {
        Self::Code {
            status,
            code: "AF429",
            message: "Too many requests. Method=GetBlob".to_owned(),
            retry_after: retry_after.map(str::to_owned),
        }
    }
}

/// A blob.
#[derive(Debug, Clone)]
pub struct Content {
    pub id: String,
    pub content: String,
    pub created: Ticks,
    /// When it begins to be listed, by the server's time.
    pub visible: Ticks,
    pub expires: Ticks,
    pub body: Vec<u8>,
    /// How often each listing names it.
    pub times: usize,
    /// The address in the listing, where it is not the usual one.
    pub uri: Option<String>,
}

type Decide = Box<dyn FnMut(&Asked) -> Option<Fault> + Send>;

struct Inner {
    elapsed: Duration,
    blobs: Vec<Content>,
    enabled: BTreeSet<String>,
    log: Vec<(Ticks, Asked)>,
    decide: Decide,
    page: usize,
    date_skew: Option<i64>,
    next_header: &'static str,
    shuffle: u64,
    early: Option<(Ticks, Ticks)>,
    violations: Vec<String>,
    tokens: BTreeMap<String, (String, Ticks, Ticks, usize)>,
    frozen: BTreeMap<(String, i64, i64), Vec<usize>>,
}

/// The server; it ends with the value.
pub struct ActivityServer {
    inner: Arc<Mutex<Inner>>,
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for ActivityServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The process's clock: it runs with the server's, and its wall clock may be wrong.
pub struct WrongClock {
    inner: Arc<Mutex<Inner>>,
    skew_seconds: i64,
}

impl Clock for WrongClock {
    fn now(&self) -> Ticks {
        now(&self.inner.lock().unwrap()).plus_seconds(self.skew_seconds)
    }

    fn monotonic(&self) -> Duration {
        self.inner.lock().unwrap().elapsed
    }
}

fn now(inner: &Inner) -> Ticks {
    let begin = Ticks::parse(BEGIN).unwrap();
    Ticks(begin.0 + i64::try_from(inner.elapsed.as_nanos() / 100).unwrap())
}

impl ActivityServer {
    /// Starts it on a free port of the loopback.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = Arc::new(Mutex::new(Inner {
            elapsed: Duration::ZERO,
            blobs: Vec::new(),
            enabled: BTreeSet::new(),
            log: Vec::new(),
            decide: Box::new(|_| None),
            page: 5,
            date_skew: Some(0),
            next_header: "NextPageUri",
            shuffle: 1,
            early: None,
            violations: Vec::new(),
            tokens: BTreeMap::new(),
            frozen: BTreeMap::new(),
        }));
        let shared = Arc::clone(&inner);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), port));
            }
        });
        Self { inner, port, task }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A clock for the process under test.
    pub fn clock(&self, skew_seconds: i64) -> Arc<dyn Clock> {
        Arc::new(WrongClock { inner: Arc::clone(&self.inner), skew_seconds })
    }

    pub fn now(&self) -> Ticks {
        now(&self.inner.lock().unwrap())
    }

    pub fn advance(&self, by: Duration) {
        self.inner.lock().unwrap().elapsed += by;
    }

    /// What to do with each request; nothing special by default.
    pub fn decide(&self, decide: impl FnMut(&Asked) -> Option<Fault> + Send + 'static) {
        self.inner.lock().unwrap().decide = Box::new(decide);
    }

    pub fn behave(&self) {
        self.decide(|_| None);
    }

    /// Blobs on a page of the listing.
    pub fn page(&self, blobs: usize) {
        self.inner.lock().unwrap().page = blobs;
    }

    /// How wrong the `Date` header is, in seconds; none at all without a number.
    pub fn date_skew(&self, seconds: Option<i64>) {
        self.inner.lock().unwrap().date_skew = seconds;
    }

    pub fn next_header(&self, name: &'static str) {
        self.inner.lock().unwrap().next_header = name;
    }

    /// The order of listings; 0 for the newest first.
    pub fn shuffle(&self, seed: u64) {
        self.inner.lock().unwrap().shuffle = seed;
    }

    pub fn stop_subscription(&self, content: &str) {
        self.inner.lock().unwrap().enabled.remove(content);
    }

    /// Publishes a blob that was created `age` seconds ago, is visible at once and holds records of these ids.
    pub fn publish(&self, id: &str, age: i64, records: &[&str]) {
        let mut blob = self.blob(id, age, records);
        blob.visible = self.now();
        self.put(blob);
    }

    /// A blob, not yet published.
    pub fn blob(&self, id: &str, age: i64, records: &[&str]) -> Content {
        let created = self.now().plus_seconds(-age);
        Content {
            id: id.to_owned(),
            content: "Audit.General".to_owned(),
            created,
            visible: created,
            expires: created.plus_seconds(20 * 86_400),
            body: body(records),
            times: 1,
            uri: None,
        }
    }

    pub fn put(&self, blob: Content) {
        self.inner.lock().unwrap().blobs.push(blob);
    }

    /// Everything that was asked, and when.
    pub fn log(&self) -> Vec<(Ticks, Asked)> {
        self.inner.lock().unwrap().log.clone()
    }

    /// Whoever asks now does not know that it was to wait.
    pub fn forget_wait(&self) {
        self.inner.lock().unwrap().early = None;
    }

    pub fn forget_log(&self) {
        self.inner.lock().unwrap().log.clear();
    }

    /// How often a request of this sort was made.
    pub fn count(&self, sort: impl Fn(&Asked) -> bool) -> usize {
        self.log().iter().filter(|(_, asked)| sort(asked)).count()
    }

    /// Rules of the API that were broken.
    pub fn violations(&self) -> Vec<String> {
        self.inner.lock().unwrap().violations.clone()
    }
}

/// A blob's body with records of these ids. Their event time is long ago: nothing may depend on it.
pub fn body(records: &[&str]) -> Vec<u8> {
    let records: Vec<serde_json::Value> = records
        .iter()
        .map(|id| {
            serde_json::json!({
                "Id": id, "RecordType": 28, "CreationTime": "2020-01-01T00:00:00",
                "Operation": "TIMailData", "OrganizationId": TENANT, "UserType": 4, "Workload": "ThreatIntelligence",
                "UserId": "ThreatIntel", "NetworkMessageId": id, "Subject": "Invoice",
                "Recipients": ["ada@contoso.example"], "Verdict": "Phish",
            })
        })
        .collect();
    serde_json::to_vec(&records).unwrap()
}

async fn serve(mut stream: TcpStream, inner: Arc<Mutex<Inner>>, port: u16) {
    let mut buffer = Vec::new();
    while let Some((method, target, authorized)) = read_request(&mut stream, &mut buffer).await {
        let answer = answer(&mut inner.lock().unwrap(), &method, &target, authorized, port);
        match answer {
            Some((bytes, more)) => {
                if stream.write_all(&bytes).await.is_err() || !more {
                    return;
                }
            }
            None => {
                let _ = stream.set_zero_linger();
                return;
            }
        }
    }
}

/// The bytes to send and whether the connection stays; nothing for a reset.
fn answer(
    inner: &mut Inner,
    method: &str,
    target: &str,
    authorized: bool,
    port: u16,
) -> Option<(Vec<u8>, bool)> {
    let (asked, publisher) = read_target(inner, method, target);
    let now = now(inner);
    if let Some((told, until)) = inner.early
        && now > told
        && now < until
    {
        inner.violations.push(format!("{asked:?} at {now}, though asked to wait until {until}"));
    }
    if !authorized {
        inner.violations.push(format!("{asked:?} without the token"));
    }
    if publisher.as_deref() != Some(TENANT) {
        inner.violations.push(format!("{asked:?} with publisher {publisher:?}"));
    }
    inner.log.push((now, asked.clone()));
    let fault = (inner.decide)(&asked);
    match fault {
        Some(Fault::Reset) => return None,
        Some(Fault::Cut) => {
            return Some((
                b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n[{\"cut".to_vec(),
                false,
            ));
        }
        Some(Fault::Body(body)) => return Some((message(inner, 200, &[], &body), true)),
        Some(Fault::Code { status, code, message: words, retry_after }) => {
            let body = serde_json::json!({"error": {"code": code, "message": words}});
            let mut headers = Vec::new();
            if let Some(after) = retry_after {
                if let Ok(seconds) = after.parse::<i64>()
                    && seconds > 0
                {
                    inner.early = Some((now, now.plus_seconds(seconds.min(3600))));
                }
                headers.push(("Retry-After", after));
            }
            return Some((message(inner, status, &headers, body.to_string().as_bytes()), true));
        }
        Some(Fault::Link(_) | Fault::Half) | None => {}
    }
    let (status, headers, mut body) = well(inner, &asked, port);
    let mut headers = headers;
    match fault {
        Some(Fault::Link(link)) => {
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case("nextpageuri"));
            headers.push(("NextPageUri", link));
        }
        Some(Fault::Half) => body.truncate(body.len() / 2),
        _ => {}
    }
    Some((message(inner, status, &headers, &body), true))
}

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn refusal(code: &str, words: &str) -> Answer {
    let body = serde_json::json!({"error": {"code": code, "message": words}});
    (400, Vec::new(), body.to_string().into_bytes())
}

/// What the real one would answer.
fn well(inner: &mut Inner, asked: &Asked, port: u16) -> Answer {
    let now = now(inner);
    match asked {
        Asked::List => {
            let list: Vec<_> = inner
                .enabled
                .iter()
                .map(|content| {
                    serde_json::json!({"contentType": content, "status": "enabled", "webhook": null})
                })
                .collect();
            (200, Vec::new(), serde_json::to_vec(&list).unwrap())
        }
        Asked::Start(content) => {
            if inner.enabled.insert(content.clone()) {
                let body = serde_json::json!({"contentType": content, "status": "enabled", "webhook": null});
                (200, Vec::new(), body.to_string().into_bytes())
            } else {
                inner.violations.push(format!("{content} was started though it is on"));
                refusal("AF20024", "The subscription is already enabled. No property change.")
            }
        }
        Asked::Content { content, from, to, page } => {
            if !inner.enabled.contains(content) {
                return refusal("AF20022", "No subscription found for the specified content type");
            }
            if to.as_seconds() - from.as_seconds() > 86_400 {
                inner.violations.push(format!("a window from {from} to {to}"));
            }
            if *from < now.plus_seconds(-7 * 86_400 - 3600)
                || *to > now.plus_seconds(5400)
                || from >= to
            {
                return refusal("AF20055", "Start time and end time must both be specified");
            }
            // A window that is too wide is answered in part, without a word.
            let end = (*to).min(from.plus_seconds(86_400));
            let key = (content.clone(), from.as_seconds(), to.as_seconds());
            if *page == 0 || !inner.frozen.contains_key(&key) {
                let mut found: Vec<usize> = (0..inner.blobs.len())
                    .filter(|index| {
                        let blob = &inner.blobs[*index];
                        blob.content == *content
                            && blob.visible <= now
                            && blob.created >= *from
                            && blob.created < end
                            && blob.created > now.plus_seconds(-7 * 86_400)
                    })
                    .flat_map(|index| vec![index; inner.blobs[index].times])
                    .collect();
                if inner.shuffle == 0 {
                    found.reverse();
                }
                let places = if inner.shuffle == 0 { 0 } else { found.len() };
                for place in (1..places).rev() {
                    inner.shuffle =
                        inner.shuffle.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let other = usize::try_from(inner.shuffle >> 33).unwrap() % (place + 1);
                    found.swap(place, other);
                }
                inner.frozen.insert(key.clone(), found);
            }
            let found = &inner.frozen[&key];
            let rows: Vec<serde_json::Value> = found
                .iter()
                .skip(page * inner.page)
                .take(inner.page)
                .map(|index| {
                    let blob = &inner.blobs[*index];
                    let uri = blob.uri.clone().unwrap_or_else(|| {
                        format!(
                            "http://127.0.0.1:{port}/api/v1.0/{TENANT}/activity/feed/audit/{}",
                            blob.id
                        )
                    });
                    serde_json::json!({
                        "contentType": content, "contentId": blob.id, "contentUri": uri,
                        "contentCreated": blob.created.to_string(),
                        "contentExpiration": blob.expires.to_string(),
                    })
                })
                .collect();
            let mut headers = Vec::new();
            if found.len() > (page + 1) * inner.page {
                // Opaque, and with what a hasty pattern does not expect. The path is the documentation's `v1`.
                let token = format!("2026$08+{}%2F{}~=.{}", inner.tokens.len(), page + 1, content);
                inner
                    .tokens
                    .insert(token.replace("%2F", "/"), (content.clone(), *from, *to, page + 1));
                headers.push((
                    inner.next_header,
                    format!(
                        "http://127.0.0.1:{port}/api/v1/{TENANT}/activity/feed/subscriptions/content?contentType={content}&PublisherIdentifier={TENANT}&nextPage={}",
                        token.replace('+', "%2B")
                    ),
                ));
            }
            (200, headers, serde_json::to_vec(&rows).unwrap())
        }
        Asked::Blob(id) => match inner.blobs.iter().find(|blob| blob.id == *id) {
            None => refusal("AF20050", "The specified content does not exist"),
            Some(blob) if blob.expires < now => {
                refusal("AF20051", "Content requested with the key has already expired")
            }
            Some(blob) => (200, Vec::new(), blob.body.clone()),
        },
        Asked::Other(_) => (404, Vec::new(), b"<html>not here</html>".to_vec()),
    }
}

fn message(inner: &Inner, status: u16, headers: &[(&'static str, String)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n", body.len());
    if let Some(skew) = inner.date_skew {
        let seconds = now(inner).plus_seconds(skew).as_seconds();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap());
        text.push_str(&format!("Date: {}\r\n", httpdate::fmt_http_date(time)));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend(body);
    bytes
}

fn read_target(inner: &mut Inner, method: &str, target: &str) -> (Asked, Option<String>) {
    let url = reqwest::Url::parse(&format!("http://server{target}")).unwrap();
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let publisher = query.get("PublisherIdentifier").cloned();
    let path = url.path().to_owned();
    let operation = path.split_once("/activity/feed/").map_or("", |(_, operation)| operation);
    let content = query.get("contentType").cloned().unwrap_or_default();
    let other = || Asked::Other(format!("{method} {target}"));
    let asked = match (method, operation) {
        ("GET", "subscriptions/list") => Asked::List,
        ("POST", "subscriptions/start") => Asked::Start(content),
        ("GET", "subscriptions/content") => match query.get("nextPage") {
            Some(token) => match inner.tokens.get(token).cloned() {
                Some((content, from, to, page)) => Asked::Content { content, from, to, page },
                None => {
                    inner.violations.push(format!("the token {token:?} was never given"));
                    other()
                }
            },
            None => {
                let time = |name: &str| {
                    let text = query.get(name)?;
                    (text.len() == 19).then(|| Ticks::parse(text)).flatten()
                };
                match (time("startTime"), time("endTime")) {
                    (Some(from), Some(to)) => Asked::Content { content, from, to, page: 0 },
                    _ => {
                        inner.violations.push(format!("no window in {target}"));
                        other()
                    }
                }
            }
        },
        ("GET", operation) => match operation.strip_prefix("audit/") {
            Some(id) => Asked::Blob(id.to_owned()),
            None => other(),
        },
        _ => other(),
    };
    (asked, publisher)
}

async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> Option<(String, String, bool)> {
    let end = loop {
        if let Some(place) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break place + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    let length: usize = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
        })
        .unwrap_or(0);
    while buffer.len() < end + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    buffer.drain(..end + length);
    let mut first = head.lines().next()?.split(' ');
    let authorized = head.to_ascii_lowercase().contains("authorization: bearer canary-token");
    Some((first.next()?.to_owned(), first.next()?.to_owned(), authorized))
}
