//! How long a node may keep ConfigMaps and Secrets before it asks for them again: the more nodes there are, the longer. Said
//! in an annotation of each.

use k8s_openapi::api::core::v1::Node;
use protocol::PatchKind;
use serde_json::json;

use crate::cache::ChangeKind;
use crate::controllers::machinery::meta::{annotation, is_deleting};
use crate::controllers::machinery::watches::{key_of, mapped};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";
/// Up to so many nodes, so many seconds.
const STEPS: [(usize, u32); 4] = [(100, 0), (500, 15), (1000, 30), (2000, 60)];
const SECONDS_MAX: u32 = 300;

/// The controller.
pub struct NodePatienceController;

impl Reconciler for NodePatienceController {
    const NAME: &'static str = "ttl";
    const ACCOUNT: &'static str = "ttl-controller";
    const RESOURCE: &'static str = "nodes";
    const WORKERS: usize = 1;

    fn watches(&self) -> Vec<Watch> {
        vec![mapped::<Node>(|change, cache| {
            let snapshot = cache.snapshot();
            match change.kind {
                ChangeKind::Modified if change.stored.mentions(ANNOTATION) => Vec::new(),
                ChangeKind::Modified => vec![key_of(&change.stored)],
                // The number has changed: it may be another step.
                _ if at_a_step(snapshot.count("", "nodes")) => {
                    snapshot.list("", "nodes", "").map(|n| key_of(n)).collect()
                }
                _ => vec![key_of(&change.stored)],
            }
        })]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(node) = cx.cache.get::<Node>("", &key.name) else { return Ok(Outcome::DONE) };
        let wanted = seconds(cx.cache.snapshot().count("", "nodes")).to_string();
        if is_deleting(&node.metadata) || annotation(&node.metadata, ANNOTATION) == Some(&wanted) {
            return Ok(Outcome::DONE);
        }
        let patch = json!({"metadata": {"annotations": {ANNOTATION: wanted}}});
        match cx.client.patch::<Node>("", &key.name, None, PatchKind::Strategic, &patch).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}

fn seconds(nodes: usize) -> u32 {
    STEPS.iter().find(|(most, _)| nodes <= *most).map_or(SECONDS_MAX, |(_, seconds)| *seconds)
}

/// Whether one node more or less makes a difference.
fn at_a_step(nodes: usize) -> bool {
    STEPS.iter().any(|(most, _)| nodes == *most || nodes == most + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_nodes_ask_less_often() {
        let times = [1, 100, 101, 500, 501, 1000, 1001, 2000, 2001, 5000].map(seconds);
        assert_eq!(times, [0, 0, 15, 15, 30, 30, 60, 60, 300, 300]);
        assert!(at_a_step(100) && at_a_step(101) && !at_a_step(102) && !at_a_step(5));
    }
}
