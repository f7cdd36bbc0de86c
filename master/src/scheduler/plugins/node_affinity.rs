//! NodeAffinity: `nodeSelector` and node affinity, required and preferred.

use super::{ClusterChange, Incoming, Plugin, Prepared, Rejection, normalise};
use crate::scheduler::facts::{Facts, Slot};
use crate::scheduler::pod::PodFacts;

/// See the module.
pub struct NodeAffinity;

struct Ready<'a> {
    pod: &'a PodFacts,
    facts: &'a Facts,
}

/// Whether the pod's selector and required affinity allow a node.
pub fn allows(pod: &PodFacts, facts: &Facts, node: Slot) -> bool {
    pod.nodes.allows(facts.name(node), |key| facts.label(node, key))
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn weight(&self) -> i64 {
        2
    }

    fn prepare<'a>(&self, Incoming { pod, facts, .. }: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let nodes = &pod.nodes;
        let silent = nodes.selector.is_none() && nodes.required.is_none() && nodes.preferred.is_empty();
        (!silent).then(|| Box::new(Ready { pod, facts }) as Box<dyn Prepared>)
    }

    fn may_help(&self, pod: &PodFacts, change: &ClusterChange, facts: &Facts) -> bool {
        match change {
            ClusterChange::NodeAdded(slot) | ClusterChange::NodeLabels(slot) => allows(pod, facts, *slot),
            _ => false,
        }
    }
}

impl Prepared for Ready<'_> {
    fn filter(&self, node: Slot) -> Result<(), Rejection> {
        let named = self.pod.nodes.required.as_ref().filter(|terms| terms.iter().all(|t| t.name.is_some()));
        if named.is_some_and(|terms| !terms.iter().any(|t| t.names(self.facts.name(node)))) {
            // The pod is for nodes that it names; the others are not looked at.
            Err(Rejection::for_good("node(s) didn't satisfy plugin(s) [NodeAffinity]"))
        } else if allows(self.pod, self.facts, node) {
            Ok(())
        } else {
            Err(Rejection::for_good("node(s) didn't match Pod's node affinity/selector"))
        }
    }

    fn scores(&self, nodes: &[Slot]) -> Option<Vec<i64>> {
        if self.pod.nodes.preferred.is_empty() {
            return None;
        }
        let score = |node: &Slot| {
            let matching =
                self.pod.nodes.preferred.iter().filter(|(_, term)| {
                    term.matches(self.facts.name(*node), |key| self.facts.label(*node, key))
                });
            matching.map(|(weight, _)| weight).sum()
        };
        let mut scores: Vec<i64> = nodes.iter().map(score).collect();
        normalise(&mut scores, false);
        Some(scores)
    }
}
