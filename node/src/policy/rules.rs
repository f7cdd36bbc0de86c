//! What a NetworkPolicy says. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use protocol::selector::{Selector, SelectorError};
use sha2::{Digest, Sha256};

use super::objects::Labels;
use crate::family::Family;
pub use crate::transport::Protocol;

#[cfg(test)]
mod tests;

/// Which way packets go, as the isolated pod sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To it.
    Ingress,
    /// From it.
    Egress,
}

/// Pods that a peer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPeer {
    /// In these namespaces.
    pub namespaces: Namespaces,
    /// With these labels.
    pub pods: Selector,
}

/// Namespaces that a peer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// The policy's own.
    Own(String),
    /// Those with such labels.
    Selected(Selector),
}

impl PodPeer {
    /// Whether it means a pod with these labels, in a namespace with those. A namespace that nobody has heard of
    /// has no labels.
    pub fn means(&self, namespace: &str, of_namespace: Option<&Labels>, of_pod: &Labels) -> bool {
        let in_namespace = match &self.namespaces {
            Namespaces::Own(own) => own == namespace,
            Namespaces::Selected(selector) => of_namespace.is_some_and(|labels| selector.matches(labels)),
        };
        in_namespace && self.pods.matches(of_pod)
    }
}

impl std::fmt::Display for PodPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespaces {
            Namespaces::Own(own) => write!(f, "in {own}: ")?,
            Namespaces::Selected(selector) => write!(f, "where {selector}: ")?,
        }
        match self.pods.is_nothing() {
            true => f.write_str("none"),
            false => write!(f, "{}", self.pods),
        }
    }
}

/// The pods that one rule means, together. Rules that mean the same share one set in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPeers {
    /// Follows from what is meant.
    pub id: Arc<str>,
    /// Any of these.
    pub any: Vec<PodPeer>,
}

impl PodPeers {
    fn new(any: Vec<PodPeer>) -> PodPeers {
        let texts: BTreeSet<String> = any.iter().map(ToString::to_string).collect();
        let mut hash = Sha256::new();
        for text in &texts {
            hash.update(text);
            hash.update([0]);
        }
        PodPeers { id: short_hash(hash), any }
    }
}

/// Half of a hash's half, in hexadecimal: enough for names that nobody chooses.
pub(super) fn short_hash(hash: Sha256) -> Arc<str> {
    let mut text = String::new();
    for byte in hash.finalize().iter().take(8) {
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

/// A range of addresses or ports, both ends included.
pub type Range<T> = (T, T);

/// Whom one line lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Anyone.
    Any,
    /// These pods.
    Pods(PodPeers),
    /// These addresses, sorted and apart, those of IPv4 first.
    Addresses(Vec<Range<IpAddr>>),
}

/// To which ports one line lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Any, of every protocol.
    Any,
    /// Any of this protocol.
    Protocol(Protocol),
    /// These, sorted and apart.
    Numbers(Protocol, Vec<Range<u16>>),
    /// Those that the pod at the packet's destination calls so.
    Named(Protocol, Arc<str>),
}

/// What is let through: packets that match both. Lines of a policy are alternatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From or to whom.
    pub peers: Peers,
    /// To which ports.
    pub ports: Ports,
}

/// A policy, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The pods of its namespace that it is about.
    pub selects: Selector,
    /// What they may receive; `None` where it doesn't speak of that.
    pub ingress: Option<Vec<Line>>,
    /// What they may send; `None` where it doesn't speak of that.
    pub egress: Option<Vec<Line>>,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// When its selector of pods is none, which the API does not accept. A peer like that means nobody.
    pub fn of(policy: &NetworkPolicy) -> Result<Policy, SelectorError> {
        let none = NetworkPolicySpec::default();
        let spec = policy.spec.as_ref().unwrap_or(&none);
        let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
        let selects =
            spec.pod_selector.as_ref().map(Selector::from_label_selector).transpose()?.unwrap_or_default();
        let egress_rules = spec.egress.as_deref().unwrap_or_default();
        let (speaks_ingress, speaks_egress) = match spec.policy_types.as_deref() {
            None | Some([]) => (true, !egress_rules.is_empty()),
            Some(types) => (types.iter().any(|t| t == "Ingress"), types.iter().any(|t| t == "Egress")),
        };
        let lines = |peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>| {
            lines(namespace, peers.unwrap_or_default(), ports.unwrap_or_default())
        };
        Ok(Policy {
            selects,
            ingress: speaks_ingress.then(|| {
                let rules = spec.ingress.iter().flatten();
                rules.flat_map(|r| lines(r.from.as_deref(), r.ports.as_deref())).collect()
            }),
            egress: speaks_egress.then(|| {
                egress_rules.iter().flat_map(|r| lines(r.to.as_deref(), r.ports.as_deref())).collect()
            }),
        })
    }

    /// What it says about a direction.
    pub fn lines(&self, direction: Direction) -> Option<&[Line]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// The lines of one rule: every kind of peer with every kind of port.
fn lines(namespace: &str, peers: &[NetworkPolicyPeer], ports: &[NetworkPolicyPort]) -> Vec<Line> {
    let ports = self::ports(ports);
    let peers = self::peers(namespace, peers);
    peers
        .into_iter()
        .flat_map(|peers| ports.iter().map(move |ports| Line { peers: peers.clone(), ports: ports.clone() }))
        .collect()
}

