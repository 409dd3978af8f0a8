//! Windows, pages, links and the mark.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use postern::domain::{Failure, GapCause};
use tokio::net::TcpListener;

use crate::activity_server::{ActivityServer, Asked, BEGIN, Fault};
use crate::rig::{Reading, is_blob, is_content, later, publish_many, refs};

/// Loss bug of the field: the link to the next page is not followed (Bindplane's m365receiver), or found by a
/// pattern that real tokens do not fit (Matano).
#[tokio::test]
async fn every_page_is_read_whatever_the_links_header_is_called_and_its_token_holds() {
    for header in ["NextPageUri", "nextpageuri", "NextPageUrl", "NEXTPAGEURL"] {
        let server = ActivityServer::start().await;
        server.next_header(header);
        let ids = publish_many(&server, "b", 23, 60);
        let mut reading = Reading::of(&server);
        reading.settle().await;
        reading.has_just(&refs(&ids));
    }
}

#[tokio::test]
async fn what_was_read_is_not_fetched_again_though_it_is_listed_again() {
    let server = ActivityServer::start().await;
    let ids = publish_many(&server, "b", 12, 60);
    let mut reading = Reading::of(&server);
    reading.run(3600).await;
    reading.crash();
    reading.run(3600).await;
    reading.has_just(&refs(&ids));
    assert_eq!(server.count(is_blob), 12);
    assert!(server.count(is_content) > 50);
}

/// Fault matrix: C8 (and E3's sense): a blob becomes visible late inside a window that was read.
#[tokio::test]
async fn a_blob_that_appears_late_inside_the_overlap_is_fetched() {
    let server = ActivityServer::start().await;
    publish_many(&server, "early", 3, 60);
    for minutes in [1, 30, 60, 90, 118] {
        server.put(later(&server, &format!("late-{minutes}"), 0, minutes * 60));
    }
    let mut reading = Reading::of(&server);
    for _ in 0..5 {
        reading.run(1800).await;
        // New ones push the mark on; the process dies now and then.
        server.publish(&format!("new-{}", server.now()), 0, &["n"]);
        reading.crash();
    }
    reading.run(600).await;
    reading.has(&["late-1", "late-30", "late-60", "late-90", "late-118", "early-0", "early-2"]);
    assert_eq!(reading.ledger.blobs.len(), 13);
}

/// Fault matrix: C10: one blob twice in a listing, on two pages, and again later; one record in several blobs.
#[tokio::test]
async fn a_blob_that_is_listed_several_times_is_fetched_once() {
    let server = ActivityServer::start().await;
    for number in 0..8 {
        let mut blob = server.blob(&format!("b-{number}"), 100, &["shared", &format!("{number}")]);
        blob.times = 1 + number % 3;
        server.put(blob);
    }
    server.page(3);
    let mut reading = Reading::of(&server);
    reading.run(1000).await;
    reading.has_just(&["b-0", "b-1", "b-2", "b-3", "b-4", "b-5", "b-6", "b-7"]);
    assert_eq!(reading.ledger.records["shared"], 8, "the journal drops these, the source does not");
}

/// Loss bug of the field: records older than the newest one seen are taken for known. Event times decide nothing.
#[tokio::test]
async fn an_old_record_in_a_new_blob_is_handed_over() {
    let server = ActivityServer::start().await;
    server.publish("first", 60, &["r-1"]);
    let mut reading = Reading::of(&server);
    reading.settle().await;
    // Its records say 2020.
    server.publish("second", 0, &["r-2"]);
    reading.run(300).await;
    reading.has_just(&["first", "second"]);
}

/// Fault matrix: C5. Earlier pages stay, nothing behind the failed one counts, and nothing is lost in the end.
#[tokio::test]
async fn a_page_that_fails_for_good_holds_the_mark_and_not_the_pages_before_it() {
    let server = ActivityServer::start().await;
    let ids = publish_many(&server, "b", 20, 600);
    let mut reading = Reading::of(&server);
    let failing = |asked: &Asked| {
        let third = matches!(asked, Asked::Content { page: 2.., .. });
        third.then(|| Fault::code(500, "AF50000"))
    };
    server.decide(failing);
    for _ in 0..40 {
        reading.poll().await;
    }
    assert!(reading.ledger.blobs.len() >= 10, "two pages of five, whichever they are");
    assert!(reading.mark().starts_with("2026-08-19T12:00:00"), "where the first run began");
    assert!(reading.last_error().contains("listing content"), "{}", reading.last_error());
    reading.crash();
    server.behave();
    reading.run(600).await;
    reading.has_just(&refs(&ids));
    assert_eq!(server.count(is_blob), 20);
}

