//! A simulated tenant on a real Kafka, the configuration that reads it and writes to Kafka and files, and the
//! judgement over what came out.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postern::journal::SystemClock;
use postern::simulator::envelope::Hubs;
use postern::simulator::feed::{End, FeedConfig, feed};
use postern::simulator::random::Random;
use postern::simulator::tenant::Settings;
use postern::simulator::truth::Truth;
use tokio::sync::watch;

use crate::daemon::{Daemon, PATIENCE, postern};
use crate::kafka::{Broker, free_port};

const PARTITIONS: i32 = 3;
const TENANT: &str = "9f4c1b1e-7a52-4c0e-8d55-0f1e2d3c4b5a";

/// The seed of this run: `POSTERN_TEST_SEED`, or a new one; printed either way.
pub fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let seed = std::env::var("POSTERN_TEST_SEED").map_or_else(
            |_| {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                u64::from(now.unwrap().subsec_nanos())
            },
            |text| text.parse().expect("POSTERN_TEST_SEED is a number"),
        );
        eprintln!("POSTERN_TEST_SEED={seed}");
        seed
    })
}

/// Randomness from that seed.
pub fn random() -> Random {
    Random::new(seed())
}

/// A folder with a configuration, and the topics it names.
pub struct Rig {
    folder: tempfile::TempDir,
    bootstrap: String,
    hub: String,
    out: String,
    ops_port: u16,
    reader: rdkafka::ClientConfig,
    data: PathBuf,
    files: bool,
    extra: String,
}

/// A feed in the background.
pub struct Feed {
    thread: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Feed {
    /// Waits until the tenant has sent all its mail.
    pub fn join(self) {
        self.thread.join().unwrap();
    }

    /// Tells the tenant to stop, and waits until what it has begun is sent.
    pub fn stop(self) {
        self.stop.send_replace(true);
        self.thread.join().unwrap();
    }
}

impl Rig {
    /// Topics of its own on `broker`, and a configuration that reads one and writes to the other and to files.
    pub fn new(broker: &Broker, name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("postern-process-").tempdir().unwrap();
        let (hub, out) = (format!("{name}-hub"), format!("{name}-out"));
        broker.create_topic(&hub, PARTITIONS, &[]);
        broker.create_topic(&out, 2, &[]);
        let data = folder.path().join("data");
        Self {
            bootstrap: broker.bootstrap(),
            reader: broker.client(),
            hub,
            out,
            ops_port: free_port(),
            data,
            files: true,
            extra: String::new(),
            folder,
        }
    }

    /// Without the file sink.
    pub fn without_files(mut self) -> Self {
        self.files = false;
        self
    }

    /// With the data directory on another disk.
    pub fn on(mut self, disk: &Path) -> Self {
        self.data = disk.join("data");
        self
    }

    /// With further lines of configuration.
    pub fn with(mut self, extra: &str) -> Self {
        extra.clone_into(&mut self.extra);
        self
    }

    /// Writes the configuration and says where it is.
    fn config(&self) -> PathBuf {
        let mut text = String::new();
        let (bootstrap, hub, out) = (&self.bootstrap, &self.hub, &self.out);
        write!(
            text,
            r#"data_dir = "{data}"

[ops]
listen = "127.0.0.1:{ops_port}"

[tenant.contoso]
id = "{TENANT}"

[source.hubs]
type = "event_hubs"
tenant = "contoso"
bootstrap = "{bootstrap}"
hubs = ["{hub}"]
auth = "none"

[sink.siem]
type = "kafka"
start = "beginning"
bootstrap = "{bootstrap}"
topic = "{out}"
auth = "none"

{extra}
"#,
            data = self.data.display(),
            ops_port = self.ops_port,
            extra = self.extra,
        )
        .unwrap();
        if self.files {
            let directory = self.path("files");
            fs::create_dir_all(&directory).unwrap();
            write!(
                text,
                "[sink.files]\ntype = \"file\"\nstart = \"beginning\"\ndirectory = \"{}\"\n",
                directory.display()
            )
            .unwrap();
        }
        let path = self.path("postern.toml");
        fs::write(&path, text).unwrap();
        path
    }

    /// Where what the tests collect is put.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sends this many mails of a simulated tenant to the hub as fast as it takes them, in the background.
    pub fn feed(&self, mails: u64) -> Feed {
        self.feed_until(End::AfterMails(mails))
    }

    /// Sends mail as it would come, until told to stop.
    pub fn live_feed(&self) -> Feed {
        self.feed_until(End::Never)
    }

