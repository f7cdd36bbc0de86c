//! DynamicResources: a pod runs where there are devices for its claims.

use std::cell::RefCell;
use std::collections::HashMap;

use super::{ClusterChange, Plugin, Prepared, Rejection, normalise};
use crate::controllers::machinery::meta::{now, uid};
use crate::scheduler::devices::Trouble;
use crate::scheduler::devices::claims::of_pod;
use crate::scheduler::devices::demand::Demand;
use crate::scheduler::facts::{Facts, Slot};
use crate::scheduler::pod::PodFacts;

/// Its name.
pub const NAME: &str = "DynamicResources";

/// See the module.
pub struct DynamicResources;

struct Ready<'a> {
    demand: Result<Demand, String>,
    facts: &'a Facts,
    /// How good the devices of the nodes are that have any, where that makes a difference.
    scores: RefCell<HashMap<Slot, i64>>,
}

/// What a pod claims; the error is why no node would do.
pub fn demand(pod: &PodFacts, facts: &Facts) -> Result<Option<Demand>, String> {
    Demand::of(facts.storage(), facts.pending(), &pod.pod, now())
}

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        NAME
    }

    fn weight(&self) -> i64 {
        2
    }

    fn prepare<'a>(&self, pod: &'a PodFacts, facts: &'a Facts) -> Option<Box<dyn Prepared + 'a>> {
        let demand = demand(pod, facts).transpose()?;
        Some(Box::new(Ready { demand, facts, scores: RefCell::default() }))
    }

    fn may_help(&self, pod: &PodFacts, change: &ClusterChange, facts: &Facts) -> bool {
        match change {
            ClusterChange::NodeAdded(_)
            | ClusterChange::NodeLabels(_)
            | ClusterChange::NodeAllocatable(_)
            | ClusterChange::Devices => true,
            ClusterChange::Claim { claim, freed } => {
                // While one of its claims is missing, nothing helps.
                let Ok(claims) = of_pod(facts.storage(), &pod.pod) else { return false };
                *freed || claims.iter().any(|c| uid(&c.metadata) == uid(&claim.metadata))
            }
            _ => false,
        }
    }
}

impl Prepared for Ready<'_> {
    fn everywhere(&self) -> Option<String> {
        self.demand.as_ref().err().cloned()
    }

    fn filter(&self, node: Slot) -> Result<(), Rejection> {
        let Ok(demand) = &self.demand else { return Ok(()) };
        let found = demand.on(self.facts.node(node)).map_err(|trouble| match trouble {
            Trouble::Node(why) => Rejection::for_good(why),
            Trouble::Broken(why) => Rejection::error(why),
        })?;
        if let Some(score) = demand.score(&found) {
            self.scores.borrow_mut().insert(node, score);
        }
        Ok(())
    }

    fn scores(&self, nodes: &[Slot]) -> Option<Vec<i64>> {
        let scores = self.scores.borrow();
        if scores.is_empty() {
            return None;
        }
        let mut scores: Vec<i64> = nodes.iter().map(|n| scores.get(n).copied().unwrap_or(0)).collect();
        normalise(&mut scores, false);
        Some(scores)
    }
}
