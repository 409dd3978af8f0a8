//! The stages between the ports, on the real journal in a temporary folder: what intake admits, when it
//! commits, how delivery settles, holds and stops. The source and the sink are scripts.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use postern::domain::{
    Chunk, Cursor, CursorKey, Cursors, DeadLetterReason, Failure, Kind, Position, Raw, Shape, Tag,
};
use postern::journal::{Embedded, Journal, JournalConfig, OnFull, ReaderStart, SystemClock};
use postern::pipeline::deliver::{Delivery, SinkSettings, run_sink};
use postern::pipeline::intake::{Intake, SourceSettings, run_source};
use postern::pipeline::metrics::Metrics;
use postern::pipeline::status::{State, StatusBoard};
use postern::pipeline::{AdapterError, Batch, Filter, Limits, Page, Sent, Sink, Source};
use tokio::sync::watch;

const TENANT: &str = "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a";

/// A journal in a temporary folder with everything that the stages share.
struct Rig {
    _folder: tempfile::TempDir,
    journal: Arc<dyn Journal>,
    metrics: Arc<Metrics>,
    status: StatusBoard,
    gate: Arc<tokio::sync::Mutex<()>>,
    stop: watch::Sender<bool>,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::default());
        let config = JournalConfig { reserve_bytes: 0, ..JournalConfig::default() };
        let journal = Embedded::open(&folder.path().join("journal"), config, clock).unwrap();
        Self {
            _folder: folder,
            journal: Arc::new(journal),
            metrics: Arc::new(Metrics::new().unwrap()),
            status: StatusBoard::default(),
            gate: Arc::default(),
            stop: watch::Sender::new(false),
        }
    }

    fn intake(&self) -> Intake {
        Intake {
            journal: Arc::clone(&self.journal),
            clock: Arc::new(SystemClock::default()),
            metrics: Arc::clone(&self.metrics),
            status: self.status.clone(),
            gate: Arc::clone(&self.gate),
        }
    }

    fn delivery(&self) -> Delivery {
        Delivery {
            journal: Arc::clone(&self.journal),
            clock: Arc::new(SystemClock::default()),
            metrics: Arc::clone(&self.metrics),
            status: self.status.clone(),
        }
    }

    /// Runs a source over `pages` until its script is at an end and everything is durable.
    async fn feed(&self, name: &str, script: Vec<Step>) -> Arc<Mutex<Vec<Cursors>>> {
        let done = watch::Sender::new(false);
        let committed = Arc::new(Mutex::new(Vec::new()));
        let source = Script {
            name: name.to_owned(),
            steps: script.into(),
            done: done.clone(),
            committed: Arc::clone(&committed),
            journal: Arc::clone(&self.journal),
        };
        let settings = SourceSettings {
            name: name.into(),
            tenant: TENANT.into(),
            normal_lag_seconds: 1800,
            size_cap: 4 << 20,
        };
        run_source(Box::new(source), settings, self.intake(), done.subscribe()).await.unwrap();
        committed
    }

    async fn all(&self) -> Vec<postern::journal::Numbered> {
        let mut all = Vec::new();
        loop {
            let more = self.journal.read(all.len() as u64, 1 << 20).await.unwrap();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    fn count(&self, line: &str) -> u64 {
        let text = self.metrics.text().unwrap();
        let value = text.lines().find_map(|l| l.strip_prefix(line)).expect(line);
        value.trim().parse().unwrap()
    }
}

enum Step {
    Page(Vec<Vec<u8>>),
    Fail(Failure),
}

/// A source that plays its steps and then asks to be stopped. Its cursor is the number of the step.
struct Script {
    name: String,
    steps: VecDeque<Step>,
    done: watch::Sender<bool>,
    committed: Arc<Mutex<Vec<Cursors>>>,
    journal: Arc<dyn Journal>,
}

#[async_trait]
impl Source for Script {
    fn name(&self) -> &str {
        &self.name
    }

    async fn poll(&mut self, cursors: &Cursors) -> Result<Page, AdapterError> {
        let key: CursorKey = format!("{}/0", self.name).into();
        let at: u64 = cursors.get(&key).map_or(0, |cursor| cursor.parse().unwrap());
        match self.steps.pop_front() {
            None => {
                self.done.send_replace(true);
                Ok(Page::default())
            }
            Some(Step::Fail(failure)) => Err(AdapterError::new(failure, "the script says no")),
            Some(Step::Page(messages)) => {
                // The same message is at the same place however often it is fetched.
                let chunks = messages.into_iter().map(|message| Chunk {
                    position: Position::Kafka {
                        topic: "hub".into(),
                        partition: 0,
                        offset: i64::try_from(message.len()).unwrap(),
                    },
                    raw: Raw::from(message),
                    shape: Shape::Streaming,
                    observed: None,
                    backfill: false,
                });
                let cursor: Cursor = (at + 1).to_string().into();
                Ok(Page {
                    chunks: chunks.collect(),
                    cursors: vec![(key, cursor)],
                    ..Page::default()
                })
            }
        }
    }

    async fn commit(&mut self, cursors: &Cursors) -> Result<(), AdapterError> {
        let durable = self.journal.cursors(&format!("{}/", self.name));
        let step = |cursors: &Cursors| -> Option<u64> {
            cursors.values().next().map(|cursor| cursor.parse().unwrap())
        };
        assert!(
            step(cursors) <= step(&durable),
            "told upstream {cursors:?} while only {durable:?} is durable"
        );
        self.committed.lock().unwrap().push(cursors.clone());
        Ok(())
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        Ok("a script".to_owned())
    }
}

/// An `EmailEvents` record in the streaming form.
fn mail(message: u32, recipient: &str, extra: &[(&str, &str)]) -> String {
    let mut row = serde_json::json!({
        "Timestamp": "2026-08-20T09:11:04Z",
        "NetworkMessageId": format!("6c1f9a34-52d1-4b0e-3a77-{message:012x}"),
        "RecipientEmailAddress": recipient,
        "SenderFromAddress": "billing@fabrikam.example",
        "EmailDirection": "Inbound",
        "DeliveryAction": "Delivered",
        "DeliveryLocation": "Inbox/folder",
        "ReportId": format!("{message}-1"),
    });
    for (column, value) in extra {
        row[*column] = (*value).into();
    }
    serde_json::json!({
        "time": "2026-08-20T09:13:32.3832981Z",
        "tenantId": TENANT,
        "category": "AdvancedHunting-EmailEvents",
        "properties": row,
    })
    .to_string()
}

fn envelope(records: &[String]) -> Vec<u8> {
    format!("{{\"records\":[{}]}}", records.join(",")).into_bytes()
}

const ALLOWED_PHISH: &[(&str, &str)] = &[
    ("ThreatTypes", "Phish"),
    ("ConfidenceLevel", "{\"Phish\":\"High\"}"),
    ("OrgLevelAction", "Allow"),
    ("OrgLevelPolicy", "Exchange transport rule"),
];

#[tokio::test]
async fn what_is_received_is_deduplicated_journaled_or_dead_lettered_and_the_counts_add_up() {
    let rig = Rig::new();
    let one = mail(1, "adele@contoso.example", ALLOWED_PHISH);
    let two = mail(2, "adele@contoso.example", &[]);
    let poison = b"\xff\xfe not json".to_vec();
    let script = vec![
        Step::Page(vec![envelope(&[one.clone(), two.clone(), one.clone()]), poison.clone()]),
        Step::Page(vec![envelope(&[two, one])]),
    ];
    rig.feed("hubs", script).await;
    let all = rig.all().await;
    assert_eq!(all.len(), 2);
    assert!(all[0].event.decision.tags.contains(Tag::AllowedHcPhish));
    assert_eq!(rig.journal.dead_letters().len(), 1);
    let labels = "{source=\"hubs\"}";
    assert_eq!(rig.count(&format!("postern_source_records_received_total{labels}")), 6);
    assert_eq!(rig.count(&format!("postern_source_records_deduplicated_total{labels}")), 3);
    assert_eq!(rig.count(&format!("postern_source_records_journaled_total{labels}")), 2);
    let tagged =
        "postern_tag_events_total{arrival=\"late\",level=\"tenant\",tag=\"allowed.hc_phish\"}";
    assert_eq!(rig.count(tagged), 1);
}

/// Fault matrix: G1.
#[tokio::test]
async fn poison_that_is_fetched_again_is_still_one_dead_letter() {
    let rig = Rig::new();
    let poison = b"{\"records\":[{\"category\":".to_vec();
    let script = vec![Step::Page(vec![poison.clone()]), Step::Page(vec![poison.clone()])];
    rig.feed("hubs", script).await;
    let kept = rig.journal.dead_letters();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].reason, DeadLetterReason::NotJsonObject);
    assert_eq!(&*kept[0].source, "hubs");
    rig.feed("others", vec![Step::Page(vec![poison])]).await;
    assert_eq!(rig.journal.dead_letters().len(), 2, "another source is another place");
}

