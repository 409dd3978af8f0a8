//! Every sink on the one bench of `support/conformance.rs`: files on a small disk, standard output, tickets over
//! a misbehaving HTTP server. What only one sink does is tested beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/memory_journal.rs"]
mod memory_journal;
#[path = "support/misbehaving_server.rs"]
mod misbehaving_server;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use postern::cloud::http::HttpConfig;
use postern::cloud::secret::Secret;
use postern::journal::SystemClock;
use postern::pipeline::Sink;
use postern::render::Format;
use postern::sink::{FileConfig, FileSink, StdoutSink};
use postern::ticket::{FarEndConfig, TicketConfig, TicketSink, WebhookConfig};
use tempfile::TempDir;

use conformance::{Bench, Expected, Fault, Promise, conforms};
use memory_journal::MemoryJournal;
use misbehaving_server::{Conduct, Server};

fn ids_of(lines: &str) -> Vec<String> {
    let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    lines.lines().map(|line| read(line)["id"].as_str().unwrap().to_owned()).collect()
}

// ---- tickets -------------------------------------------------------------------------------------

struct Tickets {
    server: Server,
    journal: Arc<MemoryJournal>,
    _home: TempDir,
    config: TicketConfig,
}

/// A secret that is not one.
const SECRET: &str = "whsec_Y29udG9zby1leGFtcGxlLXNlY3JldC0wMTIzNDU2Nzg5";

impl Tickets {
    async fn new() -> Self {
        let server = Server::start().await;
        let home = TempDir::new().unwrap();
        let secret = home.path().join("secret");
        fs::write(&secret, SECRET).unwrap();
        let config = TicketConfig {
            policy: "allowed_mail".to_owned(),
            portal: "https://security.microsoft.com".to_owned(),
            far_end: FarEndConfig::Webhook(WebhookConfig {
                url: server.url(),
                secrets: vec![Secret::File(secret)],
                authorization: None,
                http: HttpConfig {
                    header_timeout_ms: 1000,
                    idle_timeout_ms: 1000,
                    total_timeout_ms: 1500,
                    ..HttpConfig::default()
                },
            }),
        };
        Self { server, journal: MemoryJournal::new(), _home: home, config }
    }

    fn conduct(name: &str) -> Conduct {
        match name {
            "answer lost" => Conduct::LoseAnswer,
            "reset after acting" => Conduct::ActAndReset,
            "reset before acting" => Conduct::Reset,
            "slow body" => Conduct::Trickle,
            "cut body" => Conduct::CutBody,
            "500 after acting" => Conduct::ActAndAnswer(500),
            "302" => Conduct::with_header(302, "location", "/elsewhere"),
            "307" => Conduct::with_header(307, "location", "/elsewhere"),
            other => match other.split_once(", Retry-After ") {
                Some((status, value)) => {
                    Conduct::with_header(status.parse().unwrap(), "retry-after", value)
                }
                None => Conduct::status(other.parse().unwrap()),
            },
        }
    }
}

#[async_trait]
impl Bench for Tickets {
    async fn sink(&mut self) -> Box<dyn Sink> {
        self.journal = self.journal.after_death();
        let clock = Arc::new(SystemClock::default());
        let (config, journal) = (self.config.clone(), Arc::clone(&self.journal));
        Box::new(TicketSink::new("tickets", config, journal, clock).unwrap())
    }

