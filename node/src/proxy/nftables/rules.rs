//! Both families' rule sets: what plans say, and what changed, as one `nft` transaction. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::base::base;
use super::compile::{Fragment, compile};
use super::words::Words;
use crate::family::Family;
use crate::nft::commands::Commands;
use crate::proxy::ServiceKey;
use crate::proxy::facts::NodeFacts;
use crate::proxy::ledger::{Changes, Ledger};
use crate::proxy::listeners::Listeners;
use crate::proxy::plan::ServicePlan;

/// A change of the kernel's rules, ready for `nft -f`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The commands; empty when nothing changes.
    pub text: String,
    /// The services whose rules change.
    pub keys: BTreeSet<ServiceKey>,
}

/// The desired rule sets, and what of them the kernel doesn't have yet.
#[derive(Debug, Default)]
pub struct Rules {
    v4: Ledger<Fragment>,
    v6: Ledger<Fragment>,
}

impl Rules {
    fn of(&mut self, family: Family) -> &mut Ledger<Fragment> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Writes a Service's plan down; an empty one removes it.
    pub fn set(&mut self, key: &ServiceKey, plan: &ServicePlan, facts: &NodeFacts, listeners: &Listeners) {
        for family in Family::ALL {
            let ledger = self.of(family);
            let fragment = compile(plan, family, facts, listeners, ledger.part(key));
            ledger.set(key, fragment);
        }
    }

    /// What to tell the kernel to bring it from the last transaction to now.
    pub fn take_changes(&mut self) -> Transaction {
        let mut transaction = Transaction::default();
        for family in Family::ALL {
            let ledger = self.of(family);
            let changes = ledger.take_changes();
            write(&mut transaction, ledger, family, changes);
        }
        transaction
    }

    /// The whole rule sets of these families, replacing whatever the kernel has of them. Nothing is pending afterwards.
    pub fn take_all(
        &mut self,
        facts: &NodeFacts,
        families: &[Family],
        proxied: Option<IpAddr>,
    ) -> Transaction {
        let mut transaction = Transaction::default();
        for family in families {
            let proxied = proxied.filter(|ip| Family::of(*ip) == *family);
            transaction.text.push_str(&base(facts, *family, proxied));
            let ledger = self.of(*family);
            let changes = ledger.take_all();
            write(&mut transaction, ledger, *family, changes);
        }
        transaction
    }
}

fn write(
    transaction: &mut Transaction,
    ledger: &Ledger<Fragment>,
    family: Family,
    changes: Changes<Fragment>,
) {
    let mut commands = Commands::new(Words::of(family).table);
    let none = Fragment::default();
    for (key, old) in changes.parts {
        fragment(&mut commands, &old, ledger.part(&key).unwrap_or(&none));
        transaction.keys.insert(key);
    }
    for (place, old) in changes.shared {
        let new = ledger.element(&place);
        let (map, element) = place;
        if old.is_some() {
            commands.delete_element(map.name(), element.clone());
        }
        if let Some(value) = new {
            commands.add_element(map.name(), element, value);
        }
    }
    transaction.text.push_str(&commands.text());
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

#[cfg(test)]
mod tests;
