//! The life of the daemon from its first thread to its last: open, build, spawn, wait, reload, drain. Each
//! step decides only what comes next; the parts know how.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::build::{self, Surroundings};
use super::crew::{Crew, Ended};
use super::exit::Exit;
use super::log::Logging;
use super::ops::{Ops, Shown};
use super::reload::{self, Plan};
use super::signals::{Ask, Signals};
use crate::config::{Config, SinkConfig, SourceConfig};
use crate::journal::{Health, Journal, JournalError, SystemClock};
use crate::pipeline::deliver::{Delivery, run_sink};
use crate::pipeline::intake::{Intake, run_source};
use crate::pipeline::metrics::Metrics;
use crate::pipeline::status::{State, StatusBoard};
use crate::pipeline::{AdapterError, PipelineError, Sink, Source, chain};

/// From the signal to the last ack: what the parts have to finish what they have in hand. The service
/// manager's own patience has to be longer (`TimeoutStopSec`).
const DRAIN: Duration = Duration::from_secs(7);
/// What the journal has to write its positions and its snapshot after that.
const CLOSE: Duration = Duration::from_secs(2);
/// What one part has to stop when a reload changes or removes it.
const PART_STOP: Duration = Duration::from_secs(5);
/// The part that is not ready until everything has been started, and again when the drain begins.
const PROCESS: &str = "process";
/// The journal's part.
const JOURNAL: &str = "journal";

/// Lives. Returns when everything has ended.
pub(super) async fn live(config: Config, files: &[PathBuf], logging: &Logging) -> Exit {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), data_dir = %config.data_dir.display(), "starting");
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(error = %error, "cannot listen to signals");
            return Exit::Disk;
        }
    };
    match Daemon::start(&config, signals, Some(logging)).await {
        Ok(daemon) => daemon.run(files, Some(logging)).await,
        Err(exit) => exit,
    }
}

/// Lives inside a process that is somebody else's: it listens to `stop` in place of signals, leaves the log to
/// its owner, and hands out its journal once everything has been started.
pub(super) async fn live_within(
    config: Config,
    stop: watch::Receiver<bool>,
    started: oneshot::Sender<Arc<dyn Journal>>,
) -> Exit {
    match Daemon::start(&config, Signals::Owner(stop), None).await {
        Ok(daemon) => {
            // An owner that is not interested any more will say so through `stop`.
            let _ = started.send(Arc::clone(&daemon.surroundings.journal));
            daemon.run(&[], None).await
        }
        Err(exit) => exit,
    }
}

/// A reload that can no longer fail.
struct Reload {
    config: Config,
    plan: Plan,
    built: Built,
}

struct Daemon {
    signals: Signals,
    /// What is in force: sections that need a restart, by name.
    fixed: BTreeMap<&'static str, String>,
    surroundings: Surroundings,
    intake: Intake,
    delivery: Delivery,
    status: StatusBoard,
    metrics: Arc<Metrics>,
    crew: Crew,
    ops: JoinHandle<()>,
}

