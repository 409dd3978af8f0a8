//! The interpreter against a small mailbox: a golden file of queries and answers, refusals with their places, and
//! properties that hold for any text.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{KqlErrorKind, Limits, Tables, Type, Window, run, run_within};
use crate::domain::Ticks;

const NOW: &str = "2026-08-20T12:00:00Z";

fn time(text: &str) -> Ticks {
    Ticks::parse(text).unwrap()
}

fn mailbox() -> Tables {
    let mut tables = Tables::of_mail();
    let mails = json!([
        {"Timestamp": "2026-08-20T09:00:00Z", "NetworkMessageId": "m1", "RecipientEmailAddress": "Ada@contoso.example",
         "SenderFromDomain": "fabrikam.example", "SenderFromAddress": "news@fabrikam.example", "Subject": "Your invoice 4711",
         "EmailDirection": "Inbound", "ThreatTypes": "Phish", "ConfidenceLevel": "{\"Phish\":\"High\",\"Spam\":\"-1\"}",
         "DetectionMethods": "{\"Phish\":[\"URL malicious reputation\",\"Advanced filter\"]}",
         "OrgLevelAction": "Allow", "OrgLevelPolicy": "Exchange transport rule", "DeliveryAction": "Delivered",
         "DeliveryLocation": "Inbox/folder", "AttachmentCount": 1, "EmailSize": 5000, "IsFirstContact": true,
         "AuthenticationDetails": "{\"SPF\":\"fail\",\"DMARC\":\"fail\"}", "ReportId": "m1-1", "To": ["ada@contoso.example", "x@contoso.example"]},
        {"Timestamp": "2026-08-20T09:30:00.5Z", "NetworkMessageId": "m1", "RecipientEmailAddress": "ben@contoso.example",
         "SenderFromDomain": "fabrikam.example", "SenderFromAddress": "news@fabrikam.example", "Subject": "Your invoice 4711",
         "EmailDirection": "Inbound", "ThreatTypes": "Phish", "ConfidenceLevel": "{\"Phish\":\"Normal\"}", "DetectionMethods": null,
         "UserLevelAction": "Allow", "UserLevelPolicy": "Sender address list (Safe sender)", "DeliveryAction": "Delivered",
         "DeliveryLocation": "Inbox/folder", "AttachmentCount": 1, "EmailSize": 5000, "IsFirstContact": false,
         "AuthenticationDetails": "{\"SPF\":\"pass\"}", "ReportId": "m1-2"},
        {"Timestamp": "2026-08-19T23:10:00Z", "NetworkMessageId": "m2", "RecipientEmailAddress": "ada@contoso.example",
         "SenderFromDomain": "tailspin.example", "SenderFromAddress": "offer@tailspin.example", "Subject": "Offer of the week",
         "EmailDirection": "Inbound", "ThreatTypes": "Spam", "ConfidenceLevel": "{\"Spam\":\"9\"}", "OrgLevelAction": "Block",
         "OrgLevelPolicy": "Sender domain list", "DeliveryAction": "Junked", "DeliveryLocation": "Junk folder",
         "AttachmentCount": 0, "BulkComplaintLevel": 7, "EmailSize": 900, "ReportId": "m2-1"},
        {"Timestamp": "2026-07-01T00:00:00Z", "NetworkMessageId": "old", "RecipientEmailAddress": "ada@contoso.example", "ReportId": "old-1"},
    ]);
    let after = json!([
        {"Timestamp": "2026-08-20T10:00:00Z", "NetworkMessageId": "m1", "RecipientEmailAddress": "ada@contoso.example",
         "ActionType": "Phish ZAP", "Action": "Moved to quarantine", "ActionResult": "Success", "ReportId": "m1-1"},
    ]);
    let urls = json!([
        {"Timestamp": "2026-08-20T09:00:00Z", "NetworkMessageId": "m1", "Url": "https://pay.fabrikam.example/a?b=c",
         "UrlDomain": "pay.fabrikam.example", "UrlLocation": "Body", "ReportId": "m1-9"},
        {"Timestamp": "2026-08-20T09:00:00Z", "NetworkMessageId": "m3", "Url": "https://tailspin.example/",
         "UrlDomain": "tailspin.example", "UrlLocation": "Body", "ReportId": "m3-9"},
    ]);
    for (name, rows) in
        [("EmailEvents", mails), ("EmailPostDeliveryEvents", after), ("EmailUrlInfo", urls)]
    {
        let table = tables.get_mut(name).unwrap();
        for row in rows.as_array().unwrap() {
            let at = time(row["Timestamp"].as_str().unwrap()).plus_seconds(120);
            table.push(row.as_object().unwrap(), Some(at));
        }
    }
    tables
}

