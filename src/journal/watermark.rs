//! The two hand-offs between the appenders, the writer and the readers, small enough to be checked under every
//! schedule (a test includes this very file with a model's primitives in place of `sync`'s). No disk, no time.

use std::collections::VecDeque;
use std::time::Duration;

use super::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering};

/// The offset after the last durable event. Only the writer moves it, only forward.
#[derive(Debug)]
pub struct Watermark(AtomicU64);

impl Watermark {
    /// A watermark at `offset`.
    #[must_use]
    pub fn new(offset: u64) -> Self {
        Self(AtomicU64::new(offset))
    }

    /// What is durable. `Acquire`: whoever sees the offset also sees what was done before it was published.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Publishes that everything before `offset` is durable and can be found.
    pub fn advance(&self, offset: u64) {
        self.0.store(offset, Ordering::Release);
    }
}

/// The queue between appenders and the writer: units leave in the order in which they came, in groups.
#[derive(Debug)]
pub struct Group<T> {
    inner: Mutex<Inner<T>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<(T, u64)>,
    bytes: u64,
    woken: bool,
    closed: bool,
}

/// What the writer finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<T> {
    /// These, in order; maybe none, when it was woken for another reason.
    Items(Vec<T>),
    /// Nothing more will come.
    Closed,
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        let inner = Inner { items: VecDeque::new(), bytes: 0, woken: false, closed: false };
        Self { inner: Mutex::new(inner), arrived: Condvar::new() }
    }
}

impl<T> Group<T> {
    /// Queues an item; gives it back when the queue is closed.
    pub fn push(&self, item: T, bytes: u64) -> Result<(), T> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(item);
        }
        inner.items.push_back((item, bytes));
        inner.bytes += bytes;
        drop(inner);
        self.arrived.notify_one();
        Ok(())
    }

    /// Wakes the writer although nothing came.
    pub fn wake(&self) {
        self.lock().woken = true;
        self.arrived.notify_one();
    }

    /// Refuses what comes from now on; what is queued can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Takes what is queued, up to `limit` bytes but at least one item.
    pub fn take(&self, limit: u64) -> Taken<T> {
        Self::drain(&mut self.lock(), limit)
    }

    fn drain(inner: &mut Inner<T>, limit: u64) -> Taken<T> {
        inner.woken = false;
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some((_, weight)) = inner.items.front() {
            if !taken.is_empty() && bytes + weight > limit {
                break;
            }
            let Some((item, weight)) = inner.items.pop_front() else { break };
            bytes += weight;
            inner.bytes -= weight;
            taken.push(item);
        }
        if taken.is_empty() && inner.closed { Taken::Closed } else { Taken::Items(taken) }
    }

    /// Waits until something is queued, it is woken or closed, or the time is over, then takes as
    /// [`Group::take`] does.
    pub fn wait(&self, limit: u64, time: Duration) -> Taken<T> {
        let idle = |inner: &mut Inner<T>| inner.items.is_empty() && !inner.woken && !inner.closed;
        match self.arrived.wait_timeout_while(self.lock(), time, idle) {
            Ok((mut inner, _)) => Self::drain(&mut inner, limit),
            Err(poisoned) => Self::drain(&mut poisoned.into_inner().0, limit),
        }
    }

    /// Whether nothing more is accepted.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until `bytes` are queued, it is woken or closed, or the time is over. Takes nothing.
    pub fn wait_for_bytes(&self, bytes: u64, time: Duration) {
        let inner = self.lock();
        let enough = |inner: &mut Inner<T>| inner.bytes < bytes && !inner.woken && !inner.closed;
        drop(self.arrived.wait_timeout_while(inner, time, enough));
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // A panic while the lock was held cannot have left it half changed.
        match self.inner.lock() {
            Ok(inner) => inner,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}
