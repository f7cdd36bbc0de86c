//! NodeUnschedulable: a cordoned node takes no pods, but those that tolerate its taint.

use k8s_openapi::api::core::v1::Taint;

use super::taint_toleration::tolerates;
use super::{ClusterChange, Incoming, Plugin, Prepared, Rejection};
use crate::scheduler::facts::{Facts, Slot};
use crate::scheduler::pod::PodFacts;

/// See the module.
pub struct NodeUnschedulable;

struct Ready<'a>(&'a Facts);

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn prepare<'a>(&self, Incoming { pod, facts, .. }: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        let tolerated = pod.tolerations().iter().any(|t| tolerates(t, &taint));
        (!tolerated).then(|| Box::new(Ready(facts)) as Box<dyn Prepared>)
    }

    fn may_help(&self, _: &PodFacts, change: &ClusterChange, facts: &Facts) -> bool {
        match change {
            ClusterChange::NodeAdded(slot) | ClusterChange::NodeTaints(slot) => !is_cordoned(facts, *slot),
            _ => false,
        }
    }
}

fn is_cordoned(facts: &Facts, node: Slot) -> bool {
    facts.node(node).spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false)
}

impl Prepared for Ready<'_> {
    fn filter(&self, node: Slot) -> Result<(), Rejection> {
        if is_cordoned(self.0, node) {
            Err(Rejection::for_good("node(s) were unschedulable"))
        } else {
            Ok(())
        }
    }
}
