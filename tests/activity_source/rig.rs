//! Drives the source as the pipeline does, on the server's time: obeys pauses and back-offs, keeps what a durable
//! page would leave behind, and can crash between any two pages.

use std::collections::BTreeMap;
use std::time::Duration;

use postern::cloud::tenant::{TenantAccess, TenantConfig};
use postern::domain::{Cursors, Failure, Gap, Position, Shape};
use postern::pipeline::backoff::Backoff;
use postern::pipeline::{AdapterError, Page, Source};
use postern::source::activity::{Activity, ActivityConfig};
use postern::source::planted::Planted;

use crate::activity_server::{ActivityServer, Asked, Content, TENANT};

/// What has been handed over, by the ground truth's names.
#[derive(Debug, Default)]
pub struct Ledger {
    /// How often each blob.
    pub blobs: BTreeMap<String, usize>,
    /// How often each record, before the journal drops what it knows.
    pub records: BTreeMap<String, usize>,
    pub gaps: Vec<Gap>,
    pub largest_page: usize,
    /// Whether it refuses records instead of reading them.
    pub odd: usize,
}

/// A source at work.
pub struct Reading<'a> {
    pub server: &'a ActivityServer,
    pub config: ActivityConfig,
    pub planted: Planted,
    pub clock_skew: i64,
    pub max_response_bytes: usize,
    source: Activity,
    /// Made once for each setting: building a client costs more than all the rest of a restart.
    access: (i64, usize, TenantAccess),
    pub cursors: Cursors,
    pub ledger: Ledger,
    backoff: Backoff,
    pub errors: Vec<AdapterError>,
}

