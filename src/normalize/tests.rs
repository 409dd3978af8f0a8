//! What becomes of whole chunks: which records become events, what poison does, and ids that never change.

use std::sync::Arc;

use super::*;
use crate::domain::{Issue, Position};

/// A message id that makes reading panic, standing in for a defect that nobody has found yet.
const PANICS: &str = "panic-please";

pub(super) fn panic_if_asked(row: &Row<'_>) {
    assert!(row.text(Column::NetworkMessageId).as_deref() != Some(PANICS), "asked to panic");
}

pub(super) const TENANT: &str = "11111111-2222-3333-4444-555555555555";

pub(super) fn context() -> Context {
    Context {
        tenant: TENANT.into(),
        source: "hubs".into(),
        ingested: Ticks::parse("2026-08-20T09:20:00Z"),
        normal_lag_seconds: 1800,
        backfill: false,
        size_cap: SIZE_CAP,
    }
}

pub(super) fn chunk(bytes: &[u8], shape: Shape) -> Chunk {
    let position = Position::Kafka { topic: "mail".into(), partition: 3, offset: 17 };
    Chunk { raw: Raw::new(bytes), shape, position, observed: None, backfill: false }
}

#[derive(Debug, Default)]
pub(super) struct Became {
    pub(super) events: Vec<Event>,
    mails: Vec<Option<EventId>>,
    firsts: Vec<bool>,
    pub(super) letters: Vec<DeadLetter>,
}

impl Became {
    pub(super) fn messages(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.key.as_deref().unwrap_or("-")).collect()
    }

    pub(super) fn reasons(&self) -> Vec<DeadLetterReason> {
        self.letters.iter().map(|letter| letter.reason).collect()
    }

    pub(super) fn issues(&self) -> Vec<(&str, &str)> {
        self.events.iter().flat_map(|e| &e.issues).map(|i| (&*i.code, &*i.at)).collect()
    }
}

pub(super) fn run(chunk: &Chunk, context: &Context) -> Became {
    let mut became = Became::default();
    each(chunk, context, &mut |normalized| match normalized {
        Normalized::Event { event, mail, first_row_decides, .. } => {
            assert_eq!(
                event.raw.slice(event.row.0 as usize..event.row.1 as usize).as_bytes(),
                event.row_bytes()
            );
            assert!(Row::parse(event.row_bytes()).is_ok(), "the row can be read again");
            became.events.push(event);
            became.mails.push(mail);
            became.firsts.push(first_row_decides);
        }
        Normalized::DeadLetter(letter) => became.letters.push(letter),
    });
    became
}

fn streaming(bytes: &[u8]) -> Became {
    run(&chunk(bytes, Shape::Streaming), &context())
}

/// A streaming record of an invented mail.
fn record(message: &str) -> String {
    format!(
        r#"{{"time":"2026-08-20T09:13:32.3832981Z","tenantId":"{TENANT}","operationName":"Publish","category":"AdvancedHunting-EmailEvents","properties":{{"Timestamp":"2026-08-20T09:11:04Z","NetworkMessageId":"{message}","RecipientEmailAddress":"Adele@Contoso.example","ReportId":"r-1","ThreatTypes":"Phish"}},"Tenant":"DefaultTenant"}}"#
    )
}

fn message_of(records: &[&str]) -> Vec<u8> {
    format!("{{\"records\":[{}]}}", records.join(",")).into_bytes()
}

#[test]
fn a_record_becomes_an_event_with_its_row_its_times_and_its_keys() {
    let (a, b) = (record("m-1"), record("m-2"));
    let became = streaming(&message_of(&[&a, &b]));
    assert_eq!(became.messages(), ["m-1", "m-2"]);
    assert_eq!(became.letters, []);
    let event = &became.events[0];
    assert_eq!(event.kind, Kind::Email);
    assert_eq!(event.table, Table::EmailEvents);
    assert_eq!(&*event.tenant, TENANT);
    assert_eq!(event.recipient.as_deref(), Some("adele@contoso.example"));
    assert_eq!(event.occurred, Ticks::parse("2026-08-20T09:11:04Z"));
    assert_eq!(event.observed, Ticks::parse("2026-08-20T09:13:32.3832981Z"));
    assert_eq!(event.arrival, Some(Arrival::Live));
    assert_eq!(event.raw.as_bytes(), a.as_bytes());
    assert!(event.row_bytes().starts_with(b"{\"Timestamp\"") && event.row_bytes().ends_with(b"}"));
    assert!(became.mails[0].is_some() && became.mails[0] != became.mails[1]);
    assert_eq!(became.firsts, [true, true]);
    assert_eq!(event.issues, []);
}

