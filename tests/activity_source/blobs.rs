//! Blobs that fail, are gone, are huge, are no JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use postern::domain::{Failure, GapCause};

use crate::activity_server::{ActivityServer, Asked, Fault};
use crate::rig::{Reading, is_blob, is_content, publish_many, refs};

fn on_blob(id: &'static str, fault: Fault) -> impl FnMut(&Asked) -> Option<Fault> + Send {
    move |asked| (*asked == Asked::Blob(id.to_owned())).then(|| fault.clone())
}

/// Loss bug of the field: a blob over one MiB ends the scan, and the bookmark jumps behind it and all later ones
/// (Wazuh's office365 module). Here even one that is over our cap costs only itself, and says so.
#[tokio::test]
async fn a_blob_larger_than_is_taken_becomes_a_gap_and_its_neighbours_are_read() {
    let server = ActivityServer::start().await;
    let mut ids = publish_many(&server, "b", 9, 60);
    let mut large = server.blob("large", 200, &[]);
    large.body = crate::activity_server::body(&vec!["x"; 8000]);
    assert!(large.body.len() > 1 << 20 && large.body.len() < 4 << 20);
    large.body =
        serde_json::to_vec(&serde_json::json!([{"Id": "l", "pad": "x".repeat(2 << 20)}])).unwrap();
    server.put(large);
    let mut giant = server.blob("giant", 250, &[]);
    giant.body =
        serde_json::to_vec(&serde_json::json!([{"Id": "g", "pad": "x".repeat(9 << 20)}])).unwrap();
    let created = giant.created.to_string();
    server.put(giant);
    let mut reading = Reading::of(&server);
    reading.run(900).await;
    ids.push("large".to_owned());
    reading.has(&refs(&ids));
    let [gap] = &reading.ledger.gaps[..] else { panic!("{:?}", reading.ledger.gaps) };
    assert_eq!((gap.cause, &*gap.what), (GapCause::TooLarge, "Audit.General blob giant"));
    assert_eq!(*gap.from, *created);
    assert_eq!(server.count(|asked| *asked == Asked::Blob("giant".to_owned())), 3);
    // It is settled: neither asked for nor told again.
    reading.crash();
    reading.run(900).await;
    assert_eq!(reading.ledger.gaps.len(), 1);
    assert_eq!(server.count(|asked| *asked == Asked::Blob("giant".to_owned())), 3);
}

/// Loss bugs of the field: a blob that answers anything but 200 yields nothing and moves the cursor (Elastic's o365
/// integration); one failed blob skips its window (Bindplane, Wazuh).
#[tokio::test]
async fn a_blob_that_fails_is_tried_again_by_itself_and_survives_restarts() {
    for fault in [
        Fault::code(500, "AF50000"),
        Fault::code(404, ""),
        Fault::Body(b"<html>busy</html>".to_vec()),
        Fault::Body(Vec::new()),
        Fault::Half,
        Fault::Cut,
        Fault::Reset,
    ] {
        let server = ActivityServer::start().await;
        let mut ids = publish_many(&server, "b", 9, 60);
        server.publish("bad", 300, &["r-bad"]);
        server.decide(on_blob("bad", fault.clone()));
        let mut reading = Reading::of(&server);
        reading.run(6 * 3600).await;
        reading.has_just(&refs(&ids));
        assert!(reading.mark().as_str() > "2026-08-20T11:58", "the others go on");
        let tries = server.count(|asked| *asked == Asked::Blob("bad".to_owned()));
        assert!((20..2000).contains(&tries), "{tries} tries, {fault:?}");
        // Long after it ceased to be listed, and in another life, it is still asked for.
        reading.crash();
        server.behave();
        reading.run(600).await;
        ids.push("bad".to_owned());
        reading.has_just(&refs(&ids));
    }
}

/// Fault matrix: E4. Deleted or expired between the listing and the fetch.
#[tokio::test]
async fn content_that_is_gone_is_a_gap_that_names_it() {
    for (code, cause) in [
        ("AF20050", GapCause::RemoteGone),
        ("AF20051", GapCause::RetentionPassed),
        ("AF20052", GapCause::RemoteGone),
    ] {
        let server = ActivityServer::start().await;
        let ids = publish_many(&server, "b", 6, 60);
        let gone = server.blob("gone", 100, &["r"]);
        let (created, expires) = (gone.created.to_string(), gone.expires.to_string());
        server.put(gone);
        server.decide(on_blob("gone", Fault::code(400, code)));
        let mut reading = Reading::of(&server);
        reading.run(900).await;
        reading.crash();
        reading.run(900).await;
        reading.has(&refs(&ids));
        let [gap] = &reading.ledger.gaps[..] else { panic!("{:?}", reading.ledger.gaps) };
        assert_eq!((gap.cause, &*gap.what), (cause, "Audit.General blob gone"));
        assert_eq!((&*gap.from, &*gap.to), (&*created, &*expires));
        assert_eq!(server.count(|asked| *asked == Asked::Blob("gone".to_owned())), 1);
    }
}

