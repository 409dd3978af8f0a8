//! The demo's ticket system: a receiver of Standard Webhooks on loopback that checks every signature and
//! remembers what it has. It believes nothing that Postern's own code says about signatures or keys.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Tickets that it takes; the demo makes far fewer, and whatever has a limit cannot fill the memory.
const MOST_TICKETS: usize = 1_000_000;

/// One ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its title.
    pub title: String,
    /// The message that it is about.
    pub message: String,
}

/// What the receiver has.
#[derive(Debug, Clone, Default)]
pub struct Tickets {
    /// By `webhook-id`.
    pub opened: BTreeMap<String, Opened>,
    /// Requests with an id that was there already: the same ticket said again, not a second one.
    pub repeated: u64,
    /// Requests whose signature or time was wrong.
    pub refused: u64,
}

struct Desk {
    verifier: standardwebhooks::Webhook,
    tickets: Mutex<Tickets>,
}

/// A running receiver.
pub struct Receiver {
    address: SocketAddr,
    desk: Arc<Desk>,
    server: JoinHandle<()>,
}

impl Receiver {
    /// Listens on a free port of loopback; `secret` is what the sender signs with (`whsec_…`).
    pub async fn start(secret: &str) -> io::Result<Self> {
        let verifier = standardwebhooks::Webhook::new(secret).map_err(io::Error::other)?;
        let desk = Arc::new(Desk { verifier, tickets: Mutex::default() });
        let router = Router::new().route("/", post(take)).with_state(Arc::clone(&desk));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(error = %error, "the demo's ticket system has ended");
            }
        });
        Ok(Self { address, desk, server })
    }

    /// Where tickets go.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// How many tickets there are.
    pub fn count(&self) -> u64 {
        self.desk.lock().opened.len() as u64
    }

    /// Everything.
    pub fn tickets(&self) -> Tickets {
        self.desk.lock().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Desk {
    fn lock(&self) -> std::sync::MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
    let (Some(id), Ok(())) = (id, desk.verifier.verify(&body, &headers)) else {
        desk.lock().refused += 1;
        return StatusCode::UNAUTHORIZED;
    };
    let Ok(ticket) = serde_json::from_slice::<Value>(&body) else {
        desk.lock().refused += 1;
        return StatusCode::BAD_REQUEST;
    };
    let text = |pointer: &str| {
        ticket.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let opened =
        Opened { title: text("/data/title"), message: text("/data/event/raw/NetworkMessageId") };
    let mut tickets = desk.lock();
    if tickets.opened.contains_key(id) {
        tickets.repeated += 1;
        return StatusCode::OK;
    }
    if tickets.opened.len() >= MOST_TICKETS {
        return StatusCode::INSUFFICIENT_STORAGE;
    }
    tickets.opened.insert(id.to_owned(), opened);
    StatusCode::CREATED
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    async fn post(receiver: &Receiver, id: &str, secret: &str, body: &str) -> u16 {
        let now = jiff::Timestamp::now().as_second();
        let signature =
            standardwebhooks::Webhook::new(secret).unwrap().sign(id, now, body.as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client
            .post(receiver.url())
            .header("webhook-id", id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", signature)
            .body(body.to_owned());
        request.send().await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn a_signed_ticket_is_taken_once_and_a_forged_one_never() {
        let receiver = Receiver::start(SECRET).await.unwrap();
        let body = r#"{"data":{"title":"t","event":{"raw":{"NetworkMessageId":"m"}}}}"#;
        assert_eq!(post(&receiver, "a", SECRET, body).await, 201);
        assert_eq!(post(&receiver, "a", SECRET, body).await, 200);
        let forged = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert_eq!(post(&receiver, "b", forged, body).await, 401);
        let tickets = receiver.tickets();
        assert_eq!((tickets.opened.len(), tickets.repeated, tickets.refused), (1, 1, 1));
        assert_eq!(tickets.opened["a"].message, "m");
    }
}
