//! A real journal in a temporary folder, and sources that run into it until it holds what a test waits for. Each
//! run is a life of the daemon: the journal is opened, the source made anew, and both are closed again.

#![allow(dead_code, reason = "shared by several tests, each of which uses a part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern::domain::{Event, Kind};
use postern::journal::{Embedded, Journal, JournalConfig, SystemClock};
use postern::pipeline::Source;
use postern::pipeline::intake::{Intake, SourceSettings, run_source};
use postern::pipeline::metrics::Metrics;
use postern::pipeline::status::StatusBoard;
use tokio::sync::watch;

pub const TENANT: &str = "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a";

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A data directory.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Default for Home {
    fn default() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }
}

/// What one life left in the journal.
#[derive(Debug, Default, Clone)]
pub struct Held {
    pub events: Vec<Event>,
    pub dead: Vec<String>,
    /// What the register says of records, by the end of the metric's name, for this life.
    pub metrics: String,
    pub status: String,
}

impl Held {
    /// How often each message id is there.
    pub fn messages(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for event in &self.events {
            if let Some(key) = event.key.as_deref() {
                *found.entry(key.to_owned()).or_default() += 1;
            }
        }
        found
    }

    pub fn of(&self, kind: Kind) -> Vec<&Event> {
        self.events.iter().filter(|event| event.kind == kind).collect()
    }

    /// The gaps as `what from to cause`.
    pub fn gaps(&self) -> Vec<String> {
        let text = |event: &&Event| {
            let gap: serde_json::Value = serde_json::from_slice(event.raw.as_bytes()).unwrap();
            let word = |key: &str| gap[key].as_str().unwrap().to_owned();
            format!("{} {} {} {}", word("what"), word("from"), word("to"), word("cause"))
        };
        self.of(Kind::Gap).iter().map(text).collect()
    }

    /// Whether exactly the messages `0..count` are there, each once: 0 lost, 0 twice.
    #[track_caller]
    pub fn is_complete(&self, count: u32) {
        let found = self.messages();
        let lost: Vec<u32> = (0..count).filter(|n| !found.contains_key(&message(*n))).collect();
        let twice: Vec<_> = found.iter().filter(|(_, times)| **times > 1).collect();
        assert!(
            lost.is_empty(),
            "lost: {} beginning with {:?}",
            lost.len(),
            &lost[..lost.len().min(5)]
        );
        assert!(twice.is_empty(), "twice: {twice:?}");
        assert_eq!(found.len(), count as usize);
    }
}

/// The id of message `number`.
pub fn message(number: u32) -> String {
    format!("6c1f9a34-52d1-4b0e-3a77-{number:012x}")
}

/// A row of `EmailEvents`.
pub fn row(number: u32) -> serde_json::Value {
    serde_json::json!({
        "Timestamp": "2026-08-20T09:11:04Z",
        "NetworkMessageId": message(number),
        "RecipientEmailAddress": "adele@contoso.example",
        "SenderFromAddress": "billing@fabrikam.example",
        "Subject": format!("Overdue invoice {number}, \"{number}\""),
        "EmailDirection": "Inbound",
        "DeliveryAction": "Delivered",
        "DeliveryLocation": "Inbox/folder",
        "ReportId": format!("{number}-1"),
    })
}

/// The same as a record of the Streaming API, without a line break.
pub fn record(row: &serde_json::Value) -> String {
    serde_json::json!({
        "time": "2026-08-20T09:13:32.3832981Z",
        "tenantId": TENANT,
        "operationName": "Publish",
        "category": "AdvancedHunting-EmailEvents",
        "properties": row,
        "Tenant": "DefaultTenant",
    })
    .to_string()
}

/// Records as Storage holds them.
pub fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| record(&row(number)) + "\r\n").collect()
}

impl Home {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// One life: runs what `make` makes until `done` says so of what the journal holds, `meanwhile` is called
    /// between looks. Ends with a clean stop.
    pub async fn live(
        &self,
        make: impl FnOnce() -> Box<dyn Source>,
        mut done: impl FnMut(&Held) -> bool,
    ) -> Held {
        let source = make();
        let clock = Arc::new(SystemClock::default());
        let config = JournalConfig { reserve_bytes: 0, ..JournalConfig::default() };
        let journal =
            Embedded::open(&self.folder.path().join("journal"), config, clock.clone()).unwrap();
        let journal: Arc<dyn Journal> = Arc::new(journal);
        let metrics = Arc::new(Metrics::new().unwrap());
        let status = StatusBoard::default();
        let intake = Intake {
            journal: Arc::clone(&journal),
            clock,
            metrics: Arc::clone(&metrics),
            status: status.clone(),
            gate: Arc::default(),
        };
        let settings = SourceSettings {
            name: source.name().into(),
            tenant: TENANT.into(),
            normal_lag_seconds: 1800,
            size_cap: 4 << 20,
        };
        let stop = watch::Sender::new(false);
        let running = tokio::spawn(run_source(source, settings, intake, stop.subscribe()));
        let deadline = Instant::now() + PATIENCE;
        let mut held = Held::default();
        loop {
            read_on(&journal, &mut held).await;
            held.metrics = metrics.text().unwrap();
            held.status = format!("{:?}", *status.watch().borrow());
            if done(&held) {
                break;
            }
            assert!(!running.is_finished(), "the source ended: {:?}", running.await);
            assert!(
                Instant::now() < deadline,
                "{} events, dead {:?}, gaps {:?}, status {}",
                held.events.len(),
                held.dead,
                held.gaps(),
                held.status
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.send_replace(true);
        running.await.unwrap().unwrap();
        read_on(&journal, &mut held).await;
        held.metrics = metrics.text().unwrap();
        held
    }
}

async fn read_on(journal: &Arc<dyn Journal>, held: &mut Held) {
    loop {
        let more = journal.read(held.events.len() as u64, 8 << 20).await.unwrap();
        if more.is_empty() {
            break;
        }
        held.events.extend(more.into_iter().map(|numbered| (*numbered.event).clone()));
    }
    let dead = journal.dead_letters();
    held.dead =
        dead.iter().map(|letter| format!("{} {}", letter.position, letter.detail)).collect();
}