#[tokio::test]
async fn a_blob_that_fails_until_it_expires_becomes_a_gap() {
    let server = ActivityServer::start().await;
    let mut bad = server.blob("bad", 100, &["r"]);
    bad.expires = server.now().plus_seconds(5 * 3600);
    server.put(bad);
    server.decide(on_blob("bad", Fault::code(503, "")));
    let mut reading = Reading::of(&server);
    reading.run(4 * 3600).await;
    assert_eq!(reading.ledger.gaps, []);
    reading.run(2 * 3600).await;
    let [gap] = &reading.ledger.gaps[..] else { panic!("{:?}", reading.ledger.gaps) };
    assert_eq!(gap.cause, GapCause::RetentionPassed);
}

/// Fault matrix: C14, for the listing: nothing counts as no content.
#[tokio::test]
async fn a_listing_that_is_no_list_is_a_failure() {
    for fault in [
        Fault::Body(b"<html>busy</html>".to_vec()),
        Fault::Body(Vec::new()),
        Fault::Body(b"[{\"contentId\":".to_vec()),
        Fault::Body(b"{\"value\":[]}".to_vec()),
        Fault::Body(b"null".to_vec()),
        Fault::Half,
        Fault::Cut,
        Fault::Reset,
    ] {
        let server = ActivityServer::start().await;
        let ids = publish_many(&server, "b", 3, 60);
        let wrong = fault.clone();
        server.decide(move |asked| is_content(asked).then(|| wrong.clone()));
        let mut reading = Reading::of(&server);
        for _ in 0..10 {
            reading.poll().await;
        }
        assert!(reading.mark().starts_with("2026-08-19T12:00:00"), "{fault:?}");
        assert!(reading.errors.len() > 5);
        server.behave();
        reading.run(600).await;
        reading.has_just(&refs(&ids));
    }
}

/// A blob that is complete but not quite JSON is not waited for until it expires: what can be read of it is.
#[tokio::test]
async fn a_blob_with_one_poisoned_record_is_handed_over_after_a_few_tries() {
    let server = ActivityServer::start().await;
    let mut odd = server.blob("odd", 100, &[]);
    odd.body = b"[{\"Id\":\"1\"},{\"Id\":\"2\x01\"}]".to_vec();
    server.put(odd);
    server.publish("b", 60, &["r"]);
    let mut reading = Reading::of(&server);
    reading.run(900).await;
    reading.has_just(&["odd", "b"]);
    assert_eq!(reading.ledger.odd, 1);
}

#[tokio::test]
async fn pages_keep_to_their_size_and_each_cursor_covers_just_its_page() {
    let server = ActivityServer::start().await;
    server.page(50);
    let ids: Vec<String> = (0..30).map(|number| format!("b-{number}")).collect();
    for id in &ids {
        let mut blob = server.blob(id, 300, &[]);
        blob.body =
            serde_json::to_vec(&serde_json::json!([{"Id": id, "pad": "x".repeat(3000)}])).unwrap();
        server.put(blob);
    }
    let mut reading = Reading::of(&server);
    reading.config.page_bytes = 10_000;
    reading.crash();
    let mut before = 0;
    // A crash after every page: only what was not durable is fetched again.
    while reading.ledger.blobs.len() < 30 {
        reading.poll().await;
        if reading.ledger.blobs.len() > before {
            before = reading.ledger.blobs.len();
            reading.crash();
        }
    }
    reading.run(300).await;
    reading.has_just(&refs(&ids));
    assert!(reading.ledger.largest_page <= 10_000, "{}", reading.ledger.largest_page);
    assert!(server.count(is_blob) <= 60, "{} fetched for 30", server.count(is_blob));
}

/// A page that was on its way when the process died is fetched again, and nothing else.
#[tokio::test]
async fn what_was_not_durable_at_a_crash_is_fetched_again() {
    let server = ActivityServer::start().await;
    let ids = publish_many(&server, "b", 9, 60);
    let mut reading = Reading::of(&server);
    for _ in 0..5 {
        reading.poll_and_die().await;
    }
    reading.run(300).await;
    reading.has_just(&refs(&ids));
}

#[tokio::test]
async fn many_blobs_that_fail_stop_the_feed_and_lose_nothing() {
    let server = ActivityServer::start().await;
    server.page(500);
    let ids = publish_many(&server, "b", 600, 0);
    server.decide(|asked| is_blob(asked).then(|| Fault::code(500, "")));
    let mut reading = Reading::of(&server);
    reading.run(4 * 3600).await;
    assert_eq!(reading.ledger.blobs, BTreeMap::new());
    let asked = server.count(is_blob);
    assert!(asked < 40 * 240, "{asked} requests in four hours");
    reading.crash();
    server.behave();
    reading.run(3600).await;
    reading.has_just(&refs(&ids));
}

#[tokio::test]
async fn a_cursor_that_cannot_be_read_holds_the_source() {
    let server = ActivityServer::start().await;
    let mut reading = Reading::of(&server);
    reading.cursors.insert("audit/Audit.General".into(), "{\"mark\":7}".into());
    reading.poll().await;
    assert_eq!(reading.errors[0].failure, Failure::Hold);
    assert!(reading.last_error().contains("audit/Audit.General"), "{}", reading.last_error());
    server.advance(Duration::from_secs(1));
    assert_eq!(server.log(), []);
}
