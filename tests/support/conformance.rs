//! What every sink must do, written once. A sink's test brings a [`Bench`]: how to make the sink, what its far
//! end holds, and what that far end can do wrong. The far end's own ledger is the judge.

#![allow(dead_code, reason = "shared by several tests, each of which uses a part")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postern::domain::{
    Arrival, Decision, Event, EventId, Failure, Kind, Raw, Table, Tag, Ticks, Verdict,
};
use postern::journal::{Numbered, Offset};
use postern::pipeline::{Batch, Sent, Sink};

/// What a sink promises about copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// The far end holds each event once, through restarts and faults.
    ExactlyOnce,
    /// It may hold copies of what was not yet acked.
    AtLeastOnce,
}

/// What must come of a fault that strikes the second of three events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is to be sent again; not before this time, where the far end named one.
    Retry(Option<Duration>),
    /// The position is kept until a probe passes.
    Hold,
    /// A dead letter, after one attempt; its neighbours are delivered.
    Reject,
}

/// One thing that can go wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    /// In words, for the test's output; the bench knows it by this.
    pub name: String,
    /// What must come of it.
    pub expected: Expected,
}

impl Fault {
    pub fn new(name: impl Into<String>, expected: Expected) -> Self {
        Self { name: name.into(), expected }
    }
}

/// A sink and its far end.
#[async_trait]
pub trait Bench: Send {
    /// The sink as the next life of the process makes it: what it keeps in memory is gone, what it keeps
    /// elsewhere is not.
    async fn sink(&mut self) -> Box<dyn Sink>;
    /// Ids of the events that the far end holds, in its order, copies included.
    async fn ledger(&mut self) -> Vec<String>;
    /// What the sink promises.
    fn promise(&self) -> Promise;
    /// What its far end can do wrong.
    fn faults(&self) -> Vec<Fault>;
    /// Makes it go wrong at the second event from now.
    async fn arm(&mut self, fault: &Fault);
    /// Mends it.
    async fn disarm(&mut self);
    /// Requests that the far end has seen for an event, where it counts them.
    async fn attempts(&mut self, _id: &str) -> Option<usize> {
        None
    }
}

/// The event with number `offset`: a mail of its own.
pub fn event(offset: Offset) -> Event {
    let message = format!("7250ff78-0000-4000-8000-{offset:012}");
    let row = serde_json::json!({
        "NetworkMessageId": message,
        "Subject": format!("Rechnung {offset}"),
        "RecipientEmailAddress": "ada@contoso.example",
        "SenderFromAddress": "billing@fabrikam.example",
    })
    .to_string();
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(message.as_bytes()).as_bytes()[..16]);
    Event {
        id: EventId(id),
        kind: Kind::Email,
        table: Table::from_name("EmailEvents"),
        tenant: "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a".into(),
        source: "hubs".into(),
        occurred: Ticks::parse("2026-08-20T09:11:04Z"),
        observed: Ticks::parse("2026-08-20T09:13:00Z"),
        ingested: Ticks::parse("2026-08-20T09:14:00Z"),
        arrival: Some(Arrival::Live),
        key: Some(message.into()),
        recipient: Some("ada@contoso.example".into()),
        decision: Decision {
            tags: [Tag::AllowedHcPhish, Tag::OverrideAllow].into_iter().collect(),
            verdict: Some(Verdict::HcPhish),
            ..Decision::default()
        },
        issues: Vec::new(),
        row: (0, u32::try_from(row.len()).unwrap()),
        raw: Raw::new(row.as_bytes()),
    }
}

/// Events `from..next` as a batch.
pub fn batch(from: Offset, next: Offset) -> Batch {
    let events =
        (from..next).map(|offset| Numbered { offset, event: Arc::new(event(offset)) }).collect();
    Batch { from, next, events }
}

fn ids(from: Offset, next: Offset) -> Vec<String> {
    (from..next).map(|offset| event(offset).id.to_string()).collect()
}

/// Delivers `from..next` as the runner does, but without its waits, from the position that `open` returns.
/// Returns the ids that were rejected.
pub async fn drive(sink: &mut dyn Sink, from: Offset, next: Offset) -> Vec<String> {
    let mut position = sink.open(from).await.expect("opens");
    let mut rejected = Vec::new();
    let mut open = batch(position, next);
    for _ in 0..200 {
        match sink.deliver(&open).await {
            Ok(results) => {
                assert_eq!(results.len(), open.events.len(), "one answer for each event");
                let mut again = Vec::new();
                for (numbered, result) in open.events.iter().zip(results) {
                    match result {
                        Sent::Delivered => {}
                        Sent::Retry { .. } => again.push(numbered.clone()),
                        Sent::Reject { .. } => rejected.push(numbered.event.id.to_string()),
                    }
                }
                if again.is_empty() {
                    return rejected;
                }
                open.events = again;
            }
            Err(error) => {
                assert_ne!(error.failure, Failure::Reject, "a batch is never rejected: {error}");
                assert_ne!(error.failure, Failure::Fatal, "{error}");
                position = sink.open(position).await.expect("opens again");
                open = batch(position, next);
            }
        }
    }
    panic!("{from}..{next} was not delivered in 200 attempts");
}