/// Fault matrix: G4. Dead letters have a budget of their own in the journal; here is why it lasts.
#[tokio::test(start_paused = true)]
async fn a_source_that_gives_nothing_but_poison_is_slowed_until_it_gives_something_else() {
    let rig = Rig::new();
    let poison = |page: u32| {
        let records: Vec<String> = (0..100).map(|n| format!("[{page},{n}]")).collect();
        Step::Page(vec![envelope(&records)])
    };
    let good = |page: u32| {
        let records: Vec<String> =
            (0..400).map(|n| mail(page * 1000 + n, "adele@contoso.example", &[])).collect();
        Step::Page(vec![envelope(&records)])
    };
    let began = tokio::time::Instant::now();
    rig.feed("hubs", vec![poison(1), good(2)]).await;
    assert!(began.elapsed() < Duration::from_secs(60), "too few to judge by");
    let mut board = rig.status.watch();
    let degraded = tokio::spawn(async move {
        let slowed = |state: &State| matches!(state, State::Degraded(why) if why.contains("could not be read"));
        board.wait_for(|parts| parts.get("source bad").is_some_and(slowed)).await.is_ok()
    });
    let began = tokio::time::Instant::now();
    rig.feed("bad", (1..=6).map(poison).chain([good(7), good(8)]).collect()).await;
    let slow = began.elapsed().as_secs();
    assert!((5 * 60..9 * 60).contains(&slow), "{slow} s");
    assert!(degraded.await.unwrap(), "nobody was told");
    let began = tokio::time::Instant::now();
    rig.feed("bad", vec![good(9), good(10), good(11)]).await;
    assert!(began.elapsed() < Duration::from_secs(60), "it goes on as before");
    assert_eq!(rig.all().await.len(), 400 * 6);
    assert_eq!(rig.journal.dead_letters().len(), 700);
}

