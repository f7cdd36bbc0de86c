//! The empty table: shared sets and maps, and the chains on the kernel's hooks. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::words::{Shared, Words};
use crate::family::Family;
use crate::nft::commands::emptied;
use crate::proxy::MASQUERADE_MARK;
use crate::proxy::facts::NodeFacts;

/// Endpoints of one service port that chains for all Services choose among; of more, it has chains of its own.
pub const BALANCED_MAX: usize = 64;
/// Chooses; the number of endpoints follows.
pub const BALANCE: &str = "balance";
/// Chooses, and hides the client.
pub const BALANCE_MARKED: &str = "balance-marked";
/// Chooses for a port of the node, and hides the client.
pub const BALANCE_NODE_PORT: &str = "balance-node-port";

/// Makes one family's table anew, whatever the kernel has of it. `proxied` is the address where programs of this node
/// take connections in endpoints' place, where they do: nobody else may reach it.
pub fn base(facts: &NodeFacts, family: Family, proxied: Option<IpAddr>) -> String {
    let words = Words::of(family);
    let (table, ip) = (words.table, words.ip);
    let mut text = emptied(table);
    for shared in Shared::ALL {
        let declaration = shared.declaration(words);
        let _ =
            writeln!(text, "add {} {table} {} {{ {} }}", declaration.kind, shared.name(), declaration.body);
    }
    let mut chain = |name: &str, hook: &str, rules: &[String]| {
        let hook =
            if hook.is_empty() { String::new() } else { format!(" {{ type {hook}; policy accept; }}") };
        let _ = writeln!(text, "add chain {table} {name}{hook}");
        for rule in rules {
            let _ = writeln!(text, "add rule {table} {name} {rule}");
        }
    };
    let lines = |rules: &[&str]| rules.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>();
    let by_address = format!("{ip} daddr . meta l4proto . th dport vmap");
    let by_port = "meta l4proto . th dport vmap";
    let local = local(facts, family, words);

    chain("refuse", "", &lines(&["reject"]));
    chain("mark-for-masquerade", "", &[format!("meta mark set meta mark or {MASQUERADE_MARK}")]);
    for count in 1..=BALANCED_MAX {
        for (name, rules) in balancers(count, words) {
            chain(&name, "", &rules);
        }
    }
    let mut dispatch = Vec::new();
    if let Some(cidr) = facts.cluster_cidr(family) {
        dispatch.push(format!("{ip} saddr != {cidr} {ip} daddr @cluster-ips jump mark-for-masquerade"));
    }
    dispatch.push(format!("{by_address} @services"));
    dispatch.push(format!("{local} {by_port} @node-ports"));
    chain("dispatch", "", &dispatch);
    chain("nat-prerouting", "nat hook prerouting priority dstnat", &lines(&["jump dispatch"]));
    chain("nat-output", "nat hook output priority -100", &lines(&["jump dispatch"]));
    let mut postrouting = Vec::new();
    // Who stands in for endpoints sees its clients' own addresses.
    postrouting.extend(proxied.map(|proxied| format!("{ip} daddr {proxied} accept")));
    postrouting.extend([
        format!("{ip} saddr . {ip} daddr @hairpins ct status dnat masquerade fully-random"),
        format!("meta mark and {MASQUERADE_MARK} == 0 return"),
        format!("meta mark set meta mark xor {MASQUERADE_MARK}"),
        "masquerade fully-random".to_owned(),
    ]);
    chain("nat-postrouting", "nat hook postrouting priority srcnat", &postrouting);

    // Whatever still carries a service's address after the rules above has nobody behind it.
    chain("strays", "", &strays(facts, family, words));
    chain("unanswered-node-ports", "", &[format!("{local} {by_port} @no-endpoint-node-ports")]);
    chain("unanswered", "", &[format!("{by_address} @no-endpoints"), "jump strays".to_owned()]);
    chain("firewall", "", &[format!("{by_address} @firewalls")]);
    let on_new =
        |chains: &[&str]| chains.iter().map(|c| format!("ct state new jump {c}")).collect::<Vec<_>>();
    chain("filter-prerouting", "filter hook prerouting priority -110", &on_new(&["firewall"]));
    let mut input = Vec::new();
    input.extend(
        proxied.map(|proxied| format!("{ip} daddr {proxied} ct state new ct status & dnat == 0 drop")),
    );
    input.push(format!("ct state new {by_address} @no-endpoints"));
    input.push("ct state new jump unanswered-node-ports".to_owned());
    chain("filter-input", "filter hook input priority filter", &input);
    chain("filter-forward", "filter hook forward priority filter", &on_new(&["unanswered"]));
    chain(
        "filter-output",
        "filter hook output priority filter",
        &on_new(&["firewall", "unanswered", "unanswered-node-ports"]),
    );
    text
}

/// The chains that choose among so many endpoints in the shared maps: for traffic that keeps its source, for traffic
/// that does not, and for traffic that came to a port of the node.
fn balancers(count: usize, words: Words) -> [(String, Vec<String>); 3] {
    let choose = |before: &str, map: Shared| {
        ["tcp", "udp", "sctp"].map(|protocol| {
            format!(
                "meta l4proto {protocol} {} to {before}meta l4proto . th dport . numgen random mod {count} map @{}",
                words.dnat,
                map.name()
            )
        })
    };
    let mark = "jump mark-for-masquerade".to_owned();
    let mut at_node = vec![mark.clone()];
    at_node.extend(choose("", Shared::NodePortEndpoints));
    [
        (format!("{BALANCE}-{count}"), choose(&format!("{} daddr . ", words.ip), Shared::Endpoints).into()),
        (format!("{BALANCE_MARKED}-{count}"), vec![mark, format!("goto {BALANCE}-{count}")]),
        (format!("{BALANCE_NODE_PORT}-{count}"), at_node),
    ]
}

/// What matches the addresses at which node ports answer.
fn local(facts: &NodeFacts, family: Family, words: Words) -> String {
    let Words { ip, loopback, .. } = words;
    let nets: Vec<String> =
        facts.node_port_addresses.iter().filter(|net| family.has(net)).map(ToString::to_string).collect();
    if nets.is_empty() {
        // The loopback addresses would need route_localnet, which opens a hole for neighbours on the network.
        format!("fib daddr type local {ip} daddr != {loopback}")
    } else {
        format!("fib daddr type local {ip} daddr {{ {} }}", nets.join(", "))
    }
}

/// What refuses addresses of Services that no Service has, or not at this port.
fn strays(facts: &NodeFacts, family: Family, words: Words) -> Vec<String> {
    let ip = words.ip;
    let mut rules = Vec::new();
    let served = facts.served_here.iter().filter(|ip| Family::of(**ip) == family);
    let served: Vec<String> = served.map(ToString::to_string).collect();
    if !served.is_empty() {
        rules.push(format!("{ip} daddr {{ {} }} return", served.join(", ")));
    }
    rules.push(format!("{ip} daddr @cluster-ips goto refuse"));
    let unused = facts.service_cidrs.iter().filter(|net| family.has(net));
    rules.extend(unused.map(|net| format!("{ip} daddr {net} goto refuse")));
    rules
}
