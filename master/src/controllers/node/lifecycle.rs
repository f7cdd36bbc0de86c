//! The node lifecycle: a node that neither renews its lease nor posts its status counts as unreachable; its
//! pods stop being ready, and taints say what may run there.

use std::collections::HashMap;
use std::time::Duration;

use actors::time::Instant;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference, Pod};
use parking_lot::Mutex;
use protocol::PatchKind;
use serde_json::{Map, Value, json};

use super::health::{self, condition, ready};
use crate::controllers::machinery::meta::{name, namespace, time, uid};
use crate::controllers::machinery::pods;
use crate::controllers::machinery::watches::{mapped, own};
use crate::controllers::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};

/// Namespace of the nodes' leases.
pub const LEASES: &str = "kube-node-lease";

/// The controller.
pub struct NodeLifecycleController {
    grace: Duration,
    /// When each node was last heard, by this process' own clock: clocks of nodes may be wrong. After a
    /// restart every node has its full time again.
    heard: Mutex<HashMap<String, Heard>>,
}

struct Heard {
    uid: String,
    /// The lease's renewal and the status' heartbeat, as last seen; only their changing counts.
    signs: (String, String),
    at: Instant,
}

impl NodeLifecycleController {
    /// With the time after which a silent node counts as gone.
    pub fn new(grace: Duration) -> Self {
        NodeLifecycleController { grace, heard: Mutex::default() }
    }

    /// How long the node has been silent, and whether it was not known before.
    fn silence(&self, cx: &Cx, node: &Node) -> (Duration, bool) {
        let lease = cx.cache.get::<Lease>(LEASES, name(&node.metadata));
        let renewed = lease.and_then(|l| l.spec.as_ref().and_then(|s| s.renew_time.clone()));
        let heartbeat = condition(node, "Ready").and_then(|c| c.last_heartbeat_time.clone());
        let signs = (
            renewed.map(|t| t.0.to_string()).unwrap_or_default(),
            heartbeat.map(|t| t.0.to_string()).unwrap_or_default(),
        );
        let mut heard = self.heard.lock();
        let now = Instant::now();
        let uid = uid(&node.metadata);
        let known = heard.get(name(&node.metadata)).is_some_and(|h| h.uid == uid);
        let new = || Heard { uid: uid.to_owned(), signs: signs.clone(), at: now };
        let entry = heard.entry(name(&node.metadata).to_owned()).or_insert_with(new);
        if entry.signs != signs || !known {
            *entry = new();
        }
        (now.saturating_duration_since(entry.at), !known)
    }
}

impl Reconciler for NodeLifecycleController {
    const NAME: &'static str = "node_lifecycle";
    const ACCOUNT: &'static str = "node-controller";
    const COMPONENT: &'static str = "node-controller";
    const RESOURCE: &'static str = "nodes";

