//! The sets and chains that say what the policies say, and what of them the kernel doesn't have yet. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use super::rules::{Direction, Line, Peers, Ports, Protocol, Range};
use crate::family::Family;
use crate::nft::commands::{Commands, emptied};

#[cfg(test)]
pub(in crate::policy) mod tests;

/// The table that everything lies in.
pub const TABLE: &str = "inet troupe-policy";

/// A set or map. In the kernel it is one for each family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetName {
    /// Isolated pods' addresses, to the chains of what they may receive or send.
    Isolated(Direction),
    /// Isolated pods' addresses twice: a pod that calls itself through a Service.
    Selves,
    /// Addresses that this node serves as pods elsewhere would: that of the cluster's DNS.
    Served,
    /// The addresses of the pods that a rule means.
    Pods(Arc<str>),
    /// The addresses and numbers of the ports of this name.
    Ports(Protocol, Arc<str>),
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetName::Isolated(Direction::Ingress) => f.write_str("isolated-ingress"),
            SetName::Isolated(Direction::Egress) => f.write_str("isolated-egress"),
            SetName::Selves => f.write_str("selves"),
            SetName::Served => f.write_str("served"),
            SetName::Pods(id) => write!(f, "pods/{id}"),
            SetName::Ports(protocol, name) => write!(f, "ports/{}/{name}", protocol.name()),
        }
    }
}

impl SetName {
    /// Those that are always there.
    const FIXED: [SetName; 4] = [
        SetName::Isolated(Direction::Ingress),
        SetName::Isolated(Direction::Egress),
        SetName::Selves,
        SetName::Served,
    ];

    /// Its name in the kernel, with the addresses of this family.
    fn of(&self, family: Family) -> String {
        match family {
            Family::V4 => self.to_string(),
            Family::V6 => format!("ip6-{self}"),
        }
    }

    fn keyword(&self) -> &'static str {
        if matches!(self, SetName::Isolated(_)) { "map" } else { "set" }
    }

    /// The type of its elements.
    fn body(&self, family: Family) -> String {
        let address = family.nft_address();
        match self {
            SetName::Isolated(_) => format!("type {address} : verdict;"),
            SetName::Selves => format!("type {address} . {address};"),
            SetName::Served | SetName::Pods(_) => format!("type {address};"),
            SetName::Ports(..) => format!("type {address} . inet_service;"),
        }
    }

    fn is_fixed(&self) -> bool {
        Self::FIXED.contains(self)
    }

    /// An element as nftables spells it, and its value in a map.
    fn spell(&self, element: Element) -> (String, String) {
        let Element { address, port } = element;
        match self {
            SetName::Isolated(direction) => {
                (address.to_string(), format!("goto {}", ChainName::Pod(*direction, address)))
            }
            SetName::Selves => (format!("{address} . {address}"), String::new()),
            SetName::Served | SetName::Pods(_) => (address.to_string(), String::new()),
            SetName::Ports(..) => (format!("{address} . {port}"), String::new()),
        }
    }
}

/// An element of a set: an address, and a port where the set is of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// Address.
    pub address: IpAddr,
    /// Port, or 0.
    pub port: u16,
}

impl From<IpAddr> for Element {
    fn from(address: IpAddr) -> Self {
        Element { address, port: 0 }
    }
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainName {
    /// Of a policy. The text is its key, or a hash of one that is too long.
    Policy(Direction, Arc<str>),
    /// Of the isolated pod that has this address.
    Pod(Direction, IpAddr),
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainName::Policy(Direction::Ingress, key) => write!(f, "ingress-policy/{key}"),
            ChainName::Policy(Direction::Egress, key) => write!(f, "egress-policy/{key}"),
            ChainName::Pod(Direction::Ingress, address) => write!(f, "ingress/{}", plain(*address)),
            ChainName::Pod(Direction::Egress, address) => write!(f, "egress/{}", plain(*address)),
        }
    }
}

/// An address as part of a name: names have no colons.
fn plain(address: IpAddr) -> String {
    address.to_string().replace(':', "-")
}

/// What a chain does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Lets through what any of these lines says, for pods that packets go to or come from.
    Accepts(Direction, Vec<Line>),
    /// Asks these policies' chains one after another; then drops.
    Asks(Vec<ChainName>),
}

impl Chain {
    fn rules(&self, families: &[Family]) -> Vec<String> {
        match self {
            Chain::Accepts(direction, lines) => {
                lines.iter().flat_map(|line| spelt(*direction, line, families)).collect()
            }
            Chain::Asks(policies) => {
                let asks = policies.iter().map(|chain| format!("jump {chain}"));
                asks.chain(["counter drop".to_owned()]).collect()
            }
        }
    }
}

fn ranges<T: fmt::Display + PartialEq>(ranges: &[Range<T>]) -> String {
    let texts: Vec<String> = ranges
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    format!("{{ {} }}", texts.join(", "))
}

/// The rules that say what a line says: one for each family, where it speaks of addresses.
fn spelt(direction: Direction, line: &Line, families: &[Family]) -> Vec<String> {
    if matches!(line.peers, Peers::Any) && !matches!(line.ports, Ports::Named(..)) {
        return rule(direction, line, Family::V4).into_iter().collect();
    }
    families.iter().filter_map(|family| rule(direction, line, *family)).collect()
}

