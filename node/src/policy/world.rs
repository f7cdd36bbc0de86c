//! Pods, namespaces and policies together: which pods of this node are isolated, by which policies, and which
//! addresses each peer has. Pure.
//!
//! Everything is decided by address. What changes marks addresses and policies; [`World::settle`] decides those anew
//! and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::claims::{Claim, Claims};
use super::objects::{Key, LabelPool, Labels, NamedPort, PodFacts, namespace_of};
use super::rules::{Direction, Line, Peers, PodPeer, Policy, Ports, Protocol, short_hash};
use super::table::{Chain, ChainName, Element, SetName, Table};
use crate::family::Family;

#[cfg(test)]
mod tests;

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// The pod that the cluster's DNS is taken for: no pod can have this name.
const DNS_POD: &str = "kube-system/(dns)";
/// The label by which policies let the cluster's DNS in.
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
/// The DNS' ports, by the names that they usually have.
const DNS_PORTS: [(&str, Protocol); 2] = [("dns", Protocol::Udp), ("dns-tcp", Protocol::Tcp)];

/// Keys longer than this are no names of chains.
const CHAIN_KEY_BYTES_MAX: usize = 100;

/// A policy, and what of it is in the table.
#[derive(Debug, Default)]
struct Entry {
    /// What it says; `None` when it is gone.
    policy: Option<Policy>,
    /// Addresses of this node that it isolates.
    isolates: usize,
    /// The sets that its chains in the table refer to; `None` where it has none there.
    written: Option<BTreeSet<SetName>>,
}

/// All that is known, and the table that follows from it.
#[derive(Debug)]
pub struct World {
    /// What follows from it, once settled.
    pub table: Table,
    pods: BTreeMap<Key, PodFacts>,
    labels: LabelPool,
    /// Addresses of pods that were plugged in here, by sandbox: known before any status tells them.
    plugged: BTreeMap<Key, BTreeMap<String, Vec<IpAddr>>>,
    claims: Claims,
    namespaces: BTreeMap<String, Labels>,
    policies: BTreeMap<Key, Entry>,
    /// The policies that isolate an address of this node.
    isolated: BTreeMap<IpAddr, BTreeSet<Key>>,
    /// Who is in the sets of pods, and how many policies' chains refer to each set.
    sets: BTreeMap<SetName, (Arc<[PodPeer]>, usize)>,
    stale_addresses: BTreeSet<IpAddr>,
    stale_policies: BTreeSet<Key>,
}

impl World {
    /// Knows nobody but the cluster's DNS, which this node serves. Pods have addresses of these families.
    pub fn new(dns: IpAddr, families: &'static [Family]) -> World {
        let mut world = World {
            table: Table::new(families),
            pods: BTreeMap::new(),
            labels: LabelPool::default(),
            plugged: BTreeMap::new(),
            claims: Claims::default(),
            namespaces: BTreeMap::new(),
            policies: BTreeMap::new(),
            isolated: BTreeMap::new(),
            sets: BTreeMap::new(),
            stale_addresses: BTreeSet::new(),
            stale_policies: BTreeSet::new(),
        };
        let (label, value) = DNS_LABEL;
        let port = |(name, protocol): (&str, Protocol)| NamedPort { name: name.into(), protocol, number: 53 };
        let facts = PodFacts {
            uid: String::new(),
            mirror: false,
            labels: Arc::new(Labels::from([(label.to_owned(), value.to_owned())])),
            addresses: vec![dns],
            ports: DNS_PORTS.into_iter().map(port).collect(),
            here: false,
            alive: true,
            created: 0,
        };
        world.set_pod(&DNS_POD.into(), Some(facts));
        world.table.set_element(&SetName::Served, dns.into(), true);
        world
    }

    /// How many policies isolate pods of this node, and how many addresses they isolate.
    pub fn active(&self) -> (usize, usize) {
        (self.policies.values().filter(|e| e.written.is_some()).count(), self.isolated.len())
    }

    /// What is known of a pod.
    pub fn pod(&self, key: &str) -> Option<&PodFacts> {
        self.pods.get(key)
    }

