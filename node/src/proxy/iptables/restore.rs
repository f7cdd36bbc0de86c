//! What is told to `iptables-restore --noflush`: changes, everything, or an end. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::compile::{Fragment, compile};
use super::names::{CANARY, COMMENT, MARK, OURS, Own, Shared, Table};
use crate::family::Family;
use crate::proxy::facts::NodeFacts;
use crate::proxy::ledger::{Changes, Ledger};
use crate::proxy::plan::ServicePlan;
use crate::proxy::{MASQUERADE_MARK, ServiceKey};

/// What the canary does: nothing.
const CANARY_RULE: &str = "-j RETURN";

/// Whether the canary lives, by what `iptables -S` says of it.
pub fn lives(listing: &str) -> bool {
    listing.lines().any(|line| line.trim() == format!("-A {CANARY} {CANARY_RULE}"))
}

/// Chains that are written, or removed, in one run: what `iptables-restore` takes for a run grows with the square of their
/// number.
const CHAINS_PER_RUN: usize = 2000;

/// What changes in one table.
#[derive(Debug, Default)]
struct Block {
    /// Chains that are made, or emptied where they are there.
    declared: BTreeSet<String>,
    /// Rules that go from chains which stay as they are otherwise.
    deleted: Vec<String>,
    /// Rules that come.
    added: Vec<String>,
    /// Chains that go, of those that were emptied.
    dropped: Vec<String>,
}

impl Block {
    fn write(&self, table: Table, text: &mut String) {
        if self.declared.is_empty() && self.deleted.is_empty() && self.added.is_empty() {
            return;
        }
        let _ = writeln!(text, "*{}", table.name());
        for chain in &self.declared {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for line in self.deleted.iter().chain(&self.added) {
            let _ = writeln!(text, "{line}");
        }
        for chain in &self.dropped {
            let _ = writeln!(text, "-X {chain}");
        }
        text.push_str("COMMIT\n");
    }

    /// The chain that others jump to for masquerading.
    fn mark(&mut self) {
        self.chain(MARK, &[format!("-j MARK --set-xmark {MASQUERADE_MARK}/{MASQUERADE_MARK}")]);
    }

    /// All of another.
    fn join(&mut self, other: Block) {
        self.declared.extend(other.declared);
        self.deleted.extend(other.deleted);
        self.added.extend(other.added);
        self.dropped.extend(other.dropped);
    }

    /// Takes the chains that go out; the runs by which they do, when nothing else leads to them. Each run empties its chains,
    /// so that those of the next are led to by none.
    fn drop_later(&mut self, table: Table) -> Vec<String> {
        let mut chains = std::mem::take(&mut self.dropped);
        chains.sort_by_cached_key(|chain| {
            let own = Own::of(chain);
            (own.is_none(), own)
        });
        // Chains that are no Service's may lead to each other, and Services' chains to them: they are emptied before.
        for chain in chains.iter().filter(|chain| Own::of(chain).is_some()) {
            self.declared.remove(chain);
        }
        let run = |chains: &[String]| {
            let block = Block {
                declared: chains.iter().cloned().collect(),
                dropped: chains.to_vec(),
                ..Block::default()
            };
            let mut text = String::new();
            block.write(table, &mut text);
            text
        };
        chains.chunks(CHAINS_PER_RUN).map(run).collect()
    }

    /// What a run about Services' own chains is told, whether or not there was one before.
    fn run_of_its_own(mut self) -> String {
        self.mark();
        let mut text = String::new();
        self.write(Table::Nat, &mut text);
        text
    }

    /// A chain has exactly these rules.
    fn chain(&mut self, name: &str, rules: &[String]) {
        self.declared.insert(name.to_owned());
        self.added.extend(rules.iter().map(|rule| format!("-A {name} {rule}")));
    }
}

/// What changes in both tables.
#[derive(Debug, Default)]
struct Blocks(BTreeMap<Table, Block>);

impl Blocks {
    fn of(&mut self, table: Table) -> &mut Block {
        self.0.entry(table).or_default()
    }

    /// What changes, and what goes afterwards where that is very much.
    fn runs(mut self) -> Vec<String> {
        let dropped = self.0.iter_mut().filter(|(_, block)| block.dropped.len() > CHAINS_PER_RUN);
        let later: Vec<String> = dropped.flat_map(|(table, block)| block.drop_later(*table)).collect();
        let mut runs = vec![self.text()];
        runs.extend(later);
        runs.retain(|run| !run.is_empty());
        runs
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // A table is changed at once, but one after the other: clients are let in before others are refused.
        for (table, block) in &self.0 {
            block.write(*table, &mut text);
        }
        text
    }
}

/// A change of the kernel's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What `iptables-restore` is told, one run after the other; none when nothing changes. Only very large changes need
    /// several: first they write chains that belong to one Service each, then what leads to them, and last those chains go to
    /// which nothing leads any more.
    pub runs: Vec<String>,
    /// The services whose rules change.
    pub keys: Vec<ServiceKey>,
}

