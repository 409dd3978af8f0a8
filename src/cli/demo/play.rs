//! The play itself: starts Postern and the tenant, shows what happens, lets everything arrive, and hands what
//! there is to the reckoning. How lines look and what is right is decided elsewhere.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::app::{self, Exit};
use crate::config::Config;
use crate::journal::{Clock, Journal, Offset, SystemClock};
use crate::simulator::feed::{End, Ends, FeedConfig, FeedError, Position, feed_beside};
use crate::simulator::random::Random;
use crate::simulator::tenant::Settings;
use crate::simulator::truth::{Totals, Truth};

use super::DemoArgs;
use super::beside::{self, transports};
use super::board::{Board, Figures};
use super::reckoning::{self, Proof, Reckoning};
use super::scene::{FILE_SINK, PARTITIONS, SOURCE, Scene, TICKET_SINK};
use super::screen::Screen;

/// Of a thousand messages, how many are followed by one that nobody can read.
const POISON_PER_MILLE: u64 = 15;
/// The truth is kept in memory; the tenant falls silent when it has sent this many different records.
const MOST_RECORDS: u64 = 2_000_000;
/// How long nothing may move before the demo stops waiting for the rest: longer than a source that had several
/// bad moments in a row holds back.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long after the first Ctrl-C another one still means the same.
const SAME_WISH: Duration = Duration::from_secs(1);
/// How often it looks whether the rest has arrived.
const LOOK: Duration = Duration::from_millis(20);
/// Raw bytes that one read of the journal brings.
const READ_BYTES: usize = 1 << 20;

/// The parts of the play that are going on.
struct Play {
    screen: Screen,
    board: Board,
    seen: Offset,
    truth: Arc<Mutex<Truth>>,
    journal: Arc<dyn Journal>,
    scene: Scene,
    began: Instant,
    planned: Option<Duration>,
    seed: u64,
    /// Events and time at the last look, for the rate.
    last: (u64, Instant),
    rate: f64,
    /// What goes on, where it is not just mail.
    now: &'static str,
}

/// What is still to be done, and what has been: if it stays the same, nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Left {
    sent: u64,
    journaled: u64,
    messages: u64,
    shown: u64,
    deliveries: u64,
}

/// Plays it in `folder`.
pub async fn play(arguments: &DemoArgs, folder: &Path) -> anyhow::Result<(Proof, Screen)> {
    let mut screen = Screen::new();
    screen.print(&screen.bold("Postern demo"));
    screen.print(&format!(
        "A simulated tenant (seed {}, about {} mails/s) shows its mail as Microsoft Defender does: event hubs, blob",
        arguments.seed, arguments.rate
    ));
    screen.print("storage, incidents, alerts, advanced hunting and the audit log, all played inside this process, bad moments");
    screen.print("included. Postern itself is real: it reads them all, journals every record once, tags what overrides let in,");
    screen.print("writes a file and opens tickets. Nothing leaves this machine.");
    screen.print("");

    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let unforeseen = clock.now().0.unsigned_abs() ^ u64::from(std::process::id()).rotate_left(32);
    let truth_file = arguments.truth.clone().unwrap_or_else(|| folder.join("truth.ndjson"));
    let truth = Truth::create(&truth_file)
        .with_context(|| format!("cannot write {}", truth_file.display()))?;
    let truth = Arc::new(Mutex::new(truth));
    let scene = Scene::start(
        folder,
        arguments.seed,
        &mut Random::new(unforeseen),
        Arc::clone(&clock),
        Arc::clone(&truth),
    )
    .await?;

    let config = Config::from_text(&scene.config_file, &scene.config)
        .map_err(|errors| anyhow!("the demo's own configuration is wrong: {errors}"))?;
    let (stop_daemon, daemon_stopped) = watch::channel(false);
    let (say, hear) = oneshot::channel();
    let daemon = tokio::spawn(app::run_within(config, daemon_stopped, say));
    let Ok(journal) = hear.await else {
        let exit = daemon.await.context("Postern ended at once")?;
        return Err(anyhow!("Postern ended at once with exit code {}", exit.code()));
    };

    let (stop_feed, feed_stopped) = watch::channel(false);
    let feeding = start_feed(arguments, &scene, &journal, clock, feed_stopped, &truth);
    let mut play = Play {
        screen,
        board: Board::default(),
        seen: 0,
        truth,
        journal,
        scene,
        began: Instant::now(),
        planned: arguments.time,
        seed: arguments.seed,
        last: (0, Instant::now()),
        rate: 0.0,
        now: "",
    };
    let mut reckoning = Reckoning::default();
    play.watch(&feeding, &daemon, &mut reckoning).await?;
    stop_feed.send_replace(true);
    play.settle(feeding, &daemon, &mut reckoning).await?;
    play.finish(stop_daemon, daemon, folder, reckoning).await
}

