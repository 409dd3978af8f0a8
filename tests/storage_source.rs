//! The `storage` source into a real journal, over restarts: against Azurite with somebody who appends as Azure Monitor
//! does, and against a small account that refuses, deletes and replaces at the worst moment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/azurite.rs"]
mod azurite;
#[path = "support/blob_account.rs"]
mod blob_account;
#[path = "support/intake.rs"]
mod intake;

use std::sync::Arc;

use azurite::Azurite;
use blob_account::{Account, Conduct};
use intake::{Held, Home, TENANT, lines};
use postern::cloud::secret::Secret;
use postern::cloud::tenant::{TenantAccess, TenantConfig};
use postern::domain::Ticks;
use postern::journal::{Clock as _, SystemClock};
use postern::pipeline::Source;
use postern::source::storage::{Storage, StorageAuth, StorageConfig};

const CONTAINER: &str = "insights-logs-advancedhunting-emailevents";

macro_rules! needs_azurite {
    ($test:literal) => {
        if azurite::left_out($test) {
            return;
        }
    };
}

struct Rig {
    home: Home,
    config: StorageConfig,
}

impl Rig {
    fn new(url: &str, secret: &str, auth: impl FnOnce(Secret) -> StorageAuth) -> Self {
        let home = Home::default();
        let file = home.path().join("secret");
        std::fs::write(&file, secret).unwrap();
        let config = StorageConfig {
            tables: vec!["EmailEvents".to_owned()],
            poll_seconds: 1,
            // Small, so that everything takes many pages.
            page_bytes: 20_000,
            ..StorageConfig::of(url, auth(Secret::File(file)))
        };
        Self { home, config }
    }

    fn azurite(azurite: &Azurite) -> Self {
        Self::new(&azurite.url, azurite::KEY, StorageAuth::AccountKey)
    }

    fn account(account: &Account) -> Self {
        Self::new(&account.url(), "?sv=2022-11-02&sig=canary", StorageAuth::SasUrl)
    }

    fn source(&self) -> Box<dyn Source> {
        let clock = Arc::new(SystemClock::default());
        let token = self.home.path().join("token");
        std::fs::write(&token, "canary-token").unwrap();
        let tenant =
            serde_json::json!({ "id": TENANT, "credential": { "token": { "file": token } } });
        let tenant: TenantConfig = serde_json::from_value(tenant).unwrap();
        let access = TenantAccess::new(&tenant, clock.clone()).unwrap();
        Box::new(Storage::new("store", self.config.clone(), &access, clock).unwrap())
    }

    async fn until(&self, done: impl FnMut(&Held) -> bool) -> Held {
        self.home.live(|| self.source(), done).await
    }

    async fn until_count(&self, count: usize) -> Held {
        self.until(|held| held.events.len() >= count).await
    }
}

/// The blob of an hour of a day.
fn hour(day: &str, hour: u32) -> String {
    let (year, rest) = day.split_once('-').unwrap();
    let (month, day) = rest.split_once('-').unwrap();
    format!("{CONTAINER}/tenantId={TENANT}/y={year}/m={month}/d={day}/h={hour:02}/m=00/PT1H.json")
}

/// A day so many days before today.
fn ago(days: i64) -> String {
    let now: Ticks = SystemClock::default().now();
    now.plus_seconds(-days * 86_400).to_string()[..10].to_owned()
}

/// The day on which the small account lives.
const ITS_DAY: &str = "2026-08-20";

/// Fault matrix: E1. Field lesson 60: an hourly append blob that was read once lost the rest of its hour.
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_that_grows_is_read_on_and_half_a_line_waits_for_its_end() {
    needs_azurite!("an_hour_that_grows");
    let azurite = Azurite::start();
    let rig = Rig::azurite(&azurite);
    let blob = hour(&ago(0), 3);
    azurite.make_container(CONTAINER).await;
    azurite.make(&blob).await;
    azurite.append(&blob, lines(0..50)).await;
    rig.until_count(50).await.is_complete(50);
    let half = lines(50..51);
    azurite.append(&blob, &half[..half.len() / 2]).await;
    azurite.append(&hour(&ago(0), 3), &half[half.len() / 2..half.len() - 1]).await;
    let other = hour(&ago(0), 4);
    azurite.make(&other).await;
    azurite.append(&other, lines(51..60)).await;
    // The line is all there but its line feed.
    let held = rig.until_count(59).await;
    assert!(!held.messages().contains_key(&intake::message(50)));
    assert!(held.dead.is_empty());
    let more = format!("\n{}", lines(60..80));
    azurite.append(&blob, more).await;
    let held = rig.until_count(80).await;
    held.is_complete(80);
    assert!(held.dead.is_empty() && held.gaps().is_empty());
    // What had been read was not read again.
    assert!(
        held.metrics.contains("postern_source_records_received_total{source=\"store\"} 21\n"),
        "{}",
        held.metrics
    );
}

