//! Ingresses of our class, served by a node: requests by host and path to the endpoints of Services.
//!
//! ## Layout
//!
//! - `hosts`, `claims`, `routes`: what Ingresses ask for, and which of them a request belongs to (pure).
//! - `backends`: Services and their endpoints; `upstream`: one endpoint and the connections to it.
//! - `certificates`: Secrets, by host. `table`: all of these, as requests read it.
//! - `headers` (pure), `body`, `forward`: one request and its answer. `listener`: the ports.
//! - `actor`: follows the kinds, and is the only writer of the table; `watched`: the Secrets that it follows.
//! - `metrics`, `options`.
//!
//! HTTP, TLS and pools of connections are hyper's, hyper-util's and rustls'. A whole proxy was looked for and not
//! taken: pingora brings a server with threads of its own and calls its rustls experimental; the crates over hyper
//! are small, or no longer kept.
//!
//! A request never waits for a message: it reads the table under a short lock. Nothing here is authorization; paths
//! are compared as they were sent, byte by byte.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actors::{ActorRef, Props, RestartPolicy, Stage};
use parking_lot::RwLock;
use protocol::Client;
use protocol::events::{Recorder, Source};
use protocol::ingress::Ports;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

mod actor;
mod backends;
mod body;
mod certificates;
mod claims;
mod forward;
mod headers;
mod hosts;
mod listener;
mod metrics;
mod options;
mod routes;
mod table;
mod upstream;
mod watched;

pub use options::IngressArgs;

use actor::IngressActor;
use listener::Listener;
use metrics::Metrics;
use table::Table;

/// Connections of clients, and requests under way, at most, where as many files may be open.
const CONNECTIONS_MAX: u64 = 8192;
/// Files that a connection and its request may need, and as many again for the rest of the process.
const FILES_PER_CONNECTION: u64 = 4;
/// Requests under way have this long at the end of the process.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Changes that wait for the actor at most; the watches wait when it is full.
const MAILBOX: usize = 1024;

/// How Ingresses are served.
#[derive(Clone, Debug)]
pub struct IngressConfig {
    /// The node's name.
    pub node: String,
    /// Where plain HTTP is served; port 0 lets the kernel choose.
    pub http: Option<SocketAddr>,
    /// Where HTTP in TLS is served.
    pub https: Option<SocketAddr>,
}

impl IngressConfig {
    /// On all addresses of the node, of both families where it has both.
    pub fn new(node: &str, ports: Ports) -> Self {
        let at = |port: u16| (port != 0).then_some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        IngressConfig { node: node.to_owned(), http: at(ports.http), https: at(ports.https) }
    }
}

/// Why Ingresses are not served.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// A port could not be bound.
    #[error(
        "cannot listen on {address}: {source}; is another server there? Give --ingress-http-port or --ingress-https-port"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// What the actors have in common, over all their lives.
struct Shared {
    table: Arc<RwLock<Table>>,
    metrics: Metrics,
    /// Room for connections of clients.
    connections: Arc<Semaphore>,
    /// Room for requests under way.
    requests: Arc<Semaphore>,
    /// No more connections are taken, and those that there are end with the requests that they have.
    draining: CancellationToken,
}

/// Ingresses being served.
pub struct IngressHandle {
    actor: ActorRef<IngressActor>,
    listeners: Vec<ActorRef<Listener>>,
    sockets: Vec<Arc<std::net::TcpListener>>,
    shared: Arc<Shared>,
    /// How many connections there is room for.
    room: usize,
    table: Arc<RwLock<Table>>,
    /// Where plain HTTP is served.
    pub http: Option<SocketAddr>,
    /// Where HTTP in TLS is served.
    pub https: Option<SocketAddr>,
}

impl IngressHandle {
    /// Whether all that exists has been listed, so that requests are answered by it.
    pub fn is_ready(&self) -> bool {
        self.table.read().complete
    }

    /// Takes no more connections and waits until the requests under way are answered, 10 s at most; then stops. Upgraded
    /// connections end at once.
    pub async fn drain(&self) {
        self.shared.draining.cancel();
        self.sockets.iter().for_each(|socket| listener::close(socket));
        let all = u32::try_from(self.room).unwrap_or(u32::MAX);
        if tokio::time::timeout(DRAIN_MAX, self.shared.connections.acquire_many(all)).await.is_err() {
            tracing::warn!("requests for Ingresses were still under way at the end");
        }
        self.stop();
    }

    /// Closes ports and connections.
    pub fn stop(&self) {
        self.listeners.iter().for_each(ActorRef::stop);
        self.actor.stop();
    }
}

/// How many connections there is room for: more files are asked for than the usual few of a shell.
fn room() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let wanted = hard.min(CONNECTIONS_MAX * FILES_PER_CONNECTION);
    let files =
        if wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    let room = (files / FILES_PER_CONNECTION).clamp(1, CONNECTIONS_MAX);
    usize::try_from(room).unwrap_or(1)
}

/// Starts serving. Until all is listed requests are answered 503. Once per stage.
///
/// # Errors
/// When a port cannot be bound.
pub fn start(stage: &Stage, config: IngressConfig, client: Client) -> Result<IngressHandle, IngressError> {
    let bind = |address: Option<SocketAddr>| {
        let bound =
            address.map(|at| listener::bind(at).map_err(|source| IngressError::Bind { address: at, source }));
        bound.transpose()
    };
    let (http, https) = (bind(config.http)?, bind(config.https)?);
    let room = room();
    let table = Arc::new(RwLock::new(Table::new(&config.node)));
    let shared = Arc::new(Shared {
        table: table.clone(),
        metrics: Metrics::register(stage),
        connections: Arc::new(Semaphore::new(room)),
        requests: Arc::new(Semaphore::new(room)),
        draining: CancellationToken::new(),
    });
    let source = Source {
        path: "node/ingress/events",
        component: "ingress".into(),
        host: config.node.as_str().into(),
        agent: "troupe-ingress",
    };
    let recorder = Recorder::start(stage, source, client.api().clone());
    let (followed, node) = (shared.clone(), config.node);
    let props = Props::new("node/ingress", move || {
        IngressActor::new(&node, followed.clone(), client.clone(), recorder.clone())
    });
    let actor = stage.spawn(props.capacity(MAILBOX).restart(RestartPolicy::Permanent));
    let listen = |socket: &Arc<std::net::TcpListener>, scheme: &str| {
        let (shared, socket, tls) = (shared.clone(), socket.clone(), scheme == "https");
        let make = move || Listener::new(shared.clone(), socket.clone(), tls);
        let props = Props::new("node/ingress/listener", make).instance(scheme);
        stage.spawn(props.restart(RestartPolicy::Permanent))
    };
    let listeners = http.iter().map(|s| listen(s, "http")).chain(https.iter().map(|s| listen(s, "https")));
    let listeners = listeners.collect();
    let at = |socket: &Option<Arc<std::net::TcpListener>>| socket.as_ref().and_then(|s| s.local_addr().ok());
    tracing::info!(http = ?at(&http), https = ?at(&https), room, "Ingresses are served");
    let (http_at, https_at) = (at(&http), at(&https));
    let sockets = http.into_iter().chain(https).collect();
    Ok(IngressHandle { actor, listeners, sockets, shared, room, table, http: http_at, https: https_at })
}

#[cfg(test)]
mod tests;
