//! `postern check`: looks at everything that has to be right before `run` can be, and says what to do about
//! what is not. It changes nothing and fetches nothing; `--send-test` is the one exception, in `send_test.rs`.

mod finding;
mod tenant;

use std::fs::{File, OpenOptions, TryLockError};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::build::{self, Surroundings};
use super::exit::Exit;
use super::send_test;
use crate::config::{Config, SinkKind, SourceConfig, SourceKind};
use crate::journal::{Clock, Embedded, Journal, JournalConfig, SystemClock};
use crate::pipeline::{AdapterError, chain};
use crate::ticket::FarEndConfig;
pub(super) use finding::List;
use finding::Mark;

/// What one probe may take. A broker that does not answer at all is given up by the adapters before that.
const PROBE: Duration = Duration::from_secs(30);
/// What one bare connection may take, to tell a blocked port from other trouble.
const CONNECT: Duration = Duration::from_secs(3);
/// Variables that other programs take a proxy from.
const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Checks the configuration in `files` and everything that it names.
#[must_use]
pub fn run(files: &[PathBuf], send: bool) -> Exit {
    let config = match Config::load(files) {
        Ok(config) => config,
        Err(errors) => {
            for error in errors.0 {
                println!("✗ configuration: {error}");
            }
            return Exit::Usage;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("✗ threads: {error}");
            return Exit::Findings;
        }
    };
    let mut list = List::default();
    runtime.block_on(look(&config, send, &mut list));
    runtime.shutdown_timeout(Duration::from_millis(200));
    println!("\n{} wrong, {} to look at", list.bad, list.advice);
    if list.bad > 0 { Exit::Findings } else { Exit::Ok }
}

async fn look(config: &Config, send: bool, list: &mut List) {
    let (sources, sinks) = (config.sources.len(), config.sinks.len());
    list.good(
        "configuration",
        format!("read; sources that are on: {sources}, sinks that are on: {sinks}"),
    );
    for warning in &config.warnings {
        list.add(Mark::Advice, "configuration", warning.to_string(), None);
    }
    secrets(config, list);
    let running = data_directory(&config.data_dir, config.journal.quota_bytes, list);
    operations(config, running, list);
    proxies(config, list);
    match scratch() {
        Ok(scratch) => {
            tenant::all(config, &scratch.surroundings, list).await;
            parts(config, &scratch.surroundings, list).await;
            if send {
                send_test::run(config, &scratch.surroundings, list).await;
            }
        }
        Err(error) => {
            list.bad("sources and sinks", error, "make the temporary directory writable (TMPDIR)")
        }
    }
}

fn secrets(config: &Config, list: &mut List) {
    for (key, secret) in &config.secrets {
        match secret.read() {
            Ok(_) if secret.readable_by_others() => {
                let todo = "chmod 600, unless the platform mounts it so (Kubernetes)";
                list.advice(key, "can be read, by its group or by everybody too", todo);
            }
            Ok(_) => list.good(key, "the secret can be read"),
            Err(error) => {
                list.bad(
                    key,
                    chain(&error),
                    "the user that Postern runs as must be able to read it",
                );
            }
        }
    }
}

/// Says how the directory is; the answer is whether a daemon holds it.
fn data_directory(directory: &Path, quota: u64, list: &mut List) -> bool {
    const WHAT: &str = "data directory";
    let shown = directory.display();
    if !directory.exists() {
        let parent = directory.ancestors().find(|parent| parent.exists());
        match parent.map(|parent| (parent, writable(parent))) {
            Some((parent, Ok(()))) => {
                list.good(WHAT, format!("{shown} will be made by the first run"));
                space(parent, quota, list);
            }
            Some((parent, Err(error))) => {
                let seen = format!(
                    "{shown} is not there, and cannot be made in {}: {error}",
                    parent.display()
                );
                list.bad(WHAT, seen, "make it, owned by the user that Postern runs as, mode 0700");
            }
            None => list.bad(WHAT, format!("{shown} cannot be reached"), "name another data_dir"),
        }
        return false;
    }
    let running = held(directory);
    match writable(directory) {
        Ok(()) if running => list.good(WHAT, format!("{shown} is in use by a running daemon")),
        Ok(()) => list.good(WHAT, format!("{shown} is writable and not in use")),
        Err(error) => {
            let todo = "the user that Postern runs as must own it";
            list.bad(WHAT, format!("{shown} is not writable: {error}"), todo);
        }
    }
    space(directory, quota, list);
    running
}

