//! The `hunting` source and `postern backfill` against a small hunting service that misbehaves on request, over
//! HTTP and into the real journal. Ground truth judges: no row lost, none there twice.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/hunting_server.rs"]
mod hunting_server;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hunting_server::{Fault, HuntingServer};
use postern::cloud::tenant::{TenantAccess, TenantConfig};
use postern::domain::{Arrival, Cursors, Failure, Kind, Table, Ticks};
use postern::journal::{Clock, Embedded, Journal, JournalConfig, SystemClock};
use postern::pipeline::intake::{Intake, SourceSettings};
use postern::pipeline::metrics::Metrics;
use postern::pipeline::status::StatusBoard;
use postern::pipeline::{AdapterError, Source};
use postern::source::hunting::{HuntingClient, Limits, Subject, TimeColumn, Window};
use postern::source::{Hunting, HuntingConfig};

const TENANT: &str = "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a";
const NOON: &str = "2026-08-20T12:00:00Z";
const MINUTE: Duration = Duration::from_secs(60);

/// A clock that goes when it is told to. Its wall is far from the far end's on purpose.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Ticks {
        Ticks::parse("2031-01-01T00:00:00Z").unwrap()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// One source, its far end and a journal.
struct Rig {
    server: HuntingServer,
    clock: Arc<Hand>,
    access: TenantAccess,
    source: Hunting,
    cursors: Cursors,
    intake: Intake,
    settings: SourceSettings,
    trouble: Option<String>,
    errors: Vec<AdapterError>,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn new(config: &str) -> Self {
        Self::at(HuntingServer::start(NOON).await, config)
    }

    fn at(server: HuntingServer, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "canary").unwrap();
        let tenant = format!(
            "id = \"{TENANT}\"\ncredential = {{ token = {{ file = {token:?} }} }}\nendpoints = {{ graph = \"{}\" }}\nbudgets = {{ hunting_per_minute = 1000000 }}",
            server.url()
        );
        let tenant: TenantConfig = toml::from_str(&tenant).unwrap();
        let clock = Arc::new(Hand::default());
        let access = TenantAccess::new(&tenant, clock.clone()).unwrap();
        let config: HuntingConfig = toml::from_str(config).unwrap();
        let source = Hunting::new("hunt", &config, access.clone(), clock.clone()).unwrap();
        let journal = JournalConfig { reserve_bytes: 0, ..JournalConfig::default() };
        let system = Arc::new(SystemClock::default());
        let journal =
            Embedded::open(&folder.path().join("journal"), journal, system.clone()).unwrap();
        let intake = Intake {
            journal: Arc::new(journal),
            clock: system,
            metrics: Arc::new(Metrics::new().unwrap()),
            status: StatusBoard::default(),
            gate: Arc::default(),
        };
        intake.metrics.init_source("hunt");
        let settings = SourceSettings {
            name: "hunt".into(),
            tenant: TENANT.into(),
            normal_lag_seconds: 5400,
            size_cap: 4 << 20,
        };
        Self {
            server,
            clock,
            access,
            source,
            cursors: Cursors::new(),
            intake,
            settings,
            trouble: None,
            errors: Vec::new(),
            _folder: folder,
        }
    }

    /// Polls until nothing is due, as the pipeline would, without its waiting.
    async fn settle(&mut self) {
        for _ in 0..2_000 {
            match self.source.poll(&self.cursors).await {
                Ok(page) => {
                    let pause = page.pause;
                    self.trouble.clone_from(&page.trouble);
                    self.cursors.extend(page.cursors.iter().cloned());
                    self.intake.append_page(&self.settings, page).await.unwrap();
                    if pause.is_some() {
                        return;
                    }
                }
                Err(error) => self.failed(error),
            }
        }
        panic!("it never rests");
    }

    /// A poll failed: waits as the pipeline would, on the clock of the test.
    fn failed(&mut self, error: AdapterError) {
        let wait = match error.failure {
            Failure::Retry(Some(after)) => after.as_secs() + 1,
            _ => 5,
        };
        self.clock.0.fetch_add(wait, Ordering::Relaxed);
        self.errors.push(error);
        assert!(self.errors.len() < 300, "{:?}", self.errors.last());
    }

    /// Time goes on, there and here, and the source is polled until it rests.
    async fn later(&mut self, by: Duration) {
        self.server.with(|world| world.now = Ticks(world.now.0 + hunting_server::ticks(by)));
        self.clock.0.fetch_add(by.as_secs(), Ordering::Relaxed);
        self.settle().await;
    }

    /// A new process: volatile state is gone, the journal's cursors are there.
    fn restart(&mut self, config: &str) {
        let config: HuntingConfig = toml::from_str(config).unwrap();
        self.source =
            Hunting::new("hunt", &config, self.access.clone(), self.clock.clone()).unwrap();
        self.cursors = self.intake.journal.cursors("hunt/");
    }

    /// How often each message of a table is in the journal.
    async fn journaled(&self, table: &str) -> BTreeMap<String, usize> {
        journaled(self.intake.journal.as_ref(), table).await
    }

    /// 0 lost, 0 twice.
    #[track_caller]
    fn judge(found: &BTreeMap<String, usize>, truth: &BTreeSet<String>) {
        let missing: Vec<_> = truth.iter().filter(|id| !found.contains_key(*id)).take(3).collect();
        assert!(
            missing.is_empty(),
            "{} of {} there, missing: {missing:?}",
            found.len(),
            truth.len()
        );
        assert_eq!(found.values().filter(|count| **count != 1).count(), 0, "there twice");
        assert_eq!(found.len(), truth.len(), "more than there was");
    }
}

