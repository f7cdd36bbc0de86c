//! The rules by which nodes are chosen: one file each, joined in [`ALL`].
//!
//! A plugin prepares itself once for a pod, then is asked node by node whether the pod may run there, and at
//! last for scores of the nodes that every plugin allows. It also says which changes of the cluster may make
//! a pod schedulable that it has refused.

use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim};

use super::facts::{Facts, Slot};
use super::pod::PodFacts;
use dynamic_resources::Devices;

pub mod balanced_allocation;
pub mod dynamic_resources;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod pod_topology_spread;
pub mod taint_toleration;
pub mod volume_binding;
pub mod volume_restrictions;

/// The highest score.
pub const SCORE_MAX: i64 = 100;

/// Why a pod may not run on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Reasons, as people read them.
    pub reasons: Vec<String>,
    /// What it is about.
    pub about: About,
}

/// What a rejection is about, and so what could change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The pods on the node: taking some of them away might help.
    Pods,
    /// The node.
    Node,
    /// The pod to be placed: every node is refused for it.
    Pod,
    /// What the rule goes by is broken: there is no answer, and asking again later may give one.
    Error,
}

impl Rejection {
    /// Evicting pods would not help.
    pub fn for_good(reason: impl Into<String>) -> Self {
        Rejection { reasons: vec![reason.into()], about: About::Node }
    }

    /// No node would do.
    pub fn everywhere(reason: impl Into<String>) -> Self {
        Rejection { reasons: vec![reason.into()], about: About::Pod }
    }

    /// Evicting pods might help.
    pub fn for_now(reason: impl Into<String>) -> Self {
        Rejection { reasons: vec![reason.into()], about: About::Pods }
    }

    /// There is no telling.
    pub fn error(reason: impl Into<String>) -> Self {
        Rejection { reasons: vec![reason.into()], about: About::Error }
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
    /// There are other devices, or other classes of them.
    Devices,
    /// A class of devices came, or names another extended resource.
    DeviceClass(std::sync::Arc<DeviceClass>),
    /// A claim of devices came or changed.
    Claim {
        /// The claim.
        claim: std::sync::Arc<ResourceClaim>,
        /// Whether it gave its devices back.
        freed: bool,
    },
}

/// A pod that needs a node, and what is known at the moment.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// The pod.
    pub pod: &'a PodFacts,
    /// What is known.
    pub facts: &'a Facts,
    /// What the pod asks for of devices: read once for all that is tried.
    pub devices: &'a Devices,
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
    fn prepare<'a>(&self, of: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>>;

    /// Whether a change may make a pod schedulable that this rule refused.
    fn may_help(&self, pod: &PodFacts, change: &ClusterChange, facts: &Facts) -> bool;
}

/// A rule that is ready for one pod.
pub trait Prepared {
    /// Why no node would do, whatever it is like. Asked once, before any node is looked at.
    fn everywhere(&self) -> Option<String> {
        None
    }

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
    &volume_restrictions::VolumeRestrictions,
    &volume_binding::VolumeBinding,
    &balanced_allocation::BalancedAllocation,
    &pod_topology_spread::PodTopologySpread,
    &inter_pod_affinity::InterPodAffinity,
    &dynamic_resources::DynamicResources,
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
