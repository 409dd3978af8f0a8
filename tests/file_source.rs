//! The `file` source into a real journal, over restarts: what grows, what is replaced, what is compressed, what
//! cannot be read, what leads out of the folder, and the same truth in every layout.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/intake.rs"]
mod intake;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use intake::{Held, Home, lines, record, row};
use postern::domain::{Kind, Tag};
use postern::journal::SystemClock;
use postern::pipeline::Source;
use postern::source::file::{Content, FileSource, FileSourceConfig};

/// A folder that is looked at every second, where everything counts as still at once.
struct Folder {
    home: Home,
    config: FileSourceConfig,
}

impl Folder {
    fn new() -> Self {
        let home = Home::default();
        let path = home.path().join("in");
        fs::create_dir(&path).unwrap();
        let config = FileSourceConfig {
            poll_seconds: 1,
            settle_seconds: 0,
            // Small, so that everything takes many pages.
            page_bytes: 20_000,
            ..FileSourceConfig::of(path)
        };
        Self { home, config }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.config.path.join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.at(name), bytes).unwrap();
    }

    fn append(&self, name: &str, bytes: &str) {
        append(&self.at(name), bytes.as_bytes());
    }

    fn source(&self) -> Box<dyn Source> {
        let clock = Arc::new(SystemClock::default());
        Box::new(FileSource::new("in", self.config.clone(), clock).unwrap())
    }

    async fn until(&self, done: impl FnMut(&Held) -> bool) -> Held {
        self.home.live(|| self.source(), done).await
    }

    async fn until_count(&self, count: usize) -> Held {
        self.until(|held| held.events.len() >= count).await
    }
}

fn append(path: &Path, bytes: &[u8]) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn rows(numbers: std::ops::Range<u32>) -> String {
    serde_json::to_string(&numbers.map(row).collect::<Vec<_>>()).unwrap()
}

/// The same rows as a table with quoted cells.
fn csv(numbers: std::ops::Range<u32>) -> String {
    let columns: Vec<String> = row(0).as_object().unwrap().keys().cloned().collect();
    let mut text = columns.join(",") + "\r\n";
    for number in numbers {
        let row = row(number);
        let cell =
            |column: &String| format!("\"{}\"", row[column].as_str().unwrap().replace('"', "\"\""));
        text += &(columns.iter().map(cell).collect::<Vec<_>>().join(",") + "\r\n");
    }
    text
}

#[tokio::test]
async fn a_file_that_grows_is_read_on_and_half_a_line_waits_for_its_end() {
    let folder = Folder::new();
    folder.write("a.ndjson", lines(0..100));
    folder.until_count(100).await.is_complete(100);
    let (next, half) = (lines(100..150), lines(150..151));
    folder.append("a.ndjson", &next);
    folder.append("a.ndjson", &half[..half.len() / 2]);
    let held = folder.until_count(150).await;
    held.is_complete(150);
    assert!(held.dead.is_empty(), "{:?}", held.dead);
    let mut appended = false;
    let held = folder
        .until(|held| {
            if !std::mem::replace(&mut appended, true) {
                folder.append("a.ndjson", &half[half.len() / 2..]);
                folder.append("a.ndjson", &lines(151..200));
            }
            held.events.len() >= 200
        })
        .await;
    held.is_complete(200);
    assert!(held.dead.is_empty() && held.gaps().is_empty());
    // Nothing was read a second time in the last life but what had not been read.
    assert!(
        held.metrics.contains("postern_source_records_received_total{source=\"in\"} 50"),
        "{}",
        held.metrics
    );
}

#[tokio::test]
async fn a_last_line_without_an_end_is_taken_once_the_file_is_still_and_it_is_whole() {
    let folder = Folder::new();
    folder.write("a.ndjson", lines(0..3).trim_end());
    folder.until_count(3).await.is_complete(3);
}

#[tokio::test]
async fn a_file_that_is_replaced_or_cut_is_read_anew_and_known_records_stay_once() {
    let folder = Folder::new();
    folder.write("a.ndjson", lines(0..50));
    folder.until_count(50).await.is_complete(50);
    folder.write("a.ndjson", lines(50..60));
    folder.until_count(60).await.is_complete(60);
    // Longer than before, and other bytes before the offset.
    folder.write("a.ndjson", lines(20..120));
    folder.until_count(120).await.is_complete(120);
    fs::remove_file(folder.at("a.ndjson")).unwrap();
    folder.write("b.ndjson", lines(100..130));
    let held = folder.until_count(130).await;
    held.is_complete(130);
    assert!(held.gaps().is_empty());
}

