//! How fast the journal makes events durable, beside what the same disk does with the same bytes and no journal, and
//! how long a start takes. Prints a table; asserts nothing.
//!
//! `cargo bench --bench journal -- [directory] [MiB per case]`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a measurement that cannot be taken should end loudly"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern::domain::{
    Arrival, Decision, Direction, Effect, Event, EventId, Kind, Level, Override, OverrideKind, Raw,
    Reason, Table, Tag, Ticks, Verdict,
};
use postern::journal::{
    Embedded, Journal as _, JournalConfig, OnFull, ReaderStart, SystemClock, Unit,
};

/// A record of about 1.5 KB in the likeness of an `EmailEvents` row.
fn record(number: u64) -> Vec<u8> {
    let mix = |salt: u64| {
        let mut x = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(salt);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    };
    let (a, b, c, d) = (mix(1), mix(2), mix(3), mix(4));
    let (e, f, g, h) = (mix(5), mix(6), mix(7), mix(8));
    format!(
        r#"{{"time":"2026-08-20T09:{:02}:{:02}.{:07}Z","tenantId":"6b1c9c5e-0000-4000-8000-a1b2c3d4e5f6","operationName":"Publish","category":"AdvancedHunting-EmailEvents","properties":{{"Timestamp":"2026-08-20T09:{:02}:{:02}Z","NetworkMessageId":"{a:08x}-{b:04x}-{c:016x}","InternetMessageId":"<{a:016x}{b:016x}@mail.fabrikam.example>","SenderMailFromAddress":"bounce-{c:x}@fabrikam.example","SenderFromAddress":"news{}@fabrikam.example","SenderDisplayName":"Fabrikam News","SenderObjectId":null,"SenderMailFromDomain":"fabrikam.example","SenderFromDomain":"fabrikam.example","SenderIPv4":"203.0.113.{}","SenderIPv6":null,"RecipientEmailAddress":"user{}@contoso.example","RecipientObjectId":"{e:016x}{f:016x}","EmailClusterGuid":"{g:016x}{h:016x}","Subject":"Offer {} for you: {:x}","EmailClusterId":{},"EmailDirection":"Inbound","DeliveryAction":"Delivered","DeliveryLocation":"Inbox/folder","ThreatTypes":"Phish","ThreatNames":null,"DetectionMethods":"{{\"Phish\":[\"URL malicious reputation\"]}}","ConfidenceLevel":"{{\"Phish\":\"High\"}}","BulkComplaintLevel":{},"EmailAction":null,"EmailActionPolicy":null,"EmailActionPolicyGuid":null,"AuthenticationDetails":"{{\"SPF\":\"pass\",\"DKIM\":\"pass\",\"DMARC\":\"pass\",\"CompAuth\":\"pass\"}}","AttachmentCount":0,"UrlCount":{},"EmailLanguage":"en","Connectors":null,"OrgLevelAction":"Allow","OrgLevelPolicy":"Exchange transport rule","UserLevelAction":null,"UserLevelPolicy":null,"ReportId":"{a:016x}-{b:x}-1","AdditionalFields":null,"LatestDeliveryAction":"Delivered","LatestDeliveryLocation":"Inbox/folder"}}}}"#,
        a % 60, b % 60, c % 10_000_000, a % 60, b % 60, d % 900, a % 250, b % 5000, c % 9000, d,
        a % 4_000_000_000, b % 9, c % 20,
    )
    .into_bytes()
}

fn event(number: u64) -> Event {
    let raw = record(number);
    let start = raw.windows(12).position(|w| w == br#""properties""#).unwrap() + 13;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    id[8..].copy_from_slice(&number.to_le_bytes());
    let mut decision = Decision { verdict: Some(Verdict::HcPhish), ..Decision::default() };
    for tag in [Tag::OverrideAllow, Tag::OverrideHarmful, Tag::AllowedHcPhish] {
        decision.tags.insert(tag);
        decision.reasons.push(Reason {
            tag: tag.as_str().into(),
            rule: "2.3".into(),
            because: vec![("OrgLevelPolicy".into(), "Exchange transport rule".into())],
        });
    }
    decision.overrides.push(Override {
        level: Level::Tenant,
        direction: Direction::Allow,
        kind: OverrideKind::TransportRule,
        policy: "Exchange transport rule".into(),
        effect: Effect::Effective,
        why: None,
        certainty: None,
        primary: true,
    });
    Event {
        id: EventId(id),
        kind: Kind::Email,
        table: Table::EmailEvents,
        tenant: "6b1c9c5e-0000-4000-8000-a1b2c3d4e5f6".into(),
        source: "hubs".into(),
        occurred: Some(Ticks(17_000_000_000_000_000)),
        observed: Some(Ticks(17_000_000_000_000_000)),
        ingested: Some(Ticks(17_000_000_000_000_000)),
        arrival: Some(Arrival::Live),
        key: Some(format!("{number:x}").into()),
        recipient: Some(format!("user{}@contoso.example", number % 5000).into()),
        decision,
        issues: vec![],
        row: (u32::try_from(start).unwrap(), u32::try_from(raw.len() - 1).unwrap()),
        raw: Raw::from(raw),
    }
}

fn unit(from: u64, count: u64) -> Unit {
    let cursor = ("hubs/email/0".into(), from.to_string().into());
    Unit {
        events: (from..from + count).map(event).collect(),
        cursors: vec![cursor],
        ..Unit::default()
    }
}

/// CPU time of the whole process.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<i64> =
        after.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // Behind the name and state: user time and system time are the 11th and 12th number, in 1/100 s.
    let ticks = fields.get(10).unwrap_or(&0) + fields.get(11).unwrap_or(&0);
    Duration::from_millis(10 * u64::try_from(ticks).unwrap_or_default())
}

