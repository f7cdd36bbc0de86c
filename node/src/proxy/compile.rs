//! One Service and its endpoint slices to its part of the rule set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::endpoints::{Backend, Choice, candidates, choose};
use super::facts::NodeFacts;

/// Sessions with `ClientIP` affinity are forgotten after this long, where the Service doesn't say (3 hours).
const AFFINITY_SECONDS_DEFAULT: i32 = 10_800;

/// The sets and maps that all services share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shared {
    /// Address, protocol, port → the service's chain.
    Services,
    /// Protocol, port → the service's chain, on the node's own addresses.
    NodePorts,
    /// Address, protocol, port of services with nobody behind them → refuse or drop.
    NoEndpoints,
    /// The same for node ports.
    NoEndpointNodePorts,
    /// Address, protocol, port → the chain that lets only some sources in.
    Firewalls,
    /// All cluster IPs.
    ClusterIps,
    /// Endpoint address twice: an endpoint that calls itself through its service.
    Hairpins,
}

impl Shared {
    /// Every one of them.
    pub const ALL: [Shared; 7] = [
        Shared::Services,
        Shared::NodePorts,
        Shared::NoEndpoints,
        Shared::NoEndpointNodePorts,
        Shared::Firewalls,
        Shared::ClusterIps,
        Shared::Hairpins,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Shared::Services => "services",
            Shared::NodePorts => "node-ports",
            Shared::NoEndpoints => "no-endpoints",
            Shared::NoEndpointNodePorts => "no-endpoint-node-ports",
            Shared::Firewalls => "firewalls",
            Shared::ClusterIps => "cluster-ips",
            Shared::Hairpins => "hairpins",
        }
    }

    /// How it is declared: keyword and type.
    pub fn declaration(self) -> Declaration {
        let (kind, body) = match self {
            Shared::Services | Shared::NoEndpoints | Shared::Firewalls => {
                ("map", "type ipv4_addr . inet_proto . inet_service : verdict;")
            }
            Shared::NodePorts | Shared::NoEndpointNodePorts => {
                ("map", "type inet_proto . inet_service : verdict;")
            }
            Shared::ClusterIps => ("set", "type ipv4_addr;"),
            Shared::Hairpins => ("set", "type ipv4_addr . ipv4_addr;"),
        };
        Declaration { kind, body: body.to_owned() }
    }
}

/// How a set or map is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// `set` or `map`.
    pub kind: &'static str,
    /// What stands in the braces.
    pub body: String,
}

/// A set or map that belongs to one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private {
    /// Its declaration.
    pub declaration: Declaration,
    /// Key to value.
    pub elements: BTreeMap<String, String>,
}

/// Where UDP clients aim: their flows are remembered by the kernel and need forgetting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// Service address; `None` for a node port.
    pub ip: Option<Ipv4Addr>,
    /// Port.
    pub port: u16,
}

/// One service's part of the rule set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Chains by name, with their rules.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Sets and maps of its own, by name.
    pub private: BTreeMap<String, Private>,
    /// Elements in the shared sets and maps; the value is empty in a set.
    pub shared: BTreeMap<(Shared, String), String>,
    /// The position of each endpoint in its map, kept from one compilation to the next.
    pub slots: BTreeMap<String, Vec<Backend>>,
    /// UDP addresses and who answers there.
    pub udp: BTreeMap<Frontend, BTreeSet<Backend>>,
    /// The port at which balancers ask for endpoints on this node, and how many there are.
    pub health: Option<(u16, usize)>,
}

