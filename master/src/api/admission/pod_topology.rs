//! PodTopologyLabels: a pod that is bound gets the labels that say where its node is.

use crate::cache::Snapshot;

/// What pods learn of their node's place.
const COPIED: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// The labels that a pod gets from a node.
pub fn labels_of(snapshot: &Snapshot, node: &str) -> Vec<(&'static str, String)> {
    let Some(node) = snapshot.get("", "nodes", "", node) else { return Vec::new() };
    COPIED.iter().filter_map(|key| Some((*key, node.meta.labels.get(key)?.to_owned()))).collect()
}