/// How often each message of a table is in the journal.
async fn journaled(journal: &dyn Journal, table: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut next = 0;
    loop {
        let more = journal.read(next, 8 << 20).await.unwrap();
        let Some(last) = more.last() else { return found };
        next = last.offset + 1;
        for numbered in more {
            let event = &numbered.event;
            if event.table == Table::from_name(table) && event.kind != Kind::Gap {
                let raw: serde_json::Value = serde_json::from_slice(event.raw.as_bytes()).unwrap();
                let id = raw["NetworkMessageId"].as_str().unwrap().to_owned();
                *found.entry(id).or_default() += 1;
            }
        }
    }
}

const MAIL: &str = "tables = [\"EmailEvents\"]\nstart_hours_back = 2\nhourly_resweep_hours = 0\ndaily_resweep_hours = 0\n";

fn mail_with(more: &str) -> String {
    format!("{MAIL}{more}")
}

#[tokio::test]
async fn every_row_of_a_table_arrives_once_by_ingestion_time_however_often_windows_overlap() {
    let mut rig = Rig::new(MAIL).await;
    let truth = rig.server.mail(
        "EmailEvents",
        400,
        "2026-08-20T10:30:00Z",
        Duration::from_secs(30),
        2 * MINUTE,
    );
    for _ in 0..50 {
        rig.later(5 * MINUTE).await;
    }
    Rig::judge(&rig.journaled("EmailEvents").await, &truth);
    let queries = rig.server.with(|world| world.rows_queries.clone());
    assert!(queries.iter().all(|query| query.contains("ingestion_time() >= ")));
    assert!(rig.errors.is_empty(), "{:?}", rig.errors);
}

/// Fault matrix: C9. 5,000 rows of one instant, 400 of which fit into an answer.
#[tokio::test]
async fn five_thousand_rows_of_one_instant_are_sharded_and_none_is_lost() {
    let mut rig = Rig::new(&mail_with("take = 400")).await;
    let truth =
        rig.server.mail("EmailEvents", 5_000, "2026-08-20T11:20:00Z", Duration::ZERO, MINUTE);
    rig.settle().await;
    Rig::judge(&rig.journaled("EmailEvents").await, &truth);
    let queries = rig.server.with(|world| world.rows_queries.clone());
    assert!(queries.iter().any(|query| query.contains("hash(NetworkMessageId, 16) == 15")));
}

/// The answer says nothing when rows are left out of it: only counting them again does.
#[tokio::test]
async fn rows_that_are_silently_left_out_are_noticed_by_counting() {
    let mut rig = Rig::new(&mail_with("count_check = \"always\"")).await;
    rig.server.with(|world| world.silent_cap = Some(300));
    let truth = rig.server.mail(
        "EmailEvents",
        1_000,
        "2026-08-20T11:00:00Z",
        Duration::from_secs(2),
        MINUTE,
    );
    rig.settle().await;
    Rig::judge(&rig.journaled("EmailEvents").await, &truth);
}

