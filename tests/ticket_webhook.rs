//! Tickets by signed webhook, over a real socket: signatures and their rotation, what is never sent twice, what
//! holds, what becomes a dead letter, and that secrets appear nowhere. What every sink must do is in
//! `conformance.rs`; death around the request is in `ticket_once.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/memory_journal.rs"]
mod memory_journal;
#[path = "support/misbehaving_server.rs"]
mod misbehaving_server;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use postern::cloud::http::HttpConfig;
use postern::cloud::secret::Secret;
use postern::domain::{Failure, TicketState, Ticks};
use postern::journal::{Clock, Embedded, Journal, JournalConfig};
use postern::pipeline::{Sent, Sink};
use postern::ticket::{FarEndConfig, TicketConfig, TicketSink, WebhookConfig};
use tempfile::TempDir;

use conformance::{batch, drive, event};
use memory_journal::{Death, MemoryJournal};
use misbehaving_server::{Conduct, Received, Server};

const OLD: &str = "whsec_Y2FuYXJ5LW9sZC1zZWNyZXQtMDEyMzQ1Njc4OWFi";
const NEW: &str = "whsec_Y2FuYXJ5LW5ldy1zZWNyZXQtMDEyMzQ1Njc4OWFi";
const TOKEN: &str = "Bearer canary-token";

/// A clock that stands until it is moved.
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Ticks {
        Ticks::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.load(Ordering::SeqCst)).unwrap())
    }
}

struct Desk {
    server: Server,
    journal: Arc<MemoryJournal>,
    clock: Arc<HandClock>,
    home: TempDir,
    secrets: Vec<Secret>,
    http: HttpConfig,
}

impl Desk {
    async fn new() -> Self {
        let home = TempDir::new().unwrap();
        let desk = Self {
            server: Server::start().await,
            journal: MemoryJournal::new(),
            clock: Arc::new(HandClock(AtomicI64::new(1_787_000_000_000))),
            secrets: vec![Secret::File(home.path().join("old"))],
            http: HttpConfig { header_timeout_ms: 1000, ..HttpConfig::default() },
            home,
        };
        desk.keep("old", OLD);
        desk.keep("token", TOKEN);
        desk
    }

    fn keep(&self, name: &str, secret: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, format!("{secret}\n")).unwrap();
        path
    }

    fn sink(&self) -> TicketSink {
        self.sink_on(self.journal.clone())
    }

    fn sink_on(&self, journal: Arc<dyn Journal>) -> TicketSink {
        let config = TicketConfig {
            policy: "allowed_mail".to_owned(),
            portal: "https://security.microsoft.com".to_owned(),
            far_end: FarEndConfig::Webhook(WebhookConfig {
                url: self.server.url(),
                secrets: self.secrets.clone(),
                authorization: Some(Secret::File(self.home.path().join("token"))),
                http: self.http.clone(),
            }),
        };
        TicketSink::new("tickets", config, journal, self.clock.clone()).unwrap()
    }
}

/// Whether `request` is signed by `secret`, by the standard's own library.
fn signed_by(request: &Received, secret: &str) -> bool {
    let signer = standardwebhooks::Webhook::new(secret).unwrap();
    let timestamp = request.headers["webhook-timestamp"].parse().unwrap();
    let expected = signer.sign(&request.headers["webhook-id"], timestamp, &request.body).unwrap();
    request.headers["webhook-signature"].split(' ').any(|signature| signature == expected)
}

#[tokio::test]
async fn each_attempt_is_signed_anew_under_the_same_id() {
    let desk = Desk::new().await;
    let mut sink = desk.sink();
    sink.open(0).await.unwrap();
    desk.server.plan([Conduct::status(500), Conduct::LoseAnswer]);
    for attempt in 0..3 {
        let sent = sink.deliver(&batch(0, 1)).await.unwrap();
        assert_eq!(sent == [Sent::Delivered], attempt == 2, "{sent:?}");
        desk.clock.0.fetch_add(60_000, Ordering::SeqCst);
    }
    let requests = desk.server.requests();
    let times: Vec<&str> =
        requests.iter().map(|request| &*request.headers["webhook-timestamp"]).collect();
    assert_eq!(times, ["1787000000", "1787000060", "1787000120"]);
    for request in &requests {
        assert!(signed_by(request, OLD));
        assert_eq!(request.headers["webhook-id"], requests[0].headers["webhook-id"]);
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.headers["authorization"], TOKEN);
        assert_eq!(request.body, requests[0].body, "the same ticket says the same");
    }
    let body: serde_json::Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!(body["data"]["key"], requests[0].headers["webhook-id"].as_str());
}

