//! What is on disk stays readable: golden files of each format version, and the lists whose order is part of the format.

use super::bytes::Take;
use super::codec::{Block, Body, Encoder};
use super::tests::{NOW, event};
use super::view::decode;
use super::*;
use crate::domain::{
    Arrival, Certainty, DeadLetter, DeadLetterReason, Direction, Effect, EventId, Kind, Level,
    Outcome, Override, OverrideKind, Reason, Table, TicketRecord, TicketState, Verdict, Why,
};

/// A unit that uses every part of the record format.
fn full_unit() -> Unit {
    let mut rich = event(1);
    rich.table = Table::Other("DeviceInfo".into());
    rich.arrival = Some(Arrival::Late);
    rich.decision.verdict = Some(Verdict::HcPhish);
    rich.decision.latest_verdict = Some(Verdict::Clean);
    rich.decision.outcome = Some(Outcome::Delivered);
    rich.decision.tags.insert_user("vip");
    rich.decision.overrides.push(Override {
        level: Level::User,
        direction: Direction::Allow,
        kind: OverrideKind::UserSenderList,
        policy: "Safe sender".into(),
        effect: Effect::Unnecessary,
        why: Some(Why::BeatABlock),
        certainty: Some(Certainty::Low),
        primary: true,
    });
    rich.decision.reasons.push(Reason {
        tag: "override.allow".into(),
        rule: "2.1".into(),
        because: vec![("UserLevelAction".into(), "Allow".into())],
    });
    rich.issues.push(crate::domain::Issue::new("odd_type", "UrlCount"));
    Unit {
        events: vec![event(0), rich],
        mails_seen: vec![EventId([9; 16])],
        dead_letters: vec![DeadLetter {
            id: EventId([3; 16]),
            reason: DeadLetterReason::TooDeep,
            detail: "nested deeper than 64".into(),
            source: "hubs".into(),
            sink: "".into(),
            tenant: "contoso".into(),
            position: "email[0]@17".into(),
            at: NOW,
            length: 3,
            hash: [1; 32],
            bytes: b"[[[".to_vec(),
        }],
        dead_letters_resolved: vec![EventId([4; 16])],
        cursors: vec![("hubs/email/0".into(), "18".into())],
        tickets: vec![TicketRecord {
            sink: "tickets".into(),
            key: "contoso/phish/1".into(),
            state: TicketState::Open { reference: "INC-7".into() },
            attempts: 2,
            at: NOW,
        }],
    }
}

#[track_caller]
fn check_block(bytes: &[u8], expected: &Unit) {
    let mut rest = Take(bytes);
    let block = Block::take(&mut rest).unwrap();
    assert!(rest.0.is_empty());
    let events: Vec<_> = decode(&block).unwrap().iter().map(|event| (**event).clone()).collect();
    let body = block.body().unwrap();
    let effects = Body::parse(&body).unwrap().effects().unwrap();
    let found = Unit {
        events,
        mails_seen: effects.mails_seen,
        dead_letters: effects.dead_letters,
        dead_letters_resolved: effects.resolved,
        cursors: effects.cursors,
        tickets: effects.tickets,
    };
    assert_eq!(found, *expected);
}

#[test]
fn a_unit_comes_back_as_it_was_compressed_or_not() {
    for level in [0, 1] {
        let unit = full_unit();
        let encoded = Encoder::new(level).encode(unit.clone()).unwrap();
        check_block(&encoded.block, &unit);
    }
}

/// Fault matrix: J3. The golden block was written by record version 1 and never changes; if this fails, the format has
/// changed and needs a new version.
#[test]
fn the_golden_block_of_record_version_1_is_read_and_still_written() {
    let golden: &[u8] = include_bytes!("golden/record-1.bin");
    check_block(golden, &full_unit());
    assert_eq!(Encoder::new(0).encode(full_unit()).unwrap().block, golden);
}

#[test]
fn a_newer_record_version_is_refused_by_name() {
    let error = Body::parse(&[2, 0, 0]).unwrap_err();
    assert!(error.contains("version 2"), "{error}");
}

/// Values go by their place in these lists; they may only grow at the end.
#[test]
fn the_order_of_every_stored_list_is_as_it_was() {
    let words = |all: &[&str]| all.join(" ");
    let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(
        words(&kinds),
        "email email.url email.attachment email.post_delivery email.activity mail.state url.click submission \
         quarantine investigation alert alert.evidence incident gap row"
    );
    let list = |words: Vec<&str>| words.join(" ");
    assert_eq!(
        list(Verdict::ALL.iter().map(|word| word.as_str()).collect()),
        "clean malware hc_phish phish spam confounded"
    );
    assert_eq!(
        list(Outcome::ALL.iter().map(|word| word.as_str()).collect()),
        "delivered junk blocked unknown"
    );
    assert_eq!(list(Level::ALL.iter().map(|word| word.as_str()).collect()), "tenant user");
    assert_eq!(
        list(Direction::ALL.iter().map(|word| word.as_str()).collect()),
        "allow block unknown"
    );
    assert_eq!(
        list(OverrideKind::ALL.iter().map(|word| word.as_str()).collect()),
        "phish_simulation secops_mailbox third_party_filter tabl_url_and_file tabl_url tabl_file tabl_spoof \
         tabl_sender tabl_ip transport_rule ip_list antispam_sender_list antispam_domain_list user_sender_list \
         user_domain_list antispam_setting common_attachment_filter antispam_language antispam_region onprem_skip \
         quarantine_release admin_time_travel dlp user_exclusive user_contacts user_safe_recipient \
         user_safe_recipient_domain unspecified other"
    );
    assert_eq!(
        list(Effect::ALL.iter().map(|word| word.as_str()).collect()),
        "effective ineffective expected unnecessary late_conviction post_delivery not_evaluated unknown"
    );
    assert_eq!(
        list(Why::ALL.iter().map(|word| word.as_str()).collect()),
        "secure_by_default other_control tenant_block_wins user_block_wins user_allow_wins tenant_allow_wins \
         junked_anyway not_honoured beat_a_block not_final"
    );
    assert_eq!(list(Certainty::ALL.iter().map(|word| word.as_str()).collect()), "high medium low");
    assert_eq!(list(Arrival::ALL.iter().map(|word| word.as_str()).collect()), "live late backfill");
    assert_eq!(
        list(DeadLetterReason::ALL.iter().map(|word| word.as_str()).collect()),
        "not_json_object over_size_cap too_deep parser_panic sink_rejected sink_oversize"
    );
}