#[tokio::test]
async fn an_answer_that_would_be_too_large_or_takes_too_long_is_asked_for_in_halves() {
    let mut rig = Rig::new(MAIL).await;
    rig.server.with(|world| {
        world.most_rows = Some(200);
        world.slow_above = Some(1_200);
    });
    let truth = rig.server.mail(
        "EmailEvents",
        1_000,
        "2026-08-20T10:30:00Z",
        Duration::from_secs(4),
        MINUTE,
    );
    rig.settle().await;
    Rig::judge(&rig.journaled("EmailEvents").await, &truth);
    assert!(
        rig.errors.iter().all(|error| error.failure == Failure::Retry(None)),
        "{:?}",
        rig.errors
    );
    assert!(!rig.errors.is_empty(), "after a time-out the far end gets a pause");
}

/// Fault matrix: C4, C14. Cut, empty, foreign and lost answers are failures, never "no rows".
#[tokio::test]
async fn a_broken_answer_moves_no_cursor() {
    let mut rig = Rig::new(MAIL).await;
    let truth = rig.server.mail(
        "EmailEvents",
        300,
        "2026-08-20T10:30:00Z",
        Duration::from_secs(10),
        MINUTE,
    );
    rig.server.with(|world| {
        for fault in [
            Fault::Truncated,
            Fault::Body(String::new()),
            Fault::Body("<html>maintenance</html>".into()),
            Fault::Body("{\"error\":null}".into()),
            Fault::Reset,
            Fault::Status(200, Vec::new(), "{\"results\":[{}".into()),
            Fault::graph(500, ""),
            Fault::graph(503, ""),
        ] {
            world.faults.push_back((String::new(), fault));
        }
    });
    for _ in 0..8 {
        let before = rig.cursors.clone();
        let failed = rig.errors.len();
        while rig.errors.len() == failed {
            match rig.source.poll(&rig.cursors).await {
                Ok(page) => assert!(page.chunks.is_empty() && page.cursors.is_empty()),
                Err(error) => rig.failed(error),
            }
        }
        assert!(matches!(rig.errors[failed].failure, Failure::Retry(_)), "{}", rig.errors[failed]);
        assert_eq!(rig.cursors, before);
    }
    rig.settle().await;
    Rig::judge(&rig.journaled("EmailEvents").await, &truth);
}

/// Fault matrix: C1. Told or not, the quota's own rhythm is kept.
#[tokio::test]
async fn a_429_without_retry_after_waits_for_the_next_quarter_of_an_hour() {
    let mut rig = Rig::new(MAIL).await;
    rig.server.with(|world| world.now = Ticks::parse("2026-08-20T12:04:00Z").unwrap());
    rig.server.mail("EmailEvents", 10, "2026-08-20T11:30:00Z", MINUTE, MINUTE);
    rig.server.with(|world| {
        world.faults.push_back((String::new(), Fault::graph(429, "You have exceeded …")));
        let asked = vec![("retry-after", "120".to_owned())];
        world.faults.push_back((String::new(), Fault::Status(429, asked, String::new())));
    });
    rig.settle().await;
    let waits: Vec<Failure> = rig.errors.iter().map(|error| error.failure).collect();
    let seconds = |seconds| Failure::Retry(Some(Duration::from_secs(seconds)));
    assert_eq!(waits[..2], [seconds(11 * 60), seconds(120)]);
    // Until the door has let that time pass, a request is not even sent.
    let refused_at_the_door =
        |error: &AdapterError| format!("{:?}", error.cause).contains("it asked for patience");
    let sent = rig.errors[2..].iter().filter(|error| !refused_at_the_door(error)).count();
    assert_eq!(sent, 0, "{:?}", rig.errors);
    let before = rig.server.with(|world| world.rows_queries.len());
    rig.later(5 * MINUTE).await;
    assert_eq!(
        rig.server.with(|world| world.rows_queries.len()),
        before,
        "rounds are further apart"
    );
    rig.later(15 * MINUTE).await;
    assert!(rig.server.with(|world| world.rows_queries.len()) > before);
}

#[tokio::test]
async fn without_permission_everything_waits_and_says_which_permission() {
    let mut rig = Rig::new(MAIL).await;
    rig.server.mail("EmailEvents", 10, "2026-08-20T11:30:00Z", MINUTE, MINUTE);
    rig.server.with(|world| world.forbidden = true);
    let error = rig.source.poll(&rig.cursors).await.unwrap_err();
    assert_eq!(error.failure, Failure::Hold);
    assert!(error.message.contains("ThreatHunting.Read.All"), "{error}");
    let error = rig.source.probe().await.unwrap_err();
    assert_eq!(error.failure, Failure::Hold);
    rig.server.with(|world| world.forbidden = false);
    rig.settle().await;
    assert_eq!(rig.journaled("EmailEvents").await.len(), 10);
}

