//! The ledger on a real journal in a temporary folder, with a far end that is a table in memory and a clock that is
//! set by hand.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::report::{Line, lines};
use super::*;
use crate::domain::{Chunk, Position, Raw, Shape, Table, Ticks};
use crate::journal::{Embedded, JournalConfig};
use crate::normalize::SIZE_CAP;
use crate::pipeline::Page;
use crate::pipeline::intake::{Intake, SourceSettings};

const TENANT: &str = "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a";
const HOUR: i64 = 3600;

/// Set by hand; never goes by itself.
#[derive(Debug)]
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Ticks {
        Ticks(self.0.load(Ordering::SeqCst))
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// What the far end has: table, time, key, verdict.
type FarRow = (Table, Ticks, String);

struct FarEnd {
    rows: Mutex<Vec<FarRow>>,
    refuses: Mutex<Option<ReckonError>>,
    counts: AtomicU64,
    clock: Arc<HandClock>,
}

impl FarEnd {
    fn refusal(&self) -> Result<(), ReckonError> {
        self.refuses.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn of(&self, table: &Table, from: Ticks, to: Ticks) -> Vec<FarRow> {
        let rows = self.rows.lock().unwrap();
        rows.iter().filter(|(of, at, _)| of == table && *at >= from && *at < to).cloned().collect()
    }
}

#[async_trait]
impl Reckoner for FarEnd {
    async fn now(&self, _: &Table) -> Result<Ticks, ReckonError> {
        self.refusal().map(|()| self.clock.now())
    }
    async fn count(&self, table: &Table, from: Ticks, to: Ticks) -> Result<u64, ReckonError> {
        self.counts.fetch_add(1, Ordering::SeqCst);
        self.refusal()?;
        let keys: std::collections::BTreeSet<String> =
            self.of(table, from, to).into_iter().map(|(_, _, key)| key).collect();
        Ok(keys.len() as u64)
    }
    async fn rows(&self, table: &Table, from: Ticks, to: Ticks) -> Result<Vec<Chunk>, ReckonError> {
        self.refusal()?;
        let rows = self.of(table, from, to);
        Ok(rows.iter().map(|row| Chunk { backfill: true, ..chunk(row, "Phish") }).collect())
    }
}

fn chunk((table, at, key): &FarRow, verdict: &str) -> Chunk {
    let row = serde_json::json!({
        "Timestamp": at.to_string(), "NetworkMessageId": key, "ReportId": key, "AlertId": key,
        "RecipientEmailAddress": "ada@contoso.example", "ThreatTypes": verdict,
    });
    Chunk {
        raw: Raw::from(row.to_string().into_bytes()),
        shape: Shape::Row(table.clone()),
        position: Position::None,
        observed: None,
        backfill: false,
    }
}

struct Rig {
    folder: tempfile::TempDir,
    clock: Arc<HandClock>,
    far: Arc<FarEnd>,
    journal: Arc<dyn Journal>,
    intake: Intake,
    config: LedgerConfig,
}

fn open(folder: &std::path::Path, clock: &Arc<HandClock>) -> (Arc<dyn Journal>, Intake) {
    let config = JournalConfig { reserve_bytes: 0, ..JournalConfig::default() };
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    let journal: Arc<dyn Journal> =
        Arc::new(Embedded::open(&folder.join("journal"), config, Arc::clone(&clock)).unwrap());
    let intake = Intake {
        journal: Arc::clone(&journal),
        clock,
        metrics: Arc::new(Metrics::new().unwrap()),
        status: StatusBoard::default(),
        gate: Arc::default(),
    };
    (journal, intake)
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = Ticks::parse("2026-08-20T00:00:00Z").unwrap();
        let clock = Arc::new(HandClock(AtomicI64::new(start.0)));
        let (journal, intake) = open(folder.path(), &clock);
        let far = Arc::new(FarEnd {
            rows: Mutex::default(),
            refuses: Mutex::default(),
            counts: AtomicU64::new(0),
            clock: Arc::clone(&clock),
        });
        Self { folder, clock, far, journal, intake, config: LedgerConfig::default() }
    }

    /// A point in time: hours and minutes from the start.
    fn at(hour: i64, minute: i64) -> Ticks {
        Ticks::parse("2026-08-20T00:00:00Z").unwrap().plus_seconds(hour * HOUR + minute * 60)
    }

    fn set(&self, now: Ticks) {
        self.clock.0.store(now.0, Ordering::SeqCst);
    }

    fn far_has(&self, table: &Table, at: Ticks, key: &str) -> FarRow {
        let row = (table.clone(), at, key.to_owned());
        self.far.rows.lock().unwrap().push(row.clone());
        row
    }

    /// A row as a source brings it.
    async fn comes(&self, row: &FarRow, verdict: &str) {
        let settings = SourceSettings {
            name: "hubs".into(),
            tenant: TENANT.into(),
            normal_lag_seconds: 1800,
            size_cap: SIZE_CAP,
        };
        let page = Page { chunks: vec![chunk(row, verdict)], ..Page::default() };
        self.intake.append_page(&settings, page).await.unwrap();
    }

    async fn both(&self, table: &Table, at: Ticks, key: &str) {
        let row = self.far_has(table, at, key);
        self.comes(&row, "Phish").await;
    }

    /// One life of the ledger: counts what is there, checks once what is due, saves, ends.
    async fn life(&self) -> Vec<Line> {
        let (stop, stopped) = watch::channel(false);
        let ledger = Ledger {
            config: self.config.clone(),
            journal: Arc::clone(&self.journal),
            clock: Arc::clone(&self.clock) as _,
            metrics: Arc::clone(&self.intake.metrics),
            status: StatusBoard::default(),
            reckoners: BTreeMap::from([(TENANT.to_owned(), Arc::clone(&self.far) as _)]),
            names: BTreeMap::from([(TENANT.to_owned(), "contoso".to_owned())]),
            refill: Arc::new(self.intake.clone()),
            file: state::path_in(self.folder.path()),
        };
        follow::one_life(ledger, stop, stopped).await.unwrap();
        let state = state::load(&state::path_in(self.folder.path())).unwrap().unwrap();
        lines(&state.book)
    }
}

#[track_caller]
fn hour(lines: &[Line], table: &Table, hour: i64) -> Line {
    let at = Rig::at(hour, 0);
    let found = lines.iter().find(|line| line.table == table.name() && line.hour == at);
    found.unwrap_or_else(|| panic!("no hour {hour} in {lines:#?}")).clone()
}

#[tokio::test]
async fn a_lost_row_and_a_doubled_one_in_the_same_hour_are_found_and_refilled() {
    let rig = Rig::new();
    let table = Table::EmailEvents;
    rig.set(Rig::at(0, 50));
    rig.both(&table, Rig::at(0, 10), "first").await;
    rig.set(Rig::at(1, 50));
    rig.both(&table, Rig::at(1, 10), "a").await;
    // The same row twice: its verdict has changed, so it is a second revision and a row more here.
    rig.comes(&(table.clone(), Rig::at(1, 10), "a".to_owned()), "Malware").await;
    rig.far_has(&table, Rig::at(1, 20), "lost");
    rig.set(Rig::at(3, 5));
    let lines = rig.life().await;
    let line = hour(&lines, &table, 1);
    assert_eq!((line.state, line.ours, line.theirs), ("complete", 2, Some(2)), "{line:?}");
    assert_eq!((line.refilled, line.again), (1, 1), "{line:?}");
    assert_eq!(hour(&lines, &table, 0).state, "before");
    assert_eq!(hour(&lines, &table, 2).state, "open", "it has ended only five minutes ago");
    let text = rig.intake.metrics.text().unwrap();
    for line in [
        "postern_ledger_gaps_total{table=\"EmailEvents\",tenant=\"contoso\"} 1",
        "postern_ledger_refilled_events_total{table=\"EmailEvents\",tenant=\"contoso\"} 1",
        "postern_ledger_hours{state=\"complete\",table=\"EmailEvents\",tenant=\"contoso\"} 1",
    ] {
        assert!(text.contains(line), "{line} not in\n{text}");
    }
    // The refilled row is an event like all others, marked as fetched on purpose.
    let events = rig.journal.read(0, 1 << 20).await.unwrap();
    let last = &events.last().unwrap().event;
    assert_eq!(last.arrival, Some(crate::domain::Arrival::Backfill));
    assert_eq!(last.key.as_deref(), Some("lost"));
}

#[tokio::test]
async fn alert_rows_that_come_a_day_late_leave_their_hour_complete_in_the_end() {
    let rig = Rig::new();
    let table = Table::AlertInfo;
    rig.both(&table, Rig::at(0, 10), "first").await;
    rig.both(&table, Rig::at(1, 10), "in time").await;
    rig.set(Rig::at(3, 5));
    assert_eq!(hour(&rig.life().await, &table, 1).state, "complete");
    rig.set(Rig::at(29, 10));
    rig.both(&table, Rig::at(1, 10), "late").await;
    let lines = rig.life().await;
    assert_eq!((hour(&lines, &table, 1).state, hour(&lines, &table, 1).ours), ("complete", 2));
    rig.set(Rig::at(40, 0));
    rig.both(&table, Rig::at(1, 30), "later").await;
    assert_eq!(hour(&rig.life().await, &table, 1).state, "changed", "no check since");
    rig.set(Rig::at(51, 0));
    let line = hour(&rig.life().await, &table, 1);
    assert_eq!((line.state, line.ours, line.late), ("complete", 3, 2), "{line:?}");
    assert!(line.why.contains("49 h after the hour"), "{line:?}");
}

#[tokio::test]
async fn without_permission_an_hour_is_unverified_and_never_complete() {
    let rig = Rig::new();
    let table = Table::EmailEvents;
    rig.both(&table, Rig::at(0, 10), "first").await;
    rig.both(&table, Rig::at(1, 10), "a").await;
    let refusal = ReckonError::Refused("hunting is not permitted".to_owned());
    *rig.far.refuses.lock().unwrap() = Some(refusal);
    for hours in [3, 26, 50, 60] {
        rig.set(Rig::at(hours, 0));
        let line = hour(&rig.life().await, &table, 1);
        assert_eq!((line.state, &*line.why), ("unverified", "hunting is not permitted"));
    }
    *rig.far.refuses.lock().unwrap() = None;
    rig.set(Rig::at(62, 0));
    assert_eq!(hour(&rig.life().await, &table, 1).state, "complete", "given back, it is proven");
}

#[tokio::test]
async fn a_used_up_quota_is_waited_for_and_rows_that_only_we_have_are_said_so() {
    let rig = Rig::new();
    let table = Table::UrlClickEvents;
    rig.both(&table, Rig::at(0, 10), "first").await;
    rig.comes(&(table.clone(), Rig::at(1, 10), "only here".to_owned()), "Phish").await;
    let quota =
        ReckonError::Busy(Some(Duration::from_secs(600)), "the quota is used up".to_owned());
    *rig.far.refuses.lock().unwrap() = Some(quota);
    rig.set(Rig::at(3, 0));
    assert_eq!(hour(&rig.life().await, &table, 1).why, "the quota is used up");
    *rig.far.refuses.lock().unwrap() = None;
    let before = rig.far.counts.load(Ordering::SeqCst);
    rig.set(Rig::at(3, 9));
    rig.life().await;
    assert_eq!(rig.far.counts.load(Ordering::SeqCst), before, "asked before its time");
    rig.set(Rig::at(3, 11));
    let line = hour(&rig.life().await, &table, 1);
    assert_eq!((line.state, line.ours, line.theirs), ("more", 1, Some(0)));
}

#[tokio::test]
async fn a_restart_in_the_middle_changes_nothing_and_a_lost_or_torn_file_only_costs_counting_again()
{
    let mut rig = Rig::new();
    let table = Table::EmailEvents;
    rig.both(&table, Rig::at(0, 10), "first").await;
    rig.both(&table, Rig::at(1, 10), "a").await;
    let before = rig.life().await;
    rig.both(&table, Rig::at(1, 20), "b").await;
    rig.journal.close().await.unwrap();
    (rig.journal, rig.intake) = open(rig.folder.path(), &rig.clock);
    let after = rig.life().await;
    assert_eq!((hour(&before, &table, 1).rows, hour(&after, &table, 1).rows), (1, 2));
    let file = state::path_in(rig.folder.path());
    let bytes = std::fs::read(&file).unwrap();
    for damage in [None, Some(&bytes[..bytes.len() - 1]), Some(&b"nonsense"[..])] {
        match damage {
            None => std::fs::remove_file(&file).unwrap(),
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
        }
        assert_eq!(rig.life().await, after);
    }
}

#[tokio::test]
async fn what_does_not_fit_into_memory_leaves_the_oldest_hour_unverified() {
    let mut rig = Rig::new();
    rig.config.memory_bytes = 16 * 10;
    let table = Table::EmailUrlInfo;
    rig.both(&table, Rig::at(0, 10), "first").await;
    for number in 0..8 {
        rig.both(&table, Rig::at(1, number), &format!("a{number}")).await;
        rig.both(&table, Rig::at(2, number), &format!("b{number}")).await;
    }
    rig.set(Rig::at(5, 0));
    let lines = rig.life().await;
    assert_eq!(hour(&lines, &table, 1).state, "unverified");
    assert!(hour(&lines, &table, 1).why.contains("memory_bytes"));
    assert_eq!(hour(&lines, &table, 2).state, "complete");
    assert_eq!(hour(&lines, &table, 3).state, "complete", "an hour without rows is checked, too");
}

#[test]
fn a_configuration_that_checks_never_or_backwards_is_refused() {
    let of = |hours: &[u32]| LedgerConfig {
        check_after_hours: hours.to_vec(),
        ..LedgerConfig::default()
    };
    assert_eq!(of(&[1, 24, 48]).problem(), None);
    for hours in [&[][..], &[0], &[24, 1], &[1, 1], &[1, 999]] {
        assert!(of(hours).problem().is_some(), "{hours:?}");
    }
}
