//! The `event_hubs` source against a real broker: what it promises about offsets, gaps and logins.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

#[path = "support/kafka.rs"]
mod kafka;

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern::cloud::kafka::Auth;
use postern::cloud::secret::Secret;
use postern::cloud::tenant::{TenantAccess, TenantConfig};
use postern::domain::{Chunk, Cursors, Failure, Gap, GapCause};
use postern::journal::{Clock, SystemClock};
use postern::pipeline::port::{AdapterError, Source as _};
use postern::source::event_hubs::{EventHubs, EventHubsConfig};

use kafka::Broker;

macro_rules! needs_kafka {
    ($test:literal) => {
        if kafka::left_out($test) {
            return;
        }
    };
}

/// A source with the cursors that a pipeline would hold.
struct Reading {
    source: EventHubs,
    cursors: Cursors,
    gaps: Vec<Gap>,
    backlog: u64,
    errors: Vec<String>,
}

impl Reading {
    fn of(config: EventHubsConfig) -> Self {
        Self::from(config, Cursors::new())
    }

    fn from(config: EventHubsConfig, cursors: Cursors) -> Self {
        let source = EventHubs::new("hubs", config, Arc::new(SystemClock::default())).unwrap();
        Self { source, cursors, gaps: Vec::new(), backlog: 0, errors: Vec::new() }
    }

    async fn poll(&mut self) -> Result<Vec<Chunk>, AdapterError> {
        let page = self.source.poll(&self.cursors).await?;
        self.cursors.extend(page.cursors);
        self.gaps.extend(page.gaps);
        self.backlog = page.backlog.unwrap();
        Ok(page.chunks)
    }

    /// Polls until `done` says so; retries are what they are for a pipeline.
    async fn until(&mut self, done: impl Fn(&Self, &[Chunk]) -> bool) -> Vec<Chunk> {
        let deadline = Instant::now() + kafka::PATIENCE;
        let mut chunks = Vec::new();
        while !done(self, &chunks) {
            assert!(
                Instant::now() < deadline,
                "{} messages, gaps {:?}, errors {:?}",
                chunks.len(),
                self.gaps,
                self.errors
            );
            match self.poll().await {
                Ok(more) => chunks.extend(more),
                Err(error) => {
                    assert!(matches!(error.failure, Failure::Retry(_)), "{error}");
                    self.errors.push(error.to_string());
                }
            }
        }
        chunks
    }

    async fn messages(&mut self, count: usize) -> Vec<String> {
        let chunks = self.until(|_, chunks| chunks.len() >= count).await;
        let texts: Vec<String> = texts(&chunks);
        assert_eq!(texts.len(), count, "{texts:?}");
        texts
    }

    /// What a pipeline that stops and starts again would go on with.
    fn restart(self, config: EventHubsConfig) -> Self {
        Self::from(config, self.cursors)
    }
}

fn texts(chunks: &[Chunk]) -> Vec<String> {
    let text = |chunk: &Chunk| String::from_utf8(chunk.raw.as_bytes().to_vec()).unwrap();
    chunks.iter().map(text).collect()
}

