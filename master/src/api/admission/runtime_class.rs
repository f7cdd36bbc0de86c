//! RuntimeClass: what a pod's runtime costs, and where it runs.

use protocol::ApiError;
use serde_json::Value;

use super::Write;
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{self, list, object_mut, text};

fn class(write: &Write<'_>, pod: &Value) -> Result<Option<Value>, ApiError> {
    let name = text(pod, &["spec", "runtimeClassName"]);
    if name.is_empty() {
        return Ok(None);
    }
    match write.snapshot.get("node.k8s.io", "runtimeclasses", "", name) {
        Some(stored) => stored.value().map(Some).map_err(ApiError::internal),
        // A name that cannot be one is not asked for.
        None if !name_errors(NameRule::PathSegment, name, false).is_empty() => {
            let wrong = name_errors(NameRule::PathSegment, name, false).join(" ");
            let why = format!("invalid resource name {}: [{wrong}]", protocol::go::quote(name));
            Err(ApiError::new(500, "", why))
        }
        None => Err(write.forbidden(
            object::name_so_far(pod),
            &format!("pod rejected: RuntimeClass {} not found", protocol::go::quote(name)),
        )),
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_none_or(serde_json::Map::is_empty)
}

pub(super) fn mutate(write: &Write<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !write.is("", "pods") || !write.creates() {
        return Ok(());
    }
    let Some(class) = class(write, pod)? else { return Ok(()) };
    overhead(write, &class, pod)?;
    scheduling(write, &class, pod)
}

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

fn overhead(write: &Write<'_>, class: &Value, pod: &mut Value) -> Result<(), ApiError> {
    if !class["overhead"].is_object() {
        return Ok(());
    }
    let fixed = class["overhead"]["podFixed"].clone();
    let given = &pod["spec"]["overhead"];
    if !given.is_null() && *given != fixed {
        return Err(write.forbidden(object::name_so_far(pod), MISMATCH));
    }
    object_mut(pod, &["spec"]).insert("overhead".to_owned(), fixed);
    Ok(())
}

fn scheduling(write: &Write<'_>, class: &Value, pod: &mut Value) -> Result<(), ApiError> {
    let scheduling = &class["scheduling"];
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let given = &pod["spec"]["nodeSelector"][key.as_str()];
        if !given.is_null() && given != value {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                value.as_str().unwrap_or_default(),
                given.as_str().unwrap_or_default()
            );
            return Err(write.forbidden(object::name_so_far(pod), &why));
        }
        object_mut(pod, &["spec", "nodeSelector"]).insert(key.clone(), value.clone());
    }
    let more = list(scheduling, &["tolerations"]);
    if !more.is_empty() {
        let mut tolerations = list(pod, &["spec", "tolerations"]).to_vec();
        for toleration in more {
            if !tolerations.contains(toleration) {
                tolerations.push(toleration.clone());
            }
        }
        object_mut(pod, &["spec"]).insert("tolerations".to_owned(), tolerations.into());
    }
    Ok(())
}

pub(super) fn validate(write: &Write<'_>, pod: &Value) -> Result<(), ApiError> {
    if !write.is("", "pods") || !write.creates() {
        return Ok(());
    }
    let given = &pod["spec"]["overhead"];
    match class(write, pod)? {
        Some(class) if class["overhead"].is_object() => {
            if *given != class["overhead"]["podFixed"] {
                return Err(write.forbidden(object::name_so_far(pod), MISMATCH));
            }
            Ok(())
        }
        _ if !is_empty(given) || write.given_empty.is_some_and(|given| given.has("spec.overhead")) => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            Err(write.forbidden(object::name_so_far(pod), why))
        }
        _ => Ok(()),
    }
}