fn asked(query: &str) -> Result<super::Answer, super::KqlError> {
    run(&mailbox(), query, Window::default_at(time(NOW)), time(NOW))
}

fn shown(query: &str) -> String {
    let mut text = String::new();
    match asked(query) {
        Ok(answer) => {
            let schema: Vec<String> = answer
                .schema
                .iter()
                .map(|(name, ty)| format!("{name}:{}", ty.graph_word()))
                .collect();
            writeln!(text, "{}", schema.join(" ")).unwrap();
            for row in answer.rows {
                writeln!(text, "{}", Json::Array(row)).unwrap();
            }
        }
        Err(error) => writeln!(text, "400 {error}").unwrap(),
    }
    text
}

/// `UPDATE_GOLDEN=1` writes the answers anew; then every changed line wants a look.
#[test]
fn every_query_of_the_golden_file_has_its_answer() {
    let golden = include_str!("golden.txt");
    let mut written = String::new();
    for block in golden.split("\n====\n").map(str::trim).filter(|block| !block.is_empty()) {
        let query = block.split("\n----\n").next().unwrap().trim_end();
        write!(written, "{query}\n----\n{}====\n", shown(query)).unwrap();
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/simulator/kql/golden.txt");
        std::fs::write(path, &written).unwrap();
        return;
    }
    for (expected, found) in golden.split("\n====\n").zip(written.split("\n====\n")) {
        assert_eq!(expected, found);
    }
}

#[track_caller]
fn refused(query: &str, line: usize, column: usize, part: &str) {
    let error = asked(query).unwrap_err();
    assert!(error.message.contains(part), "{error}");
    assert_eq!(
        (error.line, error.column, error.kind),
        (line, column, KqlErrorKind::Bad),
        "{error}"
    );
}

#[test]
fn what_is_wrong_or_outside_the_subset_is_refused_with_its_place() {
    refused(
        "EmailEventz | where true",
        1,
        1,
        "'where' operator: Failed to resolve table or column expression named 'EmailEventz'",
    );
    refused(
        "EmailEventz",
        1,
        1,
        "Failed to resolve table or column expression named 'EmailEventz'. Fix semantic errors in your query.",
    );
    refused(
        "EmailEvents\n| where Nope == 1",
        2,
        9,
        "'where' operator: Failed to resolve table or column expression named 'Nope'",
    );
    refused("EmailEvents | project Subject | where ReportId == ''", 1, 39, "named 'ReportId'");
    refused("EmailEvents | where timestamp > ago(1d)", 1, 21, "named 'timestamp'");
    refused("EmailEvents | where Subject matches regex 'a'", 1, 29, "matches regex");
    refused("EmailEvents | evaluate bag_unpack(x)", 1, 15, "'evaluate'");
    refused("EmailEvents | parse Subject with a", 1, 15, "'parse'");
    refused(
        "EmailEvents | extend x = extract('a', 1, Subject)",
        1,
        26,
        "Unknown function: 'extract'",
    );
    refused("search 'x'", 1, 1, "'search'");
    refused("let f = (a:int) { a }; print 1", 1, 9, "function");
    refused(
        "EmailEvents | where Subject == 5",
        1,
        29,
        "Cannot compare values of types string and long",
    );
    refused("EmailEvents | where Timestamp > '2026'", 1, 31, "datetime and string");
    refused("EmailEvents | where Subject", 1, 21, "A bool is wanted");
    refused("EmailEvents | extend x = Subject.a", 1, 33, "no members");
    refused("EmailEvents | extend x = Subject + 1", 1, 34, "Arithmetic");
    refused("EmailEvents | summarize count() by To", 1, 36, "'dynamic'");
    refused("EmailEvents | where count() > 1", 1, 21, "cannot stand here");
    refused("EmailEvents | summarize Subject", 1, 25, "inside an aggregate");
    refused(
        "EmailEvents | join kind=fullouter (EmailUrlInfo) on NetworkMessageId",
        1,
        25,
        "kind=fullouter",
    );
    refused("EmailEvents | where Subject == 'open", 1, 32, "never closed");
    refused("EmailEvents | where (Subject == 'x'", 1, 36, "expected ')'");
    refused("EmailEvents | ", 1, 15, "expected an operator");
    refused("EmailEvents EmailEvents", 1, 13, "expected the end");
    refused("EmailEvents | where Timestamp > datetime(08/20/2026)", 1, 33, "not a valid literal");
    refused("let x = 1", 1, 10, "expected ';'");
    refused("EmailEvents | where ä == 1 and ö == 2", 1, 21, "named 'ä'");
    refused("", 1, 1, "expected a table");
}

