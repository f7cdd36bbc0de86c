//! One Service, as planned, to its chains and its rules in the shared ones. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::names::{MARK, Own, Shared, chain};
use crate::family::Family;
use crate::proxy::endpoints::Backend;
use crate::proxy::facts::NodeFacts;
use crate::proxy::ledger::Part;
use crate::proxy::plan::{External, ExternalAddress, PortPlan, Reach, ServicePlan};

/// One Service's part of one family's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Chains of its own in the table `nat`, with their rules.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Rules in shared chains: what they match, and what they do.
    pub shared: BTreeMap<(Shared, String), String>,
}

impl Part for Fragment {
    type Element = (Shared, String);
    fn shared(&self) -> &BTreeMap<(Shared, String), String> {
        &self.shared
    }
}

/// Compiles one family of a Service.
pub fn compile(plan: &ServicePlan, family: Family, facts: &NodeFacts) -> Fragment {
    let mut fragment = Fragment::default();
    for port in plan.ports.iter().filter(|port| port.family() == family) {
        PortWriter { fragment: &mut fragment, port, facts }.write();
    }
    fragment
}

struct PortWriter<'a> {
    fragment: &'a mut Fragment,
    port: &'a PortPlan,
    facts: &'a NodeFacts,
}

/// What is done with what has no chain to go to.
fn refusal(reach: Reach) -> &'static str {
    if reach == Reach::Dropped { "-j DROP" } else { "-j REJECT" }
}

impl PortWriter<'_> {
    fn write(&mut self) {
        let port = self.port;
        for reach in port.reaches() {
            self.balancer(reach);
        }
        if !port.served_here {
            let aim = self.aim(port.cluster_ip);
            match self.balancer_of(port.internal) {
                Some(chain) => self.share(Shared::Services, aim, format!("-j {chain}")),
                None => self.share(Shared::Unanswered, aim, refusal(port.internal).to_owned()),
            }
        }
        if let Some(external) = &port.external {
            self.external(external);
        }
    }

    fn balancer_of(&self, reach: Reach) -> Option<String> {
        match reach {
            Reach::Cluster => Some(chain(Own::Cluster, &self.port.key)),
            Reach::Local => Some(chain(Own::Local, &self.port.key)),
            Reach::Refused | Reach::Dropped => None,
        }
    }

    /// What matches this service port at an address.
    fn aim(&self, ip: IpAddr) -> String {
        format!("-d {ip} {}", self.dport(self.port.port))
    }

    fn dport(&self, number: u16) -> String {
        let protocol = self.port.protocol.name();
        format!("-p {protocol} -m {protocol} --dport {number}")
    }

    /// A chain that sends each connection to one of the endpoints.
    fn balancer(&mut self, reach: Reach) {
        let Some(name) = self.balancer_of(reach) else { return };
        let mut rules = Vec::new();
        // Answers to clients elsewhere are to come back through this node.
        if let Some(cidr) = self.facts.cluster_cidr(self.port.family())
            && self.port.internal == reach
            && !self.port.served_here
        {
            rules.push(format!("! -s {cidr} {} -j {MARK}", self.aim(self.port.cluster_ip)));
        }
        let backends = self.port.backends(reach);
        let chains: Vec<String> = backends.iter().map(|backend| self.endpoint(*backend)).collect();
        if let Some(seconds) = self.port.affinity_seconds {
            rules.extend(chains.iter().map(|chain| {
                format!("-m recent --name {chain} --rcheck --seconds {seconds} --reap -j {chain}")
            }));
        }
        for (i, chain) in chains.iter().enumerate() {
            let left = chains.len() - i;
            rules.push(if left == 1 {
                format!("-j {chain}")
            } else {
                format!("-m statistic --mode random --probability {:.10} -j {chain}", 1.0 / left as f64)
            });
        }
        self.fragment.chains.insert(name, rules);
    }

    /// The chain of one endpoint.
    fn endpoint(&mut self, backend: Backend) -> String {
        let name = chain(Own::Endpoint, &format!("{}/{}", self.port.key, backend.address()));
        let protocol = self.port.protocol.name();
        let remember = match self.port.affinity_seconds {
            Some(_) => format!(" -m recent --name {name} --set"),
            None => String::new(),
        };
        let mut rules = Vec::new();
        if self.port.here.contains(&backend.ip) {
            // An endpoint that calls itself must see another's address, or it would answer itself directly.
            rules.push(format!("-s {} -j {MARK}", backend.ip));
        }
        rules.push(format!("-p {protocol}{remember} -j DNAT --to-destination {}", backend.address()));
        self.fragment.chains.insert(name.clone(), rules);
        name
    }

    fn external(&mut self, external: &External) {
        let entry = self.balancer_of(external.inside).map(|inside| self.entry(external, &inside));
        let refusal = refusal(external.outside).to_owned();
        let only_elsewhere = external.outside == Reach::Dropped;
        for address in &external.addresses {
            let aim = self.aim(address.ip);
            match &entry {
                Some(entry) => self.let_in(address, entry),
                None => self.share(Shared::Unanswered, aim.clone(), refusal.clone()),
            }
            if only_elsewhere {
                self.share(Shared::Unanswered, aim, refusal.clone());
            }
        }
        if let Some(node_port) = external.node_port {
            let aim = self.dport(node_port);
            if let Some(entry) = &entry {
                self.share(Shared::NodePorts, aim.clone(), format!("-j {entry}"));
            }
            if entry.is_none() || only_elsewhere {
                self.share(Shared::UnansweredNodePorts, aim, refusal);
            }
        }
    }

    /// Lets those who may come to an address into `entry`; what it matches stays as it was for the others.
    fn let_in(&mut self, address: &ExternalAddress, entry: &str) {
        let aim = self.aim(address.ip);
        let Some(sources) = &address.sources else {
            self.share(Shared::Services, aim, format!("-j {entry}"));
            return;
        };
        let guarded = chain(Own::Sources, &self.port.key);
        let rules = sources.iter().map(|range| format!("-s {range} -j {entry}")).collect();
        self.fragment.chains.insert(guarded.clone(), rules);
        self.share(Shared::Services, aim.clone(), format!("-j {guarded}"));
        self.share(Shared::Firewall, aim, "-j DROP".to_owned());
    }

    /// The chain behind the addresses outside the cluster's ranges; returns its name.
    fn entry(&mut self, external: &External, inside: &str) -> String {
        let name = chain(Own::External, &self.port.key);
        let mut rules = Vec::new();
        if external.keeps_source {
            if let Some(cidr) = self.facts.cluster_cidr(self.port.family()) {
                rules.push(format!("-s {cidr} -j {inside}"));
            }
            rules.push(format!("-m addrtype --src-type LOCAL -j {MARK}"));
            rules.push(format!("-m addrtype --src-type LOCAL -j {inside}"));
            rules.extend(self.balancer_of(external.outside).map(|chain| format!("-j {chain}")));
        } else {
            rules.push(format!("-j {MARK}"));
            rules.push(format!("-j {inside}"));
        }
        self.fragment.chains.insert(name.clone(), rules);
        name
    }

    fn share(&mut self, chain: Shared, matching: String, target: String) {
        self.fragment.shared.entry((chain, matching)).or_insert(target);
    }
}

#[cfg(test)]
mod tests;
