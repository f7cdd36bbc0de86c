//! LimitRanger: defaults and bounds of what pods and claims of a namespace ask for.

use std::collections::{BTreeMap, HashSet};

use protocol::{ApiError, Quantity};
use serde_json::{Map, Value};

use super::Write;
use crate::api::kinds::totals::{self, Amounts};
use crate::api::object::{self, list, list_mut, object_mut, text};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn ranges(write: &Write<'_>) -> Vec<Value> {
    let stored = write.snapshot.list("", "limitranges", write.subject.namespace);
    stored.filter_map(|s| s.value().ok()).collect()
}

/// Gives containers the limits and requests that the namespace has as defaults, and notes that on the pod.
pub(super) fn mutate(write: &Write<'_>, pod: &mut Value) {
    if !write.is("", "pods") || !write.creates() {
        return;
    }
    for range in ranges(write) {
        let mut notes = Vec::new();
        let (limits, requests) = (defaults(&range, "default"), defaults(&range, "defaultRequest"));
        for (kind, shown) in [("containers", "container"), ("initContainers", "init container")] {
            for container in list_mut(pod, &["spec", kind]) {
                let name = text(container, &["name"]).to_owned();
                let asked = fill(container, "requests", &requests);
                let bound = fill(container, "limits", &limits);
                for (set, what) in [(asked, "request"), (bound, "limit")] {
                    if !set.is_empty() {
                        notes.push(format!("{} {what} for {shown} {name}", set.join(", ")));
                    }
                }
            }
        }
        if !notes.is_empty() {
            let note = format!("LimitRanger plugin set: {}", notes.join("; "));
            object_mut(pod, &["metadata", "annotations"]).insert(ANNOTATION.to_owned(), note.into());
        }
    }
}

fn defaults(range: &Value, which: &str) -> Map<String, Value> {
    let mut out = Map::new();
    for limit in list(range, &["spec", "limits"]).iter().filter(|l| text(l, &["type"]) == "Container") {
        for (name, value) in limit[which].as_object().into_iter().flatten() {
            out.insert(name.clone(), value.clone());
        }
    }
    out
}

/// Puts in what is absent, and returns its names.
fn fill(container: &mut Value, which: &str, defaults: &Map<String, Value>) -> Vec<String> {
    if defaults.is_empty() {
        return Vec::new();
    }
    let map = object_mut(container, &["resources", which]);
    let mut set = Vec::new();
    for (name, value) in defaults {
        if !map.contains_key(name) {
            map.insert(name.clone(), value.clone());
            set.push(name.clone());
        }
    }
    set.sort();
    set
}

/// Refuses pods and claims outside the namespace's bounds.
pub(super) fn validate(write: &Write<'_>, value: &Value) -> Result<(), ApiError> {
    let subresource = write.subresource();
    let pods = write.is("", "pods") && (write.creates() || subresource == "resize");
    let claims = write.is("", "persistentvolumeclaims") && subresource.is_empty();
    // What is on its way out is not held to anything.
    if !(pods || claims) || write.old.is_some_and(object::is_deleting) {
        return Ok(());
    }
    for range in ranges(write) {
        let mut problems = Vec::new();
        for limit in list(&range, &["spec", "limits"]) {
            match text(limit, &["type"]) {
                "Container" if pods => {
                    for kind in ["containers", "initContainers"] {
                        for container in list(value, &["spec", kind]) {
                            let resources = &container["resources"];
                            let asked = Asked {
                                requests: totals::amounts(&resources["requests"]),
                                limits: totals::amounts(&resources["limits"]),
                            };
                            bounds("Container", limit, &asked, &mut problems);
                        }
                    }
                }
                "Pod" if pods => {
                    let asked = Asked {
                        requests: totals::total(&value["spec"], "requests"),
                        limits: totals::total(&value["spec"], "limits"),
                    };
                    bounds("Pod", limit, &asked, &mut problems);
                }
                "PersistentVolumeClaim" if claims => {
                    let requests = totals::amounts(&value["spec"]["resources"]["requests"]);
                    claim_bounds(limit, requests, &mut problems);
                }
                _ => {}
            }
        }
        if !problems.is_empty() {
            let mut told = HashSet::new();
            problems.retain(|problem| told.insert(problem.clone()));
            let why = match problems.as_slice() {
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            };
            return Err(write.forbidden(object::name_so_far(value), &why));
        }
    }
    Ok(())
}