#[tokio::test]
async fn a_later_row_of_a_known_mail_says_re_verdict_and_claims_nothing_about_delivery() {
    let rig = Rig::new();
    let first = mail(7, "adele@contoso.example", &[("OrgLevelAction", "Allow")]);
    let mut later = ALLOWED_PHISH.to_vec();
    later.push(("ReportId", "7-2"));
    let script = vec![
        Step::Page(vec![envelope(&[first])]),
        Step::Page(vec![envelope(&[mail(7, " Adele@CONTOSO.example", &later)])]),
        Step::Page(vec![envelope(&[mail(7, "bo@contoso.example", ALLOWED_PHISH)])]),
    ];
    rig.feed("hubs", script).await;
    let all = rig.all().await;
    assert_eq!(all.len(), 3);
    let tags = |place: usize| all[place].event.decision.tags.words().collect::<Vec<_>>();
    assert!(tags(0).contains(&"override.unnecessary"), "{:?}", tags(0));
    assert_eq!(tags(1), ["override.allow", "re_verdict"]);
    assert!(tags(2).contains(&"allowed.hc_phish"), "another recipient is another mail");
}

#[tokio::test]
async fn upstream_is_told_only_what_is_durable() {
    let rig = Rig::new();
    let pages = (0..20).map(|n| Step::Page(vec![envelope(&[mail(n, "a@contoso.example", &[])])]));
    // The assertion is in the script's `commit`.
    let committed = rig.feed("hubs", pages.collect()).await;
    let last = committed.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last.values().next().map(|cursor| &**cursor), Some("20"));
    assert_eq!(rig.journal.cursors("hubs/"), last);
}

#[tokio::test(start_paused = true)]
async fn a_failed_poll_is_tried_again_and_moves_nothing() {
    let rig = Rig::new();
    let script = vec![
        Step::Page(vec![envelope(&[mail(1, "a@contoso.example", &[])])]),
        Step::Fail(Failure::Retry(Some(Duration::from_secs(30)))),
        Step::Fail(Failure::Hold),
        Step::Fail(Failure::Reject),
        Step::Page(vec![envelope(&[mail(2, "a@contoso.example", &[])])]),
    ];
    let began = tokio::time::Instant::now();
    rig.feed("hubs", script).await;
    assert!(began.elapsed() >= Duration::from_secs(90), "{:?}", began.elapsed());
    assert_eq!(rig.all().await.len(), 2);
    assert_eq!(rig.count("postern_source_errors_total{failure=\"hold\",source=\"hubs\"}"), 1);
}

