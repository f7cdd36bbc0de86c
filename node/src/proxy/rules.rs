//! All services' fragments together, and what changed since the last transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::compile::{Fragment, Shared};
use super::conntrack::{Flow, stale_flows};
use super::facts::NodeFacts;
use super::health::{Check, Checks};
use crate::nft::commands::{Commands, emptied};

/// The table that everything lies in.
pub const TABLE: &str = "ip troupe";

/// The packet mark that asks for masquerading; the same bit that kube-proxy uses.
const MASQUERADE_MARK: &str = "0x4000";

/// `namespace/name` of a Service.
pub type ServiceKey = Arc<str>;

/// A change of the kernel's rules, ready for `nft -f`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The commands; empty when nothing changes.
    pub text: String,
    /// The services whose rules change.
    pub keys: Vec<ServiceKey>,
    /// UDP flows to forget afterwards.
    pub flows: BTreeSet<Flow>,
}

/// The desired rule set, and what of it the kernel doesn't have yet.
#[derive(Debug, Default)]
pub struct Rules {
    fragments: BTreeMap<ServiceKey, Fragment>,
    /// Who wants which shared element. Two services may want the same (an external IP): the first by name
    /// has it, and the next inherits it.
    shared: BTreeMap<(Shared, String), BTreeMap<ServiceKey, String>>,
    /// What is asked at health-check node ports.
    checks: Checks,
    pending: Pending,
}

/// What the kernel still has, of everything that changed since the last transaction.
#[derive(Debug, Default)]
struct Pending {
    fragments: BTreeMap<ServiceKey, Option<Fragment>>,
    shared: BTreeMap<(Shared, String), Option<String>>,
}

impl Rules {
    /// The present fragment of a service, for its successor's slots.
    pub fn fragment(&self, key: &str) -> Option<&Fragment> {
        self.fragments.get(key)
    }

    /// How many services have rules.
    pub fn len(&self) -> usize {
        self.fragments.len()
    }

    /// Whether no service has rules.
    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// What is asked at health-check node ports.
    pub fn checks(&self) -> &Checks {
        &self.checks
    }

    /// The services that have rules.
    pub fn keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.fragments.keys()
    }

    /// Replaces a service's part; an empty fragment removes it.
    pub fn set(&mut self, key: &ServiceKey, fragment: Fragment) {
        let old = self.fragments.get(key);
        if old.map_or(fragment == Fragment::default(), |old| *old == fragment) {
            return;
        }
        if let Some((port, _)) = old.and_then(|f| f.health)
            && self.checks.get(&port).is_some_and(|check| check.service == *key)
        {
            self.checks.remove(&port);
        }
        if let Some((port, local)) = fragment.health {
            self.checks.insert(port, Check { service: key.clone(), local });
        }
        let old_shared = old.map(|f| f.shared.clone()).unwrap_or_default();
        self.pending.fragments.entry(key.clone()).or_insert_with(|| old.cloned());
        for element in old_shared.keys().chain(fragment.shared.keys()) {
            let effective = self.shared.get(element).and_then(|w| w.values().next()).cloned();
            self.pending.shared.entry(element.clone()).or_insert(effective);
        }
        for element in old_shared.keys() {
            if let Some(wanting) = self.shared.get_mut(element) {
                wanting.remove(key);
                if wanting.is_empty() {
                    self.shared.remove(element);
                }
            }
        }
        for (element, value) in &fragment.shared {
            self.shared.entry(element.clone()).or_default().insert(key.clone(), value.clone());
        }
        if fragment == Fragment::default() {
            self.fragments.remove(key);
        } else {
            self.fragments.insert(key.clone(), fragment);
        }
    }

    /// What to tell the kernel to bring it from the last transaction to now.
    pub fn take_changes(&mut self) -> Transaction {
        let pending = std::mem::take(&mut self.pending);
        let mut commands = Commands::new(TABLE);
        let mut flows = BTreeSet::new();
        let mut keys = Vec::new();
        let none = Fragment::default();
        for (key, old) in &pending.fragments {
            let (old, new) = (old.as_ref().unwrap_or(&none), self.fragments.get(key).unwrap_or(&none));
            if old != new {
                fragment(&mut commands, old, new);
                flows.extend(stale_flows(&old.udp, &new.udp));
                keys.push(key.clone());
            }
        }
        for (element, old) in pending.shared {
            let new = self.shared.get(&element).and_then(|w| w.values().next());
            if old.as_ref() != new {
                let (map, element) = element;
                if old.is_some() {
                    commands.delete_element(map.name(), element.clone());
                }
                if let Some(value) = new {
                    commands.add_element(map.name(), element, value);
                }
            }
        }
        Transaction { text: commands.text(), keys, flows }
    }

    /// The whole rule set, replacing whatever the kernel has. Nothing is pending afterwards.
    pub fn take_all(&mut self, facts: &NodeFacts) -> Transaction {
        self.pending = Pending::default();
        let mut commands = Commands::new(TABLE);
        let none = Fragment::default();
        let mut flows = BTreeSet::new();
        for part in self.fragments.values() {
            fragment(&mut commands, &none, part);
            flows.extend(stale_flows(&none.udp, &part.udp));
        }
        for ((map, element), wanting) in &self.shared {
            if let Some(value) = wanting.values().next() {
                commands.add_element(map.name(), element.clone(), value);
            }
        }
        let text = format!("{}{}", base(facts), commands.text());
        Transaction { text, keys: self.fragments.keys().cloned().collect(), flows }
    }
}

