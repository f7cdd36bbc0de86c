//! Where a pod's volumes let it run, and what has to be written before it may: claims that wait for their
//! first pod are bound, or provisioned, for the node that the pod gets. Pure; the binder acts.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::StorageClass;
use protocol::Object;

use super::pod::node_terms;
use crate::cache::Snapshot;
use crate::controllers::machinery::meta::{annotation, is_deleting, name, namespace};
use crate::controllers::volumes::matching::{best, class_of_claim};
use crate::controllers::volumes::protection::claims_of;
use crate::controllers::volumes::{BIND_COMPLETED, NO_PROVISIONER, SELECTED_NODE};

/// Why a pod's volumes keep it off every node.
pub type Obstacle = String;

/// A pod's claims, as far as they decide about nodes.
#[derive(Default)]
pub struct Claims {
    /// Volumes that are bound already; `None` for one that is gone.
    bound: Vec<Option<Arc<PersistentVolume>>>,
    /// Claims that wait for the pod's node.
    waiting: Vec<(Arc<PersistentVolumeClaim>, Arc<StorageClass>)>,
    /// What there is to bind them to.
    volumes: Vec<Arc<PersistentVolume>>,
}

/// What to write before the pod is bound.
#[derive(Debug)]
pub enum Step {
    /// Reserve this volume for the claim.
    Reserve(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>),
    /// Have a volume made for the claim, near the node.
    Provision(Arc<PersistentVolumeClaim>),
}

fn typed<K: Object>(snapshot: &Snapshot, namespace: &str, name: &str) -> Option<Arc<K>> {
    snapshot.get(K::GROUP, K::URL_PATH_SEGMENT, namespace, name).and_then(|s| s.typed().ok())
}

/// A pod's claims; `Ok(None)` where it has none.
pub fn claims(snapshot: &Snapshot, pod: &Pod) -> Result<Option<Claims>, Obstacle> {
    let names = claims_of(pod);
    if names.is_empty() {
        return Ok(None);
    }
    let mut out = Claims::default();
    let mut unbound = false;
    for n in names {
        let Some(claim) = typed::<PersistentVolumeClaim>(snapshot, namespace(&pod.metadata), &n) else {
            return Err(format!("persistentvolumeclaim {n:?} not found"));
        };
        if is_deleting(&claim.metadata) {
            return Err(format!("persistentvolumeclaim {n:?} is being deleted"));
        }
        let volume = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
        if claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost") {
            return Err(format!(
                "persistentvolumeclaim {n:?} bound to non-existent persistentvolume {volume:?}"
            ));
        }
        if !volume.is_empty() && annotation(&claim.metadata, BIND_COMPLETED).is_some() {
            out.bound.push(typed(snapshot, "", volume));
            continue;
        }
        let class = typed::<StorageClass>(snapshot, "", class_of_claim(&claim));
        match class.filter(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")) {
            Some(class) if volume.is_empty() => out.waiting.push((claim, class)),
            _ => unbound = true,
        }
    }
    if unbound {
        return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
    }
    if !out.waiting.is_empty() {
        let volumes = snapshot.list("", "persistentvolumes", "");
        out.volumes = volumes.filter_map(|s| s.typed().ok()).collect();
    }
    Ok(Some(out))
}

/// Whether a volume can be reached from a node.
fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let required =
        volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref()).and_then(|a| a.required.as_ref());
    let labels = node.metadata.labels.as_ref();
    required.is_none_or(|selector| {
        node_terms(selector)
            .iter()
            .any(|t| t.matches(name(&node.metadata), |k| labels.and_then(|l| l.get(k)).map(String::as_str)))
    })
}

/// Whether a class makes volumes near a node.
fn provisions(class: &StorageClass, node: &Node) -> bool {
    if class.provisioner == NO_PROVISIONER {
        return false;
    }
    let labels = node.metadata.labels.as_ref();
    let within = |term: &TopologySelectorTerm| {
        term.match_label_expressions
            .iter()
            .flatten()
            .all(|e| labels.and_then(|l| l.get(&e.key)).is_some_and(|v| e.values.contains(v)))
    };
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    terms.is_empty() || terms.iter().any(within)
}

impl Claims {
    /// What has to be written for a node, or why the node will not do.
    pub fn on(&self, node: &Node) -> Result<Vec<Step>, &'static str> {
        for volume in &self.bound {
            match volume {
                None => {
                    return Err("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
                }
                Some(volume) if !reaches(volume, node) => {
                    return Err("node(s) didn't match PersistentVolume's node affinity");
                }
                Some(_) => {}
            }
        }
        let mut steps = Vec::new();
        let mut chosen: Vec<Arc<PersistentVolume>> = Vec::new();
        for (claim, class) in &self.waiting {
            let free = |v: &PersistentVolume| !chosen.iter().any(|c| c.metadata.name == v.metadata.name);
            if let Some(volume) = best(claim, &self.volumes, false, |v| free(v) && reaches(v, node)) {
                chosen.push(volume.clone());
                steps.push(Step::Reserve(volume, claim.clone()));
            } else if provisions(class, node) {
                steps.push(Step::Provision(claim.clone()));
            } else {
                return Err("node(s) didn't find available persistent volumes to bind");
            }
        }
        Ok(steps)
    }
}

/// Whether a claim is bound, or on its way to be on a node.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    annotation(&claim.metadata, BIND_COMPLETED).is_some()
        && claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
}

/// Whether a provisioner gave a claim back because it could not serve the node.
pub fn was_given_back(claim: &PersistentVolumeClaim) -> bool {
    !is_bound(claim) && annotation(&claim.metadata, SELECTED_NODE).is_none()
}