/// Fault matrix: C6. Links that lead in a circle, to themselves, or on and on.
#[tokio::test]
async fn links_that_lead_in_a_circle_end_and_what_was_listed_is_read() {
    let server = ActivityServer::start().await;
    let ids = publish_many(&server, "b", 4, 600);
    let mut reading = Reading::of(&server);
    let first = Arc::new(Mutex::new(None));
    let url = server.url();
    server.decide(move |asked| {
        let Asked::Content { from, to, .. } = asked else { return None };
        let (from, to) = (from.to_string(), to.to_string());
        let link = format!(
            "{url}/api/v1.0/x/activity/feed/subscriptions/content?contentType=Audit.General&startTime={}&endTime={}&PublisherIdentifier={}",
            from.trim_end_matches('Z'),
            to.trim_end_matches('Z'),
            crate::activity_server::TENANT
        );
        Some(Fault::Link(first.lock().unwrap().get_or_insert(link).clone()))
    });
    reading.run(1200).await;
    reading.has_just(&refs(&ids));
    assert!(reading.last_error().contains("circle"), "{}", reading.last_error());
    assert!(server.count(is_content) < 60, "{} requests", server.count(is_content));
    assert!(reading.mark().starts_with("2026-08-19T12:00:00"), "{}", reading.mark());
    server.behave();
    reading.run(600).await;
    reading.has_just(&refs(&ids));
}

