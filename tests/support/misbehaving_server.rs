//! A small HTTP server that keeps a ledger of what it acted on and does wrong what it is told to: codes,
//! lost answers, resets, slow bodies, redirects. It speaks just enough HTTP/1.1 over a bare socket that it can
//! break the rules.

#![allow(dead_code, reason = "shared by several tests, each of which uses a part")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the server does with one request.
#[derive(Debug, Clone)]
pub enum Conduct {
    /// Acts on it and answers 204.
    Well,
    /// Answers this, and acts on the request only if it is 2xx.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// Acts, then answers this all the same.
    ActAndAnswer(u16),
    /// Acts and never answers.
    LoseAnswer,
    /// Acts and resets the connection.
    ActAndReset,
    /// Resets the connection without acting.
    Reset,
    /// Acts and answers 200 with a body that never ends, a byte now and then.
    Trickle,
    /// Acts and answers 200 with a body shorter than announced.
    CutBody,
}

impl Conduct {
    /// An answer with a code alone.
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: b"no such luck\x1b[2J".to_vec() }
    }

    /// An answer with one header.
    pub fn with_header(status: u16, name: &'static str, value: &str) -> Self {
        Self::Answer { status, headers: vec![(name, value.to_owned())], body: Vec::new() }
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Whether the server acted on it.
    pub acted: bool,
}

#[derive(Default)]
struct State {
    ledger: Vec<Received>,
    plan: VecDeque<Conduct>,
    head_status: Option<u16>,
    connections: usize,
}

/// The server; it ends with the value.
pub struct Server {
    state: Arc<Mutex<State>>,
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts it on a free port of the loopback.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { state, port, task }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook/canary-path?canary=query", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What to do with the next requests (HEAD apart); afterwards it behaves well.
    pub fn plan(&self, conduct: impl IntoIterator<Item = Conduct>) {
        self.state.lock().unwrap().plan = conduct.into_iter().collect();
    }

    /// How HEAD is answered; 405 by default.
    pub fn answer_head(&self, status: Option<u16>) {
        self.state.lock().unwrap().head_status = status;
    }

    /// Every request so far, HEAD apart.
    pub fn requests(&self) -> Vec<Received> {
        self.state.lock().unwrap().ledger.clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// The bodies of what it acted on, as a receiver of Standard Webhooks keeps them: one for each `webhook-id`,
    /// in the order in which they came first.
    pub fn tickets(&self) -> Vec<Vec<u8>> {
        let mut seen = std::collections::BTreeSet::new();
        let ledger = self.requests();
        let acted = ledger.into_iter().filter(|request| request.acted);
        acted.filter(|it| seen.insert(it.headers["webhook-id"].clone())).map(|it| it.body).collect()
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut buffer = Vec::new();
    while let Some(mut request) = read_request(&mut stream, &mut buffer).await {
        let conduct = {
            let mut state = state.lock().unwrap();
            if request.method == "HEAD" {
                Conduct::status(state.head_status.unwrap_or(405))
            } else {
                let conduct = state.plan.pop_front().unwrap_or(Conduct::Well);
                request.acted = match &conduct {
                    Conduct::Answer { status, .. } => (200..=299).contains(status),
                    Conduct::Reset => false,
                    _ => true,
                };
                state.ledger.push(request.clone());
                conduct
            }
        };
        let head = request.method == "HEAD";
        if !answer(&mut stream, conduct, head).await {
            return;
        }
    }
}

/// Answers; whether the connection may be used again.
async fn answer(stream: &mut TcpStream, conduct: Conduct, head: bool) -> bool {
    let (status, headers, body) = match conduct {
        Conduct::Well => (204, Vec::new(), Vec::new()),
        Conduct::Answer { status, headers, body } => (status, headers, body),
        Conduct::ActAndAnswer(status) => (status, Vec::new(), Vec::new()),
        Conduct::LoseAnswer => return std::future::pending().await,
        Conduct::ActAndReset | Conduct::Reset => {
            stream.set_zero_linger().unwrap();
            return false;
        }
        Conduct::Trickle => {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
            let mut alive = stream.write_all(head).await.is_ok();
            while alive {
                tokio::time::sleep(Duration::from_millis(20)).await;
                alive = stream.write_all(b"x").await.is_ok();
            }
            return false;
        }
        Conduct::CutBody => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"cut").await;
            return false;
        }
    };
    let mut text = format!("HTTP/1.1 {status} Whatever\r\n");
    if status != 204 {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    if !head && status != 204 {
        bytes.extend(body);
    }
    stream.write_all(&bytes).await.is_ok()
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let end = loop {
        if let Some(place) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break place + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    while buffer.len() < end + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer[end..end + length].to_vec();
    buffer.drain(..end + length);
    Some(Received { method, path, headers, body, acted: false })
}
