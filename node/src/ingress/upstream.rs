//! One endpoint, and the connections to it: they are kept for the next request, and end with the endpoint.
//!
//! An endpoint has a pool of its own, so that what is left of it goes when it goes: an address that another pod
//! gets later is never reached by a connection that was meant for the former one.

use std::net::SocketAddr;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use actors::time::Instant;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, Response, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::body::Lent;
use super::claims::Key;
use crate::unverified;

/// A connection is made within this time, or another endpoint is tried.
pub const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// A connection that nobody needs is closed after this time.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Connections that nobody needs are kept up to this number.
const IDLE_CONNECTIONS_MAX: usize = 32;
/// An endpoint that did not answer is tried last for this time.
const SHUNNED: Duration = Duration::from_secs(5);
/// Connections that are asked nothing are asked for a sign of life this often (HTTP/2), or by TCP.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, known beforehand.
    Http2,
    /// HTTP/1.1 in TLS. The certificate is not looked at: nothing says whose it should be, and pods make their own.
    Tls,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// Nothing was sent: another endpoint may be given the request.
    #[error("{address}: not reached: {why}")]
    NotSent {
        /// The endpoint.
        address: SocketAddr,
        /// What happened.
        why: String,
    },
    /// It was sent, at least in part, and nothing came back.
    #[error("{address}: no answer: {why}")]
    NoAnswer {
        /// The endpoint.
        address: SocketAddr,
        /// What happened.
        why: String,
    },
}

/// An endpoint.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    speaks: Speaks,
    /// The Service that it is behind.
    service: Key,
    /// Made for the first request: most endpoints of a large cluster are asked nothing by this node.
    connections: OnceLock<Connections>,
    failed: Mutex<Option<Instant>>,
}

#[derive(Debug)]
enum Connections {
    /// A request has a connection to itself.
    Http1(Box<Client<HttpConnector, Lent>>),
    /// The same, in TLS.
    Tls(Box<Client<HttpsConnector<HttpConnector>, Lent>>),
    /// All requests share one.
    Http2(tokio::sync::Mutex<Option<http2::SendRequest<Lent>>>),
}

impl Connections {
    /// No connection yet.
    fn none(speaks: Speaks, server_name: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_WAIT));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(SIGN_OF_LIFE));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).timer(TokioTimer::new());
        builder.pool_idle_timeout(IDLE_MAX).pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
        builder.set_host(false);
        match speaks {
            Speaks::Http1 => Connections::Http1(Box::new(builder.build(connector))),
            Speaks::Tls => {
                static CONFIG: LazyLock<ClientConfig> = LazyLock::new(unverified::client_config);
                connector.enforce_http(false);
                let tls = HttpsConnectorBuilder::new().with_tls_config(CONFIG.clone()).https_only();
                let tls = match ServerName::try_from(server_name.to_owned()) {
                    Ok(name) => tls.with_server_name_resolver(FixedServerNameResolver::new(name)),
                    // By its address.
                    Err(_) => tls,
                };
                let tls = tls.enable_http1();
                Connections::Tls(Box::new(builder.build(tls.wrap_connector(connector))))
            }
            Speaks::Http2 => Connections::Http2(tokio::sync::Mutex::default()),
        }
    }
}