#[tokio::test]
async fn a_refused_query_waits_alone_and_says_where_it_is_wrong() {
    let config = mail_with(
        "query = [{ name = \"Good\", kql = \"EmailEvents | where true\" }, { name = \"Bad\", kql = \"EmailEvents | Bogus\" }]",
    );
    let mut rig = Rig::new(&config).await;
    rig.server.with(|world| {
        world.own.insert("EmailEvents | where true".into(), "EmailEvents".into());
        world.own.insert("EmailEvents | Bogus".into(), "EmailEvents".into());
    });
    let truth = rig.server.mail("EmailEvents", 50, "2026-08-20T11:00:00Z", MINUTE, MINUTE);
    rig.settle().await;
    let trouble = rig.trouble.clone().unwrap();
    assert!(trouble.contains("Bad") && trouble.contains("line 1, character 15"), "{trouble}");
    Rig::judge(&rig.journaled("EmailEvents").await, &truth);
    assert_eq!(rig.journaled("Good").await.len(), 50);
    let asked = |rig: &Rig| {
        rig.server.with(|world| world.rows_queries.iter().filter(|q| q.contains("Bogus")).count())
    };
    let once = asked(&rig);
    rig.later(10 * MINUTE).await;
    assert_eq!(asked(&rig), once, "a refused query is not asked again at once");
    rig.later(25 * MINUTE).await;
    assert_eq!(asked(&rig), once + 1, "but now and then");
    assert!(rig.source.probe().await.unwrap_err().message.contains("Bogus"));
}

#[tokio::test]
async fn a_table_without_a_licence_is_no_fault_and_is_found_when_it_comes() {
    let config = MAIL.replace("\"EmailEvents\"", "\"EmailEvents\", \"UrlClickEvents\"");
    let mut rig = Rig::new(&config).await;
    let truth = rig.server.mail("EmailEvents", 50, "2026-08-20T11:00:00Z", MINUTE, MINUTE);
    rig.settle().await;
    assert_eq!(rig.trouble, None);
    assert!(rig.errors.is_empty(), "{:?}", rig.errors);
    Rig::judge(&rig.journaled("EmailEvents").await, &truth);
    let probe = rig.source.probe().await.unwrap();
    assert!(probe.contains("not in this tenant") && probe.contains("UrlClickEvents"), "{probe}");
    let clicks = rig.server.mail("UrlClickEvents", 20, "2026-08-20T17:30:00Z", MINUTE, MINUTE);
    rig.later(Duration::from_secs(6 * 3600 + 600)).await;
    Rig::judge(&rig.journaled("UrlClickEvents").await, &clicks);
}

/// Fault matrix: C8. Without time of ingestion a row may be as late as is configured.
#[tokio::test]
async fn without_ingestion_time_late_rows_are_found_by_the_overlap() {
    let mut rig = Rig::new(MAIL).await;
    rig.server.with(|world| world.no_ingestion = true);
    let mut truth = rig.server.mail("EmailEvents", 100, "2026-08-20T11:00:00Z", MINUTE, MINUTE);
    truth.extend(rig.server.mail("EmailEvents", 100, "2026-08-20T11:00:30Z", MINUTE, 55 * MINUTE));
    for _ in 0..40 {
        rig.later(5 * MINUTE).await;
    }
    Rig::judge(&rig.journaled("EmailEvents").await, &truth);
    let queries = rig.server.with(|world| world.rows_queries.clone());
    assert!(queries.iter().all(|query| !query.contains("ingestion_time()")));
}

/// Fault matrix: C8. Alerts carry the time of the activity, more than a day before they appear.
#[tokio::test]
async fn alert_rows_that_come_28_hours_late_are_complete_in_the_end_by_either_time() {
    for no_ingestion in [false, true] {
        let config = MAIL.replace("EmailEvents", "AlertInfo");
        let mut rig = Rig::new(&config).await;
        rig.server.with(|world| world.no_ingestion = no_ingestion);
        let mut truth = rig.server.mail("AlertInfo", 20, "2026-08-20T11:00:00Z", MINUTE, MINUTE);
        let late = Duration::from_secs(28 * 3600);
        truth.extend(rig.server.mail("AlertInfo", 60, "2026-08-20T10:30:00Z", 2 * MINUTE, late));
        for _ in 0..62 {
            rig.later(30 * MINUTE).await;
        }
        Rig::judge(&rig.journaled("AlertInfo").await, &truth);
    }
}