fn plain(broker: &Broker, hubs: &[&str]) -> EventHubsConfig {
    EventHubsConfig::plain(&broker.bootstrap(), hubs)
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{{\"records\":[],\"n\":{number}}}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_once_in_order_from_every_partition_and_restart_goes_on_behind_them() {
    needs_kafka!(
        "messages_come_once_in_order_from_every_partition_and_restart_goes_on_behind_them"
    );
    let broker = kafka::shared();
    broker.create_topic("order", 2, &[]);
    broker.produce("order", 0, &numbered(0..50));
    broker.produce("order", 1, &numbered(50..100));
    let mut reading = Reading::of(plain(broker, &["order"]));
    let mut first = reading.messages(100).await;
    first.sort_by_key(|text| text.len());
    let of = |range| numbered(range);
    let mut all = of(0..100);
    all.sort_by_key(|text| text.len());
    assert_eq!(
        {
            first.sort();
            first
        },
        {
            all.sort();
            all
        }
    );
    assert_eq!(reading.backlog, 0);
    let mut reading = reading.restart(plain(broker, &["order"]));
    broker.produce("order", 1, &numbered(100..103));
    assert_eq!(reading.messages(3).await, numbered(100..103));
    assert!(reading.gaps.is_empty(), "{:?}", reading.gaps);
    assert!(reading.cursors.keys().all(|key| key.starts_with("hubs/order/")));
}

// Reliability D2.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_before_it_was_read_is_a_gap_with_exact_ends() {
    needs_kafka!("what_was_deleted_before_it_was_read_is_a_gap_with_exact_ends");
    let broker = kafka::shared();
    broker.create_topic("retention", 1, &[]);
    broker.produce("retention", 0, &numbered(0..10));
    let mut reading = Reading::of(plain(broker, &["retention"]));
    reading.messages(10).await;
    broker.produce("retention", 0, &numbered(10..40));
    broker.delete_records("retention", 0, 25);
    let mut reading = reading.restart(plain(broker, &["retention"]));
    assert_eq!(reading.messages(15).await, numbered(25..40));
    let [gap] = &reading.gaps[..] else { panic!("{:?}", reading.gaps) };
    assert_eq!(gap.cause, GapCause::RetentionPassed);
    assert_eq!((&*gap.what, &*gap.from, &*gap.to), ("retention[0]", "10", "25"));
    assert_eq!(gap.count, Some(15));
}

// Reliability D2, while connected: the fetch is out of range, and nothing is reset silently.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_under_a_reader_that_fell_behind_is_a_gap_too() {
    needs_kafka!("what_is_deleted_under_a_reader_that_fell_behind_is_a_gap_too");
    let broker = kafka::shared();
    broker.create_topic("behind", 1, &[]);
    let big: Vec<String> = (0..60).map(|n| format!("{n:04}{}", "x".repeat(100_000))).collect();
    broker.produce("behind", 0, &big);
    let mut config = plain(broker, &["behind"]);
    (config.page_bytes, config.fetch_ahead_bytes) = (100_000, 1 << 20);
    let mut reading = Reading::of(config);
    let first = reading.until(|_, chunks| !chunks.is_empty()).await.len();
    broker.delete_records("behind", 0, 50);
    let rest = reading.until(|_, chunks| {
        chunks.last().is_some_and(|chunk| chunk.raw.as_bytes().starts_with(b"0059"))
    });
    let rest = rest.await;
    let [gap] = &reading.gaps[..] else { panic!("{:?}", reading.gaps) };
    let missing = usize::try_from(gap.count.unwrap()).unwrap();
    assert_eq!(&*gap.to, "50");
    assert!(missing > 0);
    assert_eq!(first + rest.len() + missing, 60);
}

// Reliability D3: the new log is shorter than our cursor, and then longer than it.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_created_anew_while_we_are_away_is_read_from_its_beginning() {
    needs_kafka!("a_topic_created_anew_while_we_are_away_is_read_from_its_beginning");
    let broker = kafka::shared();
    for (topic, new) in [("shorter", 3), ("longer", 20)] {
        broker.create_topic(topic, 1, &[]);
        broker.produce(topic, 0, &numbered(0..10));
        let mut reading = Reading::of(plain(broker, &[topic]));
        reading.messages(10).await;
        broker.delete_topic(topic);
        broker.create_topic(topic, 1, &[]);
        broker.produce(topic, 0, &numbered(100..100 + new));
        let mut reading = reading.restart(plain(broker, &[topic]));
        assert_eq!(reading.messages(new).await, numbered(100..100 + new), "{topic}");
        let [gap] = &reading.gaps[..] else { panic!("{topic}: {:?}", reading.gaps) };
        assert_eq!(gap.cause, GapCause::TopicRecreated);
        assert_eq!((&*gap.from, &*gap.to), ("10", "0 (log 2)"));
    }
}

// Reliability D3 on a cluster without topic ids, like Event Hubs: only the fingerprint can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_longer_new_log_is_noticed_by_its_messages_where_topics_have_no_ids() {
    needs_kafka!("a_longer_new_log_is_noticed_by_its_messages_where_topics_have_no_ids");
    let broker = kafka::shared();
    broker.create_topic("no-ids", 1, &[]);
    broker.produce("no-ids", 0, &numbered(0..10));
    let mut reading = Reading::of(plain(broker, &["no-ids"]));
    reading.messages(10).await;
    broker.delete_topic("no-ids");
    broker.create_topic("no-ids", 1, &[]);
    broker.produce("no-ids", 0, &numbered(100..120));
    for cursor in reading.cursors.values_mut() {
        let mut place: serde_json::Value = serde_json::from_str(cursor).unwrap();
        assert!(place.as_object_mut().unwrap().remove("topic_id").is_some(), "{cursor}");
        *cursor = place.to_string().into();
    }
    let mut reading = reading.restart(plain(broker, &["no-ids"]));
    assert_eq!(reading.messages(20).await, numbered(100..120));
    assert_eq!(reading.gaps[0].cause, GapCause::TopicRecreated);
    assert_eq!(reading.gaps.len(), 1);
}

