//! VolumeBinding: a pod runs where its volumes can be reached, or made.

use super::{ClusterChange, Incoming, Plugin, Prepared, Rejection};
use crate::scheduler::facts::{Facts, Slot};
use crate::scheduler::pod::PodFacts;
use crate::scheduler::volumes::{Claims, Obstacle, claims};

/// See the module.
pub struct VolumeBinding;

struct Ready<'a> {
    claims: Result<Claims, Obstacle>,
    facts: &'a Facts,
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn prepare<'a>(&self, Incoming { pod, facts, .. }: Incoming<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let claims = claims(facts.storage(), &pod.pod).transpose()?;
        Some(Box::new(Ready { claims, facts }))
    }

    fn may_help(&self, _: &PodFacts, change: &ClusterChange, _: &Facts) -> bool {
        matches!(change, ClusterChange::Storage | ClusterChange::NodeAdded(_) | ClusterChange::NodeLabels(_))
    }
}

impl Prepared for Ready<'_> {
    fn everywhere(&self) -> Option<String> {
        self.claims.as_ref().err().cloned()
    }

    fn filter(&self, node: Slot) -> Result<(), Rejection> {
        let Ok(claims) = &self.claims else { return Ok(()) };
        claims.on(self.facts.node(node)).map(drop).map_err(Rejection::for_good)
    }
}
