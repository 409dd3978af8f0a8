//! A small Graph of incidents and alerts that keeps a ground truth and misbehaves as it is told to: order, links,
//! ties, lateness, failures of `$expand`, and answers that are none. It has its own time, which only tests move.

#![allow(dead_code, reason = "shared by several tests, each of which uses a part")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use postern::domain::Ticks;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to one request instead of its answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A code, with a `Retry-After` where it has one.
    Status(u16, Option<&'static str>),
    /// The connection is reset in the middle of the answer.
    Reset,
    /// A body that is not the answer, with status 200.
    Body(&'static str),
    /// The first half of the answer, its length said rightly.
    Truncated,
    /// The answer, its length said too long.
    WrongLength,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sorted {
    /// As asked for.
    AsAsked,
    /// Newest first, whatever is asked for.
    NewestFirst,
    /// Another one for each page.
    Shuffled,
}

/// Something that can be updated.
#[derive(Debug, Clone)]
pub struct Thing {
    pub stamp: Ticks,
    /// When it shows itself.
    pub visible: Ticks,
    pub redirect: Option<String>,
    /// Alerts of an incident, by id.
    pub alerts: BTreeMap<String, Ticks>,
}

/// What happens to the far end's things, and to its time, after an answer.
type AfterEach = Box<dyn FnMut(&mut BTreeMap<String, Thing>, &mut Ticks) + Send>;

/// All that a test may turn.
pub struct Model {
    pub now: Ticks,
    pub incidents: BTreeMap<String, Thing>,
    pub alerts: BTreeMap<String, Thing>,
    pub order: Sorted,
    /// Whether `$orderby` is answered 400.
    pub refuse_orderby: bool,
    /// Whether `$count` is answered.
    pub counts: bool,
    /// Whether pages have links.
    pub links: bool,
    /// Put in place of the link of every page.
    pub link: Option<String>,
    /// Rows that can be skipped; more are 400.
    pub skip_limit: Option<usize>,
    /// `$top` of alerts above this is 400; for incidents it is 50.
    pub alerts_top: usize,
    /// Expanding more incidents than this at once is 500.
    pub expand_at_most: usize,
    /// Incidents whose alerts cannot be expanded.
    pub poison: BTreeSet<String>,
    /// Seconds that the Date header is ahead; none where there is no such header.
    pub date_ahead: Option<i64>,
    pub faults: VecDeque<Fault>,
    /// Requests from this one on (counted from 1) are answered 503.
    pub dead_from: Option<usize>,
    /// Done after every answer: the world moves while it is read.
    pub after_each: Option<AfterEach>,
    pub requests: Vec<Request>,
    pub sizes: Vec<usize>,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn option(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

impl Model {
    fn new() -> Self {
        Self {
            now: Ticks::parse("2026-08-20T09:00:00Z").unwrap(),
            incidents: BTreeMap::new(),
            alerts: BTreeMap::new(),
            order: Sorted::AsAsked,
            refuse_orderby: false,
            counts: true,
            links: true,
            link: None,
            skip_limit: None,
            alerts_top: 1000,
            expand_at_most: usize::MAX,
            poison: BTreeSet::new(),
            date_ahead: Some(0),
            faults: VecDeque::new(),
            dead_from: None,
            after_each: None,
            requests: Vec::new(),
            sizes: Vec::new(),
        }
    }

    pub fn pass(&mut self, seconds: i64) {
        self.now = self.now.plus_seconds(seconds);
    }

    /// An incident with one alert, new or updated now.
    pub fn incident(&mut self, id: impl ToString) -> &mut Thing {
        let (id, now) = (id.to_string(), self.now);
        let alert = (format!("fa-{id}"), now);
        let thing = self.incidents.entry(id).or_insert_with(|| Thing {
            stamp: now,
            visible: now,
            redirect: None,
            alerts: BTreeMap::new(),
        });
        (thing.stamp, thing.visible) = (now, now);
        thing.alerts.insert(alert.0, alert.1);
        thing
    }

    /// An alert, new or updated now.
    pub fn alert(&mut self, id: impl ToString) -> &mut Thing {
        let now = self.now;
        let thing = Thing { stamp: now, visible: now, redirect: None, alerts: BTreeMap::new() };
        self.alerts.insert(id.to_string(), thing);
        self.alerts.get_mut(&id.to_string()).unwrap()
    }

    /// What a collection shows now: id and stamp.
    pub fn shown(things: &BTreeMap<String, Thing>, now: Ticks) -> BTreeSet<(String, String)> {
        let shown = things.iter().filter(|(_, thing)| thing.visible <= now);
        shown.map(|(id, thing)| (id.clone(), thing.stamp.to_string())).collect()
    }

    fn answer(&mut self, request: &Request) -> (u16, Value) {
        let rest = request.path.strip_prefix("/v1.0/security/").unwrap_or_default();
        let expand = request.option("$expand") == Some("alerts");
        match rest.split('/').collect::<Vec<_>>().as_slice() {
            ["incidents"] => self.list(request, true, expand),
            ["alerts_v2"] => self.list(request, false, false),
            ["incidents", id] => match self.incidents.get(*id) {
                Some(_) if expand && self.poison.contains(*id) => broken(),
                Some(thing) => (200, incident(id, thing, expand)),
                None => refusal(404, "ResourceNotFound"),
            },
            _ => refusal(404, "ResourceNotFound"),
        }
    }

    fn list(&mut self, request: &Request, incidents: bool, expand: bool) -> (u16, Value) {
        let number = |name| request.option(name).map(|text: &str| text.parse::<usize>().unwrap());
        let top = number("$top").unwrap_or(50);
        let skip = number("$skip").unwrap_or(0);
        let limit = if incidents { 50 } else { self.alerts_top };
        if top > limit || self.skip_limit.is_some_and(|limit| skip > limit) {
            return refusal(400, "");
        }
        let orderby = request.option("$orderby");
        if orderby.is_some() && self.refuse_orderby {
            return refusal(400, "BadRequest");
        }
        let things = if incidents { &self.incidents } else { &self.alerts };
        let mut rows: Vec<(&String, &Thing)> =
            things.iter().filter(|(_, thing)| thing.visible <= self.now).collect();
        for condition in request.option("$filter").iter().flat_map(|all| all.split(" and ")) {
            let [field, word, at] = condition.split(' ').collect::<Vec<_>>()[..] else {
                return refusal(400, "BadRequest");
            };
            let at = Ticks::parse(at).unwrap();
            assert_eq!(field, "lastUpdateDateTime");
            rows.retain(|(_, thing)| match word {
                "ge" => thing.stamp >= at,
                "gt" => thing.stamp > at,
                "le" => thing.stamp <= at,
                "lt" => thing.stamp < at,
                other => panic!("{other}"),
            });
        }
        match (self.order, orderby) {
            (Sorted::AsAsked, Some(_)) => rows.sort_by_key(|(_, thing)| thing.stamp),
            (Sorted::AsAsked | Sorted::NewestFirst, _) => {
                rows.sort_by_key(|(_, thing)| std::cmp::Reverse(thing.stamp));
            }
            (Sorted::Shuffled, _) => {
                let salt = self.requests.len() % 2;
                rows.sort_by_key(|(id, _)| {
                    *blake3::hash(format!("{id}{salt}").as_bytes()).as_bytes()
                });
            }
        }
        let total = rows.len();
        let rows: Vec<_> = rows.into_iter().skip(skip).take(top).collect();
        let poisoned = rows.iter().any(|(id, _)| self.poison.contains(*id));
        if expand && (rows.len() > self.expand_at_most || poisoned) {
            return broken();
        }
        let end = skip + rows.len();
        let value: Vec<Value> = rows
            .into_iter()
            .map(
                |(id, thing)| {
                    if incidents { incident(id, thing, expand) } else { alert(id, thing.stamp) }
                },
            )
            .collect();
        self.sizes.push(value.len());
        let mut page =
            json!({ "@odata.context": "https://graph.contoso.example/$metadata", "value": value });
        if self.counts && request.option("$count") == Some("true") {
            page["@odata.count"] = total.into();
        }
        if let Some(link) = &self.link {
            page["@odata.nextLink"] = link.as_str().into();
        } else if self.links && end < total {
            let mut query = request.query.clone();
            query.insert("$skip".to_owned(), end.to_string());
            let query: Vec<String> = query
                .iter()
                .map(|(name, value)| format!("{name}={}", value.replace(' ', "+")))
                .collect();
            page["@odata.nextLink"] = format!("{}?{}", request.path, query.join("&")).into();
        }
        (200, page)
    }
}

fn broken() -> (u16, Value) {
    refusal(500, "InternalServerError")
}

fn refusal(status: u16, code: &str) -> (u16, Value) {
    let inner = json!({ "request-id": "11111111-2222-4333-8444-555555555555" });
    (status, json!({ "error": { "code": code, "message": "No.", "innerError": inner } }))
}

fn incident(id: &str, thing: &Thing, expand: bool) -> Value {
    let mut incident = json!({
        "id": id,
        "tenantId": "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a",
        "status": if thing.redirect.is_some() { "redirected" } else { "active" },
        "redirectIncidentId": thing.redirect,
        "displayName": format!("Incident {id}"),
        "createdDateTime": "2026-08-20T09:00:00Z",
        "lastUpdateDateTime": thing.stamp.to_string(),
    });
    if expand {
        incident["alerts"] = thing.alerts.iter().map(|(id, stamp)| alert(id, *stamp)).collect();
    }
    incident
}

fn alert(id: &str, stamp: Ticks) -> Value {
    json!({
        "id": id,
        "status": "aStatusOfTomorrow",
        "title": "Email reported by user as malware or phish",
        "createdDateTime": "2026-08-20T09:00:00Z",
        "lastUpdateDateTime": stamp.to_string(),
        "evidence": [{ "@odata.type": "#microsoft.graph.security.evidenceOfTomorrow", "verdict": "odd" }],
    })
}

/// The server; it ends with the value.
pub struct Graph {
    model: Arc<Mutex<Model>>,
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Graph {
    /// Starts it on a free port of the loopback.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let model = Arc::new(Mutex::new(Model::new()));
        let shared = Arc::clone(&model);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { model, port, task }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }
}

async fn serve(mut stream: TcpStream, model: Arc<Mutex<Model>>) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(place) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break place + 4;
            }
            match stream.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => {}
                _ => return,
            }
        };
        let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
        let (bytes, fault) = reply(&head, &model);
        match fault {
            Some(Fault::Reset) => {
                let _ = stream.write_all(&bytes[..bytes.len() / 2]).await;
                stream.set_zero_linger().unwrap();
                return;
            }
            Some(Fault::WrongLength) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            _ => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn reply(head: &str, model: &Mutex<Model>) -> (Vec<u8>, Option<Fault>) {
    let mut lines = head.lines();
    let target = lines.next().unwrap().split(' ').nth(1).unwrap();
    let url = reqwest::Url::parse("http://graph.contoso.example").unwrap().join(target).unwrap();
    let headers = lines.filter_map(|line| line.split_once(':'));
    let request = Request {
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect(),
    };
    let mut model = model.lock().unwrap();
    model.requests.push(request.clone());
    let dead = model.dead_from.is_some_and(|from| model.requests.len() >= from);
    let fault = if dead { Some(Fault::Status(503, None)) } else { model.faults.pop_front() };
    let (mut status, value) = model.answer(&request);
    let mut body = value.to_string().into_bytes();
    let mut more = String::new();
    match &fault {
        Some(Fault::Status(other, after)) => {
            status = *other;
            body = refusal(status, "Whatever").1.to_string().into_bytes();
            if let Some(after) = after {
                more = format!("retry-after: {after}\r\n");
            }
        }
        Some(Fault::Body(text)) => body = text.as_bytes().to_vec(),
        Some(Fault::Truncated) => body.truncate(body.len() / 2),
        Some(Fault::Reset | Fault::WrongLength) | None => {}
    }
    let mut length = body.len();
    if matches!(fault, Some(Fault::WrongLength)) {
        length += 100;
    }
    if let Some(ahead) = model.date_ahead {
        let seconds = u64::try_from(model.now.as_seconds() + ahead).unwrap();
        let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        more.push_str(&format!("date: {}\r\n", httpdate::fmt_http_date(date)));
    }
    let mut bytes =
        format!("HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n")
            .into_bytes();
    bytes.extend(body);
    if let Some(mut change) = model.after_each.take() {
        let model = &mut *model;
        let things = if request.path.ends_with("alerts_v2") {
            &mut model.alerts
        } else {
            &mut model.incidents
        };
        change(things, &mut model.now);
        model.after_each = Some(change);
    }
    (bytes, fault)
}
