//! What quotas count of pods.

use std::collections::BTreeMap;

use protocol::Quantity;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::api::kinds::devices::extended::IMPLICIT;
use crate::api::kinds::qos_class;
use crate::api::kinds::totals::{Amounts, amounts, total};
use crate::api::object::{is_deleting, list, text};

/// Whether a pod counts: not once it has ended, nor when it should long be gone.
fn counts(pod: &Value, now: OffsetDateTime) -> bool {
    if matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed") {
        return false;
    }
    let Some(grace) = pod["metadata"]["deletionGracePeriodSeconds"].as_i64() else { return true };
    let since = OffsetDateTime::parse(
        text(pod, &["metadata", "deletionTimestamp"]),
        &time::format_description::well_known::Rfc3339,
    );
    match since {
        Ok(since) if is_deleting(pod) => {
            since.checked_add(Duration::seconds(grace)).is_none_or(|end| now <= end)
        }
        _ => true,
    }
}

/// What a pod counts for.
pub(super) fn usage(pod: &Value, now: OffsetDateTime) -> Amounts {
    let one = Quantity::from_units(1);
    let mut out = Amounts::from([("count/pods".to_owned(), one)]);
    if counts(pod, now) {
        out.insert("pods".to_owned(), one);
        let (requests, limits) = (total(&pod["spec"], "requests"), total(&pod["spec"], "limits"));
        out.extend(named(&requests, &limits));
    }
    out
}

/// The names that quotas know requests and limits by.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut out = Amounts::new();
    for (name, amount) in requests {
        let basic = is_basic(name) || name.starts_with("hugepages-");
        if basic {
            out.insert(name.clone(), *amount);
        }
        if basic || is_extended(name) || name.starts_with(IMPLICIT) {
            out.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| is_basic(name)) {
        out.insert(format!("limits.{name}"), *amount);
    }
    out
}

fn is_basic(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage")
}

pub(super) fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// Whether pods count for a resource name.
pub(super) fn is_counted(name: &str) -> bool {
    let plain = name.strip_prefix("requests.");
    matches!(name, "count/pods" | "pods" | "limits.cpu" | "limits.memory" | "limits.ephemeral-storage")
        || is_basic(plain.unwrap_or(name))
        || plain.unwrap_or(name).starts_with("hugepages-")
        || plain.is_some_and(|name| is_extended(name) || name.starts_with(IMPLICIT))
}

/// What containers must say where a quota counts it; `None` when they do.
pub(super) fn unsaid(pod: &Value, counted: &[String]) -> Option<String> {
    const NEEDED: [&str; 6] =
        ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
    let needed: Vec<&str> = counted.iter().map(String::as_str).filter(|n| NEEDED.contains(n)).collect();
    let whole =
        named(&amounts(&pod["spec"]["resources"]["requests"]), &amounts(&pod["spec"]["resources"]["limits"]));
    let mut missing: BTreeMap<&str, std::collections::BTreeSet<&str>> = BTreeMap::new();
    for kind in ["containers", "initContainers"] {
        for container in list(pod, &["spec", kind]) {
            let resources = &container["resources"];
            let said = named(&amounts(&resources["requests"]), &amounts(&resources["limits"]));
            for name in &needed {
                if !said.contains_key(*name) && !whole.contains_key(*name) {
                    missing.entry(name).or_default().insert(text(container, &["name"]));
                }
            }
        }
    }
    if missing.is_empty() {
        return None;
    }
    let one = |(name, containers): (&str, std::collections::BTreeSet<&str>)| {
        format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(","))
    };
    Some(format!("must specify {}", missing.into_iter().map(one).collect::<Vec<_>>().join("; ")))
}

/// Whether a pod is in a scope.
pub(super) fn in_scope(pod: &Value, scope: &str, operator: &str, values: &[Value]) -> bool {
    let ends = pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|s| s >= 0);
    match scope {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => qos_class(pod) == "BestEffort",
        "NotBestEffort" => qos_class(pod) != "BestEffort",
        "PriorityClass" => super::usage::selects(operator, values, text(pod, &["spec", "priorityClassName"])),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn crosses_namespaces(pod: &Value) -> bool {
    let crosses =
        |term: &Value| !list(term, &["namespaces"]).is_empty() || !term["namespaceSelector"].is_null();
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &pod["spec"]["affinity"][kind];
        list(affinity, &["requiredDuringSchedulingIgnoredDuringExecution"]).iter().any(crosses)
            || list(affinity, &["preferredDuringSchedulingIgnoredDuringExecution"])
                .iter()
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}