#[test]
fn every_layout_that_the_streaming_api_has_been_seen_in_is_read() {
    let one = record("m");
    for (layout, events) in [
        (format!("{{\"records\":[{one},{one}]}}"), 2),
        (format!("[{one} , {one}]"), 2),
        (one.clone(), 1),
        (format!("\u{feff}{{\"records\":[{one}]}}\r\n"), 1),
        (format!("{{\"version\":{{\"a\":[1]}},\"records\":[{one}],\"count\":1}}"), 1),
        (format!("{{\"Records\":[{one},{{\"type\":\"heartbeat\"}}]}}"), 1),
        ("{\"records\":[]}".to_owned(), 0),
        ("[]".to_owned(), 0),
        ("{\"type\":\"heartbeat\"}".to_owned(), 0),
        (String::new(), 0),
        (" \n ".to_owned(), 0),
        (format!("{{\"records\":[{one}]}}\n{{\"records\":[{one}]}}"), 2),
        (format!("{{\"records\":[{one},]}}"), 1),
    ] {
        let became = streaming(layout.as_bytes());
        assert_eq!((became.events.len(), became.letters.len()), (events, 0), "{layout}");
    }
}

#[test]
fn lines_of_a_blob_end_with_either_line_end_and_a_bad_line_spoils_only_itself() {
    let lines = format!("{}\r\n\r\n{{\"time\":\r\n{}\n{}", record("a"), record("b"), record("c"));
    let mut blob = chunk(lines.as_bytes(), Shape::StreamingLines);
    blob.position = Position::File { path: "h=09/PT1H.json".into(), line: 10, offset: 500 };
    let became = run(&blob, &context());
    assert_eq!(became.messages(), ["a", "b", "c"]);
    assert_eq!(became.reasons(), [DeadLetterReason::NotJsonObject]);
    assert_eq!(&*became.letters[0].position, "h=09/PT1H.json:12");
    assert_eq!(became.letters[0].bytes, b"{\"time\":");
}

