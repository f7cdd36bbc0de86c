//! The node lifecycle: a node that neither renews its lease nor posts its status counts as unreachable; its
//! pods stop being ready, and taints say what may run there.

use std::collections::HashMap;
use std::time::Duration;

use actors::time::Instant;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use parking_lot::Mutex;
use protocol::PatchKind;
use serde_json::json;

use super::health::{self, condition, ready};
use crate::controllers::machinery::meta::{name, namespace, time};
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
    /// The lease's renewal and the status' heartbeat, as last seen; only their changing counts.
    signs: (String, String),
    at: Instant,
}

impl NodeLifecycleController {
    /// With the time after which a silent node counts as gone.
    pub fn new(grace: Duration) -> Self {
        NodeLifecycleController { grace, heard: Mutex::default() }
    }

    /// How long the node has been silent.
    fn silence(&self, cx: &Cx, node: &Node) -> Duration {
        let lease = cx.cache.get::<Lease>(LEASES, name(&node.metadata));
        let renewed = lease.and_then(|l| l.spec.as_ref().and_then(|s| s.renew_time.clone()));
        let heartbeat = condition(node, "Ready").and_then(|c| c.last_heartbeat_time.clone());
        let signs = (
            renewed.map(|t| t.0.to_string()).unwrap_or_default(),
            heartbeat.map(|t| t.0.to_string()).unwrap_or_default(),
        );
        let mut heard = self.heard.lock();
        let now = Instant::now();
        let entry = heard
            .entry(name(&node.metadata).to_owned())
            .or_insert_with(|| Heard { signs: signs.clone(), at: now });
        if entry.signs != signs {
            *entry = Heard { signs, at: now };
        }
        now.saturating_duration_since(entry.at)
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
            self.heard.lock().remove(&*key.name);
            return Ok(Outcome::DONE);
        };
        let silence = self.silence(cx, &node);
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
        if condition(&node, "Ready").is_some() && ready(&node) != "True" {
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
