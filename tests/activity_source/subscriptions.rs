//! Starting subscriptions, finding them off, and what is said when that is not allowed.

use postern::domain::{Failure, GapCause};
use postern::source::activity::ContentType;

use crate::activity_server::{ActivityServer, Asked, Fault};
use crate::rig::{Reading, is_content, publish_many, refs};

fn is_start(asked: &Asked) -> bool {
    matches!(asked, Asked::Start(_))
}

#[tokio::test]
async fn only_what_is_missing_is_started() {
    let server = ActivityServer::start().await;
    let mut reading = Reading::of(&server);
    reading.settle().await;
    assert_eq!(server.count(is_start), 1);
    reading.crash();
    reading.run(3600).await;
    assert_eq!(server.count(is_start), 1);
    assert_eq!(server.count(|asked| *asked == Asked::List), 2);
    reading.has_just(&[]);
}

/// Loss bug of the field: AF20024 taken for a failure, or every 400 taken for AF20024 (dfe-fetcher).
#[tokio::test]
async fn already_enabled_is_success_and_no_other_400_is() {
    let server = ActivityServer::start().await;
    let ids = publish_many(&server, "b", 3, 60);
    // The list does not show yet what another program has started.
    let mut reading = Reading::of(&server);
    reading.settle().await;
    let mut reading = Reading::of(&server);
    let mut hidden = true;
    server.decide(move |asked| match asked {
        Asked::List if hidden => Some(Fault::Body(b"[]".to_vec())),
        Asked::Start(_) => {
            hidden = false;
            Some(Fault::code(400, "AF20024"))
        }
        _ => None,
    });
    reading.settle().await;
    assert_eq!(reading.errors.len(), 0);
    reading.has_just(&refs(&ids));

    let server = ActivityServer::start().await;
    server.decide(|asked| is_start(asked).then(|| Fault::code(400, "AF20020")));
    let mut reading = Reading::of(&server);
    reading.poll().await;
    assert_eq!(reading.errors[0].failure, Failure::Hold);
    assert_eq!(server.count(is_content), 0);
}

#[tokio::test]
async fn a_start_that_comes_too_often_is_repeated_when_the_api_says() {
    let server = ActivityServer::start().await;
    let mut first = true;
    server.decide(move |asked| {
        (is_start(asked) && std::mem::take(&mut first)).then(|| Fault::Code {
            status: 429,
            code: "AF429",
            message:
                "Too many frequent subscription start requests. Please retry again after 14m 56s"
                    .to_owned(),
            retry_after: None,
        })
    });
    let ids = publish_many(&server, "b", 3, 60);
    let mut reading = Reading::of(&server);
    let before = server.now();
    reading.settle().await;
    reading.has_just(&refs(&ids));
    let starts: Vec<_> = server.log().into_iter().filter(|(_, asked)| is_start(asked)).collect();
    assert_eq!(starts.len(), 2);
    let waited = starts[1].0.seconds_since(before);
    assert!((896.0..1100.0).contains(&waited), "{waited}");
}

#[tokio::test]
async fn a_subscription_that_is_stopped_later_is_started_again_and_the_time_is_a_gap() {
    for code in ["AF20022", "AF20023"] {
        let server = ActivityServer::start().await;
        server.publish("before", 60, &["r"]);
        let mut reading = Reading::of(&server);
        reading.run(600).await;
        let mark = reading.mark();
        server.stop_subscription("Audit.General");
        let mut told = false;
        server.decide(move |asked| {
            (is_content(asked) && !std::mem::replace(&mut told, true))
                .then(|| Fault::code(400, code))
        });
        reading.run(600).await;
        server.publish("after", 0, &["s"]);
        reading.run(600).await;
        reading.has(&["before", "after"]);
        let [gap] = &reading.ledger.gaps[..] else { panic!("{code} {:?}", reading.ledger.gaps) };
        assert_eq!((gap.cause, &*gap.what), (GapCause::RemoteGone, "Audit.General"));
        assert_eq!(*gap.from, *mark);
        assert_eq!(server.count(is_start), 2);
    }
}