/// What brings the kernel from one state of a service's part to the next.
fn fragment(commands: &mut Commands, old: &Fragment, new: &Fragment) {
    for (name, map) in &new.private {
        let same = old.private.get(name).filter(|o| o.declaration == map.declaration);
        if same.is_none() {
            if let Some(old_map) = old.private.get(name) {
                // A changed declaration (an affinity's timeout): the kernel can't alter it in place.
                let using = old.chains.iter().filter(|(_, rules)| rules.iter().any(|r| refers(r, name)));
                commands.withdraw(old_map.declaration.kind, name, using.map(|(chain, _)| chain));
            }
            commands.declare(map.declaration.kind, name, &map.declaration.body);
        }
        let before = same.map(|o| &o.elements);
        for (element, value) in &map.elements {
            let had = before.and_then(|b| b.get(element));
            if had.is_some_and(|v| v != value) {
                commands.delete_element(name, element.clone());
            }
            if had != Some(value) {
                commands.add_element(name, element.clone(), value);
            }
        }
        for element in before.into_iter().flat_map(|b| b.keys()).filter(|e| !map.elements.contains_key(*e)) {
            commands.delete_element(name, element.clone());
        }
    }
    // Chains that use a rebuilt map were flushed for it, so they are written again.
    let rebuilt: Vec<&String> = old
        .private
        .iter()
        .filter(|(n, o)| new.private.get(*n).is_some_and(|m| m.declaration != o.declaration))
        .map(|(n, _)| n)
        .collect();
    for (name, rules) in &new.chains {
        let before = old.chains.get(name);
        if before.is_none() {
            commands.declare_chain(name);
        }
        let touched = before.is_some_and(|rules| rules.iter().any(|r| rebuilt.iter().any(|m| refers(r, m))));
        if before != Some(rules) || touched {
            commands.write_chain(name, before.is_some(), rules);
        }
    }
    for name in old.chains.keys().filter(|n| !new.chains.contains_key(*n)) {
        commands.delete_chain(name);
    }
    for (name, map) in old.private.iter().filter(|(n, _)| !new.private.contains_key(*n)) {
        // A verdict map's elements hold on to chains: they go first.
        if map.declaration.body.contains("verdict") {
            for element in map.elements.keys() {
                commands.delete_element(name, element.clone());
            }
        }
        commands.delete_map(map.declaration.kind, name);
    }
}

fn refers(rule: &str, map: &str) -> bool {
    rule.split([' ', '@']).any(|word| word == map)
}

