//! Taint-based eviction: pods leave nodes with `NoExecute` taints that they do not tolerate, or not for
//! longer.

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use protocol::PatchKind;
use protocol::events::reference;

use super::health::may_stay;
use crate::cache::{Cache, ChangeKind};
use crate::controllers::machinery::meta::{is_deleting, name, namespace, uid};
use crate::controllers::machinery::pods::{disruption, node_name};
use crate::controllers::machinery::watches::{key_of, mapped};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// The controller.
pub struct TaintEvictionController;

fn evicts(cache: &Cache, node: &str) -> bool {
    cache.get::<Node>("", node).is_some_and(|n| {
        n.spec
            .as_ref()
            .and_then(|s| s.taints.as_ref())
            .is_some_and(|t| t.iter().any(|t| t.effect == "NoExecute"))
    })
}

impl Reconciler for TaintEvictionController {
    const NAME: &'static str = "taint_eviction";
    const ACCOUNT: &'static str = "node-controller";
    const COMPONENT: &'static str = "taint-eviction-controller";
    const RESOURCE: &'static str = "pods";

    fn watches(&self) -> Vec<Watch> {
        vec![
            mapped::<Pod>(|change, cache| {
                let node = change.stored.meta.field("spec.nodeName");
                let concerned = change.kind != ChangeKind::Deleted && !node.is_empty() && evicts(cache, node);
                if concerned { vec![key_of(&change.stored)] } else { Vec::new() }
            }),
            mapped::<Node>(|change, cache| {
                let node = &*change.stored.meta.name;
                if change.kind == ChangeKind::Deleted || !evicts(cache, node) {
                    return Vec::new();
                }
                let snapshot = cache.snapshot();
                snapshot.pods_on(node).map(|p| key_of(p)).collect()
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(pod) = cx.cache.get::<Pod>(&key.namespace, &key.name) else { return Ok(Outcome::DONE) };
        let Some(node) = cx.cache.get::<Node>("", node_name(&pod)) else { return Ok(Outcome::DONE) };
        if is_deleting(&pod.metadata) {
            return Ok(Outcome::DONE);
        }
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
        let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
        let Some(left) = may_stay(tolerations, taints, cx.now) else { return Ok(Outcome::DONE) };
        if !left.is_zero() {
            return Ok(Outcome::again(left));
        }
        let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
        let why = "Taint manager: deleting due to NoExecute taint";
        let patch = disruption(&pod, "DeletionByTaintManager", why, cx.now);
        match cx.client.patch::<Pod>(ns, n, Some("status"), PatchKind::Strategic, &patch).await {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
        // Upstream knows no more of the pod here than its name.
        let about = ObjectReference { uid: None, resource_version: None, ..reference(&*pod) };
        cx.events.tell(about, "Normal", "TaintManagerEviction", format!("Marking for deletion Pod {key}"));
        match cx.client.delete::<Pod>(ns, n, Some(uid(&pod.metadata)), None).await {
            Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}