/// A subscription whose start does not take effect is not started over and over.
#[tokio::test]
async fn a_start_without_effect_is_not_repeated_within_a_quarter_of_an_hour() {
    let server = ActivityServer::start().await;
    server.decide(|asked| match asked {
        Asked::List => Some(Fault::Body(b"[]".to_vec())),
        Asked::Start(_) => Some(Fault::Body(b"{}".to_vec())),
        Asked::Content { .. } => Some(Fault::code(400, "AF20022")),
        _ => None,
    });
    let mut reading = Reading::of(&server);
    reading.run(3600).await;
    let starts = server.count(is_start);
    assert!((2..=5).contains(&starts), "{starts} starts in an hour");
    assert!(server.log().len() < 400, "{} requests in an hour", server.log().len());
}

#[tokio::test]
async fn what_a_person_has_to_do_is_said() {
    let off =
        "Microsoft.Office.Compliance.Audit.DataServiceException: Tenant 9f4c1b1e does not exist.";
    for (status, code, message, expected) in [
        (403, "AF10001", "denied", "ActivityFeed.Read"),
        (400, "AF20010", "wrong tenant", "another tenant"),
        (400, "AF20011", "unknown", "does not know this tenant"),
        (400, "AF20011", off, "Set-AdminAuditLogConfig"),
        (400, "", off, "Set-AdminAuditLogConfig"),
    ] {
        let server = ActivityServer::start().await;
        server.decide(move |asked| {
            is_start(asked).then(|| Fault::Code {
                status,
                code,
                message: message.to_owned(),
                retry_after: None,
            })
        });
        let mut reading = Reading::of(&server);
        reading.poll().await;
        assert_eq!(reading.errors[0].failure, Failure::Hold, "{code}");
        assert!(reading.last_error().contains(expected), "{}", reading.last_error());
        // And it goes on by itself once that is done.
        server.behave();
        server.publish("b", 10, &["r"]);
        reading.run(600).await;
        reading.has_just(&["b"]);
    }
}

#[tokio::test]
async fn a_content_type_that_is_refused_does_not_hold_up_the_others() {
    let server = ActivityServer::start().await;
    server.decide(|asked| match asked {
        Asked::Start(content) | Asked::Content { content, .. } if content == "DLP.All" => {
            Some(Fault::code(403, "AF10001"))
        }
        _ => None,
    });
    let mut reading = Reading::of(&server);
    reading.config.content_types =
        vec![ContentType::General, ContentType::Dlp, ContentType::Exchange];
    reading.crash();
    let mut ids = Vec::new();
    for round in 0..20 {
        let id = format!("b-{round}");
        server.publish(&id, 30, &["r"]);
        ids.push(id);
        reading.run(300).await;
        // At most one pause for the refusal and one poll's interval.
        let latest: Vec<&str> = ids.iter().map(String::as_str).collect();
        reading.has(&latest);
    }
    let refused = server.count(|asked| *asked == Asked::Start("DLP.All".to_owned()));
    assert!((5..=25).contains(&refused), "{refused}");
    server.behave();
    let mut blob = server.blob("d", 10, &["r"]);
    blob.content = "DLP.All".to_owned();
    server.put(blob);
    reading.run(900).await;
    reading.has(&["d"]);
}

#[tokio::test]
async fn the_probe_says_which_subscriptions_are_on() {
    let server = ActivityServer::start().await;
    let mut reading = Reading::of(&server);
    let before = reading.probe().await.unwrap();
    assert!(before.contains("Audit.General is not on yet"), "{before}");
    assert_eq!(server.count(is_start), 0, "a probe starts nothing");
    reading.settle().await;
    let after = reading.probe().await.unwrap();
    assert!(after.contains("Audit.General is on"), "{after}");
    server.decide(|_| Some(Fault::code(403, "AF10001")));
    let error = reading.probe().await.unwrap_err();
    assert!(error.message.contains("ActivityFeed.Read"), "{error}");
}