/// Row J1 of the fault matrix.
#[tokio::test]
async fn secrets_rotate_without_a_restart() {
    let mut desk = Desk::new().await;
    desk.secrets.push(Secret::File(desk.keep("new", NEW)));
    let mut sink = desk.sink();
    drive(&mut sink, 0, 1).await;
    desk.keep("old", NEW);
    drive(&mut sink, 1, 2).await;
    let requests = desk.server.requests();
    assert!(signed_by(&requests[0], OLD) && signed_by(&requests[0], NEW), "both sign");
    assert!(!signed_by(&requests[1], OLD) && signed_by(&requests[1], NEW));
    fs::remove_file(desk.home.path().join("new")).unwrap();
    let error = sink.deliver(&batch(2, 3)).await.unwrap_err();
    assert_eq!(error.failure, Failure::Hold, "{error}");
    assert_eq!(sink.probe().await.unwrap_err().failure, Failure::Hold);
    desk.keep("new", NEW);
    sink.probe().await.unwrap();
    assert_eq!(sink.deliver(&batch(2, 3)).await.unwrap(), [Sent::Delivered]);
}

#[tokio::test]
async fn several_rows_of_one_message_are_one_ticket_also_after_a_restart() {
    let mut desk = Desk::new().await;
    let mut rows = batch(0, 3);
    for numbered in &mut rows.events {
        let mut row = event(numbered.offset);
        row.key = Some("7250FF78-0000-4000-8000-ABCDEF000000".into());
        numbered.event = Arc::new(row);
    }
    let mut sink = desk.sink();
    sink.open(0).await.unwrap();
    assert_eq!(sink.deliver(&rows).await.unwrap(), vec![Sent::Delivered; 3]);
    desk.journal = desk.journal.after_death();
    let mut sink = desk.sink();
    sink.open(0).await.unwrap();
    assert_eq!(sink.deliver(&rows).await.unwrap(), vec![Sent::Delivered; 3]);
    assert_eq!(desk.server.requests().len(), 1);
    // A ticket that lives on is noted as active, so that its record outlives its last event.
    desk.clock.0.fetch_add(2 * 3_600_000, Ordering::SeqCst);
    sink.deliver(&rows).await.unwrap();
    let records = desk.journal.records();
    assert_eq!(records.len(), 3, "intent, open, still open: {records:?}");
    assert!(records[2].at > records[1].at);
    assert_eq!(desk.server.requests().len(), 1);
}

#[tokio::test]
async fn the_far_ends_own_reference_is_kept() {
    let desk = Desk::new().await;
    let place = "https://desk.contoso.example/t/4711";
    desk.server.plan([Conduct::with_header(201, "location", place)]);
    drive(&mut desk.sink(), 0, 1).await;
    let tickets = desk.journal.tickets("tickets");
    assert_eq!(tickets[0].state, TicketState::Open { reference: place.into() });
    assert_eq!(tickets[0].attempts, 1);
}

/// Row I10 of the fault matrix, its first place, over a socket.
#[tokio::test]
async fn nothing_is_sent_before_the_intent_is_durable() {
    let desk = Desk::new().await;
    desk.journal.die(Death::BeforeIntent(1));
    let mut sink = desk.sink();
    sink.open(0).await.unwrap();
    let one = batch(0, 1);
    tokio::select! {
        biased;
        () = desk.journal.died.notified() => {}
        sent = sink.deliver(&one) => panic!("delivered without a journal: {sent:?}"),
    }
    assert_eq!(desk.server.connections(), 0);
}