/// Fault matrix: C7. The listener that links lead to is never connected to.
#[tokio::test]
async fn links_to_another_place_are_not_followed() {
    let canary = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = format!("http://{}", canary.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let task = tokio::spawn(async move {
        while canary.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let server = ActivityServer::start().await;
    let ids = publish_many(&server, "b", 4, 600);
    let mut stray = server.blob("stray", 600, &["r"]);
    stray.uri = Some(format!("{elsewhere}/api/v1.0/x/activity/feed/audit/stray"));
    server.put(stray);
    let link = format!("{elsewhere}/next");
    server.decide(move |asked| is_content(asked).then(|| Fault::Link(link.clone())));
    let mut reading = Reading::of(&server);
    reading.run(600).await;
    reading.has_just(&refs(&ids));
    assert!(reading.errors.iter().any(|error| error.failure == Failure::Hold));
    assert!(reading.errors.iter().any(|error| error.message.contains("not followed")));
    server.behave();
    reading.run(600).await;
    reading.has_just(&refs(&ids));
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    task.abort();
}

/// Loss bug of the field: windows of more than a day are answered in part without a word (Bindplane has no limit).
#[tokio::test]
async fn six_days_away_are_read_in_windows_of_a_day() {
    let server = ActivityServer::start().await;
    let mut reading = Reading::of(&server);
    server.publish("before", 60, &["r"]);
    reading.settle().await;
    let mut ids = vec!["before".to_owned()];
    for hour in 0..6 * 24 {
        server.advance(std::time::Duration::from_secs(3600));
        server.publish(&format!("h-{hour}"), 0, &[&format!("r-{hour}")]);
        ids.push(format!("h-{hour}"));
    }
    reading.crash();
    reading.run(600).await;
    reading.has_just(&refs(&ids));
    assert!(reading.mark().as_str() > "2026-08-26T11", "{}", reading.mark());
}

#[tokio::test]
async fn an_outage_longer_than_the_api_keeps_content_is_a_gap_with_its_ends() {
    let server = ActivityServer::start().await;
    server.publish("before", 60, &["r"]);
    let mut reading = Reading::of(&server);
    reading.run(600).await;
    let mark = reading.mark();
    server.advance(std::time::Duration::from_secs(9 * 86_400));
    server.publish("after", 60, &["s"]);
    reading.crash();
    reading.run(600).await;
    reading.crash();
    reading.run(600).await;
    reading.has(&["before", "after"]);
    let [gap] = &reading.ledger.gaps[..] else { panic!("{:?}", reading.ledger.gaps) };
    assert_eq!((gap.cause, &*gap.what), (GapCause::RetentionPassed, "Audit.General"));
    assert_eq!(*gap.from, *mark);
    assert!(gap.to.starts_with("2026-08-22T12:1"), "{}", gap.to);
}

/// Fault matrix: C15 and H1. Our clock is wrong by hours or years, the server's by an hour, or it names none.
#[tokio::test]
async fn whatever_the_clocks_say_nothing_is_lost() {
    for (ours, theirs) in [
        (3600, Some(0)),
        (-3600, Some(0)),
        (86_400 * 3650, Some(0)),
        (-86_400 * 3650, Some(0)),
        (0, Some(3600)),
        (0, Some(-3600)),
        (0, None),
        (3600, None),
        (-3600, None),
    ] {
        let server = ActivityServer::start().await;
        server.date_skew(theirs);
        let mut reading = Reading::of(&server);
        reading.clock_skew = ours;
        reading.crash();
        let mut ids = publish_many(&server, "b", 8, 600);
        for round in 0..30 {
            reading.run(900).await;
            let id = format!("n-{round}");
            server.put(later(&server, &id, 300, i64::from(round % 4) * 600));
            ids.push(id);
            if round % 7 == 3 {
                reading.crash();
            }
        }
        reading.run(3 * 3600).await;
        reading.has_just(&refs(&ids));
    }
}

/// The server's clock is put back: what it says is smaller than the cursor.
#[tokio::test]
async fn a_cursor_that_is_ahead_of_the_server_is_said_and_not_moved() {
    let server = ActivityServer::start().await;
    let mut reading = Reading::of(&server);
    server.publish("b", 60, &["r"]);
    reading.run(300).await;
    let mark = reading.mark();
    server.date_skew(Some(-86_400));
    reading.crash();
    reading.run(600).await;
    assert!(reading.last_error().contains("server's time"), "{}", reading.last_error());
    assert_eq!(reading.mark(), mark);
    server.date_skew(Some(0));
    server.publish("c", 0, &["s"]);
    reading.crash();
    reading.run(600).await;
    reading.has_just(&["b", "c"]);
}

#[tokio::test]
async fn a_stale_page_link_begins_the_window_again() {
    let server = ActivityServer::start().await;
    let ids = publish_many(&server, "b", 14, 600);
    let mut left = 2;
    server.decide(move |asked| {
        let page = matches!(asked, Asked::Content { page: 1.., .. });
        (page && left > 0).then(|| {
            left -= 1;
            Fault::code(400, "AF20031")
        })
    });
    let mut reading = Reading::of(&server);
    reading.run(300).await;
    reading.has_just(&refs(&ids));
    assert_eq!(server.count(is_blob), 14);
    assert_eq!(reading.errors.len(), 0);
}

#[tokio::test]
async fn a_window_that_the_server_refuses_is_computed_anew_from_its_time() {
    for code in ["AF20030", "AF20055"] {
        let server = ActivityServer::start().await;
        let ids = publish_many(&server, "b", 3, 600);
        let mut left = 3;
        server.decide(move |asked| {
            (is_content(asked) && left > 0).then(|| {
                left -= 1;
                Fault::code(400, code)
            })
        });
        let mut reading = Reading::of(&server);
        reading.run(300).await;
        reading.has_just(&refs(&ids));
        assert_eq!(reading.errors.len(), 3);
        assert!(server.count(|asked| *asked == Asked::List) >= 4);
    }
}

#[tokio::test]
async fn a_quiet_feed_asks_little_and_its_mark_follows() {
    let server = ActivityServer::start().await;
    let mut reading = Reading::of(&server);
    reading.run(3 * 86_400).await;
    let requests = server.log().len();
    let polls = 3 * 86_400 / 120;
    assert!(requests <= 2 * polls + 10, "{requests} requests in {polls} polls");
    assert!(reading.mark().as_str() >= "2026-08-22T11", "{} from {BEGIN}", reading.mark());
    reading.has_just(&[]);
}

#[tokio::test]
async fn the_first_run_looks_back_as_far_as_it_is_told() {
    let server = ActivityServer::start().await;
    server.publish("week", 167 * 3600, &["a"]);
    server.publish("day", 30 * 3600, &["b"]);
    server.publish("hour", 3600, &["c"]);
    let mut reading = Reading::of(&server);
    reading.run(300).await;
    reading.has_just(&["hour"]);
    let mut reading = Reading::of(&server);
    reading.config.lookback_hours = 168;
    reading.crash();
    reading.run(300).await;
    reading.has_just(&["week", "day", "hour"]);
}

#[tokio::test]
async fn a_listing_without_ids_addresses_or_times_loses_nothing_quietly() {
    let server = ActivityServer::start().await;
    server.publish("named", 600, &["r"]);
    let body = serde_json::json!([
        {"contentId": "named"}, {"contentUri": "/api/v1.0/x/activity/feed/audit/named"},
        {"contentId": "named", "contentUri": "", "contentCreated": "yesterday", "more": {}}, {},
    ]);
    let mut once = Some(serde_json::to_vec(&body).unwrap());
    server.decide(move |asked| is_content(asked).then(|| once.take().map(Fault::Body)).flatten());
    let mut reading = Reading::of(&server);
    reading.run(60).await;
    assert_eq!(reading.ledger.records["r"], 2, "by its id, and by its address");
    assert_eq!(reading.ledger.gaps.len(), 1);
}
