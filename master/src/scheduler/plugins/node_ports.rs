//! NodePorts: two pods on a node cannot have the same host port.

use super::{ClusterChange, Incoming, Plugin, Prepared, Rejection};
use crate::scheduler::facts::{Facts, HostPort, Slot};
use crate::scheduler::pod::PodFacts;

/// See the module.
pub struct NodePorts;

struct Ready<'a> {
    pod: &'a PodFacts,
    facts: &'a Facts,
}

/// Whether two ports cannot be had at once: same protocol and number, and one address covers the other.
pub fn collide(a: &HostPort, b: &HostPort) -> bool {
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || any(&a.0) || any(&b.0))
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn prepare<'a>(&self, Incoming { pod, facts, .. }: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>> {
        (!pod.ports.is_empty()).then(|| Box::new(Ready { pod, facts }) as Box<dyn Prepared>)
    }

    fn may_help(&self, pod: &PodFacts, change: &ClusterChange, _: &Facts) -> bool {
        match change {
            ClusterChange::NodeAdded(_) => true,
            ClusterChange::PodGone(gone) => {
                pod.ports.iter().any(|p| gone.ports.iter().any(|q| collide(p, q)))
            }
            _ => false,
        }
    }
}

impl Prepared for Ready<'_> {
    fn filter(&self, node: Slot) -> Result<(), Rejection> {
        let mut taken = self.facts.pods(node).iter().flat_map(|p| &p.ports);
        if taken.any(|t| self.pod.ports.iter().any(|p| collide(p, t))) {
            return Err(Rejection::for_now("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }
}