/// Row I11 of the fault matrix, and what protects a queue from a far end that refuses everything.
#[tokio::test]
async fn five_refusals_in_a_row_hold_and_each_refused_event_costs_one_request() {
    let desk = Desk::new().await;
    desk.server.plan((0..100).map(|_| Conduct::status(404)));
    let mut sink = desk.sink();
    sink.open(0).await.unwrap();
    let error = sink.deliver(&batch(0, 10)).await.unwrap_err();
    assert_eq!(error.failure, Failure::Hold, "{error}");
    assert_eq!(desk.server.requests().len(), 5);
    // After the hold it trickles, one request for each probe, and what was refused is not sent again.
    sink.probe().await.unwrap();
    assert_eq!(sink.deliver(&batch(0, 10)).await.unwrap_err().failure, Failure::Hold);
    assert_eq!(desk.server.requests().len(), 6);
    desk.server.plan([]);
    let sent = sink.deliver(&batch(0, 10)).await.unwrap();
    let refused = sent.iter().filter(|sent| matches!(sent, Sent::Reject { .. })).count();
    assert_eq!((refused, desk.server.requests().len()), (6, 10));
    assert!(sent[6..].iter().all(|sent| *sent == Sent::Delivered));
}

#[tokio::test]
async fn a_ticket_that_always_fails_does_not_stand_in_the_way_for_ever() {
    let desk = Desk::new().await;
    let mut sink = desk.sink();
    sink.open(0).await.unwrap();
    desk.server.plan((0..100).map(|_| Conduct::status(500)));
    let mut attempts = 0;
    let sent = loop {
        attempts += 1;
        let sent = sink.deliver(&batch(0, 1)).await.unwrap();
        if !matches!(sent.as_slice(), [Sent::Retry { .. }]) {
            break sent;
        }
    };
    assert!(matches!(sent.as_slice(), [Sent::Reject { .. }]), "{sent:?}");
    assert_eq!(attempts, 12);
    // Another one that fails alike means that the far end is to blame, whatever it says of itself.
    for _ in 0..20 {
        let sent = sink.deliver(&batch(1, 2)).await.unwrap();
        assert!(matches!(sent.as_slice(), [Sent::Retry { .. }]), "{sent:?}");
    }
    // Whether it exists is not known: the journal says so, for a person.
    assert_eq!(desk.journal.tickets("tickets")[0].state, TicketState::Unknown);
}

/// Row C1 of the fault matrix: what is asked of one ticket is obeyed for all.
#[tokio::test]
async fn after_a_429_nothing_more_of_the_batch_is_sent() {
    let desk = Desk::new().await;
    desk.server.plan([Conduct::Well, Conduct::with_header(429, "retry-after", "20")]);
    let mut sink = desk.sink();
    sink.open(0).await.unwrap();
    let sent = sink.deliver(&batch(0, 6)).await.unwrap();
    assert_eq!(sent[0], Sent::Delivered);
    for sent in &sent[1..] {
        assert!(
            matches!(sent, Sent::Retry { after: Some(after), .. } if *after == Duration::from_secs(20)),
            "{sent:?}"
        );
    }
    assert_eq!(desk.server.requests().len(), 2);
}

/// Row S4 of the security list.
#[tokio::test]
async fn a_redirect_is_not_followed_and_nothing_reaches_the_other_place() {
    let desk = Desk::new().await;
    let canary = Server::start().await;
    for status in [301, 302, 303, 307, 308] {
        desk.server.plan([Conduct::with_header(status, "location", &canary.url())]);
        let mut sink = desk.sink();
        sink.open(0).await.unwrap();
        let error = sink.deliver(&batch(0, 1)).await.unwrap_err();
        assert_eq!(error.failure, Failure::Hold, "{status}: {error}");
    }
    assert_eq!(canary.connections(), 0);
}

