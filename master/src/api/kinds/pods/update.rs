//! What may change in a pod once it exists: by updates, by resizing, by adding ephemeral containers.

use serde_json::Value;

use super::{annotations, qos_class, scheduling};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, internal_diff};
use crate::api::object::{copy_field, copy_meta, list, list_mut, text};

const KINDS: [&str; 2] = ["containers", "initContainers"];
const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks an update of a pod.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (before, after) = (&old["spec"], &new["spec"]);
    let meta = Path::new("metadata.annotations");
    annotations::validate_update(&new["metadata"], &old["metadata"], &meta, errors);
    annotations::validate(&new["metadata"], after, &meta, errors);
    for kind in KINDS {
        if list(after, &[kind]).len() != list(before, &[kind]).len() {
            errors.forbidden(&path.child(kind), "pod updates may not add or remove containers");
            return;
        }
        images(list(after, &[kind]), &path.child(kind), errors);
    }
    if !deadline(after, before, &path.child("activeDeadlineSeconds"), errors) {
        return;
    }
    tolerations(after, before, &path.child("tolerations"), errors);
    gates(after, before, &path.child("schedulingGates"), errors);
    let mut masked = after.clone();
    for kind in KINDS {
        for (i, container) in list_mut(&mut masked, &[kind]).iter_mut().enumerate() {
            copy_field(&list(before, &[kind])[i], container, "image");
        }
    }
    for name in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        copy_field(before, &mut masked, name);
    }
    let grace = |spec: &Value| spec["terminationGracePeriodSeconds"].as_i64();
    if grace(before).is_some_and(|s| s < 0) && grace(after) == Some(1) {
        copy_field(before, &mut masked, "terminationGracePeriodSeconds");
    }
    if !list(before, &["schedulingGates"]).is_empty() {
        // A pod that no scheduler may place yet can still be narrowed.
        node_selector(after, before, &path.child("nodeSelector"), errors);
        copy_field(before, &mut masked, "nodeSelector");
        node_affinity(after, before, &path.child("affinity").child("nodeAffinity"), errors);
        mask_node_affinity(&mut masked, before);
    }
    if masked != *before {
        let diff = internal_diff("a.core.v1.PodSpec", before, &errors.as_sent(&path, &masked));
        errors.forbidden(&path, format!("{MUTABLE}\n{diff}"));
    }
}

/// Images are looked at a second time.
fn images(containers: &[Value], path: &Path, errors: &mut Errors) {
    for (i, container) in containers.iter().enumerate() {
        let path = path.index(i);
        checks::required(container, "image", &path, errors);
        super::containers::untrimmed_image(container, &path, errors);
    }
}

/// A deadline may be set, or come nearer. Whether it was right enough to go on.
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
            true
        }
        _ => true,
    }
}

/// Tolerations may be added, and last longer or shorter.
fn tolerations(after: &Value, before: &Value, path: &Path, errors: &mut Errors) {
    let plain = |toleration: &Value| {
        let mut plain = toleration.clone();
        if let Some(fields) = plain.as_object_mut() {
            fields.remove("tolerationSeconds");
        }
        plain
    };
    let now = list(after, &["tolerations"]);
    let kept: Vec<Value> = now.iter().map(plain).collect();
    if list(before, &["tolerations"]).iter().all(|t| kept.contains(&plain(t))) {
        scheduling::tolerations(now, path, errors);
    } else {
        errors.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
    }
}

fn gates(after: &Value, before: &Value, path: &Path, errors: &mut Errors) {
    let known = list(before, &["schedulingGates"]);
    for (i, gate) in list(after, &["schedulingGates"]).iter().enumerate() {
        if !known.contains(gate) {
            let name = text(gate, &["name"]);
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.index(i).child("name"), detail);
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
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.invalid(path, after["nodeSelector"].clone(), detail);
    }
}

/// What nodes must have may be narrowed, term by term.
fn node_affinity(after: &Value, before: &Value, path: &Path, errors: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |spec: &Value| spec["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"].clone();
    let (old, new) = (terms(before), terms(after));
    let (old, path) = (list(&old, &[]), path.child(REQUIRED).child("nodeSelectorTerms"));
    if old.is_empty() {
        return;
    }
    let shown = |term: &Value| checks::internal("a.core.v1.NodeSelectorTerm", term);
    let new_terms = list(&new, &[]);
    if old.len() != new_terms.len() {
        let all: Vec<String> = new_terms.iter().map(shown).collect();
        let all = if new.is_null() { "null".to_owned() } else { format!("[{}]", all.join(",")) };
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid_shown(&path, &all, detail);
        return;
    }
    for (i, (new, old)) in new_terms.iter().zip(old).enumerate() {
        if !only_adds(new, old) {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.invalid_struct(&path.index(i), "a.core.v1.NodeSelectorTerm", new, detail);
        }
    }
}

