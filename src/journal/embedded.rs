//! The embedded engine as the stages see it: one writer thread that commits in groups, readers that read beside it.
//! What a commit does is `engine`'s business; here is who waits for whom.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::codec::{EncodedUnit, Encoder};
use super::engine::{Commit, Engine, hex};
use super::error::OpenError;
use super::identity::{mismatch, note_id, read_id};
use super::inventory::journal_id_of;
use super::real::{DirectoryLock, RealDisk, survive_file_size_limit};
use super::shared::Shared;
use super::view::lock;
use super::watermark::{Group, Taken};
use super::{
    Appended, Clock, Health, Journal, JournalConfig, JournalError, JournalStat, Numbered, Offset,
    OnFull, ReaderStart, Receipt, Unit,
};
use crate::domain::{Cursors, DeadLetter, EventId, TicketRecord};
use crate::pipeline::metrics::Metrics;

/// Encoded units that may wait for the writer, in KiB: appends wait beyond it.
const QUEUE_KIB: u32 = 16 << 10;
/// How often positions are made durable and `maintain` runs.
const TICK: Duration = Duration::from_secs(1);
/// How soon a full disk is looked at again.
const FULL_TICK: Duration = Duration::from_millis(500);
/// A commit waits for company only if the one before it had this much.
const COMPANY: usize = 4;

/// The embedded journal.
pub struct Embedded {
    shared: Arc<Shared<RealDisk>>,
    queue: Arc<Group<Job>>,
    room: Arc<Semaphore>,
    /// Room of its own for what must get on while the rest waits.
    urgent_room: Arc<Semaphore>,
    encoders: Mutex<Vec<Encoder>>,
    watermark: watch::Receiver<Offset>,
    health: Arc<watch::Sender<Health>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    closed: Mutex<Option<oneshot::Receiver<Result<(), JournalError>>>>,
    closing: Arc<std::sync::atomic::AtomicBool>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedded({})", self.shared.journal_id)
    }
}

/// A unit on its way to the writer.
struct Job {
    unit: EncodedUnit,
    receipt: oneshot::Sender<Result<Appended, JournalError>>,
    room: OwnedSemaphorePermit,
}

impl Embedded {
    /// Opens the journal in `directory` (created if it is missing), takes its lock, recovers, and starts the writer.
    /// The journal's id is noted beside the directory, in `<directory>.id`, so that an empty or foreign volume in
    /// its place is noticed.
    pub fn open(
        directory: &Path,
        config: JournalConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        Self::open_measured(directory, config, clock, None)
    }

    /// [`Embedded::open`] with metrics to keep.
    pub fn open_measured(
        directory: &Path,
        config: JournalConfig,
        clock: Arc<dyn Clock>,
        metrics: Option<Arc<Metrics>>,
    ) -> Result<Self, OpenError> {
        survive_file_size_limit();
        let expected = read_id(directory)?;
        if expected.is_some() && !directory.exists() {
            return Err(mismatch(directory, expected, None));
        }
        let disk = RealDisk::create(directory)?;
        let held = disk.lock()?;
        let found = journal_id_of(&disk)?.map(|id| hex(&id));
        if expected.is_some() && found != expected {
            return Err(mismatch(directory, expected, found));
        }
        let engine = Engine::open(Arc::new(disk), config, clock.now(), seed())?;
        if expected.is_none() {
            note_id(directory, &engine.shared.journal_id)?;
        }
        if let Some(metrics) = &metrics {
            metrics.journal_tails_repaired.inc_by(engine.shared.tails_repaired);
        }
        Self::start(engine, held, clock, metrics)
    }