fn writable(directory: &Path) -> std::io::Result<()> {
    let path = directory.join(format!(".postern-check-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)
}

/// Whether a daemon holds the directory: it has a lock on this file for as long as it lives.
fn held(directory: &Path) -> bool {
    File::open(directory.join("lock"))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn space(directory: &Path, quota: u64, list: &mut List) {
    const WHAT: &str = "disk space";
    const GIB: f64 = (1u64 << 30) as f64;
    let free = match rustix::fs::statvfs(directory) {
        Ok(volume) => volume.f_bavail.saturating_mul(volume.f_frsize),
        Err(error) => {
            list.bad(WHAT, format!("cannot be told: {error}"), "is the volume mounted?");
            return;
        }
    };
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let seen = format!(
        "{:.1} GiB free, the journal may take {:.1} GiB",
        free as f64 / GIB,
        quota as f64 / GIB
    );
    if free < quota {
        let todo = "a longer outage of a sink would fill the disk first: lower journal.quota_bytes or add space";
        list.advice(WHAT, seen, todo);
    } else {
        list.good(WHAT, seen);
    }
}

fn operations(config: &Config, running: bool, list: &mut List) {
    const WHAT: &str = "operations listener";
    let listen = config.ops.listen;
    match TcpListener::bind(listen) {
        Ok(_) => list.good(WHAT, format!("{listen} is free")),
        Err(_) if running => {
            list.good(WHAT, format!("{listen} is in use, as it should be while a daemon runs"))
        }
        Err(error) => {
            list.bad(WHAT, format!("{listen}: {error}"), "set ops.listen to another address")
        }
    }
}

/// Names variables that are set and that nothing uses; their values may hold a password.
fn proxies(config: &Config, list: &mut List) {
    let set: Vec<&str> = PROXIES
        .into_iter()
        .filter(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
        .collect();
    let used = config.sinks.iter().any(|sink| match &sink.kind {
        SinkKind::Ticket(ticket) => match &ticket.far_end {
            FarEndConfig::Webhook(webhook) => webhook.http.proxy.is_some(),
        },
        SinkKind::Kafka(..) | SinkKind::File(..) | SinkKind::Stdout(_) => false,
    });
    if !set.is_empty() && !used {
        let seen = format!("{} is set, but nothing here uses it", set.join(", "));
        let todo = "if far ends can only be reached through it, set proxy = \"environment\" where they have that key";
        list.advice("proxy", seen, todo);
    }
}

async fn parts(config: &Config, surroundings: &Surroundings, list: &mut List) {
    for source in &config.sources {
        let what = format!("source {}", source.name);
        match build::source(source, surroundings) {
            Ok(mut adapter) => match probe(adapter.probe()).await {
                Ok(proven) => list.good(what, proven),
                Err(trouble) => {
                    let todo = match blocked(source).await {
                        Some(todo) => todo,
                        None => {
                            tenant::permission(source, &trouble).unwrap_or_else(|| trouble.todo())
                        }
                    };
                    list.bad(what, trouble.seen(), todo);
                }
            },
            Err(error) => list.bad(what, chain(&error), "see config/postern.toml for its keys"),
        }
    }
    for sink in &config.sinks {
        let what = format!("sink {}", sink.name);
        match build::sink(sink, surroundings) {
            Ok(mut adapter) => match probe(adapter.probe()).await {
                Ok(proven) => list.good(what, proven),
                Err(trouble) => list.bad(what, trouble.seen(), trouble.todo()),
            },
            Err(error) => list.bad(what, chain(&error), "see config/postern.toml for its keys"),
        }
    }
}

enum Trouble {
    Error(AdapterError),
    Silence,
}

impl Trouble {
    fn seen(&self) -> String {
        match self {
            Self::Error(error) => chain(error),
            Self::Silence => format!("no answer within {} s", PROBE.as_secs()),
        }
    }

    fn todo(&self) -> String {
        use crate::domain::Failure;
        let todo = match self {
            Self::Error(error) => match error.failure {
                Failure::Hold => {
                    "credentials, permissions or names are wrong: compare with the far end"
                }
                Failure::Retry(_) => {
                    "it may pass by itself; if not, look at the network between here and there"
                }
                Failure::Reject | Failure::Fatal => "see the message",
            },
            Self::Silence => {
                "look at the network between here and there: a firewall that drops is silent"
            }
        };
        todo.to_owned()
    }
}

async fn probe(
    probing: impl Future<Output = Result<String, AdapterError>>,
) -> Result<String, Trouble> {
    match timeout(PROBE, probing).await {
        Ok(result) => result.map_err(Trouble::Error),
        Err(_) => Err(Trouble::Silence),
    }
}

/// Whether it is the port: the usual reason, as 9093 is open nowhere by default.
async fn blocked(source: &SourceConfig) -> Option<String> {
    let SourceKind::EventHubs(config) = &source.kind else { return None };
    let client = config.access().client_config().ok()?;
    closed(client.get("bootstrap.servers")?).await
}

/// Why none of `brokers` can be connected to, unless one can.
async fn closed(brokers: &str) -> Option<String> {
    for broker in brokers.split(',').map(str::trim) {
        match timeout(CONNECT, TcpStream::connect(broker)).await {
            Ok(Ok(_)) => return None,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                return Some(format!("nothing listens on {broker}: is the address right?"));
            }
            Ok(Err(error)) => return Some(format!("{broker} cannot be reached: {error}")),
            Err(_) => {}
        }
    }
    Some(format!(
        "no TCP connection to {brokers}: outbound port 9093 (Kafka) is probably blocked; open it, or use a `storage` source, which needs only HTTPS (443)"
    ))
}

/// A journal of its own in a temporary directory, since the real one is not to be touched (and may be in use).
pub(super) struct Scratch {
    pub(super) surroundings: Surroundings,
    directory: PathBuf,
}

fn scratch() -> Result<Scratch, String> {
    let directory = std::env::temp_dir().join(format!("postern-check-{}", std::process::id()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let config = JournalConfig { reserve_bytes: 0, ..JournalConfig::default() };
    let journal = Embedded::open(&directory.join("journal"), config, Arc::clone(&clock))
        .map_err(|error| chain(&error))?;
    let journal: Arc<dyn Journal> = Arc::new(journal);
    Ok(Scratch {
        surroundings: Surroundings { journal, clock, accesses: build::Accesses::default() },
        directory,
    })
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener whose queue is full drops what comes, as a firewall does.
    #[tokio::test]
    async fn a_port_that_drops_is_called_blocked_and_one_that_refuses_is_not() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(1).unwrap();
        let place = full.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(stream)) =
            timeout(Duration::from_millis(300), TcpStream::connect(place)).await
        {
            held.push(stream);
            assert!(held.len() < 50, "the queue is never full");
        }
        let todo = closed(&place.to_string()).await.unwrap();
        insta::assert_snapshot!(todo.replace(&place.to_string(), "hubs.example:9093"));
        drop(full);
        let todo = closed(&place.to_string()).await.unwrap();
        assert!(todo.contains("nothing listens"), "{todo}");
    }
}
