//! The recreate strategy: every old pod is gone before the first new one comes.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use super::rolling::replicas;
use crate::controllers::machinery::meta::{controller_of, name};
use crate::controllers::machinery::pods::is_finished;

/// Old ReplicaSets that still ask for pods, and must ask for none.
pub fn shrink_old(old: &[&ReplicaSet]) -> Vec<(String, i32)> {
    old.iter().filter(|rs| replicas(rs) > 0).map(|rs| (name(&rs.metadata).to_owned(), 0)).collect()
}

/// Whether pods of old ReplicaSets still run; terminating ones count, because they still hold what the new
/// ones may need.
pub fn old_pods_running(new: Option<&ReplicaSet>, old: &[&ReplicaSet], pods: &[impl AsRef<Pod>]) -> bool {
    if old.iter().any(|rs| rs.status.as_ref().is_some_and(|s| s.replicas > 0)) {
        return true;
    }
    let new_uid = new.and_then(|rs| rs.metadata.uid.as_deref());
    pods.iter().map(AsRef::as_ref).any(|pod| {
        let owner = controller_of(&pod.metadata).map(|r| r.uid.as_str());
        owner.is_some()
            && owner != new_uid
            && old.iter().any(|rs| rs.metadata.uid.as_deref() == owner)
            && !is_finished(pod)
    })
}