    fn start(
        engine: Engine<RealDisk>,
        held: DirectoryLock,
        clock: Arc<dyn Clock>,
        metrics: Option<Arc<Metrics>>,
    ) -> Result<Self, OpenError> {
        let shared = Arc::clone(&engine.shared);
        let queue: Arc<Group<Job>> = Arc::default();
        let (durable, watermark) = watch::channel(shared.view.watermark.get());
        let health = Arc::new(watch::Sender::new(shared.health()));
        let (done, closed) = oneshot::channel();
        let closing: Arc<std::sync::atomic::AtomicBool> = Arc::default();
        let mut writer = Writer {
            engine,
            queue: Arc::clone(&queue),
            clock,
            durable,
            health: Arc::clone(&health),
            metrics,
            waiting: Vec::new(),
            waiting_urgent: Vec::new(),
            backlog: VecDeque::new(),
            last_commit: Duration::ZERO,
            last_company: 0,
            next_tick: Duration::ZERO,
            closing: Arc::clone(&closing),
        };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            let shared = Arc::clone(&writer.engine.shared);
            let health = Arc::clone(&writer.health);
            let queue = Arc::clone(&writer.queue);
            let run = std::panic::AssertUnwindSafe(|| writer.run());
            let result = std::panic::catch_unwind(run)
                .unwrap_or_else(|_| Err(shared.poison("the writer panicked".to_owned())));
            health.send_replace(shared.health());
            queue.close();
            // Whoever still waits is told by the drop of its sender.
            while let Taken::Items(_) = queue.take(u64::MAX) {}
            drop((writer, held));
            let _ = done.send(result);
        });
        let thread = thread.map_err(OpenError::io("start the journal's thread"))?;
        Ok(Self {
            shared,
            queue,
            room: Arc::new(Semaphore::new(QUEUE_KIB as usize)),
            urgent_room: Arc::new(Semaphore::new(QUEUE_KIB as usize)),
            encoders: Mutex::default(),
            watermark,
            health,
            writer: Mutex::new(Some(thread)),
            closed: Mutex::new(Some(closed)),
            closing,
        })
    }

    fn encode(&self, unit: Unit) -> Result<EncodedUnit, JournalError> {
        let idle = lock(&self.encoders).pop();
        let level = self.shared.config.compression_level;
        let mut encoder = idle.unwrap_or_else(|| Encoder::new(level));
        let encoded = encoder.encode(unit);
        lock(&self.encoders).push(encoder);
        encoded.map_err(|too_large| JournalError::Io {
            segment: "a unit".to_owned(),
            detail: format!("{} bytes are more than a unit may have", too_large.0),
        })
    }

    fn show_health(&self) {
        show_health(&self.health, &self.shared);
    }
}

fn show_health(to: &watch::Sender<Health>, shared: &Shared<RealDisk>) {
    let health = shared.health();
    to.send_if_modified(|known| {
        let changed = *known != health;
        *known = health;
        changed
    });
}

/// A journal that is dropped without being closed stops as if the process had been killed.
impl Drop for Embedded {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = lock(&self.writer).take() {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Journal for Embedded {
    fn admit(&self, keys: &[EventId]) -> Vec<bool> {
        lock(&self.shared.state).admit(keys)
    }

    fn withdraw(&self, keys: &[EventId]) {
        lock(&self.shared.state).release(keys);
    }

    async fn append(&self, unit: Unit) -> Result<Receipt, JournalError> {
        self.shared.check()?;
        let unit = self.encode(unit)?;
        let bytes = unit.stored_bytes() as u64;
        let weight = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, QUEUE_KIB);
        let urgent = unit.is_urgent();
        let rooms = if urgent { &self.urgent_room } else { &self.room };
        let room = Arc::clone(rooms).acquire_many_owned(weight).await;
        let room = room.map_err(|_| JournalError::Closed)?;
        let mut health = self.health.subscribe();
        let well = health.wait_for(|health| urgent || !matches!(health, Health::Full(_))).await;
        if let Ok(Health::Poisoned(reason)) = well.as_deref() {
            return Err(JournalError::Poisoned(reason.clone()));
        }
        drop(well);
        let (receipt, answer) = oneshot::channel();
        match self.queue.push(Job { unit, receipt, room }, bytes) {
            Ok(()) => Ok(Receipt(answer)),
            Err(_) => {
                self.shared.check()?;
                Err(JournalError::Closed)
            }
        }
    }

