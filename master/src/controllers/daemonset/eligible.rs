//! On which nodes a DaemonSet's pods run. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
    Taint, Toleration,
};

use crate::controllers::machinery::meta::name;
use crate::controllers::machinery::pods::node_name;
use crate::scheduler::plugins::taint_toleration::{tolerates, untolerated};
use crate::scheduler::pod::NodeAffinity as Rules;

/// What daemons stay on a node through, besides what their template says.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NETWORK: &str = "node.kubernetes.io/network-unavailable";

/// Whether a daemon belongs on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// One should be made there.
    pub should_run: bool,
    /// One that is there may stay.
    pub may_stay: bool,
}

/// Where daemons run, compiled once for all nodes.
pub struct Rule {
    node: String,
    nodes: Rules,
    tolerations: Vec<Toleration>,
}

impl Rule {
    /// Of a set.
    pub fn of(set: &DaemonSet) -> Self {
        let mut spec = set.spec.as_ref().and_then(|s| s.template.spec.clone()).unwrap_or_default();
        tolerate(&mut spec);
        Rule {
            node: spec.node_name.clone().unwrap_or_default(),
            nodes: Rules::of(&spec),
            tolerations: spec.tolerations.unwrap_or_default(),
        }
    }

    /// About one node.
    pub fn judge(&self, node: &Node) -> Verdict {
        const NO: Verdict = Verdict { should_run: false, may_stay: false };
        let n = name(&node.metadata);
        if !self.node.is_empty() && self.node != n {
            return NO;
        }
        let labels = node.metadata.labels.as_ref();
        if !self.nodes.allows(n, |key| labels.and_then(|l| l.get(key)).map(String::as_str)) {
            return NO;
        }
        let spec = node.spec.as_ref();
        let mut taints: Vec<Taint> = spec.and_then(|s| s.taints.clone()).unwrap_or_default();
        if spec.and_then(|s| s.unschedulable) == Some(true) {
            taints.push(Taint {
                key: "node.kubernetes.io/unschedulable".to_owned(),
                effect: "NoSchedule".to_owned(),
                ..Taint::default()
            });
        }
        if untolerated(&self.tolerations, &taints).is_none() {
            return Verdict { should_run: true, may_stay: true };
        }
        let drives_out =
            |t: &Taint| t.effect == "NoExecute" && !self.tolerations.iter().any(|own| tolerates(own, t));
        Verdict { should_run: false, may_stay: !taints.iter().any(drives_out) }
    }
}

/// Adds the tolerations that every daemon has.
pub fn tolerate(spec: &mut PodSpec) {
    let network = (spec.host_network == Some(true)).then_some((NETWORK, "NoSchedule"));
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        // One about the same taint is replaced.
        match tolerations.iter_mut().find(|t| {
            t.key == toleration.key
                && t.effect == toleration.effect
                && t.operator == toleration.operator
                && t.value.as_deref().unwrap_or_default().is_empty()
        }) {
            Some(there) => *there = toleration,
            None => tolerations.push(toleration),
        }
    }
}

/// Binds a pod to come to one node, by affinity: the scheduler then looks whether there is room.
pub fn aim(spec: &mut PodSpec, node: &str) {
    let affinity = spec.affinity.get_or_insert_with(Affinity::default);
    let nodes = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
    nodes.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_expressions: None,
            match_fields: Some(vec![NodeSelectorRequirement {
                key: "metadata.name".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
        }],
    });
}

/// The node that a daemon is bound to, or aimed at.
pub fn target(pod: &Pod) -> &str {
    let bound = node_name(pod);
    if !bound.is_empty() {
        return bound;
    }
    let terms = pod
        .spec
        .as_ref()
        .and_then(|s| s.affinity.as_ref())
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
        .map(|s| s.node_selector_terms.as_slice())
        .unwrap_or_default();
    terms
        .iter()
        .flat_map(|t| t.match_fields.iter().flatten())
        .filter(|f| f.key == "metadata.name" && f.operator == "In")
        .find_map(|f| match f.values.as_deref() {
            Some([one]) => Some(one.as_str()),
            _ => None,
        })
        .unwrap_or_default()
}

/// A set's pods by the nodes that they are for.
pub fn by_node(pods: &[std::sync::Arc<Pod>]) -> BTreeMap<&str, Vec<&std::sync::Arc<Pod>>> {
    let mut out: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for pod in pods {
        let node = target(pod);
        if !node.is_empty() {
            out.entry(node).or_default().push(pod);
        }
    }
    out
}
