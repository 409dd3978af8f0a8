//! The cloud without its network: a request in, an answer out, at the server's own time. Keeps the log of what
//! was asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::asked::{Asked, Reply, Route};
use super::blob::{Account, http_date};
use super::faults::{self, Faults, Kind};
use super::settings::CloudConfig;
use super::store::Store;
use super::tokens::Tokens;
use super::{activity, blob, graph};
use crate::domain::Ticks;
use crate::journal::Clock;
use crate::simulator::random::Random;
use crate::simulator::truth::Truth;

/// Requests that the log keeps.
const LOGGED: usize = 20_000;

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The server's time.
    pub at: Ticks,
    /// What it was for.
    pub route: Route,
    /// Method, path and query.
    pub line: String,
    /// What it got; 0 if the connection broke off instead.
    pub status: u16,
    /// The fault that struck it.
    pub fault: Option<Kind>,
}

/// The cloud.
pub struct World {
    config: CloudConfig,
    clock: Arc<dyn Clock>,
    tokens: Tokens,
    store: Mutex<Store>,
    faults: Mutex<Faults>,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    last: VecDeque<Logged>,
    counts: BTreeMap<(Route, u16), u64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// A cloud in which nothing has happened yet; `truth` is told what becomes visible.
    #[must_use]
    pub fn new(
        config: CloudConfig,
        clock: Arc<dyn Clock>,
        truth: Option<Arc<Mutex<Truth>>>,
    ) -> Self {
        let mut random = Random::new(config.seed ^ 0x70ce_0515);
        let mut key = [0; 32];
        for byte in &mut key {
            *byte = u8::try_from(random.below(256)).unwrap_or(0);
        }
        let store = Store::new(&config, truth);
        let faults = Faults::new(config.faults.clone(), clock.now());
        Self {
            tokens: Tokens::new(&config.tenant_id, config.app.clone(), key),
            store: Mutex::new(store),
            faults: Mutex::new(faults),
            log: Mutex::default(),
            config,
            clock,
        }
    }

    /// The settings.
    #[must_use]
    pub const fn config(&self) -> &CloudConfig {
        &self.config
    }

    /// The server's time.
    #[must_use]
    pub fn now(&self) -> Ticks {
        self.clock.now().plus_seconds(self.config.skew_seconds)
    }

    /// A token for every API at once.
    #[must_use]
    pub fn token(&self) -> String {
        self.tokens.everywhere(self.now())
    }

    /// The store as it is now.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        let mut store = locked(&self.store);
        store.advance(self.now());
        store
    }

    /// Answers a request.
    #[must_use]
    pub fn answer(&self, asked: &Asked) -> Reply {
        let now = self.now();
        let parts = asked.parts();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let route = self.route(&parts, asked);
        let (fault, mut dice) = {
            let mut faults = locked(&self.faults);
            let fault = faults.draw(route, asked, now);
            let dice = faults.dice();
            (fault, dice)
        };
        let instead = fault.as_ref().and_then(|fault| faults::instead(fault, route, asked, now));
        let reply = instead.unwrap_or_else(|| {
            if fault.as_ref().is_some_and(|fault| fault.kind == Kind::Replaced) {
                self.replace(&parts);
            }
            let right = self.right(route, &parts, asked, now);
            match &fault {
                Some(fault) => faults::spoiled(fault, route, asked, right, &mut dice),
                None => right,
            }
        });
        let mut reply = match &fault {
            Some(fault) if fault.kind == Kind::NoDate => reply,
            Some(fault) if fault.kind == Kind::WrongDate => {
                reply.with("date", http_date(now.plus_seconds(fault.seconds)))
            }
            _ => reply.with("date", http_date(now)),
        };
        if let Some(id) = asked.header("client-request-id") {
            reply = reply.with("client-request-id", id);
        }
        self.log(route, asked, &reply, fault.map(|fault| fault.kind), now);
        reply
    }

    fn route(&self, parts: &[&str], asked: &Asked) -> Route {
        if let [_, "oauth2", "v2.0", "token"] = parts {
            return Route::Token;
        }
        graph::route(parts)
            .or_else(|| activity::route(parts))
            .or_else(|| blob::route(parts, asked, &self.config.account))
            .unwrap_or(Route::Elsewhere)
    }

    fn right(&self, route: Route, parts: &[&str], asked: &Asked, now: Ticks) -> Reply {
        match route {
            Route::Token => {
                self.tokens.answer(parts.first().copied().unwrap_or_default(), asked, now)
            }
            Route::Incidents | Route::Incident | Route::Alerts | Route::Hunting => {
                graph::answer(route, asked, &self.store(), &self.tokens, now)
            }
            Route::Subscriptions | Route::Content | Route::Records => {
                let tenant = &self.config.tenant_id;
                activity::answer(route, asked, &mut self.store(), &self.tokens, tenant, now)
            }
            Route::BlobList | Route::Blob => Account {
                shelf: &self.store().shelf,
                tokens: &self.tokens,
                sas_signature: &self.config.app.sas_signature,
                hierarchical: self.config.hierarchical,
                now,
            }
            .answer(asked),
            Route::Elsewhere => {
                graph::Reader { asked, now }.error(404, "ResourceNotFound", "Nothing is here.")
            }
        }
    }

    /// The blob is written anew, with the same lines, as another blob.
    fn replace(&self, parts: &[&str]) {
        let [_, container, name @ ..] = parts else { return };
        let name = name.join("/");
        let now = self.now();
        let mut store = self.store();
        let known = store.shelf.container(container).and_then(|blobs| blobs.get(&name));
        if let Some(data) = known.map(|blob| blob.data.clone()) {
            store.shelf.put(container, &name, data, now);
        }
    }

    fn log(&self, route: Route, asked: &Asked, reply: &Reply, fault: Option<Kind>, at: Ticks) {
        use super::asked::Manner;
        let status =
            if matches!(reply.manner, Manner::Reset | Manner::Hang) { 0 } else { reply.status };
        let mark = if asked.raw_query.is_empty() { "" } else { "?" };
        let line = format!("{} {}{mark}{}", asked.method, asked.path, asked.raw_query);
        let mut log = locked(&self.log);
        *log.counts.entry((route, status)).or_default() += 1;
        log.last.push_back(Logged { at, route, line, status, fault });
        if log.last.len() > LOGGED {
            log.last.pop_front();
        }
    }

    /// The last requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        locked(&self.log).last.iter().cloned().collect()
    }

    /// How many requests got which status.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(Route, u16), u64> {
        locked(&self.log).counts.clone()
    }

    /// How often each fault of the script has struck.
    #[must_use]
    pub fn struck(&self) -> Vec<(Kind, u64)> {
        locked(&self.faults).struck()
    }
}