impl Daemon {
    /// Opens and builds everything, then starts it. What cannot be had is said in the log.
    async fn start(
        config: &Config,
        signals: Signals,
        logging: Option<&Logging>,
    ) -> Result<Self, Exit> {
        let status = StatusBoard::default();
        status.set(PROCESS, State::Starting);
        let metrics = Arc::new(Metrics::new().map_err(|error| {
            tracing::error!(error = %error, "the metrics cannot be registered");
            Exit::Defect
        })?);
        let clock = Arc::new(SystemClock::default());
        let journal = build::journal(config, clock.clone(), Arc::clone(&metrics)).await?;
        // After the journal, so that a second daemon on the directory learns of the first, not of its port.
        let ops = Ops::bind(&config.ops).await.map_err(|error| {
            let listen = config.ops.listen;
            tracing::error!(%listen, error = %error, "cannot listen there for operations; see ops.listen");
            Exit::Usage
        })?;
        tracing::info!(address = %ops.address(), "operations listener: /metrics /ready /live");
        let surroundings = Surroundings {
            journal: Arc::clone(&journal),
            clock: clock.clone(),
            accesses: build::Accesses::default(),
        };
        let shown = Shown {
            metrics: Arc::clone(&metrics),
            status: status.clone(),
            journal: Arc::clone(&journal),
            accesses: surroundings.accesses.clone(),
            dropped: logging.map(Logging::dropped),
        };
        let mut daemon = Self {
            signals,
            fixed: config.fixed.clone(),
            intake: Intake {
                journal: Arc::clone(&journal),
                clock: clock.clone(),
                metrics: Arc::clone(&metrics),
                status: status.clone(),
                gate: Arc::new(Mutex::new(())),
            },
            delivery: Delivery {
                journal,
                clock,
                metrics: Arc::clone(&metrics),
                status: status.clone(),
            },
            surroundings,
            status,
            metrics,
            crew: Crew::default(),
            ops: tokio::spawn(ops.serve(shown)),
        };
        daemon.start_parts(config)?;
        Ok(daemon)
    }

    /// Starts all sinks, then all sources, and lets go of the latch that holds readiness back.
    fn start_parts(&mut self, config: &Config) -> Result<(), Exit> {
        let built =
            build_all(&config.sources, &config.sinks, &self.surroundings).map_err(|errors| {
                errors.iter().for_each(|error| tracing::error!("{error}"));
                Exit::Usage
            })?;
        self.forget_removed_sinks(config);
        for (config, sink) in config.sinks.iter().zip(built.sinks) {
            self.spawn_sink(config, sink);
        }
        for (config, source) in config.sources.iter().zip(built.sources) {
            self.spawn_source(config, source);
        }
        self.spawn_ledger(config)?;
        self.status.set(JOURNAL, State::Ready);
        self.status.set(PROCESS, State::Ready);
        Ok(())
    }

    fn spawn_ledger(&mut self, config: &Config) -> Result<(), Exit> {
        let ledger = build::ledger(config, &self.surroundings, &self.intake).map_err(|error| {
            tracing::error!("ledger: {}", chain(&error));
            Exit::Usage
        })?;
        if let Some(ledger) = ledger {
            self.metrics.init_source(crate::ledger::refill::SOURCE);
            self.crew.spawn("ledger", "", |stop| crate::ledger::run(ledger, stop));
        }
        Ok(())
    }

    fn spawn_sink(&mut self, config: &SinkConfig, sink: Box<dyn Sink>) {
        let (settings, delivery) = (build::sink_settings(config), self.delivery.clone());
        // Before the task runs for the first time, or readiness would not know that it has to wait for it.
        self.status.set(&sink_part(&config.name), State::Starting);
        self.crew.spawn(&sink_part(&config.name), &config.canonical, |stop| {
            run_sink(sink, settings, delivery, stop)
        });
    }

    fn spawn_source(&mut self, config: &SourceConfig, source: Box<dyn Source>) {
        let (settings, intake) = (build::source_settings(config), self.intake.clone());
        self.status.set(&source_part(&config.name), State::Starting);
        self.crew.spawn(&source_part(&config.name), &config.canonical, |stop| {
            run_source(source, settings, intake, stop)
        });
    }

    /// A reader that nobody reads for any more would hold the journal until it is full.
    fn forget_removed_sinks(&self, config: &Config) {
        let journal = &self.surroundings.journal;
        for reader in journal.stat().readers.keys() {
            if !config.sink_names.contains(reader) {
                tracing::warn!(
                    sink = reader,
                    "this sink is no longer configured: its position is forgotten"
                );
                journal.forget_reader(reader);
            }
        }
    }