/// What a scripted sink does with each event, by the event's place.
type Answer = Box<dyn FnMut(&Batch) -> Result<Vec<Sent>, AdapterError> + Send>;

struct Recorder {
    batches: Arc<Mutex<Vec<Vec<u64>>>>,
    answer: Answer,
    probes: Arc<AtomicU64>,
    open_at: Option<u64>,
}

#[async_trait]
impl Sink for Recorder {
    fn name(&self) -> &str {
        "recorder"
    }

    fn limits(&self) -> Limits {
        Limits { events: 4, bytes: 1 << 20, linger: Duration::from_millis(5) }
    }

    async fn open(&mut self, position: u64) -> Result<u64, AdapterError> {
        Ok(self.open_at.unwrap_or(position))
    }

    async fn deliver(&mut self, batch: &Batch) -> Result<Vec<Sent>, AdapterError> {
        let places = batch.events.iter().map(|numbered| numbered.offset).collect();
        self.batches.lock().unwrap().push(places);
        (self.answer)(batch)
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        if self.probes.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(AdapterError::new(Failure::Hold, "still no"));
        }
        Ok("it answers again".to_owned())
    }

    async fn close(&mut self) -> Result<(), AdapterError> {
        Ok(())
    }
}

fn all_delivered(batch: &Batch) -> Vec<Sent> {
    vec![Sent::Delivered; batch.events.len()]
}