/// The empty table: shared sets and maps, and the chains on the kernel's hooks.
fn base(facts: &NodeFacts) -> String {
    let mut text = emptied(TABLE);
    for shared in Shared::ALL {
        let declaration = shared.declaration();
        let _ =
            writeln!(text, "add {} {TABLE} {} {{ {} }}", declaration.kind, shared.name(), declaration.body);
    }
    let mut chain = |name: &str, hook: &str, rules: &[String]| {
        let hook =
            if hook.is_empty() { String::new() } else { format!(" {{ type {hook}; policy accept; }}") };
        let _ = writeln!(text, "add chain {TABLE} {name}{hook}");
        for rule in rules {
            let _ = writeln!(text, "add rule {TABLE} {name} {rule}");
        }
    };
    let lines = |rules: &[&str]| rules.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>();
    let by_address = "ip daddr . meta l4proto . th dport vmap";
    let by_port = "meta l4proto . th dport vmap";
    // The loopback addresses would need route_localnet, which opens a hole for neighbours on the network.
    let local = match facts.node_port_addresses.as_slice() {
        [] => "fib daddr type local ip daddr != 127.0.0.0/8".to_owned(),
        nets => {
            let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
            format!("fib daddr type local ip daddr {{ {} }}", nets.join(", "))
        }
    };

    chain("refuse", "", &lines(&["reject"]));
    chain("mark-for-masquerade", "", &[format!("meta mark set meta mark or {MASQUERADE_MARK}")]);
    let mut dispatch = Vec::new();
    if let Some(cidr) = facts.cluster_cidr {
        dispatch.push(format!("ip saddr != {cidr} ip daddr @cluster-ips jump mark-for-masquerade"));
    }
    dispatch.push(format!("{by_address} @services"));
    dispatch.push(format!("{local} {by_port} @node-ports"));
    chain("dispatch", "", &dispatch);
    chain("nat-prerouting", "nat hook prerouting priority dstnat", &lines(&["jump dispatch"]));
    chain("nat-output", "nat hook output priority -100", &lines(&["jump dispatch"]));
    chain(
        "nat-postrouting",
        "nat hook postrouting priority srcnat",
        &[
            "ip saddr . ip daddr @hairpins ct status dnat masquerade fully-random".to_owned(),
            format!("meta mark and {MASQUERADE_MARK} == 0 return"),
            format!("meta mark set meta mark xor {MASQUERADE_MARK}"),
            "masquerade fully-random".to_owned(),
        ],
    );

    // Whatever still carries a service's address after the rules above has nobody behind it.
    let mut unanswered = vec![format!("{by_address} @no-endpoints")];
    let mut strays = Vec::new();
    if !facts.served_here.is_empty() {
        let served: Vec<String> = facts.served_here.iter().map(ToString::to_string).collect();
        strays.push(format!("ip daddr {{ {} }} return", served.join(", ")));
    }
    strays.push("ip daddr @cluster-ips goto refuse".to_owned());
    if let Some(cidr) = facts.service_cidr {
        strays.push(format!("ip daddr {cidr} goto refuse"));
    }
    chain("strays", "", &strays);
    chain("unanswered-node-ports", "", &[format!("{local} {by_port} @no-endpoint-node-ports")]);
    unanswered.push("jump strays".to_owned());
    chain("unanswered", "", &unanswered);
    chain("firewall", "", &[format!("{by_address} @firewalls")]);
    let on_new =
        |chains: &[&str]| chains.iter().map(|c| format!("ct state new jump {c}")).collect::<Vec<_>>();
    chain("filter-prerouting", "filter hook prerouting priority -110", &on_new(&["firewall"]));
    let input = [
        format!("ct state new {by_address} @no-endpoints"),
        "ct state new jump unanswered-node-ports".to_owned(),
    ];
    chain("filter-input", "filter hook input priority filter", &input);
    chain("filter-forward", "filter hook forward priority filter", &on_new(&["unanswered"]));
    chain(
        "filter-output",
        "filter hook output priority filter",
        &on_new(&["firewall", "unanswered", "unanswered-node-ports"]),
    );
    text
}

#[cfg(test)]
mod tests;
