//! PodTopologySpread: spreads pods over zones, nodes, or whatever a label divides the cluster into. Pods
//! without constraints of their own are spread softly by node and zone, with those of their own owner.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use protocol::Selector;
use protocol::labels::ZONE;
use protocol::selector::{Operator, Requirement};

use super::taint_toleration::untolerated;
use super::{ClusterChange, Incoming, Plugin, Prepared, Rejection, SCORE_MAX, node_affinity};
use crate::controllers::machinery::labels::selector_option;
use crate::controllers::machinery::meta::controller_of;
use crate::scheduler::facts::{Facts, Slot};
use crate::scheduler::pod::PodFacts;

const HOSTNAME: &str = "kubernetes.io/hostname";
const DIFFERENT: &str = "node(s) didn't match pod topology spread constraints";

/// See the module.
pub struct PodTopologySpread;

enum Who {
    /// Pods with such labels.
    Labels(Selector),
    /// Pods of the same controller: the default constraints'.
    Owner(String),
}

struct Constraint<'a> {
    key: &'a str,
    max_skew: i64,
    min_domains: i64,
    hard: bool,
    who: Who,
    /// Whether the pod itself counts once it runs.
    counts_itself: bool,
    /// Matching pods by value of the label; only nodes that count are in it.
    domains: BTreeMap<&'a str, i64>,
}

struct Ready<'a> {
    facts: &'a Facts,
    constraints: Vec<Constraint<'a>>,
}

impl Who {
    fn includes(&self, pod: &PodFacts) -> bool {
        match self {
            Who::Labels(selector) => selector.matches_by(|key| pod.label(key)),
            Who::Owner(uid) => controller_of(&pod.pod.metadata).is_some_and(|r| r.uid == *uid),
        }
    }
}

fn constraints<'a>(pod: &'a PodFacts) -> Vec<Constraint<'a>> {
    let own =
        pod.pod.spec.as_ref().and_then(|s| s.topology_spread_constraints.as_deref()).unwrap_or_default();
    if !own.is_empty() {
        return own.iter().map(|c| stated(pod, c)).collect();
    }
    let Some(owner) = controller_of(&pod.pod.metadata) else { return Vec::new() };
    let default = |key: &'static str, max_skew: i64| Constraint {
        key,
        max_skew,
        min_domains: 1,
        hard: false,
        who: Who::Owner(owner.uid.clone()),
        counts_itself: true,
        domains: BTreeMap::new(),
    };
    vec![default(HOSTNAME, 3), default(ZONE, 5)]
}

fn stated<'a>(pod: &'a PodFacts, c: &'a TopologySpreadConstraint) -> Constraint<'a> {
    let mut selector = selector_option(c.label_selector.as_ref());
    for key in c.match_label_keys.iter().flatten() {
        if let Some(value) = pod.label(key) {
            let operator = Operator::In(vec![value.to_owned()]);
            selector.requirements.push(Requirement { key: key.clone(), operator });
        }
    }
    let counts_itself = selector.matches_by(|key| pod.label(key));
    Constraint {
        key: &c.topology_key,
        max_skew: i64::from(c.max_skew.max(1)),
        min_domains: i64::from(c.min_domains.unwrap_or(1)),
        hard: c.when_unsatisfiable == "DoNotSchedule",
        who: Who::Labels(selector),
        counts_itself,
        domains: BTreeMap::new(),
    }
}

/// Whether a node counts for a constraint, by its affinity and taint policies.
fn counts(pod: &PodFacts, facts: &Facts, node: Slot, policies: (bool, bool)) -> bool {
    (!policies.0 || node_affinity::allows(pod, facts, node))
        && (!policies.1 || untolerated(pod.tolerations(), facts.taints(node)).is_none())
}