    /// Waits for what happens, until something ends it.
    async fn run(mut self, files: &[PathBuf], logging: Option<&Logging>) -> Exit {
        let mut health = self.surroundings.journal.health();
        loop {
            let exit = tokio::select! {
                ask = self.signals.next() => match ask {
                    Ask::Stop => {
                        tracing::info!("asked to stop: draining");
                        Some(Exit::Ok)
                    }
                    Ask::Reload => {
                        self.reload(files, logging).await;
                        None
                    }
                },
                (part, how) = self.crew.next_end() => self.judge(&part, how),
                Ok(()) = health.changed() => self.journal_health(&health.borrow_and_update().clone()),
            };
            if let Some(exit) = exit {
                return self.drain(exit).await;
            }
        }
    }

    /// What the end of a part means for the rest: nothing ends unasked and leaves the daemon half alive.
    fn judge(&self, part: &str, how: Ended) -> Option<Exit> {
        match how {
            Ended::Stopped | Ended::Aborted => None,
            Ended::Panicked => {
                self.status.set(part, State::Failed("panicked".to_owned()));
                self.metrics.process_task_panics.inc();
                tracing::error!(part, "this part panicked, a defect in Postern: draining the rest");
                Some(Exit::Defect)
            }
            Ended::Failed(why, error) => {
                self.status.set(part, State::Failed(why.clone()));
                tracing::error!(part, why, "this part cannot go on: draining the rest");
                Some(error.map_or(Exit::Defect, |error| exit_of(&error)))
            }
        }
    }

    fn journal_health(&self, health: &Health) -> Option<Exit> {
        match health {
            Health::Ready => {
                tracing::info!("the journal takes writes again");
                self.metrics.journal_full.set(0);
                self.status.set(JOURNAL, State::Ready);
                None
            }
            Health::Full(what) => {
                tracing::error!(what, "the journal is full: sources wait, sinks go on");
                self.metrics.journal_full.set(1);
                self.status.set(JOURNAL, State::Degraded(what.clone()));
                None
            }
            Health::Poisoned(why) => {
                tracing::error!(why, "the journal is poisoned: nothing more is accepted, ending");
                self.status.set(JOURNAL, State::Failed(why.clone()));
                Some(Exit::Disk)
            }
        }
    }

    /// Takes over what can change. A configuration with an error changes nothing at all.
    async fn reload(&mut self, files: &[PathBuf], logging: Option<&Logging>) {
        match self.prepare(files, logging) {
            Ok(reload) => self.take_over(reload).await,
            Err(errors) => {
                errors.iter().for_each(|error| tracing::error!("{error}"));
                tracing::error!("reload refused: the old configuration stays in force");
            }
        }
    }

