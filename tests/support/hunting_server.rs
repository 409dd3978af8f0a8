//! Advanced hunting in small: tables in memory, a clock of its own, and just the shapes of KQL that Postern's
//! queries have, read line by line. What it does not know it refuses, never answers with an empty table. It
//! counts what it was asked, and does wrong what it is told to.

#![allow(dead_code, reason = "shared by several tests, each of which uses a part")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use postern::domain::Ticks;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What goes wrong with one query for rows.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status, these headers, this body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// 200 with this body.
    Body(String),
    /// The right answer, cut in the middle but with a length that fits.
    Truncated,
    /// The connection is reset.
    Reset,
}

impl Fault {
    /// An error as Graph tells it.
    pub fn graph(status: u16, message: &str) -> Self {
        let body = json!({"error": {"code": "BadRequest", "message": message}});
        Self::Status(status, Vec::new(), body.to_string())
    }
}

/// A row, and when it can be seen.
#[derive(Debug, Clone)]
pub struct Row {
    pub timestamp: Ticks,
    pub ingested: Ticks,
    pub columns: Map<String, Value>,
}

#[derive(Default)]
pub struct World {
    /// The far end's present.
    pub now: Ticks,
    pub tables: BTreeMap<String, Vec<Row>>,
    /// Own queries by their text, and the table that they are over.
    pub own: BTreeMap<String, String>,
    /// Faults of the next queries for rows, by table ("" is any).
    pub faults: VecDeque<(String, Fault)>,
    /// `ingestion_time()` is null everywhere.
    pub no_ingestion: bool,
    /// The head has no Date.
    pub no_date: bool,
    /// How far the clock of the head is off, in seconds.
    pub date_off: i64,
    /// More rows than this are refused as too large a result.
    pub most_rows: Option<usize>,
    /// More rows than this are silently left out.
    pub silent_cap: Option<usize>,
    /// A query about more than these seconds takes too long.
    pub slow_above: Option<i64>,
    /// Nobody may ask.
    pub forbidden: bool,
    /// After so many queries for rows nobody may ask any more.
    pub revoke_after_rows_queries: Option<usize>,
    /// Every query for rows so far, and every other one.
    pub rows_queries: Vec<String>,
    pub other_queries: Vec<String>,
}

/// The server; it ends with the value.
pub struct HuntingServer {
    world: Arc<Mutex<World>>,
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for HuntingServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HuntingServer {
    /// Starts it at a time of its own.
    pub async fn start(now: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let world = World { now: Ticks::parse(now).unwrap(), ..World::default() };
        let world = Arc::new(Mutex::new(world));
        let shared = Arc::clone(&world);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { world, port, task }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Looks at or changes the world.
    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.world.lock().unwrap())
    }

    /// Puts `count` rows of mail into `table`, one each `spacing` from `from` on, each taken in `late` later.
    /// Returns their message ids.
    pub fn mail(
        &self,
        table: &str,
        count: usize,
        from: &str,
        spacing: Duration,
        late: Duration,
    ) -> BTreeSet<String> {
        let from = Ticks::parse(from).unwrap();
        let mut ids = BTreeSet::new();
        self.with(|world| {
            let rows = world.tables.entry(table.to_owned()).or_default();
            for index in 0..count {
                let timestamp = Ticks(from.0 + ticks(spacing) * index as i64);
                let id = format!("{:08x}-52d1-4b0e-3a77-08dddf5d90e1", rows.len() + 1);
                let row = mail_row(&id, timestamp);
                ids.insert(id);
                rows.push(Row {
                    timestamp,
                    ingested: Ticks(timestamp.0 + ticks(late)),
                    columns: row,
                });
            }
        });
        ids
    }
}

pub fn ticks(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos() / 100).unwrap()
}

fn mail_row(id: &str, timestamp: Ticks) -> Map<String, Value> {
    let row = json!({
        "Timestamp": timestamp.to_string(),
        "NetworkMessageId": id,
        "AlertId": format!("fa{id}"),
        "EntityType": "MailMessage",
        "EvidenceRole": "Related",
        "AdditionalFields": json!({"MergeByKeyHex": id}).to_string(),
        "RecipientEmailAddress": "Adele@contoso.example",
        "ReportId": format!("{id}-5120847733019264411-1"),
        "Url": format!("https://fabrikam.example/{id}"),
        "OrgLevelAction": "", "OrgLevelPolicy": "", "UserLevelAction": "", "UserLevelPolicy": "",
        "ThreatTypes": "", "DeliveryAction": "Delivered", "DeliveryLocation": "Inbox/folder",
        "IsFirstContact": 1,
    });
    row.as_object().unwrap().clone()
}

