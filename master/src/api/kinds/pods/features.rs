//! What pods may say though the cluster does not heed it: fields of features that are not switched on are dropped,
//! but where a stored object has them already.

use serde_json::{Value, json};

use super::containers::KINDS;
use crate::api::object::{existing_mut, list, list_mut, object_mut, text};

/// Sources of projected volumes that are not switched on.
const PROJECTIONS: &[&str] = &["clusterTrustBundle", "podCertificate"];

/// Drops from a spec what is not switched on; `old` is the stored object's spec, or null.
pub fn drop_disabled(spec: &mut Value, old: &Value) {
    if !spec.is_object() {
        return;
    }
    if old["schedulingGroup"].is_null() {
        object_mut(spec, &[]).remove("schedulingGroup");
    }
    let signals = |spec: &Value| {
        let mut all = KINDS.iter().flat_map(|kind| list(spec, &[kind]));
        all.any(|item| !item["lifecycle"]["stopSignal"].is_null())
    };
    if !signals(old) {
        for kind in KINDS {
            for item in list_mut(spec, &[kind]) {
                let Some(lifecycle) = existing_mut(item, &["lifecycle"]) else { continue };
                // Who said nothing else said nothing.
                if lifecycle.remove("stopSignal").is_some() && lifecycle.is_empty() {
                    object_mut(item, &[]).remove("lifecycle");
                }
            }
        }
    }
    for name in PROJECTIONS {
        let projects = |spec: &Value| {
            let mut all = list(spec, &["volumes"]).iter().flat_map(|v| list(v, &["projected", "sources"]));
            all.any(|source| !source[*name].is_null())
        };
        if projects(old) {
            continue;
        }
        for volume in list_mut(spec, &["volumes"]) {
            for source in list_mut(volume, &["projected", "sources"]) {
                object_mut(source, &[]).remove(*name);
            }
        }
    }
}

/// Drops from a status what is not switched on: which image a volume is, and what claims have of a node's own resources.
pub(super) fn drop_disabled_status(pod: &mut Value, old: &Value) {
    const OF_NODE: &str = "nodeAllocatableResourceClaimStatuses";
    if list(old, &["status", OF_NODE]).is_empty()
        && let Some(status) = existing_mut(pod, &["status"])
    {
        status.remove(OF_NODE);
    }
    const STATUSES: [&str; 3] = ["containerStatuses", "ephemeralContainerStatuses", "initContainerStatuses"];
    let tells = |pod: &Value| {
        let all = STATUSES.iter().flat_map(|name| list(pod, &["status", name]));
        all.flat_map(|status| list(status, &["volumeMounts"])).any(|mount| !mount["volumeStatus"].is_null())
    };
    if tells(old) || !tells(pod) {
        return;
    }
    for name in STATUSES {
        for status in list_mut(pod, &["status", name]) {
            for mount in list_mut(status, &["volumeMounts"]) {
                object_mut(mount, &[]).remove("volumeStatus");
            }
        }
    }
}

/// Puts into selectors what they take from the pod's own labels.
pub(super) fn label_keys(pod: &mut Value) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let labels = pod["metadata"]["labels"].clone();
    let spec = &mut pod["spec"];
    for constraint in list_mut(spec, &["topologySpreadConstraints"]) {
        select(constraint, &[("matchLabelKeys", "In")], &labels);
    }
    let both = [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")];
    for kind in ["podAffinity", "podAntiAffinity"] {
        for term in list_mut(spec, &["affinity", kind, PREFERRED]) {
            if let Some(term) = term.get_mut("podAffinityTerm") {
                select(term, &both, &labels);
            }
        }
        for term in list_mut(spec, &["affinity", kind, REQUIRED]) {
            select(term, &both, &labels);
        }
    }
}

fn select(term: &mut Value, fields: &[(&str, &str)], labels: &Value) {
    if !term["labelSelector"].is_object() {
        return;
    }
    let mut more = Vec::new();
    for (field, operator) in fields {
        for key in list(term, &[field]).iter().filter_map(Value::as_str) {
            if !labels[key].is_null() {
                let value = text(labels, &[key]);
                more.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if !more.is_empty() {
        let mut all = list(term, &["labelSelector", "matchExpressions"]).to_vec();
        all.append(&mut more);
        object_mut(term, &["labelSelector"]).insert("matchExpressions".to_owned(), all.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_does_not_begin_to_tell_what_is_not_switched_on() {
        let told = json!({"status": {"containerStatuses": [
            {"name": "c", "volumeMounts": [{"name": "v", "volumeStatus": {"image": {"imageRef": "x"}}}]},
        ]}});
        let mut new = told.clone();
        drop_disabled_status(&mut new, &json!({}));
        assert_eq!(new["status"]["containerStatuses"][0]["volumeMounts"], json!([{"name": "v"}]));
        let mut kept = told.clone();
        drop_disabled_status(&mut kept, &told);
        assert_eq!(kept, told);
    }

    #[test]
    fn what_is_not_switched_on_is_dropped_from_what_is_new() {
        let with = json!({
            "containers": [{"lifecycle": {"stopSignal": "SIGHUP"}}],
            "volumes": [{"projected": {"sources": [{"podCertificate": {}}]}}],
            "schedulingGroup": {},
        });
        let mut new = with.clone();
        drop_disabled(&mut new, &Value::Null);
        assert_eq!(new, json!({"containers": [{}], "volumes": [{"projected": {"sources": [{}]}}]}));
        let mut kept = with.clone();
        drop_disabled(&mut kept, &with);
        assert_eq!(kept, with);
    }

    #[test]
    fn selectors_take_from_the_pods_labels() {
        let mut pod = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {
                "topologySpreadConstraints": [{"matchLabelKeys": ["a", "c"], "labelSelector": {}}],
                "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"mismatchLabelKeys": ["b"], "labelSelector": {"matchLabels": {"x": "y"}}},
                    {"matchLabelKeys": ["a"]},
                ]}},
            },
        });
        label_keys(&mut pod);
        let spec = &pod["spec"];
        assert_eq!(
            spec["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"],
            json!([{"key": "a", "operator": "In", "values": ["1"]}])
        );
        let terms = &spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(
            terms[0]["labelSelector"]["matchExpressions"],
            json!([{"key": "b", "operator": "NotIn", "values": ["2"]}])
        );
        assert!(terms[1]["labelSelector"].is_null());
    }
}
