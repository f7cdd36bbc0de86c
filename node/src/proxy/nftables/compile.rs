//! One port of a Service, as planned, to its part of the rule set. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::base::{BALANCE, BALANCE_MARKED, BALANCE_NODE_PORT, BALANCED_MAX};
use super::words::{Declaration, Shared, Words};
use crate::family::Family;
use crate::proxy::endpoints::Backend;
use crate::proxy::facts::NodeFacts;
use crate::proxy::ledger::Part;
use crate::proxy::listeners::{Listeners, listener, takers};
use crate::proxy::plan::{External, PortPlan, Reach, ServicePlan};

/// A set or map that belongs to one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private {
    /// Its declaration.
    pub declaration: Declaration,
    /// Key to value.
    pub elements: BTreeMap<String, String>,
}

/// One Service's part of one family's rule set.
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
}

impl Part for Fragment {
    type Element = (Shared, String);
    fn shared(&self) -> &BTreeMap<(Shared, String), String> {
        &self.shared
    }
}

/// Compiles one family of a Service. `previous` is its last fragment, whose slots are kept: an endpoint that stays keeps
/// its element. Traffic with a listener goes there, other traffic to the endpoints themselves.
pub fn compile(
    plan: &ServicePlan,
    family: Family,
    facts: &NodeFacts,
    listeners: &Listeners,
    previous: Option<&Fragment>,
) -> Fragment {
    let mut fragment = Fragment::default();
    for port in plan.ports.iter().filter(|port| port.family() == family) {
        let words = Words::of(family);
        PortWriter { fragment: &mut fragment, port, words, facts, listeners, previous }.write();
    }
    fragment
}

struct PortWriter<'a> {
    fragment: &'a mut Fragment,
    port: &'a PortPlan,
    words: Words,
    facts: &'a NodeFacts,
    listeners: &'a Listeners,
    previous: Option<&'a Fragment>,
}

/// What is done with what has no chain to go to.
fn refusal(reach: Reach) -> &'static str {
    if reach == Reach::Dropped { "drop" } else { "goto refuse" }
}