#[test]
fn poison_is_one_dead_letter_and_its_neighbours_live() {
    let deep = format!(
        "{{\"category\":\"x\",\"properties\":{{\"a\":{}{}}}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let unbalanced = "[".repeat(100_000);
    for (poison, reason) in [
        (
            &b"{\"category\":\"x\",\"properties\":{\"Subject\":\"\xff\xfe\"}}"[..],
            DeadLetterReason::NotJsonObject,
        ),
        (deep.as_bytes(), DeadLetterReason::TooDeep),
        (b"{\"category\":\"x\",\"properties\":{\"a\":tru}}", DeadLetterReason::NotJsonObject),
        (b"{\"category\":\"x\",\"properties\":{\"a\":\"b\",}}", DeadLetterReason::NotJsonObject),
        (b"{\"category\":\"x\",\"properties\":{\"a\":\"b}}", DeadLetterReason::NotJsonObject),
        (b"{\"category\":\"x\",\"properties\":{\"a\":\"b\"", DeadLetterReason::NotJsonObject),
        (
            b"{\"category\":\"x\",\"properties\":{\"a\":\"line\nbreak\"}}",
            DeadLetterReason::NotJsonObject,
        ),
        (b"{\"category\":\"x\"}}", DeadLetterReason::NotJsonObject),
        (b"\x00\x01\x02\xff", DeadLetterReason::NotJsonObject),
        (b"\"text\"", DeadLetterReason::NotJsonObject),
        (b"null", DeadLetterReason::NotJsonObject),
        (b"[1,2]", DeadLetterReason::NotJsonObject),
        (unbalanced.as_bytes(), DeadLetterReason::TooDeep),
    ] {
        let shown = String::from_utf8_lossy(&poison[..poison.len().min(60)]).into_owned();
        let mut bytes = format!("{{\"records\":[{},", record("before")).into_bytes();
        bytes.extend_from_slice(poison);
        bytes.extend_from_slice(format!(",{}]}}", record("behind")).as_bytes());
        let became = streaming(&bytes);
        if poison == b"{\"category\":\"x\"}}" {
            // A bracket too many is no damage: the record itself is whole.
            assert_eq!(became.messages(), ["before", "-", "behind"]);
            continue;
        }
        assert_eq!(became.messages(), ["before", "behind"], "{shown}");
        assert_eq!(became.reasons(), [reason], "{shown}");
        assert_eq!(became.letters[0].bytes, poison, "{shown}");
    }
}

#[test]
fn a_message_cut_anywhere_loses_only_the_record_that_was_cut() {
    let whole = message_of(&[&record("a"), &record("b"), &record("c")]);
    let starts: Vec<usize> =
        memchr::memmem::find_iter(&whole, b"{\"time\"").chain([whole.len() - 2]).collect();
    for cut in 1..whole.len() {
        let became = streaming(&whole[..cut]);
        let expected = starts
            .iter()
            .skip(1)
            .filter(|end| cut >= **end - usize::from(**end < whole.len() - 2))
            .count();
        assert_eq!(became.events.len(), expected, "cut at {cut}");
        assert_eq!(became.letters.len(), 1, "cut at {cut}: a cut never looks whole");
    }
}

#[test]
fn another_encoding_and_binary_are_one_dead_letter() {
    let utf16: Vec<u8> = String::from_utf8(message_of(&[&record("a")]))
        .unwrap()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for bytes in [&utf16[..], b"\x1f\x8b\x08\x00\x00\x00", b"<xml/>", b"time,category\n1,2\n"] {
        let became = streaming(bytes);
        assert!(became.events.is_empty(), "{bytes:?}");
        assert_eq!(became.letters.len(), 1, "{bytes:?}");
        assert_eq!(became.letters[0].length, bytes.trim_ascii_end().len() as u64);
    }
}

#[test]
fn odd_but_whole_records_are_events_with_issues() {
    #[track_caller]
    fn check(properties: &str, issue: (&str, &str)) {
        let record = format!(
            r#"{{"category":"AdvancedHunting-EmailUrlInfo","properties":{{"Timestamp":"2026-08-20T09:11:04Z","NetworkMessageId":"m",{properties}}}}}"#
        );
        let became = streaming(record.as_bytes());
        assert_eq!(became.reasons(), [], "{properties}");
        assert_eq!(became.issues(), [issue], "{properties}");
    }
    check(r#""Url":"a","Url":"b""#, (Issue::DUPLICATE_KEY, "Url"));
    check(r#""Url":"\ud800""#, (Issue::LONE_SURROGATE, "Url"));
    check(r#""Url":5"#, (Issue::ODD_TYPE, "Url"));
    check(r#""Farbe":1e999"#, (Issue::UNKNOWN_COLUMN, "Farbe"));
    let became = streaming(br#"{"category":"AdvancedHunting-EmailUrlInfo","properties":{"Url":"\u0000","UrlChainPosition":123456789012345678901234567890}}"#);
    assert_eq!(
        became.issues(),
        [(Issue::IDENTITY_FALLBACK, ""), (Issue::BAD_TIMESTAMP, "Timestamp")]
    );
}

#[test]
fn tables_that_are_not_typed_pass_as_rows_and_are_counted() {
    for (record, table) in [
        (
            r#"{"category":"AdvancedHunting-DeviceInfo","properties":{"Timestamp":"2026-08-20T09:11:04Z","DeviceId":"d"}}"#,
            "DeviceInfo",
        ),
        (r#"{"Timestamp":"2026-08-20T09:11:04Z","DeviceId":"d"}"#, ""),
        (
            r#"{"category":"AdvancedHunting-DeviceInfo","properties":null,"Timestamp":"2026-08-20T09:11:04Z"}"#,
            "DeviceInfo",
        ),
    ] {
        let became = streaming(record.as_bytes());
        assert_eq!(became.events[0].kind, Kind::Row, "{record}");
        assert_eq!(became.events[0].table, Table::Other(table.into()), "{record}");
        assert_eq!(became.issues(), [(Issue::UNKNOWN_TABLE, table)], "{record}");
    }
}

#[test]
fn another_tenant_in_the_envelope_wins_and_is_an_issue() {
    let foreign = record("m").replace(TENANT, "99999999-2222-3333-4444-555555555555");
    let became = streaming(foreign.as_bytes());
    assert_eq!(&*became.events[0].tenant, "99999999-2222-3333-4444-555555555555");
    assert_eq!(became.issues(), [(Issue::FOREIGN_TENANT, "tenantId")]);
    let unconfigured = Context { tenant: "".into(), ..context() };
    let became = run(&chunk(foreign.as_bytes(), Shape::Streaming), &unconfigured);
    assert_eq!(became.issues(), []);
    let capitals = Context { tenant: TENANT.to_uppercase().into(), ..context() };
    let became = run(&chunk(record("m").as_bytes(), Shape::Streaming), &capitals);
    assert_eq!(became.issues(), []);
    assert_eq!(became.events[0].id, streaming(record("m").as_bytes()).events[0].id);
}

#[test]
fn an_event_is_late_when_it_comes_later_than_its_source_normally_does() {
    let arrival = |ingested: &str, backfill| {
        let context = Context { ingested: Ticks::parse(ingested), backfill, ..context() };
        run(&chunk(record("m").as_bytes(), Shape::Streaming), &context).events[0].arrival
    };
    assert_eq!(arrival("2026-08-20T09:43:32.3832981Z", false), Some(Arrival::Live));
    assert_eq!(arrival("2026-08-20T09:43:32.3832982Z", false), Some(Arrival::Late));
    assert_eq!(arrival("2026-08-20T09:20:00Z", true), Some(Arrival::Backfill));
    assert_eq!(arrival("1601-01-01T00:00:00Z", false), Some(Arrival::Live));
    assert_eq!(arrival("no time at all", false), None);
}

#[test]
fn a_record_over_the_cap_keeps_its_first_bytes_its_length_and_its_hash() {
    let big = record(&"m".repeat(10_000));
    let context = Context { size_cap: 5_000, ..context() };
    let bytes = message_of(&[&record("a"), &big, &record("b")]);
    let became = run(&chunk(&bytes, Shape::Streaming), &context);
    assert_eq!(became.messages(), ["a", "b"]);
    let letter = &became.letters[0];
    assert_eq!(letter.reason, DeadLetterReason::OverSizeCap);
    assert_eq!((letter.bytes.len(), letter.length), (4096, big.len() as u64));
    assert_eq!(letter.hash, *blake3::hash(big.as_bytes()).as_bytes());
}

/// Fault matrix: G3.
#[test]
fn a_panic_while_reading_costs_one_record() {
    let bytes = message_of(&[&record("a"), &record(PANICS), &record("b")]);
    let became = streaming(&bytes);
    assert_eq!(became.messages(), ["a", "b"]);
    assert_eq!(became.reasons(), [DeadLetterReason::ParserPanic]);
    assert_eq!(became.letters[0].bytes, record(PANICS).into_bytes());
}

#[test]
fn the_same_poison_fetched_twice_is_one_dead_letter_and_two_in_one_message_are_two() {
    let bytes = message_of(&["{\"category\":tru}", &record("a"), "{\"category\":tru}"]);
    let (once, again) = (streaming(&bytes), streaming(&bytes));
    assert_eq!(once.letters, again.letters);
    assert_eq!(once.letters.len(), 2);
    assert_ne!(once.letters[0].id, once.letters[1].id);
    assert_eq!(&*once.letters[0].position, "mail[3]@17+12");
}

#[test]
fn a_megabyte_of_poison_is_cut_in_time_that_grows_with_its_length_only() {
    for piece in [
        "{\"category\":tru},",
        "{\"a\":[,",
        "{\"a\":\"",
        "[{\"a\":",
        "{\"category\":\"x\",",
        "}{",
        "{,",
        "\"},{\"",
    ] {
        let bytes = format!("{{\"records\":[{}]}}", piece.repeat(1_000_000 / piece.len()));
        let start = std::time::Instant::now();
        let became = streaming(bytes.as_bytes());
        assert!(!became.letters.is_empty(), "{piece}");
        // A part of a second; looking at everything again for each piece would take many minutes.
        assert!(start.elapsed().as_secs() < 60, "{piece}");
    }
}

#[test]
fn bare_rows_are_events_of_the_table_that_was_named() {
    let row = br#"{"Timestamp":"2026-08-20T09:11:04Z","NetworkMessageId":"m-1","RecipientEmailAddress":"ADELE@contoso.example","ReportId":"r-1","ThreatTypes":"Phish","OriginalThreatTypes":null}"#;
    let became = run(&chunk(row, Shape::Row(Table::EmailEvents)), &context());
    assert_eq!(became.events[0].row_bytes(), row);
    assert_eq!(became.firsts, [false]);
    assert_eq!(became.events[0].id, streaming(record("m-1").as_bytes()).events[0].id);
    assert_eq!(became.mails, streaming(record("m-1").as_bytes()).mails);
    for bad in [&b"[1]"[..], b"{} {}", b"{", b"\xff", b""] {
        let became = run(&chunk(bad, Shape::Row(Table::EmailEvents)), &context());
        assert_eq!(became.reasons(), [DeadLetterReason::NotJsonObject], "{bad:?}");
    }
}

#[test]
fn a_gap_is_an_event_with_an_id_of_its_own() {
    let gap = Gap {
        source: "hubs".into(),
        what: "mail[3]".into(),
        from: "17".into(),
        to: "99".into(),
        count: Some(82),
        cause: crate::domain::GapCause::RetentionPassed,
        detail: "the hub keeps 1 day".into(),
    };
    let event = gap_event(&gap, &context());
    assert_eq!((event.kind, event.raw.len()), (Kind::Gap, event.row.1 as usize));
    assert_eq!(serde_json::from_slice::<Gap>(event.row_bytes()).unwrap(), gap);
    let other = gap_event(&Gap { to: "98".into(), ..gap.clone() }, &context());
    assert_ne!(event.id, other.id);
    let counted_again = gap_event(&Gap { count: None, ..gap }, &context());
    assert_eq!(event.id, counted_again.id);
    let _: Arc<str> = event.source;
}

/// Fault matrix: H3.
#[test]
fn times_at_the_edges_are_read_or_flagged_and_the_row_stays_as_it_was() {
    let times = [
        ("1601-01-01T00:00:00Z", Some(true)),
        ("9999-12-31T23:59:59.9999999Z", Some(true)),
        ("2026-08-20T09:11:04", Some(true)),
        ("2026-08-20T09:11:04.123456789Z", Some(true)),
        ("2016-12-31T23:59:60Z", None),
        ("0000-00-00T00:00:00Z", Some(false)),
        ("10000-01-01T00:00:00Z", Some(false)),
        ("2026-13-41T25:61:61Z", Some(false)),
        ("-0001-01-01T00:00:00Z", Some(false)),
        ("yesterday", Some(false)),
    ];
    for (text, readable) in times {
        let row = format!(
            "{{\"Timestamp\":\"{text}\",\"NetworkMessageId\":\"m\",\"RecipientEmailAddress\":\"a@contoso.example\"}}"
        );
        let became = run(&chunk(row.as_bytes(), Shape::Row(Table::EmailEvents)), &context());
        let [event] = became.events.as_slice() else { panic!("{text}: {became:?}") };
        let flagged = event.issues.iter().any(|issue| issue.code == Issue::BAD_TIMESTAMP);
        assert_eq!(event.occurred.is_some(), !flagged, "{text}");
        if let Some(readable) = readable {
            assert_eq!(event.occurred.is_some(), readable, "{text}");
        }
        assert_eq!(event.raw.as_bytes(), row.as_bytes(), "{text}");
    }
}