/// Whether a term asks for all that another asks for, in the same order, and perhaps for more.
fn only_adds(new: &Value, old: &Value) -> bool {
    let fields = ["matchExpressions", "matchFields"];
    // A term that matches nothing would match something with anything added.
    let empty = |term: &Value| fields.iter().all(|name| list(term, &[name]).is_empty());
    (empty(new) || !empty(old))
        && fields.iter().all(|name| list(new, &[name]).starts_with(list(old, &[name])))
}

/// Hides a change of what nodes must have, and only that.
fn mask_node_affinity(masked: &mut Value, before: &Value) {
    let was = &before["affinity"]["nodeAffinity"];
    if masked["affinity"]["nodeAffinity"] == *was {
        return;
    }
    let affinity = crate::api::object::object_mut(masked, &["affinity"]);
    affinity.remove("nodeAffinity");
    if !was.is_null() {
        affinity.insert("nodeAffinity".to_owned(), was.clone());
    }
    if affinity.is_empty() && before["affinity"].is_null() {
        copy_field(before, masked, "affinity");
    }
}

/// Keeps of a resize what it is for: resources, of the containers and of the pod as a whole.
pub(super) fn prepare_resize(new: &mut Value, old: &Value) {
    if KINDS.iter().any(|kind| list(new, &["spec", kind]).len() != list(old, &["spec", kind]).len()) {
        return;
    }
    let mut kept = old.clone();
    for name in ["resourceVersion", "managedFields"] {
        copy_meta(new, &mut kept, name);
    }
    copy_field(&new["spec"], &mut kept["spec"], "resources");
    for kind in KINDS {
        let given = list(new, &["spec", kind]);
        if given.iter().zip(list(old, &["spec", kind])).any(|(now, was)| now["name"] != was["name"]) {
            // Containers that got another name or place stay as they are given, to be refused.
            copy_field(&new["spec"], &mut kept["spec"], kind);
            continue;
        }
        for (container, given) in list_mut(&mut kept, &["spec", kind]).iter_mut().zip(given) {
            copy_field(given, container, "resources");
            copy_field(given, container, "resizePolicy");
        }
    }
    *new = kept;
}

/// Checks a resize.
pub(super) fn validate_resize(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    // An empty name, as upstream prints it.
    let nowhere = Path::new("[]");
    if annotations::is_mirror(&old["metadata"]) {
        return errors.forbidden_only(&nowhere, "static pods cannot be resized");
    }
    if text(old, &["spec", "os", "name"]) == "windows" {
        return errors.forbidden_only(&nowhere, "windows pods cannot be resized");
    }
    if qos_class(new) != qos_class(old) {
        let class = text(new, &["status", "qosClass"]);
        errors.invalid(&path, class, "Pod QOS Class may not change as a result of resizing");
    }
    if !can_be_resized(old) {
        errors.forbidden(&path, "Pod running on node without support for resize");
    }
    let mut masked = new["spec"].clone();
    whole_resize(&mut masked, &old["spec"], &path, errors);
    if !same_containers(new, old, &path, errors) {
        return;
    }
    for kind in ["initContainers", "containers"] {
        for (i, before) in list(old, &["spec", kind]).iter().enumerate() {
            let path = path.child(kind).index(i).child("resources");
            for which in ["requests", "limits"] {
                let after = &list(new, &["spec", kind])[i]["resources"];
                removed(after, &before["resources"], which, "resource", &path, errors);
            }
        }
    }
    let before_masks = errors.len();
    for kind in KINDS {
        for (i, container) in list_mut(&mut masked, &[kind]).iter_mut().enumerate() {
            let before = &list(old, &["spec", kind])[i];
            let changed = container != before;
            for which in ["limits", "requests"] {
                keep_native(container, before, which);
            }
            let other = container != before;
            if kind == "containers" {
                if other {
                    errors.forbidden(&path, "only cpu and memory resources are mutable");
                }
                continue;
            }
            let at = path.child(kind).index(i);
            if other {
                let detail = "only cpu and memory resources for init or sidecar containers are mutable";
                errors.forbidden(&at, detail);
            }
            let policies = list(container, &["resizePolicy"]);
            let restarts = policies.iter().filter(|p| text(p, &["restartPolicy"]) == "RestartContainer");
            if changed && text(container, &["restartPolicy"]) != "Always" {
                let detail =
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                restarts.for_each(|_| errors.forbidden(&at, detail));
            }
        }
    }
    if errors.len() == before_masks && before_masks == 0 && masked != old["spec"] {
        errors.forbidden(&path, "only cpu and memory resources are mutable");
    }
}