async fn serve(mut stream: TcpStream, world: Arc<Mutex<World>>) {
    let mut buffer = Vec::new();
    while let Some(query) = read_request(&mut stream, &mut buffer).await {
        let Some(answer) = world.lock().unwrap().answer(&query) else {
            stream.set_zero_linger().unwrap();
            return;
        };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    let end = loop {
        if let Some(place) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break place + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post /v1.0/security/runhuntingquery "), "{head}");
    assert!(head.contains("authorization: bearer "), "{head}");
    assert!(head.contains("content-type: application/json; charset=utf-8"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let length: usize = length.trim().parse().unwrap();
    while buffer.len() < end + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body: Value = serde_json::from_slice(&buffer[end..end + length]).unwrap();
    buffer.drain(..end + length);
    assert_eq!(body["Timespan"], "P30D");
    Some(body["Query"].as_str().unwrap().to_owned())
}

/// What a query selects.
struct Selection {
    rows: Vec<Row>,
    seconds: i64,
    rest: Vec<String>,
}

impl World {
    /// The whole answer in bytes; `None` resets the connection.
    fn answer(&mut self, query: &str) -> Option<Vec<u8>> {
        if self.forbidden {
            return Some(self.error(403, "Forbidden", "Missing application scopes."));
        }
        let asked = self.rows_queries.len();
        if self.revoke_after_rows_queries.is_some_and(|most| asked >= most) {
            self.forbidden = true;
            return Some(self.error(403, "Forbidden", "Missing application scopes."));
        }
        let asks_rows = query.lines().last().unwrap().starts_with("| take");
        if asks_rows {
            self.rows_queries.push(query.to_owned());
        } else {
            self.other_queries.push(query.to_owned());
        }
        let mut truncate = false;
        let position = self.faults.iter().position(|(table, _)| {
            asks_rows && (table.is_empty() || query.starts_with(table.as_str()))
        });
        if let Some((_, fault)) = position.and_then(|at| self.faults.remove(at)) {
            match fault {
                Fault::Status(status, headers, body) => {
                    return Some(self.http(status, &headers, body.as_bytes()));
                }
                Fault::Body(body) => return Some(self.http(200, &[], body.as_bytes())),
                Fault::Truncated => truncate = true,
                Fault::Reset => return None,
            }
        }
        let selection = match self.select(query) {
            Ok(selection) => selection,
            Err(message) => return Some(self.error(400, "BadRequest", &message)),
        };
        if asks_rows && self.slow_above.is_some_and(|most| selection.seconds > most) {
            return Some(self.error(504, "UnknownError", ""));
        }
        match self.finish(selection) {
            Ok(rows) => {
                if asks_rows && self.most_rows.is_some_and(|most| rows.len() > most) {
                    let words = "Query execution has exceeded the allowed result size. Optimize your query by limiting the number of results and try again.";
                    return Some(self.error(400, "BadRequest", words));
                }
                let body =
                    json!({"@odata.context": "x", "schema": [], "results": rows}).to_string();
                let body = if truncate { &body[..body.len() / 2] } else { &body };
                Some(self.http(200, &[], body.as_bytes()))
            }
            Err(message) => Some(self.error(400, "BadRequest", &message)),
        }
    }

    fn select(&self, query: &str) -> Result<Selection, String> {
        let (text, table) = match self.own.iter().find(|(text, _)| query.starts_with(text.as_str()))
        {
            Some((text, table)) => (text.as_str(), table.as_str()),
            None => {
                let first = query.lines().next().unwrap();
                (first, first)
            }
        };
        if text.contains("Bogus") {
            return Err(
                "Syntax error: Query could not be parsed at 'Bogus' on line [1,15]".to_owned()
            );
        }
        let Some(rows) = self.tables.get(table) else {
            return Err(format!(
                "'where' operator: Failed to resolve table or column expression named '{table}'. Fix semantic errors in your query."
            ));
        };
        let mut selection = Selection {
            rows: rows.iter().filter(|row| row.ingested <= self.now).cloned().collect(),
            seconds: 0,
            rest: Vec::new(),
        };
        for line in query[text.len()..].lines().filter(|line| !line.is_empty()) {
            let Some(condition) = line.strip_prefix("| where ") else {
                selection.rest.push(line.to_owned());
                continue;
            };
            assert!(selection.rest.is_empty(), "a condition after something else: {query}");
            self.condition(condition, &mut selection)?;
        }
        Ok(selection)
    }

    fn condition(&self, condition: &str, selection: &mut Selection) -> Result<(), String> {
        let time = |text: &str| {
            let text = text.strip_prefix("datetime(").and_then(|text| text.strip_suffix(')'));
            Ticks::parse(text.unwrap()).unwrap()
        };
        if condition.starts_with("isnotempty") {
            let columns: Vec<&str> = condition
                .split(" or ")
                .map(|it| it.strip_prefix("isnotempty(").unwrap().strip_suffix(')').unwrap())
                .collect();
            selection.rows.retain(|row| columns.iter().any(|column| row.columns[*column] != ""));
            return Ok(());
        }
        if let Some(rest) = condition.strip_prefix("hash(") {
            let (inside, index) = rest.rsplit_once(") == ").unwrap();
            let (column, of) = inside.rsplit_once(", ").unwrap();
            let column = column.trim_start_matches("tostring(").trim_end_matches(')');
            let (of, index): (u64, u64) = (of.parse().unwrap(), index.parse().unwrap());
            selection.rows.retain(|row| {
                let mut hasher = DefaultHasher::new();
                row.columns[column].as_str().unwrap().hash(&mut hasher);
                hasher.finish() % of == index
            });
            return Ok(());
        }
        let (low, high) = condition.split_once(" and ").unwrap_or((condition, ""));
        let (column, from) = low.split_once(" >= ").unwrap();
        let from = time(from);
        let to = high.split_once(" < ").map_or(Ticks(i64::MAX), |(_, to)| time(to));
        if !high.is_empty() {
            selection.seconds = (to.0 - from.0) / 10_000_000;
        }
        let no_ingestion = self.no_ingestion;
        match column {
            "ingestion_time()" => {
                selection
                    .rows
                    .retain(|row| !no_ingestion && from <= row.ingested && row.ingested < to);
            }
            "Timestamp" => selection.rows.retain(|row| from <= row.timestamp && row.timestamp < to),
            other => {
                return Err(format!(
                    "'where' operator: Failed to resolve table or column expression named '{other}'. Fix semantic errors in your query."
                ));
            }
        }
        Ok(())
    }

    fn finish(&self, selection: Selection) -> Result<Vec<Value>, String> {
        let mut rows: Vec<(Value, Option<Ticks>)> = selection
            .rows
            .into_iter()
            .map(|row| (Value::Object(row.columns), Some(row.ingested)))
            .collect();
        for line in &selection.rest {
            if let Some(count) = line.strip_prefix("| take ") {
                let count: usize = count.parse().unwrap();
                rows.truncate(count.min(self.silent_cap.unwrap_or(usize::MAX)));
            } else if line == "| count" {
                rows = vec![(json!({"Count": rows.len()}), None)];
            } else if line == "| project Now = now()" {
                rows = vec![(json!({"Now": self.now.to_string()}), None)];
            } else if line == "| project IngestionTime = ingestion_time()" {
                for (row, ingested) in &mut rows {
                    let time = ingested.unwrap().to_string();
                    *row = json!({"IngestionTime": if self.no_ingestion { json!({}) } else { json!(time) }});
                }
            } else if let Some(keys) = line.strip_prefix("| summarize by ") {
                let keys: Vec<String> = keys.split(", ").map(str::to_owned).collect();
                let seen: BTreeSet<String> = rows
                    .iter()
                    .map(|(row, _)| keys.iter().map(|key| value(row, key)).collect())
                    .collect();
                rows = seen.into_iter().map(|key| (json!(key), None)).collect();
            } else if line == "| summarize Rows = count() by Hour = bin(Timestamp, 1h)" {
                let mut hours: BTreeMap<i64, u64> = BTreeMap::new();
                for (row, _) in &rows {
                    let at = Ticks::parse(row["Timestamp"].as_str().unwrap()).unwrap();
                    *hours.entry(at.as_seconds() / 3600 * 3600).or_default() += 1;
                }
                rows = hours
                    .into_iter()
                    .map(|(hour, count)| {
                        (json!({"Hour": Ticks(hour * 10_000_000).to_string(), "Rows": count}), None)
                    })
                    .collect();
            } else {
                return Err(format!("Syntax error: '{line}' is not supported"));
            }
        }
        Ok(rows.into_iter().map(|(row, _)| row).collect())
    }

    fn error(&self, status: u16, code: &str, message: &str) -> Vec<u8> {
        let body = json!({"error": {"code": code, "message": message}}).to_string();
        self.http(status, &[], body.as_bytes())
    }

    fn http(&self, status: u16, headers: &[(&'static str, String)], body: &[u8]) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
        if !self.no_date {
            let seconds = self.now.as_seconds() + self.date_off;
            let date = UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
            head.push_str(&format!("date: {}\r\n", httpdate::fmt_http_date(date)));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        [head.as_bytes(), body].concat()
    }
}

/// One key of a grouping: a column, or a name and an expression over one.
fn value(row: &Value, key: &str) -> String {
    let expression = key.split_once(" = ").map_or(key, |(_, expression)| expression);
    let lower = expression.strip_prefix("tolower(").and_then(|rest| rest.strip_suffix(')'));
    let text = row[lower.unwrap_or(expression)].to_string();
    if lower.is_some() { text.to_lowercase() } else { text }
}
