//! One seed: far ends, the real engine on the model disk, readers, and everything that goes wrong in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern::domain::{
    DeadLetter, DeadLetterReason, Event, EventId, Kind, Position, Raw, Table, TicketRecord,
    TicketState, Ticks,
};
use postern::journal::bug::{Bug, Planted};
use postern::journal::model::{Faults, ModelDisk, Outcome, Random};
use postern::journal::{Commit, Disk as _, Engine, JournalError, OpenError, Unit};

use crate::ensure;
use crate::model::{Model, TICKET_SINK, Violation};
use crate::plan::Plan;
use crate::sink::Sink;
use crate::source::{Record, Source, id_of, mail_id};

/// Units that wait for a commit at most; then the sources are paused.
const QUEUE: usize = 12;

/// A defect that is planted for this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    Nothing,
    /// In the engine.
    Journal(Bug),
    /// In the simulation's own reader: the position moves before the far end has answered.
    SinkAcksFirst,
}

/// What a run did, for the counts of the whole campaign.
#[derive(Debug, Default)]
pub struct Report {
    pub trace_hash: u64,
    pub trace: String,
    pub hits: BTreeMap<&'static str, u64>,
    pub events: u64,
    pub simulated_seconds: u64,
}

/// Runs `seed`; the report is there also if a promise was broken.
pub fn run(seed: u64, plant: Plant, readable: bool) -> (Report, Result<(), Violation>) {
    let mut world = World::new(seed, plant);
    if readable {
        world.disk.keep_trace();
    }
    let result = world.live();
    let mut report = Report {
        trace_hash: world.disk.trace_hash(),
        trace: world.disk.take_trace(),
        hits: world.hits,
        events: world.model.durable.events.len() as u64,
        simulated_seconds: world.seconds,
    };
    for (fault, count) in world.disk.hits() {
        *report.hits.entry(fault).or_default() += count;
    }
    (report, result)
}

