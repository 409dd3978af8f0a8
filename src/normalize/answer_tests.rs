//! What becomes of whole answers of APIs: hunting rows, incidents, alerts, audit records and users' reports.

use super::tests::{Became, TENANT, chunk, context, run};
use super::*;
use crate::domain::Issue;

fn read(shape: Shape, bytes: &[u8]) -> Became {
    run(&chunk(bytes, shape), &context())
}

fn kinds(became: &Became) -> Vec<(&str, &str)> {
    became.events.iter().map(|event| (event.kind.as_str(), event.table.name())).collect()
}

const ROW: &str = r#"{"Timestamp":"2026-08-20T09:11:04Z","NetworkMessageId":"m-1","RecipientEmailAddress":"adele@contoso.example","ReportId":"r-1","IngestionTime":"2026-08-20T09:13:29.8812345Z","_t":"EmailEvents"}"#;

#[test]
fn a_hunting_answer_gives_its_rows_in_either_casing() {
    let older = ROW.replace("NetworkMessageId", "networkMessageId");
    for answer in [
        format!(
            r#"{{"@odata.context":"x","schema":[{{"name":"Timestamp"}}],"results":[{ROW},{ROW}]}}"#
        ),
        format!("\u{feff}{{\"Stats\":{{}},\"Schema\":[],\"Results\":[{older},{older}]}}\r\n"),
        format!(r#"{{"Results":[],"results":[{ROW},{ROW}],"Results":[]}}"#),
    ] {
        let became = read(Shape::Hunting(Table::EmailEvents), answer.as_bytes());
        assert_eq!(became.messages(), ["m-1", "m-1"], "{answer}");
        assert!(became.letters.is_empty());
        assert_eq!(became.issues(), [], "columns that a query adds are no strangers");
        assert_eq!(became.events[0].observed, Ticks::parse("2026-08-20T09:13:29.8812345Z"));
        assert_eq!(became.events[0].raw.as_bytes(), became.events[0].row_bytes());
    }
    let empty = read(Shape::Hunting(Table::EmailEvents), br#"{"schema":[],"results":[]}"#);
    assert!(empty.events.is_empty() && empty.letters.is_empty());
}

#[test]
fn rows_on_lines_are_those_of_the_table_named() {
    let lines = format!("{ROW}\r\n\n{ROW}\n{{\"cut");
    let became = read(Shape::RowLines(Table::EmailEvents), lines.as_bytes());
    assert_eq!(became.messages(), ["m-1", "m-1"]);
    assert_eq!(became.reasons(), [DeadLetterReason::NotJsonObject]);
}

/// An answer that ends too early, wherever, must not look whole; what came before the break is kept.
#[test]
fn a_cut_answer_keeps_what_came_before_and_never_looks_whole() {
    let whole = format!(r#"{{"schema":[],"results":[{ROW},{ROW}],"more":{{"a":[1]}}}}"#);
    for end in 0..whole.len() {
        let became = read(Shape::Hunting(Table::EmailEvents), &whole.as_bytes()[..end]);
        assert_eq!(became.letters.len(), 1, "cut at {end}");
        assert!(became.events.len() <= 2);
    }
    let page = br#"{"value":[{"id":"1"},{"id":"2"}],"@odata.nextLink":"x"}"#;
    for end in 0..page.len() {
        assert_eq!(read(Shape::Alerts, &page[..end]).letters.len(), 1, "cut at {end}");
    }
    let blob = br#"[{"Id":"1"},{"Id":"2"}]"#;
    for end in 0..blob.len() {
        assert_eq!(read(Shape::Activity, &blob[..end]).letters.len(), 1, "cut at {end}");
    }
}

#[test]
fn a_broken_object_costs_only_itself() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    let page = format!(r#"{{"value":[{{"id":"1"}},7,{deep},{{"id" 3}},null,{{"id":"2"}}]}}"#);
    let became = read(Shape::Alerts, page.as_bytes());
    assert_eq!(became.messages(), ["1", "2"]);
    let not = DeadLetterReason::NotJsonObject;
    assert_eq!(became.reasons(), [not, DeadLetterReason::TooDeep, not, not]);
    let bad = b"[{\"Id\":\"1\"},{\"Id\":\"\xff\"},{\"Id\":\"3\"}]";
    let became = read(Shape::Activity, bad);
    assert_eq!((became.events.len(), became.letters.len()), (2, 1));
}

#[test]
fn what_is_no_answer_is_a_dead_letter() {
    for (shape, body) in [
        (Shape::Hunting(Table::EmailEvents), r#"{"schema":[]}"#),
        (Shape::Hunting(Table::EmailEvents), r#"{"results":null}"#),
        (Shape::Hunting(Table::EmailEvents), r#"{"error":{"code":"BadRequest"}}"#),
        (Shape::Incidents { alerts: true }, r#"{"error":{"code":"UnknownError","message":""}}"#),
        (Shape::Alerts, r#"{"@odata.context":"x","value":null}"#),
        (Shape::Activity, r#"{"error":{"code":"AF50000"}}"#),
        (Shape::Activity, "<html>503</html>"),
        (Shape::Activity, "\"text\""),
        (Shape::Alerts, ""),
    ] {
        let became = read(shape, body.as_bytes());
        assert!(became.events.is_empty(), "{body}");
        assert_eq!(became.reasons(), [DeadLetterReason::NotJsonObject], "{body}");
    }
}

const INCIDENT: &str = r##"{"id":"4711","tenantId":"11111111-2222-3333-4444-555555555555","status":"awaitingAction","redirectIncidentId":"4712","createdDateTime":"2026-08-20T09:00:00Z","lastUpdateDateTime":"2026-08-20T09:15:00.1234567Z","alerts":[{"id":"fa1","title":"x","createdDateTime":"2026-08-20T08:59:00Z","lastUpdateDateTime":"2026-08-20T09:14:00Z","categories":["InitialAccess"],"evidence":[{"@odata.type":"#microsoft.graph.security.newEvidence"}]},{"id":"fa2"}]}"##;

#[test]
fn incidents_and_the_alerts_inside_are_events_of_their_own() {
    let page = format!(r#"{{"value":[{INCIDENT}]}}"#);
    for body in [page, format!("[{INCIDENT}]"), INCIDENT.to_owned()] {
        let became = read(Shape::Incidents { alerts: true }, body.as_bytes());
        assert_eq!(
            kinds(&became),
            [("incident", "incidents"), ("alert", "alerts_v2"), ("alert", "alerts_v2")]
        );
        assert_eq!(became.messages(), ["4711", "fa1", "fa2"]);
        assert_eq!(became.issues(), [(Issue::BAD_TIMESTAMP, "createdDateTime")]);
        let [incident, alert, _] = &became.events[..] else { panic!("three events") };
        assert_eq!(incident.raw.as_bytes(), INCIDENT.as_bytes());
        assert!(alert.raw.as_bytes().starts_with(b"{\"id\":\"fa1\""));
        assert_eq!(incident.occurred, Ticks::parse("2026-08-20T09:00:00Z"));
        assert_eq!(incident.observed, Ticks::parse("2026-08-20T09:15:00.1234567Z"));
        assert_eq!((&*incident.tenant, &*alert.tenant), (TENANT, TENANT));
    }
    let without = read(Shape::Incidents { alerts: false }, INCIDENT.as_bytes());
    assert_eq!(kinds(&without), [("incident", "incidents")]);
}

#[test]
fn an_alert_is_the_same_whoever_brings_it_and_each_change_is_new() {
    let inside = read(Shape::Incidents { alerts: true }, INCIDENT.as_bytes()).events[1].id;
    let alert = r#"{"lastUpdateDateTime":"2026-08-20T09:14:00.000Z","status":"new","id":"fa1"}"#;
    let of = |body: &str| read(Shape::Alerts, body.as_bytes()).events[0].id;
    assert_eq!(of(alert), inside);
    assert_ne!(of(&alert.replace("09:14", "09:15")), inside);
    assert_ne!(of(&alert.replace("fa1", "fa3")), inside);
}

#[test]
fn an_incident_that_is_too_large_does_not_take_its_alerts_with_it() {
    let small = Context { size_cap: 300, ..context() };
    let became = run(&chunk(INCIDENT.as_bytes(), Shape::Incidents { alerts: true }), &small);
    assert_eq!(became.messages(), ["fa1", "fa2"]);
    assert_eq!(became.reasons(), [DeadLetterReason::OverSizeCap]);
}

#[test]
fn an_audit_record_is_known_by_number_text_name_or_operation() {
    let cases = [
        (r#""RecordType":28"#, "email.activity", "ThreatIntelligence"),
        (r#""RecordType":"28""#, "email.activity", "ThreatIntelligence"),
        (r#""RecordType":"threatintelligence""#, "email.activity", "ThreatIntelligence"),
        (r#""Operation":"TIMailData""#, "email.activity", "ThreatIntelligence"),
        (r#""recordType":41"#, "url.click", "ThreatIntelligenceUrl"),
        (r#""RecordType":40"#, "alert", "SecurityComplianceAlerts"),
        (r#""RecordType":64"#, "investigation", "AirInvestigation"),
        (r#""RecordType":86"#, "investigation", "AirManualInvestigation"),
        (r#""RecordType":89"#, "investigation", "AirAdminActionInvestigation"),
        (r#""RecordType":29"#, "submission", "MailSubmission"),
        (r#""RecordType":65"#, "quarantine", "Quarantine"),
        (r#""RecordType":1"#, "row", "ExchangeAdmin"),
        (r#""RecordType":9999"#, "row", "9999"),
        (r#""RecordType":"NewThing""#, "row", "NewThing"),
        (r#""RecordType":null"#, "row", ""),
    ];
    for (field, kind, table) in cases {
        let record = format!(r#"{{"Id":"a","CreationTime":"2026-08-20T09:11:04",{field}}}"#);
        let became = read(Shape::Activity, record.as_bytes());
        assert_eq!(kinds(&became), [(kind, table)], "{field}");
        let strange = matches!(table, "9999" | "NewThing" | "");
        let expected = if strange { vec![(Issue::UNKNOWN_TABLE, table)] } else { vec![] };
        assert_eq!(became.issues(), expected, "{field}");
        assert_eq!(became.events[0].occurred, Ticks::parse("2026-08-20T09:11:04Z"));
    }
}

#[test]
fn audit_records_are_identified_by_their_id_and_submissions_by_their_state() {
    let id = |record: &str| {
        let became = read(Shape::Activity, record.as_bytes());
        (became.events[0].id, became.issues().iter().any(|(c, _)| *c == Issue::IDENTITY_FALLBACK))
    };
    let (a, _) = id(r#"{"Id":"a","RecordType":28,"Verdict":"Phish"}"#);
    assert_eq!(a, id(r#"{"Id":"a","RecordType":41}"#).0, "whatever the kind");
    assert_ne!(a, id(r#"{"Id":"b","RecordType":28,"Verdict":"Phish"}"#).0);
    assert!(id(r#"{"RecordType":28}"#).1, "without an id all fields stand in");
    let submission = |fields: &str| id(&format!(r#"{{"RecordType":29,{fields}}}"#)).0;
    let first = submission(r#""Id":"1","SubmissionId":"s","SubmissionState":"Rescaned""#);
    assert_eq!(first, submission(r#""Id":"2","SubmissionId":"s","SubmissionState":"Rescaned""#));
    assert_ne!(first, submission(r#""Id":"2","SubmissionId":"s","SubmissionState":"Done""#));
    assert_ne!(
        submission(r#""Id":"3","SubmissionId":"s","Operation":"UserSubmission""#),
        submission(r#""Id":"3","SubmissionId":"s","Operation":"UserSubmissionTriage""#)
    );
    assert_eq!(id(r#"{"RecordType":29,"Id":"a"}"#).0, a, "without a submission id, the record's");
}

#[test]
fn audit_records_name_their_mail_their_mailbox_and_their_tenant() {
    let check = |record: &str, key: Option<&str>, recipient: Option<&str>| {
        let became = read(Shape::Activity, record.as_bytes());
        let event = &became.events[0];
        assert_eq!(
            (event.key.as_deref(), event.recipient.as_deref()),
            (key, recipient),
            "{record}"
        );
    };
    let mail = |recipients: &str| {
        format!(r#"{{"RecordType":28,"NetworkMessageId":"m","Recipients":{recipients}}}"#)
    };
    check(&mail(r#"["Adele@contoso.example"]"#), Some("m"), Some("adele@contoso.example"));
    check(&mail(r#"["a@contoso.example","b@contoso.example"]"#), Some("m"), None);
    check(
        r#"{"RecordType":41,"AppName":"Mail","SourceId":"m","UserId":"A@contoso.example"}"#,
        Some("m"),
        Some("a@contoso.example"),
    );
    check(r#"{"RecordType":41,"AppName":"Teams","SourceId":"x"}"#, None, None);
    check(
        r#"{"RecordType":65,"NetworkMessageId":"m","ReleaseTo":"a@contoso.example"}"#,
        Some("m"),
        Some("a@contoso.example"),
    );
    check(
        r#"{"RecordType":29,"InternetMessageId":"<1@x.example>","Recipients":"[a@contoso.example]"}"#,
        Some("<1@x.example>"),
        Some("a@contoso.example"),
    );
    let foreign = read(
        Shape::Activity,
        br#"{"Id":"a","RecordType":1,"OrganizationId":"other","CreationTime":"2026-08-20"}"#,
    );
    assert_eq!(&*foreign.events[0].tenant, "other");
    assert_eq!(foreign.issues(), [(Issue::FOREIGN_TENANT, "tenantId")]);
}

#[test]
fn a_click_happened_when_it_was_clicked_and_was_recorded_later() {
    let click = br#"{"Id":"a","RecordType":41,"CreationTime":"2026-08-20T10:00:00","TimeOfClick":"2026-08-20T09:00:00"}"#;
    let became = read(Shape::Activity, click);
    assert_eq!(became.events[0].occurred, Ticks::parse("2026-08-20T09:00:00Z"));
    assert_eq!(became.events[0].observed, Ticks::parse("2026-08-20T10:00:00Z"));
}

#[test]
fn a_users_report_is_known_by_mail_reporter_and_time() {
    let lines = concat!(
        r#"{"message_id":"<1@x.example>","reporter":"Adele@contoso.example","reported_at":"2026-08-20T09:11:04Z","category":"Phish"}"#,
        "\n",
        r#"{"message_id":"1@x.example","reporter":"adele@contoso.example","reported_at":"2026-08-20T09:11:04.0","category":"Junk","tool":"x"}"#,
        "\n",
        r#"{"message_id":"1@x.example","reporter":"ben@contoso.example","reported_at":"2026-08-20T09:11:04Z"}"#,
        "\n",
        r#"{"subject":"nothing to hold on to"}"#,
    );
    let became = read(Shape::Submissions, lines.as_bytes());
    assert_eq!(kinds(&became), [("submission", "submissions"); 4]);
    let ids: Vec<EventId> = became.events.iter().map(|event| event.id).collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert_eq!(became.events[0].recipient.as_deref(), Some("adele@contoso.example"));
    assert_eq!(became.messages(), ["<1@x.example>", "1@x.example", "1@x.example", "-"]);
    assert_eq!(
        became.issues(),
        [(Issue::IDENTITY_FALLBACK, ""), (Issue::BAD_TIMESTAMP, "reported_at")]
    );
}