    async fn ledger(&mut self) -> Vec<String> {
        let tickets = self.server.tickets();
        let read = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).unwrap();
        tickets
            .iter()
            .map(|body| read(body)["data"]["event"]["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn promise(&self) -> Promise {
        Promise::ExactlyOnce
    }

    fn faults(&self) -> Vec<Fault> {
        let seconds = |seconds| Expected::Retry(Some(Duration::from_secs(seconds)));
        let mut faults = vec![
            Fault::new("429, Retry-After 7", seconds(7)),
            Fault::new("429, Retry-After 0", seconds(0)),
            Fault::new("429, Retry-After 1000000000000", seconds(3600)),
            Fault::new("429, Retry-After -5", Expected::Retry(None)),
            Fault::new("429, Retry-After Thu, 20 Aug 2099 09:00:00 GMT", seconds(3600)),
            Fault::new("429, Retry-After Thu, 20 Aug 2020 09:00:00 GMT", seconds(0)),
            Fault::new("503, Retry-After 30", seconds(30)),
        ];
        let retries = ["429", "500", "502", "503", "408", "answer lost", "reset after acting"];
        let more = ["reset before acting", "slow body", "cut body", "500 after acting"];
        faults.extend(
            retries.into_iter().chain(more).map(|name| Fault::new(name, Expected::Retry(None))),
        );
        faults.extend(
            ["401", "403", "410", "302", "307"].map(|name| Fault::new(name, Expected::Hold)),
        );
        faults.extend(["400", "404", "413", "422"].map(|name| Fault::new(name, Expected::Reject)));
        faults
    }

    async fn arm(&mut self, fault: &Fault) {
        self.server.plan([Conduct::Well, Self::conduct(&fault.name)]);
    }

    async fn disarm(&mut self) {
        self.server.plan([]);
    }

    async fn attempts(&mut self, id: &str) -> Option<usize> {
        let requests = self.server.requests();
        let about = |body: &[u8]| String::from_utf8_lossy(body).contains(id);
        Some(requests.iter().filter(|request| about(&request.body)).count())
    }
}

/// Rows I8, I11 and C1 of the fault matrix; S4 of the security list.
#[tokio::test]
async fn tickets_by_webhook_conform() {
    conforms(&mut Tickets::new().await).await;
}

// ---- files ---------------------------------------------------------------------------------------

struct Files {
    home: TempDir,
    /// Whether the directory is a small file system of its own.
    small_disk: bool,
}

impl Files {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        let directory = home.path().join("events");
        fs::create_dir(&directory).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k,mode=700", "postern-test"])
            .arg(&directory)
            .output();
        let small_disk = mounted.is_ok_and(|output| output.status.success());
        if !small_disk {
            println!("no right to mount a small file system here: the full disk is left out");
        }
        Self { home, small_disk }
    }

    fn directory(&self) -> PathBuf {
        self.home.path().join("events")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if self.small_disk {
            let _ = Command::new("umount").arg("-l").arg(self.directory()).output();
        }
    }
}

fn text_of(directory: &Path) -> String {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        names.filter(|path| path.extension().is_some_and(|it| it == "ndjson")).collect();
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[async_trait]
impl Bench for Files {
    async fn sink(&mut self) -> Box<dyn Sink> {
        // Small files, so that the bench rotates many times.
        let config =
            FileConfig { rotate_bytes: 2000, ..FileConfig::into_directory(self.directory()) };
        let clock = Arc::new(SystemClock::default());
        Box::new(FileSink::new("siem", config, Format::Native, clock))
    }

    async fn ledger(&mut self) -> Vec<String> {
        ids_of(&text_of(&self.directory()))
    }

    fn promise(&self) -> Promise {
        Promise::ExactlyOnce
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = vec![Fault::new("position in the way", Expected::Hold)];
        if self.small_disk {
            faults.push(Fault::new("disk full", Expected::Retry(None)));
        }
        faults
    }

    async fn arm(&mut self, fault: &Fault) {
        if fault.name == "disk full" {
            let mut filler = fs::File::create(self.directory().join("filler")).unwrap();
            while filler.write_all(&[0; 1024]).is_ok() {}
        } else {
            // Root may write everywhere, so rights are no obstacle to it; a directory is.
            fs::create_dir(self.directory().join("siem.position.new")).unwrap();
        }
    }

    async fn disarm(&mut self) {
        let _ = fs::remove_file(self.directory().join("filler"));
        let _ = fs::remove_dir(self.directory().join("siem.position.new"));
    }
}

/// Rows B1 and B3 of the fault matrix, as far as they concern a sink.
#[tokio::test]
async fn files_conform() {
    conforms(&mut Files::new()).await;
}

// ---- standard output -----------------------------------------------------------------------------

#[derive(Clone, Default)]
struct Output {
    written: Arc<Mutex<Vec<u8>>>,
    full: Arc<Mutex<bool>>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if *self.full.lock().unwrap() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Bench for Output {
    async fn sink(&mut self) -> Box<dyn Sink> {
        Box::new(StdoutSink::writing_to("console", Format::Native, self.clone()))
    }

    async fn ledger(&mut self) -> Vec<String> {
        ids_of(std::str::from_utf8(&self.written.lock().unwrap()).unwrap())
    }

    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    fn faults(&self) -> Vec<Fault> {
        vec![Fault::new("redirected to a full disk", Expected::Retry(None))]
    }

    async fn arm(&mut self, _: &Fault) {
        *self.full.lock().unwrap() = true;
    }

    async fn disarm(&mut self) {
        *self.full.lock().unwrap() = false;
    }
}

#[tokio::test]
async fn standard_output_conforms() {
    conforms(&mut Output::default()).await;
}