/// The desired rules of one family, and what of them the kernel doesn't have yet.
#[derive(Debug)]
pub struct Rules {
    family: Family,
    ledger: Ledger<Fragment>,
}

impl Rules {
    /// Nothing yet.
    pub fn new(family: Family) -> Self {
        Rules { family, ledger: Ledger::default() }
    }

    /// The family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether no Service has rules.
    pub fn is_empty(&self) -> bool {
        self.ledger.is_empty()
    }

    /// Writes a Service's plan down; an empty one removes it.
    pub fn set(&mut self, key: &ServiceKey, plan: &ServicePlan, facts: &NodeFacts) {
        self.ledger.set(key, compile(plan, self.family, facts));
    }

    /// What brings the kernel from the last transaction to now.
    pub fn take_changes(&mut self) -> Transaction {
        let changes = self.ledger.take_changes();
        self.transaction(changes, Blocks::default())
    }

    /// Everything, in place of what `iptables-save` says that there is of ours.
    pub fn take_all(&mut self, facts: &NodeFacts, saved: &str) -> Transaction {
        let changes = self.ledger.take_all();
        let mut blocks = Blocks::default();
        let leftovers = leftovers(saved);
        for (table, jump) in &leftovers.jumps {
            blocks.of(*table).deleted.push(jump.clone());
        }
        base(facts, self.family, &mut blocks);
        let parts = self.ledger.keys().filter_map(|key| self.ledger.part(key));
        let wanted: BTreeSet<&String> = parts.flat_map(|part| part.chains.keys()).collect();
        for (table, chain) in leftovers.chains {
            let block = blocks.of(table);
            if !wanted.contains(&chain) && block.declared.insert(chain.clone()) {
                block.dropped.push(chain);
            }
        }
        self.transaction(changes, blocks)
    }

    /// Puts changes beside what `blocks` already say.
    fn transaction(&self, changes: Changes<Fragment>, mut blocks: Blocks) -> Transaction {
        let none = Fragment::default();
        let mut runs = Vec::new();
        let mut own = Block::default();
        let mut keys = Vec::with_capacity(changes.parts.len());
        for (key, old) in changes.parts {
            let new = self.ledger.part(&key).unwrap_or(&none);
            for (name, rules) in
                new.chains.iter().filter(|(name, rules)| old.chains.get(*name) != Some(rules))
            {
                own.chain(name, rules);
            }
            let nat = blocks.of(Table::Nat);
            for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
                nat.declared.insert(name.clone());
                nat.dropped.push(name.clone());
            }
            keys.push(key);
            if own.declared.len() > CHAINS_PER_RUN {
                runs.push(std::mem::take(&mut own).run_of_its_own());
            }
        }
        if runs.is_empty() {
            blocks.of(Table::Nat).join(own);
        } else {
            runs.push(own.run_of_its_own());
        }
        let mut shared: Vec<_> = changes
            .shared
            .into_iter()
            .map(|(place, old)| (self.ledger.element(&place), place, old))
            .collect();
        // iptables-restore keeps the chains that it meets in a list by name, and looks through it from its head: with the
        // last first, each finds its place at once, and not after all others.
        shared.sort_by(|one, other| (other.0, &other.2).cmp(&(one.0, &one.2)));
        for (new, (chain, matching), old) in shared {
            let block = blocks.of(chain.table());
            if let Some(target) = old {
                block.deleted.push(format!("-D {} {matching} {target}", chain.name()));
            }
            if let Some(target) = new {
                block.added.push(format!("-A {} {matching} {target}", chain.name()));
            }
        }
        runs.extend(blocks.runs());
        Transaction { runs, keys }
    }
}

