//! PersistentVolumeClaim.

use serde_json::{Value, json};

use super::{OLD_CLASS, modes, path, protect, valid_quantity};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, amount, internal_diff, named};
use crate::api::kinds::{Strategy, base, volume_notes};
use crate::api::meta::NameRule;
use crate::api::object::{default, list, object_mut, text};

/// How far the growing of a claim is.
const RESIZES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

pub(in crate::api::kinds) fn claim() -> Strategy {
    Strategy {
        defaults: |object| {
            default(object_mut(object, &["spec"]), "volumeMode", "Filesystem");
            default(object_mut(object, &["status"]), "phase", "Pending");
        },
        prepare_create: |object| {
            object["status"] = json!({"phase": "Pending"});
            protect(object, "kubernetes.io/pvc-protection");
            data_sources(&mut object["spec"], &Value::Null);
        },
        prepare_update: |new, old| data_sources(&mut new["spec"], &old["spec"]),
        validate: |object, errors| claim_spec(&object["spec"], &Path::new("spec"), errors),
        validate_update: claim_update,
        validate_status: claim_status,
        warnings: volume_notes::claim,
        status_warnings: Some(|_, _| {}),
        ..base()
    }
}

/// Old clients knew only claims and snapshots as sources; whatever else they said was dropped, unless the claim has a
/// source already. What is of another namespace is not switched on.
fn data_sources(spec: &mut Value, old: &Value) {
    let elsewhere = !text(spec, &["dataSourceRef", "namespace"]).is_empty();
    if elsewhere && !old["dataSourceRef"].is_object() {
        object_mut(spec, &[]).remove("dataSourceRef");
    }
    let had = old["dataSource"].is_object() || old["dataSourceRef"].is_object();
    let source = &spec["dataSource"];
    if source.is_object() && !spec["dataSourceRef"].is_object() && !had {
        let (group, kind) = (text(source, &["apiGroup"]), text(source, &["kind"]));
        let known = (group.is_empty() && kind == "PersistentVolumeClaim")
            || (group == "snapshot.storage.k8s.io" && kind == "VolumeSnapshot");
        if !known {
            object_mut(spec, &[]).remove("dataSource");
        }
    }
    normalize(spec);
}

/// Each of the two fields says what the other does.
fn normalize(spec: &mut Value) {
    let (source, reference) = (spec["dataSource"].clone(), spec["dataSourceRef"].clone());
    if source.is_object() && reference.is_null() {
        spec["dataSourceRef"] = source;
    } else if reference.is_object() && source.is_null() && text(&reference, &["namespace"]).is_empty() {
        spec["dataSource"] = reference;
    }
    let spec = object_mut(spec, &[]);
    for name in ["dataSource", "dataSourceRef"] {
        if spec.get(name).is_some_and(Value::is_null) {
            spec.remove(name);
        }
    }
}

/// A claim's spec, of a claim or of a template.
pub(in crate::api::kinds) fn claim_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    if list(spec, &["accessModes"]).is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    checks::label_selector(&spec["selector"], &path.child("selector"), errors);
    modes(spec, &path.child("accessModes"), errors);
    let storage = &spec["resources"]["requests"]["storage"];
    let at = path.child("resources").key("storage");
    if storage.is_null() {
        errors.required(&at, "");
    } else {
        checks::positive_quantity(storage, &at, errors);
    }
    checks::named_if_set(NameRule::Subdomain, spec, "storageClassName", path, errors);
    checks::choice(&spec["volumeMode"], &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    for field in ["dataSource", "dataSourceRef"] {
        if spec[field].is_object() {
            data_source(&spec[field], &path.child(field), errors);
        }
    }
    let (source, reference) = (&spec["dataSource"], &spec["dataSourceRef"]);
    if source.is_object() && reference.is_object() {
        let same = ["apiGroup", "kind", "name"].iter().all(|n| text(source, &[n]) == text(reference, &[n]));
        // The value is shown as the server holds it, a path of which nothing can be seen.
        if !text(reference, &["namespace"]).is_empty() {
            let detail = "may not be specified when dataSourceRef.namespace is specified";
            errors.invalid_shown(path, "{}", detail);
        } else if !same {
            errors.invalid_shown(path, "{}", "must match dataSourceRef");
        }
    }
    if let Some(class) = spec["volumeAttributesClassName"].as_str().filter(|c| !c.is_empty()) {
        named(NameRule::Subdomain, class, &path.child("volumeAttributesClassName"), errors);
    }
}

fn data_source(source: &Value, path: &Path, errors: &mut Errors) {
    checks::required(source, "name", path, errors);
    checks::required(source, "kind", path, errors);
    let (group, kind) = (text(source, &["apiGroup"]), text(source, &["kind"]));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        errors.invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    if !group.is_empty() {
        named(NameRule::Subdomain, group, &path.child("apiGroup"), errors);
    }
    checks::named_if_set(NameRule::Label, source, "namespace", path, errors);
}