fn start_feed(
    arguments: &DemoArgs,
    scene: &Scene,
    journal: &Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
    truth: &Arc<Mutex<Truth>>,
) -> JoinHandle<Result<Ends, FeedError>> {
    let config = FeedConfig {
        bootstrap: scene.broker.bootstrap().to_owned(),
        hubs: scene.hubs.clone(),
        partitions: PARTITIONS,
        tenant: Settings {
            seed: arguments.seed,
            mails_per_second: arguments.rate,
            ..Settings::default()
        },
        poison_per_mille: POISON_PER_MILLE,
        end: End::Never,
    };
    let journal = Arc::clone(journal);
    let position: Position = Arc::new(move |hub, partition| journaled(&*journal, hub, partition));
    let truth = Arc::clone(truth);
    let beside = beside::beside(&scene.cloud);
    tokio::spawn(
        async move { feed_beside(&config, clock, Some(position), stop, truth, beside).await },
    )
}

/// The next offset that the journal wants of a partition: the cursor that is durable there.
fn journaled(journal: &dyn Journal, hub: &str, partition: i32) -> i64 {
    let key = format!("{SOURCE}/{hub}/{partition}");
    let cursors = journal.cursors(&key);
    let offset = cursors.get(&*key).and_then(|cursor| {
        serde_json::from_str::<serde_json::Value>(cursor).ok()?.get("offset")?.as_i64()
    });
    offset.unwrap_or(0)
}

impl Play {
    /// Shows what happens until the time is over, the user wants no more, or a part ends by itself.
    async fn watch(
        &mut self,
        feeding: &JoinHandle<Result<Ends, FeedError>>,
        daemon: &JoinHandle<Exit>,
        reckoning: &mut Reckoning,
    ) -> anyhow::Result<()> {
        let end = self.planned.map(|planned| self.began + planned);
        let mut pace = tokio::time::interval(self.screen.pace());
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        loop {
            tokio::select! {
                _ = pace.tick() => {}
                _ = &mut interrupted => return Ok(()),
                () = until(end) => return Ok(()),
            }
            self.follow().await?;
            self.show();
            if feeding.is_finished() {
                reckoning.trouble.push("the tenant stopped by itself".to_owned());
                return Ok(());
            }
            if daemon.is_finished() {
                reckoning.trouble.push("Postern stopped by itself".to_owned());
                return Ok(());
            }
            if self.totals().records >= MOST_RECORDS {
                return Ok(());
            }
        }
    }

    /// Takes in what the journal has that was not seen yet.
    async fn follow(&mut self) -> anyhow::Result<()> {
        let journal = &self.journal;
        loop {
            let events =
                journal.read(self.seen, READ_BYTES).await.context("cannot read the journal")?;
            let Some(last) = events.last() else { return Ok(()) };
            self.seen = last.offset + 1;
            events.iter().for_each(|numbered| self.board.take(&numbered.event));
        }
    }

    /// What goes on now: a line that stays, or the last of the lines that are redrawn.
    fn announce(&mut self, what: &'static str) {
        self.now = what;
        if !self.screen.is_live() {
            self.screen.print(what);
        }
    }