/// What a line says of packets of a family, if anything.
fn rule(direction: Direction, Line { peers, ports }: &Line, family: Family) -> Option<String> {
    let ip = family.nft();
    let peer = match direction {
        Direction::Ingress => "saddr",
        Direction::Egress => "daddr",
    };
    let mut words = Vec::new();
    match peers {
        Peers::Any => {}
        Peers::Pods(pods) => {
            words.push(format!("{ip} {peer} @{}", SetName::Pods(pods.id.clone()).of(family)))
        }
        Peers::Addresses(blocks) => {
            let blocks: Vec<_> =
                blocks.iter().filter(|(first, _)| Family::of(*first) == family).copied().collect();
            if blocks.is_empty() {
                return None;
            }
            words.push(format!("{ip} {peer} {}", ranges(&blocks)));
        }
    }
    match ports {
        Ports::Any => {}
        Ports::Protocol(protocol) => words.push(format!("meta l4proto {}", protocol.name())),
        Ports::Numbers(protocol, numbers) => {
            words.push(format!("{} dport {}", protocol.name(), ranges(numbers)));
        }
        Ports::Named(protocol, name) => {
            let set = SetName::Ports(*protocol, name.clone()).of(family);
            words.push(format!("{ip} daddr . {} dport @{set}", protocol.name()));
        }
    }
    words.push("accept".to_owned());
    Some(words.join(" "))
}

/// The table as it is to be, and what of it the kernel doesn't have yet.
#[derive(Debug)]
pub struct Table {
    /// The families that pods have addresses of.
    families: &'static [Family],
    sets: BTreeMap<SetName, BTreeSet<Element>>,
    chains: BTreeMap<ChainName, Chain>,
    pending: Pending,
    writes: u64,
}

/// What the kernel has, of all that was touched since the last transaction.
#[derive(Debug, Default)]
struct Pending {
    sets: BTreeMap<SetName, bool>,
    elements: BTreeMap<(SetName, Element), bool>,
    chains: BTreeMap<ChainName, Option<Chain>>,
}

impl Table {
    /// A table without policies, for pods that have addresses of these families.
    pub fn new(families: &'static [Family]) -> Self {
        let sets = SetName::FIXED.into_iter().map(|set| (set, BTreeSet::new())).collect();
        Table { families, sets, chains: BTreeMap::new(), pending: Pending::default(), writes: 0 }
    }

    /// The families that pods have addresses of.
    pub fn families(&self) -> &'static [Family] {
        self.families
    }

    /// How often something was changed; grows with every change.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// The elements of a set; none where there is no such set.
    pub fn elements(&self, set: &SetName) -> impl Iterator<Item = Element> + '_ {
        self.sets.get(set).into_iter().flatten().copied()
    }

    /// Whether a set has an element.
    pub fn has(&self, set: &SetName, element: Element) -> bool {
        self.sets.get(set).is_some_and(|elements| elements.contains(&element))
    }

    /// A chain.
    pub fn chain(&self, name: &ChainName) -> Option<&Chain> {
        self.chains.get(name)
    }

    /// How many sets, elements and chains there are.
    pub fn size(&self) -> (usize, usize, usize) {
        (self.sets.len(), self.sets.values().map(BTreeSet::len).sum(), self.chains.len())
    }

    /// Makes an empty set, unless it is there.
    pub fn add_set(&mut self, set: &SetName) {
        if !self.sets.contains_key(set) {
            self.writes += 1;
            self.pending.sets.entry(set.clone()).or_insert(false);
            self.sets.insert(set.clone(), BTreeSet::new());
        }
    }

    /// Takes a set out, with its elements.
    pub fn remove_set(&mut self, set: &SetName) {
        if let Some(elements) = self.sets.remove(set) {
            self.writes += 1;
            self.pending.sets.entry(set.clone()).or_insert(true);
            for element in elements {
                self.pending.elements.entry((set.clone(), element)).or_insert(true);
            }
        }
    }

    /// Puts an element in, or takes it out, as `there` says. Nothing happens where there is no such set.
    pub fn set_element(&mut self, set: &SetName, element: Element, there: bool) {
        let Some(elements) = self.sets.get_mut(set) else { return };
        let changed = if there { elements.insert(element) } else { elements.remove(&element) };
        if changed {
            self.writes += 1;
            self.pending.elements.entry((set.clone(), element)).or_insert(!there);
        }
    }

    /// The elements of a set of ports that are of this address.
    pub fn ports_of(&self, set: &SetName, address: IpAddr) -> Vec<Element> {
        let (first, last) = (Element { address, port: 0 }, Element { address, port: u16::MAX });
        self.sets.get(set).map(|elements| elements.range(first..=last).copied().collect()).unwrap_or_default()
    }

    /// Puts a chain in, in place of the one that is there, or takes it out.
    pub fn set_chain(&mut self, name: ChainName, chain: Option<Chain>) {
        if self.chains.get(&name) == chain.as_ref() {
            return;
        }
        self.writes += 1;
        let before = match chain {
            Some(chain) => self.chains.insert(name.clone(), chain),
            None => self.chains.remove(&name),
        };
        self.pending.chains.entry(name).or_insert(before);
    }

    /// What brings the kernel from the last transaction to now, for `nft -f`; empty when nothing does.
    pub fn take_changes(&mut self) -> String {
        let pending = std::mem::take(&mut self.pending);
        let mut commands = Commands::new(TABLE);
        for (set, had) in &pending.sets {
            for family in self.families {
                match (had, self.sets.contains_key(set)) {
                    (false, true) => {
                        commands.declare(set.keyword(), &set.of(*family), &set.body(*family));
                    }
                    (true, false) => commands.delete_map(set.keyword(), &set.of(*family)),
                    _ => {}
                }
            }
        }
        for ((set, element), had) in &pending.elements {
            let has = self.has(set, *element);
            let (spelt, value) = set.spell(*element);
            let name = set.of(Family::of(element.address));
            match (had, has) {
                (false, true) => commands.add_element(&name, spelt, &value),
                // Elements of a set that goes go with it.
                (true, false) if self.sets.contains_key(set) => commands.delete_element(&name, spelt),
                _ => {}
            }
        }
        for (name, before) in &pending.chains {
            match self.chains.get(name) {
                Some(chain) if before.as_ref() != Some(chain) => {
                    if before.is_none() {
                        commands.declare_chain(&name.to_string());
                    }
                    commands.write_chain(&name.to_string(), before.is_some(), &chain.rules(self.families));
                }
                None if before.is_some() => commands.delete_chain(&name.to_string()),
                _ => {}
            }
        }
        commands.text()
    }

    /// The whole table, in place of whatever the kernel has; `bridge` is the pods'. Nothing is pending afterwards.
    pub fn take_all(&mut self, bridge: &str) -> String {
        self.pending = Pending::default();
        let mut commands = Commands::new(TABLE);
        for (set, elements) in &self.sets {
            for family in self.families.iter().filter(|_| !set.is_fixed()) {
                commands.declare(set.keyword(), &set.of(*family), &set.body(*family));
            }
            for element in elements {
                let (spelt, value) = set.spell(*element);
                commands.add_element(&set.of(Family::of(element.address)), spelt, &value);
            }
        }
        for (name, chain) in &self.chains {
            commands.declare_chain(&name.to_string());
            commands.write_chain(&name.to_string(), false, &chain.rules(self.families));
        }
        format!("{}{}", base(bridge, self.families), commands.text())
    }
}

