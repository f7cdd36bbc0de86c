//! What may change in a pod once it exists: by updates, by resizing, by adding ephemeral containers.

use serde_json::Value;

use super::qos_class;
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, internal_diff};
use crate::api::object::{copy_field, existing_mut, list, list_mut, text};

const KINDS: [&str; 2] = ["containers", "initContainers"];
const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks an update of a pod.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (before, after) = (&old["spec"], &new["spec"]);
    for kind in KINDS {
        if list(after, &[kind]).len() != list(before, &[kind]).len() {
            errors.forbidden(&path.child(kind), "pod updates may not add or remove containers");
            return;
        }
    }
    if !deadline(after, before, &path.child("activeDeadlineSeconds"), errors) {
        return;
    }
    gates(after, before, &path.child("schedulingGates"), errors);
    let mut masked = after.clone();
    for kind in KINDS {
        for (i, container) in list_mut(&mut masked, &[kind]).iter_mut().enumerate() {
            copy_field(&list(before, &[kind])[i], container, "image");
        }
    }
    for name in ["activeDeadlineSeconds", "schedulingGates"] {
        copy_field(before, &mut masked, name);
    }
    if keeps_tolerations(after, before) {
        copy_field(before, &mut masked, "tolerations");
    }
    let grace = |spec: &Value| spec["terminationGracePeriodSeconds"].as_i64();
    if grace(before).is_some_and(|s| s < 0) && grace(after) == Some(1) {
        copy_field(before, &mut masked, "terminationGracePeriodSeconds");
    }
    if !list(before, &["schedulingGates"]).is_empty() {
        node_selector(after, before, &path.child("nodeSelector"), errors);
        // A pod that no scheduler may place yet can still be narrowed.
        for name in ["nodeSelector", "affinity"] {
            copy_field(before, &mut masked, name);
        }
    }
    if masked != *before {
        let diff = internal_diff("a.core.v1.PodSpec", before, &masked);
        errors.forbidden(&path, format!("{MUTABLE}\n{diff}"));
    }
}

/// A deadline may be set, or come nearer. Whether it was right.
fn deadline(after: &Value, before: &Value, path: &Path, errors: &mut Errors) -> bool {
    let of = |spec: &Value| spec["activeDeadlineSeconds"].as_i64();
    match (of(after), of(before)) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.invalid(path, new, format!("must be between 0 and {}, inclusive", i32::MAX));
            false
        }
        (Some(new), Some(old)) if old < new => {
            errors.invalid(path, new, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errors.invalid(path, Value::Null, "must not update from a positive integer to nil value");
            false
        }
        _ => true,
    }
}

/// Whether tolerations were only added, or last longer or shorter.
fn keeps_tolerations(after: &Value, before: &Value) -> bool {
    let plain = |toleration: &Value| {
        let mut plain = toleration.clone();
        if let Some(fields) = plain.as_object_mut() {
            fields.remove("tolerationSeconds");
        }
        plain
    };
    let kept: Vec<Value> = list(after, &["tolerations"]).iter().map(plain).collect();
    list(before, &["tolerations"]).iter().all(|t| kept.contains(&plain(t)))
}

fn gates(after: &Value, before: &Value, path: &Path, errors: &mut Errors) {
    let known = list(before, &["schedulingGates"]);
    for (i, gate) in list(after, &["schedulingGates"]).iter().enumerate() {
        if !known.contains(gate) {
            let name = text(gate, &["name"]);
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.index(i), detail);
        }
    }
}

fn node_selector(after: &Value, before: &Value, path: &Path, errors: &mut Errors) {
    let kept = before["nodeSelector"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| after["nodeSelector"].get(key) == Some(value));
    if !kept {
        let detail = "only additions are allowed (no mutations or deletions)";
        errors.invalid(path, after["nodeSelector"].clone(), detail);
    }
}

/// Keeps of a resize what it is for: the containers' resources.
pub(super) fn prepare_resize(new: &mut Value, old: &Value) {
    if KINDS.iter().any(|kind| list(new, &["spec", kind]).len() != list(old, &["spec", kind]).len()) {
        return;
    }
    let mut kept = old.clone();
    if let Some(meta) = existing_mut(&mut kept, &["metadata"])
        && let Some(version) = new["metadata"].get("resourceVersion")
    {
        meta.insert("resourceVersion".to_owned(), version.clone());
    }
    for kind in KINDS {
        for container in list_mut(&mut kept, &["spec", kind]) {
            let given = list(new, &["spec", kind]).iter().find(|c| c["name"] == container["name"]);
            if let Some(given) = given {
                copy_field(given, container, "resources");
                copy_field(given, container, "resizePolicy");
            }
        }
    }
    *new = kept;
}

/// Checks a resize.
pub(super) fn validate_resize(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    for kind in KINDS {
        if list(new, &["spec", kind]).len() != list(old, &["spec", kind]).len() {
            let detail = format!("{kind} may not be added or removed on resize");
            errors.forbidden(&path.child(kind), detail);
            return;
        }
    }
    if qos_class(new) != qos_class(old) {
        let class = text(new, &["status", "qosClass"]);
        errors.invalid(&path, class, "Pod QOS Class may not change as a result of resizing");
    }
    let mut masked = new["spec"].clone();
    for kind in KINDS {
        for (i, container) in list_mut(&mut masked, &[kind]).iter_mut().enumerate() {
            let before = &list(old, &["spec", kind])[i];
            let path = path.child(kind).index(i).child("resources");
            for which in ["limits", "requests"] {
                removed(&container["resources"], &before["resources"], which, &path, errors);
                keep_native(container, before, which);
            }
            copy_field(before, container, "resizePolicy");
        }
    }
    if masked != old["spec"] {
        errors.forbidden(&path, "only cpu and memory resources are mutable");
    }
}

fn removed(after: &Value, before: &Value, which: &str, path: &Path, errors: &mut Errors) {
    let gone = before[which]
        .as_object()
        .into_iter()
        .flatten()
        .any(|(name, _)| matches!(name.as_str(), "cpu" | "memory") && after[which].get(name).is_none());
    if gone {
        errors.forbidden(&path.child(which), format!("resource {which} cannot be removed"));
    }
}

/// Undoes what a resize may do.
fn keep_native(container: &mut Value, before: &Value, which: &str) {
    let mut kept = container["resources"][which].as_object().cloned().unwrap_or_default();
    kept.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
    for (name, value) in before["resources"][which].as_object().into_iter().flatten() {
        if matches!(name.as_str(), "cpu" | "memory") {
            kept.insert(name.clone(), value.clone());
        }
    }
    let resources = crate::api::object::object_mut(container, &["resources"]);
    if kept.is_empty() {
        resources.remove(which);
    } else {
        resources.insert(which.to_owned(), kept.into());
    }
}

/// Checks an update of the ephemeral containers.
pub(super) fn validate_ephemeral(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec.ephemeralContainers");
    let after = list(new, &["spec", "ephemeralContainers"]);
    for before in list(old, &["spec", "ephemeralContainers"]) {
        let name = text(before, &["name"]);
        match after.iter().find(|c| text(c, &["name"]) == name) {
            None => errors.forbidden(&path, "existing ephemeral containers may not be removed"),
            Some(now) if now != before => {
                let diff = checks::internal_diff("a.core.v1.EphemeralContainer", before, now);
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{diff}");
                errors.forbidden(&path, detail);
            }
            Some(_) => {}
        }
    }
}