/// What something asks for.
#[derive(Default)]
struct Asked {
    requests: Amounts,
    limits: Amounts,
}

fn bounds(kind: &str, limit: &Value, asked: &Asked, problems: &mut Vec<String>) {
    for (name, min) in totals::amounts(&limit["min"]) {
        at_least(kind, &name, min, asked, problems);
    }
    for (name, max) in totals::amounts(&limit["max"]) {
        let say = format!("maximum {name} usage per {kind} is {max}");
        match (asked.limits.get(&name), asked.requests.get(&name)) {
            (None, _) => problems.push(format!("{say}.  No limit is specified")),
            (Some(given), _) if *given > max => problems.push(format!("{say}, but limit is {given}")),
            (_, Some(request)) if *request > max => problems.push(format!("{say}, but request is {request}")),
            _ => {}
        }
    }
    for (name, ratio) in totals::amounts(&limit["maxLimitRequestRatio"]) {
        within_ratio(kind, &name, ratio, asked, problems);
    }
}

fn at_least(kind: &str, name: &str, min: Quantity, asked: &Asked, problems: &mut Vec<String>) {
    let say = format!("minimum {name} usage per {kind} is {min}");
    match (asked.requests.get(name), asked.limits.get(name)) {
        (None, _) => problems.push(format!("{say}.  No request is specified")),
        (Some(request), _) if *request < min => problems.push(format!("{say}, but request is {request}")),
        (_, Some(given)) if *given < min => problems.push(format!("{say}, but limit is {given}")),
        _ => {}
    }
}

fn within_ratio(kind: &str, name: &str, ratio: Quantity, asked: &Asked, problems: &mut Vec<String>) {
    let say = format!("{name} max limit to request ratio per {kind} is {ratio}");
    let of = |map: &BTreeMap<String, Quantity>| map.get(name).map_or(0, Quantity::milli);
    let (request, limit) = (of(&asked.requests), of(&asked.limits));
    if request == 0 {
        problems.push(format!("{say}, but no request is specified or request is 0"));
    } else if limit == 0 {
        problems.push(format!("{say}, but no limit is specified or limit is 0"));
    } else {
        let observed = limit as f64 / request as f64;
        if observed * 1000.0 > ratio.milli() as f64 {
            problems.push(format!("{say}, but provided ratio is {observed:.6}"));
        }
    }
}

fn claim_bounds(limit: &Value, requests: Amounts, problems: &mut Vec<String>) {
    const KIND: &str = "PersistentVolumeClaim";
    let asked = Asked { requests, limits: Amounts::default() };
    for (name, min) in totals::amounts(&limit["min"]) {
        at_least(KIND, &name, min, &asked, problems);
    }
    for (name, max) in totals::amounts(&limit["max"]) {
        let say = format!("maximum {name} usage per {KIND} is {max}");
        match asked.requests.get(&name) {
            None => problems.push(format!("{say}.  No request is specified")),
            Some(request) if *request > max => problems.push(format!("{say}, but request is {request}")),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(limit: Value, resources: Value, expected: &[&str]) {
        let asked = Asked {
            requests: totals::amounts(&resources["requests"]),
            limits: totals::amounts(&resources["limits"]),
        };
        let mut problems = Vec::new();
        bounds("Container", &limit, &asked, &mut problems);
        assert_eq!(problems, expected, "{limit} {resources}");
    }

    #[test]
    fn bounds_are_told_as_upstream_tells_them() {
        let max = json!({"max": {"cpu": "1"}});
        check(
            max.clone(),
            json!({"limits": {"cpu": "2"}}),
            &["maximum cpu usage per Container is 1, but limit is 2"],
        );
        check(max.clone(), json!({}), &["maximum cpu usage per Container is 1.  No limit is specified"]);
        check(max, json!({"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}}), &[]);
        let min = json!({"min": {"cpu": "100m"}});
        check(min.clone(), json!({}), &["minimum cpu usage per Container is 100m.  No request is specified"]);
        check(
            min,
            json!({"requests": {"cpu": "50m"}}),
            &["minimum cpu usage per Container is 100m, but request is 50m"],
        );
        let ratio = json!({"maxLimitRequestRatio": {"cpu": "2"}});
        check(
            ratio.clone(),
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "300m"}}),
            &["cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"],
        );
        check(ratio, json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}), &[]);
    }
}
