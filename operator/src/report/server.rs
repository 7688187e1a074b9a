//! The HTTPS server of the report channel. Everything that comes in is bounded:
//! connections, time, bytes, questions to the API server, and how often a pod may write.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dbbackup_contract::{Message, REPORT_PATH, ReportBody};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use kube::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::authorize::{Gate, Refusal};
use super::message::{Stored, store};
use super::seats::{Limits, Seat, Seats};
use crate::metrics::Metrics;

/// Most bytes of a message: a report of a hundred databases has about a fifth of it.
const MAX_BODY: usize = 256 * 1024;
/// Most bytes of what a connection has sent and nobody has looked at yet; headers must fit in. A
/// token has about one thousand.
const BUFFER: usize = 16 * 1024;
/// For a request from its headers to its answer; a runner waits no longer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two lines of log about what anybody may bring about.
const LOG_PERIOD: Duration = Duration::from_secs(10);
/// Between two messages of progress that are written for one pod.
const PROGRESS_PERIOD: Duration = Duration::from_secs(2);

/// The result of a message that is to come again: runners try again after a 503, and after a
/// connection that was closed.
const BUSY: &str = "busy";

/// What the channel needs.
pub struct Channel {
    /// The API server.
    pub client: Client,
    /// Counts messages.
    pub metrics: Arc<Metrics>,
    gate: Gate,
    last_progress: Mutex<HashMap<String, Instant>>,
    last_logged: Mutex<Option<Instant>>,
    limits: Limits,
}

impl Channel {
    /// A channel that writes through `client`.
    #[must_use]
    pub fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self {
            client,
            metrics,
            gate: Gate::default(),
            last_progress: Mutex::default(),
            last_logged: Mutex::default(),
            limits: Limits::default(),
        }
    }

    /// Answers one request.
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (result, response) = match self.take(request).await {
            Ok(result) => (result, reply(StatusCode::NO_CONTENT, "")),
            Err((status @ StatusCode::SERVICE_UNAVAILABLE, text)) => (BUSY, reply(status, &text)),
            Err((status, text)) => ("refused", reply(status, &text)),
        };
        self.metrics.reports.with_label_values(&[result]).inc();
        response
    }

    async fn take(&self, request: Request<Incoming>) -> Result<&'static str, (StatusCode, String)> {
        if request.uri().path() != REPORT_PATH {
            return Err((StatusCode::NOT_FOUND, format!("the path is {REPORT_PATH}")));
        }
        if request.method() != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "the method is POST".to_owned()));
        }
        let token = bearer(request.headers())
            .ok_or_else(|| (StatusCode::UNAUTHORIZED, "a bearer token is needed".to_owned()))?;
        let caller = self.gate.check(&self.client, &token).await.map_err(|refusal| {
            let status = match refusal {
                Refusal::Token => StatusCode::UNAUTHORIZED,
                Refusal::Stranger(_) => StatusCode::FORBIDDEN,
                Refusal::Busy | Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            if self.may_log() {
                tracing::warn!(%refusal, "a message was refused");
            }
            (status, refusal.to_string())
        })?;
        // Only after the caller is known is anything read.
        let body = Limited::new(request.into_body(), MAX_BODY).collect().await.map_err(|_| {
            let text = format!("a message has {MAX_BODY} bytes at most");
            (StatusCode::PAYLOAD_TOO_LARGE, text)
        })?;
        let message: Message = serde_json::from_slice(&body.to_bytes())
            .map_err(|error| (StatusCode::BAD_REQUEST, format!("no message: {error}")))?;
        if message.subject_uid != caller.uid {
            let text = "the Job belongs to another object".to_owned();
            return Err((StatusCode::FORBIDDEN, text));
        }
        if matches!(message.body, ReportBody::Progress(_)) && self.is_too_soon(&caller.pod_uid) {
            return Ok("skipped");
        }
        match store(&self.client, &caller, &message, Timestamp::now()).await {
            Ok(Stored::Yes) => {
                tracing::debug!(
                    namespace = caller.namespace,
                    name = caller.name,
                    "a message was stored"
                );
                Ok("stored")
            }
            Ok(Stored::NotNeeded) => Ok("skipped"),
            Ok(Stored::Gone) => Err((StatusCode::GONE, "the object is gone".to_owned())),
            Err(error) => {
                tracing::warn!(%error, "a message could not be stored");
                Err((StatusCode::SERVICE_UNAVAILABLE, "the status cannot be written".to_owned()))
            }
        }
    }

    /// Whether it is time for another line about strangers: they must not fill the log.
    fn may_log(&self) -> bool {
        let mut last = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= LOG_PERIOD);
        if may {
            *last = Some(Instant::now());
        }
        may
    }

    /// A connection for which there was no place.
    fn turned_away(&self, peer: IpAddr) {
        self.metrics.reports.with_label_values(&[BUSY]).inc();
        if self.may_log() {
            tracing::warn!(%peer, "too many connections: one was closed at once");
        }
    }

    fn is_too_soon(&self, pod_uid: &str) -> bool {
        let mut last = self.last_progress.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, time| time.elapsed() < PROGRESS_PERIOD);
        if last.contains_key(pod_uid) {
            return true;
        }
        last.insert(pod_uid.to_owned(), Instant::now());
        false
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

fn reply(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Serves until `stop`; then lets the requests that are there end.
pub async fn serve(
    listener: TcpListener,
    channel: Arc<Channel>,
    tls: watch::Receiver<Arc<ServerConfig>>,
    stop: CancellationToken,
) {
    let seats = Seats::new(channel.limits);
    let tasks = tokio_util::task::TaskTracker::new();
    loop {
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = seats.free() => permit,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok((socket, address)) => (socket, address.ip()),
            Err(error) => {
                // Out of file descriptors, for instance: trying at once would spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(seat) = seats.give(permit, peer) else {
            channel.turned_away(peer);
            continue;
        };
        let acceptor = TlsAcceptor::from(tls.borrow().clone());
        let channel = Arc::clone(&channel);
        tasks.spawn(converse(socket, acceptor, channel, seat));
    }
    tasks.close();
    if tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
}

/// Takes one connection's messages.
async fn converse(socket: TcpStream, acceptor: TlsAcceptor, channel: Arc<Channel>, seat: Seat) {
    let patience = channel.limits.patience;
    let handshake = tokio::time::timeout(patience, acceptor.accept(socket));
    let Ok(Ok(stream)) = handshake.await else {
        tracing::debug!("a TLS handshake failed");
        return;
    };
    let seat = &seat;
    let service = service_fn(move |request| {
        let channel = Arc::clone(&channel);
        async move {
            let answer = tokio::time::timeout(TIMEOUT, channel.answer(request)).await;
            let late = |_| reply(StatusCode::REQUEST_TIMEOUT, "that took too long");
            let mut answer = answer.unwrap_or_else(late);
            if seat.is_wanted() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
