//! Taint-based eviction: pods leave nodes with `NoExecute` taints that they do not tolerate, or not for
//! longer.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use protocol::PatchKind;

use super::health::{may_stay, tolerates_all};
use crate::cache::{Cache, ChangeKind};
use crate::controllers::machinery::meta::{is_deleting, name, namespace, uid};
use crate::controllers::machinery::pods::{disruption, node_name};
use crate::controllers::machinery::watches::{key_of, mapped};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// The controller.
#[derive(Default)]
pub struct TaintEvictionController {
    /// Since when pods stay for a while only; no more of them than there are pods.
    waiting: Arc<Mutex<HashMap<Key, Timestamp>>>,
}

impl TaintEvictionController {
    /// Forgets a pod that was to go later, and says that it need not.
    fn cancel(&self, cx: &Cx, key: &Key) {
        if self.waiting.lock().remove(key).is_some() {
            cx.events.tell(about(key), "Normal", REASON, format!("Cancelling deletion of Pod {key}"));
        }
    }
}

/// Upstream knows no more of a pod here than its name.
fn about(key: &Key) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        ..ObjectReference::default()
    }
}

const REASON: &str = "TaintManagerEviction";

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
        // Called when the actor starts, which does not know what it missed.
        self.waiting.lock().clear();
        let (of_pod, of_node) = (self.waiting.clone(), self.waiting.clone());
        vec![
            mapped::<Pod>(move |change, cache| {
                let node = change.stored.meta.field("spec.nodeName");
                let key = key_of(&change.stored);
                let concerned = match change.kind {
                    ChangeKind::Deleted => of_pod.lock().contains_key(&key),
                    _ => !node.is_empty() && evicts(cache, node),
                };
                if concerned { vec![key] } else { Vec::new() }
            }),
            mapped::<Node>(move |change, cache| {
                let node = &*change.stored.meta.name;
                if change.kind == ChangeKind::Deleted {
                    return Vec::new();
                }
                let snapshot = cache.snapshot();
                let pods = snapshot.pods_on(node).map(|p| key_of(p));
                if evicts(cache, node) {
                    return pods.collect();
                }
                let waiting = of_node.lock();
                if waiting.is_empty() {
                    return Vec::new();
                }
                pods.filter(|key| waiting.contains_key(key)).collect()
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(pod) = cx.cache.get::<Pod>(&key.namespace, &key.name) else {
            self.cancel(cx, key);
            return Ok(Outcome::DONE);
        };
        let Some(node) = cx.cache.get::<Node>("", node_name(&pod)) else { return Ok(Outcome::DONE) };
        if is_deleting(&pod.metadata) {
            return Ok(Outcome::DONE);
        }
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
        let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
        let since = self.waiting.lock().get(key).copied();
        let Some(left) = may_stay(tolerations, taints, since.unwrap_or(cx.now), cx.now) else {
            self.cancel(cx, key);
            return Ok(Outcome::DONE);
        };
        if !left.is_zero() {
            self.waiting.lock().entry(key.clone()).or_insert(cx.now);
            return Ok(Outcome::again(left));
        }
        // A taint that is not tolerated at all does away with the time that another left.
        if !tolerates_all(tolerations, taints) {
            self.cancel(cx, key);
        }
        self.waiting.lock().remove(key);
        let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
        let why = "Taint manager: deleting due to NoExecute taint";
        let patch = disruption(&pod, "DeletionByTaintManager", why, cx.now);
        match cx.client.patch::<Pod>(ns, n, Some("status"), PatchKind::Strategic, &patch).await {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
        cx.events.tell(about(key), "Normal", REASON, format!("Marking for deletion Pod {key}"));
        match cx.client.delete::<Pod>(ns, n, Some(uid(&pod.metadata)), None).await {
            Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e.into()),
            _ => Ok(Outcome::DONE),
        }
    }
}