#[tokio::test]
async fn a_file_that_vanishes_before_its_last_line_ends_leaves_a_gap() {
    let folder = Folder::new();
    let text = lines(0..3);
    folder.write("a.ndjson", &text[..text.len() - 20]);
    folder.until_count(2).await.is_complete(2);
    fs::remove_file(folder.at("a.ndjson")).unwrap();
    let held = folder.until(|held| !held.gaps().is_empty()).await;
    let from = lines(0..2).len();
    let expected = format!("a.ndjson byte {from} byte {} remote_gone", text.len() - 20);
    assert_eq!(held.gaps(), [expected]);
    folder.until(|held| held.events.len() == 3).await;
}

/// Fault matrix: E5.
#[tokio::test]
async fn of_a_cut_archive_and_a_bomb_what_can_be_read_is_and_the_rest_is_a_gap() {
    let folder = Folder::new();
    let packed = gzip(lines(0..2000).as_bytes());
    folder.write("cut.gz", &packed[..packed.len() / 2]);
    folder.write(
        "members.gz",
        [gzip(lines(2000..2010).as_bytes()), gzip(lines(2010..2020).as_bytes())].concat(),
    );
    folder.write("frames.zst", zstd::encode_all(lines(2020..2030).as_bytes(), 3).unwrap());
    folder.write("bomb.gz", gzip(&vec![b' '; 200 << 20]));
    folder.write("words.xlsx", b"PK\x03\x04\0\0");
    folder.write("neighbour.ndjson", lines(2030..2040));
    let done = |held: &Held| {
        held.gaps().len() == 3 && held.messages().contains_key(&intake::message(2039))
    };
    let held = folder.until(done).await;
    let found = held.messages();
    let of_cut = (0..2000).filter(|n| found.contains_key(&intake::message(*n))).count();
    assert!(of_cut > 500, "{of_cut}");
    assert!((2000..2040).all(|n| found[&intake::message(n)] == 1));
    let mut gaps = held.gaps();
    gaps.sort();
    let begin = ["bomb.gz byte ", "cut.gz byte ", "words.xlsx byte 0 "];
    for (gap, begin) in gaps.iter().zip(begin) {
        assert!(gap.starts_with(begin) && gap.ends_with("unreadable"), "{gap}");
    }
    // The line that the cut went through is a dead letter, not nothing. (The bomb holds a line of blanks.)
    assert!(held.dead.iter().any(|dead| dead.starts_with("cut.gz:")), "{:?}", held.dead);
    let again = folder.until(|held| held.events.len() >= 3).await;
    assert_eq!(again.events.len(), held.events.len());
}

/// Row S16 of the security list.
#[cfg(unix)]
#[tokio::test]
async fn a_link_out_of_the_folder_is_refused_and_its_neighbours_are_read() {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    fs::write(folder.home.path().join("secret.ndjson"), lines(900..901)).unwrap();
    symlink("../secret.ndjson", folder.at("a.ndjson")).unwrap();
    symlink("/etc/hostname", folder.at("b.ndjson")).unwrap();
    fs::create_dir(folder.at("c.ndjson")).unwrap();
    folder.write("inside.ndjson", lines(0..10));
    symlink("inside.ndjson", folder.at("z.ndjson")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"x\xff\x1b[2J..%2f\n.ndjson");
    fs::write(folder.config.path.join(odd), lines(10..20)).unwrap();
    fs::write(folder.at(&"n".repeat(255)), lines(20..30)).unwrap();
    let held = folder
        .until(|held| held.events.len() >= 30 && held.status.contains("link out of the folder"))
        .await;
    held.is_complete(30);
    assert!(!held.status.contains('\u{1b}'));
}

#[tokio::test]
async fn arrays_answers_and_lines_of_any_size_go_over_page_by_page_and_a_restart_goes_on() {
    let folder = Folder::new();
    folder.write("rows.json", rows(0..400));
    folder.write("hunting.json", format!("{{\"schema\":[],\"results\":{}}}", rows(400..800)));
    let pretty: serde_json::Value = serde_json::from_str(&rows(800..900)).unwrap();
    folder.write("pretty.json", serde_json::to_string_pretty(&pretty).unwrap());
    let records: Vec<String> = (900..1000).map(|n| record(&row(n))).collect();
    folder.write("records.json", format!("{{\"records\":[\n{}]}}", records.join(",\n")));
    folder.write("table.csv", format!("\u{feff}{}", csv(1000..1400)));
    folder.write("table.csv.gz", gzip(csv(1400..1500).as_bytes()));
    // Many short lives: each ends somewhere in the middle.
    let mut held = Held::default();
    let mut lives = 0;
    while held.events.len() < 1500 {
        let target = held.events.len() + 150;
        held = folder.until(|held| held.events.len() >= target.min(1500)).await;
        lives += 1;
    }
    held.is_complete(1500);
    assert!(held.dead.is_empty() && held.gaps().is_empty(), "{:?} {:?}", held.dead, held.gaps());
    assert!(lives > 1);
}