/// A row that comes later than its table's lateness is found by the reading of the day.
#[tokio::test]
async fn the_daily_second_reading_finds_what_came_later_than_expected() {
    let config = MAIL.replace("daily_resweep_hours = 0", "daily_resweep_hours = 24");
    let mut rig = Rig::new(&config).await;
    rig.server.with(|world| world.no_ingestion = true);
    let mut truth = rig.server.mail("EmailEvents", 50, "2026-08-20T11:00:00Z", MINUTE, MINUTE);
    let late = Duration::from_secs(12 * 3600);
    truth.extend(rig.server.mail("EmailEvents", 30, "2026-08-20T20:00:00Z", MINUTE, late));
    rig.settle().await;
    for _ in 0..23 {
        rig.later(Duration::from_secs(3600)).await;
    }
    assert_eq!(rig.journaled("EmailEvents").await.len(), 50);
    rig.later(Duration::from_secs(3600)).await;
    Rig::judge(&rig.journaled("EmailEvents").await, &truth);
}

/// Fault matrix: C15. Our own clock is years off, the head's an hour or not there: windows end at the present of
/// the engine that stamps the rows.
#[tokio::test]
async fn windows_end_at_the_far_ends_present_whatever_other_clocks_say() {
    for (no_date, date_off) in [(true, 0), (false, 3600), (false, -600)] {
        let mut rig = Rig::new(MAIL).await;
        rig.server.with(|world| (world.no_date, world.date_off) = (no_date, date_off));
        let truth = rig.server.mail("EmailEvents", 120, "2026-08-20T11:00:00Z", MINUTE, 2 * MINUTE);
        for _ in 0..30 {
            rig.later(5 * MINUTE).await;
        }
        Rig::judge(&rig.journaled("EmailEvents").await, &truth);
    }
}

#[tokio::test]
async fn a_restart_in_the_middle_goes_on_where_the_journal_is() {
    let config = mail_with("take = 50");
    let mut rig = Rig::new(&config).await;
    let truth = rig.server.mail(
        "EmailEvents",
        1_000,
        "2026-08-20T10:30:00Z",
        Duration::from_secs(4),
        MINUTE,
    );
    for _ in 0..25 {
        for _ in 0..7 {
            let page = rig.source.poll(&rig.cursors).await.unwrap();
            rig.cursors.extend(page.cursors.iter().cloned());
            rig.intake.append_page(&rig.settings, page).await.unwrap();
        }
        rig.restart(&config);
    }
    rig.settle().await;
    Rig::judge(&rig.journaled("EmailEvents").await, &truth);
}

/// Fault matrix: C16. One table has a backlog of hundreds of answers; the small one beside it is read in turn.
#[tokio::test]
async fn a_flooded_table_does_not_hold_up_a_small_one() {
    let config = MAIL.replace("\"EmailEvents\"", "\"EmailEvents\", \"EmailPostDeliveryEvents\"");
    let mut rig = Rig::new(&format!("{config}take = 20")).await;
    rig.server.mail("EmailEvents", 2_000, "2026-08-20T10:30:00Z", Duration::from_secs(2), MINUTE);
    let small =
        rig.server.mail("EmailPostDeliveryEvents", 5, "2026-08-20T11:30:00Z", MINUTE, MINUTE);
    for _ in 0..20 {
        let page = rig.source.poll(&rig.cursors).await.unwrap();
        rig.cursors.extend(page.cursors.iter().cloned());
        rig.intake.append_page(&rig.settings, page).await.unwrap();
    }
    Rig::judge(&rig.journaled("EmailPostDeliveryEvents").await, &small);
    assert!(rig.journaled("EmailEvents").await.len() < 1_000);
}

