//! The embedded journal on a real directory.

use std::sync::Arc;

use super::tests::{event, unit};
use super::*;

fn config() -> JournalConfig {
    JournalConfig {
        reserve_bytes: 64 << 10,
        dedup_memory_bytes: 1 << 20,
        ..JournalConfig::default()
    }
}

#[track_caller]
fn open(directory: &std::path::Path) -> Embedded {
    Embedded::open(directory, config(), Arc::new(SystemClock::default())).unwrap()
}

#[tokio::test]
async fn units_become_durable_in_order_and_survive_a_close() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("journal");
    let journal = open(&directory);
    let mut watermark = journal.watermark();
    let mut receipts = Vec::new();
    for number in 0..50_u64 {
        receipts.push(journal.append(unit(number * 2..number * 2 + 2)).await.unwrap());
    }
    for (number, receipt) in receipts.into_iter().enumerate() {
        let first = number as u64 * 2;
        assert_eq!(receipt.await.unwrap(), Appended { first, next: first + 2 });
    }
    watermark.wait_for(|offset| *offset == 100).await.unwrap();
    assert_eq!(
        journal.register_reader("siem", ReaderStart::Beginning, OnFull::default()).unwrap(),
        0
    );
    let events = journal.read(0, 1 << 20).await.unwrap();
    assert_eq!(events.len(), 100);
    assert_eq!(*events[99].event, event(99));
    journal.ack("siem", 60);
    journal.close().await.unwrap();
    assert!(matches!(journal.append(unit(0..1)).await, Err(JournalError::Closed)));
    drop(journal);

    let journal = open(&directory);
    let start = journal.register_reader("siem", ReaderStart::Now, OnFull::default()).unwrap();
    assert_eq!(start, 60);
    assert_eq!(journal.read(60, 0).await.unwrap().len(), 1, "at least one, however large");
    assert_eq!(journal.read(60, 1 << 20).await.unwrap().len(), 40);
    assert_eq!(journal.admit(&[event(5).id, event(100).id]), [false, true]);
    journal.withdraw(&[event(100).id]);
    assert_eq!(journal.admit(&[event(100).id]), [true]);
    assert_eq!(journal.cursors("hubs/").len(), 1);
    assert!(journal.cursors("hub/").is_empty());
}

#[tokio::test]
async fn a_journal_that_is_dropped_without_a_close_loses_nothing_confirmed() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("journal");
    for life in 0..4_u64 {
        let journal = open(&directory);
        assert_eq!(journal.stat().next, life * 10);
        journal.append(unit(life * 10..life * 10 + 10)).await.unwrap().await.unwrap();
    }
    let journal = open(&directory);
    assert_eq!(journal.read(0, 1 << 20).await.unwrap().len(), 40);
}

/// Fault matrix: A12.
#[tokio::test]
async fn a_second_opener_is_refused_while_the_first_lives_and_not_after() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("journal");
    let first = open(&directory);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let refused = Embedded::open(&directory, config(), Arc::clone(&clock)).unwrap_err();
    assert!(matches!(refused, OpenError::InUse(_)));
    assert_eq!(refused.exit_code(), 3);
    first.close().await.unwrap();
    Embedded::open(&directory, config(), clock).unwrap();
}

/// Fault matrix: B12.
#[tokio::test]
async fn an_empty_or_foreign_directory_in_the_journals_place_is_refused_by_both_ids() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("journal");
    let id = open(&directory).stat().journal_id;
    let away = home.path().join("away");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let refuse = || Embedded::open(&directory, config(), Arc::clone(&clock)).unwrap_err();

    std::fs::rename(&directory, &away).unwrap();
    let text = refuse().to_string();
    assert!(text.contains(&id) && text.contains("none"), "{text}");
    assert!(!directory.exists(), "nothing is created where nothing should be");
    std::fs::create_dir(&directory).unwrap();
    assert_eq!(refuse().exit_code(), 5);

    std::fs::remove_dir_all(&directory).unwrap();
    let foreign_home = tempfile::tempdir().unwrap();
    let foreign = foreign_home.path().join("journal");
    let foreign_id = open(&foreign).stat().journal_id;
    std::fs::rename(&foreign, &directory).unwrap();
    let text = refuse().to_string();
    assert!(text.contains(&id) && text.contains(&foreign_id), "{text}");

    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::rename(&away, &directory).unwrap();
    assert_eq!(open(&directory).stat().journal_id, id);
}

/// Security: what is at rest is the owner's alone.
#[tokio::test]
async fn files_are_0600_in_a_directory_of_0700() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("journal");
    let journal = open(&directory);
    journal.append(unit(0..3)).await.unwrap().await.unwrap();
    journal.close().await.unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert_eq!(mode(&home.path().join("journal.id")), 0o600);
}

/// Fault matrix: I4. The whole way round: the quota fills, appends wait, a ticket passes them, the reader acks, and
/// everything goes on by itself.
#[tokio::test]
async fn at_the_quota_events_wait_tickets_pass_and_an_ack_lets_them_go_on() {
    let home = tempfile::tempdir().unwrap();
    let config = JournalConfig {
        segment_bytes: 16 << 10,
        quota_bytes: 256 << 10,
        reserve_bytes: 0,
        retention_days: 0,
        dedup_memory_bytes: 64 << 10,
        ..config()
    };
    let clock = Arc::new(SystemClock::default());
    let journal = Embedded::open(&home.path().join("journal"), config, clock).unwrap();
    journal.register_reader("tickets", ReaderStart::Beginning, OnFull::PauseSources).unwrap();
    let mut health = journal.health();
    let mut waiting = Vec::new();
    let mut number = 0;
    loop {
        // Once the queue is full, too, an append waits for the ack that comes only below.
        tokio::select! {
            biased;
            full = health.wait_for(|health| matches!(health, Health::Full(_))) => {
                full.unwrap();
                break;
            }
            receipt = journal.append(unit(number..number + 20)) => {
                waiting.push(receipt.unwrap());
                number += 20;
            }
        }
        tokio::task::yield_now().await;
    }
    let mut late = Box::pin(journal.append(unit(number..number + 1)));
    let soon = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(soon, &mut late).await.is_err(), "events wait");

    let ticket = crate::domain::TicketRecord {
        sink: "tickets".into(),
        key: "contoso/phish/1".into(),
        state: crate::domain::TicketState::Intent,
        attempts: 0,
        at: super::tests::NOW,
    };
    let ticket = Unit { tickets: vec![ticket], ..Unit::default() };
    journal.append(ticket).await.unwrap().await.unwrap();
    assert_eq!(journal.tickets("tickets").len(), 1, "durable while events wait");

    let start = std::time::Instant::now();
    let mut watermark = journal.watermark();
    let acking = async {
        loop {
            journal.ack("tickets", *watermark.borrow_and_update());
            let _ = tokio::time::timeout(soon, watermark.changed()).await;
            assert!(
                start.elapsed().as_secs() < 60,
                "{:?} {:?}",
                journal.stat(),
                journal.health().borrow()
            );
        }
    };
    let finishing = async {
        late.await.unwrap().await.unwrap();
        for receipt in waiting {
            receipt.await.unwrap();
        }
    };
    tokio::select! { () = finishing => {}, () = acking => {} }
    assert_eq!(journal.stat().next, number + 1, "nothing was lost on the way");
    journal.close().await.unwrap();
}