/// Compiles a service. `previous` is its last fragment, whose slots are kept: an endpoint that stays keeps its
/// element. A service that is not proxied (headless, ExternalName, IPv6 only) gives an empty fragment.
pub fn compile<'a>(
    service: &Service,
    slices: impl IntoIterator<Item = &'a EndpointSlice> + Clone,
    facts: &NodeFacts,
    previous: Option<&Fragment>,
) -> Fragment {
    let mut fragment = Fragment::default();
    let Some(spec) = &service.spec else { return fragment };
    let Some(cluster_ip) = cluster_ip(spec) else { return fragment };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    // Names become identifiers in nft's text: what the API server would not accept must not reach it.
    if !is_label(namespace) || !is_label(name) {
        return fragment;
    }
    let addresses = external_addresses(service, spec);
    for port in spec.ports.iter().flatten() {
        let Some(front) = Front::of(namespace, name, port) else { continue };
        let choice = choose(&candidates(port, slices.clone(), facts), facts);
        let mut writer = PortWriter { fragment: &mut fragment, front, choice, spec, facts, previous };
        writer.write(cluster_ip, &addresses);
    }
    fragment.health = health_port(spec).map(|port| (port, ready_here(slices, &facts.name)));
    fragment
}

/// The port at which balancers ask for endpoints on a node: of Services that are answered on their own nodes only.
fn health_port(spec: &ServiceSpec) -> Option<u16> {
    let asked = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local");
    let port = spec.health_check_node_port.filter(|_| asked)?;
    u16::try_from(port).ok().filter(|port| *port != 0)
}

/// How many endpoints on this node are ready.
fn ready_here<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>, node: &str) -> usize {
    let endpoints =
        slices.into_iter().filter(|s| s.address_type == "IPv4").flat_map(|s| s.endpoints.iter().flatten());
    let ready = endpoints.filter(|e| {
        e.node_name.as_deref() == Some(node) && e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
    });
    ready.filter_map(|e| e.addresses.first()).collect::<BTreeSet<_>>().len()
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn cluster_ip(spec: &ServiceSpec) -> Option<Ipv4Addr> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let listed = spec.cluster_ips.iter().flatten().chain(spec.cluster_ip.iter());
    listed.filter_map(|ip| ip.parse().ok()).next()
}

/// External IPs (`false`) and load balancer addresses (`true`: the source ranges apply).
fn external_addresses(service: &Service, spec: &ServiceSpec) -> Vec<(Ipv4Addr, bool)> {
    let external = spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).map(|ip| (ip, false));
    let ingress = service
        .status
        .iter()
        .filter_map(|s| s.load_balancer.as_ref())
        .flat_map(|l| l.ingress.iter().flatten());
    let balanced = ingress
        // A balancer that rewrites the address itself must not be cut short.
        .filter(|i| i.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|i| i.ip.as_deref()?.parse().ok())
        .map(|ip| (ip, true));
    external.chain(balanced).collect()
}

/// The addressable side of a service port.
struct Front {
    key: String,
    protocol: &'static str,
    port: u16,
    node_port: Option<u16>,
}

impl Front {
    fn of(namespace: &str, name: &str, port: &ServicePort) -> Option<Front> {
        let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
            "TCP" => "tcp",
            "UDP" => "udp",
            "SCTP" => "sctp",
            _ => return None,
        };
        let number = u16::try_from(port.port).ok()?;
        let node_port = port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
        Some(Front {
            key: format!("{namespace}/{name}/{protocol}/{number}"),
            protocol,
            port: number,
            node_port,
        })
    }
}

struct PortWriter<'a> {
    fragment: &'a mut Fragment,
    front: Front,
    choice: Choice,
    spec: &'a ServiceSpec,
    facts: &'a NodeFacts,
    previous: Option<&'a Fragment>,
}