// Reliability D3 while connected, and the new log is longer at once: librdkafka itself would go on at the old
// offset without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_created_anew_under_us_is_read_from_its_beginning() {
    needs_kafka!("a_topic_created_anew_under_us_is_read_from_its_beginning");
    let broker = kafka::shared();
    broker.create_topic("under-us", 1, &[]);
    broker.produce("under-us", 0, &numbered(0..5));
    let mut reading = Reading::of(plain(broker, &["under-us"]));
    reading.messages(5).await;
    broker.delete_topic("under-us");
    broker.create_topic("under-us", 1, &[]);
    broker.produce("under-us", 0, &numbered(100..150));
    assert_eq!(reading.messages(50).await, numbered(100..150));
    let [gap] = &reading.gaps[..] else { panic!("{:?}", reading.gaps) };
    assert_eq!(gap.cause, GapCause::TopicRecreated);
}

// Reliability D4.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_partition_is_read_from_its_beginning() {
    needs_kafka!("a_new_partition_is_read_from_its_beginning");
    let broker = kafka::shared();
    broker.create_topic("growing", 1, &[]);
    broker.produce("growing", 0, &numbered(0..3));
    let mut config = plain(broker, &["growing"]);
    config.start = postern::source::event_hubs::Start::Now;
    let mut reading = Reading::of(config.clone());
    // `now`: nothing of what was there before.
    reading.until(|reading, _| reading.cursors.len() == 1).await;
    broker.grow_topic("growing", 3);
    broker.produce("growing", 2, &numbered(3..6));
    broker.produce("growing", 0, &numbered(6..8));
    let mut reading = reading.restart(config);
    let mut texts = reading.messages(5).await;
    texts.sort();
    assert_eq!(texts, numbered(3..8));
    assert!(reading.gaps.is_empty());
}

