//! The gate in front of one workload of one tenant: how many requests may leave in a minute, how long the far
//! end asked to be left alone, and whether it is down. Every request of that workload passes here, whichever
//! source it comes from. It sends nothing itself, and waits only for the budget, a few seconds: what takes
//! longer is said to the caller, who can be stopped.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::cloud::http::HttpError;
use crate::journal::Clock;
use crate::pipeline::backoff::Backoff;

/// Longest wait for the budget inside a request. With the smallest budget (1 a minute) it is 60 s.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The circuit opens when consecutive failures weigh this much.
const OPENS_AT: u32 = 10;
/// No connection, no answer, or a gateway that says the service is away: five in a row.
const AWAY: u32 = 2;
/// A 500 may be due to this very request (a page of incidents that is too heavy), and whoever asked tries
/// smaller ones: ten in a row.
const BROKEN: u32 = 1;

/// First and longest wait of an open circuit; at the longest there is at most one request a minute.
const CIRCUIT_BASE: Duration = Duration::from_secs(1);
const CIRCUIT_CAP: Duration = Duration::from_secs(60);

/// The waits after a 429 that names no time: security workloads do not always name one.
const PATIENCE_BASE: Duration = Duration::from_secs(2);
const PATIENCE_CAP: Duration = Duration::from_secs(300);

/// Why a request did not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The far end asked for patience, and the time is not over.
    Patience,
    /// The far end has failed again and again; somebody else's request finds out whether it is back.
    Circuit,
    /// The budget is used up by others that wait too.
    Budget,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Patience => "it asked for patience",
            Self::Circuit => "it has failed again and again",
            Self::Budget => "the budget of requests is used up",
        })
    }
}

/// Not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotNow {
    /// Why.
    pub reason: Reason,
    /// When it makes sense to ask again.
    pub after: Duration,
}

/// Our clock as the limiter asks it.
#[derive(Clone)]
struct Asked(Arc<dyn Clock>);

