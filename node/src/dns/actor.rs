//! The actor that owns the DNS server's sockets and keeps its zone.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actors::{Actor, ActorRef, Context, Handler, Props, RestartPolicy, Stage, message};
use hickory_server::Server;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use protocol::Client;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use super::forward::{Forwarder, nameservers};
use super::server::Responder;
use super::zone::Zone;
use crate::network::follow::{Followed, follow};
use crate::network::host;

/// A TCP client that says nothing for this long is sent away.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers that wait on one TCP connection.
const TCP_ANSWERS_WAITING_MAX: usize = 32;

/// How the DNS server starts.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// The cluster's domain, `cluster.local`.
    pub domain: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Adds the address to the node's loopback interface first, and removes it at the end: how a Service's
    /// cluster IP is answered by the node itself.
    pub own_address: bool,
    /// The ranges of services and pods, for reverse names.
    pub ranges: Vec<Ipv4Net>,
    /// The file that names the resolvers for everything else.
    pub resolv_conf: std::path::PathBuf,
}

impl DnsConfig {
    /// The usual server on a cluster IP.
    pub fn new(ip: Ipv4Addr, ranges: Vec<Ipv4Net>) -> Self {
        DnsConfig {
            domain: "cluster.local".to_owned(),
            listen: SocketAddr::new(ip.into(), 53),
            own_address: true,
            ranges,
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }

    fn address(&self) -> Option<Ipv4Addr> {
        match self.listen.ip() {
            IpAddr::V4(ip) if self.own_address => Some(ip),
            _ => None,
        }
    }
}

/// Something about a Service.
struct ServiceTold(Followed<Service>);
message!(ServiceTold => (), |m| match &m.0 {
    Followed::Object(s) | Followed::Gone(s) => Some(key("services", &s.metadata.namespace, &s.metadata.name)),
    _ => None,
});

/// Something about an endpoint slice.
struct SliceTold(Followed<EndpointSlice>);
message!(SliceTold => (), |m| match &m.0 {
    Followed::Object(s) | Followed::Gone(s) => Some(key("endpointslices", &s.metadata.namespace, &s.metadata.name)),
    _ => None,
});

fn key(plural: &str, namespace: &Option<String>, name: &Option<String>) -> Arc<str> {
    let (namespace, name) = (namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default());
    format!("{plural}/{namespace}/{name}").into()
}

struct DnsActor {
    client: Client,
    config: DnsConfig,
    zone: Arc<RwLock<Zone>>,
    /// Where it listens, for [`DnsHandle::listening`].
    bound: watch::Sender<Option<SocketAddr>>,
    /// What a list in progress has told, so that what it has not can go at its end.
    services_seen: Option<BTreeSet<(String, String)>>,
    slices_seen: Option<BTreeSet<(String, String)>>,
}

impl Actor for DnsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let serving = serve(self.config.clone(), self.zone.clone(), self.bound.clone());
        ctx.run(serving, |_, result, ctx| match result {
            Ok(()) => ctx.fail("the DNS server ended"),
            Err(error) => ctx.fail(format!("the DNS server cannot listen: {error}")),
        });
        let me = ctx.me();
        let services = follow(self.client.clone(), move |told| {
            let me = me.clone();
            async move { me.tell(ServiceTold(told)).await.is_ok() }
        });
        ctx.run(services, |_, (), _| {});
        let me = ctx.me();
        let slices = follow(self.client.clone(), move |told| {
            let me = me.clone();
            async move { me.tell(SliceTold(told)).await.is_ok() }
        });
        ctx.run(slices, |_, (), _| {});
    }
}

impl Drop for DnsActor {
    fn drop(&mut self) {
        self.bound.send_replace(None);
    }
}

