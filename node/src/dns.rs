//! The cluster's DNS on a node: names of services and pods from memory, all others from the node's resolvers.
//!
//! ## Layout
//!
//! - [`table`]: what the cluster says, indexed (pure).
//! - [`zone`]: the Kubernetes DNS specification over the table (pure).
//! - [`respond`]: a request's bytes to a response's.
//! - [`forward`]: the node's resolvers and a bounded cache.
//! - `server`: the sockets and their limits.
//! - `actor`: owns all of it, and follows the kinds.
//!
//! A query never waits for a message: it reads the table under a short lock, while the actor, the only
//! writer, takes changes in.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actors::{ActorRef, Props, RestartPolicy, Stage};
use parking_lot::RwLock;
use protocol::client::Client;
use tokio::sync::watch;

use crate::network::loopback::{self, Label};
use crate::network::netlink::NetlinkFailure;

mod actor;
pub mod forward;
pub mod respond;
mod server;
pub mod table;
pub mod zone;

#[cfg(test)]
mod tests;

pub use actor::Dns;

/// How long [`start`] waits for the sockets.
const BIND_WAIT: Duration = Duration::from_secs(5);
/// Changes that wait for the actor at most; the watches wait when it is full.
const MAILBOX: usize = 1024;

/// What a node's DNS is to do.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// The cluster's DNS service address, which becomes local to the node.
    pub listen: IpAddr,
    /// 53, except in tests; 0 lets the kernel choose.
    pub port: u16,
    /// The cluster's domain.
    pub domain: String,
    /// Resolvers for all other names; `None` takes those of the node's /etc/resolv.conf.
    pub upstreams: Option<Vec<SocketAddr>>,
    /// Answer pod records only for addresses that a pod has. Costs every node a watch on all pods; without
    /// it any address in a namespace that exists is answered, as upstream's default does.
    pub verify_pods: bool,
}

impl DnsConfig {
    /// The usual: port 53, `cluster.local`, the node's resolvers, pod records unverified.
    pub fn new(listen: IpAddr) -> Self {
        DnsConfig {
            listen,
            port: 53,
            domain: "cluster.local".to_owned(),
            upstreams: None,
            verify_pods: false,
        }
    }
}

/// Why the DNS did not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The domain is no domain name.
    #[error("{0:?} is no domain")]
    Domain(String),
    /// The address could not be added to, or removed from, the loopback interface.
    #[error("the DNS service's address on lo: {0}")]
    Address(#[from] NetlinkFailure),
    /// The sockets could not be bound.
    #[error("cannot listen for DNS on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The first attempt to bind failed; the actor was stopped.
    #[error(transparent)]
    Start(Arc<DnsError>),
    /// Nothing was heard of the sockets in time.
    #[error("the DNS did not start in time")]
    Late,
}

/// A running DNS.
pub struct DnsHandle {
    actor: ActorRef<Dns>,
    listen: IpAddr,
    address: SocketAddr,
    table: Arc<RwLock<table::Table>>,
}

impl DnsHandle {
    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether services and endpoints were listed, so that the cluster's names are answered.
    pub fn is_ready(&self) -> bool {
        self.table.read().is_ready()
    }

    /// Stops answering and removes the address.
    pub async fn stop(self) -> Result<(), DnsError> {
        self.actor.stop();
        Ok(loopback::remove(self.listen, Label::DNS).await?)
    }
}

/// Starts the DNS of a node; returns when it listens. The table fills by itself: until services and
/// endpoints are known the cluster's names are answered SERVFAIL, which clients try again.
pub async fn start(stage: &Stage, config: DnsConfig, client: Client) -> Result<DnsHandle, DnsError> {
    let DnsConfig { listen, port, domain, upstreams, verify_pods } = config;
    let zone = zone::Zone::new(&domain, listen, verify_pods).ok_or(DnsError::Domain(domain))?;
    let upstreams = match upstreams {
        Some(upstreams) => upstreams,
        None => node_resolvers(listen).await,
    };
    if upstreams.is_empty() {
        tracing::warn!("no resolvers to forward to: only the cluster's names will be answered");
    }
    let table = Arc::new(RwLock::new(table::Table::default()));
    let forwarder = forward::Forwarder::new(upstreams);
    let responder = Arc::new(respond::Responder { zone, table: table.clone(), forwarder });
    let (bound, mut outcome) = watch::channel(None);
    let shared = Arc::new(actor::Shared {
        listen: SocketAddr::new(listen, port),
        verify_pods,
        client,
        responder,
        table: table.clone(),
        bound,
    });
    let props = Props::new("node/dns", move || Dns::new(shared.clone()))
        .capacity(MAILBOX)
        .restart(RestartPolicy::Permanent);
    let actor = stage.spawn(props);
    let waited = tokio::time::timeout(BIND_WAIT, outcome.wait_for(Option::is_some)).await;
    let bound: actor::Bound = match waited {
        Ok(Ok(bound)) => bound.clone(),
        _ => None,
    };
    match bound {
        Some(Ok(address)) => Ok(DnsHandle { actor, listen, address, table }),
        failed => {
            actor.stop();
            clean_up(listen).await?;
            Err(failed.and_then(Result::err).map_or(DnsError::Late, DnsError::Start))
        }
    }
}

/// Removes what an earlier run that was killed may have left: the address.
pub async fn clean_up(listen: IpAddr) -> Result<(), DnsError> {
    Ok(loopback::remove(listen, Label::DNS).await?)
}

async fn node_resolvers(own: IpAddr) -> Vec<SocketAddr> {
    match tokio::fs::read_to_string("/etc/resolv.conf").await {
        Ok(text) => forward::parse_resolv_conf(&text, own),
        Err(error) => {
            tracing::warn!(%error, "cannot read /etc/resolv.conf");
            Vec::new()
        }
    }
}
