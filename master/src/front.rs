//! The HTTP front: one of the three doors to the API.
//!
//! It authenticates, turns HTTP into an [`ApiRequest`](protocol::ApiRequest), and writes the answer in the
//! form the client asked for. What the request means is the pipeline's business, behind [`protocol::Api`].
//!
//! - [`path`]: paths and queries to targets; [`negotiate`]: forms and media types; [`deadline`]: time limits.
//! - `handle`: one request about a resource; `body`: what it brings; `elsewhere`: every other path; `openapi`: the documents of that. `traced`: it as a step of a chain.
//! - [`shown`]: clients' certificates. `audited`: what the audit log is told. [`fairness`]: which requests run now; [`metrics`]: what is counted of them.
//! - `write`, `pretty`: answers; `watch`: streams of events, `written`: what was written of them. `accept`, `gathered`: connections.
//! - [`discovery`]: the documents that clients find kinds by; [`health`]: whether all is well; `debug`: traces
//!   and actors.

mod accept;
mod asked;
mod audited;
mod body;
pub mod certificate;
mod counted;
pub mod deadline;
pub mod debug;
pub mod discovery;
mod elsewhere;
pub mod fairness;
mod gate;
mod gathered;
mod handle;
pub mod health;
pub mod metadata;
pub mod metrics;
pub mod negotiate;
mod openapi;
mod packed;
mod pages;
pub mod path;
mod pieces;
mod pretty;
mod route;
pub mod shown;
mod traced;
mod watch;
mod write;
mod written;

pub use gate::ClusterGate;

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::LocalBoxFuture;
use protocol::{Api, ApiError, ApiRequest, Caller};
use serde_json::Value;

use self::shown::{Certifiers, Shown};
use crate::aggregation::Aggregation;
use crate::api::openapi::{Packed, Unserved};
use crate::audit::Auditor;
use crate::auth::{Attributes, Decision};

/// The largest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 3 << 20;

/// Who may come in.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Who asks: by the client certificate of the connection or by the request's headers. Whether that may be on
    /// somebody else's behalf depends on `what` is asked for.
    async fn caller(
        &self,
        certificate: Option<&Shown>,
        headers: &HeaderMap,
        what: &(dyn Fn(Arc<Caller>) -> Attributes + Sync),
    ) -> Result<Admitted, ApiError>;

    /// What the authorizer says of something, and why.
    fn decision(&self, attributes: &Attributes) -> Decision;

    /// Whether a path that is no resource may be asked for.
    fn may_visit(&self, caller: &Arc<Caller>, method: &str, path: &str) -> Result<(), ApiError>;

    /// Whether a request that the pipeline will not see (a stream into a pod) may be made.
    fn may(&self, request: &ApiRequest) -> Result<(), ApiError>;

    /// Whether policies and webhooks let such a request connect; `rest` is what follows a `proxy`. Its warnings.
    async fn admit(&self, request: &ApiRequest, rest: &str) -> Result<Vec<String>, ApiError>;
}

/// Somebody who came in.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// On whose behalf the request is made.
    pub caller: Arc<Caller>,
    /// Who makes it, where that is somebody else: an impersonator.
    pub actor: Option<Arc<Caller>>,
}

/// Serves what is a stream in both directions: exec, attach, port-forward, logs, proxies.
pub trait StreamRouter: Send + Sync + 'static {
    /// Serves one request, already authorized. `rest` is what follows a `proxy` subresource.
    fn serve(
        &self,
        http: HttpRequest,
        payload: web::Payload,
        request: ApiRequest,
        rest: String,
    ) -> LocalBoxFuture<'static, HttpResponse>;
}