/// Fault matrix: E1. Many megabytes, appended while they are read, over many lives.
#[tokio::test(flavor = "multi_thread")]
async fn megabytes_that_are_appended_while_they_are_read_arrive_once() {
    needs_azurite!("megabytes");
    let azurite = Azurite::start();
    let mut rig = Rig::azurite(&azurite);
    rig.config.page_bytes = 100_000;
    let blob = hour(&ago(0), 3);
    azurite.make_container(CONTAINER).await;
    azurite.make(&blob).await;
    azurite.append(&blob, lines(0..4000)).await;
    let writing = async {
        for block in 0..20 {
            let text = lines(4000 + block * 100..4100 + block * 100);
            let cut = text.len() / 3;
            azurite.append(&blob, &text[..cut]).await;
            azurite.append(&blob, &text[cut..]).await;
        }
    };
    let reading = async {
        for target in [700, 2000, 3500, 6000] {
            rig.until_count(target).await;
        }
        rig.until_count(6000).await
    };
    let ((), held) = tokio::join!(writing, reading);
    held.is_complete(6000);
    assert!(held.dead.is_empty() && held.gaps().is_empty());
}

/// Fault matrix: E2.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_written_anew_is_read_anew_and_known_records_stay_once() {
    needs_azurite!("written_anew");
    let azurite = Azurite::start();
    let rig = Rig::azurite(&azurite);
    let blob = hour(&ago(0), 3);
    azurite.make_container(CONTAINER).await;
    azurite.put(&blob, lines(0..40)).await;
    rig.until_count(40).await.is_complete(40);
    // Longer, and the same at its beginning: a blob that something copies again and again.
    azurite.put(&blob, lines(0..60)).await;
    rig.until_count(60).await.is_complete(60);
    // Shorter.
    azurite.put(&blob, lines(55..65)).await;
    rig.until_count(65).await.is_complete(65);
    // Longer, and other bytes.
    azurite.put(&blob, lines(30..100)).await;
    let held = rig.until_count(100).await;
    held.is_complete(100);
    // Deleted and made anew as an append blob.
    azurite.delete(&blob).await;
    azurite.make(&blob).await;
    azurite.append(&blob, lines(95..110)).await;
    let held = rig.until_count(110).await;
    held.is_complete(110);
    assert!(held.dead.is_empty() && held.gaps().is_empty(), "{:?}", held.gaps());
}

/// Fault matrix: E3.
#[tokio::test(flavor = "multi_thread")]
async fn hours_that_grow_late_and_containers_that_come_later_are_read() {
    needs_azurite!("late_hours");
    let azurite = Azurite::start();
    let rig = Rig::azurite(&azurite);
    // Not even a container yet: that is no trouble.
    let held = rig.until(|held| held.status.contains("Ready")).await;
    assert!(held.events.is_empty());
    azurite.make_container(CONTAINER).await;
    let (old, late) = (hour(&ago(2), 23), hour(&ago(1), 0));
    azurite.make(&old).await;
    azurite.append(&old, lines(0..20)).await;
    rig.until_count(20).await.is_complete(20);
    azurite.append(&old, lines(20..30)).await;
    azurite.make(&late).await;
    azurite.append(&late, lines(30..40)).await;
    // Outside of the look-back, and of another tenant: not looked at.
    let far = hour(&ago(9), 1);
    azurite.make(&far).await;
    azurite.append(&far, lines(900..910)).await;
    rig.until_count(40).await.is_complete(40);
}

/// Row S8 of the security list.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_holds_the_source_and_no_secret_is_shown() {
    needs_azurite!("wrong_key");
    let azurite = Azurite::start();
    azurite.make_container(CONTAINER).await;
    let wrong = Rig::new(&azurite.url, "Y2FuYXJ5Y2FuYXJ5", StorageAuth::AccountKey);
    let error = wrong.source().probe().await.unwrap_err();
    assert_eq!(error.failure, postern::domain::Failure::Hold, "{error:?}");
    let held = wrong.until(|held| held.status.contains("Degraded")).await;
    for text in [format!("{error:?}"), held.status, held.metrics] {
        assert!(!text.contains("sig=") && !text.contains("Y2FuYXJ5"), "{text}");
    }
    let signature = azurite::signature("rl", "2099-01-01T00:00:00Z");
    let blob = hour(&ago(0), 3);
    azurite.make(&blob).await;
    azurite.append(&blob, lines(0..5)).await;
    let right =
        Rig::new(&azurite.url, &format!("{}?{signature}", azurite.url), StorageAuth::SasUrl);
    let proven = right.source().probe().await.unwrap();
    assert!(proven.contains("1 containers, 1 blobs") && !proven.contains("sig="), "{proven}");
    right.until_count(5).await.is_complete(5);
}

/// Fault matrix: E4.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_deleted_between_listing_and_reading_is_one_gap_and_its_neighbours_go_on() {
    let account = Account::start().await;
    let rig = Rig::account(&account);
    account.put(&hour(ITS_DAY, 9), lines(900..903), true, false);
    account.put(&hour(ITS_DAY, 10), lines(0..10), true, false);
    account.next_read(Conduct::Delete);
    let held = rig.until(|held| held.messages().len() >= 10 && !held.gaps().is_empty()).await;
    let name = hour(ITS_DAY, 9);
    let expected = format!("{name} byte 0 byte {} remote_gone", lines(900..903).len());
    assert_eq!(held.gaps(), [expected]);
    assert_eq!(held.messages().len(), 10);
    // Told once.
    let again = rig.until(|held| held.status.contains("Ready")).await;
    assert_eq!(again.gaps().len(), 1);
}

