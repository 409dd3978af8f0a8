//! The real program as its user runs it: between a real Kafka and a real Kafka, killed, starved, lied to by the
//! disk, and judged by an oracle that shares no code with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "process/daemon.rs"]
mod daemon;
#[path = "process/disk.rs"]
mod disk;
#[path = "support/kafka.rs"]
mod kafka;
#[path = "process/rig.rs"]
mod rig;

use std::time::{Duration, Instant};

use rig::{Rig, random};

/// Fault matrix: A1, A2, D5. The seed is printed; `POSTERN_TEST_SEED=n` repeats the same delays and mails.
#[test]
fn killed_fifty_times_under_load_nothing_is_lost_and_nothing_comes_twice() {
    if kafka::left_out("kill -9") {
        return;
    }
    let broker = kafka::shared();
    let rig = Rig::new(broker, "kill");
    let feed = rig.feed(20_000);
    let mut random = random();
    let kills = std::env::var("POSTERN_TEST_KILLS").map_or(50, |text| text.parse().unwrap());
    for _ in 0..kills {
        let mut daemon = rig.start();
        std::thread::sleep(Duration::from_millis(random.below(500)));
        daemon.kill();
    }
    feed.join();
    rig.drain_and_judge();
}

/// Fault matrix: F1 (for one broker), F14.
#[test]
fn a_broker_that_is_killed_ten_times_delays_everything_and_loses_nothing() {
    if kafka::left_out("broker kill") {
        return;
    }
    let mut broker = kafka::Broker::start(&[]);
    let rig = Rig::new(&broker, "bounce");
    let feed = rig.feed(10_000);
    let mut daemon = rig.start();
    let mut random = random();
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(200 + random.below(800)));
        broker.kill();
        std::thread::sleep(Duration::from_millis(random.below(500)));
        broker.restart();
        assert!(daemon.is_running(), "{}", daemon.log());
    }
    feed.join();
    rig.wait_until_delivered(&daemon);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    rig.judge();
}

/// Fault matrix: A9.
#[test]
fn told_to_stop_under_load_it_drains_within_ten_seconds_and_ends_with_0() {
    if kafka::left_out("SIGTERM") {
        return;
    }
    let rig = Rig::new(kafka::shared(), "term");
    let feed = rig.feed(10_000);
    for _ in 0..5 {
        let mut daemon = rig.start();
        daemon.wait_for_metric("postern_sink_events_sent_total{sink=\"files\"}", |sent| sent > 0.0);
        let began = Instant::now();
        assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    feed.join();
    // A clean stop repeats nothing, not even at a sink that only says at least once.
    rig.drain_and_judge();
    rig.judge_file_sink();
}