    fn watches(&self) -> Vec<Watch> {
        vec![
            own::<Node>(),
            mapped::<Lease>(|change, cache| {
                let meta = &change.stored.meta;
                let known =
                    &*meta.namespace == LEASES && cache.snapshot().get("", "nodes", "", &meta.name).is_some();
                if known { vec![Key::new("", &meta.name)] } else { Vec::new() }
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        let Some(node) = cx.cache.get::<Node>("", &key.name) else {
            let gone = self.heard.lock().remove(&*key.name);
            if let Some(gone) = gone {
                let about = about(&key.name, &gone.uid);
                let text = format!("Node {0} event: Removing Node {0} from Controller", key.name);
                cx.events.tell(about, "Normal", "RemovingNode", text);
            }
            return Ok(Outcome::DONE);
        };
        let (silence, new) = self.silence(cx, &node);
        if new {
            let text = format!("Node {0} event: Registered Node {0} in Controller", key.name);
            cx.events.tell(about(&key.name, uid(&node.metadata)), "Normal", "RegisteredNode", text);
        }
        if let Some(patch) = labels(&node) {
            match cx.client.patch::<Node>("", &key.name, None, PatchKind::Strategic, &patch).await {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                // The rest once that is seen.
                _ => return Ok(Outcome::DONE),
            }
        }
        let mut node = node;
        let turned = health::silent_conditions(&node, silence, self.grace, cx.now);
        if !turned.is_empty() {
            let was_ready = ready(&node) == "True";
            node = std::sync::Arc::new(write_conditions(cx, &node, &turned).await?);
            if was_ready {
                let text = format!("Node {} status is now: NodeNotReady", key.name);
                cx.events.normal(&*node, "NodeNotReady", text);
            }
        }
        // A kubelet that says that it is not ready says so of its pods, too; for one that is silent it is said here.
        if condition(&node, "Ready").is_some_and(|c| c.reason.as_deref() == Some(health::SILENT)) {
            mark_pods_not_ready(cx, &key.name).await?;
        }
        // While no node at all is alive, the fault is likely on this side: evict nobody.
        let alive = ready(&node) == "True" || cx.cache.list::<Node>("").iter().any(|n| ready(n) == "True");
        if let Some(taints) = health::taints(&node, alive, cx.now) {
            let mut next = (*node).clone();
            next.spec.get_or_insert_default().taints = (!taints.is_empty()).then_some(taints);
            cx.client.update(&next).await?;
        }
        let left = self.grace.saturating_sub(silence);
        let again = if left.is_zero() {
            // Already told; only the other nodes' coming back (to evict, or not) is still open.
            Duration::from_secs(5).max(self.grace)
        } else {
            left + Duration::from_millis(100)
        };
        Ok(Outcome::again(again))
    }
}

fn about(node: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(node.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// The patch that gives a node the older labels for what the newer say; `None` where it has them.
fn labels(node: &Node) -> Option<Value> {
    let all = node.metadata.labels.as_ref()?;
    let old = ["os", "arch"].iter().filter_map(|what| {
        let (new, old) = (format!("kubernetes.io/{what}"), format!("beta.kubernetes.io/{what}"));
        let value = all.get(&new)?;
        (all.get(&old) != Some(value)).then(|| (old, Value::from(value.as_str())))
    });
    let old: Map<String, Value> = old.collect();
    (!old.is_empty()).then(|| json!({"metadata": {"labels": old}}))
}

async fn write_conditions(cx: &Cx, node: &Node, turned: &[NodeCondition]) -> Result<Node, ReconcileError> {
    let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "status": {"conditions": turned}});
    let name = name(&node.metadata);
    Ok(cx.client.patch::<Node>("", name, Some("status"), PatchKind::Strategic, &patch).await?)
}

/// Services must not send anything to pods of a node that is gone.
async fn mark_pods_not_ready(cx: &Cx, node: &str) -> Result<(), ReconcileError> {
    let snapshot = cx.cache.snapshot();
    for stored in snapshot.list("", "pods", "").filter(|p| p.meta.field("spec.nodeName") == node) {
        let Ok(pod) = stored.typed::<Pod>() else { continue };
        if !pods::is_ready(&pod) {
            continue;
        }
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": time(cx.now)}]}});
        let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
        match cx.client.patch::<Pod>(ns, n, Some("status"), PatchKind::Strategic, &patch).await {
            Ok(pod) => cx.events.warning(&pod, "NodeNotReady", "Node is not ready"),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_labels_follow_the_newer() {
        let patch =
            |all: Value| labels(&serde_json::from_value(json!({"metadata": {"labels": all}})).unwrap());
        assert_eq!(patch(json!({"a": "b", "beta.kubernetes.io/os": "x"})), None);
        assert_eq!(patch(json!({"kubernetes.io/os": "x", "beta.kubernetes.io/os": "x"})), None);
        assert_eq!(
            patch(json!({"kubernetes.io/os": "x", "beta.kubernetes.io/os": "y", "kubernetes.io/arch": "z"})),
            Some(
                json!({"metadata": {"labels": {"beta.kubernetes.io/os": "x", "beta.kubernetes.io/arch": "z"}}})
            )
        );
    }
}