    fn feed_until(&self, end: End) -> Feed {
        let config = FeedConfig {
            bootstrap: self.bootstrap.clone(),
            hubs: Hubs::One(self.hub.as_str().into()),
            partitions: PARTITIONS,
            tenant: Settings { tenant_id: TENANT.into(), seed: seed(), ..Settings::default() },
            poison_per_mille: 20,
            end,
        };
        let truth = Arc::new(Mutex::new(Truth::create(&self.path("truth.ndjson")).unwrap()));
        let stop = watch::Sender::new(false);
        let receiver = stop.subscribe();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let clock = Arc::new(SystemClock::default());
            runtime.unwrap().block_on(feed(&config, clock, None, receiver, truth)).unwrap();
        });
        Feed { thread, stop }
    }

    /// The command that runs the program.
    pub fn command(&self) -> Command {
        let mut command = postern();
        command.arg("run").arg("--config").arg(self.config());
        command
    }

    /// Starts the program.
    pub fn start(&self) -> Daemon {
        self.start_as(self.command())
    }

    /// Starts the program through another command line.
    pub fn start_as(&self, command: Command) -> Daemon {
        Daemon::start(command, &self.path("log"), self.ops_port)
    }

    /// Waits until the daemon has read all there is and both sinks are past it.
    pub fn wait_until_delivered(&self, daemon: &Daemon) {
        let deadline = Instant::now() + PATIENCE;
        let mut zero = vec![
            "postern_source_backlog_messages{source=\"hubs\"}",
            "postern_sink_lag_events{sink=\"siem\"}",
        ];
        if self.files {
            zero.push("postern_sink_lag_events{sink=\"files\"}");
        }
        let idle = |daemon: &Daemon| {
            daemon.metric("postern_source_up{source=\"hubs\"}") == Some(1.0)
                && zero.iter().all(|series| daemon.metric(series) == Some(0.0))
        };
        // Idle twice with a poll between: a page may have been in flight the first time.
        let mut times = 0;
        while times < 3 {
            times = if idle(daemon) { times + 1 } else { 0 };
            assert!(Instant::now() < deadline, "it does not get idle:\n{}", daemon.log());
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// One last undisturbed run until everything is delivered, a clean stop, and the judgement.
    pub fn drain_and_judge(&self) {
        let mut daemon = self.start();
        self.wait_until_delivered(&daemon);
        assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
        self.judge();
    }

    /// Exports the journal, reads the sink's topic as a `read_committed` reader, and asks the oracle.
    pub fn judge(&self) {
        self.export("journal.ndjson", &[]);
        self.export("dead-letters.ndjson", &["--to", "0", "--dead-letters"]);
        let verified =
            postern().args(["journal", "verify", "--data-dir"]).arg(&self.data).output().unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        let mut dump = Vec::new();
        for message in crate::kafka::read_with(&self.reader, &self.out, "read_committed") {
            dump.extend_from_slice(rdkafka::Message::payload(&message).unwrap());
            dump.push(b'\n');
        }
        fs::write(self.path("committed.ndjson"), dump).unwrap();
        self.ask_oracle(&["--sink", "committed.ndjson"]);
    }

    fn export(&self, name: &str, more: &[&str]) {
        let output = postern()
            .args(["journal", "export", "--data-dir"])
            .arg(&self.data)
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::write(self.path(name), output.stdout).unwrap();
    }

    /// Judges the files of the file sink too.
    pub fn judge_file_sink(&self) {
        let mut names: Vec<_> = fs::read_dir(self.path("files"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "ndjson"))
            .collect();
        names.sort();
        let all: Vec<u8> = names.iter().flat_map(|path| fs::read(path).unwrap()).collect();
        fs::write(self.path("files.ndjson"), all).unwrap();
        self.ask_oracle(&["--sink", "files.ndjson"]);
    }

    fn ask_oracle(&self, more: &[&str]) {
        if std::env::var("POSTERN_TEST_WITHOUT").is_ok_and(|parts| parts.contains("python")) {
            eprintln!("SKIPPED the independent oracle: POSTERN_TEST_WITHOUT names python");
            return;
        }
        let oracle = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/oracle.py");
        let output = Command::new("python3")
            .current_dir(self.folder.path())
            .arg(oracle)
            .args(["--truth", "truth.ndjson", "--journal", "journal.ndjson"])
            .args(["--dead-letters", "dead-letters.ndjson"])
            .args(more)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        eprint!("{text}");
        assert!(
            output.status.success(),
            "the oracle says no:\n{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
