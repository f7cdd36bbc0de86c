//! One Service and its endpoint slices to what is to happen with its traffic on this node. Pure, and the same for
//! every mode: modes only write it down in their own way.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::endpoints::{Backend, candidates, choose};
use super::facts::NodeFacts;
use crate::family::Family;
pub use crate::transport::Protocol;

/// Sessions with `ClientIP` affinity are forgotten after this long, where the Service doesn't say (3 hours).
const AFFINITY_SECONDS_DEFAULT: u32 = 10_800;

/// A Service as it is proxied from this node. Without ports it is not: headless, ExternalName, or gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    /// Its ports, each family's on its own.
    pub ports: Vec<PortPlan>,
    /// The port at which balancers ask for endpoints on this node, and how many there are.
    pub health: Option<(u16, usize)>,
}

/// What happens to connections that arrive one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// They go to the endpoints chosen from the whole cluster.
    Cluster,
    /// They go to the endpoints on this node.
    Local,
    /// There is nobody: they are refused.
    Refused,
    /// There is somebody, but not here, and that is to be kept to: they are dropped. Endpoints may come here soon, and
    /// upstream does it so.
    Dropped,
}

/// One port of a Service, in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// `namespace/name/protocol/port`.
    pub key: String,
    /// The Service's address.
    pub cluster_ip: IpAddr,
    /// A process of this node answers at that address itself: no mode may touch it.
    pub served_here: bool,
    /// Protocol.
    pub protocol: Protocol,
    /// Port at the Service's addresses.
    pub port: u16,
    /// A client stays with its endpoint until it has been silent for these seconds.
    pub affinity_seconds: Option<u32>,
    /// Endpoints of [`Reach::Cluster`], in order of address; empty where nothing leads to them.
    pub cluster: Vec<Backend>,
    /// Endpoints of [`Reach::Local`].
    pub local: Vec<Backend>,
    /// Those of either that run on this node: they may call themselves through the Service.
    pub here: Vec<IpAddr>,
    /// What happens at the cluster IP.
    pub internal: Reach,
    /// What happens at the other addresses and ports, where it has any.
    pub external: Option<External>,
}

/// Where a service port is reached beside its cluster IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Port on the node's own addresses.
    pub node_port: Option<u16>,
    /// External IPs and balancers' addresses.
    pub addresses: Vec<ExternalAddress>,
    /// What happens to clients outside the cluster.
    pub outside: Reach,
    /// What happens to pods and to this node.
    pub inside: Reach,
    /// Clients outside keep their address: endpoints are on this node, so answers come back by themselves.
    pub keeps_source: bool,
}

/// An address outside the cluster's own ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAddress {
    /// The address.
    pub ip: IpAddr,
    /// Who may connect; `None` for everybody.
    pub sources: Option<Vec<IpNet>>,
}

impl PortPlan {
    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.cluster_ip)
    }

    /// The endpoints that some traffic goes to; none for refusals.
    pub fn backends(&self, reach: Reach) -> &[Backend] {
        match reach {
            Reach::Cluster => &self.cluster,
            Reach::Local => &self.local,
            Reach::Refused | Reach::Dropped => &[],
        }
    }

    /// The different choices of endpoints that traffic goes to.
    pub fn reaches(&self) -> impl Iterator<Item = Reach> {
        [Reach::Cluster, Reach::Local].into_iter().filter(|reach| !self.backends(*reach).is_empty())
    }
}

/// Plans a Service.
pub fn plan<'a>(
    service: &Service,
    slices: impl IntoIterator<Item = &'a EndpointSlice> + Clone,
    facts: &NodeFacts,
) -> ServicePlan {
    let mut plan = ServicePlan::default();
    let Some(spec) = &service.spec else { return plan };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    // Names become identifiers in rules' text: what the API server would not accept must not reach it.
    if !is_label(namespace) || !is_label(name) {
        return plan;
    }
    for cluster_ip in cluster_ips(spec) {
        let family = Family::of(cluster_ip);
        let addresses = external_addresses(service, spec, family);
        for port in spec.ports.iter().flatten() {
            let Some((protocol, number)) =
                Protocol::parse(port.protocol.as_deref()).zip(u16::try_from(port.port).ok())
            else {
                continue;
            };
            let mut planned = PortPlan {
                key: format!("{namespace}/{name}/{}/{number}", protocol.name()),
                cluster_ip,
                served_here: facts.served_here.contains(&cluster_ip),
                protocol,
                port: number,
                affinity_seconds: affinity(spec),
                cluster: Vec::new(),
                local: Vec::new(),
                here: Vec::new(),
                internal: Reach::Refused,
                external: None,
            };
            let node_port = port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
            fill(&mut planned, port, slices.clone(), spec, facts, (node_port, addresses.clone()));
            plan.ports.push(planned);
        }
    }
    if let Some(first) = plan.ports.first() {
        plan.health = health_port(spec).map(|port| (port, ready_here(slices, &facts.name, first.family())));
    }
    plan
}

