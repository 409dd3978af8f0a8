//! The operations listener: `/metrics`, `/ready`, `/live` over plain HTTP. It shows figures and states, never
//! mail and never a secret, so it may listen on any address. It is not the console.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing_appender::non_blocking::ErrorCounter;

use super::build::Accesses;
use crate::journal::Journal;
use crate::pipeline::metrics::Metrics;
use crate::pipeline::status::{Parts, State, StatusBoard, ready};

/// Connections at once. A scraper and two probes need three; more wait in the system's own queue.
const MAX_CONNECTIONS: usize = 128;
/// How long a client may take for its request's head, so that slow clients do not hold the places.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a connection may live, idle time included: longer than the usual scrape interval.
const CONNECTION_TIME: Duration = Duration::from_secs(120);
/// The largest request head.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Headers in a request.
const MAX_HEADERS: usize = 64;

/// The `[ops]` table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpsConfig {
    /// Address and port to listen on. Default `127.0.0.1:9464`. Port 0 takes a free one, which the log names.
    pub listen: SocketAddr,
}

impl Default for OpsConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

/// What the listener shows.
#[derive(Clone)]
pub struct Shown {
    /// The register.
    pub metrics: Arc<Metrics>,
    /// The board.
    pub status: StatusBoard,
    /// For the journal's figures, taken when somebody looks.
    pub journal: Arc<dyn Journal>,
    /// The tenants, for when their credentials expire.
    pub accesses: Accesses,
    /// Log lines that were dropped, where there is a log.
    pub dropped: Option<ErrorCounter>,
}

/// A listener that has its port and does not answer yet.
#[derive(Debug)]
pub struct Ops {
    listener: TcpListener,
    address: SocketAddr,
}

impl Ops {
    /// Takes the port.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub async fn bind(config: &OpsConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is dropped, which also ends its connections.
    pub async fn serve(self, shown: Shown) {
        let router = router(shown);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Some(stream) = accept(&self.listener).await else { continue };
            let router = router.clone();
            connections.spawn(async move {
                let _ = tokio::time::timeout(CONNECTION_TIME, converse(stream, router)).await;
                drop(place);
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            // Out of descriptors, or a client that left already. The pause keeps the loop from spinning.
            tracing::debug!(error = %error, "the operations listener could not take a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn converse(stream: TcpStream, router: Router) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %error, "a client of the operations listener went away");
    }
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(readiness))
        .route("/live", get(live))
        .fallback(async || problem(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(async || problem(StatusCode::METHOD_NOT_ALLOWED))
        .layer(axum::middleware::map_response(harden))
        .with_state(shown)
}

async fn metrics(Shared(shown): Shared<Shown>) -> Response {
    let metrics = &shown.metrics;
    metrics.show_journal(&shown.journal.stat());
    metrics.process_ready.set(i64::from(ready(&shown.status.watch().borrow())));
    metrics.credential_expires.reset();
    for (tenant, expires) in shown.accesses.credentials_expire() {
        metrics.credential_expires.with_label_values(&[&*tenant]).set(expires.as_seconds());
    }
    if let Some(dropped) = &shown.dropped {
        let lines = u64::try_from(dropped.dropped_lines()).unwrap_or(u64::MAX);
        let known = metrics.log_lines_dropped.get();
        metrics.log_lines_dropped.inc_by(lines.saturating_sub(known));
    }
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(error) => {
            tracing::error!(error = %error, "the metrics cannot be written");
            problem(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

async fn readiness(Shared(shown): Shared<Shown>) -> Response {
    let (ready, body) = {
        let parts = shown.status.watch();
        let parts = parts.borrow();
        let ready = ready(&parts);
        (ready, report(ready, &parts).to_string())
    };
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}

fn report(ready: bool, parts: &Parts) -> serde_json::Value {
    let part = |(name, state): (&String, &State)| {
        let (state, why) = match state {
            State::Starting => ("starting", None),
            State::Ready => ("ready", None),
            State::Degraded(why) => ("degraded", Some(why)),
            State::Failed(why) => ("failed", Some(why)),
        };
        let mut entry = serde_json::json!({ "part": name, "state": state });
        if let (Some(why), Some(entry)) = (why, entry.as_object_mut()) {
            entry.insert("why".to_owned(), why.as_str().into());
        }
        entry
    };
    serde_json::json!({ "ready": ready, "parts": parts.iter().map(part).collect::<Vec<_>>() })
}

/// Answered by the same runtime that all tasks share: while it turns, the process is alive.
async fn live() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "live\n").into_response()
}

fn problem(code: StatusCode) -> Response {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": code.canonical_reason().unwrap_or_default(),
        "status": code.as_u16(),
    });
    (code, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}
