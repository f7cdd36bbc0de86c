//! DynamicResources: a pod runs where there are devices for its claims.

use std::cell::RefCell;
use std::collections::HashMap;

use super::{ClusterChange, Incoming, Plugin, Prepared, Rejection, normalise};
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

/// What a pod asks for, if anything; the error is why no node would do.
pub type Devices = Result<Option<Demand>, String>;

struct Ready<'a> {
    demand: Result<&'a Demand, &'a str>,
    facts: &'a Facts,
    /// How good the devices of the nodes are that have any, where that makes a difference.
    scores: RefCell<HashMap<Slot, i64>>,
}

/// Reads what a pod asks for.
pub fn devices(pod: &PodFacts, facts: &Facts) -> Devices {
    Demand::of(facts.devices(), pod, now())
}

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        NAME
    }

    fn weight(&self) -> i64 {
        2
    }

    fn prepare<'a>(&self, Incoming { facts, devices, .. }: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let demand = devices.as_ref().map_err(String::as_str).map(Option::as_ref).transpose()?;
        Some(Box::new(Ready { demand, facts, scores: RefCell::default() }))
    }

    fn may_help(&self, pod: &PodFacts, change: &ClusterChange, facts: &Facts) -> bool {
        match change {
            ClusterChange::NodeAdded(_)
            | ClusterChange::NodeLabels(_)
            | ClusterChange::NodeAllocatable(_)
            | ClusterChange::DeviceClass(_)
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
        self.demand.err().map(str::to_owned)
    }

    fn filter(&self, node: Slot) -> Result<(), Rejection> {
        let Ok(demand) = self.demand else { return Ok(()) };
        let found = demand.on(self.facts.node(node), self.facts.allocatable(node));
        let found = found.map_err(|trouble| match trouble {
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
