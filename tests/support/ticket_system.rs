//! A ticket system without a network: it can act and lose its answer, die before or after it acts, and its search
//! may lag. What it can be asked (an idempotency key, a look-up, neither) is chosen by the test.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use postern::cloud::http::Acted;
use postern::domain::{DeadLetterReason, Failure, Ticks};
use postern::journal::Clock;
use postern::pipeline::AdapterError;
use postern::ticket::{FarEnd, FarEndError, Ticket};
use tokio::sync::Notify;

/// A clock that moves a little whenever it is looked at, and never by itself.
#[derive(Debug, Default)]
pub struct SteppingClock(AtomicI64);

impl Clock for SteppingClock {
    fn now(&self) -> Ticks {
        Ticks::from_millis(1_787_000_000_000 + self.0.fetch_add(50, Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        let millis = self.0.fetch_add(50, Ordering::Relaxed);
        Duration::from_millis(u64::try_from(millis).unwrap())
    }
}

/// A repeatable stream of numbers (`SplitMix64`).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// What the system can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// It takes the external key as an idempotency key.
    Idempotent,
    /// It can be searched by external key, and the search lags up to [`LAG`].
    Searchable,
    /// Neither.
    Neither,
}

/// How long the search may lag.
pub const LAG: Duration = Duration::from_secs(3);

/// Where the process dies, as far as the far end sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeathAt {
    /// When the n-th create from now arrives, before it acts.
    BeforePost(u32),
    /// When it has acted.
    AfterPost(u32),
}

/// The system; clones share it.
#[derive(Clone)]
pub struct TicketSystem {
    pub ability: Ability,
    /// Percent of creates whose answer is lost, half of them after acting.
    pub lost_percent: u64,
    state: Arc<Mutex<State>>,
    clock: Arc<SteppingClock>,
    /// Told when the process is to be taken for dead.
    pub died: Arc<Notify>,
}

struct State {
    random: Random,
    /// For each key, when each of its tickets becomes visible to the search.
    tickets: BTreeMap<String, Vec<Duration>>,
    death: Option<DeathAt>,
    creates: u64,
}

impl TicketSystem {
    pub fn new(ability: Ability, seed: u64, clock: Arc<SteppingClock>) -> Self {
        let state =
            State { random: Random(seed), tickets: BTreeMap::new(), death: None, creates: 0 };
        Self {
            ability,
            lost_percent: 10,
            state: Arc::new(Mutex::new(state)),
            clock,
            died: Arc::new(Notify::new()),
        }
    }

    pub fn die(&self, death: Option<DeathAt>) {
        self.state.lock().unwrap().death = death;
    }

    /// How many tickets there are for each key.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let state = self.state.lock().unwrap();
        state.tickets.iter().map(|(key, tickets)| (key.clone(), tickets.len())).collect()
    }

    /// Creates that arrived.
    pub fn creates(&self) -> u64 {
        self.state.lock().unwrap().creates
    }

    fn act(&self, key: &str) {
        let visible = self.clock.monotonic();
        let mut state = self.state.lock().unwrap();
        let lag = LAG.mul_f64((state.random.next() % 100) as f64 / 100.0);
        let tickets = state.tickets.entry(key.to_owned()).or_default();
        if self.ability == Ability::Idempotent && !tickets.is_empty() {
            return;
        }
        tickets.push(visible + lag);
    }

    /// Whether the process dies now; counts `death` down.
    fn strikes(&self) -> Option<DeathAt> {
        let mut state = self.state.lock().unwrap();
        let (DeathAt::BeforePost(count) | DeathAt::AfterPost(count)) = state.death.as_mut()?;
        *count = count.saturating_sub(1);
        if *count == 0 { state.death.take() } else { None }
    }

    async fn dead<T>(&self) -> T {
        self.died.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl FarEnd for TicketSystem {
    fn idempotent(&self) -> bool {
        self.ability == Ability::Idempotent
    }

    fn look_up_lag(&self) -> Option<Duration> {
        (self.ability == Ability::Searchable).then_some(LAG)
    }

    async fn create(&mut self, ticket: Ticket<'_>) -> Result<String, FarEndError> {
        let death = self.strikes();
        if matches!(death, Some(DeathAt::BeforePost(_))) {
            return self.dead().await;
        }
        let (lost, acts) = {
            let mut state = self.state.lock().unwrap();
            state.creates += 1;
            let lost = state.random.chance(self.lost_percent);
            (lost, !lost || state.random.chance(50))
        };
        if acts {
            self.act(ticket.key);
        }
        if death.is_some() {
            return self.dead().await;
        }
        if lost {
            return Err(FarEndError {
                failure: Failure::Retry(None),
                acted: Acted::Unknown,
                whole: false,
                reason: DeadLetterReason::SinkRejected,
                detail: "the answer was lost".to_owned(),
            });
        }
        Ok(format!("INC-{}", ticket.key))
    }

    async fn look_up(&mut self, key: &str) -> Result<Option<String>, FarEndError> {
        let now = self.clock.monotonic();
        let state = self.state.lock().unwrap();
        let seen = state.tickets.get(key).is_some_and(|all| all.iter().any(|at| *at <= now));
        Ok(seen.then(|| format!("INC-{key}")))
    }

    async fn probe(&mut self) -> Result<String, AdapterError> {
        Ok("it is there".to_owned())
    }
}
