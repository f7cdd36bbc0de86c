//! Pods.
//!
//! - [`defaults`]: what a pod's author may leave out.
//! - [`features`]: what is written but not switched on.
//! - [`spec`] and the modules that it calls: what a pod may look like.
//! - [`update`]: what may change, by which door. [`status`]: what its status may say.

use std::collections::BTreeMap;

use protocol::Quantity;
use serde_json::{Value, json};

use super::checks::amount;
use super::{Strategy, base, resources};
use crate::api::invalid::{Errors, Path};
use crate::api::object::{copy_meta, default, drop_annotations, list, list_mut, object_mut};

mod annotations;
mod container_statuses;
mod containers;
pub mod defaults;
mod features;
mod overlaps;
mod probes;
pub mod scheduling;
mod security;
pub mod spec;
mod status;
pub mod totals;
mod update;
mod volumes;
pub mod warnings;
mod windows;

pub use features::drop_disabled;

pub(super) fn strategy() -> Strategy {
    Strategy {
        defaults: fill_in,
        prepare_create,
        prepare_update: |new, old| drop_disabled(&mut new["spec"], &old["spec"]),
        prepare_status: |new, old| {
            copy_meta(old, new, "ownerReferences");
            status::keep(new, old);
            status::addresses(new);
            features::drop_disabled_status(new, old);
        },
        validate,
        validate_create,
        validate_update: update::validate,
        validate_status: status::validate,
        prepare_resize: update::prepare_resize,
        validate_resize: update::validate_resize,
        validate_ephemeral: update::validate_ephemeral,
        sent_warnings: annotations::app_armor_notes,
        warnings: warnings::pod,
        status_warnings: Some(warnings::status),
        ..base()
    }
}

/// Annotations that said once what has fields now, and are dropped.
const FORMER_ANNOTATIONS: [&str; 4] = [
    "pod.alpha.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.beta.kubernetes.io/init-containers",
];

fn fill_in(pod: &mut Value) {
    drop_annotations(pod, &FORMER_ANNOTATIONS);
    defaults::pod_spec(&mut pod["spec"]);
    defaults::host_ports(&mut pod["spec"]);
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
    whole_requests(&mut pod["spec"]);
}

/// A pod that says as a whole what it needs has huge pages as its containers have them.
fn whole_limits(spec: &mut Value) {
    let whole = &spec["resources"];
    if ["limits", "requests"].iter().all(|which| whole[*which].as_object().is_none_or(|m| m.is_empty())) {
        return;
    }
    let mut pages = totals::of_containers(spec, "limits");
    pages.retain(|name, _| resources::is_huge_page(name) && whole["requests"][name.as_str()].is_null());
    if pages.is_empty() {
        return;
    }
    let limits = object_mut(spec, &["resources", "limits"]);
    for (name, sum) in pages {
        limits.entry(name).or_insert_with(|| sum.to_string().into());
    }
}

/// A pod that is limited as a whole requests, as a whole, what its containers do, or else what it may use. Of what
/// cannot be promised twice, all that it may use is asked for.
fn whole_requests(spec: &mut Value) {
    if spec["resources"].is_null() {
        object_mut(spec, &[]).remove("resources");
        return;
    }
    whole_limits(spec);
    let limits = spec["resources"]["limits"].as_object().cloned().unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    let asked = totals::of_containers(spec, "requests");
    let asked = asked.into_iter().filter(|(name, _)| resources::overcommit_allowed(name));
    let wanted = asked.map(|(name, sum)| (name, sum.to_string().into())).chain(limits);
    let wanted: Vec<_> = wanted.filter(|(name, _)| resources::is_whole_pods(name)).collect();
    if wanted.is_empty() {
        return;
    }
    let requests = object_mut(spec, &["resources", "requests"]);
    for (name, value) in wanted {
        requests.entry(name).or_insert(value);
    }
}