#[tokio::test]
async fn what_is_older_than_hunting_keeps_becomes_a_gap_once() {
    let mut rig = Rig::new(MAIL).await;
    rig.server.mail("EmailEvents", 5, "2026-08-20T11:30:00Z", MINUTE, MINUTE);
    rig.settle().await;
    let fresh = rig.server.with(|world| world.now.plus_seconds(40 * 86_400));
    rig.server.with(|world| world.now = fresh);
    let truth =
        rig.server.mail("EmailEvents", 5, &fresh.plus_seconds(-3_600).to_string(), MINUTE, MINUTE);
    rig.clock.0.fetch_add(40 * 86_400, Ordering::Relaxed);
    rig.settle().await;
    rig.later(5 * MINUTE).await;
    let events = rig.intake.journal.read(0, 8 << 20).await.unwrap();
    assert_eq!(events.iter().filter(|it| it.event.kind == Kind::Gap).count(), 1);
    assert_eq!(rig.journaled("EmailEvents").await.len(), 5 + truth.len());
}

#[tokio::test]
async fn the_ledgers_count_leaves_doubled_rows_out_and_its_rows_are_all_there() {
    let rig = Rig::new(MAIL).await;
    let truth =
        rig.server.mail("EmailEvents", 700, "2026-08-20T10:00:00Z", Duration::from_secs(5), MINUTE);
    rig.server.with(|world| {
        let rows = world.tables.get_mut("EmailEvents").unwrap();
        let again: Vec<_> = rows.iter().take(100).cloned().collect();
        rows.extend(again);
    });
    let client = HuntingClient::new(rig.access.clone(), rig.clock.clone());
    let subject = Subject::of(Table::EmailEvents, TimeColumn::timestamp());
    let hour = Ticks::parse("2026-08-20T10:00:00Z").unwrap();
    let window = Window::new(hour, hour.plus_seconds(3_600));
    assert_eq!(client.count(&subject, window).await.unwrap(), 700);
    let limits = Limits { take: 120, ..Limits::default() };
    rig.server.with(|world| world.slow_above = Some(1_000));
    let chunks = client.rows(&subject, window, limits).await.unwrap();
    assert!(chunks.iter().all(|chunk| chunk.backfill));
    let page = postern::pipeline::Page { chunks, ..postern::pipeline::Page::default() };
    let taken = rig.intake.append_page(&rig.settings, page).await.unwrap();
    assert_eq!((taken.received, taken.new, taken.dead_lettered), (800, 700, 0));
    Rig::judge(&rig.journaled("EmailEvents").await, &truth);
}

/// The program with a configuration and a data directory of its own.
struct Program {
    server: HuntingServer,
    folder: tempfile::TempDir,
}

/// How it ended and what it said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Program {
    async fn new() -> Self {
        let server = HuntingServer::start(NOON).await;
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "canary").unwrap();
        let data = folder.path().join("data");
        let config = format!(
            "data_dir = {data:?}\n[tenant.contoso]\nid = \"{TENANT}\"\n\
             credential = {{ token = {{ file = {token:?} }} }}\nendpoints = {{ graph = \"{}\" }}\n\
             budgets = {{ hunting_per_minute = 1000000 }}\n\
             [source.hunt]\ntype = \"hunting\"\ntake = 100\n",
            server.url()
        );
        std::fs::write(folder.path().join("postern.toml"), config).unwrap();
        Self { server, folder }
    }

    async fn backfill(&self, arguments: &str) -> Said {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_postern"));
        command.arg("backfill").arg("--config").arg(self.folder.path().join("postern.toml"));
        command.args(arguments.split(' '));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn journal(&self) -> Embedded {
        let config = JournalConfig { reserve_bytes: 0, ..JournalConfig::default() };
        let clock = Arc::new(SystemClock::default());
        Embedded::open(&self.folder.path().join("data"), config, clock).unwrap()
    }

    fn asked_for_rows(&self) -> Vec<String> {
        self.server.with(|world| std::mem::take(&mut world.rows_queries))
    }
}

