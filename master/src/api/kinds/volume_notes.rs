//! What volumes, claims and storage classes may say but had better not.

use serde_json::Value;

use super::checks::amount;
use super::pods::warnings::{OLD_VOLUMES, node_term, old_label};
use crate::api::invalid::Path;
use crate::api::object::{list, text};

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
pub(super) const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

fn old_annotation(object: &Value, key: &str, since: &str, field: &str, said: &mut Vec<String>) {
    if object["metadata"]["annotations"].get(key).is_some() {
        let at = Path::new("metadata.annotations").key(key);
        said.push(format!("{at}: deprecated since {since}; use \"{field}\" attribute instead"));
    }
}

/// What is said about a volume.
pub(super) fn volume(object: &Value, _: Option<&Value>, said: &mut Vec<String>) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    old_annotation(object, CLASS, "v1.8", "storageClassName", said);
    old_annotation(object, MOUNT_OPTIONS, "v1.31", "mountOptions", said);
    let at = Path::new("spec.nodeAffinity.required.nodeSelectorTerms");
    for (i, term) in list(spec, &["nodeAffinity", "required", "nodeSelectorTerms"]).iter().enumerate() {
        node_term(term, false, &at.index(i), said);
    }
    if text(spec, &["persistentVolumeReclaimPolicy"]) == "Recycle" {
        let at = path.child("persistentVolumeReclaimPolicy");
        said.push(format!(
            "{at}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic \
             provisioning."
        ));
    }
    for (kind, why) in OLD_VOLUMES.iter().filter(|(kind, _)| !spec[*kind].is_null()) {
        let shown = if *kind == "storageos" { "storageOS" } else { kind };
        said.push(format!("{}: {why}", path.child(shown)));
    }
}

/// What is said about a claim.
pub(super) fn claim(object: &Value, _: Option<&Value>, said: &mut Vec<String>) {
    old_annotation(object, CLASS, "v1.8", "storageClassName", said);
    claim_spec(&object["spec"], &Path::new("spec"), said);
}

/// What is said about a claim's spec, of a claim or of a template.
pub(super) fn claim_spec(spec: &Value, path: &Path, said: &mut Vec<String>) {
    for which in ["requests", "limits"] {
        let value = &spec["resources"][which]["storage"];
        if amount(value).is_some_and(|q| !q.passes_for_whole()) {
            let at = path.child("resources").child(which).key("storage");
            said.push(format!("{at}: fractional byte value {value} is invalid, must be an integer"));
        }
    }
}

/// What is said about a storage class.
pub(super) fn class(object: &Value, _: Option<&Value>, said: &mut Vec<String>) {
    for (i, term) in list(object, &["allowedTopologies"]).iter().enumerate() {
        let at = Path::new("allowedTopologies").index(i).child("matchLabelExpressions");
        for (j, expression) in list(term, &["matchLabelExpressions"]).iter().enumerate() {
            old_label(text(expression, &["key"]), &at.index(j).child("key"), said);
        }
    }
}

/// What is said about the storage that there is on some nodes.
pub(super) fn capacity(object: &Value, _: Option<&Value>, said: &mut Vec<String>) {
    let (topology, path) = (&object["nodeTopology"], Path::new("nodeTopology"));
    node_term(topology, false, &path, said);
    for key in topology["matchLabels"].as_object().into_iter().flat_map(|labels| labels.keys()) {
        old_label(key, &path.child("matchLabels").child(key), said);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_old_or_cannot_be_is_said() {
        let mut said = Vec::new();
        let spec = json!({"persistentVolumeReclaimPolicy": "Recycle", "rbd": {}});
        volume(&json!({"metadata": {"annotations": {CLASS: "x"}}, "spec": spec}), None, &mut said);
        claim(&json!({"spec": {"resources": {"requests": {"storage": "1500m"}}}}), None, &mut said);
        assert_eq!(
            said,
            [
                "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \
                 \"storageClassName\" attribute instead",
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the \
                 recommended approach is to use dynamic provisioning.",
                "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
                "spec.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer",
            ]
        );
    }
}