/// Proves that a sink keeps its port's contract. Panics with what it did instead.
pub async fn conforms(bench: &mut dyn Bench) {
    let mut position = delivers_in_order(bench).await;
    position = restarts(bench, position).await;
    for fault in bench.faults() {
        position = suffers(bench, &fault, position).await;
    }
    let ledger = bench.ledger().await;
    check_copies(bench.promise(), &ledger, "at the end");
}

fn check_copies(promise: Promise, ledger: &[String], when: &str) {
    if promise == Promise::ExactlyOnce {
        let mut once = ledger.to_vec();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), ledger.len(), "copies at the far end {when}");
    }
}

async fn delivers_in_order(bench: &mut dyn Bench) -> Offset {
    let mut sink = bench.sink().await;
    sink.probe().await.expect("a healthy far end passes the probe");
    assert_eq!(sink.open(0).await.expect("opens"), 0);
    assert_eq!(sink.deliver(&batch(0, 0)).await.expect("takes an empty batch"), []);
    let sent = sink.deliver(&batch(0, 7)).await.expect("delivers");
    assert_eq!(sent, vec![Sent::Delivered; 7]);
    // All filtered out: the position moves, the far end gets nothing.
    let filtered = Batch { from: 7, next: 9, events: Vec::new() };
    assert_eq!(sink.deliver(&filtered).await.expect("takes a filtered batch"), []);
    let sent = sink.deliver(&batch(9, 10)).await.expect("delivers");
    assert_eq!(sent, [Sent::Delivered]);
    sink.close().await.expect("closes");
    assert_eq!(bench.ledger().await, [ids(0, 7), ids(9, 10)].concat());
    10
}

/// The ack of the last batch is lost with the process: what `open` returns decides.
async fn restarts(bench: &mut dyn Bench, from: Offset) -> Offset {
    let mut sink = bench.sink().await;
    drive(&mut *sink, from, from + 5).await;
    drop(sink);
    let mut sink = bench.sink().await;
    drive(&mut *sink, from, from + 8).await;
    drop(sink);
    let ledger = bench.ledger().await;
    for id in ids(from, from + 8) {
        assert!(ledger.contains(&id), "lost in a restart");
    }
    check_copies(bench.promise(), &ledger, "after a restart");
    from + 8
}

async fn suffers(bench: &mut dyn Bench, fault: &Fault, from: Offset) -> Offset {
    let name = &fault.name;
    println!("fault: {name}");
    let mut sink = bench.sink().await;
    assert_eq!(sink.open(from).await.expect("opens"), from, "{name}");
    bench.arm(fault).await;
    let answer = sink.deliver(&batch(from, from + 3)).await;
    let struck = event(from + 1).id.to_string();
    let neighbours = [event(from).id.to_string(), event(from + 2).id.to_string()];
    match (fault.expected, &answer) {
        (Expected::Retry(after), Ok(results)) => {
            let Some(Sent::Retry { after: asked, detail }) = results.get(1) else {
                panic!("{name}: expected a retry, got {results:?}");
            };
            assert_eq!(*asked, after, "{name}: {detail}");
        }
        (Expected::Retry(after), Err(error)) => {
            assert_eq!(error.failure, Failure::Retry(after), "{name}: {error}");
        }
        (Expected::Hold, Err(error)) => assert_eq!(error.failure, Failure::Hold, "{name}: {error}"),
        (Expected::Reject, Ok(results)) => {
            let [Sent::Delivered, Sent::Reject { .. }, Sent::Delivered] = results.as_slice() else {
                panic!("{name}: expected the second alone to be rejected, got {results:?}");
            };
        }
        (expected, answer) => panic!("{name}: expected {expected:?}, got {answer:?}"),
    }
    bench.disarm().await;
    if fault.expected == Expected::Reject {
        let ledger = bench.ledger().await;
        assert!(!ledger.contains(&struck), "{name}: a rejected event is at the far end");
        assert!(neighbours.iter().all(|id| ledger.contains(id)), "{name}: a neighbour was harmed");
        if let Some(attempts) = bench.attempts(&struck).await {
            assert_eq!(attempts, 1, "{name}: a refusal costs one request");
        }
        return from + 3;
    }
    if fault.expected == Expected::Hold {
        sink.probe().await.expect("mended, so the probe passes");
    }
    // The same life goes on with what is unsettled; then a new life, whose journal knows nothing of that.
    assert_eq!(drive(&mut *sink, from, from + 3).await, [""; 0], "{name}");
    let mut sink = bench.sink().await;
    drive(&mut *sink, from, from + 4).await;
    let ledger = bench.ledger().await;
    for id in ids(from, from + 4) {
        assert!(ledger.contains(&id), "{name}: lost");
    }
    check_copies(bench.promise(), &ledger, name);
    from + 4
}
