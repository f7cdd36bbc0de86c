//! What chains say, in nftables' words: those of policies and pods, and those on the kernel's hooks that lead there.

use std::fmt::{self, Write as _};

use super::TABLE;
use super::names::{ChainName, SetName};
use crate::family::Family;
use crate::nft::commands::{Commands, emptied};
use crate::policy::rules::{Direction, Line, Peers, Ports, Range};

/// What a chain does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Lets through what any of these lines says, for pods that packets go to or come from.
    Accepts(Direction, Vec<Line>),
    /// Asks these policies' chains one after another; then drops.
    Asks(Vec<ChainName>),
}

impl Chain {
    pub(super) fn rules(&self, families: &[Family]) -> Vec<String> {
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
pub(super) fn spelt(direction: Direction, line: &Line, families: &[Family]) -> Vec<String> {
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

/// The table without policies: the sets that are always there, and the chains on the kernel's hooks.
///
/// What is accepted here goes on to the next hook's chain: first the sender's node asks the sender's policies, then
/// the receiver's node asks the receiver's; for pods of one node that is twice here.
pub(super) fn base(bridge: &str, families: &[Family]) -> String {
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