impl PortWriter<'_> {
    fn write(&mut self) {
        let port = self.port;
        if !port.served_here {
            self.share(Shared::ClusterIps, port.cluster_ip.to_string(), "");
            let element = self.element(port.cluster_ip);
            let verdict = match self.is_plain(port.internal) {
                true => Some(self.balanced(Shared::Endpoints, &element, BALANCE, port.internal)),
                false => self.balancer(port.internal).map(|chain| format!("goto {chain}")),
            };
            self.frontend(element, verdict, refusal(port.internal));
        }
        if let Some(external) = &port.external {
            self.external(external);
        }
        for ip in &port.here {
            self.share(Shared::Hairpins, format!("{ip} . {ip}"), "");
        }
    }

    /// Whether nothing is special about these endpoints: the chains and maps of all Services do then, which is what makes
    /// many Services cheap. nft reads the names of all chains and maps before each change; elements it does not.
    fn is_plain(&self, reach: Reach) -> bool {
        let simple = self.port.affinity_seconds.is_none() || self.listener(reach).is_some();
        simple && (1..=BALANCED_MAX).contains(&self.targets(reach).len())
    }

    fn listener(&self, reach: Reach) -> Option<Backend> {
        listener(self.listeners, self.port, reach)
    }

    fn targets(&self, reach: Reach) -> Vec<Backend> {
        takers(self.listeners, self.port, reach)
    }

    /// Puts endpoints into a shared map, behind `front`; returns what leads to them.
    fn balanced(&mut self, map: Shared, front: &str, chain: &str, reach: Reach) -> String {
        let place = format!("{} {front}", map.name());
        let old = self.previous.and_then(|p| p.slots.get(&place)).map(Vec::as_slice).unwrap_or_default();
        let slots = assign_slots(old, &self.targets(reach));
        for (i, Backend { ip, port }) in slots.iter().enumerate() {
            self.share(map, format!("{front} . {i}"), &format!("{ip} . {port}"));
        }
        let count = slots.len();
        self.fragment.slots.insert(place, slots);
        format!("goto {chain}-{count}")
    }

    /// A chain of this port's own that sends each connection to one of the endpoints, or to who stands in for them;
    /// returns its name.
    fn balancer(&mut self, reach: Reach) -> Option<String> {
        let prefix = match reach {
            Reach::Cluster => "svc",
            Reach::Local => "loc",
            Reach::Refused | Reach::Dropped => return None,
        };
        let chain = format!("{prefix}/{}", self.port.key);
        if self.fragment.chains.contains_key(&chain) {
            return Some(chain);
        }
        let (protocol, dnat) = (self.port.protocol.name(), self.words.dnat);
        if let Some(listener) = self.listener(reach) {
            let rule = format!("meta l4proto {protocol} {dnat} to {}", listener.address());
            self.fragment.chains.insert(chain.clone(), vec![rule]);
            return Some(chain);
        }
        let map = format!("eps-{chain}");
        let old = self.previous.and_then(|p| p.slots.get(&map)).map(Vec::as_slice).unwrap_or_default();
        let slots = assign_slots(old, self.port.backends(reach));
        let n = slots.len();
        let mut rules = Vec::new();
        let mut elements = BTreeMap::new();
        let target = if let Some(seconds) = self.port.affinity_seconds {
            for backend in &slots {
                let (endpoint, clients) = self.sticky_endpoint(*backend, seconds);
                rules.push(format!("{} saddr @{clients} goto {endpoint}", self.words.ip));
            }
            for (i, Backend { ip, port }) in slots.iter().enumerate() {
                elements
                    .insert(i.to_string(), format!("goto {}", endpoint_chain(&self.port.key, *ip, *port)));
            }
            rules.push(format!("numgen random mod {n} vmap @{map}"));
            "verdict".to_owned()
        } else {
            for (i, Backend { ip, port }) in slots.iter().enumerate() {
                elements.insert(i.to_string(), format!("{ip} . {port}"));
            }
            rules.push(format!("meta l4proto {protocol} {dnat} to numgen random mod {n} map @{map}"));
            format!("{} daddr . {protocol} dport", self.words.ip)
        };
        let body = format!("typeof numgen random mod 2 : {target};");
        self.fragment
            .private
            .insert(map.clone(), Private { declaration: Declaration { kind: "map", body }, elements });
        self.fragment.slots.insert(map, slots);
        self.fragment.chains.insert(chain.clone(), rules);
        Some(chain)
    }

    /// The chain of one endpoint that remembers its clients, and the set of those clients.
    fn sticky_endpoint(&mut self, backend: Backend, seconds: u32) -> (String, String) {
        let chain = endpoint_chain(&self.port.key, backend.ip, backend.port);
        let clients = format!("clients/{}", chain.trim_start_matches("ep/"));
        let body = format!("type {}; flags dynamic,timeout; timeout {seconds}s;", self.words.address);
        let protocol = self.port.protocol.name();
        let rules = vec![
            format!("update @{clients} {{ {} saddr }}", self.words.ip),
            format!("meta l4proto {protocol} {} to {}", self.words.dnat, backend.address()),
        ];
        let set = Private { declaration: Declaration { kind: "set", body }, elements: BTreeMap::new() };
        self.fragment.private.insert(clients.clone(), set);
        self.fragment.chains.insert(chain.clone(), rules);
        (chain, clients)
    }

    fn external(&mut self, external: &External) {
        let plain = !external.keeps_source && self.is_plain(external.inside);
        let entry = if plain { None } else { self.entry(external).map(|chain| format!("goto {chain}")) };
        let refusal = refusal(external.outside);
        let only_elsewhere = external.outside == Reach::Dropped;
        for address in &external.addresses {
            let element = self.element(address.ip);
            if only_elsewhere {
                self.share(Shared::NoEndpoints, element.clone(), refusal);
            }
            if let Some(sources) = &address.sources {
                let chain = format!("fw/{}", self.port.key);
                self.share(Shared::Firewalls, element.clone(), &format!("goto {chain}"));
                self.fragment.chains.insert(chain, vec![self.wall(sources)]);
            }
            let verdict = match plain {
                true => Some(self.balanced(Shared::Endpoints, &element, BALANCE_MARKED, external.inside)),
                false => entry.clone(),
            };
            self.frontend(element, verdict, refusal);
        }
        if let Some(node_port) = external.node_port {
            let element = format!("{} . {node_port}", self.port.protocol.name());
            let verdict = match plain {
                true => {
                    let map = Shared::NodePortEndpoints;
                    Some(self.balanced(map, &element, BALANCE_NODE_PORT, external.inside))
                }
                false => entry,
            };
            if verdict.is_none() || only_elsewhere {
                self.share(Shared::NoEndpointNodePorts, element.clone(), refusal);
            }
            if let Some(verdict) = verdict {
                self.share(Shared::NodePorts, element, &verdict);
            }
        }
    }

    /// The chain behind the addresses outside the cluster's ranges; returns its name.
    fn entry(&mut self, external: &External) -> Option<String> {
        let inside = self.balancer(external.inside)?;
        let chain = format!("ext/{}", self.port.key);
        let mut rules = Vec::new();
        if external.keeps_source {
            if let Some(cidr) = self.facts.cluster_cidr(self.port.family()) {
                rules.push(format!("{} saddr {cidr} goto {inside}", self.words.ip));
            }
            rules.push("fib saddr type local jump mark-for-masquerade".to_owned());
            rules.push(format!("fib saddr type local goto {inside}"));
            rules.extend(self.balancer(external.outside).map(|chain| format!("goto {chain}")));
        } else {
            rules.push("jump mark-for-masquerade".to_owned());
            rules.push(format!("goto {inside}"));
        }
        self.fragment.chains.insert(chain.clone(), rules);
        Some(chain)
    }

    /// What keeps everybody else out.
    fn wall(&self, sources: &[IpNet]) -> String {
        if sources.is_empty() {
            return "drop".to_owned();
        }
        let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
        format!("{} saddr != {{ {} }} drop", self.words.ip, sources.join(", "))
    }

    fn element(&self, ip: IpAddr) -> String {
        format!("{ip} . {} . {}", self.port.protocol.name(), self.port.port)
    }

    fn frontend(&mut self, element: String, verdict: Option<String>, refusal: &str) {
        match verdict {
            Some(verdict) => self.share(Shared::Services, element, &verdict),
            None => self.share(Shared::NoEndpoints, element, refusal),
        }
    }

    fn share(&mut self, map: Shared, element: String, value: &str) {
        self.fragment.shared.entry((map, element)).or_insert_with(|| value.to_owned());
    }
}

/// The name of an endpoint's chain. IPv6 addresses are written without their colons, which nft would not take.
fn endpoint_chain(key: &str, ip: IpAddr, port: u16) -> String {
    format!("ep/{key}/{}/{port}", ip.to_string().replace(':', "_"))
}

/// Gives each wanted endpoint a place in `0..wanted.len()`, moving as few as possible: those that stay keep
/// theirs, newcomers fill the gaps, and only what lies beyond the new end moves.
pub fn assign_slots(old: &[Backend], wanted: &[Backend]) -> Vec<Backend> {
    let wanted_set: BTreeSet<Backend> = wanted.iter().copied().collect();
    let mut slots: Vec<Option<Backend>> = old
        .iter()
        .map(|b| wanted_set.contains(b).then_some(*b))
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