/// Fault matrix: G1, G2.
#[tokio::test]
async fn poison_costs_itself_only() {
    let folder = Folder::new();
    let mut bytes = lines(0..10).into_bytes();
    bytes.extend(b"{\"a\":\xff}\nnonsense\n");
    bytes.extend(format!("{{\"a\":\"{}\"}}\n", "x".repeat(9 << 20)).into_bytes());
    bytes.extend(lines(10..20).into_bytes());
    folder.write("a.ndjson", bytes);
    folder.write("b.json", format!("[{},\n{{\"x\" 1}},\n{}]", row(20), row(21)));
    let held = folder.until(|held| held.events.len() >= 22 && held.dead.len() >= 4).await;
    held.is_complete(22);
    assert_eq!(held.dead.len(), 4, "{:?}", held.dead);
}

#[tokio::test]
async fn users_reports_with_a_tool_s_own_columns_become_submissions() {
    let mut folder = Folder::new();
    folder.config.content = Content::Submissions;
    let columns = [
        ("reporter", "Reported By"),
        ("message_id", "Internet Message ID"),
        ("reported_at", "When"),
    ];
    folder.config.columns =
        columns.map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned())).into();
    folder.write(
        "a.csv",
        "Reported By;Internet Message ID;When;Category;Score\n\
         Adele@contoso.example;<1@fabrikam.example>;2026-08-20T09:11:04Z;Phish;7\n\
         lee@contoso.example;<2@fabrikam.example>;2026-08-20T09:12:04Z;Junk;3\n",
    );
    // The first once more, in another layout.
    folder.write(
        "b.json",
        r#"[{"REPORTED BY":"adele@contoso.example","Internet Message ID":"<1@fabrikam.example>",
            "When":"2026-08-20T09:11:04.000Z","Category":"Phish"},
            {"Reported By":"joni@contoso.example","Internet Message ID":"<1@fabrikam.example>",
            "When":"2026-08-20T09:15:04Z"}]"#,
    );
    let held = folder.until_count(3).await;
    assert_eq!(held.of(Kind::Submission).len(), 3, "{:?}", held.events);
    let text = String::from_utf8_lossy(held.events[0].raw.as_bytes()).into_owned();
    assert!(
        text.contains("\"Score\":\"7\"") && text.contains("\"reporter\":\"Adele@contoso.example\""),
        "{text}"
    );
    assert!(held.dead.is_empty());
}

/// Item 8 of the sources: one identity, whatever the layout; a changed verdict is a second revision.
#[tokio::test]
async fn the_same_mail_as_lines_hunting_rows_and_a_table_lands_once_and_a_new_verdict_once_more() {
    let folder = Folder::new();
    folder.write("stream.ndjson", lines(0..40));
    folder.write("hunting.json", format!("{{\"results\":{}}}", rows(0..40)));
    folder.write("legacy.json", format!("{{\"Schema\":[],\"Results\":{}}}", rows(0..40)));
    folder.write("table.csv", csv(0..40));
    folder.write("rows.json.gz", gzip(rows(0..40).as_bytes()));
    let received = "postern_source_records_received_total{source=\"in\"} 200";
    let held = folder.until(|held| held.metrics.contains(received)).await;
    held.is_complete(40);

    let mut changed = row(7);
    changed["ThreatTypes"] = "Phish".into();
    changed["ConfidenceLevel"] = "{\"Phish\":\"High\"}".into();
    changed["OrgLevelAction"] = "Allow".into();
    changed["OrgLevelPolicy"] = "Exchange transport rule".into();
    folder.append("stream.ndjson", &(record(&changed) + "\r\n"));
    folder.write("later.json", format!("{{\"results\":[{changed}]}}"));
    let received = "postern_source_records_received_total{source=\"in\"} 2";
    let held = folder.until(|held| held.metrics.contains(received)).await;
    assert_eq!(held.messages()[&intake::message(7)], 2);
    assert_eq!(held.events.len(), 41);
    let last = held.events.last().unwrap();
    assert!(
        last.decision.tags.fixed().any(|tag| tag == Tag::ReVerdict),
        "{:?}",
        last.decision.tags
    );
}
