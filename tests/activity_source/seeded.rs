//! Many random histories: content that appears late and out of order, every fault at random rates, crashes between
//! pages. And defects planted in the source, each of which must be seen.
//!
//! `POSTERN_ACTIVITY_SEEDS=first..last` chooses the seeds; a failure prints its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use postern::source::activity::{ActivityConfig, ContentType};
use postern::source::planted::{Planted, PollBug};

use crate::activity_server::{ActivityServer, Asked, Fault};
use crate::rig::Reading;

/// splitmix64.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: i64) -> i64 {
        i64::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn chance(&mut self, percent: i64) -> bool {
        self.below(100) < percent
    }
}

/// One history. What is wrong with it, if anything.
async fn history(seed: u64, planted: Planted) -> Result<(), String> {
    let mut random = Random(seed);
    let server = ActivityServer::start().await;
    server.page(usize::try_from(1 + random.below(7)).unwrap());
    // The newest first, or in any order.
    server.shuffle(if random.chance(40) { 0 } else { random.next() });
    let date = match random.below(10) {
        0 => None,
        1 => Some(1200),
        2 => Some(-1200),
        _ => Some(0),
    };
    server.date_skew(date);
    let contents = [ContentType::General, ContentType::Exchange];
    let config = ActivityConfig {
        content_types: contents[..usize::try_from(1 + random.below(2)).unwrap()].to_vec(),
        parallel_fetches: usize::try_from(1 + random.below(5)).unwrap(),
        page_bytes: usize::try_from(1 + random.below(6)).unwrap() * 700,
        poll_seconds: u64::try_from(120 + random.below(600)).unwrap(),
        overlap_minutes: u64::try_from(60 + random.below(60)).unwrap(),
        lookback_hours: u64::try_from(24 + random.below(40)).unwrap(),
        ..ActivityConfig::default()
    };
    let mut reading = Reading::with(&server, config.clone(), planted);
    // Our clock matters only where the server tells no time; then an hour is what it may be wrong.
    let wrong = if date.is_some() { 86_400 } else { 3600 };
    reading.clock_skew = [0, 0, -wrong, wrong][usize::try_from(random.below(4)).unwrap()];
    reading.crash();

    // A swarm: each history has some kinds of fault, at rates of its own.
    let mut rates = BTreeMap::new();
    for kind in 0..9 {
        if random.chance(35) {
            rates.insert(kind, 1 + random.below(12));
        }
    }
    let mut dice = Random(random.next());
    let storm = Arc::new(AtomicBool::new(false));
    let storming = Arc::clone(&storm);
    let long_storm = random.chance(30);
    let lateness = i64::try_from(config.overlap_minutes).unwrap() * 54;
    let gone_share = if random.chance(30) { 10 } else { 0 };
    let mut faulty = Random(random.next());
    let decide = move |asked: &Asked| -> Option<Fault> {
        if let Asked::Blob(id) = asked
            && id.starts_with("gone")
        {
            return Some(Fault::code(400, "AF20051"));
        }
        // Later pages fail for hours.
        if matches!(asked, Asked::Content { page: 1.., .. }) && storming.load(Ordering::SeqCst) {
            return Some(Fault::code(500, "AF50000"));
        }
        let kind = dice.below(9);
        let rate = rates.get(&kind)?;
        if !dice.chance(*rate) {
            return None;
        }
        Some(match kind {
            0 => Fault::throttle(
                429,
                Some(["3", "0", "90", "-1"][usize::try_from(dice.below(4)).unwrap()]),
            ),
            1 => Fault::throttle(403, None),
            2 => Fault::code(503, ""),
            3 => Fault::Reset,
            4 => Fault::Cut,
            // A start that is not one is told in a test of its own.
            5 | 8 if matches!(asked, Asked::Start(_)) => return None,
            5 => Fault::Body(b"<html>".to_vec()),
            6 => Fault::code(401, ""),
            7 => match asked {
                Asked::Content { page: 1.., .. } => Fault::code(400, "AF20031"),
                Asked::Content { .. } => Fault::code(400, "AF20055"),
                _ => return None,
            },
            _ => match asked {
                Asked::Blob(_) => Fault::Half,
                _ => Fault::Body(Vec::new()),
            },
        })
    };
    server.decide(decide);

    let mut truth: BTreeMap<String, usize> = BTreeMap::new();
    let mut expected_gaps = 0;
    let mut written = 0;
    for round in 0..12 {
        for _ in 0..faulty.below(6) {
            let content = &config.content_types
                [usize::try_from(faulty.below(config.content_types.len() as i64)).unwrap()];
            written += 1;
            let lost = faulty.chance(gone_share);
            let id = format!("{}-{seed}-{written}", if lost { "gone" } else { "b" });
            let records: Vec<String> =
                (0..faulty.below(4)).map(|_| format!("r-{}", faulty.below(40))).collect();
            let names: Vec<&str> = records.iter().map(String::as_str).collect();
            let mut blob = server.blob(&id, faulty.below(600), &names);
            blob.content = content.as_str().to_owned();
            // Visible up to nine tenths of the overlap after it was created.
            blob.visible = blob.created.plus_seconds(600 + faulty.below(lateness - 600));
            blob.times = usize::try_from(1 + faulty.below(2)).unwrap();
            server.put(blob);
            if lost {
                expected_gaps += 1;
            } else {
                truth.insert(id, 0);
            }
        }
        let stormy = long_storm && (3..9).contains(&round);
        storm.store(stormy, Ordering::SeqCst);
        let end = server.now().plus_seconds(if stormy { 1800 } else { 60 + faulty.below(1500) });
        let deadly = if faulty.chance(40) { 30 } else { 0 };
        while server.now() < end {
            reading.poll().await;
            // Right after a page, be there more to come or not.
            if faulty.chance(deadly) {
                reading.crash();
            }
        }
        if faulty.chance(30) {
            reading.poll_and_die().await;
        } else if faulty.chance(20) {
            reading.crash();
        }
    }
    server.behave_but_gone();
    reading.run(3 * 3600).await;
    judge(&reading, &truth, expected_gaps)
}