    /// Takes in all pods that there are.
    pub fn replace_pods(&mut self, pods: Vec<(Key, PodFacts)>) {
        let there: BTreeSet<&Key> = pods.iter().map(|(key, _)| key).collect();
        let gone = self.pods.keys().filter(|k| !there.contains(k) && ***k != *DNS_POD);
        for key in gone.cloned().collect::<Vec<_>>() {
            self.set_pod(&key, None);
        }
        for (key, facts) in pods {
            self.set_pod(&key, Some(facts));
        }
    }

    /// Takes a pod in, or out.
    pub fn set_pod(&mut self, key: &Key, facts: Option<PodFacts>) {
        let facts = facts.map(|f| PodFacts { labels: self.labels.share(f.labels), ..f });
        if self.pods.get(key) == facts.as_ref() {
            return;
        }
        let before = self.claims_of(key);
        match facts {
            Some(facts) => drop(self.pods.insert(key.clone(), facts)),
            None => drop(self.pods.remove(key)),
        }
        self.reclaim(before, key);
    }

    /// Takes in that a sandbox of a pod was plugged in here, or out.
    pub fn plug(&mut self, key: &Key, sandbox: &str, addresses: Option<Vec<IpAddr>>) {
        let before = self.claims_of(key);
        let sandboxes = self.plugged.entry(key.clone()).or_default();
        match addresses {
            Some(addresses) => drop(sandboxes.insert(sandbox.to_owned(), addresses)),
            None => drop(sandboxes.remove(sandbox)),
        }
        if sandboxes.is_empty() {
            self.plugged.remove(key);
        }
        self.reclaim(before, key);
    }

    fn claims_of(&self, key: &Key) -> Vec<(IpAddr, Claim)> {
        let Some(pod) = self.pods.get(key).filter(|pod| pod.alive) else { return Vec::new() };
        let plugged: Vec<IpAddr> = match self.plugged.get(key).filter(|_| pod.here) {
            Some(sandboxes) => sandboxes.values().flatten().copied().collect(),
            None => Vec::new(),
        };
        let claim = Claim { plugged: !plugged.is_empty(), created: pod.created, pod: key.clone() };
        // A new sandbox's addresses are true before the status tells them.
        let addresses = if plugged.is_empty() { &pod.addresses } else { &plugged };
        let served = |address: &&IpAddr| self.table.families().contains(&Family::of(**address));
        addresses.iter().filter(served).map(|address| (*address, claim.clone())).collect()
    }

    /// Puts a pod's present claims in place of those that it had; its addresses are decided anew.
    fn reclaim(&mut self, before: Vec<(IpAddr, Claim)>, key: &Key) {
        let now = self.claims_of(key);
        for (address, claim) in before {
            self.claims.withdraw(address, &claim);
            self.stale_addresses.insert(address);
        }
        for (address, claim) in now {
            self.claims.make(address, claim);
            self.stale_addresses.insert(address);
        }
    }

    /// Takes in all namespaces that there are.
    pub fn replace_namespaces(&mut self, namespaces: Vec<(String, Labels)>) {
        let there: BTreeSet<&String> = namespaces.iter().map(|(name, _)| name).collect();
        let gone: Vec<String> = self.namespaces.keys().filter(|n| !there.contains(n)).cloned().collect();
        gone.iter().for_each(|name| self.set_namespace(name, None));
        for (name, labels) in namespaces {
            self.set_namespace(&name, Some(labels));
        }
    }