// Reliability D5: duplicates are the dedup set's business; a source passes what is there.
#[tokio::test(flavor = "multi_thread")]
async fn equal_messages_are_passed_on_and_poison_does_not_hold_its_neighbors() {
    needs_kafka!("equal_messages_are_passed_on_and_poison_does_not_hold_its_neighbors");
    let broker = kafka::shared();
    broker.create_topic("poison", 1, &[("max.message.bytes", "8000000")]);
    // Reliability G1, G2: bad UTF-8, depth, an empty message, one far over the size cap.
    let deep = "[".repeat(100_000);
    let large = "x".repeat(5 << 20);
    let poison: [&[u8]; 7] =
        [b"{}", b"{}", b"\xff\xfe", deep.as_bytes(), b"", large.as_bytes(), b"{}"];
    broker.produce("poison", 0, &poison);
    let mut reading = Reading::of(plain(broker, &["poison"]));
    let chunks = reading.until(|_, chunks| chunks.len() >= 7).await;
    let lengths: Vec<usize> = chunks.iter().map(|chunk| chunk.raw.len()).collect();
    assert_eq!(lengths, poison.map(<[u8]>::len));
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_that_went_back_are_followed() {
    needs_kafka!("cursors_that_went_back_are_followed");
    let broker = kafka::shared();
    broker.create_topic("back", 1, &[]);
    broker.produce("back", 0, &numbered(0..4));
    let mut reading = Reading::of(plain(broker, &["back"]));
    reading.until(|reading, _| !reading.cursors.is_empty()).await;
    let kept = reading.cursors.clone();
    broker.produce("back", 0, &numbered(4..8));
    reading.until(|_, chunks| !chunks.is_empty()).await;
    reading.cursors = kept;
    let again = reading.until(|_, chunks| {
        chunks.last().is_some_and(|chunk| chunk.raw.as_bytes() == numbered(7..8)[0].as_bytes())
    });
    let again = texts(&again.await);
    assert!(numbered(0..8).ends_with(&again) && again.len() >= 4, "{again:?}");
}

fn secret(broker: &Broker, name: &str, text: &str) -> Secret {
    let path = broker.scratch().join(name);
    std::fs::write(&path, text).unwrap();
    Secret::File(path)
}

fn with_tls(broker: &Broker, hub: &str, auth: Auth) -> EventHubsConfig {
    let mut config = EventHubsConfig::plain(&broker.bootstrap_tls(), &[hub]);
    config.auth = auth;
    config.ca_file = Some(broker.ca_file());
    config
}

/// Carol's token without a signature: what this broker takes, until 2033.
fn token(expires: &str) -> String {
    // {"alg":"none"} . {"sub":"carol","iat":1700000000,"exp":…}
    let base64 = |text: &str| {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut out = String::new();
        for part in text.as_bytes().chunks(3) {
            let three = [part[0], *part.get(1).unwrap_or(&0), *part.get(2).unwrap_or(&0)];
            let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            for digit in 0..=part.len() {
                out.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            }
        }
        out
    };
    let claims = format!(r#"{{"sub":"carol","iat":1700000000,"exp":{expires}}}"#);
    format!("{}.{}.", base64(r#"{"alg":"none"}"#), base64(&claims))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_login_works_over_tls_with_a_private_authority() {
    needs_kafka!("every_login_works_over_tls_with_a_private_authority");
    let broker = kafka::shared();
    broker.create_topic("logins", 1, &[]);
    broker.produce("logins", 0, &numbered(0..2));
    let (user, word) = kafka::ALICE;
    let logins = [
        Auth::ConnectionString(secret(broker, "connection-string", kafka::CONNECTION_STRING)),
        Auth::Plain { user: user.to_owned(), password: secret(broker, "alice", word) },
        Auth::Token(secret(broker, "token", &token("2000000000"))),
    ];
    for login in logins {
        let mut reading = Reading::of(with_tls(broker, "logins", login.clone()));
        let told =
            reading.source.probe().await.unwrap_or_else(|error| panic!("{login:?}: {error}"));
        assert!(told.contains("hub logins with 1 partitions; a message was read"), "{told}");
        assert_eq!(reading.messages(2).await.len(), 2, "{login:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenants_own_credential_logs_in() {
    needs_kafka!("the_tenants_own_credential_logs_in");
    let broker = kafka::shared();
    broker.create_topic("tenants", 1, &[]);
    broker.produce("tenants", 0, &numbered(0..2));
    let config = with_tls(broker, "tenants", Auth::Tenant);
    let tenant: TenantConfig = serde_json::from_value(serde_json::json!({
        "id": "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a",
        "credential": { "token": { "file": broker.scratch().join("of-tenant") } },
    }))
    .unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let made = || {
        let access = TenantAccess::new(&tenant, Arc::clone(&clock)).unwrap();
        EventHubs::new("hubs", config.clone(), Arc::clone(&clock)).unwrap().with_tenant(access)
    };
    let error = made().probe().await.unwrap_err();
    assert_eq!(error.failure, Failure::Hold, "{error}");
    std::fs::write(broker.scratch().join("of-tenant"), token("2000000000")).unwrap();
    let mut reading = Reading { source: made(), ..Reading::of(plain(broker, &["tenants"])) };
    let told = reading.source.probe().await.unwrap();
    assert!(told.contains("a message was read"), "{told}");
    assert_eq!(reading.messages(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_must_put_right_is_held_with_a_sentence_that_says_what() {
    needs_kafka!("what_a_person_must_put_right_is_held_with_a_sentence_that_says_what");
    let broker = kafka::shared();
    broker.create_topic("refusals", 1, &[]);
    let alice = |word: &str| Auth::Plain {
        user: "alice".to_owned(),
        password: secret(broker, &format!("word-{word}"), word),
    };
    let mut wrong_authority = with_tls(broker, "refusals", alice(kafka::ALICE.1));
    wrong_authority.ca_file = Some(broker.wrong_ca_file());
    let system_authorities = EventHubsConfig { ca_file: None, ..wrong_authority.clone() };
    let mut wrong_name = with_tls(broker, "refusals", alice(kafka::ALICE.1));
    wrong_name.bootstrap = Some(broker.bootstrap_tls().replace("localhost", "127.0.0.1"));
    let bob = Auth::Plain {
        user: kafka::BOB.0.to_owned(),
        password: secret(broker, "bob", kafka::BOB.1),
    };
    let cases = [
        ("wrong password", with_tls(broker, "refusals", alice("wrong")), "connection string"),
        ("wrong authority", wrong_authority, "`ca_file`"),
        ("unknown authority", system_authorities, "`ca_file`"),
        ("wrong name", wrong_name, "name in the certificate"),
        ("no rights", with_tls(broker, "refusals", bob), "Azure Event Hubs Data Receiver"),
        ("no such hub", plain(broker, &["not-there"]), "there is no hub not-there"),
        (
            "expired token",
            with_tls(broker, "refusals", Auth::Token(secret(broker, "old", &token("1700000001")))),
            "token",
        ),
    ];
    for (case, config, says) in cases {
        let mut reading = Reading::of(config);
        let began = Instant::now();
        let error = reading.poll().await.unwrap_err();
        assert_eq!(error.failure, Failure::Hold, "{case}: {error}");
        assert!(error.message.contains(says), "{case}: {error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{case}: {:?}", began.elapsed());
        let error = reading.source.probe().await.unwrap_err();
        assert_eq!(error.failure, Failure::Hold, "{case}, probing: {error}");
    }
    assert!(!broker.topics().contains(&"not-there".to_owned()), "a topic was created by reading");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_port_is_retried_and_names_the_other_transport() {
    needs_kafka!("a_closed_port_is_retried_and_names_the_other_transport");
    let address = format!("127.0.0.1:{}", kafka::free_port());
    let mut reading = Reading::of(EventHubsConfig::plain(&address, &["any"]));
    let error = reading.source.probe().await.unwrap_err();
    assert!(matches!(error.failure, Failure::Retry(_)), "{error}");
    assert!(error.message.contains("9093") && error.message.contains("`storage`"), "{error}");
}
