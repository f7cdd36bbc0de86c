//! Resource names and amounts, as containers, claims and quotas have them.

use protocol::Quantity;
use serde_json::Value;

use super::checks::{self, amount, qualified};
use crate::api::invalid::{Errors, Path};

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
    !is_native(name) && !name.starts_with("requests.")
}

fn is_huge_page(name: &str) -> bool {
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
    if whole && amount(value).is_some_and(|q| q.milli() % 1000 != 0) {
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

/// A container's requests and limits; `claims` are the names of the pod's resource claims.
pub fn requirements(resources: &Value, claims: &[&str], pod_level: bool, path: &Path, errors: &mut Errors) {
    let map = |which: &str| resources[which].as_object().into_iter().flatten();
    let (mut huge, mut cpu_or_memory) = (false, false);
    for (name, limit) in map("limits") {
        let path = path.child("limits").key(name);
        name_and_value(name, limit, pod_level, &path, errors);
        note(name, limit, &path, &mut huge, &mut cpu_or_memory, errors);
    }
    for (name, request) in map("requests") {
        let at = path.child("requests").key(name);
        name_and_value(name, request, pod_level, &at, errors);
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
        note(name, request, &at, &mut huge, &mut cpu_or_memory, errors);
    }
    if huge && !cpu_or_memory {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    claims_of(resources, claims, path, errors);
}

fn name_and_value(name: &str, given: &Value, pod_level: bool, path: &Path, errors: &mut Errors) {
    if pod_level {
        if !(matches!(name, "cpu" | "memory") || is_huge_page(name)) {
            errors.unsupported(path, name, &["cpu", "hugepages-", "memory"]);
        }
    } else {
        container_resource_name(name, path, errors);
    }
    value(name, given, path, errors);
}

fn note(
    name: &str,
    given: &Value,
    path: &Path,
    huge: &mut bool,
    cpu_or_memory: &mut bool,
    errors: &mut Errors,
) {
    if is_huge_page(name) {
        *huge = true;
        if let Some(amount) = amount(given)
            && !huge_page_size_fits(name, &amount)
        {
            errors.invalid(path, amount.to_string(), "must be multiple of the page size");
        }
    }
    *cpu_or_memory |= matches!(name, "cpu" | "memory");
}

fn claims_of(resources: &Value, claims: &[&str], path: &Path, errors: &mut Errors) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, claim) in crate::api::object::list(resources, &["claims"]).iter().enumerate() {
        let path = path.child("claims").index(i);
        let (name, request) =
            (crate::api::object::text(claim, &["name"]), crate::api::object::text(claim, &["request"]));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !request.is_empty() && !claims.contains(&name) {
            errors.not_found(&path.child("name"), name);
        } else {
            if seen.contains(&(name, request)) {
                if request.is_empty() {
                    errors.duplicate(&path, name);
                } else {
                    errors.duplicate(&path, format!("{name}/{request}"));
                }
            }
            seen.push((name, request));
            if !claims.contains(&name) {
                errors.not_found(&path, name);
            }
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
        ] {
            let mut errors = Errors::default();
            requirements(&resources, &[], false, &Path::new("r"), &mut errors);
            assert_eq!(errors.messages(), wanted, "{resources}");
        }
    }
}
