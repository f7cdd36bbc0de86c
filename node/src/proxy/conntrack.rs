//! Forgetting UDP flows.
//!
//! The kernel remembers where it sent a UDP client, and goes on sending there long after the endpoint is
//! gone; and it remembers that an address led nowhere. Both memories are deleted when endpoints change. TCP
//! needs none of this: its connections end by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::ServiceKey;
use super::endpoints::Backend;
use super::family::Family;
use super::nftables::compile::Listeners;
use super::plan::{PortPlan, Protocol, Reach, ServicePlan};
use crate::nft::{RulesError, run};

/// Flows that are deleted without a look whether they are there.
const DELETED_UNSEEN_MAX: usize = 8;

/// Where UDP clients aim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The family of its clients.
    pub family: Family,
    /// Service address; `None` for a node port.
    pub ip: Option<IpAddr>,
    /// Port.
    pub port: u16,
}

/// UDP addresses and who answers there.
pub type Answered = BTreeMap<Frontend, BTreeSet<Backend>>;

/// Remembered flows to delete: those of clients that aim at a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Where the clients aim.
    pub frontend: Frontend,
    /// Only those sent to this endpoint; `None` for those that were sent nowhere.
    pub backend: Option<IpAddr>,
}

/// Who answers at a Service's UDP addresses: its endpoints, or who listens in their place.
pub fn answered(plan: &ServicePlan, listeners: &Listeners) -> Answered {
    let mut answered = Answered::new();
    for port in plan.ports.iter().filter(|port| port.protocol == Protocol::Udp) {
        let mut add = |ip: Option<IpAddr>, number: u16, reaches: &[Reach]| {
            let at = answered.entry(Frontend { family: port.family(), ip, port: number }).or_default();
            for reach in reaches {
                at.extend(behind(port, *reach, listeners));
            }
        };
        if !port.served_here {
            add(Some(port.cluster_ip), port.port, &[port.internal]);
        }
        if let Some(external) = &port.external {
            let reaches = [external.inside, external.outside];
            for address in &external.addresses {
                add(Some(address.ip), port.port, &reaches);
            }
            if let Some(node_port) = external.node_port {
                add(None, node_port, &reaches);
            }
        }
    }
    answered
}

fn behind(port: &PortPlan, reach: Reach, listeners: &Listeners) -> Vec<Backend> {
    match listeners.get(&(port.key.clone(), reach)) {
        Some(listener) => vec![Backend { ip: listener.ip(), port: listener.port() }],
        None => port.backends(reach).to_vec(),
    }
}

/// Who answers at all Services' UDP addresses, and which flows that made stale.
#[derive(Debug, Default)]
pub struct Flows {
    answered: BTreeMap<ServiceKey, Answered>,
    stale: BTreeSet<Flow>,
}

impl Flows {
    /// A Service's addresses are answered so now.
    pub fn set(&mut self, key: &ServiceKey, answered: Answered) {
        let old = match answered.is_empty() {
            true => self.answered.remove(key),
            false => self.answered.insert(key.clone(), answered.clone()),
        };
        self.stale.extend(stale_flows(&old.unwrap_or_default(), &answered));
    }

    /// The Services with UDP addresses that are not among these.
    pub fn others<'a>(&self, keys: impl Iterator<Item = &'a ServiceKey>) -> Vec<ServiceKey> {
        let keys: BTreeSet<&ServiceKey> = keys.collect();
        self.answered.keys().filter(|key| !keys.contains(key)).cloned().collect()
    }

    /// The flows that are to be forgotten.
    pub fn stale(&self) -> &BTreeSet<Flow> {
        &self.stale
    }

    /// They were.
    pub fn forgotten(&mut self) {
        self.stale.clear();
    }
}

/// Which flows a change of endpoints makes stale.
pub fn stale_flows(old: &Answered, new: &Answered) -> BTreeSet<Flow> {
    let none = BTreeSet::new();
    let mut flows = BTreeSet::new();
    for (frontend, backends) in old {
        let remaining = new.get(frontend).unwrap_or(&none);
        for gone in backends.difference(remaining) {
            flows.insert(Flow { frontend: *frontend, backend: Some(gone.ip) });
        }
    }
    for (frontend, backends) in new {
        if !backends.is_empty() && old.get(frontend).is_none_or(BTreeSet::is_empty) {
            flows.insert(Flow { frontend: *frontend, backend: None });
        }
    }
    flows
}

