//! The sets and chains that say what the policies say, and what of them the kernel doesn't have yet. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::family::Family;
use crate::nft::commands::Commands;

use chains::base;

mod chains;
mod names;
#[cfg(test)]
pub(in crate::policy) mod tests;

pub use chains::Chain;
pub use names::{ChainName, Element, SetName};

/// The table that everything lies in.
pub const TABLE: &str = "inet troupe-policy";

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