fn peers(namespace: &str, peers: &[NetworkPolicyPeer]) -> Vec<Peers> {
    if peers.is_empty() {
        return vec![Peers::Any];
    }
    let mut found = Vec::new();
    let pods: Vec<PodPeer> = peers.iter().filter_map(|peer| pod_peer(namespace, peer)).collect();
    if !pods.is_empty() {
        found.push(Peers::Pods(PodPeers::new(pods)));
    }
    let blocks: Vec<_> = peers.iter().filter_map(|p| p.ip_block.as_ref()).filter_map(block).collect();
    let addresses: Vec<Range<IpAddr>> = Family::ALL.into_iter().flat_map(|f| addresses(f, &blocks)).collect();
    if !addresses.is_empty() {
        found.push(Peers::Addresses(addresses));
    }
    found
}

fn pod_peer(namespace: &str, peer: &NetworkPolicyPeer) -> Option<PodPeer> {
    if peer.ip_block.is_some() || (peer.pod_selector.is_none() && peer.namespace_selector.is_none()) {
        return None;
    }
    let selector = |field: &Option<_>| field.as_ref().map(Selector::from_label_selector).transpose();
    let (pods, namespaces) = match (selector(&peer.pod_selector), selector(&peer.namespace_selector)) {
        (Ok(pods), Ok(namespaces)) => (pods.unwrap_or_default(), namespaces),
        (Err(why), _) | (_, Err(why)) => {
            tracing::warn!(%why, namespace, "a policy's peer is not understood; it means nobody");
            return None;
        }
    };
    let namespaces = namespaces.map_or_else(|| Namespaces::Own(namespace.to_owned()), Namespaces::Selected);
    Some(PodPeer { namespaces, pods })
}

/// The addresses of a family that blocks leave.
fn addresses(family: Family, blocks: &[(Family, Vec<Range<u128>>)]) -> Vec<Range<IpAddr>> {
    let of_family = blocks.iter().filter(|(of, _)| *of == family).flat_map(|(_, left)| left.iter().copied());
    let address = |number: u128| match family {
        Family::V4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
    };
    let apart = joined(of_family.collect(), |a| a.checked_add(1));
    apart.into_iter().map(|(first, last)| (address(first), address(last))).collect()
}

/// First and last address of a range, as numbers.
fn ends(range: IpNet) -> Range<u128> {
    let number = |address| match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    };
    (number(range.network()), number(range.broadcast()))
}

/// What of a block is not excepted.
fn block(block: &IPBlock) -> Option<(Family, Vec<Range<u128>>)> {
    let whole = block.cidr.parse::<IpNet>().ok()?;
    let family = Family::of(whole.addr());
    let parse = |text: &String| {
        let parsed = text.parse::<IpNet>().ok().filter(|hole| family.has(hole));
        // Letting through what is meant to be excepted would be worse than the reverse.
        if parsed.is_none() {
            tracing::warn!(except = text, "an exception is not understood; its block lets nobody through");
        }
        parsed
    };
    let mut holes = block.except.iter().flatten().map(parse).collect::<Option<Vec<_>>>()?;
    holes.sort_unstable();
    let mut left = Vec::new();
    let (first, end) = ends(whole);
    // The address after the last one that is decided; none after the greatest there is.
    let mut next = Some(first);
    for (first, last) in holes.into_iter().map(ends) {
        let Some(from) = next else { break };
        if first > end || last < from {
            continue;
        }
        if first > from {
            left.push((from, first - 1));
        }
        next = last.checked_add(1);
    }
    if let Some(from) = next.filter(|from| *from <= end) {
        left.push((from, end));
    }
    Some((family, left))
}

/// Sorts ranges and joins those that overlap or touch.
fn joined<T: Ord + Copy>(mut ranges: Vec<Range<T>>, after: impl Fn(T) -> Option<T>) -> Vec<Range<T>> {
    ranges.sort_unstable();
    let mut apart: Vec<Range<T>> = Vec::new();
    for (first, last) in ranges.into_iter().filter(|(first, last)| first <= last) {
        match apart.last_mut() {
            Some(before) if after(before.1).is_none_or(|next| first <= next) => before.1 = before.1.max(last),
            _ => apart.push((first, last)),
        }
    }
    apart
}

fn ports(ports: &[NetworkPolicyPort]) -> Vec<Ports> {
    if ports.is_empty() {
        return vec![Ports::Any];
    }
    let mut whole = BTreeSet::new();
    let mut numbers: BTreeMap<Protocol, Vec<Range<u16>>> = BTreeMap::new();
    let mut named = BTreeSet::new();
    for port in ports {
        let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else { continue };
        match &port.port {
            None => drop(whole.insert(protocol)),
            Some(IntOrString::Int(first)) => {
                let last = port.end_port.unwrap_or(*first);
                if let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(last)) {
                    numbers.entry(protocol).or_default().push((first, last));
                }
            }
            Some(IntOrString::String(name)) if is_port_name(name) => {
                named.insert((protocol, Arc::<str>::from(name.as_str())));
            }
            Some(IntOrString::String(_)) => {}
        }
    }
    let mut found: Vec<Ports> = whole.iter().map(|p| Ports::Protocol(*p)).collect();
    for (protocol, ranges) in numbers.into_iter().filter(|(p, _)| !whole.contains(p)) {
        let ranges = joined(ranges, |p| p.checked_add(1));
        if !ranges.is_empty() {
            found.push(Ports::Numbers(protocol, ranges));
        }
    }
    named.retain(|(protocol, _)| !whole.contains(protocol));
    found.extend(named.into_iter().map(|(protocol, name)| Ports::Named(protocol, name)));
    found
}

/// Whether this may be a port's name, and so part of a name in the kernel.
pub(super) fn is_port_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
