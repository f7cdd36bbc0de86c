//! InterPodAffinity: pods that must, must not, would rather or would rather not run near other pods; and
//! those that run already and will not have this one near.

use std::collections::HashMap;

use super::{ClusterChange, Incoming, Plugin, Prepared, Rejection, SCORE_MAX};
use crate::scheduler::facts::{Facts, Slot};
use crate::scheduler::pod::{PodFacts, Term};

/// See the module.
pub struct InterPodAffinity;

/// Matching pods by label key and value.
type Counts<'a> = HashMap<(&'a str, &'a str), i64>;

struct Ready<'a> {
    pod: &'a PodFacts,
    facts: &'a Facts,
    /// Pods that match all required terms.
    wanted: Counts<'a>,
    /// Pods that match a required anti-affinity term of this pod.
    unwanted: Counts<'a>,
    /// Pods that run and have a required anti-affinity term that matches this pod.
    refusing: Counts<'a>,
    /// Weights of preferences, this pod's and those of pods that run.
    preferred: Counts<'a>,
}

fn selects(term: &Term, pod: &PodFacts, facts: &Facts) -> bool {
    term.selects(pod, facts.namespace_labels(&pod.namespace))
}

fn all_select(terms: &[Term], pod: &PodFacts, facts: &Facts) -> bool {
    !terms.is_empty() && terms.iter().all(|t| selects(t, pod, facts))
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn weight(&self) -> i64 {
        2
    }

    fn prepare<'a>(&self, Incoming { pod, facts, .. }: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let mut ready = Ready {
            pod,
            facts,
            wanted: Counts::new(),
            unwanted: Counts::new(),
            refusing: Counts::new(),
            preferred: Counts::new(),
        };
        for (node, other) in facts.anti_affine() {
            for term in other.affinity.required_anti.iter().filter(|t| selects(t, pod, facts)) {
                if let Some(value) = facts.label(node, &term.topology_key) {
                    *ready.refusing.entry((&term.topology_key, value)).or_insert(0) += 1;
                }
            }
        }
        let own = &pod.affinity;
        let asks = !own.required.is_empty() || !own.required_anti.is_empty() || !own.preferred.is_empty();
        for (node, other) in facts.all_pods() {
            let others = &other.affinity;
            if !asks && others.preferred.is_empty() && others.required.is_empty() {
                continue;
            }
            if all_select(&own.required, other, facts) {
                for term in &own.required {
                    add(&mut ready.wanted, facts, node, term, 1);
                }
            }
            for term in own.required_anti.iter().filter(|t| selects(t, other, facts)) {
                add(&mut ready.unwanted, facts, node, term, 1);
            }
            for (weight, term) in own.preferred.iter().filter(|(_, t)| selects(t, other, facts)) {
                add(&mut ready.preferred, facts, node, term, *weight);
            }
            for (weight, term) in others.preferred.iter().filter(|(_, t)| selects(t, pod, facts)) {
                add(&mut ready.preferred, facts, node, term, *weight);
            }
            // A pod that must run near such as this one would like to have it near.
            for term in others.required.iter().filter(|t| selects(t, pod, facts)) {
                add(&mut ready.preferred, facts, node, term, 1);
            }
        }
        let silent = !asks && ready.refusing.is_empty() && ready.preferred.is_empty();
        (!silent).then(|| Box::new(ready) as Box<dyn Prepared>)
    }

    fn may_help(&self, pod: &PodFacts, change: &ClusterChange, facts: &Facts) -> bool {
        match change {
            ClusterChange::PodPlaced(other) => pod.affinity.required.iter().any(|t| selects(t, other, facts)),
            ClusterChange::PodGone(other) => {
                pod.affinity.required_anti.iter().any(|t| selects(t, other, facts))
                    || other.affinity.required_anti.iter().any(|t| selects(t, pod, facts))
            }
            ClusterChange::NodeAdded(_) | ClusterChange::NodeLabels(_) | ClusterChange::Namespace => true,
            _ => false,
        }
    }
}

fn add<'a>(counts: &mut Counts<'a>, facts: &'a Facts, node: Slot, term: &'a Term, weight: i64) {
    if let Some(value) = facts.label(node, &term.topology_key) {
        *counts.entry((&term.topology_key, value)).or_insert(0) += weight;
    }
}

impl Ready<'_> {
    fn count(&self, counts: &Counts<'_>, node: Slot, key: &str) -> i64 {
        let Some(value) = self.facts.label(node, key) else { return 0 };
        counts.get(&(key, value)).copied().unwrap_or(0)
    }
}

impl Prepared for Ready<'_> {
    fn filter(&self, node: Slot) -> Result<(), Rejection> {
        let own = &self.pod.affinity;
        let mut near = true;
        for term in &own.required {
            if self.facts.label(node, &term.topology_key).is_none() {
                return Err(Rejection::for_good("node(s) didn't match pod affinity rules"));
            }
            near &= self.count(&self.wanted, node, &term.topology_key) > 0;
        }
        // The first of a group that wants to run together must be let in somewhere.
        let first = self.wanted.is_empty() && all_select(&own.required, self.pod, self.facts);
        if !near && !first {
            return Err(Rejection::for_good("node(s) didn't match pod affinity rules"));
        }
        if own.required_anti.iter().any(|t| self.count(&self.unwanted, node, &t.topology_key) > 0) {
            return Err(Rejection::for_now("node(s) didn't match pod anti-affinity rules"));
        }
        if self.refusing.keys().any(|(key, value)| self.facts.label(node, key) == Some(value)) {
            return Err(Rejection::for_now("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn scores(&self, nodes: &[Slot]) -> Option<Vec<i64>> {
        if self.preferred.is_empty() {
            return None;
        }
        let sum = |node: &Slot| -> i64 {
            let near =
                self.preferred.iter().filter(|((key, value), _)| self.facts.label(*node, key) == Some(value));
            near.map(|(_, weight)| weight).sum()
        };
        let raw: Vec<i64> = nodes.iter().map(sum).collect();
        let (min, max) = (raw.iter().copied().min()?, raw.iter().copied().max()?);
        let spread = max - min;
        Some(raw.iter().map(|s| if spread == 0 { 0 } else { SCORE_MAX * (s - min) / spread }).collect())
    }
}