/// Writes and syncs the same number of bytes in pieces of the same size.
fn floor(directory: &Path, pieces: u64, bytes: usize) -> Duration {
    let path = directory.join("floor");
    let mut file = std::fs::File::create(&path).unwrap();
    let piece: Vec<u8> = (0..bytes).map(|n| (n * 31 % 251) as u8).collect();
    let start = Instant::now();
    for _ in 0..pieces {
        file.write_all(&piece).unwrap();
        file.sync_data().unwrap();
    }
    let taken = start.elapsed();
    std::fs::remove_file(path).unwrap();
    taken
}

async fn case(home: &Path, per_frame: u64, mib: u64, level: i32, admit: bool, in_flight: usize) {
    let directory = home.join("journal");
    let config =
        JournalConfig { compression_level: level, reserve_bytes: 0, ..JournalConfig::default() };
    let journal = Embedded::open(&directory, config, Arc::new(SystemClock::default())).unwrap();
    let size = record(1).len() as u64;
    let frames = ((mib << 20) / (size * per_frame)).max(20);
    let units: Vec<Unit> = (0..frames).map(|frame| unit(frame * per_frame, per_frame)).collect();
    let raw: usize = units.iter().flat_map(|unit| &unit.events).map(|event| event.raw.len()).sum();
    let (start, cpu_start) = (Instant::now(), cpu());
    let mut receipts = std::collections::VecDeque::new();
    for unit in units {
        if admit {
            let ids: Vec<EventId> = unit.events.iter().map(|event| event.id).collect();
            assert!(journal.admit(&ids).iter().all(|new| *new));
        }
        receipts.push_back(journal.append(unit).await.unwrap());
        if receipts.len() >= in_flight {
            receipts.pop_front().unwrap().await.unwrap();
        }
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
    let (taken, cpu_taken) = (start.elapsed(), cpu() - cpu_start);
    let stored = journal.stat().bytes;
    let piece = usize::try_from(stored / frames).unwrap();
    let floor = floor(home, frames, piece);
    let events = frames * per_frame;
    println!(
        "{per_frame:>6} {level:>5} {in_flight:>6} {events:>9} {:>8.0} {:>8.0} {:>7.2} {:>10.2} {:>8.2}",
        raw as f64 / 1e6 / taken.as_secs_f64(),
        stored as f64 / 1e6 / taken.as_secs_f64(),
        taken.as_secs_f64() / floor.as_secs_f64(),
        cpu_taken.as_secs_f64() * 1e6 / events as f64,
        raw as f64 / stored as f64,
    );
    journal.close().await.unwrap();
    drop(journal);
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::remove_file(home.join("journal.id")).unwrap();
}

async fn recovery(home: &Path, mib: u64) {
    let directory = home.join("journal");
    let config = JournalConfig { reserve_bytes: 0, ..JournalConfig::default() };
    let clock = Arc::new(SystemClock::default());
    let open = || Embedded::open(&directory, config.clone(), clock.clone()).unwrap();
    let journal = open();
    let size = record(1).len() as u64;
    let (per_frame, mut next) = (2000, 0);
    while next * size < mib << 20 {
        journal.append(unit(next, per_frame)).await.unwrap().await.unwrap();
        next += per_frame;
    }
    // As after a kill: no snapshot at the end, no footer.
    drop(journal);
    let start = Instant::now();
    let journal = open();
    let killed = start.elapsed();
    assert_eq!(journal.stat().next, next);
    let bytes = journal.stat().bytes;
    journal.close().await.unwrap();
    drop(journal);
    let start = Instant::now();
    let journal = open();
    let clean = start.elapsed();
    let at = journal.register_reader("bench", ReaderStart::Beginning, OnFull::default()).unwrap();
    let (start, cpu_start) = (Instant::now(), cpu());
    let mut at = at;
    while at < next {
        at = journal.read(at, 4 << 20).await.unwrap().last().unwrap().offset + 1;
    }
    println!(
        "\nrecovery of {next} events ({} MB raw, {} MB stored): {killed:.0?} after a kill, {clean:.0?} after a close; \
         reading it all: {:.0?}, {:.2} CPU-µs an event",
        next * size / 1_000_000,
        bytes / 1_000_000,
        start.elapsed(),
        (cpu() - cpu_start).as_secs_f64() * 1e6 / next as f64,
    );
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let base = arguments.next().map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let mib: u64 = arguments.next().and_then(|mib| mib.parse().ok()).unwrap_or(256);
    let home = base.join(format!("journal-bench-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    println!(
        "raw record {} bytes; MB/s durable; 'of floor' = time over write+fdatasync of the stored bytes",
        record(1).len()
    );
    println!(" frame level flight    events  raw MB/s  stored of-floor CPU-µs/ev    ratio");
    for level in [1, 0] {
        for per_frame in [50, 500, 5000] {
            case(&home, per_frame, mib, level, true, 2).await;
        }
    }
    case(&home, 500, mib, 1, false, 2).await;
    case(&home, 500, mib, 1, true, 1).await;
    recovery(&home, mib * 4).await;
    std::fs::remove_dir_all(&home).unwrap();
}
