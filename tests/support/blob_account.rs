//! A small storage account that does what an emulator does not: refuse in XML with every code, delete or replace a
//! blob between the listing and the reading, answer 416, 503, half a body, or bytes that were not asked for.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test rig: a broken rig must stop the test"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A blob of it.
#[derive(Debug, Clone)]
pub struct Blob {
    pub bytes: Vec<u8>,
    pub etag: u64,
    /// Second of the day on which it was created.
    pub created: u32,
    pub append: bool,
}

/// What it does with one request for a blob's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conduct {
    /// Answers with this status and code, before it looks at anything.
    Refuse(u16, &'static str),
    /// Deletes the blob first.
    Delete,
    /// Puts these bytes in its place first.
    Replace(Vec<u8>),
    /// Announces all the bytes and sends half of them.
    Half,
    /// Answers 200 with the whole blob, whatever range was asked for.
    Whole,
}

#[derive(Default)]
struct State {
    /// By `<container>/<blob>`.
    blobs: BTreeMap<String, Blob>,
    reads: VecDeque<Conduct>,
    lists: VecDeque<(u16, &'static str)>,
    /// Every request: method and target, with its query.
    requests: Vec<String>,
    etags: u64,
}

pub struct Account {
    state: Arc<Mutex<State>>,
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Account {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { state, port, task }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/contosologs", self.port)
    }

    /// Writes a blob anew; with `grow` it stays the blob that it was.
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>, append: bool, grow: bool) {
        let mut state = self.state.lock().unwrap();
        state.etags += 1;
        let etag = state.etags;
        let created = match state.blobs.get(path) {
            Some(blob) if grow => blob.created,
            _ => u32::try_from(etag).unwrap() % 60,
        };
        state.blobs.insert(path.to_owned(), Blob { bytes: bytes.into(), etag, created, append });
    }

    pub fn next_read(&self, conduct: Conduct) {
        self.state.lock().unwrap().reads.push_back(conduct);
    }

    pub fn next_list(&self, status: u16, code: &'static str) {
        self.state.lock().unwrap().lists.push_back((status, code));
    }

    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte).await {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let (answer, close) = answer(&head, &state);
        if stream.write_all(&answer).await.is_err() || close {
            return;
        }
    }
}

fn answer(head: &str, state: &Mutex<State>) -> (Vec<u8>, bool) {
    let mut state = state.lock().unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let shown = header(head, "authorization").unwrap_or_default();
    state.requests.push(format!("{target} {shown}").trim().to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = decoded(path.strip_prefix("/contosologs/").unwrap_or_default());
    let query: BTreeMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    if query.get("comp").is_some_and(|comp| comp == "list") {
        if let Some((status, code)) = state.lists.pop_front() {
            return (refusal(status, code), false);
        }
        return (list(&state, &path, query.get("prefix").map_or("", String::as_str)), false);
    }
    let conduct = state.reads.pop_front();
    match &conduct {
        Some(Conduct::Refuse(status, code)) => return (refusal(*status, code), false),
        Some(Conduct::Delete) => {
            state.blobs.remove(&path);
        }
        Some(Conduct::Replace(bytes)) => {
            state.etags += 1;
            let etag = state.etags;
            if let Some(blob) = state.blobs.get_mut(&path) {
                (blob.bytes, blob.etag) = (bytes.clone(), etag);
            }
        }
        Some(Conduct::Half | Conduct::Whole) | None => {}
    }
    let Some(blob) = state.blobs.get(&path) else { return (refusal(404, "BlobNotFound"), false) };
    let wanted = header(head, "if-match");
    if wanted.is_some_and(|etag| etag.trim_matches('"') != format!("0x{:X}", blob.etag)) {
        return (refusal(412, "ConditionNotMet"), false);
    }
    let range = header(head, "range").or_else(|| header(head, "x-ms-range"));
    let all = blob.bytes.len();
    let (from, to) = range.and_then(|range| span(&range)).unwrap_or((0, all.saturating_sub(1)));
    if from >= all {
        return (refusal(416, "InvalidRange"), false);
    }
    let to = to.min(all - 1);
    let (status, bytes) = match conduct {
        Some(Conduct::Whole) => ("200 OK", &blob.bytes[..]),
        _ => ("206 Partial Content", &blob.bytes[from..=to]),
    };
    let half = conduct == Some(Conduct::Half);
    let sent = if half { &bytes[..bytes.len() / 2] } else { bytes };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{to}/{all}\r\n\
         ETag: \"0x{:X}\"\r\nx-ms-creation-time: {}\r\nLast-Modified: {}\r\nx-ms-blob-type: {}\r\n\
         Date: {}\r\nContent-Type: application/octet-stream\r\n\r\n",
        bytes.len(),
        blob.etag,
        time(blob.created),
        time(blob.created),
        kind(blob),
        time(0),
    )
    .into_bytes();
    answer.extend_from_slice(sent);
    (answer, half)
}

fn list(state: &State, container: &str, prefix: &str) -> Vec<u8> {
    let below = format!("{container}/");
    let mut blobs = String::new();
    for (path, blob) in &state.blobs {
        let Some(name) = path.strip_prefix(&below).filter(|name| name.starts_with(prefix)) else {
            continue;
        };
        blobs += &format!(
            "<Blob><Name>{name}</Name><Properties><Creation-Time>{}</Creation-Time>\
             <Last-Modified>{}</Last-Modified><Etag>0x{:X}</Etag><Content-Length>{}</Content-Length>\
             <Content-Type>application/octet-stream</Content-Type><BlobType>{}</BlobType></Properties></Blob>",
            time(blob.created),
            time(blob.created),
            blob.etag,
            blob.bytes.len(),
            kind(blob),
        );
    }
    if !state.blobs.keys().any(|path| path.starts_with(&below)) {
        return refusal(404, "ContainerNotFound");
    }
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"{container}\">\
         <Blobs>{blobs}</Blobs><NextMarker /></EnumerationResults>"
    );
    xml("200 OK", &body)
}

fn refusal(status: u16, code: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>No.\nRequestId:1</Message></Error>"
    );
    xml(&format!("{status} No"), &body)
}

fn xml(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: application/xml\r\nDate: {}\r\n\r\n{body}",
        body.len(),
        time(0)
    )
    .into_bytes()
}

fn kind(blob: &Blob) -> &'static str {
    if blob.append { "AppendBlob" } else { "BlockBlob" }
}

/// The account lives on 20 August 2026.
fn time(second: u32) -> String {
    format!("Thu, 20 Aug 2026 12:00:{second:02} GMT")
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

fn span(range: &str) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}
