//! Accepting links: from other machines over TLS, from a node in this process over memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actors::link::{LinkError, connect};
use actors::{Actor, ActorContext, Context, Handler, Props, RestartPolicy, Stage, message};
use protocol::link::tag;
use protocol::{Api, Caller};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use super::join::Joining;
use super::nodes::Nodes;
use super::serve::Service;

/// A TLS handshake that takes longer is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that may be shaking hands, or joining, at the same time.
const NEWCOMERS_MAX: usize = 64;
/// Someone without a certificate has this long to join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// What accepting links needs.
#[derive(Clone)]
pub struct LinkConfig {
    /// Where to listen for nodes of other machines; `None` listens nowhere.
    pub listen: Option<SocketAddr>,
    /// Server side of TLS: asks for, but does not insist on, a client certificate of the cluster's CA.
    pub tls: Arc<rustls::ServerConfig>,
    /// Who lets newcomers join.
    pub joining: Arc<dyn Joining>,
    /// The door to the API for a caller.
    pub door: Arc<dyn Fn(Arc<Caller>) -> Arc<dyn Api> + Send + Sync>,
    /// Where connected nodes are found.
    pub nodes: Nodes,
}

/// A running acceptor.
pub struct LinkServer {
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// Connections of nodes in this process.
    local: mpsc::Sender<(String, tokio::io::DuplexStream)>,
}

impl LinkServer {
    /// Listens, and starts the acceptor actor.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(stage: &Stage, config: LinkConfig) -> std::io::Result<LinkServer> {
        let listener = match config.listen {
            Some(address) => Some(Arc::new(TcpListener::bind(address).await?)),
            None => None,
        };
        let address = listener.as_ref().map(|l| l.local_addr()).transpose()?;
        let (local, accepted) = mpsc::channel(8);
        let accepted = Arc::new(tokio::sync::Mutex::new(accepted));
        let props = Props::new("master/link", move || Acceptor {
            config: config.clone(),
            listener: listener.clone(),
            local: accepted.clone(),
            newcomers: Arc::new(Semaphore::new(NEWCOMERS_MAX)),
        });
        stage.spawn(props.restart(RestartPolicy::Permanent));
        Ok(LinkServer { address, local })
    }

    /// Where a node in this process sends its far ends. Trusted: no certificate is asked for.
    pub fn in_memory(&self, node: &str) -> mpsc::Sender<tokio::io::DuplexStream> {
        let (ends, mut received) = mpsc::channel(1);
        let (local, node) = (self.local.clone(), node.to_owned());
        tokio::spawn(async move {
            while let Some(end) = received.recv().await {
                if local.send((node.clone(), end)).await.is_err() {
                    return;
                }
            }
        });
        ends
    }
}

struct Acceptor {
    config: LinkConfig,
    listener: Option<Arc<TcpListener>>,
    local: Arc<tokio::sync::Mutex<mpsc::Receiver<(String, tokio::io::DuplexStream)>>>,
    newcomers: Arc<Semaphore>,
}

/// A connection whose peer is known.
struct Accepted {
    node: String,
    io: Box<dyn Io>,
}
message!(Accepted => (), |m| Some(format!("nodes/{}", m.node).into()));

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

impl Actor for Acceptor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (local, me) = (self.local.clone(), ctx.me());
        ctx.run(
            async move {
                // Held while this incarnation lives; the next one takes over.
                let mut local = local.lock().await;
                while let Some((node, io)) = local.recv().await {
                    if me.tell(Accepted { node, io: Box::new(io) }).await.is_err() {
                        return;
                    }
                }
            },
            |_, (), _| {},
        );
        if let Some(listener) = self.listener.clone() {
            let (config, me, newcomers) = (self.config.clone(), ctx.me(), self.newcomers.clone());
            ctx.run(accept_loop(listener, config, me, newcomers), |_, (), ctx| {
                ctx.fail("the listener ended");
            });
        }
    }
}