    fn cursors(&self, prefix: &str) -> Cursors {
        lock(&self.shared.state).cursors(prefix)
    }

    async fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<Numbered>, JournalError> {
        let recent = self.shared.view.read_recent(from, max_bytes);
        if !recent.is_empty() || from >= self.shared.view.watermark.get() {
            return Ok(recent);
        }
        let shared = Arc::clone(&self.shared);
        let read = move || shared.view.read(from, max_bytes);
        tokio::task::spawn_blocking(read).await.unwrap_or(Err(JournalError::Closed))
    }

    fn watermark(&self) -> watch::Receiver<Offset> {
        self.watermark.clone()
    }

    fn register_reader(
        &self,
        name: &str,
        start: ReaderStart,
        on_full: OnFull,
    ) -> Result<Offset, JournalError> {
        let registered = self.shared.register_reader(name, start, on_full);
        self.show_health();
        registered
    }

    fn ack(&self, reader: &str, next: Offset) {
        self.shared.ack(reader, next);
    }

    fn forget_reader(&self, name: &str) {
        self.shared.forget_reader(name);
    }

    fn tickets(&self, sink: &str) -> Vec<TicketRecord> {
        lock(&self.shared.state).tickets(sink)
    }

    fn dead_letters(&self) -> Vec<DeadLetter> {
        lock(&self.shared.state).dead_letters()
    }

    fn stat(&self) -> JournalStat {
        self.shared.stat()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    async fn close(&self) -> Result<(), JournalError> {
        self.closing.store(true, std::sync::atomic::Ordering::Release);
        self.queue.close();
        let closed = lock(&self.closed).take();
        match closed {
            Some(closed) => closed.await.unwrap_or(Err(JournalError::Closed)),
            None => Ok(()),
        }
    }
}

/// Who waits for a unit, and the room that it takes in the queue.
type Waiting = (oneshot::Sender<Result<Appended, JournalError>>, OwnedSemaphorePermit);

/// The writer thread's side.
struct Writer {
    engine: Engine<RealDisk>,
    queue: Arc<Group<Job>>,
    clock: Arc<dyn Clock>,
    durable: watch::Sender<Offset>,
    health: Arc<watch::Sender<Health>>,
    metrics: Option<Arc<Metrics>>,
    /// Whose units are staged.
    waiting: Vec<Waiting>,
    waiting_urgent: Vec<Waiting>,
    /// What came while nothing could be written, in order.
    backlog: VecDeque<Job>,
    last_commit: Duration,
    last_company: usize,
    next_tick: Duration,
    closing: Arc<std::sync::atomic::AtomicBool>,
}

impl Writer {
    fn run(&mut self) -> Result<(), JournalError> {
        loop {
            let config = &self.engine.shared.config;
            // A group that is more than a segment might never fit into a small quota.
            let limit = config.group_bytes.min(config.segment_limit());
            let left = self.next_tick.saturating_sub(self.clock.monotonic());
            let taken = if self.waiting.is_empty() && !self.backlog.is_empty() {
                Taken::Items(self.take_backlog(limit))
            } else if self.waiting.is_empty() {
                self.linger();
                self.queue.wait(limit, left)
            } else {
                // The disk or the quota is full: what is urgent overtakes what waits.
                let taken = self.queue.wait(u64::MAX, FULL_TICK.min(left));
                if self.queue.is_closed() { Taken::Closed } else { taken }
            };
            let jobs = match taken {
                Taken::Items(jobs) => jobs,
                Taken::Closed => return self.finish(),
            };
            let full = !self.waiting.is_empty();
            for Job { unit, receipt, room } in jobs {
                if full && unit.is_urgent() {
                    self.engine.stage_urgent(unit);
                    self.waiting_urgent.push((receipt, room));
                } else if full {
                    self.backlog.push_back(Job { unit, receipt, room });
                } else {
                    self.engine.stage_encoded(unit);
                    self.waiting.push((receipt, room));
                }
            }
            let done = self.commit_urgent().and_then(|()| self.commit()).and_then(|()| self.tick());
            show_health(&self.health, &self.engine.shared);
            done?;
        }
    }

