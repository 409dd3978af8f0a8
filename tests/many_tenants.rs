//! Several tenants in one process, on one journal: one floods, one throttles, one is down, and the fourth does not
//! notice. How long things take is printed, not asserted; what is asserted counts the fourth tenant's own polls.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/graph_server.rs"]
mod graph_server;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use graph_server::{Fault, Graph};
use postern::cloud::tenant::{TenantAccess, TenantConfig};
use postern::journal::{Clock, Embedded, Journal, JournalConfig, SystemClock};
use postern::pipeline::intake::{Intake, SourceSettings, run_source};
use postern::pipeline::metrics::Metrics;
use postern::pipeline::status::StatusBoard;
use postern::source::{AlertsConfig, SourceKind, Tools, build};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the calm tenant is looked at, each time with a new alert.
const ROUNDS: usize = 6;
/// Polls of the calm tenant within which an alert has to be in the journal: the one that was under way when it
/// appeared, the one that brings it, and one more that may have begun before anybody looked.
const POLLS: usize = 3;

/// One tenant's far end and the task that reads it.
struct Tenant {
    graph: Graph,
    task: JoinHandle<()>,
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tenant(name: &str, number: u32, folder: &Path, intake: &Intake) -> Tenant {
    let token = folder.join(name);
    std::fs::write(&token, "canary").unwrap();
    let graph = Graph::start().await;
    let id = format!("9f4c1b1e-7a52-4c0e-8d55-{number:012x}");
    let config: TenantConfig = serde_json::from_value(serde_json::json!({
        "id": id,
        "credential": { "token": { "file": token } },
        "endpoints": { "graph": graph.url() },
        "budgets": { "graph_per_minute": 1_000_000 },
    }))
    .unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let access = TenantAccess::new(&config, Arc::clone(&clock)).unwrap();
    let kind: AlertsConfig =
        serde_json::from_value(serde_json::json!({ "poll_seconds": 1 })).unwrap();
    let source = build(name, SourceKind::Alerts(kind), &Tools { clock, tenant: access }).unwrap();
    let settings = SourceSettings {
        name: name.into(),
        tenant: id.into(),
        normal_lag_seconds: 1800,
        size_cap: 4 << 20,
    };
    let (intake, (stop, stopped)) = (intake.clone(), watch::channel(false));
    let task = tokio::spawn(async move {
        let _stop = stop;
        run_source(source, settings, intake, stopped).await.unwrap();
    });
    Tenant { graph, task }
}

/// Waits until the journal holds `alert` of the source `calm`, reading on from `at`.
async fn arrives(journal: &dyn Journal, at: &mut u64, alert: &str) {
    let deadline = Instant::now() + PATIENCE;
    let mut watermark = journal.watermark();
    loop {
        let more = journal.read(*at, 1 << 20).await.unwrap();
        for numbered in &more {
            *at = numbered.offset + 1;
            if &*numbered.event.source == "calm" && numbered.event.key.as_deref() == Some(alert) {
                return;
            }
        }
        if more.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let moved = tokio::time::timeout(left, watermark.changed()).await;
            assert!(moved.is_ok(), "{alert} did not arrive");
        }
    }
}

/// Lets alerts appear one by one and says how long each took; asserts within how many polls.
async fn rounds(calm: &Tenant, journal: &dyn Journal, name: &str) -> Vec<Duration> {
    let mut at = journal.stat().next;
    let mut taken = Vec::new();
    for round in 0..ROUNDS {
        let alert = format!("{name}-{round}");
        let before = {
            let mut model = calm.graph.model();
            model.pass(1);
            model.alert(&alert);
            model.requests.len()
        };
        let began = Instant::now();
        arrives(journal, &mut at, &alert).await;
        taken.push(began.elapsed());
        let polls = calm.graph.model().requests.len() - before;
        assert!(polls <= POLLS, "{alert} took {polls} polls");
    }
    taken.sort();
    taken
}

/// Fault matrix: C16. The journal, the gate of the intake and the runtime are shared; a tenant's budget, patience and
/// back-off are its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_floods_throttles_or_fails_does_not_hold_up_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let config = JournalConfig { reserve_bytes: 0, ..JournalConfig::default() };
    let journal =
        Embedded::open(&folder.path().join("journal"), config, Arc::new(SystemClock::default()))
            .unwrap();
    let intake = Intake {
        journal: Arc::new(journal),
        clock: Arc::new(SystemClock::default()),
        metrics: Arc::new(Metrics::new().unwrap()),
        status: StatusBoard::default(),
        gate: Arc::default(),
    };
    let journal = Arc::clone(&intake.journal);
    let calm = tenant("calm", 1, folder.path(), &intake).await;
    let alone = rounds(&calm, journal.as_ref(), "alone").await;

    let floods = tenant("floods", 2, folder.path(), &intake).await;
    {
        let mut model = floods.graph.model();
        let mut count = 0;
        // Every answer is followed by as many new alerts as the next one can hold: it is never done.
        model.after_each = Some(Box::new(move |alerts, now| {
            *now = now.plus_seconds(1);
            for _ in 0..1000 {
                count += 1;
                let thing = graph_server::Thing {
                    stamp: *now,
                    visible: *now,
                    redirect: None,
                    alerts: std::collections::BTreeMap::new(),
                };
                alerts.insert(format!("flood-{count}"), thing);
            }
            while alerts.len() > 3000 {
                alerts.pop_first();
            }
        }));
    }
    let throttles = tenant("throttles", 3, folder.path(), &intake).await;
    throttles.graph.model().faults =
        std::iter::repeat_n(Fault::Status(429, Some("2")), 1000).collect::<VecDeque<_>>();
    let down = tenant("down", 4, folder.path(), &intake).await;
    down.graph.model().dead_from = Some(1);

    let flooded = journal.stat().next;
    let among = rounds(&calm, journal.as_ref(), "among").await;
    let flooded = journal.stat().next - flooded;
    assert!(flooded > 1000, "the flood was none: {flooded} events");
    assert!(!throttles.graph.model().requests.is_empty(), "nobody was throttled");
    assert!(!down.graph.model().requests.is_empty(), "nobody met the tenant that is down");
    let median = |taken: &[Duration]| taken[taken.len() / 2].as_secs_f64();
    println!(
        "median until journaled: alone {:.2} s, among {flooded} events of a flood {:.2} s, {:.2} x",
        median(&alone),
        median(&among),
        median(&among) / median(&alone)
    );
}