/// Whether the pod's node resizes: a running container then says what it has.
fn can_be_resized(pod: &Value) -> bool {
    let mut statuses = list(pod, &["status", "containerStatuses"]).iter();
    statuses.find(|s| s["state"]["running"].is_object()).is_none_or(|s| !s["resources"].is_null())
}

/// What the pod has as a whole changes as its containers' does.
fn whole_resize(masked: &mut Value, before: &Value, path: &Path, errors: &mut Errors) {
    let said = |spec: &Value| {
        ["requests", "limits"]
            .iter()
            .any(|w| spec["resources"][*w].as_object().is_some_and(|m| !m.is_empty()))
    };
    if !said(masked) && !said(before) {
        return;
    }
    let at = path.child("resources");
    if masked["resources"].is_null() {
        return errors.forbidden(&at, "pod-level resources cannot be removed");
    }
    for which in ["requests", "limits"] {
        removed(&masked["resources"], &before["resources"], which, "pod-level resource", &at, errors);
        keep_native(masked, before, which);
    }
    if before["resources"].is_null() && masked["resources"].as_object().is_some_and(|m| m.is_empty()) {
        copy_field(before, masked, "resources");
    }
    if masked["resources"] != before["resources"] {
        errors.forbidden(path, "only cpu and memory resources are mutable at pod-level");
    }
}

/// Whether a resize names the same containers in the same order.
fn same_containers(new: &Value, old: &Value, path: &Path, errors: &mut Errors) -> bool {
    let before = errors.len();
    for kind in KINDS {
        let (now, was) = (list(new, &["spec", kind]), list(old, &["spec", kind]));
        if now.len() != was.len() {
            let detail = format!("{kind} may not be added or removed on resize");
            errors.forbidden(&path.child(kind), detail);
            continue;
        }
        for (i, _) in now.iter().zip(was).enumerate().filter(|(_, (now, was))| now["name"] != was["name"]) {
            let detail = format!("{kind} may not be renamed or reordered on resize");
            errors.forbidden(&path.child(kind).index(i).child("name"), detail);
        }
    }
    errors.len() == before
}

fn removed(after: &Value, before: &Value, which: &str, what: &str, path: &Path, errors: &mut Errors) {
    let mut names = before[which].as_object().into_iter().flatten();
    if names.any(|(name, _)| after[which].get(name).is_none()) {
        errors.forbidden(&path.child(which), format!("{what} {which} cannot be removed"));
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
    if annotations::is_mirror(&old["metadata"]) {
        return errors.forbidden_only(&Path::default(), "static pods do not support ephemeral containers");
    }
    let path = Path::new("spec.ephemeralContainers");
    let after = list(new, &["spec", "ephemeralContainers"]);
    for before in list(old, &["spec", "ephemeralContainers"]) {
        let name = text(before, &["name"]);
        match after.iter().position(|c| text(c, &["name"]) == name) {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.forbidden(&path, detail);
            }
            Some(i) if after[i] != *before => {
                let now = errors.as_sent(&path.index(i), &after[i]);
                let diff = checks::internal_diff("a.core.v1.EphemeralContainer", before, &now);
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{diff}");
                errors.forbidden(&path, detail);
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resize_is_of_the_containers_that_there_are() {
        let old = json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "a", "image": "i", "resources": {"requests": {"cpu": "1"}}},
            {"name": "b", "image": "i", "resources": {}},
        ]}});
        let resized = |containers: Value| {
            let mut new = json!({"metadata": {"name": "p"}, "spec": {"containers": containers}});
            prepare_resize(&mut new, &old);
            new["spec"]["containers"].clone()
        };
        // Of each container only its resources count.
        let more = json!({"requests": {"cpu": "2"}});
        let kept = resized(json!([{"name": "a", "image": "x", "resources": more}, {"name": "b"}]));
        assert_eq!(
            kept,
            json!([{"name": "a", "image": "i", "resources": more}, {"name": "b", "image": "i"}])
        );
        // Others in their place are left to be refused.
        let others = json!([{"name": "b", "resources": {}}, {"name": "a"}]);
        assert_eq!(resized(others.clone()), others);
    }
}
