//! Throttles, refused tokens and storms.

use postern::domain::Failure;

use crate::activity_server::{ActivityServer, Asked, Fault};
use crate::rig::{Reading, is_blob, is_content, publish_many, refs};

/// Fault matrix: C1. Every form of Retry-After, on the listing and on blobs, also with the status 403.
#[tokio::test]
async fn a_throttle_is_obeyed_and_costs_nothing() {
    for status in [429, 403] {
        for after in [Some("7"), Some("900"), Some("0"), Some("-5"), Some("1000000000000"), None] {
            for on_blobs in [true, false] {
                let server = ActivityServer::start().await;
                let ids = publish_many(&server, "b", 12, 60);
                let mut left = 3;
                server.decide(move |asked| {
                    let struck = if on_blobs { is_blob(asked) } else { is_content(asked) };
                    (struck && left > 0).then(|| {
                        left -= 1;
                        Fault::throttle(status, after)
                    })
                });
                let mut reading = Reading::of(&server);
                reading.settle().await;
                reading.has_just(&refs(&ids));
                assert!(
                    reading.errors.iter().all(|error| matches!(error.failure, Failure::Retry(_)))
                );
                assert!(!reading.errors.is_empty());
            }
        }
    }
}

/// Fault matrix: C12, loss bug of the field: a 401 in the middle of a scan. The scan goes on where it was.
#[tokio::test]
async fn a_token_that_is_refused_once_costs_no_request_twice() {
    for at in [0, 3, 9, 14, 22] {
        let server = ActivityServer::start().await;
        let ids = publish_many(&server, "b", 20, 60);
        let mut requests = 0;
        server.decide(move |_| {
            requests += 1;
            (requests == at + 1).then(|| Fault::code(401, ""))
        });
        let mut reading = Reading::of(&server);
        reading.settle().await;
        reading.has_just(&refs(&ids));
        // Four pages, and the one that was refused again.
        let pages = server.count(is_content);
        assert!(pages <= 5, "{pages} pages were asked for");
        assert!(server.count(is_blob) <= 21);
    }
}

/// Fault matrix: C4.
#[tokio::test]
async fn connections_that_break_half_way_cost_nothing() {
    let server = ActivityServer::start().await;
    let ids = publish_many(&server, "b", 20, 60);
    let mut requests = 0;
    server.decide(move |_| {
        requests += 1;
        match requests % 5 {
            1 => Some(Fault::Reset),
            3 => Some(Fault::Cut),
            _ => None,
        }
    });
    let mut reading = Reading::of(&server);
    reading.run(3600).await;
    reading.has_just(&refs(&ids));
}

/// Loss bug of the field: one 429, 5xx or refused batch, and the next start is "now" (Bindplane).
/// Fault matrix: C2, in what is asked meanwhile.
#[tokio::test]
async fn a_storm_of_an_hour_loses_nothing_and_is_not_stormed() {
    let server = ActivityServer::start().await;
    let mut ids = publish_many(&server, "b", 10, 60);
    let mut reading = Reading::of(&server);
    reading.run(240).await;
    server.forget_log();
    server.decide(|_| Some(Fault::code(503, "")));
    for minute in 0..60 {
        let id = format!("storm-{minute}");
        server.publish(&id, 0, &["r"]);
        ids.push(id);
        reading.run(60).await;
    }
    let requests = server.log().len();
    assert!(requests < 200, "{requests} requests in an hour");
    server.behave();
    reading.run(300).await;
    reading.has_just(&refs(&ids));
}

#[tokio::test]
async fn nothing_listens_and_then_it_does() {
    let server = ActivityServer::start().await;
    let ids = publish_many(&server, "b", 10, 60);
    server.decide(|asked| (*asked == Asked::List).then_some(Fault::Reset));
    let mut reading = Reading::of(&server);
    reading.run(600).await;
    assert!(reading.ledger.blobs.is_empty());
    server.behave();
    reading.run(300).await;
    reading.has_just(&refs(&ids));
}