/// Runs a scripted sink over what is in the journal until it is past everything, and returns the batches.
async fn deliver(rig: &Rig, filter: Filter, open_at: Option<u64>, answer: Answer) -> Vec<Vec<u64>> {
    let batches = Arc::new(Mutex::new(Vec::new()));
    let probes = Arc::new(AtomicU64::new(0));
    let sink = Recorder { batches: Arc::clone(&batches), answer, probes, open_at };
    let settings = SinkSettings {
        name: "recorder".into(),
        filter,
        start: ReaderStart::Beginning,
        on_full: OnFull::PauseSources,
        hold_probe: Duration::from_secs(120),
    };
    let stop = rig.stop.subscribe();
    let running = tokio::spawn(run_sink(Box::new(sink), settings, rig.delivery(), stop));
    let end = *rig.journal.watermark().borrow();
    tokio::time::timeout(Duration::from_secs(3600), async {
        while rig.journal.stat().readers.get("recorder") != Some(&end) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the sink gets past everything");
    rig.stop.send_replace(true);
    running.await.unwrap().unwrap();
    std::mem::take(&mut *batches.lock().unwrap())
}

async fn with_mails(count: u32) -> Rig {
    let rig = Rig::new();
    let records: Vec<String> =
        (0..count).map(|n| mail(n, "a@contoso.example", ALLOWED_PHISH)).collect();
    rig.feed("hubs", vec![Step::Page(vec![envelope(&records)])]).await;
    rig
}

#[tokio::test]
async fn batches_keep_the_journals_order_and_the_sinks_limits() {
    let rig = with_mails(10).await;
    let batches =
        deliver(&rig, Filter::default(), None, Box::new(|batch| Ok(all_delivered(batch)))).await;
    assert_eq!(batches.concat(), (0..10).collect::<Vec<_>>());
    assert!(batches.iter().all(|batch| batch.len() <= 4), "{batches:?}");
    assert_eq!(rig.count("postern_sink_events_sent_total{sink=\"recorder\"}"), 10);
    assert_eq!(rig.count("postern_sink_lag_events{sink=\"recorder\"}"), 0);
}

#[tokio::test]
async fn a_rejected_event_is_a_dead_letter_and_its_neighbours_pass() {
    let rig = with_mails(6).await;
    let answer: Answer = Box::new(|batch| {
        let one = |numbered: &postern::journal::Numbered| match numbered.offset {
            2 => Sent::Reject { reason: DeadLetterReason::SinkRejected, detail: "no".into() },
            _ => Sent::Delivered,
        };
        Ok(batch.events.iter().map(one).collect())
    });
    let batches = deliver(&rig, Filter::default(), None, answer).await;
    assert_eq!(batches.concat(), (0..6).collect::<Vec<_>>());
    let kept = rig.journal.dead_letters();
    assert_eq!(kept.len(), 1);
    assert_eq!((&*kept[0].sink, &*kept[0].position), ("recorder", "2"));
    assert_eq!(kept[0].id, rig.all().await[2].event.id);
    assert_eq!(rig.count("postern_sink_events_sent_total{sink=\"recorder\"}"), 5);
}

#[tokio::test(start_paused = true)]
async fn only_what_was_not_delivered_is_sent_again() {
    let rig = with_mails(4).await;
    let mut tries = 0;
    let answer: Answer = Box::new(move |batch| {
        tries += 1;
        let one = |numbered: &postern::journal::Numbered| match numbered.offset {
            1 | 3 if tries == 1 => Sent::Retry { after: None, detail: "busy".into() },
            _ => Sent::Delivered,
        };
        // The answer for the last event is missing in the second try: so it is not delivered yet.
        let mut answers: Vec<Sent> = batch.events.iter().map(one).collect();
        if tries == 2 {
            answers.pop();
        }
        Ok(answers)
    });
    let batches = deliver(&rig, Filter::default(), None, answer).await;
    assert_eq!(batches, [vec![0, 1, 2, 3], vec![1, 3], vec![3]]);
    assert_eq!(rig.count("postern_sink_events_retried_total{sink=\"recorder\"}"), 3);
}

#[tokio::test(start_paused = true)]
async fn on_hold_the_position_stays_and_it_probes_until_that_passes() {
    let rig = with_mails(3).await;
    let mut tries = 0;
    let status = rig.status.watch();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let answer: Answer = Box::new(move |batch| {
        tries += 1;
        note.lock().unwrap().push(status.borrow().get("sink recorder").cloned());
        if tries == 1 {
            return Err(AdapterError::new(Failure::Hold, "401: the token has expired"));
        }
        Ok(all_delivered(batch))
    });
    let began = tokio::time::Instant::now();
    let batches = deliver(&rig, Filter::default(), None, answer).await;
    assert_eq!(batches, [vec![0, 1, 2], vec![0, 1, 2]]);
    assert!(began.elapsed() >= Duration::from_secs(3 * 120), "{:?}", began.elapsed());
    assert_eq!(rig.count("postern_sink_on_hold{sink=\"recorder\"}"), 0);
    assert_eq!(seen.lock().unwrap()[0], Some(State::Ready));
}

#[tokio::test]
async fn what_the_filter_leaves_out_is_passed_and_acked() {
    let rig = with_mails(3).await;
    let filter = Filter { kinds: vec![Kind::Alert], ..Filter::default() };
    let batches = deliver(&rig, filter, None, Box::new(|batch| Ok(all_delivered(batch)))).await;
    assert_eq!(batches.concat(), Vec::<u64>::new());
    let rig = with_mails(3).await;
    let filter = Filter { tags: vec!["allowed.*".into()], kinds: vec![Kind::Email] };
    let batches = deliver(&rig, filter, None, Box::new(|batch| Ok(all_delivered(batch)))).await;
    assert_eq!(batches.concat(), [0, 1, 2]);
}

#[tokio::test]
async fn a_sink_that_keeps_its_own_position_begins_there() {
    let rig = with_mails(5).await;
    let answer: Answer = Box::new(|batch| Ok(all_delivered(batch)));
    let batches = deliver(&rig, Filter::default(), Some(3), answer).await;
    assert_eq!(batches.concat(), [3, 4]);
}

/// Fault matrix: B13 (as far as a sink's own position tells).
#[tokio::test(start_paused = true)]
async fn a_far_end_that_is_ahead_of_the_journal_is_held_and_sent_nothing() {
    let rig = with_mails(2).await;
    let batches = Arc::new(Mutex::new(Vec::new()));
    let sink = Recorder {
        batches: Arc::clone(&batches),
        answer: Box::new(|batch| Ok(all_delivered(batch))),
        probes: Arc::new(AtomicU64::new(0)),
        open_at: Some(3),
    };
    let settings = SinkSettings {
        name: "recorder".into(),
        filter: Filter::default(),
        start: ReaderStart::Beginning,
        on_full: OnFull::PauseSources,
        hold_probe: Duration::from_secs(120),
    };
    let stop = rig.stop.subscribe();
    let running = tokio::spawn(run_sink(Box::new(sink), settings, rig.delivery(), stop));
    let mut status = rig.status.watch();
    let held = |parts: &std::collections::BTreeMap<String, State>| matches!(parts.get("sink recorder"), Some(State::Degraded(why)) if why.contains("up to 3"));
    tokio::time::timeout(Duration::from_secs(60), status.wait_for(held)).await.unwrap().unwrap();
    rig.stop.send_replace(true);
    running.await.unwrap().unwrap();
    assert!(batches.lock().unwrap().is_empty());
}
