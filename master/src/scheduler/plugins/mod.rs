//! The rules by which nodes are chosen: one file each, joined in [`ALL`].
//!
//! A plugin prepares itself once for a pod, then is asked node by node whether the pod may run there, and at
//! last for scores of the nodes that every plugin allows. It also says which changes of the cluster may make
//! a pod schedulable that it has refused.

use super::facts::{Facts, Slot};
use super::pod::PodFacts;

pub mod balanced_allocation;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod pod_topology_spread;
pub mod taint_toleration;
pub mod volume_binding;

/// The highest score.
pub const SCORE_MAX: i64 = 100;

/// Why a pod may not run on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Reasons, as people read them.
    pub reasons: Vec<String>,
    /// Whether taking other pods away from the node could change it.
    pub resolvable: bool,
    /// It is about the pod, not about this node: every node is refused for it.
    pub everywhere: bool,
}

impl Rejection {
    /// Evicting pods would not help.
    pub fn for_good(reason: impl Into<String>) -> Self {
        Rejection { reasons: vec![reason.into()], resolvable: false, everywhere: false }
    }

    /// No node would do.
    pub fn everywhere(reason: impl Into<String>) -> Self {
        Rejection { reasons: vec![reason.into()], resolvable: false, everywhere: true }
    }

    /// Evicting pods might help.
    pub fn for_now(reason: impl Into<String>) -> Self {
        Rejection { reasons: vec![reason.into()], resolvable: true, everywhere: false }
    }
}

/// A change of the cluster that may make waiting pods schedulable.
#[derive(Clone, Debug)]
pub enum ClusterChange {
    /// A node came.
    NodeAdded(Slot),
    /// A node's labels changed.
    NodeLabels(Slot),
    /// A node's taints changed, or whether it takes pods.
    NodeTaints(Slot),
    /// A node has other amounts of resources.
    NodeAllocatable(Slot),
    /// A node is gone.
    NodeRemoved,
    /// A pod came to run on a node, or changed there.
    PodPlaced(std::sync::Arc<PodFacts>),
    /// A pod left its node.
    PodGone(std::sync::Arc<PodFacts>),
    /// A namespace's labels changed.
    Namespace,
    /// A claim, a volume or a class of volumes changed.
    Storage,
}

/// A rule.
pub trait Plugin: Sync {
    /// Its name, as upstream's configuration has it.
    fn name(&self) -> &'static str;

    /// Weight of its scores.
    fn weight(&self) -> i64 {
        1
    }

    /// Gets ready for one pod; `None` when the rule has nothing to say about it.
    fn prepare<'a>(&self, pod: &'a PodFacts, facts: &'a Facts) -> Option<Box<dyn Prepared + 'a>>;

    /// Whether a change may make a pod schedulable that this rule refused.
    fn may_help(&self, pod: &PodFacts, change: &ClusterChange, facts: &Facts) -> bool;
}

/// A rule that is ready for one pod.
pub trait Prepared {
    /// Whether the pod may run on the node.
    fn filter(&self, _node: Slot) -> Result<(), Rejection> {
        Ok(())
    }

    /// Scores of nodes, each from 0 to [`SCORE_MAX`]; `None` to abstain.
    fn scores(&self, _nodes: &[Slot]) -> Option<Vec<i64>> {
        None
    }
}

/// Every plugin, in the order in which nodes are filtered: the cheap and decisive ones first.
pub static ALL: &[&dyn Plugin] = &[
    &node_unschedulable::NodeUnschedulable,
    &node_name::NodeName,
    &taint_toleration::TaintToleration,
    &node_affinity::NodeAffinity,
    &node_ports::NodePorts,
    &node_resources_fit::NodeResourcesFit,
    &volume_binding::VolumeBinding,
    &balanced_allocation::BalancedAllocation,
    &pod_topology_spread::PodTopologySpread,
    &inter_pod_affinity::InterPodAffinity,
];

/// Stretches raw scores to 0..=[`SCORE_MAX`] by the largest; `reverse` makes the smallest raw score best.
pub fn normalise(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        *score = if max == 0 { 0 } else { *score * SCORE_MAX / max };
        if reverse {
            *score = SCORE_MAX - *score;
        }
    }
}