async fn accept_loop(
    listener: Arc<TcpListener>,
    config: LinkConfig,
    me: actors::ActorRef<Acceptor>,
    newcomers: Arc<Semaphore>,
) {
    let acceptor = tokio_rustls::TlsAcceptor::from(config.tls.clone());
    loop {
        let Ok(room) = newcomers.clone().acquire_owned().await else { return };
        let (tcp, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of file descriptors, say: it passes.
                tracing::warn!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let (acceptor, me, config) = (acceptor.clone(), me.clone(), config.clone());
        actors::spawn(async move {
            let _room = room;
            let _ = tcp.set_nodelay(true);
            let io = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
                Ok(Ok(io)) => io,
                Ok(Err(e)) => {
                    tracing::info!(%from, error = %e, "TLS handshake failed on the link port");
                    return;
                }
                Err(_) => return,
            };
            let certificates = io.get_ref().1.peer_certificates().unwrap_or_default();
            match certificates.first() {
                Some(certificate) => match node_of(certificate) {
                    Some(node) => {
                        let _ = me.tell(Accepted { node, io: Box::new(io) }).await;
                    }
                    None => tracing::warn!(%from, "the certificate shown on the link port is not a node's"),
                },
                None => {
                    let service = Arc::new(Service::Newcomer { joining: config.joining });
                    if let Ok((_peer, serving)) = connect(io, "newcomer", service, tag::name).await {
                        let _ = tokio::time::timeout(JOIN_TIMEOUT, serving).await;
                    }
                }
            }
        });
    }
}

/// The group that nodes are in on their links: what goes over them is more than a kubelet's requests.
const LINKS: &str = "troupe:node-links";

/// The node that a certificate (already verified against the CA) is of.
fn node_of(certificate: &rustls::pki_types::CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = certificate.subject();
    let is_node = subject.iter_organization().any(|o| o.as_str().is_ok_and(|o| o == "system:nodes"));
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    name.strip_prefix("system:node:").filter(|_| is_node).map(str::to_owned)
}

impl Handler<Accepted> for Acceptor {
    type Result = ();

    fn handle(&mut self, m: Accepted, ctx: &mut Context<Self>) {
        let caller = Arc::new(Caller::component(format!("system:node:{}", m.node), &["system:nodes", LINKS]));
        let service = Arc::new(Service::Node {
            api: (self.config.door)(caller.clone()),
            caller,
            node: m.node.clone(),
            joining: self.config.joining.clone(),
        });
        let nodes = self.config.nodes.clone();
        let io = Arc::new(parking_lot::Mutex::new(Some(m.io)));
        let node = m.node.clone();
        // A connection cannot be remade from this side: its actor ends with it, and the node dials again.
        let props = Props::new("master/link/node", move || NodeLink {
            node: node.clone(),
            io: io.clone(),
            service: service.clone(),
            nodes: nodes.clone(),
        });
        ctx.spawn_child(props.instance(m.node).restart(RestartPolicy::Never));
    }
}

/// One connected node.
struct NodeLink {
    node: String,
    io: Arc<parking_lot::Mutex<Option<Box<dyn Io>>>>,
    service: Arc<Service>,
    nodes: Nodes,
}

impl Actor for NodeLink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Some(io) = self.io.lock().take() else {
            ctx.stop();
            return;
        };
        let (node, service, nodes) = (self.node.clone(), self.service.clone(), self.nodes.clone());
        let work = async move {
            let (peer, serving) = match connect(io, &node, service, tag::name).await {
                Ok(connected) => connected,
                Err(e) => return e,
            };
            nodes.insert(&node, peer);
            tracing::info!(node, "node connected");
            serving.await
        };
        ctx.run(work, |actor, ended: LinkError, ctx| {
            tracing::info!(node = actor.node, reason = %ended, "node disconnected");
            ctx.stop();
        });
    }
}

impl Drop for NodeLink {
    fn drop(&mut self) {
        self.nodes.remove_closed(&self.node);
    }
}