#[test]
fn a_row_outside_the_timespan_is_not_seen_whatever_the_query_says() {
    let ask = |timespan: &str| {
        let window = Window::parse(timespan, time(NOW)).unwrap();
        let answer =
            run(&mailbox(), "EmailEvents | where Timestamp > ago(365d) | count", window, time(NOW));
        answer.unwrap().rows[0][0].clone()
    };
    assert_eq!(ask("P30D"), 3);
    assert_eq!(ask("P90D"), 4);
    assert_eq!(ask("2026-08-20T09:00:00Z/2026-08-20T09:30:00Z"), 1);
    assert_eq!(ask("PT3H30M/2026-08-20T12:00:00Z"), 2);
    assert_eq!(ask("2026-08-19T23:00:00Z/PT1H"), 1);
    assert_eq!(ask("2026-08-20"), 2);
    assert_eq!(Window::parse("yesterday", time(NOW)), None);
    assert_eq!(Window::parse("P1D/P1D", time(NOW)), None);
}

#[test]
fn rows_past_the_limit_are_cut_silently_and_bytes_past_it_are_refused() {
    let ask = |limits: &Limits| {
        run_within(&mailbox(), "EmailEvents", Window::default_at(time(NOW)), time(NOW), limits)
    };
    assert_eq!(ask(&Limits { rows: 2, ..Limits::default() }).unwrap().rows.len(), 2);
    let error = ask(&Limits { bytes: 100, ..Limits::default() }).unwrap_err();
    assert_eq!(error.kind, KqlErrorKind::TooLarge);
    assert!(error.to_string().starts_with("Query execution has exceeded the allowed result size."));
    let error = ask(&Limits { work: 2, ..Limits::default() }).unwrap_err();
    assert_eq!(error.kind, KqlErrorKind::TooLarge);
}

#[test]
fn a_join_that_explodes_is_stopped() {
    let mut tables = mailbox();
    let table = tables.get_mut("EmailUrlInfo").unwrap();
    let row = json!({"Timestamp": "2026-08-20T09:00:00Z", "NetworkMessageId": "m1"});
    for _ in 0..10_000 {
        table.push(row.as_object().unwrap(), None);
    }
    let query = "EmailUrlInfo | join kind=inner EmailUrlInfo on NetworkMessageId | count";
    let limits = Limits { work: 1_000_000, ..Limits::default() };
    let error =
        run_within(&tables, query, Window::default_at(time(NOW)), time(NOW), &limits).unwrap_err();
    assert_eq!(error.kind, KqlErrorKind::TooLarge);
}

#[test]
fn hash_cuts_a_table_into_parts_that_make_the_whole() {
    let count = |part: i64| {
        let query = format!("EmailEvents | where hash(ReportId, 3) == {part} | count");
        asked(&query).unwrap().rows[0][0].as_i64().unwrap()
    };
    assert_eq!((0..3).map(count).sum::<i64>(), 3);
}

