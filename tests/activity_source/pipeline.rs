//! Through the real pipeline into the real journal, with the process taken for dead between pages: what the journal
//! holds in the end is the truth, each record once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postern::domain::{Cursors, Kind};
use postern::journal::{Embedded, Journal, JournalConfig, SystemClock};
use postern::pipeline::intake::{Intake, SourceSettings, run_source};
use postern::pipeline::metrics::Metrics;
use postern::pipeline::status::StatusBoard;
use postern::pipeline::{AdapterError, Page, Source};
use postern::source::activity::{Activity, ActivityConfig};
use tokio::sync::{Notify, watch};

use crate::activity_server::{ActivityServer, Asked, Fault, TENANT};
use crate::rig::{access, is_content};

/// A source that falls silent for ever after some polls, which is when the process is killed; and whose waits are
/// the server's time.
struct Mortal<'a> {
    source: Activity,
    server: &'a ActivityServer,
    polls: usize,
    died: Arc<Notify>,
}

#[async_trait]
impl Source for Mortal<'static> {
    fn name(&self) -> &str {
        self.source.name()
    }

    async fn poll(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        if self.polls == 0 {
            self.died.notify_one();
            return std::future::pending().await;
        }
        self.polls -= 1;
        self.server.advance(Duration::from_millis(20));
        let mut page = self.source.poll(cursors).await?;
        self.server.advance(page.pause.take().unwrap_or_default());
        Ok(page)
    }

    async fn commit(&mut self, cursors: &Cursors) -> Result<(), AdapterError> {
        self.source.commit(cursors).await
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        self.source.probe().await
    }
}

/// Fault matrix: A1 in a small way, C5, C10, E4: lives of a few polls each, with faults, over one journal. The
/// pipeline's waits take no time, and a deadline of a request that fires too early for it is one more fault.
#[tokio::test(start_paused = true)]
async fn a_process_that_dies_again_and_again_journals_the_truth_once() {
    // The server outlives every task that is given it.
    let server: &'static ActivityServer = Box::leak(Box::new(ActivityServer::start().await));
    let folder = tempfile::tempdir().unwrap();
    let open = || -> Arc<dyn Journal> {
        let config = JournalConfig { reserve_bytes: 0, ..JournalConfig::default() };
        let clock = Arc::new(SystemClock::default());
        Arc::new(Embedded::open(&folder.path().join("journal"), config, clock).unwrap())
    };
    let mut requests = 0;
    server.decide(move |asked| {
        requests += 1;
        match (asked, requests % 17) {
            (Asked::Blob(id), _) if id == "gone" => Some(Fault::code(400, "AF20051")),
            (Asked::Blob(_), 3) => Some(Fault::Half),
            (_, 5) => Some(Fault::Reset),
            (asked, 11) if is_content(asked) => Some(Fault::code(500, "")),
            _ => None,
        }
    });
    let mut truth = BTreeMap::new();
    for life in 0..25 {
        for number in 0..4 {
            let ids = [format!("{life}-{number}"), format!("{life}-{}", (number + 1) % 4)];
            let mut blob =
                server.blob(&format!("b-{life}-{number}"), 900 * number, &[&ids[0], &ids[1]]);
            blob.visible = server.now().plus_seconds(60 * number);
            server.put(blob);
            truth.insert(ids[0].clone(), 1);
        }
        if life == 7 {
            server.publish("gone", 60, &["never"]);
        }
        let polls = if life == 24 { 150 } else { 2 + life % 5 };
        let journal = open();
        let config = ActivityConfig { page_bytes: 900, ..ActivityConfig::default() };
        let access = access(server, 0, 1 << 20);
        let source = Activity::new("audit", config, access, server.clock(0)).unwrap();
        let died = Arc::new(Notify::new());
        let mortal = Mortal { source, server, polls, died: Arc::clone(&died) };
        let intake = Intake {
            journal: Arc::clone(&journal),
            clock: Arc::new(SystemClock::default()),
            metrics: Arc::new(Metrics::new().unwrap()),
            status: StatusBoard::default(),
            gate: Arc::default(),
        };
        let settings = SourceSettings {
            name: "audit".into(),
            tenant: TENANT.into(),
            normal_lag_seconds: 86_400,
            size_cap: 4 << 20,
        };
        let stop = watch::Sender::new(false);
        let task = tokio::spawn(run_source(Box::new(mortal), settings, intake, stop.subscribe()));
        died.notified().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        // What was queued is durable, as in a kill some of it would be.
        journal.close().await.unwrap();
    }
    let journal = open();
    let mut found: BTreeMap<String, i32> = BTreeMap::new();
    let mut gaps = Vec::new();
    let mut at = 0;
    loop {
        let more = journal.read(at, 1 << 20).await.unwrap();
        let Some(last) = more.last() else { break };
        at = last.offset + 1;
        for numbered in more {
            let raw: serde_json::Value =
                serde_json::from_slice(numbered.event.raw.as_bytes()).unwrap_or_default();
            if numbered.event.kind == Kind::Gap {
                gaps.push(raw["what"].as_str().unwrap_or_default().to_owned());
                continue;
            }
            assert_eq!(numbered.event.kind, Kind::EmailActivity);
            let (start, end) = numbered.event.row;
            let bytes = &numbered.event.raw.as_bytes()[start as usize..end as usize];
            let row: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            *found.entry(row["Id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    assert_eq!(found, truth);
    assert_eq!(gaps, ["Audit.General blob gone"]);
    assert_eq!(journal.dead_letters(), []);
    assert_eq!(server.violations(), Vec::<String>::new());
}