impl PortWriter<'_> {
    fn write(&mut self, cluster_ip: Ipv4Addr, addresses: &[(Ipv4Addr, bool)]) {
        let internal_local = self.spec.internal_traffic_policy.as_deref() == Some("Local");
        let external_local = self.spec.external_traffic_policy.as_deref() == Some("Local");
        let external = self.front.node_port.is_some() || !addresses.is_empty();
        let cluster = std::mem::take(&mut self.choice.cluster);
        let local = std::mem::take(&mut self.choice.local);

        let needs_cluster = !internal_local || external;
        let to_cluster = (needs_cluster && !cluster.is_empty()).then(|| self.balancer("svc", &cluster));
        let needs_local = internal_local || (external && external_local);
        let to_local = (needs_local && !local.is_empty()).then(|| self.balancer("loc", &local));

        if !self.facts.served_here.contains(&cluster_ip) {
            self.share(Shared::ClusterIps, cluster_ip.to_string(), "");
            let (chain, backends) =
                if internal_local { (&to_local, &local) } else { (&to_cluster, &cluster) };
            // With endpoints elsewhere only, traffic that must stay here is dropped, not refused: they may
            // come here soon, and upstream does it so.
            let refusal = if internal_local && !cluster.is_empty() { "drop" } else { "goto refuse" };
            self.frontend(cluster_ip, chain.as_deref(), refusal);
            self.udp(Some(cluster_ip), self.front.port, backends);
        }
        if external {
            self.external(addresses, &cluster, &local, to_cluster, to_local, external_local);
        }
        for ip in std::mem::take(&mut self.choice.here) {
            self.share(Shared::Hairpins, format!("{ip} . {ip}"), "");
        }
    }

    /// A chain that sends each connection to one of `backends`; returns its name.
    fn balancer(&mut self, prefix: &str, backends: &[Backend]) -> String {
        let chain = format!("{prefix}/{}", self.front.key);
        let map = format!("eps-{chain}");
        let old = self.previous.and_then(|p| p.slots.get(&map)).map(Vec::as_slice).unwrap_or_default();
        let slots = assign_slots(old, backends);
        let (n, protocol) = (slots.len(), self.front.protocol);
        let mut rules = Vec::new();
        let mut elements = BTreeMap::new();
        let target = if self.spec.session_affinity.as_deref() == Some("ClientIP") {
            for backend in &slots {
                let (endpoint, clients) = self.sticky_endpoint(*backend);
                rules.push(format!("ip saddr @{clients} goto {endpoint}"));
            }
            for (i, Backend { ip, port }) in slots.iter().enumerate() {
                elements.insert(i.to_string(), format!("goto ep/{}/{ip}/{port}", self.front.key));
            }
            rules.push(format!("numgen random mod {n} vmap @{map}"));
            "verdict".to_owned()
        } else {
            for (i, Backend { ip, port }) in slots.iter().enumerate() {
                elements.insert(i.to_string(), format!("{ip} . {port}"));
            }
            rules.push(format!("meta l4proto {protocol} dnat ip to numgen random mod {n} map @{map}"));
            format!("ip daddr . {protocol} dport")
        };
        let body = format!("typeof numgen random mod 2 : {target};");
        self.fragment
            .private
            .insert(map.clone(), Private { declaration: Declaration { kind: "map", body }, elements });
        self.fragment.slots.insert(map, slots);
        self.fragment.chains.insert(chain.clone(), rules);
        chain
    }

    /// The chain of one endpoint that remembers its clients, and the set of those clients.
    fn sticky_endpoint(&mut self, Backend { ip, port }: Backend) -> (String, String) {
        let (key, protocol) = (&self.front.key, self.front.protocol);
        let (chain, clients) = (format!("ep/{key}/{ip}/{port}"), format!("clients/{key}/{ip}/{port}"));
        let config = self.spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        let seconds = config.and_then(|c| c.timeout_seconds).unwrap_or(AFFINITY_SECONDS_DEFAULT);
        let body = format!("type ipv4_addr; flags dynamic,timeout; timeout {seconds}s;");
        let rules = vec![
            format!("update @{clients} {{ ip saddr }}"),
            format!("meta l4proto {protocol} dnat ip to {ip}:{port}"),
        ];
        let set = Private { declaration: Declaration { kind: "set", body }, elements: BTreeMap::new() };
        self.fragment.private.insert(clients.clone(), set);
        self.fragment.chains.insert(chain.clone(), rules);
        (chain, clients)
    }

    fn external(
        &mut self,
        addresses: &[(Ipv4Addr, bool)],
        cluster: &[Backend],
        local: &[Backend],
        to_cluster: Option<String>,
        to_local: Option<String>,
        external_local: bool,
    ) {
        let entry = to_cluster.map(|to_cluster| {
            let chain = format!("ext/{}", self.front.key);
            let mut rules = Vec::new();
            if external_local {
                // What starts inside the cluster or on this node may go anywhere: only traffic from outside
                // has a source address worth keeping.
                if let Some(cidr) = self.facts.cluster_cidr {
                    rules.push(format!("ip saddr {cidr} goto {to_cluster}"));
                }
                rules.push("fib saddr type local jump mark-for-masquerade".to_owned());
                rules.push(format!("fib saddr type local goto {to_cluster}"));
                rules.extend(to_local.map(|chain| format!("goto {chain}")));
            } else {
                rules.push("jump mark-for-masquerade".to_owned());
                rules.push(format!("goto {to_cluster}"));
            }
            self.fragment.chains.insert(chain.clone(), rules);
            chain
        });
        let only_elsewhere = external_local && local.is_empty() && !cluster.is_empty();
        let refusal = if only_elsewhere { "drop" } else { "goto refuse" };
        let backends = if external_local { local } else { cluster };

        let ranges: Vec<Ipv4Net> = self
            .spec
            .load_balancer_source_ranges
            .iter()
            .flatten()
            .filter_map(|r| r.trim().parse().ok())
            .collect();
        let restricted = self.spec.load_balancer_source_ranges.as_ref().is_some_and(|r| !r.is_empty());
        for (ip, balanced) in addresses {
            self.frontend(*ip, entry.as_deref(), refusal);
            if only_elsewhere {
                self.share(Shared::NoEndpoints, self.element(*ip), refusal);
            }
            self.udp(Some(*ip), self.front.port, backends);
            if *balanced && restricted {
                let chain = format!("fw/{}", self.front.key);
                let mut rules = vec!["drop".to_owned()];
                if !ranges.is_empty() {
                    let mut list = String::new();
                    for range in &ranges {
                        let separator = if list.is_empty() { "" } else { ", " };
                        let _ = write!(list, "{separator}{range}");
                    }
                    rules[0] = format!("ip saddr != {{ {list} }} drop");
                }
                self.share(Shared::Firewalls, self.element(*ip), &format!("goto {chain}"));
                self.fragment.chains.insert(chain, rules);
            }
        }
        if let Some(node_port) = self.front.node_port {
            let element = format!("{} . {node_port}", self.front.protocol);
            if let Some(entry) = &entry {
                self.share(Shared::NodePorts, element.clone(), &format!("goto {entry}"));
            }
            if entry.is_none() || only_elsewhere {
                self.share(Shared::NoEndpointNodePorts, element, refusal);
            }
            self.udp(None, node_port, backends);
        }
    }

    fn element(&self, ip: Ipv4Addr) -> String {
        format!("{ip} . {} . {}", self.front.protocol, self.front.port)
    }

    fn frontend(&mut self, ip: Ipv4Addr, chain: Option<&str>, refusal: &str) {
        let element = self.element(ip);
        match chain {
            Some(chain) => self.share(Shared::Services, element, &format!("goto {chain}")),
            None => self.share(Shared::NoEndpoints, element, refusal),
        }
    }

    fn share(&mut self, map: Shared, element: String, value: &str) {
        self.fragment.shared.entry((map, element)).or_insert_with(|| value.to_owned());
    }

    fn udp(&mut self, ip: Option<Ipv4Addr>, port: u16, backends: &[Backend]) {
        if self.front.protocol == "udp" {
            self.fragment.udp.entry(Frontend { ip, port }).or_default().extend(backends);
        }
    }
}

/// Gives each wanted endpoint a place in `0..wanted.len()`, moving as few as possible: those that stay keep
/// theirs, newcomers fill the gaps, and only what lies beyond the new end moves.
pub fn assign_slots(old: &[Backend], wanted: &[Backend]) -> Vec<Backend> {
    let mut slots: Vec<Option<Backend>> = old
        .iter()
        .map(|b| wanted.contains(b).then_some(*b))
        .chain(std::iter::repeat(None))
        .take(wanted.len())
        .collect();
    let kept: BTreeSet<Backend> = slots.iter().flatten().copied().collect();
    let mut rest = wanted.iter().filter(|b| !kept.contains(b));
    for slot in slots.iter_mut().filter(|s| s.is_none()) {
        *slot = rest.next().copied();
    }
    slots.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
