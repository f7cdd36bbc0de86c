//! Which endpoints a service port sends its traffic to.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::facts::NodeFacts;
use crate::family::Family;

/// An endpoint's address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
}

impl Backend {
    /// Both together, as written.
    pub fn address(self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

/// One endpoint of a service port, before choosing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is.
    pub backend: Backend,
    /// Takes new connections.
    pub ready: bool,
    /// Works, though it may be on its way out.
    pub serving: bool,
    /// On its way out.
    pub terminating: bool,
    /// Runs on this node.
    pub local: bool,
    /// Nodes that it should be preferred on.
    pub for_nodes: Vec<String>,
    /// Zones that it should be preferred in.
    pub for_zones: Vec<String>,
}

/// The endpoints that a service port uses, in order of address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// For traffic that may go to any node.
    pub cluster: Vec<Backend>,
    /// For traffic that must stay on this node.
    pub local: Vec<Backend>,
    /// Those of either that run on this node: they may call themselves through the service.
    pub here: Vec<IpAddr>,
}

/// The candidates of one family of a service port: slices match it by port name and protocol.
pub fn candidates<'a>(
    port: &ServicePort,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    facts: &NodeFacts,
    family: Family,
) -> Vec<Candidate> {
    let name = port.name.as_deref().unwrap_or_default();
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let mut found: Vec<Candidate> = Vec::new();
    for slice in slices {
        if slice.address_type != family.address_type() {
            continue;
        }
        let number = slice.ports.iter().flatten().find_map(|p| {
            let same_name = p.name.as_deref().unwrap_or_default() == name;
            let same_protocol = p.protocol.as_deref().unwrap_or("TCP") == protocol;
            (same_name && same_protocol).then(|| p.port.and_then(|n| u16::try_from(n).ok())).flatten()
        });
        let Some(number) = number else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            found.extend(candidate(endpoint, number, facts).filter(|c| Family::of(c.backend.ip) == family));
        }
    }
    // The same address may be in two slices for a moment while the controller moves it: the ready one counts.
    found.sort_by_key(|c| (c.backend, !c.ready));
    found.dedup_by_key(|c| c.backend);
    found
}

fn candidate(endpoint: &Endpoint, port: u16, facts: &NodeFacts) -> Option<Candidate> {
    // Upstream promises that all addresses of an endpoint are alike and uses the first.
    let ip = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let hints = endpoint.hints.as_ref();
    Some(Candidate {
        backend: Backend { ip, port },
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        local: endpoint.node_name.as_deref().is_some_and(|n| n == facts.name),
        for_nodes: hints
            .and_then(|h| h.for_nodes.as_ref())
            .into_iter()
            .flatten()
            .map(|n| n.name.clone())
            .collect(),
        for_zones: hints
            .and_then(|h| h.for_zones.as_ref())
            .into_iter()
            .flatten()
            .map(|z| z.name.clone())
            .collect(),
    })
}

/// Chooses among the candidates: the ready ones, preferring those hinted at for this node or zone; when none
/// is ready, those that are terminating and still serve.
pub fn choose(candidates: &[Candidate], facts: &NodeFacts) -> Choice {
    let ready: Vec<&Candidate> = candidates.iter().filter(|c| c.ready).collect();
    let mut cluster: Vec<Backend> = preferred(&ready, facts).iter().map(|c| c.backend).collect();
    if cluster.is_empty() {
        cluster = leaving(candidates, |_| true);
    }
    let mut local: Vec<Backend> = ready.iter().filter(|c| c.local).map(|c| c.backend).collect();
    if local.is_empty() {
        local = leaving(candidates, |c| c.local);
    }
    let mut here: Vec<IpAddr> = candidates
        .iter()
        .filter(|c| c.local && (cluster.contains(&c.backend) || local.contains(&c.backend)))
        .map(|c| c.backend.ip)
        .collect();
    here.dedup();
    Choice { cluster, local, here }
}

fn leaving(candidates: &[Candidate], also: impl Fn(&Candidate) -> bool) -> Vec<Backend> {
    candidates.iter().filter(|c| c.serving && c.terminating && also(c)).map(|c| c.backend).collect()
}

/// Hints count only when every ready endpoint has one and at least one of them names us: half-hinted services
/// are in the middle of a change, and a hint must never leave a service without endpoints.
fn preferred<'a>(ready: &[&'a Candidate], facts: &NodeFacts) -> Vec<&'a Candidate> {
    let node_hinted = ready.iter().all(|c| !c.for_nodes.is_empty());
    if node_hinted {
        let mine: Vec<_> = ready.iter().copied().filter(|c| c.for_nodes.contains(&facts.name)).collect();
        if !mine.is_empty() {
            return mine;
        }
    }
    if let Some(zone) = &facts.zone
        && ready.iter().all(|c| !c.for_zones.is_empty())
    {
        let mine: Vec<_> = ready.iter().copied().filter(|c| c.for_zones.contains(zone)).collect();
        if !mine.is_empty() {
            return mine;
        }
    }
    ready.to_vec()
}

#[cfg(test)]
mod tests;
