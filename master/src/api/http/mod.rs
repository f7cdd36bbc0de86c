//! The HTTP front: TLS, paths, media types; everything else is the pipeline's.
//!
//! - [`path`]: a path and a method to a request. - [`negotiate`]: media types of requests and answers.
//! - [`handler`]: one request from socket to socket. - [`answer`]: the answer's form. - [`streams`]: watches.
//! - [`discovery`], [`openapi`]: documents made from the tables. - [`health`]: is the server alive.

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::dev::{Extensions, ServerHandle};
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use async_trait::async_trait;
use protocol::{Caller, Target};

use super::pipeline::Pipeline;

pub mod answer;
pub mod discovery;
pub mod handler;
pub mod health;
pub mod negotiate;
pub mod openapi;
pub mod path;
pub mod streams;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Seconds that open requests have to end at a shutdown.
const SHUTDOWN_SECONDS: u64 = 5;
/// Seconds that a client has to send its request's head. Generous: laptops sleep.
const HEAD_SECONDS: u64 = 30;

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Address to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// Worker arbiters.
    pub workers: usize,
    /// The address that discovery tells clients, such as `10.0.0.1:6443`.
    pub advertise: String,
}

/// Carries requests that are streams to a node (exec, attach, port-forward, logs) or through it (proxy).
#[async_trait(?Send)]
pub trait StreamRouter: Send + Sync + 'static {
    /// Answers a request that was authenticated and authorized. `query` is decoded, in order; for `proxy` the
    /// rest of the path is in it as `path`.
    async fn handle(
        &self,
        request: HttpRequest,
        payload: web::Payload,
        caller: Caller,
        target: Target,
        query: Vec<(String, String)>,
    ) -> HttpResponse;
}

/// Renders the metrics page.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// What the front serves beside the pipeline.
#[derive(Clone, Default)]
pub struct Mounts {
    /// exec, attach, port-forward, log, proxy.
    pub streams: Option<Arc<dyn StreamRouter>>,
    /// `/metrics`.
    pub metrics: Option<Metrics>,
}

/// What every worker's handlers share.
pub struct Shared {
    pub(crate) pipeline: Pipeline,
    pub(crate) mounts: Mounts,
    pub(crate) advertise: String,
}

/// The client's certificate, verified by TLS, in DER.
#[derive(Clone)]
pub(crate) struct ClientCertificate(pub(crate) Vec<u8>);

/// A running front.
pub struct Server {
    handle: ServerHandle,
    address: SocketAddr,
}

impl Server {
    /// Binds and serves. Must be called on an arbiter; the workers are arbiters of their own.
    pub fn start(
        config: ServerConfig,
        pipeline: Pipeline,
        tls: rustls::ServerConfig,
        mounts: Mounts,
    ) -> std::io::Result<Server> {
        let shared = web::Data::new(Shared { pipeline, mounts, advertise: config.advertise });
        let listener = std::net::TcpListener::bind(config.address)?;
        let address = listener.local_addr()?;
        let server = HttpServer::new(move || {
            App::new().app_data(shared.clone()).default_service(web::route().to(handler::handle))
        })
        .workers(config.workers.max(1))
        .backlog(BACKLOG)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .client_request_timeout(std::time::Duration::from_secs(HEAD_SECONDS))
        .disable_signals()
        .on_connect(remember_certificate)
        .listen_rustls_0_23(listener, tls)?
        .run();
        let handle = server.handle();
        actors::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the HTTP front ended");
            }
        });
        Ok(Server { handle, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops; waits a little for open requests when `graceful`.
    pub async fn stop(&self, graceful: bool) {
        self.handle.stop(graceful).await;
    }
}

type Tls = actix_tls::accept::rustls_0_23::TlsStream<TcpStream>;

fn remember_certificate(connection: &dyn std::any::Any, extensions: &mut Extensions) {
    let Some(tls) = connection.downcast_ref::<Tls>() else { return };
    let (_, session) = tls.get_ref();
    if let Some(first) = session.peer_certificates().and_then(<[_]>::first) {
        extensions.insert(ClientCertificate(first.to_vec()));
    }
}