impl ActivityServer {
    /// No faults but content that stays gone.
    fn behave_but_gone(&self) {
        self.decide(|asked| match asked {
            Asked::Blob(id) if id.starts_with("gone") => Some(Fault::code(400, "AF20051")),
            _ => None,
        });
    }
}

fn judge(
    reading: &Reading<'_>,
    truth: &BTreeMap<String, usize>,
    expected_gaps: usize,
) -> Result<(), String> {
    for id in truth.keys() {
        match reading.ledger.blobs.get(id) {
            None => return Err(format!("{id} is lost")),
            Some(1) => {}
            Some(times) => return Err(format!("{id} came {times} times")),
        }
    }
    let mut gaps: Vec<&str> = reading.ledger.gaps.iter().map(|gap| &*gap.what).collect();
    gaps.sort_unstable();
    gaps.dedup();
    if gaps.len() != expected_gaps || reading.ledger.gaps.len() != expected_gaps {
        return Err(format!("{expected_gaps} gaps expected: {:?}", reading.ledger.gaps));
    }
    let violations = reading.server.violations();
    if let Some(first) = violations.first() {
        return Err(format!("{} rules broken, first: {first}", violations.len()));
    }
    Ok(())
}

fn seeds() -> std::ops::Range<u64> {
    let text = std::env::var("POSTERN_ACTIVITY_SEEDS").unwrap_or_default();
    let parsed = text
        .split_once("..")
        .and_then(|(first, last)| Some(first.parse().ok()?..last.parse().ok()?));
    parsed.unwrap_or(0..100)
}

/// Runs histories on every core until one goes wrong, which is the answer, or all are done.
fn campaign(seeds: std::ops::Range<u64>, planted: Planted) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let wrong = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().unwrap();
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end || wrong.lock().unwrap().is_some() {
                        return;
                    }
                    if let Err(what) = runtime.block_on(history(seed, planted)) {
                        *wrong.lock().unwrap() = Some((seed, what));
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

#[test]
fn random_histories_lose_nothing_and_repeat_nothing() {
    if let Some((seed, wrong)) = campaign(seeds(), Planted::default()) {
        panic!("seed {seed}: {wrong} (POSTERN_ACTIVITY_SEEDS={seed}..{})", seed + 1);
    }
}

/// The test of the test: each defect of polling is seen within some histories.
#[test]
fn every_planted_defect_is_seen() {
    for bug in PollBug::ALL {
        let seen = campaign(0..300, Planted::with(bug));
        let (seed, wrong) = seen.unwrap_or_else(|| panic!("{bug:?} was not seen"));
        println!("{bug:?}: seed {seed}: {wrong}");
    }
}