#[test]
fn both_bodies_are_json_with_the_columns_in_their_order() {
    let answer = asked("EmailEvents | take 1 | project Z = IsFirstContact, A = Timestamp").unwrap();
    let graph = String::from_utf8(answer.graph_body()).unwrap();
    assert!(graph.ends_with(
        r#""schema":[{"name":"Z","type":"SByte"},{"name":"A","type":"DateTime"}],"results":[{"Z":1,"A":"2026-08-20T09:00:00.0000000Z"}]}"#
    ), "{graph}");
    let legacy: Json = serde_json::from_slice(&answer.legacy_body()).unwrap();
    assert_eq!(legacy["Results"][0]["Z"], 1);
    assert_eq!(legacy["Schema"][1], json!({"Name": "A", "Type": "DateTime"}));
    assert_eq!(answer.schema[0].1, Type::Bool);
}

#[test]
fn depth_and_length_of_a_query_are_bounded() {
    let deep = |open: &str, close: &str, times: usize| {
        format!("EmailEvents | where {}true{}", open.repeat(times), close.repeat(times))
    };
    for query in [
        deep("(", ")", 100_000),
        deep("not(", ")", 100_000),
        deep("-", "", 100_000),
        format!("EmailEvents | extend x = 1{}", " + 1".repeat(100_000)),
        format!("EmailEvents | extend x = parse_json(''){}", ".a".repeat(100_000)),
        format!("{}EmailEvents{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("union {}", "(union ".repeat(100_000)),
        format!("let x = {}|", "(".repeat(100_000)),
    ] {
        assert_eq!(asked(&query).unwrap_err().kind, KqlErrorKind::Bad);
    }
    assert!(asked(&deep("(", ")", 20)).is_ok());
    let long = format!("EmailEvents | where Subject == ''{}", " or Subject == 'x'".repeat(5_000));
    assert!(asked(&long).is_ok());
}

const PIECES: [&str; 60] = [
    "EmailEvents",
    "EmailUrlInfo",
    "|",
    "where",
    "summarize",
    "by",
    "count()",
    "Timestamp",
    "Subject",
    "To",
    ">",
    "==",
    "has",
    "in",
    "(",
    ")",
    ",",
    "ago(1d)",
    "1",
    "'x'",
    "and",
    "or",
    "not",
    "extend",
    "=",
    "project",
    "join",
    "kind",
    "inner",
    "on",
    "NetworkMessageId",
    "union",
    "mv-expand",
    "order",
    "take",
    "top",
    "let",
    ";",
    "x",
    "arg_max",
    "*",
    "parse_json",
    "bin",
    "1h",
    "[",
    "]",
    ".",
    "-",
    "+",
    "/",
    "0",
    "between",
    "..",
    "make_set",
    "dcount",
    "iff",
    "datetime(2026-01-01)",
    "dynamic([1,'a'])",
    "9223372036854775807",
    "hash",
];

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,80}") {
        let _ = asked(&text);
    }

    #[test]
    fn no_order_of_its_own_words_makes_it_panic(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..30)) {
        let text = pieces.join(" ");
        if let Err(error) = asked(&text) {
            prop_assert!(error.line >= 1 && error.column >= 1);
        }
        let _ = asked(&format!("EmailEvents | {text}"));
        let _ = asked(&format!("EmailEvents | extend y = {text}"));
    }

    #[test]
    fn a_cut_of_a_good_query_never_panics(cut in 0_usize..400) {
        let query = "let a = ago(2d); let t = materialize(EmailEvents | where Timestamp > a); t | join kind=inner (EmailUrlInfo \
            | summarize n = count(), s = make_set(Url) by NetworkMessageId) on NetworkMessageId | mv-expand u = s to typeof(string) \
            | extend d = datetime(2026-08-20) - Timestamp | order by d asc nulls last | top 3 by n";
        if let Some(part) = query.get(..cut.min(query.len())) {
            let _ = asked(part);
        }
    }
}
