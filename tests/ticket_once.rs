//! Never two tickets for one key: thousands of mails through a ticket system that loses answers, and a process
//! that dies at every place around the request. Each run prints its seed; `POSTERN_SEED` repeats it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/memory_journal.rs"]
mod memory_journal;
#[path = "support/ticket_system.rs"]
mod ticket_system;

use std::collections::BTreeSet;
use std::sync::Arc;

use postern::journal::{Journal, Offset};
use postern::ticket::{TicketSink, external_key};

use conformance::{drive, event};
use memory_journal::{Death, MemoryJournal};
use ticket_system::{Ability, DeathAt, Random, SteppingClock, TicketSystem};

/// Mails in a run; one ticket each.
const MAILS: Offset = 2000;

/// Mails in a batch.
const BATCH: Offset = 20;

fn seed() -> u64 {
    let seed = std::env::var("POSTERN_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos())
    });
    println!("POSTERN_SEED={seed}");
    seed
}

fn key_of(offset: Offset) -> String {
    let event = event(offset);
    external_key(&event.tenant, "allowed_mail", event.key.as_deref().unwrap()).into()
}

struct Run {
    system: TicketSystem,
    /// Ids that became dead letters.
    rejected: BTreeSet<String>,
    deaths: u32,
}

/// Brings all mails through, dying now and then; every batch is repeated until a life gets through it.
async fn run(ability: Ability, deadly: bool, seed: u64) -> Run {
    let clock = Arc::new(SteppingClock::default());
    let system = TicketSystem::new(ability, seed, Arc::clone(&clock));
    let mut random = Random(seed ^ 0xdead);
    let mut journal = MemoryJournal::new();
    let mut run = Run { system, rejected: BTreeSet::new(), deaths: 0 };
    let mut sink = None;
    let mut from = 0;
    while from < MAILS {
        if deadly && random.chance(40) {
            let count = u32::try_from(1 + random.next() % BATCH).unwrap();
            match random.next() % 4 {
                0 => journal.die(Death::BeforeIntent(count)),
                1 => run.system.die(Some(DeathAt::BeforePost(count))),
                2 => run.system.die(Some(DeathAt::AfterPost(count))),
                _ => journal.die(Death::AfterResult(count)),
            }
        }
        let alive = sink.get_or_insert_with(|| {
            let far_end = Box::new(run.system.clone());
            TicketSink::on("tickets", far_end, journal.clone(), clock.clone())
        });
        let ended = tokio::select! {
            biased;
            () = journal.died.notified() => None,
            () = run.system.died.notified() => None,
            rejected = drive(alive, from, from + BATCH) => Some(rejected),
        };
        match ended {
            Some(rejected) => {
                run.rejected.extend(rejected);
                from += BATCH;
            }
            None => {
                // The next life has the journal's durable part and nothing else, and its ack was lost.
                run.deaths += 1;
                sink = None;
                run.system.die(None);
                journal = journal.after_death();
            }
        }
        // A planned death that found too few occasions does not wait for the next batch.
        journal.die(Death::Never);
        run.system.die(None);
    }
    assert_eq!(journal.tickets("tickets").len() as u64, MAILS);
    run
}

fn assert_exactly_one(run: &Run) {
    let counts = run.system.counts();
    for offset in 0..MAILS {
        let key = key_of(offset);
        assert_eq!(counts.get(&key), Some(&1), "mail {offset}, ticket {key}");
    }
    assert!(run.rejected.is_empty(), "{} dead letters", run.rejected.len());
}

/// Row I8 of the fault matrix.
#[tokio::test]
async fn with_an_idempotency_key_lost_answers_make_neither_two_tickets_nor_none() {
    let run = run(Ability::Idempotent, false, seed()).await;
    assert!(run.system.creates() > MAILS, "answers were lost");
    assert_exactly_one(&run);
}

/// Rows I8 and I9 of the fault matrix.
#[tokio::test]
async fn with_a_lagging_search_lost_answers_make_neither_two_tickets_nor_none() {
    assert_exactly_one(&run(Ability::Searchable, false, seed()).await);
}

/// Row I10 of the fault matrix.
#[tokio::test]
async fn with_an_idempotency_key_death_around_the_request_makes_neither_two_tickets_nor_none() {
    let run = run(Ability::Idempotent, true, seed()).await;
    assert!(run.deaths > 20, "{} deaths", run.deaths);
    assert_exactly_one(&run);
}

/// Row I10 of the fault matrix.
#[tokio::test]
async fn with_a_lagging_search_death_around_the_request_makes_neither_two_tickets_nor_none() {
    let run = run(Ability::Searchable, true, seed()).await;
    assert!(run.deaths > 20, "{} deaths", run.deaths);
    assert_exactly_one(&run);
}

/// Row I14 of the fault matrix.
#[tokio::test]
async fn without_key_or_search_there_is_never_a_second_ticket_and_what_is_not_known_waits_for_a_person()
 {
    let run = run(Ability::Neither, true, seed()).await;
    assert!(run.deaths > 20, "{} deaths", run.deaths);
    let counts = run.system.counts();
    for offset in 0..MAILS {
        let count = counts.get(&key_of(offset)).copied().unwrap_or(0);
        assert!(count <= 1, "mail {offset} has {count} tickets");
        let listed = run.rejected.contains(&event(offset).id.to_string());
        assert!(count == 1 || listed, "mail {offset} has no ticket and nobody was told");
    }
    assert!(!run.rejected.is_empty(), "ambiguous cases were expected");
    assert!(run.rejected.len() < MAILS as usize / 4, "only the ambiguous ones are left to people");
}