    /// Everything about a reload that can fail.
    fn prepare(&self, files: &[PathBuf], logging: Option<&Logging>) -> Result<Reload, Vec<String>> {
        let config = Config::load(files)
            .map_err(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let running = (self.crew.running(reload::SOURCE), self.crew.running(reload::SINK));
        let plan = reload::plan(&self.fixed, &running.0, &running.1, &config);
        let built = build_all(plan.sources(&config), plan.sinks(&config), &self.surroundings)?;
        logging
            .map_or(Ok(()), |logging| logging.reload(&config.log))
            .map_err(|error| vec![error])?;
        Ok(Reload { config, plan, built })
    }

    async fn take_over(&mut self, Reload { config, plan, built }: Reload) {
        for key in &plan.needs_restart {
            tracing::warn!(key, "changed, but needs a restart to take effect");
        }
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        self.stop_parts(&plan).await;
        for (config, sink) in plan.sinks(&config).zip(built.sinks) {
            self.spawn_sink(config, sink);
        }
        for (config, source) in plan.sources(&config).zip(built.sources) {
            self.spawn_source(config, source);
        }
        self.forget_removed_sinks(&config);
        tracing::info!(stopped = ?plan.stop, started = ?plan.start, "reloaded");
    }

    async fn stop_parts(&mut self, plan: &Plan) {
        for part in &plan.stop {
            match self.crew.stop(part, PART_STOP).await {
                Ended::Stopped => tracing::info!(part, "stopped"),
                how => tracing::warn!(part, ?how, "did not stop in good order"),
            }
            self.status.remove(part);
            if let Some(sink) = part.strip_prefix(reload::SINK) {
                self.metrics.forget_sink(sink);
            }
        }
    }

    /// Lets everybody finish what is in hand, then closes the journal. A second signal ends it at once.
    async fn drain(mut self, exit: Exit) -> Exit {
        let began = Instant::now();
        self.status.set(PROCESS, State::Failed("draining".to_owned()));
        let (crew, journal) = (&mut self.crew, &self.surroundings.journal);
        let all = async {
            let ends = crew.drain(began + DRAIN).await;
            (ends, close(journal.as_ref()).await)
        };
        let drained = tokio::select! {
            drained = all => Some(drained),
            () = self.signals.next_stop() => None,
        };
        let Some((ends, closed)) = drained else {
            tracing::warn!("asked to stop a second time: ending at once");
            return if exit == Exit::Ok { Exit::Findings } else { exit };
        };
        let mut exits = vec![exit];
        for (part, how) in ends {
            match how {
                Ended::Aborted => {
                    tracing::warn!(
                        part,
                        "cut off; what it had in hand is done again at the next start"
                    );
                }
                other => exits.extend(self.judge(&part, other)),
            }
        }
        exits.extend(closed.err());
        self.ops.abort();
        tracing::info!(milliseconds = began.elapsed().as_secs_f64() * 1e3, "drained");
        exits.into_iter().find(|exit| *exit != Exit::Ok).unwrap_or(Exit::Ok)
    }
}

fn sink_part(name: &str) -> String {
    format!("{}{name}", reload::SINK)
}

fn source_part(name: &str) -> String {
    format!("{}{name}", reload::SOURCE)
}

/// Builds every source and sink, or says everything that is wrong.
fn build_all<'c>(
    sources: impl IntoIterator<Item = &'c SourceConfig>,
    sinks: impl IntoIterator<Item = &'c SinkConfig>,
    surroundings: &Surroundings,
) -> Result<Built, Vec<String>> {
    let mut built = Built::default();
    let mut errors = Vec::new();
    for config in sources {
        match build::source(config, surroundings) {
            Ok(source) => built.sources.push(source),
            Err(error) => errors.push(refused("source", &config.name, &error)),
        }
    }
    for config in sinks {
        match build::sink(config, surroundings) {
            Ok(sink) => built.sinks.push(sink),
            Err(error) => errors.push(refused("sink", &config.name, &error)),
        }
    }
    if errors.is_empty() { Ok(built) } else { Err(errors) }
}

#[derive(Default)]
struct Built {
    sources: Vec<Box<dyn Source>>,
    sinks: Vec<Box<dyn Sink>>,
}

fn refused(family: &str, name: &str, error: &AdapterError) -> String {
    format!("{family}.{name}: {}", chain(error))
}

async fn close(journal: &dyn Journal) -> Result<(), Exit> {
    match timeout(CLOSE, journal.close()).await {
        Ok(Ok(()) | Err(JournalError::Closed)) => Ok(()),
        Ok(Err(error)) => {
            tracing::error!(error = %error, "the journal could not be closed");
            Err(exit_of_journal(&error))
        }
        Err(_) => {
            tracing::warn!("the journal took too long to close: the next start recovers");
            Ok(())
        }
    }
}

fn exit_of(error: &PipelineError) -> Exit {
    match error {
        PipelineError::Journal(error) => exit_of_journal(error),
        PipelineError::Source { .. } | PipelineError::Sink { .. } => Exit::Findings,
    }
}

const fn exit_of_journal(error: &JournalError) -> Exit {
    match error {
        JournalError::Poisoned(_) | JournalError::Damaged { .. } | JournalError::Io { .. } => {
            Exit::Disk
        }
        JournalError::Truncated { .. } => Exit::Mismatch,
        // Nobody closes it while parts are running.
        JournalError::Closed => Exit::Defect,
    }
}
