//! `postern check --send-test`: one event that says that it is a test, through every sink, so that a person
//! can see it arrive. Not a probe: it leaves something behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::build::{self, Surroundings};
use super::check::List;
use crate::config::{Config, SinkConfig, SinkKind};
use crate::domain::{Chunk, Event, Position, Raw, Shape, Table};
use crate::journal::Numbered;
use crate::normalize::{self, Context, Normalized};
use crate::pipeline::{AdapterError, Batch, Sent, chain};
use crate::tagging;

/// What one delivery may take.
const DELIVERY: Duration = Duration::from_secs(60);

/// Sends it, to one sink after the other.
pub(super) async fn run(config: &Config, surroundings: &Surroundings, list: &mut List) {
    let Some(event) = event(config, surroundings) else {
        list.bad("test event", "it did not become an event", "this is a defect in Postern");
        return;
    };
    for sink in &config.sinks {
        let what = format!("test event to sink {}", sink.name);
        if let Some(why) = unsuited(sink) {
            list.good(what, format!("not sent: {why}"));
            continue;
        }
        match timeout(DELIVERY, send(sink, surroundings, &event)).await {
            Ok(Ok(Some(Sent::Delivered))) => list.good(what, format!("delivered, id {}", event.id)),
            Ok(Ok(Some(Sent::Retry { detail, .. }))) => {
                list.bad(what, format!("not taken now: {detail}"), "try again later");
            }
            Ok(Ok(Some(Sent::Reject { detail, .. }))) => {
                list.bad(what, format!("refused: {detail}"), "see what the far end expects");
            }
            Ok(Ok(None)) => {
                list.bad(what, "the sink gave no answer", "this is a defect in Postern")
            }
            Ok(Err(error)) => list.bad(what, chain(&error), "see the probe of this sink above"),
            Err(_) => list.bad(
                what,
                format!("no answer within {} s", DELIVERY.as_secs()),
                "try again later",
            ),
        }
    }
}

/// Why this sink gets none: it keeps its own position beside what it delivers, so that each event is there
/// exactly once, and a test has no position.
const fn unsuited(sink: &SinkConfig) -> Option<&'static str> {
    match &sink.kind {
        SinkKind::File(..) | SinkKind::Kafka(..) => {
            Some("it holds each event of the journal exactly once and in order, and a test is none")
        }
        SinkKind::Stdout(_) | SinkKind::Ticket(_) => None,
    }
}

async fn send(
    config: &SinkConfig,
    surroundings: &Surroundings,
    event: &Arc<Event>,
) -> Result<Option<Sent>, AdapterError> {
    let mut sink = build::sink(config, surroundings)?;
    // The batch ends where it begins: whatever position the sink keeps stays what it was.
    let position = sink.open(0).await?;
    let events = vec![Numbered { offset: position, event: Arc::clone(event) }];
    let sent = sink.deliver(&Batch { from: position, next: position, events }).await;
    let closed = sink.close().await;
    let sent = sent?.into_iter().next();
    closed?;
    Ok(sent)
}

/// A mail to nobody, delivered clean: it looks like the real thing and alarms no rule but those that take all.
fn event(config: &Config, surroundings: &Surroundings) -> Option<Arc<Event>> {
    let now = surroundings.clock.now();
    let row = serde_json::json!({
        "Timestamp": now.to_string(),
        "NetworkMessageId": format!("postern-check-{}", now.0),
        "InternetMessageId": format!("<postern-check-{}@contoso.example>", now.0),
        "RecipientEmailAddress": "nobody@contoso.example",
        "SenderFromAddress": "postern@contoso.example",
        "Subject": "Test event of postern check: nothing happened",
        "EmailDirection": "Inbound",
        "DeliveryAction": "Delivered",
        "DeliveryLocation": "Inbox/folder",
        "ReportId": "postern-check",
    });
    let chunk = Chunk {
        shape: Shape::Row(Table::from_name("EmailEvents")),
        raw: Raw::new(row.to_string().as_bytes()),
        position: Position::None,
        observed: None,
        backfill: false,
    };
    let context = Context {
        tenant: config
            .tenants
            .values()
            .next()
            .map_or_else(|| "".into(), |tenant| Arc::clone(&tenant.id)),
        source: "check".into(),
        ingested: Some(now),
        normal_lag_seconds: i64::MAX,
        backfill: false,
        size_cap: normalize::SIZE_CAP,
    };
    let mut made = None;
    normalize::each(&chunk, &context, &mut |normalized| {
        if let Normalized::Event { mut event, row, .. } = normalized {
            event.decision = tagging::decide(&event, row);
            made = Some(Arc::new(event));
        }
    });
    made
}
