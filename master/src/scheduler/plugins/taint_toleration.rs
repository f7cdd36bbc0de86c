//! TaintToleration: a pod stays off nodes with taints that it does not tolerate, and prefers those with
//! fewer soft ones.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{ClusterChange, Incoming, Plugin, Prepared, Rejection, normalise};
use crate::scheduler::facts::{Facts, Slot};
use crate::scheduler::pod::PodFacts;

/// See the module.
pub struct TaintToleration;

struct Ready<'a> {
    pod: &'a PodFacts,
    facts: &'a Facts,
}

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let some = |v: &Option<String>| v.clone().filter(|v| !v.is_empty());
    if some(&toleration.effect).is_some_and(|e| e != taint.effect) {
        return false;
    }
    if some(&toleration.key).is_some_and(|k| k != taint.key) {
        return false;
    }
    let value = taint.value.as_deref().unwrap_or_default();
    let wanted = toleration.value.as_deref().unwrap_or_default();
    let compare = |f: fn(i64, i64) -> bool| match (value.parse(), wanted.parse()) {
        (Ok(value), Ok(wanted)) => f(value, wanted),
        _ => false,
    };
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => value == wanted,
        Some("Exists") => true,
        Some("Lt") => compare(|value, wanted| value < wanted),
        Some("Gt") => compare(|value, wanted| value > wanted),
        Some(_) => false,
    }
}

/// The first taint that keeps the pod off a node.
pub fn untolerated<'a>(tolerations: &[Toleration], taints: &'a [Taint]) -> Option<&'a Taint> {
    let hard = |t: &&Taint| t.effect == "NoSchedule" || t.effect == "NoExecute";
    taints.iter().filter(hard).find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn weight(&self) -> i64 {
        3
    }

    fn prepare<'a>(&self, Incoming { pod, facts, .. }: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>> {
        Some(Box::new(Ready { pod, facts }))
    }

    fn may_help(&self, pod: &PodFacts, change: &ClusterChange, facts: &Facts) -> bool {
        match change {
            ClusterChange::NodeAdded(slot) | ClusterChange::NodeTaints(slot) => {
                untolerated(pod.tolerations(), facts.taints(*slot)).is_none()
            }
            _ => false,
        }
    }
}

impl Prepared for Ready<'_> {
    fn filter(&self, node: Slot) -> Result<(), Rejection> {
        match untolerated(self.pod.tolerations(), self.facts.taints(node)) {
            None => Ok(()),
            Some(_) => Err(Rejection::for_good("node(s) had untolerated taint(s)")),
        }
    }

    fn scores(&self, nodes: &[Slot]) -> Option<Vec<i64>> {
        let soft = |node: &Slot| {
            let taints = self.facts.taints(*node).iter().filter(|t| t.effect == "PreferNoSchedule");
            taints.filter(|taint| !self.pod.tolerations().iter().any(|t| tolerates(t, taint))).count() as i64
        };
        let mut scores: Vec<i64> = nodes.iter().map(soft).collect();
        normalise(&mut scores, true);
        Some(scores)
    }
}
