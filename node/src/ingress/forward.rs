//! One request: from a client to an endpoint, and the answer back.
//!
//! A request is given to another endpoint when it never left for the first one, or when it may safely be repeated and
//! its body was not read. So an endpoint that goes away costs no request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actors::time::Instant;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, UPGRADE};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::backends::Refusal;
use super::body::{Lender, Paced};
use super::headers::{self, Arrival};
use super::hosts;
use super::metrics::Metrics;
use super::table::{Found, Table};
use super::upstream::{AttemptError, Speaks, Upstream};

/// An endpoint begins its answer within this time after it was sent the last piece of a request.
pub const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Endpoints that are tried for one request.
const ATTEMPTS_MAX: usize = 4;
/// Bytes of a path and its query.
const URI_BYTES_MAX: usize = 16 << 10;

/// The body of an answer: a line of ours, or an endpoint's.
pub type Reply = Either<Full<Bytes>, Paced>;

/// Why a request is not answered by an endpoint. Clients are told no names of the inside.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The request makes no sense.
    #[error("bad request: {0}")]
    Bad(&'static str),
    /// Tunnels to anywhere are not to be had here.
    #[error("CONNECT is not served")]
    Connect,
    /// A WebSocket is asked for, and the endpoints speak HTTP/2 alone.
    #[error("the Service of this host and path has no WebSockets")]
    NoWebSockets,
    /// The path and query are too long.
    #[error("more than {URI_BYTES_MAX} bytes of path and query")]
    Long,
    /// Nothing is said about such requests.
    #[error("no Ingress is for this host and path")]
    Nothing,
    /// What exists is not known yet.
    #[error("starting; try again")]
    Starting,
    /// There is nowhere to send it.
    #[error("the Service of this host and path cannot be reached now")]
    Nowhere(Refusal),
    /// More requests are under way than may be.
    #[error("too many requests are under way; try again")]
    Busy,
    /// No endpoint took it.
    #[error("no endpoint answered")]
    Attempt(#[from] AttemptError),
    /// The endpoint does not answer.
    #[error("the endpoint did not answer within {} s", ANSWER_WAIT.as_secs())]
    Late(SocketAddr),
    /// The endpoint changed protocols without being asked to.
    #[error("the endpoint's answer is not understood")]
    Unasked(SocketAddr),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Refused::Bad(_) => StatusCode::BAD_REQUEST,
            Refused::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Refused::NoWebSockets => StatusCode::NOT_IMPLEMENTED,
            Refused::Long => StatusCode::URI_TOO_LONG,
            Refused::Nothing => StatusCode::NOT_FOUND,
            Refused::Nowhere(_) | Refused::Busy | Refused::Starting => StatusCode::SERVICE_UNAVAILABLE,
            Refused::Attempt(_) | Refused::Unasked(_) => StatusCode::BAD_GATEWAY,
            Refused::Late(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn response(&self) -> Response<Reply> {
        let mut response = Response::new(Either::Left(Full::from(format!("{self}\n"))));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Sends requests on.
pub struct Forwarder {
    /// Says where to.
    pub table: Arc<RwLock<Table>>,
    /// Counts.
    pub metrics: Metrics,
    /// Room for requests under way, upgraded connections among them.
    pub room: Arc<Semaphore>,
    /// Ends upgraded connections.
    pub end: CancellationToken,
}

/// A client that asked for another protocol.
struct Asked {
    /// Its connection, once there is an answer.
    client: OnUpgrade,
    /// It asked as HTTP/2 does (RFC 8441): by CONNECT, and without a change of the connection.
    bootstrapped: bool,
}

/// Whether a CONNECT is one that HTTP/2 asks for WebSockets by.
fn is_websocket(request: &Request<Incoming>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    protocol.is_some_and(|protocol| protocol.as_str() == "websocket") && request.uri().authority().is_some()
}

fn asks_websocket(parts: &Parts) -> bool {
    parts.headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The host that a request is for.
fn host(request: &Request<Incoming>) -> Result<HeaderValue, Refused> {
    let mut said = request.headers().get_all(HOST).iter();
    let host = match (request.uri().authority(), said.next(), said.next()) {
        (_, _, Some(_)) => return Err(Refused::Bad("more than one host")),
        (Some(authority), _, None) => HeaderValue::from_str(authority.as_str()).ok(),
        (None, host, None) => host.cloned(),
    };
    let host = host.ok_or(Refused::Bad("no host"))?;
    let known = host
        .to_str()
        .is_ok_and(|text| !text.contains('@') && text.parse::<hyper::http::uri::Authority>().is_ok());
    if known { Ok(host) } else { Err(Refused::Bad("no such host")) }
}

impl Forwarder {
    /// Answers a request.
    pub async fn handle(&self, request: Request<Incoming>, arrival: Arrival) -> Response<Reply> {
        let response = match self.forward(request, arrival).await {
            Ok(response) => response,
            Err(refused) => {
                tracing::debug!(client = %arrival.client, ?refused, "a request is not served");
                refused.response()
            }
        };
        self.metrics.answered(response.status().as_u16());
        response
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        arrival: Arrival,
    ) -> Result<Response<Reply>, Refused> {
        let bootstrapped = request.method() == Method::CONNECT;
        if bootstrapped && !is_websocket(&request) {
            return Err(Refused::Connect);
        }
        if request.uri().path_and_query().is_some_and(|p| p.as_str().len() > URI_BYTES_MAX) {
            return Err(Refused::Long);
        }
        let host = host(&request)?;
        let permit = self.room.clone().try_acquire_owned().map_err(|_| Refused::Busy)?;
        let permit = Arc::new(permit);
        let client = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        headers::request(&mut parts, &host, arrival);
        if bootstrapped {
            parts.method = Method::GET;
            headers::websocket(&mut parts.headers, rand::random());
        }
        let body = Lender::new(Paced::new(body, Some(permit.clone())));
        let (endpoint, response) =
            self.attempts(&hosts::name_of(host.to_str().unwrap_or_default()), &parts, &body).await?;
        let asked = parts.headers.contains_key(UPGRADE).then_some(Asked { client, bootstrapped });
        self.answer(endpoint, response, asked, permit)
    }

    /// The endpoint that is to be tried next, by what is known now.
    fn pick(
        &self,
        host: &str,
        path: &str,
        tried: &[SocketAddr],
        again: bool,
    ) -> Result<Option<Arc<Upstream>>, Refused> {
        let backend = match self.table.read().find(host, path) {
            Found::Backend(backend) => backend,
            Found::Refused(refusal) => return Err(Refused::Nowhere(refusal)),
            Found::Nothing => return Err(Refused::Nothing),
            Found::Unknown => return Err(Refused::Starting),
        };
        let mut order = backend.in_turn().map_err(|refusal| Refused::Nowhere(refusal.clone()))?;
        let untried = order.iter().position(|endpoint| !tried.contains(&endpoint.address()));
        Ok(match untried {
            Some(at) => Some(order.swap_remove(at)),
            None if again => order.into_iter().next(),
            None => None,
        })
    }

    async fn attempts(
        &self,
        host: &str,
        parts: &Parts,
        body: &Lender,
    ) -> Result<(SocketAddr, Response<Incoming>), Refused> {
        let path = parts.uri.path();
        let mut tried = Vec::new();
        let mut repeated = false;
        let mut failed = None;
        loop {
            let picked = self.pick(host, path, &tried, repeated);
            let endpoint = match (picked, failed.take()) {
                (Ok(Some(endpoint)), _) if asks_websocket(parts) && endpoint.speaks() == Speaks::Http2 => {
                    return Err(Refused::NoWebSockets);
                }
                (Ok(Some(endpoint)), before) => {
                    if before.is_some() {
                        self.metrics.retried();
                    }
                    endpoint
                }
                // What happened tells more than that nothing is left.
                (_, Some(before)) => return Err(before),
                (Ok(None), None) => return Err(Refused::Nothing),
                (Err(refused), None) => return Err(refused),
            };
            let error = match self.attempt(&endpoint, parts, body).await {
                Ok(response) => return Ok((endpoint.address(), response)),
                Err(error) => error,
            };
            tried.push(endpoint.address());
            let unsure = matches!(error, Refused::Attempt(AttemptError::NoAnswer { .. }));
            let may = match &error {
                Refused::Attempt(AttemptError::NotSent { .. }) => true,
                // Once: whoever kills two endpoints would kill all.
                Refused::Attempt(AttemptError::NoAnswer { .. }) => !repeated && parts.method.is_idempotent(),
                _ => false,
            };
            if !may || !body.is_whole() || tried.len() >= ATTEMPTS_MAX {
                return Err(error);
            }
            repeated |= unsure;
            failed = Some(error);
        }
    }

    async fn attempt(
        &self,
        endpoint: &Upstream,
        parts: &Parts,
        body: &Lender,
    ) -> Result<Response<Incoming>, Refused> {
        let began = Instant::now();
        let mut sending = std::pin::pin!(endpoint.send(Request::from_parts(parts.clone(), body.lend())));
        let mut pieces = body.pieces();
        loop {
            tokio::select! {
                sent = &mut sending => {
                    let response = sent?;
                    self.metrics.upstream(began.elapsed());
                    return Ok(response);
                }
                () = tokio::time::sleep(ANSWER_WAIT) => {
                    // While the request still comes in, there is nothing to answer yet.
                    if body.pieces() == pieces {
                        return Err(Refused::Late(endpoint.address()));
                    }
                    pieces = body.pieces();
                }
            }
        }
    }

    /// Passes an answer on. `asked` is there where the client asked for another protocol.
    fn answer(
        &self,
        endpoint: SocketAddr,
        mut response: Response<Incoming>,
        asked: Option<Asked>,
        permit: Arc<OwnedSemaphorePermit>,
    ) -> Result<Response<Reply>, Refused> {
        let bootstrapped = asked.as_ref().is_some_and(|asked| asked.bootstrapped);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Asked { client, .. } = asked.ok_or(Refused::Unasked(endpoint))?;
            let server = hyper::upgrade::on(&mut response);
            let end = self.end.clone();
            tokio::spawn(async move { end.run_until_cancelled(tunnel(client, server, permit)).await });
            let (mut parts, _) = response.into_parts();
            headers::answer(parts.status, &mut parts.headers);
            if bootstrapped {
                parts.status = StatusCode::OK;
                headers::bootstrapped(&mut parts.headers);
            }
            parts.extensions.clear();
            return Ok(Response::from_parts(parts, Either::Left(Full::default())));
        }
        // Success would say that there is a tunnel now.
        if bootstrapped && response.status().is_success() {
            return Err(Refused::Unasked(endpoint));
        }
        let (mut parts, body) = response.into_parts();
        headers::answer(parts.status, &mut parts.headers);
        parts.extensions.clear();
        Ok(Response::from_parts(parts, Either::Right(Paced::new(body, Some(permit)))))
    }
}

/// Carries bytes both ways until either side ends. A peer that is gone without a word is found by TCP's own signs of
/// life on both connections; one that is silent is let be.
async fn tunnel(client: OnUpgrade, server: OnUpgrade, _room: Arc<OwnedSemaphorePermit>) {
    let (client, server) = match tokio::try_join!(client, server) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade came to nothing");
            return;
        }
    };
    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
        tracing::debug!(%error, "an upgraded connection ended");
    }
}
