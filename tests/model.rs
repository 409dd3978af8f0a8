//! Normalizing and tagging against the simulated tenant's model, without broker or journal: the model knows
//! what its filter found and which setting decided, and says so in words of its own; the columns must have
//! told Postern the same. The pipeline around this is `demo.rs`'s and `process.rs`'s business.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may assume"
)]

use std::collections::HashSet;
use std::sync::Arc;

use postern::domain::{Chunk, Position, Raw, Shape, Ticks};
use postern::normalize::{Context, Normalized, SIZE_CAP, each};
use postern::simulator::envelope::{Hubs, Message, Packer};
use postern::simulator::tenant::{Settings, Tenant};
use postern::simulator::truth::{Truth, Verdict};
use postern::tagging;

/// A seed to look into: `POSTERN_SEED=7 cargo test --test model`.
fn seeds() -> Vec<u64> {
    match std::env::var("POSTERN_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=8).collect(),
    }
}

fn messages(seed: u64, mails: i64) -> Vec<Message> {
    let settings = Settings { seed, mails_per_second: 100.0, ..Settings::default() };
    let hubs = Hubs::PerTable { prefix: String::new() };
    let mut packer = Packer::new(hubs, 3, Arc::clone(&settings.tenant_id), seed, 60);
    let mut tenant = Tenant::new(settings);
    let mut messages = Vec::new();
    let mut take = |record| packer.add(&record, &mut messages);
    tenant.advance(Ticks(0).plus_seconds(mails / 100), &mut take);
    tenant.finish(&mut take);
    packer.flush(Ticks(i64::MAX), &mut messages);
    messages
}

/// What Postern makes of the messages, judged by the truth; and how many dead letters there were.
fn judge(messages: &[Message], truth: &Truth) -> (Verdict, u64) {
    let context = Context {
        tenant: "".into(),
        source: "hubs".into(),
        ingested: Some(Ticks(0)),
        normal_lag_seconds: 1800,
        backfill: false,
        size_cap: SIZE_CAP,
    };
    let mut comparison = truth.compare();
    let (mut events_seen, mut mails_seen) = (HashSet::new(), HashSet::new());
    let mut dead_letters = HashSet::new();
    for (offset, message) in messages.iter().enumerate() {
        let chunk = Chunk {
            raw: Raw::new(&message.body),
            shape: Shape::Streaming,
            position: Position::Kafka {
                topic: Arc::clone(&message.hub),
                partition: message.partition,
                offset: i64::try_from(offset).unwrap(),
            },
            observed: None,
            backfill: false,
        };
        each(&chunk, &context, &mut |normalized| match normalized {
            Normalized::DeadLetter(letter) => {
                dead_letters.insert(letter.id);
            }
            Normalized::Event { mut event, row, mail, first_row_decides } => {
                if !events_seen.insert(event.id) {
                    return;
                }
                assert!(
                    event.issues.is_empty() || event.table.label() != "EmailEvents",
                    "{event:?}"
                );
                event.decision = tagging::decide(&event, row);
                let is_first = mail.is_none_or(|mail| mails_seen.insert(mail));
                if !is_first && first_row_decides {
                    tagging::as_later_row(&mut event);
                }
                let tags: Vec<&str> = event.decision.tags.words().collect();
                let row = std::str::from_utf8(event.row_bytes()).unwrap();
                comparison.arrived(event.table.name(), row, &tags);
            }
        });
    }
    (comparison.verdict(), dead_letters.len() as u64)
}

#[test]
fn postern_says_of_every_row_what_the_tenants_model_knows() {
    let directory = tempfile::tempdir().unwrap();
    for seed in seeds() {
        let messages = messages(seed, 1200);
        let mut truth = Truth::create(&directory.path().join("truth.ndjson")).unwrap();
        messages.iter().for_each(|message| truth.sent(message).unwrap());
        truth.finish().unwrap();
        let totals = truth.totals();
        let (verdict, dead_letters) = judge(&messages, &truth);
        let report = format!("seed {seed}: {totals:?}\n{verdict:#?}");
        assert!(verdict.is_right(), "{report}");
        assert_eq!(verdict.allowed, totals.allowed, "{report}");
        assert_eq!(dead_letters, totals.poison, "{report}");
        assert!(totals.allowed > 0 && totals.poison > 0, "{report}");
    }
}