    /// The next group of what came while nothing could be written.
    fn take_backlog(&mut self, limit: u64) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while let Some(job) = self.backlog.pop_front() {
            bytes += job.unit.stored_bytes() as u64;
            if bytes > limit && !jobs.is_empty() {
                self.backlog.push_front(job);
                break;
            }
            jobs.push(job);
        }
        jobs
    }

    /// Gives a busy journal's appenders a moment to join; an idle one's is written at once.
    fn linger(&self) {
        let linger = Duration::from_millis(self.engine.shared.config.linger_ms);
        let since = self.clock.monotonic().saturating_sub(self.last_commit);
        if self.last_company >= COMPANY && since < linger {
            self.queue.wait_for_bytes(self.engine.shared.config.group_bytes, linger - since);
        }
    }

    fn commit_urgent(&mut self) -> Result<(), JournalError> {
        if let Commit::Durable(places) = self.engine.commit_urgent(self.clock.now())? {
            for ((receipt, room), place) in self.waiting_urgent.drain(..).zip(places) {
                drop(room);
                let _ = receipt.send(Ok(place));
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let before = self.engine.written_bytes();
        match self.engine.commit(self.clock.now()) {
            Ok(Commit::Durable(places)) => {
                self.durable.send_replace(self.engine.next_offset());
                self.last_company = self.waiting.len();
                for ((receipt, room), place) in self.waiting.drain(..).zip(places) {
                    drop(room);
                    // Whoever dropped the receipt does not want to know.
                    let _ = receipt.send(Ok(place));
                }
                self.last_commit = self.clock.monotonic();
                if let Some(metrics) = &self.metrics {
                    metrics.journal_frames.inc();
                    metrics.journal_written_bytes.inc_by(self.engine.written_bytes() - before);
                    let seconds = self.engine.shared.disk.last_sync_seconds();
                    metrics.journal_fsync_seconds.observe(seconds);
                }
                Ok(())
            }
            Ok(Commit::Full(_)) => {
                // Looked at again after `maintain`.
                self.next_tick = self.next_tick.min(self.clock.monotonic() + FULL_TICK);
                Ok(())
            }
            Err(error) => {
                for (receipt, _) in self.waiting.drain(..) {
                    let _ = receipt.send(Err(error.clone()));
                }
                Err(error)
            }
        }
    }

    fn tick(&mut self) -> Result<(), JournalError> {
        let now = self.clock.monotonic();
        if now < self.next_tick {
            return Ok(());
        }
        self.next_tick = now + if self.waiting.is_empty() { TICK } else { FULL_TICK };
        let before = self.engine.next_offset();
        self.engine.maintain(self.clock.now())?;
        if self.engine.next_offset() != before {
            // A gap record of our own.
            self.durable.send_replace(self.engine.next_offset());
        }
        if let Some(metrics) = &self.metrics {
            let full = matches!(self.engine.health(), Health::Full(_));
            metrics.journal_full.set(i64::from(full));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), JournalError> {
        if !self.closing.load(std::sync::atomic::Ordering::Acquire) {
            return Err(JournalError::Closed);
        }
        self.commit()?;
        while self.waiting.is_empty() && !self.backlog.is_empty() {
            for Job { unit, receipt, room } in self.take_backlog(u64::MAX) {
                self.engine.stage_encoded(unit);
                self.waiting.push((receipt, room));
            }
            self.commit()?;
        }
        self.engine.close(self.clock.now())
    }
}

/// A seed for [`Engine::open`]: different in every life; need not be secret.
#[must_use]
pub fn seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The keys of these hashers come from the operating system's randomness.
    let keyed = || std::hash::RandomState::new().build_hasher().finish();
    keyed() ^ keyed().rotate_left(32)
}