/// Rows S8, S27 and S29 of the security list.
#[tokio::test]
async fn neither_secrets_nor_the_path_of_the_url_appear_in_errors_or_results() {
    let mut desk = Desk::new().await;
    desk.http.total_timeout_ms = 300;
    desk.http.idle_timeout_ms = 200;
    let mut texts = Vec::new();
    let conducts = [401, 400, 404, 413, 429, 500, 302].map(Conduct::status).into_iter().chain([
        Conduct::LoseAnswer,
        Conduct::Reset,
        Conduct::Trickle,
        Conduct::CutBody,
    ]);
    for (offset, conduct) in conducts.enumerate() {
        desk.server.plan([conduct]);
        let mut sink = desk.sink();
        sink.open(0).await.unwrap();
        let offset = offset as u64;
        texts.push(format!("{sink:?} {:?}", sink.deliver(&batch(offset, offset + 1)).await));
    }
    desk.server.answer_head(Some(403));
    texts.push(format!("{:?}", desk.sink().probe().await));
    // A secret that cannot sign, then a port where nobody listens any more.
    let mut orphan = desk.sink();
    desk.keep("old", "whsec_canary");
    texts.push(format!("{:?}", orphan.deliver(&batch(50, 51)).await));
    desk.keep("old", OLD);
    let bodies = desk.server.requests();
    drop(std::mem::replace(&mut desk.server, Server::start().await));
    texts.push(format!("{:?}", orphan.deliver(&batch(51, 52)).await));
    assert!(texts.last().unwrap().contains("cannot connect"), "{texts:?}");
    for text in texts {
        for secret in ["canary", "Y2FuYXJ5", "\u{1b}"] {
            assert!(!text.contains(secret), "{secret:?} in {text}");
        }
    }
    for request in bodies {
        assert!(!String::from_utf8_lossy(&request.body).contains("canary"));
    }
}

#[tokio::test]
async fn a_probe_says_what_it_proved_and_passes_on_no_refusal() {
    let desk = Desk::new().await;
    let mut sink = desk.sink();
    let proof = sink.probe().await.unwrap();
    assert!(proof.contains("405") && proof.contains("secret"), "{proof}");
    for status in [401, 403, 410, 302, 500, 503] {
        desk.server.answer_head(Some(status));
        sink.probe().await.unwrap_err();
    }
    assert_eq!(desk.server.requests().len(), 0, "a probe writes nothing");
}

/// Row C3 of the fault matrix: a header that never ends costs no more than its deadline.
#[tokio::test]
async fn a_far_end_that_never_answers_is_left_at_the_deadline() {
    let desk = Desk::new().await;
    desk.server.plan([Conduct::LoseAnswer]);
    let mut sink = desk.sink();
    sink.open(0).await.unwrap();
    let limit = Duration::from_secs(5);
    let one = batch(0, 1);
    let sent = tokio::time::timeout(limit, sink.deliver(&one)).await.expect("ends by itself");
    assert!(matches!(sent.unwrap().as_slice(), [Sent::Retry { after: None, .. }]));
    assert_eq!(desk.journal.tickets("tickets")[0].state, TicketState::Unknown);
}

/// Row I8 of the fault matrix, on the real journal: what it was told is what the next life finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_journal_remembers_tickets_and_open_questions_through_a_restart() {
    let desk = Desk::new().await;
    let folder = desk.home.path().join("journal");
    let open = || {
        let config = JournalConfig { reserve_bytes: 0, ..JournalConfig::default() };
        Arc::new(Embedded::open(&folder, config, desk.clock.clone()).unwrap())
    };
    desk.server.plan([Conduct::Well, Conduct::LoseAnswer]);
    let journal = open();
    let mut sink = desk.sink_on(journal.clone());
    sink.open(0).await.unwrap();
    let sent = sink.deliver(&batch(0, 2)).await.unwrap();
    assert!(matches!(sent.as_slice(), [Sent::Delivered, Sent::Retry { .. }]), "{sent:?}");
    drop(sink);
    journal.close().await.unwrap();
    drop(journal);
    for life in 0..2 {
        let journal = open();
        let mut sink = desk.sink_on(journal.clone());
        sink.open(0).await.unwrap();
        assert_eq!(sink.deliver(&batch(0, 2)).await.unwrap(), vec![Sent::Delivered; 2]);
        drop(sink);
        journal.close().await.unwrap();
        let requests = desk.server.requests();
        assert_eq!(requests.len(), 3, "one resend in all, life {life}");
        assert_eq!(requests[1].headers["webhook-id"], requests[2].headers["webhook-id"]);
    }
    assert_eq!(desk.server.tickets().len(), 2);
}