async fn serve(
    config: DnsConfig,
    zone: Arc<RwLock<Zone>>,
    bound: watch::Sender<Option<SocketAddr>>,
) -> Result<(), std::io::Error> {
    if let Some(ip) = config.address() {
        host::add_loopback_address(ip).await.map_err(std::io::Error::other)?;
    }
    let tcp = TcpListener::bind(config.listen).await?;
    let address = tcp.local_addr()?;
    let udp = UdpSocket::bind(address).await?;
    let text = tokio::fs::read_to_string(&config.resolv_conf).await.unwrap_or_default();
    let servers = nameservers(&text, &[config.listen.ip()]);
    if servers.is_empty() {
        tracing::warn!(file = %config.resolv_conf.display(), "no resolvers: only names of the cluster will be answered");
    }
    let mut server = Server::new(Responder { zone, forwarder: Arc::new(Forwarder::new(servers)) });
    server.register_socket(udp);
    server.register_listener(tcp, TCP_IDLE, TCP_ANSWERS_WAITING_MAX);
    bound.send_replace(Some(address));
    server.block_until_done().await.map_err(std::io::Error::other)
}

impl Handler<ServiceTold> for DnsActor {
    type Result = ();
    fn handle(&mut self, ServiceTold(told): ServiceTold, _: &mut Context<Self>) {
        let mut zone = self.zone.write();
        match told {
            Followed::Restart => self.services_seen = Some(BTreeSet::new()),
            Followed::Complete => {
                if let Some(seen) = self.services_seen.take() {
                    zone.retain_services(&seen);
                }
            }
            Followed::Object(service) => {
                if let Some(seen) = &mut self.services_seen {
                    let meta = &service.metadata;
                    seen.insert((
                        meta.namespace.clone().unwrap_or_default(),
                        meta.name.clone().unwrap_or_default(),
                    ));
                }
                zone.service(*service, false);
            }
            Followed::Gone(service) => zone.service(*service, true),
        }
    }
}

impl Handler<SliceTold> for DnsActor {
    type Result = ();
    fn handle(&mut self, SliceTold(told): SliceTold, _: &mut Context<Self>) {
        let mut zone = self.zone.write();
        match told {
            Followed::Restart => self.slices_seen = Some(BTreeSet::new()),
            Followed::Complete => {
                if let Some(seen) = self.slices_seen.take() {
                    zone.retain_slices(&seen);
                }
            }
            Followed::Object(slice) => {
                if let Some(seen) = &mut self.slices_seen {
                    let meta = &slice.metadata;
                    seen.insert((
                        meta.namespace.clone().unwrap_or_default(),
                        meta.name.clone().unwrap_or_default(),
                    ));
                }
                zone.slice(*slice, false);
            }
            Followed::Gone(slice) => zone.slice(*slice, true),
        }
    }
}

/// Holds the running DNS server.
#[derive(Clone)]
pub struct DnsHandle {
    actor: ActorRef<DnsActor>,
    bound: watch::Receiver<Option<SocketAddr>>,
    address: Option<Ipv4Addr>,
}

/// Starts the DNS server, under a supervisor of its own.
pub fn start(stage: &Stage, config: DnsConfig, client: Client) -> DnsHandle {
    let (bound, watched) = watch::channel(None);
    let address = config.address();
    let props = Props::new("node/dns", move || DnsActor {
        client: client.clone(),
        zone: Arc::new(RwLock::new(Zone::new(&config.domain, config.ranges.clone()))),
        config: config.clone(),
        bound: bound.clone(),
        services_seen: None,
        slices_seen: None,
    });
    let actor = stage.spawn(props.capacity(1024).restart(RestartPolicy::Permanent));
    DnsHandle { actor, bound: watched, address }
}

impl DnsHandle {
    /// Where it listens, once it does.
    pub async fn listening(&self) -> Option<SocketAddr> {
        let mut bound = self.bound.clone();
        bound.wait_for(Option::is_some).await.ok().and_then(|b| *b)
    }

    /// Stops, and takes the address off the node.
    pub async fn stop(&self) {
        self.actor.stop();
        if let Some(ip) = self.address
            && let Err(error) = host::remove_loopback_address(ip).await
        {
            tracing::warn!(%error, %ip, "the DNS server's address stays on the loopback interface");
        }
    }
}