/// Documents that others make: OpenAPI and Tables.
pub trait Documents: Send + Sync + 'static {
    /// An OpenAPI document by path (`/openapi/v3/apis/apps/v1`), with its media type.
    fn openapi(&self, path: &str, accept: &str) -> Result<(Packed, &'static str), Unserved>;

    /// What others need to check ServiceAccount tokens, by path, with its media type.
    fn identity(&self, path: &str) -> Option<(Bytes, &'static str)>;

    /// The kind behind a target.
    fn kind(&self, target: &protocol::Target) -> Option<&'static protocol::Resource>;

    /// Warnings that a request for a kind gets whatever comes of it.
    fn notices(&self, resource: &protocol::Resource, request: &ApiRequest) -> Vec<String>;

    /// The fields of an object that its declared kind does not have, as strict validation tells them; `None` where it
    /// is no object of the kind that can be read.
    fn undeclared(&self, resource: &protocol::Resource, text: &[u8]) -> Option<Vec<String>>;

    /// Every path that `/` lists.
    fn paths(&self) -> Vec<String> {
        let root = self.discovery("/", false).and_then(|json| serde_json::from_slice::<Value>(&json).ok());
        let paths = root.and_then(|mut root| serde_json::from_value(root["paths"].take()).ok());
        paths.unwrap_or_default()
    }

    /// A discovery document by path; `aggregated` asks for the `APIGroupDiscoveryList` form.
    fn discovery(&self, path: &str, aggregated: bool) -> Option<Bytes>;

    /// Objects of a kind as a `Table`; `None` where the objects are of no served kind.
    fn table(&self, resource: &protocol::Resource, object: &Value, include_object: &str) -> Option<Value>;
}

/// Whether a part of the server is well.
pub struct Check {
    /// Its name, as a path segment.
    pub name: &'static str,
    /// Where it counts.
    pub scope: health::Scope,
    /// Looks.
    pub look: Look,
}

/// What looks whether a part of the server is well, and says what is not.
pub type Look = Box<dyn Fn() -> futures::future::BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Everything that the front needs.
pub struct FrontConfig {
    /// Server side of TLS; client certificates are asked for, not insisted on.
    pub tls: rustls::ServerConfig,
    /// Who certifies clients.
    pub certifiers: Certifiers,
    /// The address that `/api` tells clients.
    pub public_address: String,
    /// Who may come in.
    pub gate: Arc<dyn Gate>,
    /// The door to the pipeline for a caller.
    pub door: Arc<dyn Fn(Arc<Caller>) -> Arc<dyn Api> + Send + Sync>,
    /// Streams.
    pub streams: Arc<dyn StreamRouter>,
    /// OpenAPI and Tables.
    pub documents: Arc<dyn Documents>,
    /// Groups that other servers serve.
    pub aggregation: Aggregation,
    /// What `/livez` and `/readyz` look at.
    pub checks: Vec<Check>,
    /// The audit log, where one is kept.
    pub audit: Option<Auditor>,
    /// Seats.
    pub fairness: Arc<fairness::Fairness>,
    /// What is counted of requests.
    pub metrics: metrics::FrontMetrics,
    /// Traces, actors, metrics.
    pub debug: debug::Debug,
}

pub(crate) struct Shared {
    config: FrontConfig,
    api_versions: Bytes,
}

/// A running front.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    handle: ServerHandle,
}

impl Front {
    /// Serves on a bound listener, with `workers` threads. Needs a running actix `System`.
    ///
    /// # Errors
    /// When the listener or the TLS configuration cannot be used.
    pub fn start(
        listener: std::net::TcpListener,
        workers: usize,
        mut config: FrontConfig,
    ) -> std::io::Result<Front> {
        pages::begin();
        let address = listener.local_addr()?;
        let tls = std::mem::replace(&mut config.tls, empty_tls()?);
        let api_versions = discovery::api_versions(&config.public_address);
        let shared = web::Data::new(Shared { config, api_versions });
        let server = accept::server(listener, workers, tls, shared)?;
        let handle = server.handle();
        actors::spawn(async move {
            if let Err(e) = server.await {
                tracing::error!(error = %e, "the HTTP front ended");
            }
        });
        Ok(Front { address, handle })
    }

    /// Stops: running requests get a few seconds.
    pub async fn stop(&self) {
        self.handle.stop(true).await;
    }
}

/// A configuration that serves nobody: what stays behind when the real one has moved into the server.
fn empty_tls() -> std::io::Result<rustls::ServerConfig> {
    let resolver = Arc::new(rustls::server::ResolvesServerCertUsingSni::new());
    Ok(rustls::ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver))
}
