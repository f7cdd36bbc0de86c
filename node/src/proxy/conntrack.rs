//! Forgetting UDP flows.
//!
//! The kernel remembers where it sent a UDP client, and goes on sending there long after the endpoint is
//! gone; and it remembers that an address led nowhere. Both memories are deleted when endpoints change. TCP
//! needs none of this: its connections end by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::ServiceKey;
use super::endpoints::Backend;
use super::listeners::{Listeners, takers};
use super::plan::{Protocol, Reach, ServicePlan};
use crate::family::Family;
use crate::nft::{RulesError, run};

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
                at.extend(takers(listeners, port, *reach));
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

    /// Begins anew: what was answered before is not known.
    pub fn clear(&mut self) {
        *self = Flows::default();
    }

    /// What is to be forgotten: what changes made stale, or, after everything was told, whatever is otherwise.
    pub fn due(&self, everything: bool) -> Due {
        if !everything {
            return Due::These(self.stale.clone());
        }
        let mut all = Answered::new();
        for (frontend, backends) in self.answered.values().flatten() {
            all.entry(*frontend).or_default().extend(backends);
        }
        Due::Others(all)
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
fn arguments(flow: &Flow) -> Vec<String> {
    let family = name(flow.frontend.family);
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

/// What is to be forgotten.
#[derive(Debug)]
pub enum Due {
    /// These flows.
    These(BTreeSet<Flow>),
    /// Those that lead elsewhere than this.
    Others(Answered),
}

impl Due {
    /// Does it.
    pub async fn forget(self) {
        match self {
            Due::These(flows) => forget(flows).await,
            Due::Others(answered) => sweep(&answered).await,
        }
    }
}

/// Deletes what the kernel remembers otherwise than is answered now, whoever told it: flows to endpoints that went while
/// nobody looked. Best effort, as [`forget`].
async fn sweep(answered: &Answered) {
    for family in Family::ALL {
        if !answered.keys().any(|frontend| frontend.family == family) {
            continue;
        }
        match run("conntrack", &["-L", "-f", name(family), "-p", "udp"], "").await {
            Ok(listing) => forget(strangers(&listing, family, answered)).await,
            Err(error) => tracing::warn!(%error, "UDP flows of an earlier run end by their timeout only"),
        }
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// The flows in a listing of `conntrack` that lead elsewhere than to who answers now.
fn strangers(listing: &str, family: Family, answered: &Answered) -> BTreeSet<Flow> {
    let mut found = BTreeSet::new();
    for line in listing.lines() {
        // Each line has the way there first, then the way back.
        let fields = |name: &'static str| line.split_whitespace().filter_map(move |w| w.strip_prefix(name));
        let addresses = |name| fields(name).map(str::parse::<IpAddr>);
        let ports = |name| fields(name).map(str::parse::<u16>);
        let (Some(Ok(aimed)), Some(Ok(port))) = (addresses("dst=").next(), ports("dport=").next()) else {
            continue;
        };
        let (Some(Ok(ip)), Some(Ok(from))) = (addresses("src=").nth(1), ports("sport=").nth(1)) else {
            continue;
        };
        let at = [Some(aimed), None].map(|ip| Frontend { family, ip, port });
        let Some(frontend) = at.into_iter().find(|frontend| answered.contains_key(frontend)) else {
            continue;
        };
        let known = answered.get(&frontend).is_some_and(|by| by.contains(&Backend { ip, port: from }));
        if !known {
            found.insert(Flow { frontend, backend: (ip != aimed).then_some(ip) });
        }
    }
    found
}

/// Deletes flows. Best effort: without the `conntrack` program they time out by themselves.
async fn forget(flows: BTreeSet<Flow>) {
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
        let text = arguments(&gone(1)).join(" ");
        assert_eq!(text, "-D -f ipv4 -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --dst-nat 10.0.0.1");
    }

    #[test]
    fn what_an_earlier_run_left_is_found() {
        let line = |aimed: &str, port: u16, from: &str, sport: u16| {
            format!(
                "udp      17 28 src=10.7.0.2 dst={aimed} sport=40000 dport={port} [UNREPLIED] src={from} dst=10.7.0.2 \
                 sport={sport} dport=40000 mark=0 use=1\n"
            )
        };
        let at = |ip: Option<[u8; 4]>, port| Frontend { family: Family::V4, ip: ip.map(Into::into), port };
        let backend = |last: u8| Backend { ip: [10, 0, 0, last].into(), port: 5353 };
        let dns = at(Some([10, 96, 0, 10]), 53);
        let answered = Answered::from([(dns, [backend(1)].into()), (at(None, 30053), [backend(1)].into())]);
        let check = |line: String, expected: Option<Flow>| {
            let found = strangers(&line, Family::V4, &answered);
            assert_eq!(found, expected.into_iter().collect(), "{line}");
        };
        check(line("10.96.0.10", 53, "10.0.0.1", 5353), None);
        check(
            line("10.96.0.10", 53, "10.0.0.2", 5353),
            Some(Flow { frontend: dns, backend: Some([10, 0, 0, 2].into()) }),
        );
        check(
            line("10.96.0.10", 53, "10.0.0.1", 53),
            Some(Flow { frontend: dns, backend: Some([10, 0, 0, 1].into()) }),
        );
        check(line("10.96.0.10", 53, "10.96.0.10", 53), Some(Flow { frontend: dns, backend: None }));
        check(line("192.0.2.1", 30053, "10.0.0.1", 5353), None);
        let stale = Flow { frontend: at(None, 30053), backend: Some([10, 0, 0, 3].into()) };
        check(line("192.0.2.1", 30053, "10.0.0.3", 5353), Some(stale));
        check(line("9.9.9.9", 53, "9.9.9.9", 53), None);
        check("conntrack v1.4.7 (conntrack-tools): 0 flow entries have been shown.\n".to_owned(), None);
    }
}
