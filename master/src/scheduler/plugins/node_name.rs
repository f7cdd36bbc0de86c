//! NodeName: a pod that names its node runs there or nowhere.

use super::{ClusterChange, Incoming, Plugin, Prepared, Rejection};
use crate::controllers::machinery::pods::node_name;
use crate::scheduler::facts::{Facts, Slot};
use crate::scheduler::pod::PodFacts;

/// See the module.
pub struct NodeName;

struct Wanted<'a> {
    name: &'a str,
    facts: &'a Facts,
}

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn prepare<'a>(&self, Incoming { pod, facts, .. }: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let name = node_name(&pod.pod);
        (!name.is_empty()).then(|| Box::new(Wanted { name, facts }) as Box<dyn Prepared>)
    }

    fn may_help(&self, pod: &PodFacts, change: &ClusterChange, facts: &Facts) -> bool {
        matches!(change, ClusterChange::NodeAdded(slot) if **facts.name(*slot) == *node_name(&pod.pod))
    }
}

impl Prepared for Wanted<'_> {
    fn filter(&self, node: Slot) -> Result<(), Rejection> {
        if **self.facts.name(node) == *self.name {
            Ok(())
        } else {
            Err(Rejection::for_good("node(s) didn't match the requested node name"))
        }
    }
}