/// What went wrong, down to the first cause.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl Upstream {
    /// An endpoint of a Service; nothing is connected before the first request.
    pub fn new(address: SocketAddr, speaks: Speaks, service: Key) -> Self {
        Upstream { address, speaks, service, connections: OnceLock::new(), failed: Mutex::new(None) }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it speaks.
    pub fn speaks(&self) -> Speaks {
        self.speaks
    }

    /// Whether it was not reached a moment ago.
    pub fn failed_lately(&self) -> bool {
        self.failed.lock().is_some_and(|at| at.elapsed() < SHUNNED)
    }

    /// Sends a request and waits for the head of the answer, however long that takes. The request has its host
    /// in the header `host`, and nothing of it in its URI.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, request: Request<Lent>) -> Result<Response<Incoming>, AttemptError> {
        let connections =
            self.connections.get_or_init(|| Connections::none(self.speaks, &server_name(&self.service)));
        let sent = match connections {
            Connections::Http1(client) => self.send_http1(client, Scheme::HTTP, request).await,
            Connections::Tls(client) => self.send_http1(client, Scheme::HTTPS, request).await,
            Connections::Http2(connection) => self.send_http2(connection, request).await,
        };
        *self.failed.lock() = match &sent {
            Err(AttemptError::NotSent { .. }) => Some(Instant::now()),
            _ => None,
        };
        sent
    }

    fn not_sent(&self, why: impl Into<String>) -> AttemptError {
        AttemptError::NotSent { address: self.address, why: why.into() }
    }

    fn no_answer(&self, error: &dyn std::error::Error) -> AttemptError {
        AttemptError::NoAnswer { address: self.address, why: reason(error) }
    }

    async fn send_http1<C>(
        &self,
        client: &Client<C, Lent>,
        scheme: Scheme,
        mut request: Request<Lent>,
    ) -> Result<Response<Incoming>, AttemptError>
    where
        C: Connect + Clone + Send + Sync + 'static,
    {
        let authority = self.address.to_string();
        *request.uri_mut() =
            uri(request.uri(), scheme, &authority).ok_or_else(|| self.not_sent("no such URI"))?;
        client.request(request).await.map_err(|error| {
            let cause = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<hyper::Error>());
            // Cancelled is what never left: the connection ended before.
            if error.is_connect() || cause.is_some_and(hyper::Error::is_canceled) {
                self.not_sent(reason(&error))
            } else {
                self.no_answer(&error)
            }
        })
    }

    async fn send_http2(
        &self,
        connection: &tokio::sync::Mutex<Option<http2::SendRequest<Lent>>>,
        mut request: Request<Lent>,
    ) -> Result<Response<Incoming>, AttemptError> {
        // HTTP/2 says the host in the URI.
        let host = request.headers().get(hyper::header::HOST).and_then(|host| host.to_str().ok());
        let authority = host.map_or_else(|| self.address.to_string(), str::to_owned);
        *request.uri_mut() =
            uri(request.uri(), Scheme::HTTP, &authority).ok_or_else(|| self.not_sent("no such URI"))?;
        request.headers_mut().remove(hyper::header::HOST);
        *request.version_mut() = hyper::Version::HTTP_2;
        let mut sender = {
            let mut shared = connection.lock().await;
            match &*shared {
                Some(open) if !open.is_closed() => open.clone(),
                _ => shared.insert(self.connect_http2().await?).clone(),
            }
        };
        sender.send_request(request).await.map_err(|error| {
            if error.is_canceled() { self.not_sent(reason(&error)) } else { self.no_answer(&error) }
        })
    }

    async fn connect_http2(&self) -> Result<http2::SendRequest<Lent>, AttemptError> {
        let connecting = async {
            let stream = TcpStream::connect(self.address).await.map_err(|e| self.not_sent(reason(&e)))?;
            let _ = stream.set_nodelay(true);
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).keep_alive_interval(SIGN_OF_LIFE);
            let shaken = builder.handshake(TokioIo::new(stream)).await;
            shaken.map_err(|e| self.not_sent(reason(&e)))
        };
        let connected = tokio::time::timeout(CONNECT_WAIT, connecting).await;
        let (sender, connection) = connected.map_err(|_| self.not_sent("no connection in time"))??;
        // Ends with the last sender, or with the endpoint.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to an endpoint ended");
            }
        });
        Ok(sender)
    }
}

/// By which name an endpoint of a Service is asked for its certificate: that of the Service within the cluster.
fn server_name(service: &Key) -> String {
    match service.split_once('/') {
        Some((namespace, name)) => format!("{name}.{namespace}.svc"),
        None => service.to_string(),
    }
}

/// Path and query of a request, with another authority.
fn uri(request: &Uri, scheme: Scheme, authority: &str) -> Option<Uri> {
    let mut parts = request.clone().into_parts();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority.parse::<Authority>().ok()?);
    parts.path_and_query.get_or_insert_with(|| hyper::http::uri::PathAndQuery::from_static("/"));
    Uri::from_parts(parts).ok()
}
