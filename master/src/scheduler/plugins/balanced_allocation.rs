//! NodeResourcesBalancedAllocation: prefers nodes on which CPU and memory would be used in like measure, so
//! that neither is left over alone.

use super::{ClusterChange, Incoming, Plugin, Prepared, SCORE_MAX};
use crate::scheduler::facts::{Facts, Slot};
use crate::scheduler::pod::PodFacts;

/// See the module.
pub struct BalancedAllocation;

struct Ready<'a> {
    pod: &'a PodFacts,
    facts: &'a Facts,
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn prepare<'a>(&self, Incoming { pod, facts, .. }: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>> {
        // A pod that requests nothing changes no balance.
        let asks = pod.requests.cpu_milli > 0 || pod.requests.memory_bytes > 0;
        asks.then(|| Box::new(Ready { pod, facts }) as Box<dyn Prepared>)
    }

    fn may_help(&self, _: &PodFacts, _: &ClusterChange, _: &Facts) -> bool {
        false
    }
}

impl Prepared for Ready<'_> {
    fn scores(&self, nodes: &[Slot]) -> Option<Vec<i64>> {
        let score = |node: &Slot| {
            let (has, used, wants) =
                (self.facts.allocatable(*node), self.facts.requested(*node), &self.pod.requests);
            let share =
                |has: i64, used: i64| if has <= 0 { 1.0 } else { (used as f64 / has as f64).min(1.0) };
            let cpu = share(has.cpu_milli, used.cpu_milli + wants.cpu_milli);
            let memory = share(has.memory_bytes, used.memory_bytes + wants.memory_bytes);
            // The standard deviation of two numbers.
            ((1.0 - (cpu - memory).abs() / 2.0) * SCORE_MAX as f64) as i64
        };
        Some(nodes.iter().map(score).collect())
    }
}
