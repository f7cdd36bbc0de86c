//! NodeResourcesFit: a node must have what the pod requests, beside what its pods request already; nodes
//! with more left over are preferred.

use super::{About, ClusterChange, Incoming, Plugin, Prepared, Rejection, SCORE_MAX};
use crate::api::kinds::devices::extended::IMPLICIT;
use crate::scheduler::facts::{Facts, Slot};
use crate::scheduler::pod::PodFacts;

/// See the module.
pub struct NodeResourcesFit;

struct Ready<'a> {
    pod: &'a PodFacts,
    facts: &'a Facts,
}

/// What a node lacks for a pod: resource by resource, with whether the empty node would do.
pub fn lacking(pod: &PodFacts, facts: &Facts, node: Slot) -> Option<Rejection> {
    let (has, used, wants) = (facts.allocatable(node), facts.requested(node), &pod.requests);
    let mut reasons = Vec::new();
    let mut resolvable = true;
    if used.pods + 1 > has.pods {
        reasons.push("Too many pods".to_owned());
    }
    let mut check = |name: &str, wants: i64, has: i64, used: i64| {
        if wants > 0 && wants > has - used {
            reasons.push(format!("Insufficient {name}"));
            resolvable &= wants <= has;
        }
    };
    check("cpu", wants.cpu_milli, has.cpu_milli, used.cpu_milli);
    check("memory", wants.memory_bytes, has.memory_bytes, used.memory_bytes);
    check("ephemeral-storage", wants.storage_bytes, has.storage_bytes, used.storage_bytes);
    for (name, amount) in &wants.others {
        let of = |amounts: &std::collections::BTreeMap<String, i64>| amounts.get(name).copied().unwrap_or(0);
        // Where the node does not offer it, devices of the class may do.
        if of(&has.others) > 0 || !facts.is_backed(name) {
            check(name, *amount, of(&has.others), of(&used.others));
        }
    }
    let about = if resolvable { About::Pods } else { About::Node };
    (!reasons.is_empty()).then_some(Rejection { reasons, about })
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn prepare<'a>(&self, Incoming { pod, facts, .. }: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>> {
        Some(Box::new(Ready { pod, facts }))
    }

    fn may_help(&self, pod: &PodFacts, change: &ClusterChange, facts: &Facts) -> bool {
        match change {
            ClusterChange::NodeAdded(slot) | ClusterChange::NodeAllocatable(slot) => {
                lacking(pod, facts, *slot).is_none()
            }
            ClusterChange::DeviceClass(class) => {
                let named = class.spec.extended_resource_name.as_deref();
                let own = format!("{IMPLICIT}{}", class.metadata.name.as_deref().unwrap_or_default());
                let wants = |name: &str| pod.requests.others.contains_key(name);
                wants(&own) || named.is_some_and(wants)
            }
            // Whatever a pod requests, it also takes one of the node's pods.
            ClusterChange::PodGone(_) => true,
            _ => false,
        }
    }
}

impl Prepared for Ready<'_> {
    fn filter(&self, node: Slot) -> Result<(), Rejection> {
        lacking(self.pod, self.facts, node).map_or(Ok(()), Err)
    }

    fn scores(&self, nodes: &[Slot]) -> Option<Vec<i64>> {
        let score = |node: &Slot| {
            let has = self.facts.allocatable(*node);
            let used = self.facts.nonzero(*node);
            let left = |has: i64, used: i64| {
                if has <= 0 || used > has {
                    0
                } else {
                    ((has - used) as f64 * SCORE_MAX as f64 / has as f64) as i64
                }
            };
            let cpu = left(has.cpu_milli, used.0 + self.pod.nonzero.0);
            let memory = left(has.memory_bytes, used.1 + self.pod.nonzero.1);
            (cpu + memory) / 2
        };
        Some(nodes.iter().map(score).collect())
    }
}