/// The table without policies: the sets that are always there, and the chains on the kernel's hooks.
///
/// What is accepted here goes on to the next hook's chain: first the sender's node asks the sender's policies, then
/// the receiver's node asks the receiver's; for pods of one node that is twice here.
fn base(bridge: &str, families: &[Family]) -> String {
    let mut commands = Commands::new(TABLE);
    for set in &SetName::FIXED {
        for family in families {
            commands.declare(set.keyword(), &set.of(*family), &set.body(*family));
        }
    }
    let within = format!("iifname \"{bridge}\" oifname \"{bridge}\"");
    let known = || vec!["ct state established,related accept".to_owned()];
    let mut egress = Vec::new();
    let mut ingress = Vec::new();
    if families.contains(&Family::V6) {
        // Who has an address is asked by packets that a switch carries, and none of them is a connection.
        let asked = format!("{within} icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept");
        egress.push(asked.clone());
        ingress.push(asked);
        // By addresses that no policy knows, pods of one bridge would reach one another past every policy.
        egress.push(format!("{within} ip6 saddr fe80::/10 drop"));
        egress.push(format!("{within} ip6 daddr {{ fe80::/10, ff00::/8 }} drop"));
    } else {
        egress.push(format!("meta nfproto ipv6 {within} drop"));
    }
    let mut input = known();
    egress.extend(known());
    ingress.extend(known());
    for family in families {
        let ip = family.nft();
        let [to, from] = [Direction::Ingress, Direction::Egress].map(|d| SetName::Isolated(d).of(*family));
        let itself = format!("{ip} saddr . {ip} daddr @{} accept", SetName::Selves.of(*family));
        egress.extend([itself.clone(), format!("{ip} saddr vmap @{from}")]);
        ingress.extend([itself, format!("{ip} daddr vmap @{to}")]);
        // To the node itself: only where it stands for somebody else.
        input.push(format!("{ip} daddr @{} {ip} saddr vmap @{from}", SetName::Served.of(*family)));
    }
    let hooks = [
        ("forward-egress", "forward priority -2", egress),
        ("forward-ingress", "forward priority -1", ingress),
        ("input-egress", "input priority -1", input),
    ];
    let mut chains = String::new();
    for (name, hook, rules) in hooks {
        let _ = writeln!(chains, "add chain {TABLE} {name} {{ type filter hook {hook}; policy accept; }}");
        for rule in rules {
            let _ = writeln!(chains, "add rule {TABLE} {name} {rule}");
        }
    }
    format!("{}{}{chains}", emptied(TABLE), commands.text())
}
