//! LimitRanger: defaults and bounds of containers' resources in a namespace.

use protocol::{ApiError, Quantity};
use serde_json::{Map, Value};

use super::Write;
use crate::api::object::{self, list, list_mut, object_mut, text};

fn ranges(write: &Write<'_>) -> Vec<Value> {
    let stored = write.snapshot.list("", "limitranges", write.subject.namespace);
    let values = stored.filter_map(|s| s.value().ok());
    values.flat_map(|v| list(&v, &["spec", "limits"]).to_vec()).collect()
}

/// Gives containers the limits and requests that the namespace has as defaults.
pub(super) fn apply_defaults(write: &Write<'_>, pod: &mut Value) {
    for limit in ranges(write).iter().filter(|l| text(l, &["type"]) == "Container") {
        for kind in ["initContainers", "containers"] {
            for container in list_mut(pod, &["spec", kind]) {
                for (from, to) in [("default", "limits"), ("defaultRequest", "requests")] {
                    let defaults = limit[from].as_object().cloned().unwrap_or_default();
                    if defaults.is_empty() {
                        continue;
                    }
                    let map = object_mut(container, &["resources", to]);
                    for (name, value) in defaults {
                        map.entry(name).or_insert(value);
                    }
                }
            }
        }
    }
}

/// Refuses containers outside the namespace's bounds.
pub(super) fn check(write: &Write<'_>, pod: &Value) -> Result<(), ApiError> {
    let mut problems = Vec::new();
    for limit in ranges(write).iter().filter(|l| text(l, &["type"]) == "Container") {
        for kind in ["initContainers", "containers"] {
            for container in list(pod, &["spec", kind]) {
                bounds(limit, &container["resources"], &mut problems);
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let why = match problems.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(ApiError::forbidden("", "pods", object::name(pod), &why))
}

fn bounds(limit: &Value, resources: &Value, problems: &mut Vec<String>) {
    let none = Map::new();
    let map = |v: &Value| v.as_object().cloned().unwrap_or_else(|| none.clone());
    let amount = |v: Option<&Value>| v.and_then(Value::as_str).and_then(|t| t.parse::<Quantity>().ok());
    let (limits, requests) = (map(&resources["limits"]), map(&resources["requests"]));
    for (name, bound) in map(&limit["min"]) {
        let Some(min) = amount(Some(&bound)) else { continue };
        match amount(requests.get(&name)) {
            None => problems
                .push(format!("minimum {name} usage per Container is {min}.  No request is specified")),
            Some(request) if request < min => {
                problems
                    .push(format!("minimum {name} usage per Container is {min}, but request is {request}"));
            }
            Some(_) => {}
        }
    }
    for (name, bound) in map(&limit["max"]) {
        let Some(max) = amount(Some(&bound)) else { continue };
        match amount(limits.get(&name)) {
            None => {
                problems.push(format!("maximum {name} usage per Container is {max}.  No limit is specified"))
            }
            Some(given) if given > max => {
                problems.push(format!("maximum {name} usage per Container is {max}, but limit is {given}"));
            }
            Some(_) => {}
        }
    }
}