/// The arguments of `conntrack` that delete a flow.
pub fn arguments(flow: &Flow) -> Vec<String> {
    let family = if flow.frontend.family == Family::V4 { "ipv4" } else { "ipv6" };
    let mut arguments: Vec<String> = ["-D", "-f", family, "-p", "udp"].map(str::to_owned).into();
    if let Some(ip) = flow.frontend.ip {
        arguments.extend(["--orig-dst".to_owned(), ip.to_string()]);
    }
    arguments.extend(["--orig-port-dst".to_owned(), flow.frontend.port.to_string()]);
    match (flow.backend, flow.frontend.ip) {
        (Some(backend), _) => arguments.extend(["--dst-nat".to_owned(), backend.to_string()]),
        // Flows that were sent nowhere answer from the address that they aimed at.
        (None, Some(ip)) => arguments.extend(["--reply-src".to_owned(), ip.to_string()]),
        (None, None) => {}
    }
    arguments
}

/// Deletes flows. Best effort: without the `conntrack` program they time out by themselves.
pub async fn forget(mut flows: BTreeSet<Flow>) {
    // Of very many, hardly any is there: to look first is quicker.
    if flows.len() > DELETED_UNSEEN_MAX {
        let mut seen = BTreeSet::new();
        for family in ["ipv4", "ipv6"] {
            match run("conntrack", &["-L", "-f", family, "-p", "udp"], "").await {
                Ok(listing) => seen.extend(aims(&listing)),
                Err(error) if error.is_missing() => break,
                // Then all are deleted, seen or not.
                Err(_) => return delete(flows).await,
            }
        }
        flows.retain(|flow| {
            let Frontend { ip, port, .. } = flow.frontend;
            match ip {
                Some(ip) => seen.contains(&(ip, port)),
                None => seen.iter().any(|(_, aimed)| *aimed == port),
            }
        });
    }
    delete(flows).await;
}

/// What the clients of remembered flows aim at.
fn aims(listing: &str) -> BTreeSet<(IpAddr, u16)> {
    let aim = |line: &str| {
        // Each line has the way there first, then the way back.
        let field = |name| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        Some((field("dst=")?.parse().ok()?, field("dport=")?.parse().ok()?))
    };
    listing.lines().filter_map(aim).collect()
}

async fn delete(flows: BTreeSet<Flow>) {
    for flow in flows {
        let arguments = arguments(&flow);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match run("conntrack", &arguments, "").await {
            // It is refused when there was nothing to delete, which is the usual case.
            Ok(_) | Err(RulesError::Refused { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, "stale UDP flows end by their timeout only");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(frontend: Frontend, last: &[u8]) -> Answered {
        let backends = last.iter().map(|l| Backend { ip: [10, 0, 0, *l].into(), port: 53 }).collect();
        BTreeMap::from([(frontend, backends)])
    }

    #[test]
    fn endpoints_that_go_and_addresses_that_come_alive_are_forgotten() {
        let frontend = Frontend { family: Family::V4, ip: Some([10, 96, 0, 10].into()), port: 53 };
        let gone = |l| Flow { frontend, backend: Some([10, 0, 0, l].into()) };
        let check = |old: &[u8], new: &[u8], expected: &[Flow]| {
            let flows = stale_flows(&set(frontend, old), &set(frontend, new));
            assert_eq!(flows, expected.iter().copied().collect(), "{old:?} → {new:?}");
        };
        check(&[1, 2], &[1, 2], &[]);
        check(&[1, 2], &[2, 3], &[gone(1)]);
        check(&[], &[1], &[Flow { frontend, backend: None }]);
        check(&[1], &[], &[gone(1)]);
        assert_eq!(stale_flows(&set(frontend, &[1]), &Answered::new()), BTreeSet::from([gone(1)]));
        assert_eq!(
            aims(
                "udp      17 28 src=10.7.0.2 dst=10.96.0.9 sport=40000 dport=53 src=10.7.0.3 dst=10.7.0.2 sport=8080 dport=40000 mark=0 use=1\n\
                 udp      17 1 src=fd00::1 dst=fd00::2 sport=1 dport=54 [UNREPLIED] src=fd00::2 dst=fd00::1 sport=54 dport=1\nodd\n"
            ),
            BTreeSet::from([([10, 96, 0, 9].into(), 53), ("fd00::2".parse().unwrap(), 54)])
        );
        let text = arguments(&gone(1)).join(" ");
        assert_eq!(text, "-D -f ipv4 -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --dst-nat 10.0.0.1");
    }
}