const DAY: &str = "--table EmailEvents --from 2026-08-19T12:00:00Z --to 2026-08-20T11:00:00Z";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_says_what_it_takes_and_a_second_call_goes_on_where_the_first_gave_up() {
    let program = Program::new().await;
    let truth = program.server.mail("EmailEvents", 1_000, "2026-08-19T12:30:00Z", MINUTE, MINUTE);
    let told = program.backfill(&format!("{DAY} --dry-run")).await;
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.err.contains("1000 rows") && told.err.contains("queries"), "{}", told.err);
    assert!(program.asked_for_rows().is_empty());
    assert!(!program.folder.path().join("data").exists(), "--dry-run leaves nothing behind");

    // The fifth window finds no permission any more.
    program.server.with(|world| world.revoke_after_rows_queries = Some(4));
    let gave_up = program.backfill(DAY).await;
    assert_eq!(gave_up.code, 1, "{}", gave_up.err);
    assert!(gave_up.err.contains("ThreatHunting.Read.All"), "{}", gave_up.err);
    assert!(gave_up.err.contains("goes on from there"), "{}", gave_up.err);
    let first = program.asked_for_rows();
    program.server.with(|world| (world.revoke_after_rows_queries, world.forbidden) = (None, false));

    let rest = program.backfill(DAY).await;
    assert_eq!(rest.code, 0, "{}", rest.err);
    assert!(rest.err.contains("goes on at"), "{}", rest.err);
    let second = program.asked_for_rows();
    // The fourth answer was there, but not proven whole any more.
    assert!(first.iter().take(3).all(|query| !second.contains(query)), "nothing is asked twice");
    assert!(second.contains(&first[3]), "what was not proven is asked again");
    {
        let journal = program.journal();
        Rig::judge(&journaled(&journal, "EmailEvents").await, &truth);
        let events = journal.read(0, 8 << 20).await.unwrap();
        assert!(events.iter().all(|it| it.event.arrival == Some(Arrival::Backfill)));
        journal.close().await.unwrap();
    }
    let again = program.backfill(DAY).await;
    assert!(again.err.contains("was complete before"), "{}", again.err);
    assert!(again.out.contains("1000 rows read, 0 new"), "{}", again.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overrides_only_asks_for_nothing_else_and_only_where_the_table_tells() {
    let program = Program::new().await;
    program.server.mail("EmailEvents", 200, "2026-08-20T06:00:00Z", MINUTE, MINUTE);
    program.server.with(|world| {
        for row in world.tables.get_mut("EmailEvents").unwrap().iter_mut().take(7) {
            row.columns["OrgLevelAction"] = "Allow".into();
        }
    });
    let done = program.backfill(&format!("{DAY} --overrides-only")).await;
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("7 rows read, 7 new"), "{}", done.out);
    let queries = program.asked_for_rows();
    assert!(queries.iter().all(|query| query.contains("| where isnotempty(OrgLevelAction) or ")));
    let refused = DAY.replace("EmailEvents", "UrlClickEvents");
    let refused = program.backfill(&format!("{refused} --overrides-only")).await;
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("only EmailEvents does"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_running_daemon_a_backfill_says_to_stop_it() {
    let program = Program::new().await;
    let journal = program.journal();
    let refused = program.backfill(DAY).await;
    assert_eq!(refused.code, 3);
    assert!(refused.err.contains("stop it"), "{}", refused.err);
    drop(journal);
}

/// A reader of the language that knows nothing of this source takes every query that it asks with.
#[test]
fn every_query_is_good_kql() {
    use postern::simulator::kql::{self, Tables};
    use postern::source::hunting::{Piece, Shard, query};

    let now = Ticks::parse(NOON).unwrap();
    let window = Window::new(now.plus_seconds(-3_600), now);
    let mut queries = Vec::new();
    for table in Table::TYPED {
        queries.push(query::ingestion_query(&table));
        for time in [TimeColumn::Ingestion, TimeColumn::timestamp()] {
            let subject = Subject::of(table.clone(), time);
            let shards = vec![Shard { of: 4, index: 1 }; subject.shard_columns()];
            let piece = Piece { window, shards };
            queries.push(query::rows_query(&subject, &piece, 10));
            queries.push(query::row_count_query(&subject, &piece));
            queries.push(query::keys_query(&subject, window));
            queries.push(query::hours_query(&subject, window));
            queries.push(query::clock_query(&subject));
            queries.extend(
                subject.with_overrides_only().map(|only| query::rows_query(&only, &piece, 10)),
            );
        }
    }
    let own = "let least = 7;\nEmailEvents | where BulkComplaintLevel >= least // bulk";
    let own = Subject::own("Bulk", own, "Timestamp", Some("ReportId"));
    queries.push(query::rows_query(&own, &Piece::all(window), 10));
    queries.push(query::clock_query(&own));
    let tables = Tables::of_mail();
    for query in queries {
        if let Err(error) = kql::run(&tables, &query, kql::Window::default_at(now), now) {
            panic!("{}:{} {}\n{query}", error.line, error.column, error.message);
        }
    }
}
