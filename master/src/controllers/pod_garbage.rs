//! Pod garbage: pods on nodes that are gone, pods deleted before they had a node, and ended pods beyond a
//! number.

use std::collections::HashMap;
use std::time::Duration;

use actors::time::Instant;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use protocol::PatchKind;
use serde_json::json;

use super::machinery::meta::{name, namespace, time, uid};
use super::machinery::pods::{is_finished, node_name};
use super::machinery::watches::{key_of, mapped};
use super::machinery::{Cx, Key, Outcome, ReconcileError, Reconciler, Watch};
use crate::cache::{ChangeKind, Stored};

/// How long whoever deleted a pod that no node runs is left to take it away.
const GOES_ALONE: Duration = Duration::from_secs(2);
/// How long a pod's node may be missing before the pod goes: the node may only be coming up again.
const QUARANTINE: Duration = Duration::from_secs(40);
/// The key under which ended pods are counted.
const ENDED: &str = "ended";

/// The controller.
pub struct PodGarbageCollector {
    ended_max: usize,
    /// Since when pods miss the node that they are bound to. Whoever is bound to a node that has long been missing gets
    /// as much time as the others had.
    missing: Mutex<HashMap<Key, Instant>>,
}

impl PodGarbageCollector {
    /// With the number of ended pods that may stay; 0 for all.
    pub fn new(ended_max: usize) -> Self {
        PodGarbageCollector { ended_max, missing: Mutex::default() }
    }
}

impl Reconciler for PodGarbageCollector {
    const NAME: &'static str = "pod_garbage_collector";
    const ACCOUNT: &'static str = "pod-garbage-collector";
    const RESOURCE: &'static str = "pods";

    fn watches(&self) -> Vec<Watch> {
        let ended_max = self.ended_max;
        vec![
            mapped::<Pod>(move |change, cache| {
                let meta = &change.stored.meta;
                let snapshot = cache.snapshot();
                let node = meta.field("spec.nodeName");
                let homeless = !node.is_empty() && snapshot.get("", "nodes", "", node).is_none();
                let mut keys = Vec::new();
                if change.kind == ChangeKind::Deleted {
                    // To be forgotten.
                    return if homeless { vec![key_of(&change.stored)] } else { keys };
                }
                if homeless || (node.is_empty() && meta.is_deleting()) {
                    keys.push(key_of(&change.stored));
                }
                let ended = matches!(meta.field("status.phase"), "Succeeded" | "Failed");
                if ended && ended_max > 0 && snapshot.count("", "pods") > ended_max {
                    keys.push(Key::new("", ENDED));
                }
                keys
            }),
            mapped::<Node>(|change, cache| {
                if change.kind != ChangeKind::Deleted {
                    return Vec::new();
                }
                let node = &*change.stored.meta.name;
                let snapshot = cache.snapshot();
                snapshot
                    .list("", "pods", "")
                    .filter(|p| p.meta.field("spec.nodeName") == node)
                    .map(|p| key_of(p))
                    .collect()
            }),
        ]
    }

    async fn reconcile(&self, cx: &Cx, key: &Key) -> Result<Outcome, ReconcileError> {
        if key.namespace.is_empty() {
            return self.ended(cx).await;
        }
        let snapshot = cx.cache.snapshot();
        let Some(stored) = snapshot.get("", "pods", &key.namespace, &key.name) else {
            self.missing.lock().remove(key);
            return Ok(Outcome::DONE);
        };
        let alone = stored.meta.field("spec.nodeName").is_empty();
        if alone && let Some(left) = left_alone(stored, cx.now) {
            return Ok(Outcome::again(left));
        }
        let Some(pod) = cx.cache.get::<Pod>(&key.namespace, &key.name) else { return Ok(Outcome::DONE) };
        let node = node_name(&pod);
        if node.is_empty() {
            // No kubelet will ever confirm its end.
            if pod.metadata.deletion_timestamp.is_some() {
                remove(cx, &pod).await?;
            }
            return Ok(Outcome::DONE);
        }
        if cx.cache.snapshot().get("", "nodes", "", node).is_some() {
            self.missing.lock().remove(key);
            return Ok(Outcome::DONE);
        }
        let missing = self.missing.lock().entry(key.clone()).or_insert_with(Instant::now).elapsed();
        if missing < QUARANTINE {
            return Ok(Outcome::again(QUARANTINE - missing));
        }
        // The cache may be wrong; the server is not.
        if cx.client.find::<Node>("", node).await?.is_some() {
            return Ok(Outcome::again(QUARANTINE));
        }
        remove_orphan(cx, &pod).await?;
        Ok(Outcome::DONE)
    }
}

/// How long a deleted pod is left to whoever deletes it, who usually takes it away a moment after having said so:
/// so this is asked of nearly every pod that goes, and takes none apart.
fn left_alone(pod: &Stored, now: Timestamp) -> Option<Duration> {
    let since: Timestamp = pod.meta.deletion_timestamp.as_deref()?.parse().ok()?;
    let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    Some(GOES_ALONE.saturating_sub(age)).filter(|left| !left.is_zero())
}

impl PodGarbageCollector {
    async fn ended(&self, cx: &Cx) -> Result<Outcome, ReconcileError> {
        let snapshot = cx.cache.snapshot();
        let mut ended: Vec<_> = snapshot
            .list("", "pods", "")
            .filter(|p| {
                matches!(p.meta.field("status.phase"), "Succeeded" | "Failed") && !p.meta.is_deleting()
            })
            .collect();
        let surplus = ended.len().saturating_sub(self.ended_max);
        ended.sort_by(|a, b| {
            a.meta.creation_timestamp.cmp(&b.meta.creation_timestamp).then(a.key.cmp(&b.key))
        });
        for stored in ended.into_iter().take(surplus) {
            if let Ok(pod) = stored.typed::<Pod>() {
                remove(cx, &pod).await?;
            }
        }
        Ok(Outcome::DONE)
    }
}

async fn remove(cx: &Cx, pod: &Pod) -> Result<(), ReconcileError> {
    let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
    match cx.client.delete::<Pod>(ns, n, Some(uid(&pod.metadata)), Some(0)).await {
        Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e.into()),
        _ => Ok(()),
    }
}

async fn remove_orphan(cx: &Cx, pod: &Pod) -> Result<(), ReconcileError> {
    if !is_finished(pod) {
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": "Failed", "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists", "lastTransitionTime": time(cx.now),
        }]}});
        let (ns, n) = (namespace(&pod.metadata), name(&pod.metadata));
        match cx.client.patch::<Pod>(ns, n, Some("status"), PatchKind::Strategic, &patch).await {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
    }
    remove(cx, pod).await
}
