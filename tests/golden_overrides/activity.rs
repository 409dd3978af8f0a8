//! Mail records of the Management Activity API: the worked examples, and what records beyond them say.

use postern::domain::Kind;

use super::*;

const EXAMPLES: &str = include_str!("../fixtures/activity_overrides.jsonl");

fn examples() -> Vec<Value> {
    EXAMPLES.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Normalizes and tags one audit record.
fn record_of(record: &Value) -> Event {
    let mut events = events_of(Shape::Activity, record.to_string().as_bytes());
    assert_eq!(events.len(), 1, "{record}");
    events.remove(0)
}

/// Normalizes and tags what `shape` holds.
pub fn events_of(shape: Shape, bytes: &[u8]) -> Vec<Event> {
    let chunk = Chunk {
        raw: Raw::new(bytes),
        shape,
        position: Position::None,
        observed: None,
        backfill: false,
    };
    let mut events = Vec::new();
    each(&chunk, &context(), &mut |normalized| {
        if let Normalized::Event { mut event, row, .. } = normalized {
            event.decision = tagging::decide(&event, row);
            events.push(event);
        }
    });
    events
}

/// The record of an example with some fields changed.
fn changed(id: &str, change: &Value) -> Value {
    let examples = examples();
    let mut record = examples.iter().find(|it| it["id"] == id).unwrap()["in"].clone();
    for (name, value) in change.as_object().unwrap() {
        record[name] = value.clone();
    }
    record
}

#[track_caller]
fn check(id: &str, change: &Value, tags: &[&str]) -> Decision {
    let event = record_of(&changed(id, change));
    assert_eq!(words(&event.decision), tags, "{id} with {change}");
    assert_eq!(event.decision.reasons.len(), tags.len());
    event.decision
}

const HARMFUL: [&str; 3] = ["allowed.hc_phish", "override.allow", "override.harmful"];

#[test]
fn every_worked_example_of_the_audit_log_gives_its_tags_and_its_reasons() {
    let examples = examples();
    assert_eq!(examples.len(), 9);
    for example in &examples {
        let event = record_of(&example["in"]);
        assert_eq!(event.kind, Kind::EmailActivity);
        check_example(example, &event.decision);
        for reason in &event.decision.reasons {
            assert!(event.decision.tags.contains_word(&reason.tag) && !reason.because.is_empty());
        }
    }
}

#[test]
fn the_final_override_is_the_primary_one() {
    let seventh = check("M7", &json!({}), &HARMFUL);
    assert!(!seventh.overrides[0].primary && seventh.overrides[1].primary);
    let because: Vec<_> = seventh.reasons[1].because.iter().map(|(name, _)| &**name).collect();
    assert!(because.contains(&"SystemOverrides[1].Details"), "{because:?}");
}

#[test]
fn overrides_come_as_an_array_as_text_and_in_any_spelling() {
    let rule =
        json!({"details": "ETR", "SOURCE": "tenant", "result": "ALLOW", "finalOverride": "1"});
    for overrides in [json!([rule]), json!(json!([rule]).to_string())] {
        let decision = check("M6", &json!({"SystemOverrides": overrides}), &HARMFUL);
        assert_eq!(decision.overrides[0].level, Level::Tenant);
    }
    for none in [json!(null), json!(""), json!("[]"), json!([]), json!([{}]), json!({}), json!("x")]
    {
        let decision =
            check("M6", &json!({"SystemOverrides": none}), &["no_override.delivered.hc_phish"]);
        assert!(decision.overrides.is_empty());
    }
}

#[test]
fn where_no_override_was_final_the_filter_decided() {
    let overrides = |finals: [Value; 2]| {
        let [first, second] = finals;
        json!({"SystemOverrides": [
            {"Details": "Connection policy", "Source": "Tenant", "Result": "Allow", "FinalOverride": first},
            {"Details": "ETR", "Source": "Tenant", "Result": "Allow", "FinalOverride": second},
        ]})
    };
    let decision = check("M6", &overrides([json!("No"), json!(null)]), &["override.allow"]);
    assert!(decision.overrides.iter().all(|it| it.effect == Effect::Ineffective));
    let told = check("M6", &overrides([json!("No"), json!("Yes")]), &HARMFUL);
    assert_eq!(told.overrides[1].effect, Effect::Effective);
    // Where the record does not say it of any, the outcome does.
    check("M6", &overrides([json!(null), json!(null)]), &HARMFUL);
}

#[test]
fn unknown_confidence_is_never_high() {
    for level in [json!(null), json!("Normal"), json!("Medium"), json!("Highest"), json!(7)] {
        let tags = ["allowed.phish", "override.allow", "override.harmful"];
        check("M6", &json!({"PhishConfidenceLevel": level}), &tags);
    }
}

#[test]
fn a_detection_after_delivery_is_a_late_conviction() {
    for word in ["Delayed", "ZAP", "zap"] {
        let change = json!({"DetectionType": word});
        let tags = ["late_conviction_under_override", "override.allow"];
        let decision = check("M6", &change, &tags);
        assert_eq!(decision.overrides[0].effect, Effect::LateConviction);
        check("M3", &change, &["late_conviction"]);
    }
}

#[test]
fn clean_mail_is_not_reported_so_nothing_is_ever_unnecessary() {
    for verdict in [json!(""), json!(null), json!("Good")] {
        let tags = ["override.allow", "override.effect_unknown"];
        check("M6", &json!({"Verdict": verdict}), &tags);
    }
    let inferred = json!({"Verdict": "", "ThreatsAndDetectionTech": ["Phish: [Spoof DMARC]"]});
    let decision = check("M6", &inferred, &HARMFUL);
    assert!(decision.flags.contains(Flag::VerdictInferred));
}

#[test]
fn what_was_done_after_delivery_is_a_second_fact() {
    let results =
        |text: &str| json!({"AdditionalActionsAndResults": ["OriginalDelivery: [N/A]", text]});
    let zapped = results("Zap: [Success: Message moved to quarantine]");
    check("M3", &zapped, &["no_override.delivered.phish", "remediated.zap"]);
    let failed = results("Zap: [Failure: Message not found]");
    check("M3", &failed, &["no_override.delivered.phish", "zap_failed"]);
    let mut tags = HARMFUL.to_vec();
    tags.extend(["override_may_block_zap", "zap_failed"]);
    check("M6", &failed, &tags);
    let admin = results("ManualRemediation: [Success]");
    check("M3", &admin, &["no_override.delivered.phish", "remediated.admin"]);
}

#[test]
fn outgoing_mail_is_not_judged() {
    let decision = check("M6", &json!({"Directionality": "Outbound"}), &["override.allow"]);
    assert_eq!(decision.overrides[0].effect, Effect::NotEvaluated);
}

#[test]
fn an_alert_of_the_audit_log_is_known_by_its_name() {
    let alert = |name: &str, data: &str| {
        let record = json!({"Id": "a", "RecordType": 40, "Operation": "AlertTriggered", "Name": name, "Data": data});
        words(&record_of(&record).decision).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let title = "Phish delivered due to an ETR override\u{200b}";
    for data in ["", "not JSON", "{\"an\":\"x\",\"fvs\":\"Filters\"}"] {
        assert_eq!(alert(title, data), ["allowed.hc_phish", "override.allow"], "{data}");
    }
    let kept_out = "{\"ttr\":\"Success_MessageQuarantined\"}";
    assert_eq!(alert(title, kept_out), ["override.allow"]);
    assert_eq!(alert("User requested to release a quarantined message", ""), ["release_requested"]);
    assert!(alert("Phish delivered due to an ETR override in Fabrikam", "").is_empty());
}

#[test]
fn graph_alerts_and_incidents_tell_by_whole_title_unless_all_evidence_was_kept_out() {
    let tags = |shape: Shape, record: &Value| {
        let events = events_of(shape, record.to_string().as_bytes());
        events
            .iter()
            .map(|event| words(&event.decision).into_iter().map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    let let_in = vec!["allowed.hc_phish".to_owned(), "override.allow".to_owned()];
    let kept_out = vec!["override.allow".to_owned()];
    let alert = |location: &str| {
        json!({"id": "fa1", "title": "Phish delivered due to an IP allow policy", "evidence": [
            {"@odata.type": "#microsoft.graph.security.mailboxEvidence", "verdict": "unknown"},
            {"@odata.type": "#microsoft.graph.security.analyzedMessageEvidence", "deliveryLocation": location},
        ]})
    };
    assert_eq!(tags(Shape::Alerts, &alert("inbox")), std::slice::from_ref(&let_in));
    assert_eq!(tags(Shape::Alerts, &alert("quarantine")), std::slice::from_ref(&kept_out));
    let incident = |location: &str| {
        json!({"id": "1", "displayName": "Phish delivered due to an IP allow policy involving one user",
            "alerts": [alert(location)]})
    };
    let both = Shape::Incidents { alerts: true };
    assert_eq!(tags(both.clone(), &incident("inbox")), [let_in.clone(), let_in.clone()]);
    assert_eq!(tags(both, &incident("quarantine")), [kept_out.clone(), kept_out.clone()]);
    let older = json!({"value": [{"incidentId": 7, "incidentName": "Phish delivered due to an ETR override",
        "alerts": [{"alertId": "a", "title": "Phish delivered due to an ETR override",
            "entities": [{"entityType": "MailMessage", "deliveryAction": "Blocked"}]}]}]});
    assert_eq!(tags(Shape::Incidents { alerts: true }, &older), [kept_out.clone(), kept_out]);
}

/// Names that mean something in one of the records, and some that do not.
const NAMES: &[&str] = &[
    "Id",
    "id",
    "RecordType",
    "Operation",
    "CreationTime",
    "OrganizationId",
    "SystemOverrides",
    "Verdict",
    "PhishConfidenceLevel",
    "DetectionType",
    "DeliveryAction",
    "OriginalDeliveryLocation",
    "Directionality",
    "Recipients",
    "ThreatsAndDetectionTech",
    "AdditionalActionsAndResults",
    "AttachmentData",
    "AuthDetails",
    "P1Sender",
    "P2Sender",
    "SenderIp",
    "Policy",
    "Subject",
    "NetworkMessageId",
    "UrlClickAction",
    "AppName",
    "SourceId",
    "TimeOfClick",
    "Url",
    "Name",
    "Data",
    "AlertId",
    "Status",
    "Actions",
    "RequestType",
    "ResultStatus",
    "ReleaseTo",
    "SubmissionId",
    "SubmissionState",
    "ExtendedProperties",
    "title",
    "evidence",
    "displayName",
    "alerts",
    "tenantId",
    "createdDateTime",
    "lastUpdateDateTime",
    "redirectIncidentId",
    "message_id",
    "reporter",
    "reported_at",
    "category",
    "error",
    "value",
    "results",
    "Timestamp",
    "OrgLevelAction",
    "IngestionTime",
    "Odd \"name\"\u{1}",
];

fn any_value() -> impl Strategy<Value = Value> {
    let texts = proptest::sample::select(vec![
        "",
        " ",
        "28",
        "40",
        "41",
        "65",
        "TIMailData",
        "UserSubmission",
        "Phish",
        "High",
        "Delivered",
        "Inbox",
        "Quarantine",
        "Inbound",
        "[{\"Result\":\"Allow\",\"Source\":\"User\"}]",
        "{\"ttr\":\"Blocked\"}",
        "{",
        "[a@b.c]",
        "Zap: [Success]",
        "Zap: [",
        ":",
        "[[[[",
        "2026-08-20T09:11:04",
        "a@contoso.example",
        "ü\u{1f600}\u{0}",
        "Phish delivered due to an ETR override",
        "Yes",
        "Allow",
        "4",
        "Remediated",
    ]);
    let scalar = prop_oneof![
        6 => texts.prop_map(Value::from),
        2 => proptest::sample::select(vec![28_i64, 29, 40, 41, 64, 65, 86, 1, -1, i64::MAX]).prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => ".{0,8}".prop_map(Value::from),
    ];
    let members = proptest::sample::select(vec![
        "Details",
        "Source",
        "Result",
        "FinalOverride",
        "Name",
        "Value",
        "deliveryLocation",
        "ActionType",
        "ActionStatus",
        "id",
        "title",
        "evidence",
    ]);
    scalar.prop_recursive(3, 16, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((members.clone(), inner), 0..4).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

fn shapes() -> [Shape; 8] {
    [
        Shape::Activity,
        Shape::Alerts,
        Shape::Incidents { alerts: true },
        Shape::Incidents { alerts: false },
        Shape::Submissions,
        Shape::Hunting(Table::EmailEvents),
        Shape::RowLines(Table::AlertEvidence),
        Shape::Streaming,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the record, nothing panics, every tag has a reason, and every line is JSON.
    #[test]
    fn any_record_is_tagged_with_reasons_and_rendered(
        fields in proptest::collection::vec((proptest::sample::select(NAMES), any_value()), 0..12),
    ) {
        let record = Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
        let text = record.to_string();
        for shape in shapes() {
            for body in [text.clone(), format!("[{text}]"), format!("{{\"value\":[{text}]}}")] {
                for event in events_of(shape.clone(), body.as_bytes()) {
                    prop_assert_eq!(event.decision.reasons.len(), event.decision.tags.len());
                    prop_assert!(event.decision.reasons.iter().all(|it| !it.because.is_empty()));
                    let mut text = String::new();
                    tagging::explain(&event, &mut text);
                    for format in postern::render::Format::ALL {
                        let mut out = Vec::new();
                        postern::render::render(format, &event, &mut out);
                        prop_assert!(serde_json::from_slice::<Value>(&out).is_ok());
                    }
                }
            }
        }
    }

    /// Any bytes: cut, broken, binary. Something is said of all of them, and nothing panics.
    #[test]
    fn any_bytes_become_events_or_dead_letters(
        tokens in proptest::collection::vec(proptest::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"value\":", "\"results\":", "\"Id\":", "\"a\"", "1", "null", "\"", "\\",
            "\n", "{\"Id\":\"1\"}", "\u{fffd}", "\"alerts\":[", "{}",
        ]), 1..14),
        tail in proptest::collection::vec(any::<u8>(), 0..3),
    ) {
        let mut bytes = tokens.concat().into_bytes();
        bytes.extend(tail);
        for shape in shapes() {
            let lines = matches!(shape, Shape::Submissions | Shape::RowLines(_) | Shape::Streaming);
            let chunk = Chunk {
                raw: Raw::new(&bytes), shape: shape.clone(), position: Position::None, observed: None, backfill: false,
            };
            let mut said = 0;
            each(&chunk, &context(), &mut |_| said += 1);
            let is_json = serde_json::from_slice::<Value>(&bytes).is_ok();
            prop_assert!(said > 0 || is_json || lines, "{:?} of {:?}", shape, bytes);
        }
    }
}