struct World {
    plan: Plan,
    plant: Plant,
    disk: ModelDisk,
    /// `None` between lives.
    engine: Option<Engine<ModelDisk>>,
    model: Model,
    sources: Vec<Source>,
    /// How far each source is read in this life, durable or not.
    read_to: Vec<Option<String>>,
    sinks: Vec<Sink>,
    random: Random,
    now: Ticks,
    seconds: u64,
    /// Faults strike, or not (between storms and at the end).
    storm: bool,
    squeezed: bool,
    hits: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64, plant: Plant) -> Self {
        let plan = Plan::of(seed);
        let sources = (0_u64..).zip(&plan.sources);
        let readers = plan.readers.iter().enumerate();
        Self {
            disk: ModelDisk::new(seed ^ 0x6469_736b),
            engine: None,
            model: Model::default(),
            sources: sources
                .map(|(number, style)| Source::new(number + 1, *style, plan.records_per_source))
                .collect(),
            read_to: vec![None; plan.sources.len()],
            sinks: readers.map(|(number, (how, full))| Sink::new(number, *how, *full)).collect(),
            random: Random::new(seed),
            now: Ticks::parse("2026-08-20T09:00:00Z").unwrap(),
            seconds: 0,
            storm: true,
            squeezed: false,
            hits: BTreeMap::new(),
            plan,
            plant,
        }
    }

    fn hit(&mut self, what: &'static str) {
        *self.hits.entry(what).or_default() += 1;
        self.disk.note(what);
    }

    fn live(&mut self) -> Result<(), Violation> {
        self.set_faults();
        for _ in 0..self.plan.steps {
            self.ensure_open()?;
            self.step()?;
            self.check_budgets()?;
        }
        self.come_to_rest()
    }

    fn set_faults(&mut self) {
        if !self.storm {
            self.disk.crash_at(None);
        }
        let mut faults = if self.storm { self.plan.faults.clone() } else { Faults::default() };
        faults.capacity = u64::MAX;
        if self.squeezed {
            faults.capacity = self.disk.used_bytes() + self.random.below(6_000);
        }
        self.disk.set_faults(faults);
    }

    // ---- lives ----

    fn ensure_open(&mut self) -> Result<(), Violation> {
        let mut attempts = 0;
        if self.disk.crashed() {
            // The call it happened in had no error to tell.
            self.crash()?;
        }
        while self.engine.is_none() {
            attempts += 1;
            if attempts > 6 {
                // An operator looks at it: the disk works, and there is room.
                (self.storm, self.squeezed) = (false, false);
                self.set_faults();
            }
            ensure!(attempts <= 9, 10, "the journal does not open");
            self.open()?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), Violation> {
        self.disk.note("open");
        self.maybe_crash_soon(48);
        let planted = match self.plant {
            Plant::Journal(bug) => Planted::with(bug),
            Plant::Nothing | Plant::SinkAcksFirst => Planted::default(),
        };
        let seed = self.random.next_u64();
        let config = self.plan.config.clone();
        let opened =
            Engine::open_planted(Arc::new(self.disk.clone()), config, self.now, seed, planted);
        let mut engine = match opened {
            Ok(engine) => engine,
            Err(error) => return self.open_failed(&error),
        };
        self.model.recovered(&engine)?;
        for source in &mut self.sources {
            source.forget_pages();
        }
        self.read_to = self.sources.iter().map(|source| durable_cursor(&engine, source)).collect();
        for sink in &mut self.sinks {
            if !sink.register(&mut engine)? {
                return self.end_life(Outcome::Killed);
            }
        }
        self.engine = Some(engine);
        Ok(())
    }

    fn open_failed(&mut self, error: &OpenError) -> Result<(), Violation> {
        if self.disk.crashed() {
            self.hit("crash in recovery");
            return self.crash();
        }
        let excused = matches!(error, OpenError::Io { .. }) && (self.storm || self.squeezed);
        ensure!(excused, 4, "cannot open: {error}");
        self.hit("recovery failed and was repeated");
        self.end_life(Outcome::Killed)
    }

    /// The machine has stopped inside a call.
    fn crash(&mut self) -> Result<(), Violation> {
        let power = self.random.chance(self.plan.crash_is_power_loss);
        self.end_life(if power { Outcome::PowerLost(None) } else { Outcome::Killed })
    }

    fn end_life(&mut self, outcome: Outcome) -> Result<(), Violation> {
        self.engine = None;
        self.disk.restart(outcome);
        Ok(())
    }

    /// A call failed because the journal is poisoned or the machine has stopped: this life is over.
    fn poisoned(&mut self, error: &JournalError) -> Result<(), Violation> {
        if self.disk.crashed() {
            return self.crash();
        }
        ensure!(
            matches!(error, JournalError::Poisoned(_)) && self.storm,
            13,
            "without a fault: {error}"
        );
        self.hit("poisoned");
        // The process ends; meanwhile, or before it is back, the power may go too.
        if self.random.below(3) == 0 {
            self.end_life(Outcome::PowerLost(None))
        } else {
            self.end_life(Outcome::Killed)
        }
    }

    // ---- what happens ----

    fn step(&mut self) -> Result<(), Violation> {
        self.pass_time();
        if self.random.chance(self.plan.kill) {
            self.hit("killed between calls");
            return self.end_life(Outcome::Killed);
        }
        if self.random.chance(self.plan.power_loss) {
            return self.end_life(Outcome::PowerLost(None));
        }
        if self.random.chance(self.plan.restart) {
            return self.restart();
        }
        if self.random.chance(self.plan.stall) && !self.sinks.is_empty() {
            let chosen = self.random.index(self.sinks.len());
            self.sinks[chosen].stalled ^= true;
            self.hit("a reader stops or goes on");
        }
        if self.random.chance(self.plan.squeeze) {
            self.squeezed ^= true;
            self.hit(if self.squeezed { "space runs out" } else { "space returns" });
            self.set_faults();
        }
        if self.random.chance(10_000) {
            self.storm ^= true;
            self.set_faults();
        }
        match self.random.below(20) {
            0..=2 => self.grow(),
            3..=8 => self.intake()?,
            9..=12 => self.commit()?,
            13..=16 => self.deliver()?,
            17 => self.flush()?,
            _ => self.maintain()?,
        }
        Ok(())
    }

    fn pass_time(&mut self) {
        let seconds = self.random.below(5);
        self.seconds += seconds;
        self.now = self.now.plus_seconds(i64::try_from(seconds).unwrap());
        if self.random.chance(self.plan.clock_jump) {
            let days = [-3_650, -1, 1, 3_650][self.random.index(4)];
            self.now = self.now.plus_seconds(days * 86_400);
            self.hit("the clock jumps");
        }
    }

    fn grow(&mut self) {
        let chosen = self.random.index(self.sources.len());
        self.sources[chosen].grow(self.seconds, self.plan.repeats, &mut self.random);
    }

    fn engine(&mut self) -> Option<&mut Engine<ModelDisk>> {
        self.engine.as_mut()
    }

    fn intake(&mut self) -> Result<(), Violation> {
        let staged = self.model.staged();
        let bytes: usize = staged.iter().flat_map(|u| &u.events).map(|e| e.raw.len() + 200).sum();
        if staged.len() >= QUEUE || bytes as u64 > self.plan.config.quota_bytes / 8 {
            return Ok(());
        }
        let chosen = self.random.index(self.sources.len());
        let cursor = self.read_to[chosen].clone();
        let source = &mut self.sources[chosen];
        let page = source
            .poll(cursor.as_deref(), self.seconds, &mut self.random)
            .map_err(|words| Violation { item: 1, words: format!("{}: {words}", source.name) })?;
        let Some(page) = page else { return Ok(()) };
        let name = source.name.clone();
        self.disk.note(&format!("page of {} from {name} to {}", page.records.len(), page.cursor));
        let mut unit = self.unit(&name, &page.records)?;
        if self.disk.crashed() {
            return Ok(());
        }
        unit.cursors.push((name.as_str().into(), page.cursor.as_str().into()));
        self.read_to[chosen] = Some(page.cursor);
        self.model.stage(&mut unit);
        let Some(engine) = self.engine() else { return Ok(()) };
        if let Err(error) = engine.stage(unit) {
            return self.poisoned(&error);
        }
        Ok(())
    }

    /// What the pipeline's intake makes of a page.
    fn unit(&mut self, source: &str, records: &[Record]) -> Result<Unit, Violation> {
        let mut unit = Unit::default();
        for record in records {
            if record.poison {
                unit.dead_letters.push(self.dead_letter(source, record.key));
                continue;
            }
            let mut keys = vec![id_of(record.key)];
            keys.extend(record.mail.map(mail_id));
            let expected: Vec<bool> = keys.iter().map(|key| self.model.is_new(*key)).collect();
            let now = self.now;
            let Some(engine) = self.engine() else { return Ok(unit) };
            let new = engine.admit(&keys, now);
            if self.disk.crashed() {
                // Nobody hears the answer.
                return Ok(unit);
            }
            ensure!(
                new == expected,
                if new > expected { 2 } else { 1 },
                "admit said {new:?} of record {}, should be {expected:?}",
                record.key
            );
            keys.iter().for_each(|key| self.model.admit(*key));
            if new[0] {
                unit.events.push(self.event(source, record.key));
            }
            if new.get(1) == Some(&true) {
                unit.mails_seen.push(keys[1]);
            }
        }
        self.add_extras(&mut unit);
        Ok(unit)
    }

    /// Tickets change, dead letters are settled.
    fn add_extras(&mut self, unit: &mut Unit) {
        if self.random.below(8) == 0 {
            let open = TicketState::Open { reference: self.random.below(99).to_string().into() };
            unit.tickets.push(TicketRecord {
                sink: TICKET_SINK.into(),
                key: format!("case {}", self.random.below(5)).into(),
                state: if self.random.below(2) == 0 { TicketState::Intent } else { open },
                attempts: 1,
                at: self.now,
            });
        }
    }

    fn event(&mut self, source: &str, key: u64) -> Event {
        let mut raw = format!("{{\"key\":{key},\"padding\":\"");
        let mut padding = Random::new(key);
        for _ in 0..self.random.below(self.plan.record_bytes) {
            raw.push(char::from(b'a' + u8::try_from(padding.below(26)).unwrap()));
        }
        raw.push_str("\"}");
        let mut event = event_of(Kind::Row, source, key);
        event.row = (0, u32::try_from(raw.len()).unwrap());
        event.raw = Raw::from(raw.into_bytes());
        event.ingested = Some(self.now);
        event
    }

    fn dead_letter(&self, source: &str, key: u64) -> DeadLetter {
        DeadLetter {
            id: EventId(key.to_le_bytes().repeat(2).try_into().unwrap()),
            reason: DeadLetterReason::NotJsonObject,
            detail: "not JSON".into(),
            source: source.into(),
            sink: "".into(),
            tenant: "".into(),
            position: Position::None.to_string().into(),
            at: self.now,
            length: 3,
            hash: [7; 32],
            bytes: b"bad".to_vec(),
        }
    }

    fn commit(&mut self) -> Result<(), Violation> {
        self.model.ask();
        if !self.model.staged().is_empty() {
            self.maybe_crash_soon(10);
        }
        let now = self.now;
        let Some(engine) = self.engine.as_mut() else { return Ok(()) };
        match engine.commit(now) {
            Ok(Commit::Durable(appended)) => {
                let before = self.model.staged().to_vec();
                self.model.committed(&appended)?;
                ensure!(
                    engine.next_offset() >= self.model.durable.events.len() as u64,
                    4,
                    "the watermark stays behind what was reported durable"
                );
                // Only now the far ends are told.
                for (key, cursor) in before.iter().flat_map(|unit| &unit.cursors) {
                    if let Some(source) = self.sources.iter_mut().find(|s| *s.name == **key) {
                        source.commit(cursor);
                    }
                }
                self.disk.note("durable");
                self.check_watermark()
            }
            Ok(Commit::Full(_)) => {
                self.hit("commit found no room");
                self.check_watermark()?;
                self.maintain()
            }
            Err(error) => {
                // Until the process ends, readers go on.
                self.check_watermark()?;
                self.poisoned(&error)
            }
        }
    }

    /// Nobody may be shown what is not durable.
    fn check_watermark(&mut self) -> Result<(), Violation> {
        if let Some(engine) = &self.engine {
            self.model.adopt_gaps(engine)?;
            let end = self.model.durable.events.len() as u64;
            if let Ok(events) = engine.read(end, 1) {
                ensure!(events.is_empty(), 4, "{} is shown but not durable", end);
            }
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), Violation> {
        let chosen = self.random.index(self.sinks.len());
        let ack_first = self.plant == Plant::SinkAcksFirst;
        let (Some(engine), sink) = (self.engine.as_mut(), &mut self.sinks[chosen]) else {
            return Ok(());
        };
        if sink.stalled {
            return Ok(());
        }
        if !sink.step(engine, &self.model, ack_first, &mut self.random)? && self.disk.crashed() {
            return self.crash();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Violation> {
        let full = self.times_full();
        let Some(engine) = self.engine.as_mut() else { return Ok(()) };
        match engine.flush_positions() {
            Ok(()) => {
                // On a full disk positions wait for the next time.
                if self.times_full() == full {
                    self.sinks.iter_mut().for_each(Sink::note_flush);
                }
                Ok(())
            }
            Err(error) => self.poisoned(&error),
        }
    }

    fn times_full(&self) -> u64 {
        let hits = self.disk.hits();
        ["append finds no space", "disk full", "create fails"]
            .iter()
            .filter_map(|w| hits.get(w))
            .sum()
    }

    fn maybe_crash_soon(&mut self, calls: u64) {
        if self.storm && self.random.chance(self.plan.crash_soon) {
            self.hit("the machine stops in the middle");
            self.disk.crash_at(Some(self.disk.calls() + self.random.below(calls)));
        }
    }

    fn maintain(&mut self) -> Result<(), Violation> {
        self.maybe_crash_soon(16);
        let now = self.now;
        let Some(engine) = self.engine.as_mut() else { return Ok(()) };
        match engine.maintain(now) {
            Ok(()) => {
                self.model.adopt_gaps(engine)?;
                let first = engine.stat().first;
                for sink in &self.sinks {
                    let needed = sink.oldest_needed().unwrap_or(first);
                    ensure!(first <= needed, 5, "{first} is the first event, {needed} was needed");
                }
                Ok(())
            }
            Err(error) => self.poisoned(&error),
        }
    }

    fn restart(&mut self) -> Result<(), Violation> {
        self.model.ask();
        let (now, full) = (self.now, self.times_full());
        let Some(engine) = self.engine.as_mut() else { return Ok(()) };
        match engine.close(now) {
            Ok(()) => {
                self.hit("closed in order");
                if self.times_full() == full {
                    self.sinks.iter_mut().for_each(Sink::note_flush);
                }
                self.end_life(Outcome::Killed)
            }
            Err(JournalError::Io { .. }) => {
                self.hit("closed on a full disk");
                self.end_life(Outcome::Killed)
            }
            Err(error) => self.poisoned(&error),
        }
    }

    fn check_budgets(&mut self) -> Result<(), Violation> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let stat = engine.stat();
        let budget = self.plan.config.dedup_memory_bytes + 64 * 1_024;
        ensure!(
            stat.dedup_memory_bytes <= budget,
            8,
            "dedup holds {} bytes of memory, {budget} are allowed",
            stat.dedup_memory_bytes
        );
        let quota = self.plan.config.quota_bytes + 3 * self.plan.config.segment_bytes + 64 * 1_024;
        let used = self.disk.used_bytes();
        ensure!(used <= quota, 8, "{used} bytes on disk, {quota} are allowed");
        Ok(())
    }

    // ---- the end ----

    /// The faults end. Now everything must arrive, within a bounded time.
    fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.disk.note("the faults end");
        (self.storm, self.squeezed) = (false, false);
        self.set_faults();
        if self.engine.is_some() && self.random.below(2) == 0 {
            self.end_life(Outcome::PowerLost(None))?;
        }
        self.sinks.iter_mut().for_each(|sink| sink.stalled = false);
        self.sources.iter_mut().for_each(Source::end);
        self.plan.clock_jump = 0;
        for round in 0.. {
            ensure!(round < 5_000, 10, "still not at rest: {}", self.picture());
            self.ensure_open()?;
            self.pass_time();
            self.intake()?;
            if round % 4 == 0 {
                self.commit()?;
                self.deliver()?;
            }
            if round % 16 == 0 {
                self.flush()?;
                self.maintain()?;
            }
            if self.is_at_rest() {
                break;
            }
        }
        if let Some(engine) = self.engine.as_mut() {
            engine.close(self.now).map_err(|e| Violation { item: 10, words: e.to_string() })?;
            self.sinks.iter_mut().for_each(Sink::note_flush);
        }
        self.end_life(Outcome::Killed)?;
        self.ensure_open()?;
        self.check_truth()
    }

    /// What a person would want to see of a journal that does not go on.
    fn picture(&self) -> String {
        let stat = self.engine.as_ref().map(Engine::stat).unwrap_or_default();
        let health = self.engine.as_ref().map(Engine::health);
        let files = self.disk.list().unwrap_or_default();
        let staged = self.model.staged().len();
        format!("{staged} units staged, {health:?}, {stat:?}, {files:?}")
    }

    fn is_at_rest(&self) -> bool {
        let Some(engine) = &self.engine else { return false };
        self.model.staged().is_empty()
            && self.sinks.iter().all(|sink| sink.is_done(&self.model))
            && self
                .sources
                .iter()
                .all(|source| source.is_drained(durable_cursor(engine, source).as_deref()))
    }

    /// The far ends' own lists against what the journal held.
    fn check_truth(&mut self) -> Result<(), Violation> {
        let mut count: BTreeMap<EventId, u64> = BTreeMap::new();
        for event in self.model.durable.events.iter().filter(|event| event.kind != Kind::Gap) {
            *count.entry(event.id).or_default() += 1;
        }
        let mut poisoned = 0;
        let mut shown = 0;
        for source in &self.sources {
            let (events, poison) = source.truth();
            for key in &events {
                let times = count.get(&id_of(*key)).copied().unwrap_or(0);
                ensure!(times != 0, 1, "record {key} of {} is missing", source.name);
                ensure!(times == 1, 2, "record {key} of {} is there {times} times", source.name);
            }
            shown += events.len();
            poisoned += poison.len();
        }
        ensure!(count.len() == shown, 1, "{} events of {shown} records", count.len());
        let letters = self.model.durable.dead_letters.len();
        ensure!(letters == poisoned, 7, "{letters} dead letters of {poisoned} poisoned records");
        for sink in &self.sinks {
            sink.check_complete(&self.model)?;
        }
        Ok(())
    }
}

fn durable_cursor(engine: &Engine<ModelDisk>, source: &Source) -> Option<String> {
    engine.cursors(&source.name).get(source.name.as_str()).map(ToString::to_string)
}

/// The plainest event.
pub fn event_of(kind: Kind, source: &str, key: u64) -> Event {
    Event {
        id: id_of(key),
        kind,
        table: Table::Other("Simulated".into()),
        tenant: "contoso.example".into(),
        source: source.into(),
        occurred: None,
        observed: None,
        ingested: None,
        arrival: None,
        key: None,
        recipient: None,
        decision: Default::default(),
        issues: Vec::new(),
        raw: Raw::default(),
        row: (0, 0),
    }
}
