//! The sets and chains that say what the policies say, and what of them the kernel doesn't have yet. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::rules::{Direction, Line, Peers, Ports, Protocol, Range};
use crate::nft::commands::{Commands, emptied};

#[cfg(test)]
pub(in crate::policy) mod tests;

/// The table that everything lies in.
pub const TABLE: &str = "inet troupe-policy";

/// A set or map.
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

    /// Keyword and type.
    fn declaration(&self) -> (&'static str, &'static str) {
        match self {
            SetName::Isolated(_) => ("map", "type ipv4_addr : verdict;"),
            SetName::Selves => ("set", "type ipv4_addr . ipv4_addr;"),
            SetName::Served | SetName::Pods(_) => ("set", "type ipv4_addr;"),
            SetName::Ports(..) => ("set", "type ipv4_addr . inet_service;"),
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
    pub address: Ipv4Addr,
    /// Port, or 0.
    pub port: u16,
}

impl From<Ipv4Addr> for Element {
    fn from(address: Ipv4Addr) -> Self {
        Element { address, port: 0 }
    }
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainName {
    /// Of a policy. The text is its key, or a hash of one that is too long.
    Policy(Direction, Arc<str>),
    /// Of the isolated pod that has this address.
    Pod(Direction, Ipv4Addr),
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainName::Policy(Direction::Ingress, key) => write!(f, "ingress-policy/{key}"),
            ChainName::Policy(Direction::Egress, key) => write!(f, "egress-policy/{key}"),
            ChainName::Pod(Direction::Ingress, address) => write!(f, "ingress/{address}"),
            ChainName::Pod(Direction::Egress, address) => write!(f, "egress/{address}"),
        }
    }
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
    fn rules(&self) -> Vec<String> {
        match self {
            Chain::Accepts(direction, lines) => lines.iter().map(|l| rule(*direction, l)).collect(),
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

fn rule(direction: Direction, Line { peers, ports }: &Line) -> String {
    let peer = match direction {
        Direction::Ingress => "ip saddr",
        Direction::Egress => "ip daddr",
    };
    let mut words = Vec::new();
    match peers {
        Peers::Any => {}
        Peers::Pods(pods) => words.push(format!("{peer} @{}", SetName::Pods(pods.id.clone()))),
        Peers::Addresses(blocks) => words.push(format!("{peer} {}", ranges(blocks))),
    }
    match ports {
        Ports::Any => {}
        Ports::Protocol(protocol) => words.push(format!("meta l4proto {}", protocol.name())),
        Ports::Numbers(protocol, numbers) => {
            words.push(format!("{} dport {}", protocol.name(), ranges(numbers)));
        }
        Ports::Named(protocol, name) => {
            let set = SetName::Ports(*protocol, name.clone());
            words.push(format!("ip daddr . {} dport @{set}", protocol.name()));
        }
    }
    words.push("accept".to_owned());
    words.join(" ")
}

/// The table as it is to be, and what of it the kernel doesn't have yet.
#[derive(Debug)]
pub struct Table {
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
    pub fn ports_of(&self, set: &SetName, address: Ipv4Addr) -> Vec<Element> {
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
            let (kind, body) = set.declaration();
            match (had, self.sets.contains_key(set)) {
                (false, true) => commands.declare(kind, &set.to_string(), body),
                (true, false) => commands.delete_map(kind, &set.to_string()),
                _ => {}
            }
        }
        for ((set, element), had) in &pending.elements {
            let has = self.has(set, *element);
            let (spelt, value) = set.spell(*element);
            match (had, has) {
                (false, true) => commands.add_element(&set.to_string(), spelt, &value),
                // Elements of a set that goes go with it.
                (true, false) if self.sets.contains_key(set) => {
                    commands.delete_element(&set.to_string(), spelt)
                }
                _ => {}
            }
        }
        for (name, before) in &pending.chains {
            match self.chains.get(name) {
                Some(chain) if before.as_ref() != Some(chain) => {
                    if before.is_none() {
                        commands.declare_chain(&name.to_string());
                    }
                    commands.write_chain(&name.to_string(), before.is_some(), &chain.rules());
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
            let (kind, body) = set.declaration();
            if !set.is_fixed() {
                commands.declare(kind, &set.to_string(), body);
            }
            for element in elements {
                let (spelt, value) = set.spell(*element);
                commands.add_element(&set.to_string(), spelt, &value);
            }
        }
        for (name, chain) in &self.chains {
            commands.declare_chain(&name.to_string());
            commands.write_chain(&name.to_string(), false, &chain.rules());
        }
        format!("{}{}", base(bridge), commands.text())
    }
}

impl Default for Table {
    /// A table without policies.
    fn default() -> Self {
        let sets = SetName::FIXED.into_iter().map(|set| (set, BTreeSet::new())).collect();
        Table { sets, chains: BTreeMap::new(), pending: Pending::default(), writes: 0 }
    }
}

/// The table without policies: the sets that are always there, and the chains on the kernel's hooks.
///
/// What is accepted here goes on to the next hook's chain: first the sender's node asks the sender's policies, then
/// the receiver's node asks the receiver's; for pods of one node that is twice here.
fn base(bridge: &str) -> String {
    let mut commands = Commands::new(TABLE);
    for set in &SetName::FIXED {
        let (kind, body) = set.declaration();
        commands.declare(kind, &set.to_string(), body);
    }
    let (to, from) = (SetName::Isolated(Direction::Ingress), SetName::Isolated(Direction::Egress));
    let (selves, served) = (SetName::Selves, SetName::Served);
    let known = "ct state established,related accept";
    let itself = format!("ip saddr . ip daddr @{selves} accept");
    let hooks: [(&str, &str, &[String]); 3] = [
        (
            "forward-egress",
            "forward priority -2",
            &[
                format!("meta nfproto ipv6 iifname \"{bridge}\" oifname \"{bridge}\" drop"),
                known.to_owned(),
                itself.clone(),
                format!("ip saddr vmap @{from}"),
            ],
        ),
        (
            "forward-ingress",
            "forward priority -1",
            &[known.to_owned(), itself, format!("ip daddr vmap @{to}")],
        ),
        // To the node itself: only where it stands for somebody else.
        (
            "input-egress",
            "input priority -1",
            &[known.to_owned(), format!("ip daddr @{served} ip saddr vmap @{from}")],
        ),
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
