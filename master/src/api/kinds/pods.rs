//! Pods.

use std::collections::BTreeMap;

use protocol::Quantity;
use serde_json::{Value, json};

use super::{Strategy, base, podspec, podspec_defaults};
use crate::api::invalid::{Errors, Path};
use crate::api::object::{default, list, list_mut, object_mut};

pub(super) fn strategy() -> Strategy {
    Strategy { defaults, prepare_create, validate, validate_update, ..base() }
}

fn defaults(pod: &mut Value) {
    podspec_defaults::pod_spec(&mut pod["spec"]);
    if let Some(spec) = pod["spec"].as_object_mut() {
        default(spec, "enableServiceLinks", true);
    }
    for kind in ["initContainers", "containers"] {
        for container in list_mut(pod, &["spec", kind]) {
            // What is limited is requested, unless it says otherwise.
            let limits = container["resources"]["limits"].as_object().cloned().unwrap_or_default();
            if limits.is_empty() {
                continue;
            }
            let requests = object_mut(container, &["resources", "requests"]);
            for (name, amount) in limits {
                requests.entry(name).or_insert(amount);
            }
        }
    }
}

fn prepare_create(pod: &mut Value) {
    let qos = qos_class(pod);
    pod["status"] = json!({"phase": "Pending", "qosClass": qos});
    // Schedulers skip a pod that is held back, and say so.
    if !list(pod, &["spec", "schedulingGates"]).is_empty() {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates", "lastProbeTime": null,
            "lastTransitionTime": null,
        }]);
    }
}

/// The quality of service that a pod's requests and limits give it.
pub fn qos_class(pod: &Value) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for kind in ["initContainers", "containers"] {
        for container in list(pod, &["spec", kind]) {
            let amounts = |which: &str| -> BTreeMap<&str, Quantity> {
                let map = container["resources"][which].as_object();
                let entries =
                    map.into_iter().flatten().filter(|(k, _)| matches!(k.as_str(), "cpu" | "memory"));
                entries
                    .filter_map(|(k, v)| Some((k.as_str(), v.as_str()?.parse::<Quantity>().ok()?)))
                    .filter(|(_, q)| !q.is_zero())
                    .collect()
            };
            let (requests, limits) = (amounts("requests"), amounts("limits"));
            any |= !requests.is_empty() || !limits.is_empty();
            guaranteed &= limits.len() == 2 && (requests.is_empty() || requests == limits);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn validate(pod: &Value, errors: &mut Errors) {
    podspec::validate(&pod["spec"], &Path::new("spec"), errors);
}

/// What may change in a pod's spec once it exists.
fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (before, after) = (&old["spec"], &new["spec"]);
    for kind in ["containers", "initContainers"] {
        if list(after, &[kind]).len() != list(before, &[kind]).len() {
            errors.forbidden(&path.child(kind), "pod updates may not add or remove containers");
            return;
        }
    }
    // Tolerations may be added, images, deadlines and gates changed; everything else stays.
    let mut masked = after.clone();
    for kind in ["containers", "initContainers"] {
        for (i, container) in list_mut(&mut masked, &[kind]).iter_mut().enumerate() {
            container["image"] = list(before, &[kind])[i]["image"].clone();
        }
    }
    for name in ["activeDeadlineSeconds", "schedulingGates", "terminationGracePeriodSeconds"] {
        let grace = name == "terminationGracePeriodSeconds";
        if grace && !(before[name].as_i64() < Some(0) && after[name].as_i64() == Some(1)) {
            continue;
        }
        set(&mut masked, name, before);
    }
    let kept = list(before, &["tolerations"]).iter().all(|t| list(after, &["tolerations"]).contains(t));
    if kept {
        set(&mut masked, "tolerations", before);
    }
    if !list(before, &["schedulingGates"]).is_empty() {
        // A pod that no scheduler may place yet can still be narrowed.
        for name in ["nodeSelector", "affinity"] {
            set(&mut masked, name, before);
        }
    }
    if masked != *before {
        errors.forbidden(
            &path,
            "pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
             existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously \
             negative)",
        );
    }
}

fn set(masked: &mut Value, name: &str, before: &Value) {
    let Some(map) = masked.as_object_mut() else { return };
    match before.get(name) {
        Some(value) => map.insert(name.to_owned(), value.clone()),
        None => map.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        for (resources, class) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}),
                "Guaranteed",
            ),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}),
                "Burstable",
            ),
            (json!({"limits": {"cpu": "0", "memory": "0"}}), "BestEffort"),
        ] {
            assert_eq!(qos_class(&pod(resources.clone())), class, "{resources}");
        }
    }
}
