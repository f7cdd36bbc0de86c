//! Resource names and amounts, as containers, claims and quotas have them.

use std::collections::BTreeSet;

use protocol::Quantity;
use protocol::selector::qualified_name_error;
use serde_json::Value;

use super::checks::{self, amount, qualified};
use super::totals;
use crate::api::invalid::{Errors, Path};
use crate::api::meta::NameRule;
use crate::api::object::{list, text};

const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

/// Whether a resource's name has no domain, or kubernetes.io's.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.split('/').next().is_some_and(|domain| domain.contains("kubernetes.io"))
}

/// Whether a resource is one that a device plugin or driver offers.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        // It must have a name in quotas too.
        && qualified_name_error(&format!("requests.{name}")).is_empty()
}

/// Whether a resource is memory in pages of a size.
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether more of a resource may be promised than there is.
pub fn overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// A resource's name.
pub fn resource_name(name: &str, path: &Path, errors: &mut Errors) {
    let before = errors.len();
    qualified(name, path, errors);
    let standard = STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-");
    if errors.len() == before && !name.contains('/') && !standard {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

/// The name of a resource that containers can have.
pub fn container_resource_name(name: &str, path: &Path, errors: &mut Errors) {
    resource_name(name, path, errors);
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name);
    if !name.contains('/') {
        if !standard {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn value(name: &str, value: &Value, path: &Path, errors: &mut Errors) {
    checks::quantity(value, path, errors);
    let whole = is_extended(name) || STANDARD.contains(&name) && is_counted(name);
    if whole && amount(value).is_some_and(|q| !q.is_whole()) {
        errors.invalid(path, value.clone(), "must be an integer");
    }
}

fn is_counted(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    )
}

fn huge_page_size_fits(name: &str, amount: &Quantity) -> bool {
    let Some(size) = name.strip_prefix("hugepages-").and_then(|s| s.parse::<Quantity>().ok()) else {
        return false;
    };
    size.units() > 0 && amount.units() % size.units() == 0
}

/// What a name may be: of a container's resource, or of a pod's as a whole.
type NameCheck = fn(&str, &Path, &mut Errors);

/// A container's requests and limits; `claims` are the names of the pod's resource claims.
pub fn requirements(resources: &Value, claims: &[&str], path: &Path, errors: &mut Errors) {
    amounts_of(resources, claims, container_resource_name, path, errors);
}

/// Requests and limits of a pod as a whole, which hold those of its containers.
pub fn whole_pod(spec: &Value, claims: &[&str], path: &Path, errors: &mut Errors) {
    let resources = &spec["resources"];
    if !resources.is_object() {
        return;
    }
    if text(spec, &["os", "name"]) == "windows" {
        errors.forbidden(path, "may not be set for a windows pod");
        return;
    }
    if !resources["claims"].is_null() {
        errors.forbidden(&path.child("claims"), "claims may not be set for Resources at pod-level");
    }
    amounts_of(resources, claims, pod_resource_name, path, errors);
    for (name, sum) in totals::of_containers(spec, "requests") {
        let whole = &resources["requests"][name.as_str()];
        if amount(whole).is_some_and(|whole| sum > whole) {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&path.child("requests").key(&name), whole.clone(), detail);
        }
    }
    for (name, sum) in totals::of_containers(spec, "limits").iter().filter(|(name, _)| is_huge_page(name)) {
        let whole = &resources["limits"][name.as_str()];
        if amount(whole).is_some_and(|whole| *sum > whole) {
            let detail = format!("must be greater than or equal to aggregate container limits of {sum}");
            errors.invalid(&path.child("limits").key(name), whole.clone(), detail);
        }
    }
    for (i, container) in list(spec, &["containers"]).iter().enumerate() {
        for (name, limit) in container["resources"]["limits"].as_object().into_iter().flatten() {
            let Some(whole) = amount(&resources["limits"][name.as_str()]) else { continue };
            if amount(limit).is_some_and(|limit| limit > whole) {
                let path = path.child("containers").index(i).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {whole}");
                errors.invalid(&path, limit.clone(), detail);
            }
        }
    }
}

/// Whether a resource is one that a pod can have as a whole.
pub fn is_whole_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

fn pod_resource_name(name: &str, path: &Path, errors: &mut Errors) {
    let before = errors.len();
    resource_name(name, path, errors);
    if errors.len() == before && !is_whole_pods(name) {
        errors.unsupported(path, name, &["cpu", "hugepages-", "memory"]);
    }
}

fn amounts_of(resources: &Value, claims: &[&str], named: NameCheck, path: &Path, errors: &mut Errors) {
    let map = |which: &str| resources[which].as_object().into_iter().flatten();
    for (name, limit) in map("limits") {
        let path = path.child("limits").key(name);
        named(name, &path, errors);
        value(name, limit, &path, errors);
        whole_pages(name, limit, &path, errors);
    }
    for (name, request) in map("requests") {
        let at = path.child("requests").key(name);
        named(name, &at, errors);
        value(name, request, &at, errors);
        let limit = amount(&resources["limits"][name.as_str()]);
        match (amount(request), limit) {
            (Some(request_amount), Some(limit)) => {
                if !overcommit_allowed(name) && request_amount != limit {
                    let detail = format!("must be equal to {name} limit of {limit}");
                    errors.invalid(&path.child("requests"), request.clone(), detail);
                } else if request_amount > limit {
                    let detail = format!("must be less than or equal to {name} limit of {limit}");
                    errors.invalid(&path.child("requests"), request.clone(), detail);
                }
            }
            _ if !overcommit_allowed(name) => {
                errors.required(&path.child("limits"), "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
        whole_pages(name, request, &at, errors);
    }
    let any = |which: fn(&str) -> bool| map("limits").chain(map("requests")).any(|(name, _)| which(name));
    if any(is_huge_page) && !any(|name| matches!(name, "cpu" | "memory")) {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    claims_of(resources, claims, &path.child("claims"), errors);
}

fn whole_pages(name: &str, given: &Value, path: &Path, errors: &mut Errors) {
    if let Some(amount) = amount(given).filter(|_| is_huge_page(name))
        && !huge_page_size_fits(name, &amount)
    {
        let detail = format!("{amount} is not positive integer multiple of {name}");
        errors.invalid(path, amount.to_string(), detail);
    }
}

fn claims_of(resources: &Value, known: &[&str], path: &Path, errors: &mut Errors) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (i, claim) in list(resources, &["claims"]).iter().enumerate() {
        let path = path.index(i);
        let (name, request) = (text(claim, &["name"]), text(claim, &["request"]));
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        if seen.contains(name) {
            // All that is in the claim is used already.
            errors.duplicate(&path, name);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                checks::named(NameRule::Label, request, &path.child("request"), errors);
                key = format!("{name}/{request}");
            }
            let parts = format!("{name}/");
            if seen.contains(&key) {
                errors.duplicate(&path, key.as_str());
            } else if request.is_empty() {
                seen.iter().filter(|k| k.starts_with(&parts)).for_each(|_| errors.duplicate(&path, name));
            }
            seen.insert(key);
        }
        if !known.contains(&name) {
            let mut names = known.to_vec();
            names.sort_unstable();
            let which = if names.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", names.join(", "))
            };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{which}");
            errors.not_found_among(&path, name, &detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_and_limits_belong_together() {
        for (resources, wanted) in [
            (json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}), vec![]),
            (
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                vec!["r.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
            ),
            (
                json!({"requests": {"example.com/gpu": "1"}}),
                vec!["r.limits: Required value: Limit must be set for non overcommitable resources"],
            ),
            (
                json!({"limits": {"example.com/gpu": "500m"}}),
                vec!["r.limits[example.com/gpu]: Invalid value: \"500m\": must be an integer"],
            ),
            (
                json!({"limits": {"hugepages-2Mi": "2Mi"}}),
                vec!["r: Forbidden: HugePages require cpu or memory"],
            ),
            (
                json!({"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}}),
                vec![
                    "r.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of \
                     hugepages-2Mi",
                ],
            ),
            (
                json!({"claims": [{"name": "a"}]}),
                vec![
                    "r.claims[0]: Not found: \"a\": must be one of the names in pod.spec.resourceClaims which is \
                     empty",
                ],
            ),
        ] {
            let mut errors = Errors::default();
            requirements(&resources, &[], &Path::new("r"), &mut errors);
            assert_eq!(errors.messages(), wanted, "{resources}");
        }
    }
    #[test]
    fn a_pod_holds_its_containers() {
        for (spec, wanted) in [
            (json!({"resources": {"requests": {"cpu": "1"}}, "containers": [{}]}), vec![]),
            (
                json!({
                    "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
                    "containers": [{"resources": {"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}}}],
                }),
                vec![
                    "r.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container \
                     requests of 2",
                    "r.containers[0][memory].limits: Invalid value: \"2Gi\": must be less than or equal to pod \
                     limits of 1Gi",
                ],
            ),
            (
                json!({"resources": {"limits": {"ephemeral-storage": "1Gi"}}}),
                vec![
                    "r.limits[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \
                     \"cpu\", \"hugepages-\", \"memory\"",
                ],
            ),
        ] {
            let mut errors = Errors::default();
            whole_pod(&spec, &[], &Path::new("r"), &mut errors);
            assert_eq!(errors.messages(), wanted, "{spec}");
        }
    }
}
