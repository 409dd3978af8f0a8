//! The state of every part of the process, for `/ready` and for the log: who is starting, who is ready, who
//! is degraded and why. Not a metric store, and never a place for secrets or mail data.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// How one part is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not there yet.
    Starting,
    /// Doing its work.
    Ready,
    /// Alive, but something keeps it from its work; the text is for a person.
    Degraded(String),
    /// Ended for good; the text says why.
    Failed(String),
}

/// All parts, by name (`journal`, `source hubs`, `sink siem`).
pub type Parts = BTreeMap<String, State>;

/// Shared by everybody who has a state to tell; cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusBoard {
    sender: Arc<watch::Sender<Parts>>,
}

impl Default for StatusBoard {
    fn default() -> Self {
        Self { sender: Arc::new(watch::Sender::new(Parts::new())) }
    }
}

impl StatusBoard {
    /// Sets the state of `part`. Setting the same again wakes nobody.
    pub fn set(&self, part: &str, state: State) {
        self.sender.send_if_modified(|parts| {
            if parts.get(part) == Some(&state) {
                return false;
            }
            parts.insert(part.to_owned(), state);
            true
        });
    }

    /// Takes `part` off the board.
    pub fn remove(&self, part: &str) {
        self.sender.send_if_modified(|parts| parts.remove(part).is_some());
    }

    /// The board now, and its changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Parts> {
        self.sender.subscribe()
    }
}

/// Whether the process as a whole may be sent work: every part ready or merely degraded, none starting or
/// failed. A sink on hold does not make the daemon unready: the journal keeps its events.
#[must_use]
pub fn ready(parts: &Parts) -> bool {
    !parts.is_empty()
        && parts.values().all(|state| matches!(state, State::Ready | State::Degraded(_)))
}