    /// Takes a namespace in, or out.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        if self.namespaces.get(name) == labels.as_ref() {
            return;
        }
        match labels {
            Some(labels) => drop(self.namespaces.insert(name.to_owned(), labels)),
            None => drop(self.namespaces.remove(name)),
        }
        let addresses: Vec<IpAddr> = self.addresses_in(name, |_| true).collect();
        self.stale_addresses.extend(addresses);
    }

    fn addresses_in<'a>(
        &'a self,
        namespace: &str,
        which: impl Fn(&PodFacts) -> bool + 'a,
    ) -> impl Iterator<Item = IpAddr> + 'a {
        let prefix = format!("{namespace}/");
        let from: Key = prefix.as_str().into();
        self.pods
            .range(from..)
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .filter(move |(_, pod)| which(pod))
            .flat_map(|(key, _)| self.claims_of(key).into_iter().map(|(address, _)| address))
    }

    /// Takes in all policies that there are.
    pub fn replace_policies(&mut self, policies: Vec<(Key, Policy)>) {
        let there: BTreeSet<&Key> = policies.iter().map(|(key, _)| key).collect();
        let gone: Vec<Key> = self.policies.keys().filter(|k| !there.contains(k)).cloned().collect();
        gone.iter().for_each(|key| self.set_policy(key, None));
        for (key, policy) in policies {
            self.set_policy(&key, Some(policy));
        }
    }

    /// Takes a policy in, or out.
    pub fn set_policy(&mut self, key: &Key, policy: Option<Policy>) {
        let entry = self.policies.entry(key.clone()).or_default();
        if entry.policy != policy {
            entry.policy = policy;
            let addresses: Vec<IpAddr> = self.addresses_in(namespace_of(key), |pod| pod.here).collect();
            self.stale_addresses.extend(addresses);
        }
        self.stale_policies.insert(key.clone());
    }

    /// Brings the table to what is known. Answers the pods and policies for which it changed.
    pub fn settle(&mut self) -> BTreeSet<Key> {
        let addresses = std::mem::take(&mut self.stale_addresses);
        let mut policies = std::mem::take(&mut self.stale_policies);
        let mut touched = BTreeSet::new();
        for address in &addresses {
            self.select(*address, &mut policies);
        }
        for key in policies {
            let before = self.table.writes();
            self.write_policy(&key);
            if self.table.writes() != before {
                touched.insert(key);
            }
        }
        for address in addresses {
            let before = self.table.writes();
            self.write_address(address);
            if self.table.writes() != before {
                touched.extend(self.owner(address).map(|(key, _)| key.clone()));
            }
        }
        touched
    }

    fn owner(&self, address: IpAddr) -> Option<(&Key, &PodFacts)> {
        self.pods.get_key_value(self.claims.owner(address)?)
    }

    /// Finds the policies that isolate an address; those that do so no more, or only now, are marked.
    fn select(&mut self, address: IpAddr, marked: &mut BTreeSet<Key>) {
        let now = self.selecting(address);
        let before = self.isolated.remove(&address).unwrap_or_default();
        for (keys, come) in [(before.difference(&now), false), (now.difference(&before), true)] {
            for key in keys {
                let entry = self.policies.entry(key.clone()).or_default();
                entry.isolates = if come { entry.isolates + 1 } else { entry.isolates.saturating_sub(1) };
                marked.insert(key.clone());
            }
        }
        if !now.is_empty() {
            self.isolated.insert(address, now);
        }
    }

    fn selecting(&self, address: IpAddr) -> BTreeSet<Key> {
        let Some((pod, facts)) = self.owner(address).filter(|(_, facts)| facts.here) else {
            return BTreeSet::new();
        };
        let prefix = format!("{}/", namespace_of(pod));
        let from: Key = prefix.as_str().into();
        self.policies
            .range(from..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter(|(_, entry)| entry.policy.as_ref().is_some_and(|p| p.selects.matches(&facts.labels)))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Writes a policy's chains, where it isolates somebody here; the sets that they refer to come and go with them.
    fn write_policy(&mut self, key: &Key) {
        let Some(entry) = self.policies.get(key) else { return };
        let active = entry.policy.clone().filter(|_| entry.isolates > 0);
        let before = entry.written.clone().unwrap_or_default();
        let mut needed = BTreeMap::new();
        for direction in DIRECTIONS {
            let lines = active.as_ref().and_then(|policy| policy.lines(direction));
            lines.into_iter().flatten().for_each(|line| sets_of(line, &mut needed));
            let chain = lines.map(|lines| Chain::Accepts(direction, lines.to_vec()));
            self.table.set_chain(ChainName::Policy(direction, chain_key(key)), chain);
        }
        let now: BTreeSet<SetName> = needed.keys().cloned().collect();
        for (set, peers) in needed.into_iter().filter(|(set, _)| !before.contains(set)) {
            self.acquire(set, peers);
        }
        for set in before.difference(&now) {
            self.release(set);
        }
        let gone = match self.policies.get_mut(key) {
            Some(entry) => {
                entry.written = active.is_some().then_some(now);
                entry.policy.is_none() && entry.isolates == 0
            }
            None => false,
        };
        if gone {
            self.policies.remove(key);
        }
    }

    fn acquire(&mut self, set: SetName, peers: Arc<[PodPeer]>) {
        if let Some((_, users)) = self.sets.get_mut(&set) {
            *users += 1;
            return;
        }
        self.table.add_set(&set);
        let addresses: Vec<IpAddr> = self.claims.addresses().collect();
        self.sets.insert(set.clone(), (peers.clone(), 1));
        for address in addresses {
            self.write_membership(&set, &peers, address);
        }
    }

    fn release(&mut self, set: &SetName) {
        let Some((_, users)) = self.sets.get_mut(set) else { return };
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.sets.remove(set);
            self.table.remove_set(set);
        }
    }

    fn write_membership(&mut self, set: &SetName, peers: &[PodPeer], address: IpAddr) {
        let owner = self.owner(address);
        if let SetName::Ports(protocol, name) = set {
            let ports = owner.iter().flat_map(|(_, facts)| &facts.ports);
            let wanted: BTreeSet<Element> = ports
                .filter(|p| p.protocol == *protocol && p.name == *name)
                .map(|p| Element { address, port: p.number })
                .collect();
            for element in self.table.ports_of(set, address) {
                self.table.set_element(set, element, wanted.contains(&element));
            }
            for element in wanted {
                self.table.set_element(set, element, true);
            }
            return;
        }
        let meant = owner.is_some_and(|(key, facts)| {
            let namespace = namespace_of(key);
            let of_namespace = self.namespaces.get(namespace);
            peers.iter().any(|peer| peer.means(namespace, of_namespace, &facts.labels))
        });
        self.table.set_element(set, address.into(), meant);
    }

    /// Writes what an address is: whose peer, and isolated how.
    fn write_address(&mut self, address: IpAddr) {
        let sets: Vec<(SetName, Arc<[PodPeer]>)> =
            self.sets.iter().map(|(set, (peers, _))| (set.clone(), peers.clone())).collect();
        for (set, peers) in &sets {
            self.write_membership(set, peers, address);
        }
        let none = BTreeSet::new();
        let policies = self.isolated.get(&address).unwrap_or(&none);
        let mut isolated = false;
        for direction in DIRECTIONS {
            let speaks = |key: &&Key| {
                let policy = self.policies.get(*key).and_then(|entry| entry.policy.as_ref());
                policy.is_some_and(|policy| policy.lines(direction).is_some())
            };
            let asked: Vec<ChainName> = policies
                .iter()
                .filter(speaks)
                .map(|key| ChainName::Policy(direction, chain_key(key)))
                .collect();
            let there = !asked.is_empty();
            isolated |= there;
            self.table.set_chain(ChainName::Pod(direction, address), there.then_some(Chain::Asks(asked)));
            self.table.set_element(&SetName::Isolated(direction), address.into(), there);
        }
        self.table.set_element(&SetName::Selves, address.into(), isolated);
    }
}

/// The sets that a line refers to, and who is in them.
fn sets_of(line: &Line, sets: &mut BTreeMap<SetName, Arc<[PodPeer]>>) {
    if let Peers::Pods(pods) = &line.peers {
        sets.entry(SetName::Pods(pods.id.clone())).or_insert_with(|| pods.any.as_slice().into());
    }
    if let Ports::Named(protocol, name) = &line.ports {
        sets.entry(SetName::Ports(*protocol, name.clone())).or_insert_with(|| Arc::new([]));
    }
}

/// A policy's key in a chain's name: as it is, or a hash of one that is too long, or is no name at all.
fn chain_key(key: &Key) -> Arc<str> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'/');
    if key.len() <= CHAIN_KEY_BYTES_MAX && key.bytes().all(plain) {
        key.clone()
    } else {
        short_hash(Sha256::new_with_prefix(key.as_bytes()))
    }
}
