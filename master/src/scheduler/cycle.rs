//! One scheduling decision: which node, or why none. A pure function of the facts, a pod and a dice throw.

use std::collections::BTreeMap;

use super::facts::Slot;
use super::plugins::{ALL, About, Incoming, Prepared, Rejection};

/// Nodes below which all are looked at; beyond it a part suffices.
const ENOUGH_MIN: usize = 100;

/// Why a node was refused, and by which plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The node.
    pub node: Slot,
    /// The plugin.
    pub plugin: &'static str,
    /// Its reasons.
    pub rejection: Rejection,
}

/// The outcome of a cycle.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Run here.
    Place {
        /// The chosen node.
        node: Slot,
        /// How many nodes were looked at, and how many of them would do.
        evaluated: usize,
        /// See `evaluated`.
        feasible: usize,
    },
    /// There are no nodes at all.
    NoNodes,
    /// No node would do.
    Nowhere(Vec<Refusal>),
    /// A rule has no answer; why not.
    Failed(String),
}

/// A pod's plugins, ready.
pub struct Plan<'a> {
    prepared: Vec<(&'static str, i64, Box<dyn Prepared + 'a>)>,
    /// The first plugin that refuses every node, and why.
    everywhere: Option<(&'static str, String)>,
}

impl<'a> Plan<'a> {
    /// Prepares every plugin for a pod.
    pub fn new(of: Incoming<'a>) -> Self {
        let prepared = ALL.iter().filter_map(|p| p.prepare(of).map(|ready| (p.name(), p.weight(), ready)));
        let prepared: Vec<_> = prepared.collect();
        let everywhere =
            prepared.iter().find_map(|(plugin, _, ready)| ready.everywhere().map(|why| (*plugin, why)));
        Plan { prepared, everywhere }
    }

    /// Whether the pod may run on a node; the first plugin that refuses says why not.
    pub fn filter(&self, node: Slot) -> Result<(), Refusal> {
        if let Some((plugin, why)) = &self.everywhere {
            return Err(Refusal { node, plugin, rejection: Rejection::everywhere(why.clone()) });
        }
        for (plugin, _, ready) in &self.prepared {
            ready.filter(node).map_err(|rejection| Refusal { node, plugin, rejection })?;
        }
        Ok(())
    }

    fn scores(&self, nodes: &[Slot]) -> Vec<i64> {
        let mut totals = vec![0; nodes.len()];
        for (_, weight, ready) in &self.prepared {
            for (total, score) in totals.iter_mut().zip(ready.scores(nodes).unwrap_or_default()) {
                *total += weight * score;
            }
        }
        totals
    }
}

/// How many feasible nodes are enough: all of a small cluster, a shrinking part of a large one.
pub fn enough(nodes: usize) -> usize {
    if nodes <= ENOUGH_MIN {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ENOUGH_MIN)
}

/// Decides where a pod goes. `turn` moves the place where looking begins, so that a part of a large cluster
/// is not always the same part, and breaks ties.
pub fn decide(of: Incoming<'_>, turn: u64) -> Decision {
    let slots: Vec<Slot> = of.facts.slots().collect();
    if slots.is_empty() {
        return Decision::NoNodes;
    }
    let plan = Plan::new(of);
    let wanted = enough(slots.len());
    let start = (turn % slots.len() as u64) as usize;
    let mut feasible = Vec::new();
    let mut refusals = Vec::new();
    for node in slots[start..].iter().chain(&slots[..start]) {
        match plan.filter(*node) {
            Ok(()) => feasible.push(*node),
            Err(Refusal { plugin, rejection, .. }) if rejection.about == About::Error => {
                let why = rejection.reasons.join(", ");
                return Decision::Failed(format!("running {plugin:?} filter plugin: {why}"));
            }
            Err(refusal) => refusals.push(refusal),
        }
        if feasible.len() >= wanted {
            break;
        }
    }
    if feasible.is_empty() {
        return Decision::Nowhere(refusals);
    }
    let evaluated = feasible.len() + refusals.len();
    let count = feasible.len();
    if count == 1 {
        return Decision::Place { node: feasible[0], evaluated, feasible: count };
    }
    let scores = plan.scores(&feasible);
    let best = scores.iter().copied().max().unwrap_or(0);
    let ties: Vec<Slot> =
        feasible.iter().zip(&scores).filter(|(_, s)| **s == best).map(|(n, _)| *n).collect();
    let node = ties[(turn as usize) % ties.len()];
    Decision::Place { node, evaluated, feasible: count }
}

/// The text that people read: how many nodes were refused for what.
pub fn explain(nodes: usize, refusals: &[Refusal]) -> String {
    if let Some(about_pod) = refusals.iter().find(|r| r.rejection.about == About::Pod) {
        return format!("0/{nodes} nodes are available: {}.", about_pod.rejection.reasons.join(", "));
    }
    explain_reasons(nodes, refusals.iter().flat_map(|r| r.rejection.reasons.iter().map(String::as_str)))
}

/// [`explain`], from the reasons alone.
pub fn explain_reasons<'a>(nodes: usize, reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_insert(0) += 1;
    }
    let mut texts: Vec<String> = counts.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    texts.sort();
    if texts.is_empty() {
        format!("0/{nodes} nodes are available:")
    } else {
        format!("0/{nodes} nodes are available: {}.", texts.join(", "))
    }
}

#[cfg(test)]
mod tests;