pub fn access(server: &ActivityServer, clock_skew: i64, max_response_bytes: usize) -> TenantAccess {
    let folder = std::env::temp_dir().join(format!("postern-activity-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("token");
    if !file.exists() {
        std::fs::write(&file, "canary-token").unwrap();
    }
    let config: TenantConfig = serde_json::from_value(serde_json::json!({
        "id": TENANT,
        "credential": {"token": {"file": file}},
        "endpoints": {"activity": server.url()},
        "http": {"max_response_bytes": max_response_bytes},
        // The budget waits in the machine's time, which is not the server's here.
        "budgets": {"activity_per_minute": 1_000_000},
    }))
    .unwrap();
    TenantAccess::new(&config, server.clock(clock_skew)).unwrap()
}

impl<'a> Reading<'a> {
    pub fn of(server: &'a ActivityServer) -> Self {
        Self::with(server, ActivityConfig::default(), Planted::default())
    }

    pub fn with(server: &'a ActivityServer, config: ActivityConfig, planted: Planted) -> Self {
        let (clock_skew, max_response_bytes) = (0, 8 << 20);
        let access = access(server, clock_skew, max_response_bytes);
        Self {
            server,
            source: make(server, &config, planted, clock_skew, &access),
            access: (clock_skew, max_response_bytes, access),
            config,
            planted,
            clock_skew,
            max_response_bytes,
            cursors: Cursors::new(),
            ledger: Ledger::default(),
            backoff: Backoff::seeded(Duration::from_millis(500), Duration::from_secs(60), 7),
            errors: Vec::new(),
        }
    }

    /// The process dies and is started again with what is durable.
    pub fn crash(&mut self) {
        // Whoever is born anew knows of no wish to be left alone.
        self.server.forget_wait();
        let (skew, most) = (self.clock_skew, self.max_response_bytes);
        if (self.access.0, self.access.1) != (skew, most) {
            self.access = (skew, most, access(self.server, skew, most));
        }
        self.source = make(self.server, &self.config, self.planted, skew, &self.access.2);
    }

    /// One poll whose page is lost with the process.
    pub async fn poll_and_die(&mut self) {
        let _ = self.source.poll(&self.cursors).await;
        self.crash();
    }

    /// One poll and the wait after it. Whether there is more to do at once.
    pub async fn poll(&mut self) -> bool {
        self.server.advance(Duration::from_millis(20));
        match self.source.poll(&self.cursors).await {
            Ok(page) => {
                self.backoff.reset();
                let pause = page.pause;
                self.take(page);
                self.server.advance(pause.unwrap_or_default());
                pause.is_none()
            }
            Err(error) => {
                let wait = match error.failure {
                    Failure::Retry(after) => self.backoff.next(after),
                    Failure::Hold => Duration::from_secs(60),
                    Failure::Reject | Failure::Fatal => panic!("{error}"),
                };
                self.errors.push(error);
                self.server.advance(wait);
                true
            }
        }
    }

    /// Polls until a look at the listing has ended and nothing is left to do.
    pub async fn settle(&mut self) {
        for _ in 0..500 {
            if !self.poll().await {
                return;
            }
        }
        panic!("never at rest: {:?}", self.errors.last());
    }

    /// Polls for this long, by the server's time.
    pub async fn run(&mut self, seconds: i64) {
        let end = self.server.now().plus_seconds(seconds);
        while self.server.now() < end {
            self.poll().await;
        }
    }

    pub async fn probe(&mut self) -> Result<String, AdapterError> {
        self.source.probe().await
    }

    fn take(&mut self, page: Page) {
        let ledger = &mut self.ledger;
        let bytes = page.chunks.iter().map(|chunk| chunk.raw.len()).sum();
        ledger.largest_page = ledger.largest_page.max(bytes);
        for chunk in page.chunks {
            assert_eq!(chunk.shape, Shape::Activity);
            let Position::Item { what, .. } = &chunk.position else { panic!("{chunk:?}") };
            *ledger.blobs.entry(what.to_string()).or_default() += 1;
            let Ok(records) =
                serde_json::from_slice::<Vec<serde_json::Value>>(chunk.raw.as_bytes())
            else {
                ledger.odd += 1;
                continue;
            };
            for record in records {
                let id = record["Id"].as_str().unwrap().to_owned();
                *ledger.records.entry(id).or_default() += 1;
            }
        }
        ledger.gaps.extend(page.gaps);
        self.cursors.extend(page.cursors);
    }

    /// Every one of these blobs has been handed over, once.
    #[track_caller]
    pub fn has(&self, ids: &[&str]) {
        for id in ids {
            assert_eq!(self.ledger.blobs.get(*id), Some(&1), "{id}: {:?}", self.ledger.blobs);
        }
        assert_eq!(self.server.violations(), Vec::<String>::new());
    }

    /// These and no others.
    #[track_caller]
    pub fn has_just(&self, ids: &[&str]) {
        self.has(ids);
        assert_eq!(self.ledger.blobs.len(), ids.len(), "{:?}", self.ledger.blobs);
        assert_eq!(self.ledger.gaps, []);
    }

    pub fn last_error(&self) -> String {
        self.errors.last().map(|error| error.message.clone()).unwrap_or_default()
    }

    /// The durable mark.
    pub fn mark(&self) -> String {
        let key = format!("audit/{}", self.config.content_types[0].as_str());
        let cursor = self.cursors.get(&*key).map(ToString::to_string).unwrap_or_default();
        let cursor: serde_json::Value = serde_json::from_str(&cursor).unwrap_or_default();
        cursor["mark"].as_str().unwrap_or_default().to_owned()
    }
}

fn make(
    server: &ActivityServer,
    config: &ActivityConfig,
    planted: Planted,
    clock_skew: i64,
    access: &TenantAccess,
) -> Activity {
    Activity::new("audit", config.clone(), access.clone(), server.clock(clock_skew))
        .unwrap()
        .planted(planted)
}

/// Blobs named `<prefix>-<n>`, one a minute, the newest `age` seconds old, with one record each.
pub fn publish_many(server: &ActivityServer, prefix: &str, count: i64, age: i64) -> Vec<String> {
    (0..count)
        .map(|number| {
            let id = format!("{prefix}-{number}");
            server.publish(&id, age + 60 * number, &[&format!("r-{id}")]);
            id
        })
        .collect()
}

pub fn refs(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}

pub fn is_blob(asked: &Asked) -> bool {
    matches!(asked, Asked::Blob(_))
}

pub fn is_content(asked: &Asked) -> bool {
    matches!(asked, Asked::Content { .. })
}

/// A blob that is listed from `visible_in` seconds on.
pub fn later(server: &ActivityServer, id: &str, age: i64, visible_in: i64) -> Content {
    let mut blob = server.blob(id, age, &[&format!("r-{id}")]);
    blob.visible = server.now().plus_seconds(visible_in);
    blob
}