/// What is there without any Service: the shared chains, and the ways to them.
fn base(facts: &NodeFacts, family: Family, blocks: &mut Blocks) {
    for shared in Shared::ALL {
        blocks.of(shared.table()).declared.insert(shared.name().to_owned());
    }
    let mut dispatch = vec![format!("-j {}", Shared::Services.name())];
    dispatch.extend(at_node(facts, family, Shared::NodePorts.name()));
    let nat = blocks.of(Table::Nat);
    nat.mark();
    nat.chain("TROUPE-DISPATCH", &dispatch);
    nat.chain(
        "TROUPE-POSTROUTING",
        &[
            format!("-m mark ! --mark {MASQUERADE_MARK}/{MASQUERADE_MARK} -j RETURN"),
            format!("-j MARK --set-xmark {MASQUERADE_MARK}/0x0"),
            "-j MASQUERADE --random-fully".to_owned(),
        ],
    );
    for table in Table::ALL {
        blocks.of(table).chain(CANARY, &[CANARY_RULE.to_owned()]);
    }
    let nat = blocks.of(Table::Nat);
    let jump = |from: &str, to: &str| format!("-I {from} -m comment --comment \"{COMMENT}\" -j {to}");
    nat.added.extend([
        jump("PREROUTING", "TROUPE-DISPATCH"),
        jump("OUTPUT", "TROUPE-DISPATCH"),
        jump("POSTROUTING", "TROUPE-POSTROUTING"),
    ]);

    let on_new = |rule: &str| format!("-m conntrack --ctstate NEW {rule}");
    let to = |shared: Shared| on_new(&format!("-j {}", shared.name()));
    let node_ports: Vec<String> =
        at_node(facts, family, Shared::UnansweredNodePorts.name()).iter().map(|rule| on_new(rule)).collect();
    let filter = blocks.of(Table::Filter);
    filter.chain("TROUPE-STRAYS", &strays(facts, family));
    let mut input = vec![to(Shared::Firewall), to(Shared::Unanswered)];
    input.extend(node_ports.iter().cloned());
    filter.chain("TROUPE-INPUT", &input);
    let stray = on_new("-j TROUPE-STRAYS");
    let forward = [
        to(Shared::Firewall),
        to(Shared::Unanswered),
        stray.clone(),
        // Where the default is to drop (Docker's is), what was sent on here is to pass, and so are the answers.
        format!("-m mark --mark {MASQUERADE_MARK}/{MASQUERADE_MARK} -j ACCEPT"),
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT".to_owned(),
    ];
    filter.chain("TROUPE-FORWARD", &forward);
    let mut output = vec![to(Shared::Firewall), to(Shared::Unanswered)];
    output.extend(node_ports);
    output.push(stray);
    filter.chain("TROUPE-OUTPUT", &output);
    filter.added.extend([
        jump("INPUT", "TROUPE-INPUT"),
        jump("FORWARD", "TROUPE-FORWARD"),
        jump("OUTPUT", "TROUPE-OUTPUT"),
    ]);
}

/// Rules that lead from the node's own addresses to a chain.
fn at_node(facts: &NodeFacts, family: Family, chain: &str) -> Vec<String> {
    let nets: Vec<_> = facts.node_port_addresses.iter().filter(|net| family.has(net)).collect();
    if nets.is_empty() {
        // The loopback addresses would need route_localnet, which opens a hole for neighbours on the network.
        let loopback = if family == Family::V4 { "127.0.0.0/8" } else { "::1" };
        return vec![format!("! -d {loopback} -m addrtype --dst-type LOCAL -j {chain}")];
    }
    nets.iter().map(|net| format!("-d {net} -m addrtype --dst-type LOCAL -j {chain}")).collect()
}

/// What refuses addresses of Services that no Service has, or not at this port.
fn strays(facts: &NodeFacts, family: Family) -> Vec<String> {
    let served = facts.served_here.iter().filter(|ip| Family::of(**ip) == family);
    let unused = facts.service_cidrs.iter().filter(|net| family.has(net));
    served
        .map(|ip| format!("-d {ip} -j RETURN"))
        .chain(unused.map(|net| format!("-d {net} -j REJECT")))
        .collect()
}

/// What there is of ours.
#[derive(Debug, Default, PartialEq, Eq)]
struct Leftovers {
    /// What deletes the jumps into our chains from others.
    jumps: Vec<(Table, String)>,
    /// Our chains.
    chains: Vec<(Table, String)>,
}

/// Finds what is ours in what `iptables-save` says.
fn leftovers(saved: &str) -> Leftovers {
    let mut found = Leftovers::default();
    let mut table = None;
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = Table::ALL.into_iter().find(|table| table.name() == name);
            continue;
        }
        let Some(table) = table else { continue };
        if let Some(chain) = line.strip_prefix(':') {
            let name = chain.split(' ').next().unwrap_or_default();
            if name.starts_with(OURS) {
                found.chains.push((table, name.to_owned()));
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let leads_to_us = rule.contains(&format!(" -j {OURS}")) || rule.contains(&format!(" -g {OURS}"));
            if leads_to_us && !rule.starts_with(OURS) {
                found.jumps.push((table, format!("-D {rule}")));
            }
        }
    }
    found
}

/// The runs that remove everything of ours that `iptables-save` says there is; none when that is nothing.
pub fn end(saved: &str) -> Vec<String> {
    let mut blocks = Blocks::default();
    let leftovers = leftovers(saved);
    for (table, jump) in leftovers.jumps {
        blocks.of(table).deleted.push(jump);
    }
    for (table, chain) in leftovers.chains {
        let block = blocks.of(table);
        block.declared.insert(chain.clone());
        block.dropped.push(chain);
    }
    blocks.runs()
}

#[cfg(test)]
mod tests;