fn prepare_create(pod: &mut Value) {
    annotations::copy_app_armor(pod);
    drop_disabled(&mut pod["spec"], &Value::Null);
    features::label_keys(pod);
    if pod["spec"]["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        pod["spec"]["terminationGracePeriodSeconds"] = 1.into();
    }
    let qos = qos_class(pod);
    pod["status"] = json!({"phase": "Pending", "qosClass": qos});
    // Schedulers skip a pod that is held back, and say so.
    if !list(pod, &["spec", "schedulingGates"]).is_empty() {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates", "lastProbeTime": null,
            "lastTransitionTime": crate::api::object::now(),
        }]);
    }
}

fn validate(pod: &Value, errors: &mut Errors) {
    let (meta, spec, path) = (&pod["metadata"], &pod["spec"], Path::new("spec"));
    annotations::validate(meta, spec, &Path::new("metadata.annotations"), errors);
    spec::validate(spec, Some(meta), &path, errors);
    containers::validate_in_pod(spec, &path, errors);
}

fn validate_create(pod: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    if !list(pod, &["spec", "ephemeralContainers"]).is_empty() {
        errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
    }
    let named = pod["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
    if named && !list(pod, &["spec", "schedulingGates"]).is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&path.child("nodeName"), detail);
    }
    annotations::match_fields(&pod["metadata"], &pod["spec"], &path, errors);
}

/// The quality of service that a pod's requests and limits give it.
pub fn qos_class(pod: &Value) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    let mut look = |resources: &Value| {
        let amounts = |which: &str| -> BTreeMap<String, Quantity> {
            let map = resources[which].as_object();
            let entries = map.into_iter().flatten().filter(|(k, _)| matches!(k.as_str(), "cpu" | "memory"));
            entries.filter_map(|(k, v)| Some((k.clone(), amount(v)?))).filter(|(_, q)| !q.is_zero()).collect()
        };
        let (requests, limits) = (amounts("requests"), amounts("limits"));
        any |= !requests.is_empty() || !limits.is_empty();
        guaranteed &= limits.len() == 2 && (requests.is_empty() || requests == limits);
    };
    // What the pod asks for as a whole stands above what its containers ask for.
    let whole = &pod["spec"]["resources"];
    if ["requests", "limits"].iter().any(|w| whole[*w].as_object().is_some_and(|m| !m.is_empty())) {
        look(whole);
    } else {
        for kind in ["initContainers", "containers"] {
            list(pod, &["spec", kind]).iter().for_each(|container| look(&container["resources"]));
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
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

    #[test]
    fn a_pod_asks_as_a_whole_for_what_its_containers_need() {
        let container =
            |requests: Value, limits: Value| json!({"resources": {"requests": requests, "limits": limits}});
        for (whole, container, wanted) in [
            (json!(null), container(json!({"cpu": "1"}), json!({})), Value::Null),
            (
                json!({"limits": {"cpu": "2"}}),
                container(json!({"cpu": "1", "memory": "1Gi", "example.com/x": "1"}), json!({})),
                json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1", "memory": "1Gi"}}),
            ),
            (
                json!({"limits": {"memory": "2Gi", "hugepages-2Mi": "8Mi"}}),
                container(json!({"hugepages-2Mi": "4Mi"}), json!({"hugepages-2Mi": "4Mi"})),
                json!({"limits": {"memory": "2Gi", "hugepages-2Mi": "8Mi"}, "requests": {"memory": "2Gi", "hugepages-2Mi": "8Mi"}}),
            ),
            (
                json!({"limits": {"memory": "2Gi"}}),
                container(json!({"hugepages-2Mi": "4Mi"}), json!({"hugepages-2Mi": "4Mi"})),
                json!({"limits": {"memory": "2Gi", "hugepages-2Mi": "4Mi"}, "requests": {"memory": "2Gi", "hugepages-2Mi": "4Mi"}}),
            ),
            (
                json!({"requests": {"memory": "2Gi"}}),
                container(json!({}), json!({})),
                json!({"requests": {"memory": "2Gi"}}),
            ),
        ] {
            let mut spec = json!({"resources": whole, "containers": [container]});
            whole_requests(&mut spec);
            assert_eq!(spec["resources"], wanted);
        }
    }
}