fn claim_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (mut after, mut before) = (new["spec"].clone(), old["spec"].clone());
    let copy = |from: &Value, to: &mut Value, name: &str| crate::api::object::copy_field(from, to, name);
    if text(&before, &["volumeName"]).is_empty() {
        copy(&after, &mut before, "volumeName");
    }
    let bound = text(new, &["status", "phase"]) == "Bound";
    let [was, is] = [old, new].map(|claim| &claim["metadata"]["annotations"][OLD_CLASS]);
    let class = after["storageClassName"].clone();
    if before["storageClassName"].is_null()
        && class.is_string()
        && class == *was
        && (is.is_null() || is == was)
    {
        // The class moves from its old place to its new one.
        copy(&before, &mut after, "storageClassName");
    } else {
        if was != is {
            let path = Path::new("metadata").child("annotations").child(OLD_CLASS);
            errors.invalid(&path, is.as_str().unwrap_or_default(), checks::IMMUTABLE);
        }
        // A claim without a class gets one.
        if before["storageClassName"].is_null() && class.is_string() && (was.is_null() || class == *was) {
            copy(&before, &mut after, "storageClassName");
        }
    }
    if bound {
        let requested = before["resources"]["requests"]["storage"].clone();
        if after["resources"]["requests"].is_object() && !requested.is_null() {
            after["resources"]["requests"]["storage"] = requested;
        }
    }
    if bound {
        copy(&before, &mut after, "volumeAttributesClassName");
    }
    if after != before {
        let after = errors.as_sent(&Path::new("spec"), &after);
        let diff = internal_diff("a.core.v1.PersistentVolumeClaimSpec", &before, &after);
        errors.forbidden(
            &Path::new("spec"),
            format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                 claims\n{diff}"
            ),
        );
    }
    // What is not asked for is nothing.
    let storage =
        |object: &Value| amount(&object["spec"]["resources"]["requests"]["storage"]).unwrap_or_default();
    let (wanted, was) = (storage(new), storage(old));
    let now = amount(&old["status"]["capacity"]["storage"]).unwrap_or_default();
    if wanted < was && wanted <= now {
        let path = path("resources").child("requests").child("storage");
        errors.forbidden(&path, "field can not be less than status.capacity");
    }
    let [is, was] = [new, old].map(|claim| &claim["spec"]["volumeMode"]);
    checks::immutable(is, was, &Path::new("volumeMode"), errors);
    let [is, was] = [new, old].map(|claim| &claim["spec"]["volumeAttributesClassName"]);
    // What a driver did by a class cannot be undone by naming none.
    if is != was && old["status"]["currentVolumeAttributesClassName"].is_string() {
        let none = match is.as_str() {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return,
        };
        let detail =
            format!("update to {none} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.forbidden(&path("volumeAttributesClassName"), detail);
    }
}

/// Checks a change of a claim's status.
fn claim_status(new: &Value, _: &Value, errors: &mut Errors) {
    let status = Path::new("status");
    for (name, value) in new["status"]["capacity"].as_object().into_iter().flatten() {
        valid_quantity(value, &status.child("capacity").key(name), errors);
    }
    let path = status.child("allocatedResourceStatuses");
    for (name, value) in new["status"]["allocatedResourceStatuses"].as_object().into_iter().flatten() {
        claim_resource(name, &path, errors);
        if !RESIZES.iter().any(|known| value == known) {
            errors.unsupported(&path, name.as_str(), RESIZES);
        }
    }
    let path = status.child("allocatedResources");
    for (name, value) in new["status"]["allocatedResources"].as_object().into_iter().flatten() {
        let before = errors.len();
        claim_resource(name, &path, errors);
        if errors.len() == before {
            valid_quantity(value, &path.key(name), errors);
        }
    }
}

/// What a claim can have of its own: storage, and what others than the cluster name.
fn claim_resource(name: &str, path: &Path, errors: &mut Errors) {
    let before = errors.len();
    checks::qualified(name, path, errors);
    let native = name.split_once('/').is_none_or(|(domain, _)| domain.contains("kubernetes.io"));
    if errors.len() == before && native && name != "storage" {
        errors.unsupported(path, name, &["storage"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_old_clients_made_up_are_dropped() {
        let claim = json!({"kind": "PersistentVolumeClaim", "name": "a"});
        let other = json!({"apiGroup": "example.com", "kind": "Thing", "name": "a"});
        let far = json!({"apiGroup": "example.com", "kind": "Thing", "name": "a", "namespace": "b"});
        for (spec, old, wanted) in [
            (json!({"dataSource": claim}), json!({}), json!({"dataSource": claim, "dataSourceRef": claim})),
            (json!({"dataSource": other}), json!({}), json!({})),
            (json!({"dataSource": other}), json!({"dataSource": other}), {
                json!({"dataSource": other, "dataSourceRef": other})
            }),
            (
                json!({"dataSourceRef": other}),
                json!({}),
                json!({"dataSource": other, "dataSourceRef": other}),
            ),
            (json!({"dataSourceRef": far}), json!({}), json!({})),
        ] {
            let mut made = spec.clone();
            data_sources(&mut made, &old);
            assert_eq!(made, wanted, "{spec} {old}");
        }
    }

    #[test]
    fn a_claim_asks_for_less_down_to_what_it_has() {
        let claim = |size: &str, has: Option<&str>, class: Option<&str>| {
            json!({"spec": {"resources": {"requests": {"storage": size}}, "volumeAttributesClassName": class},
                "status": {"phase": "Bound", "capacity": {"storage": has}, "currentVolumeAttributesClassName": "a"}})
        };
        for (size, has, class, wanted) in [
            ("2Gi", None, Some("b"), vec![]),
            ("1Gi", None, Some("b"), vec![]),
            ("1Gi", Some("512Mi"), Some("b"), vec![]),
            ("1Gi", Some("1Gi"), Some("b"), vec!["spec.resources.requests.storage"]),
            ("2Gi", None, None, vec!["spec.volumeAttributesClassName"]),
            ("2Gi", None, Some(""), vec!["spec.volumeAttributesClassName"]),
        ] {
            let mut errors = Errors::default();
            claim_update(&claim(size, has, class), &claim("2Gi", has, Some("a")), &mut errors);
            let told = errors.messages();
            let fields: Vec<&str> = told.iter().filter_map(|told| told.split(": ").next()).collect();
            assert_eq!(fields, wanted, "{size} {has:?} {class:?}");
        }
    }
}