/// Chooses endpoints, and what leads to them.
fn fill<'a>(
    planned: &mut PortPlan,
    port: &ServicePort,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    spec: &ServiceSpec,
    facts: &NodeFacts,
    (node_port, addresses): (Option<u16>, Vec<ExternalAddress>),
) {
    let choice = choose(&candidates(port, slices, facts, planned.family()), facts);
    let reach = |local_only: bool| match (local_only, choice.cluster.is_empty(), choice.local.is_empty()) {
        (false, false, _) => Reach::Cluster,
        (true, _, false) => Reach::Local,
        (true, false, true) => Reach::Dropped,
        (_, true, _) => Reach::Refused,
    };
    planned.internal = reach(spec.internal_traffic_policy.as_deref() == Some("Local"));
    if node_port.is_some() || !addresses.is_empty() {
        let keeps_source = spec.external_traffic_policy.as_deref() == Some("Local");
        // What starts inside the cluster or on this node may go anywhere: only clients outside have an address worth
        // keeping.
        planned.external = Some(External {
            node_port,
            addresses,
            outside: reach(keeps_source),
            inside: reach(false),
            keeps_source,
        });
    }
    let leads_to = |wanted: Reach| {
        planned.internal == wanted
            || planned.external.as_ref().is_some_and(|e| e.inside == wanted || e.outside == wanted)
    };
    let (cluster, local) = (leads_to(Reach::Cluster), leads_to(Reach::Local));
    planned.cluster = if cluster { choice.cluster } else { Vec::new() };
    planned.local = if local { choice.local } else { Vec::new() };
    let used = |ip: &IpAddr| planned.cluster.iter().chain(&planned.local).any(|b| b.ip == *ip);
    planned.here = choice.here.into_iter().filter(used).collect();
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    let sticky = spec.session_affinity.as_deref() == Some("ClientIP");
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    let seconds = config.and_then(|c| c.timeout_seconds).and_then(|s| u32::try_from(s).ok());
    sticky.then(|| seconds.filter(|s| *s > 0).unwrap_or(AFFINITY_SECONDS_DEFAULT))
}

/// The Service's addresses, one of each family.
fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let listed = spec.cluster_ips.iter().flatten().chain(spec.cluster_ip.iter());
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in listed.filter_map(|ip| ip.parse().ok()) {
        if !ips.iter().any(|other| Family::of(*other) == Family::of(ip)) {
            ips.push(ip);
        }
    }
    ips
}

/// External IPs, which everybody may use, and balancers' addresses, where the source ranges apply.
fn external_addresses(service: &Service, spec: &ServiceSpec, family: Family) -> Vec<ExternalAddress> {
    // Ranges of the other family alone let nobody in: whoever restricts means to restrict.
    let restricted = spec.load_balancer_source_ranges.as_ref().is_some_and(|r| !r.is_empty());
    let sources = restricted.then(|| {
        let ranges = spec.load_balancer_source_ranges.iter().flatten();
        ranges.filter_map(|r| r.trim().parse().ok()).filter(|r| family.has(r)).collect::<Vec<IpNet>>()
    });
    let external = spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok());
    let external = external.map(|ip| ExternalAddress { ip, sources: None });
    let ingress = service
        .status
        .iter()
        .filter_map(|s| s.load_balancer.as_ref())
        .flat_map(|l| l.ingress.iter().flatten());
    let balanced = ingress
        // A balancer that rewrites the address itself must not be cut short.
        .filter(|i| i.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|i| i.ip.as_deref()?.parse().ok())
        .map(|ip| ExternalAddress { ip, sources: sources.clone() });
    external.chain(balanced).filter(|a| Family::of(a.ip) == family).collect()
}

/// The port at which balancers ask for endpoints on a node: of Services that are answered on their own nodes only.
fn health_port(spec: &ServiceSpec) -> Option<u16> {
    let asked = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local");
    let port = spec.health_check_node_port.filter(|_| asked)?;
    u16::try_from(port).ok().filter(|port| *port != 0)
}

/// How many endpoints on this node are ready.
fn ready_here<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>, node: &str, family: Family) -> usize {
    let slices = slices.into_iter().filter(|s| s.address_type == family.address_type());
    let ready = slices.flat_map(|s| s.endpoints.iter().flatten()).filter(|e| {
        e.node_name.as_deref() == Some(node) && e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
    });
    ready.filter_map(|e| e.addresses.first()).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests;