/// Fault matrix: E2, in the middle of reading.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_changes_while_it_is_read_is_read_as_it_is_then() {
    let account = Account::start().await;
    let rig = Rig::account(&account);
    let blob = hour(ITS_DAY, 9);
    account.put(&blob, lines(0..100), false, false);
    account.next_read(Conduct::Replace(lines(0..100).into_bytes()));
    account.next_read(Conduct::Refuse(416, "InvalidRange"));
    rig.until_count(100).await.is_complete(100);
    // Replaced with less while it is being read on.
    account.put(&blob, lines(0..120), false, true);
    account.next_read(Conduct::Replace(lines(120..130).into_bytes()));
    let held = rig.until(|held| held.messages().contains_key(&intake::message(129))).await;
    assert!((0..100).chain(120..130).all(|n| held.messages()[&intake::message(n)] == 1));
    assert!(held.dead.is_empty(), "{:?}", held.dead);
}

/// Fault matrix: C14 for blobs: a body that is not what was asked for is a failure, not data.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_half_bodies_and_other_ranges_lose_nothing() {
    let account = Account::start().await;
    let rig = Rig::account(&account);
    let blob = hour(ITS_DAY, 9);
    account.put(&blob, lines(0..60), true, false);
    account.next_read(Conduct::Refuse(503, "ServerBusy"));
    account.next_read(Conduct::Half);
    account.next_read(Conduct::Refuse(500, "InternalError"));
    rig.until_count(60).await.is_complete(60);
    account.put(&blob, lines(0..80), true, true);
    account.next_read(Conduct::Whole);
    let held = rig.until_count(80).await;
    held.is_complete(80);
    assert!(held.dead.is_empty() && held.gaps().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_role_is_named_and_the_signature_is_not() {
    let account = Account::start().await;
    let rig = Rig::account(&account);
    account.put(&hour(ITS_DAY, 9), lines(0..3), true, false);
    account.next_read(Conduct::Refuse(403, "AuthorizationPermissionMismatch"));
    let error = rig.source().probe().await.unwrap_err();
    assert_eq!(error.failure, postern::domain::Failure::Hold);
    assert!(error.message.contains("Storage Blob Data Reader"), "{error}");
    account.next_list(403, "AuthorizationFailure");
    let held = rig.until(|held| held.status.contains("network rules")).await;
    let said = format!("{error:?} {} {}", held.status, held.metrics);
    assert!(!said.contains("canary") && !said.contains("sig="), "{said}");
    assert!(account.requests().iter().all(|target| target.contains("sig=canary")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_tenant_goes_in_a_header_and_is_never_in_an_address() {
    let account = Account::start().await;
    let mut rig = Rig::account(&account);
    rig.config.auth = StorageAuth::Tenant;
    account.put(&hour(ITS_DAY, 9), lines(0..5), true, false);
    rig.until_count(5).await.is_complete(5);
    assert!(account.requests().iter().all(|request| request.ends_with(" Bearer canary-token")));
}

/// Whose clock is three months off learns the day from the account.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_days_of_the_look_back_are_listed_and_what_is_not_new_is_not_read() {
    let account = Account::start().await;
    let rig = Rig::account(&account);
    account.put(&hour("2026-08-18", 9), lines(0..10), true, false);
    rig.until_count(10).await.is_complete(10);
    let reads = |requests: &[String]| requests.iter().filter(|t| !t.contains("comp=list")).count();
    let before = account.requests();
    assert_eq!(reads(&before), 1);
    let days = ["d%3D17", "d%3D18", "d%3D19", "d%3D20", "d=17", "d=18", "d=19", "d=20"];
    let listed = before.iter().filter(|target| target.contains("comp=list")).skip(1);
    for target in listed {
        assert!(days.iter().any(|day| target.contains(day)), "{target}");
    }
    let again = rig.until(|held| held.status.contains("Ready")).await;
    assert_eq!(again.events.len(), 10);
    assert_eq!(reads(&account.requests()), 1);
}

/// Fault matrix: G1, G2.
#[tokio::test(flavor = "multi_thread")]
async fn poison_costs_itself_only() {
    let account = Account::start().await;
    let rig = Rig::account(&account);
    let mut bytes = lines(0..10).into_bytes();
    bytes.extend(b"{\"a\":\xff}\r\nnonsense\r\n");
    bytes.extend(format!("{{\"a\":\"{}\"}}\r\n", "x".repeat(9 << 20)).into_bytes());
    bytes.extend(lines(10..20).into_bytes());
    account.put(&hour(ITS_DAY, 9), bytes, true, false);
    let held = rig.until(|held| held.events.len() >= 20 && held.dead.len() >= 3).await;
    held.is_complete(20);
    assert_eq!(held.dead.len(), 3, "{:?}", held.dead);
}