impl GovernorClock for Asked {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let nanos = u64::try_from(self.0.monotonic().as_nanos()).unwrap_or(u64::MAX);
        Nanos::from(nanos)
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Asked, NoOpMiddleware<Nanos>>;

/// The gate.
pub struct Gate {
    limiter: Option<Limiter>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    /// Nothing leaves before this time.
    quiet_until: Duration,
    reason: Reason,
    /// The weight of the failures since the last answer that proved it alive.
    failures: u32,
    /// How often the circuit has been found open in a row.
    opened: u32,
    /// Whether a request is on its way that finds out whether the far end is back.
    probing: bool,
    patience: Backoff,
    jitter: Backoff,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate that lets `per_minute` requests through in any 60 seconds.
    ///
    /// The limiter refills at a steady rate and has a burst on top; both together fall into one minute, so a
    /// third of the budget is the burst and two thirds are the rate.
    #[must_use]
    pub fn new(per_minute: u32, clock: Arc<dyn Clock>) -> Self {
        let burst = per_minute / 3;
        let rate = per_minute.saturating_sub(burst).max(1);
        let quota = Quota::with_period(Duration::from_secs(60) / rate)
            .map(|quota| quota.allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN)));
        let limiter =
            quota.map(|quota| RateLimiter::direct_with_clock(quota, Asked(clock.clone())));
        let state = State {
            quiet_until: Duration::ZERO,
            reason: Reason::Patience,
            failures: 0,
            opened: 0,
            probing: false,
            patience: Backoff::new(PATIENCE_BASE, PATIENCE_CAP),
            jitter: Backoff::new(CIRCUIT_CAP, CIRCUIT_CAP),
        };
        Self { limiter, clock, state: Mutex::new(state) }
    }

    /// Waits for the budget. The pass is settled with what became of the request. Cancel-safe.
    ///
    /// # Errors
    /// When the far end is to be left alone, or too many wait already.
    pub async fn enter(&self) -> Result<Pass<'_>, NotNow> {
        let began = self.clock.monotonic();
        loop {
            // Before and after the wait: what the far end said meanwhile counts for this request, too.
            self.look(false)?;
            let Some(wait) = self.budget() else {
                let probes = self.look(true)?;
                return Ok(Pass { gate: self, probes, settled: false });
            };
            let waited = self.clock.monotonic().saturating_sub(began);
            if waited.saturating_add(wait) > LONGEST_WAIT {
                return Err(NotNow { reason: Reason::Budget, after: wait });
            }
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    /// `None` if a request may leave, else how long to wait.
    fn budget(&self) -> Option<Duration> {
        let limiter = self.limiter.as_ref()?;
        let not_until = limiter.check().err()?;
        Some(not_until.wait_time_from(Asked(Arc::clone(&self.clock)).now()))
    }

    /// Whether a request may leave as far as the far end is concerned; with `claim` it does, and the answer is
    /// whether it is the one that probes.
    fn look(&self, claim: bool) -> Result<bool, NotNow> {
        let mut state = self.state();
        let now = self.clock.monotonic();
        if now < state.quiet_until {
            return Err(NotNow { reason: state.reason, after: state.quiet_until - now });
        }
        if state.failures < OPENS_AT {
            return Ok(false);
        }
        if state.probing {
            return Err(NotNow { reason: Reason::Circuit, after: CIRCUIT_BASE });
        }
        state.probing = claim;
        Ok(true)
    }

    fn settle(&self, outcome: &Outcome) {
        let mut state = self.state();
        let now = self.clock.monotonic();
        match outcome {
            Outcome::Alive => {
                state.failures = 0;
                state.opened = 0;
                state.patience.reset();
            }
            Outcome::Throttled(after) => {
                let wait = state.patience.next(*after);
                // Never shorter than what another answer has asked for already.
                if now + wait > state.quiet_until {
                    state.quiet_until = now + wait;
                    state.reason = Reason::Patience;
                }
                state.failures = 0;
                state.opened = 0;
            }
            Outcome::Failed(weight) => {
                state.failures = state.failures.saturating_add(*weight);
                if state.failures >= OPENS_AT {
                    let floor =
                        CIRCUIT_BASE.saturating_mul(1 << state.opened.min(6)).min(CIRCUIT_CAP);
                    // Doubling, and as much again by chance, so that many tenants do not come back at once.
                    let chance = state.jitter.next(None).as_secs_f64() / CIRCUIT_CAP.as_secs_f64();
                    state.quiet_until = state.quiet_until.max(now + floor.mul_f64(1.0 + chance));
                    state.reason = Reason::Circuit;
                    state.opened = state.opened.saturating_add(1);
                    state.failures = OPENS_AT;
                }
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to send one request. Dropped unsettled (the request was given up) it says nothing about the far end.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    probes: bool,
    settled: bool,
}

impl Pass<'_> {
    /// Tells the gate what became of the request.
    pub fn settle<T>(mut self, result: &Result<T, HttpError>) {
        self.settled = true;
        let outcome = Outcome::of(result.as_ref().err());
        self.release();
        self.gate.settle(&outcome);
    }

    fn release(&self) {
        if self.probes {
            self.gate.state().probing = false;
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.release();
        }
    }
}

/// What a request says about the far end.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Alive,
    Throttled(Option<Duration>),
    Failed(u32),
}

impl Outcome {
    fn of(error: Option<&HttpError>) -> Self {
        match error {
            Some(HttpError::Status { retry_after, .. })
                if error.is_some_and(HttpError::throttled) =>
            {
                Self::Throttled(*retry_after)
            }
            // Down for a stated time.
            Some(HttpError::Status { status: 503, retry_after: Some(after), .. })
                if !after.is_zero() =>
            {
                Self::Throttled(Some(*after))
            }
            Some(HttpError::Status { status, .. }) => match status {
                502..=504 => Self::Failed(AWAY),
                500..=599 => Self::Failed(BROKEN),
                // Whatever it says, it is there.
                _ => Self::Alive,
            },
            Some(
                HttpError::Connect { .. } | HttpError::Timeout { .. } | HttpError::Broken { .. },
            ) => Self::Failed(AWAY),
            // It answered; what we made of it is another matter.
            Some(
                HttpError::Unbuilt { .. }
                | HttpError::NotNow { .. }
                | HttpError::NoToken { .. }
                | HttpError::TooLarge { .. }
                | HttpError::Encoding { .. },
            )
            | None => Self::Alive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Ticks;

    /// tokio's clock, which a test can pause.
    struct Paused(tokio::time::Instant);

    impl Clock for Paused {
        fn now(&self) -> Ticks {
            Ticks(0)
        }

        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
    }

    fn gate(per_minute: u32) -> (Gate, Arc<dyn Clock>) {
        let clock: Arc<dyn Clock> = Arc::new(Paused(tokio::time::Instant::now()));
        (Gate::new(per_minute, Arc::clone(&clock)), clock)
    }

    fn status(status: u16, after: Option<u64>) -> Result<(), HttpError> {
        Err(HttpError::Status {
            place: String::new(),
            status,
            retry_after: after.map(Duration::from_secs),
            body: String::new(),
            said: Box::default(),
            correlation: None,
        })
    }

    /// No 60 seconds see more requests than the budget says, however many want to leave.
    #[tokio::test(start_paused = true)]
    async fn no_minute_sees_more_requests_than_its_budget() {
        for per_minute in [1, 2, 40, 120] {
            let (gate, clock) = gate(per_minute);
            let mut left = Vec::new();
            while left.len() < 4 * per_minute as usize {
                match gate.enter().await {
                    Ok(pass) => {
                        left.push(clock.monotonic());
                        pass.settle(&Ok(()));
                    }
                    Err(not_now) => tokio::time::sleep(not_now.after).await,
                }
            }
            for (first, from) in left.iter().enumerate() {
                let within =
                    left[first..].iter().take_while(|at| **at - *from < Duration::from_secs(60));
                assert!(
                    within.count() <= per_minute as usize,
                    "budget {per_minute}, from {from:?}"
                );
            }
            let took = clock.monotonic().as_secs();
            assert!(took <= 4 * 92, "budget {per_minute} is used: {took} s");
        }
    }

    /// Fault matrix: C1. No request leaves before the time that the far end named, whoever asks.
    #[tokio::test(start_paused = true)]
    async fn nothing_leaves_before_the_time_that_the_far_end_named() {
        let (gate, clock) = gate(600);
        for (said, least, most) in
            [(Some(17), 17, 19), (Some(0), 0, 3), (None, 0, 5), (Some(1_000_000), 3600, 3961)]
        {
            gate.enter().await.unwrap().settle(&Ok(()));
            let asked_at = clock.monotonic();
            gate.enter().await.unwrap().settle(&status(429, said));
            let refused = gate.enter().await.unwrap_err();
            assert_eq!(refused.reason, Reason::Patience);
            assert!(refused.after >= Duration::from_secs(least), "{said:?}: {refused:?}");
            assert!(refused.after <= Duration::from_secs(most), "{said:?}: {refused:?}");
            tokio::time::sleep(refused.after - Duration::from_millis(1)).await;
            assert!(gate.enter().await.is_err(), "a moment too early");
            tokio::time::sleep(Duration::from_millis(2)).await;
            gate.enter().await.unwrap().settle(&Ok(()));
            assert!(clock.monotonic() - asked_at >= Duration::from_secs(least));
        }
    }

    /// Fault matrix: C1. A request that waits for its budget hears what the far end says meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_for_its_budget_hears_what_is_said_meanwhile() {
        let (gate, _clock) = gate(3);
        let first = gate.enter().await.unwrap();
        let waiting = gate.enter();
        tokio::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
        assert!(early.is_err(), "the budget is used up");
        first.settle(&status(429, Some(300)));
        let refused = waiting.await.unwrap_err();
        assert_eq!(refused.reason, Reason::Patience);
        assert!(refused.after > Duration::from_secs(200), "{refused:?}");
    }

    /// Fault matrix: C2. An hour of 503 costs few requests, one at a time, and recovery is noticed in minutes.
    #[tokio::test(start_paused = true)]
    async fn a_storm_of_failures_is_probed_by_one_request_at_a_time() {
        let (gate, clock) = gate(600);
        let mut sent = Vec::new();
        while clock.monotonic() < Duration::from_secs(3600) {
            match gate.enter().await {
                Ok(pass) => {
                    sent.push(clock.monotonic());
                    if sent.len() > 5 {
                        // While it is on its way nobody else leaves.
                        assert_eq!(gate.enter().await.unwrap_err().reason, Reason::Circuit);
                    }
                    pass.settle(&status(503, None));
                }
                Err(not_now) => tokio::time::sleep(not_now.after).await,
            }
        }
        assert!(sent.len() < 80, "{} requests in an hour of failures", sent.len());
        let late: Vec<Duration> = sent.windows(2).map(|pair| pair[1] - pair[0]).skip(14).collect();
        assert!(late.iter().all(|gap| *gap >= Duration::from_secs(60)), "{late:?}");
        let recovered = clock.monotonic();
        let pass = loop {
            match gate.enter().await {
                Ok(pass) => break pass,
                Err(not_now) => tokio::time::sleep(not_now.after).await,
            }
        };
        pass.settle(&Ok(()));
        assert!(clock.monotonic() - recovered <= Duration::from_secs(120));
        gate.enter().await.unwrap().settle(&Ok(()));
        gate.enter().await.unwrap().settle(&Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_leaves_the_place_to_the_next() {
        let (gate, _clock) = gate(600);
        for _ in 0..5 {
            gate.enter().await.unwrap().settle(&status(502, None));
        }
        let wait = gate.enter().await.unwrap_err();
        tokio::time::sleep(wait.after).await;
        drop(gate.enter().await.unwrap());
        gate.enter().await.unwrap().settle(&Ok(()));
    }

    /// The fallback ladder of incidents makes several requests that answer 500: the circuit must not be in its way.
    #[tokio::test(start_paused = true)]
    async fn a_few_requests_that_break_the_far_end_do_not_open_the_circuit() {
        let (gate, _clock) = gate(600);
        for _ in 0..9 {
            gate.enter().await.unwrap().settle(&status(500, None));
        }
        gate.enter().await.unwrap().settle(&status(404, None));
        for _ in 0..9 {
            gate.enter().await.unwrap().settle(&status(500, None));
        }
        gate.enter().await.unwrap();
    }
}