    fn show(&mut self) {
        let figures = self.figures();
        if self.screen.is_live() {
            let mut lines = self.board.lines(&figures);
            if !self.now.is_empty() {
                lines.extend([String::new(), format!("  {}", self.now)]);
            }
            self.screen.draw(&lines);
        } else {
            self.screen.print(&self.board.line(&figures));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for the eye")]
    fn figures(&mut self) -> Figures {
        let (events, at) = self.last;
        let passed = at.elapsed().as_secs_f64();
        if passed >= 1.0 {
            self.rate = (self.board.events() - events) as f64 / passed;
            self.last = (self.board.events(), Instant::now());
        }
        let stat = self.journal.stat();
        Figures {
            elapsed: self.planned.unwrap_or(Duration::MAX).min(self.began.elapsed()),
            planned: self.planned,
            seed: self.seed,
            sent: self.totals(),
            rate: self.rate,
            delivered: stat.readers.get(FILE_SINK).copied().unwrap_or(0),
            tickets: self.scene.receiver.count(),
            dead_letters: stat.dead_letters,
        }
    }

    fn totals(&self) -> Totals {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner).totals()
    }

    /// Lets the tenant send what was still to come, then waits until the journal is behind the last message of
    /// each partition and both sinks are behind the journal's last event. Gives up when nothing moves any
    /// more, and when the user asks a second time.
    async fn settle(
        &mut self,
        mut feeding: JoinHandle<Result<Ends, FeedError>>,
        daemon: &JoinHandle<Exit>,
        reckoning: &mut Reckoning,
    ) -> anyhow::Result<()> {
        self.announce(
            "The tenant has stopped. Waiting until everything is journaled and delivered …",
        );
        // Some send the same Ctrl-C twice (a shell's time-out does); only a later one is a second wish.
        let mut again = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
        let began = Instant::now();
        let mut look = tokio::time::interval(LOOK);
        let mut ends = None;
        let (mut before, mut moved, mut shown) = (Left::default(), Instant::now(), Instant::now());
        loop {
            tokio::select! {
                _ = look.tick() => {}
                ended = &mut feeding, if ends.is_none() => {
                    ends = Some(ended??);
                    self.scene.cloud.finish();
                }
                _ = again.recv() => {
                    if began.elapsed() > SAME_WISH {
                        reckoning.interrupted = true;
                        break;
                    }
                }
            }
            self.follow().await?;
            let left = self.left(ends.as_ref());
            if ends.is_some() && (left.messages, left.shown, left.deliveries) == (0, 0, 0) {
                break;
            }
            if left != before {
                (before, moved) = (left, Instant::now());
            }
            if moved.elapsed() > PATIENCE || daemon.is_finished() {
                reckoning.trouble.push(format!(
                    "gave up waiting: {} messages not journaled, {} things of the cloud not journaled, {} deliveries \
                     not made",
                    left.messages, left.shown, left.deliveries
                ));
                break;
            }
            if shown.elapsed() > self.screen.pace() {
                self.show();
                shown = Instant::now();
            }
        }
        if ends.is_none() && !reckoning.interrupted {
            reckoning.trouble.push("the tenant could not send all that it had".to_owned());
        }
        if ends.is_none() {
            feeding.abort();
            let _ = feeding.await;
        }
        Ok(())
    }

    /// What is still to be done; messages are not known before the tenant has told where each partition ends.
    fn left(&self, ends: Option<&Ends>) -> Left {
        let stat = self.journal.stat();
        let shown = match ends {
            Some(_) => {
                let truth = self.truth.lock().unwrap_or_else(PoisonError::into_inner);
                self.board.arrivals.missing(&truth, &things())
            }
            None => 0,
        };
        let messages = ends
            .into_iter()
            .flatten()
            .map(|((hub, partition), end)| end - journaled(&*self.journal, hub, *partition))
            .map(|missing| u64::try_from(missing).unwrap_or(0))
            .sum();
        let deliveries = [FILE_SINK, TICKET_SINK]
            .iter()
            .map(|sink| stat.next - stat.readers.get(*sink).copied().unwrap_or(0).min(stat.next))
            .sum();
        Left { sent: self.totals().messages, journaled: stat.next, messages, shown, deliveries }
    }

    /// Stops Postern in good order and compares.
    async fn finish(
        mut self,
        stop: watch::Sender<bool>,
        daemon: JoinHandle<Exit>,
        folder: &Path,
        mut reckoning: Reckoning,
    ) -> anyhow::Result<(Proof, Screen)> {
        self.now = "";
        self.show();
        // The feed has ended, and the cloud lets go of it: nobody else has it any more.
        self.scene.cloud.close_books();
        let truth = Arc::into_inner(self.truth).context("the truth is still being written")?;
        let mut truth = truth.into_inner().unwrap_or_else(PoisonError::into_inner);
        if reckoning.trouble.is_empty() && !reckoning.interrupted {
            truth.finish().context("cannot write the truth file")?;
        } else {
            truth.flush().context("cannot write the truth file")?;
        }
        reckoning.sent = truth.totals();
        let shown = truth.shown();
        reckoning.things = things().into_iter().map(|kind| (kind, shown.things(kind))).collect();
        let rows = |transport: &beside::Transport| (transport.source, shown.rows(transport.source));
        reckoning.shown = transports().filter(|one| one.thing.is_none()).map(rows).collect();
        reckoning::of_journal(&*self.journal, &truth, &mut reckoning).await?;
        stop.send_replace(true);
        let exit = daemon.await.context("Postern was cut off")?;
        if exit != Exit::Ok {
            reckoning.trouble.push(format!("Postern ended with exit code {}", exit.code()));
        }
        reckoning::of_files(&folder.join("events"), &truth, &mut reckoning)?;
        reckoning::of_tickets(&self.scene.receiver.tickets(), &truth, &mut reckoning);
        self.screen.print("");
        for line in reckoning.lines(&self.screen) {
            self.screen.print(&line);
        }
        Ok((reckoning.proof(), self.screen))
    }
}

/// Kinds of things that are no rows and must arrive.
fn things() -> Vec<&'static str> {
    transports().filter_map(|transport| transport.thing).collect()
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}
