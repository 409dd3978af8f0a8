//! The network of the simulated cloud: HTTP/1.1 over TLS on loopback, and the bad manners that an answer may
//! have on its way.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;

use super::asked::{Asked, Manner, Reply, pairs};
use super::world::World;

/// Connections at once.
const CONNECTIONS: usize = 512;
/// How long a handshake or a request's head may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest request body.
const BODY: usize = 4 << 20;
/// What lies between the pieces of a body that breaks off, so that the first ones are really sent.
const BREATH: Duration = Duration::from_millis(20);
/// Bytes in a piece of a slow body.
const PIECE: usize = 16;

/// Serves until it is dropped, its connections with it.
pub async fn serve(listener: TcpListener, tls: TlsAcceptor, world: Arc<World>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (tls, world) = (tls.clone(), Arc::clone(&world));
        connections.spawn(async move {
            converse(stream, tls, world).await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, tls: TlsAcceptor, world: Arc<World>) {
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await else { return };
    let service = service_fn(move |request| {
        let world = Arc::clone(&world);
        async move { one(request, &world).await }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %error, "a conversation with the simulated cloud broke off");
    }
}

async fn one(request: Request<Incoming>, world: &World) -> io::Result<Response<Flow>> {
    let (head, body) = request.into_parts();
    let body = to_bytes(Body::new(body), BODY).await.map_err(io::Error::other)?;
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let raw_query = head.uri.query().unwrap_or_default().to_owned();
    let asked = Asked {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: pairs(&raw_query),
        raw_query,
        headers,
        body: body.to_vec(),
    };
    let reply = world.answer(&asked);
    match reply.manner {
        Manner::Reset => Err(io::Error::other("as the script says")),
        Manner::Hang => std::future::pending().await,
        _ => Ok(response(reply)),
    }
}

fn response(reply: Reply) -> Response<Flow> {
    let Reply { status, headers, body, manner } = reply;
    let whole = body.len() as u64;
    let body = Bytes::from(body);
    let half = body.len() / 2;
    let (pieces, pause, end) = match manner {
        Manner::Cut => (VecDeque::from([body.slice(..half)]), Some(BREATH), End::BreaksOff),
        Manner::Slow(pause) => (pieces(&body), Some(pause), End::Clean),
        Manner::Endless(pause) => (VecDeque::from([body]), Some(pause), End::Never),
        _ => (VecDeque::from([body]), None, End::Clean),
    };
    let size = (end != End::Never).then_some(whole);
    let mut response = Response::new(Flow { pieces, pause, sleep: None, end, size });
    *response.status_mut() =
        status.try_into().unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn pieces(body: &Bytes) -> VecDeque<Bytes> {
    (0..body.len())
        .step_by(PIECE)
        .map(|from| body.slice(from..(from + PIECE).min(body.len())))
        .collect()
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Clean,
    BreaksOff,
    Never,
}

/// A body on its way.
struct Flow {
    pieces: VecDeque<Bytes>,
    pause: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
    end: End,
    size: Option<u64>,
}

impl hyper::body::Body for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(pause) = self.pause {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        match (self.pieces.pop_front(), self.end) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, End::Clean) => Poll::Ready(None),
            (None, End::BreaksOff) => {
                Poll::Ready(Some(Err(io::Error::other("as the script says"))))
            }
            (None, End::Never) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b" "))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.end == End::Clean
    }

    fn size_hint(&self) -> SizeHint {
        match self.size {
            Some(size) => SizeHint::with_exact(size),
            None => SizeHint::default(),
        }
    }
}