fn policies(pod: &PodFacts, at: usize) -> (bool, bool) {
    let own =
        pod.pod.spec.as_ref().and_then(|s| s.topology_spread_constraints.as_deref()).unwrap_or_default();
    own.get(at).map_or((true, false), |c| {
        (
            c.node_affinity_policy.as_deref() != Some("Ignore"),
            c.node_taints_policy.as_deref() == Some("Honor"),
        )
    })
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn weight(&self) -> i64 {
        2
    }

    fn prepare<'a>(&self, Incoming { pod, facts, .. }: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let mut constraints = constraints(pod);
        if constraints.is_empty() {
            return None;
        }
        let hard_keys: Vec<&str> = constraints.iter().filter(|c| c.hard).map(|c| c.key).collect();
        for (at, c) in constraints.iter_mut().enumerate() {
            let policies = policies(pod, at);
            for node in facts.slots() {
                // A node that lacks the label of any hard constraint cannot be chosen, and does not count.
                if c.hard && hard_keys.iter().any(|key| facts.label(node, key).is_none()) {
                    continue;
                }
                let Some(value) = facts.label(node, c.key) else { continue };
                if !counts(pod, facts, node, policies) {
                    continue;
                }
                let matching = facts
                    .pods(node)
                    .iter()
                    .filter(|p| !p.deleting && p.namespace == pod.namespace && c.who.includes(p))
                    .count();
                *c.domains.entry(value).or_insert(0) += matching as i64;
            }
        }
        Some(Box::new(Ready { facts, constraints }))
    }

    fn may_help(&self, pod: &PodFacts, change: &ClusterChange, _: &Facts) -> bool {
        match change {
            ClusterChange::PodPlaced(other) | ClusterChange::PodGone(other) => {
                other.namespace == pod.namespace
            }
            ClusterChange::NodeAdded(_) | ClusterChange::NodeLabels(_) | ClusterChange::NodeRemoved => true,
            ClusterChange::NodeTaints(_) => true,
            _ => false,
        }
    }
}

impl Prepared for Ready<'_> {
    fn filter(&self, node: Slot) -> Result<(), Rejection> {
        for c in self.constraints.iter().filter(|c| c.hard) {
            let Some(value) = self.facts.label(node, c.key) else {
                return Err(Rejection::for_good(format!("{DIFFERENT} (missing required label)")));
            };
            let fewest = if (c.domains.len() as i64) < c.min_domains {
                0
            } else {
                c.domains.values().copied().min().unwrap_or(0)
            };
            let here = c.domains.get(value).copied().unwrap_or(0);
            if here + i64::from(c.counts_itself) - fewest > c.max_skew {
                return Err(Rejection::for_now(DIFFERENT));
            }
        }
        Ok(())
    }

    fn scores(&self, nodes: &[Slot]) -> Option<Vec<i64>> {
        let soft: Vec<&Constraint<'_>> = self.constraints.iter().filter(|c| !c.hard).collect();
        if soft.is_empty() {
            return None;
        }
        // Default constraints on labels that nodes do not have say nothing.
        let weight = |c: &Constraint<'_>| {
            let values: BTreeSet<&str> = nodes.iter().filter_map(|n| self.facts.label(*n, c.key)).collect();
            ((values.len() + 2) as f64).ln()
        };
        let weights: Vec<f64> = soft.iter().map(|c| weight(c)).collect();
        let raw: Vec<Option<i64>> = nodes
            .iter()
            .map(|node| {
                let mut sum = 0.0;
                let mut known = false;
                for (c, weight) in soft.iter().zip(&weights) {
                    let Some(value) = self.facts.label(*node, c.key) else { continue };
                    known = true;
                    let here = c.domains.get(value).copied().unwrap_or(0);
                    sum += here as f64 * weight + (c.max_skew - 1) as f64;
                }
                known.then_some(sum.round() as i64)
            })
            .collect();
        let known = || raw.iter().flatten().copied();
        let (Some(min), Some(max)) = (known().min(), known().max()) else { return None };
        let score = |raw: &Option<i64>| match raw {
            None => 0,
            Some(_) if max == 0 => SCORE_MAX,
            Some(score) => SCORE_MAX * (max + min - score) / max,
        };
        Some(raw.iter().map(score).collect())
    }
}
