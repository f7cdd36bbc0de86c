//! The columns of storage.

use serde_json::Value;

use super::{age, joined, n, or, s};
use crate::api::object::{is_deleting, list, text};

fn modes(value: &[Value]) -> String {
    let short = |mode: &str| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    value.iter().filter_map(Value::as_str).map(short).collect::<Vec<_>>().join(",")
}

fn phase(item: &Value) -> Value {
    if is_deleting(item) { "Terminating".into() } else { text(item, &["status", "phase"]).into() }
}

pub(super) fn volume(item: &Value) -> Vec<Value> {
    let spec = &item["spec"];
    let claim = &spec["claimRef"];
    let claim = if claim.is_object() {
        format!("{}/{}", text(claim, &["namespace"]), text(claim, &["name"]))
    } else {
        String::new()
    };
    vec![
        n(item),
        s(text(spec, &["capacity", "storage"])),
        modes(list(spec, &["accessModes"])).into(),
        s(text(spec, &["persistentVolumeReclaimPolicy"])),
        phase(item),
        claim.into(),
        s(text(spec, &["storageClassName"])),
        or(text(spec, &["volumeAttributesClassName"]), "<unset>"),
        s(text(item, &["status", "reason"])),
        age(item),
        or(text(spec, &["volumeMode"]), "<unset>"),
    ]
}

pub(super) fn claim(item: &Value) -> Vec<Value> {
    let spec = &item["spec"];
    let bound = !text(spec, &["volumeName"]).is_empty();
    let capacity = if bound { text(item, &["status", "capacity", "storage"]) } else { "" };
    let access = if bound { modes(list(item, &["status", "accessModes"])) } else { String::new() };
    vec![
        n(item),
        phase(item),
        s(text(spec, &["volumeName"])),
        s(capacity),
        access.into(),
        s(text(spec, &["storageClassName"])),
        or(text(spec, &["volumeAttributesClassName"]), "<unset>"),
        age(item),
        or(text(spec, &["volumeMode"]), "<unset>"),
    ]
}

pub(super) fn class(item: &Value) -> Vec<Value> {
    let default =
        text(item, &["metadata", "annotations", "storageclass.kubernetes.io/is-default-class"]) == "true";
    let name = if default { format!("{} (default)", crate::api::object::name(item)).into() } else { n(item) };
    let expands = item["allowVolumeExpansion"] == Value::Bool(true);
    vec![
        name,
        s(text(item, &["provisioner"])),
        s(text(item, &["reclaimPolicy"])),
        s(text(item, &["volumeBindingMode"])),
        expands.into(),
        age(item),
    ]
}

pub(super) fn driver(item: &Value) -> Vec<Value> {
    let spec = &item["spec"];
    let audiences: Vec<&str> =
        list(spec, &["tokenRequests"]).iter().map(|t| text(t, &["audience"])).collect();
    let yes = |name: &str, unset: bool| Value::Bool(spec[name].as_bool().unwrap_or(unset));
    vec![
        n(item),
        yes("attachRequired", true),
        yes("podInfoOnMount", false),
        yes("storageCapacity", false),
        or(&audiences.join(","), "<unset>"),
        yes("requiresRepublish", false),
        or(&joined(list(spec, &["volumeLifecycleModes"])), "<none>"),
        age(item),
    ]
}

pub(super) fn attachment(item: &Value) -> Vec<Value> {
    vec![
        n(item),
        s(text(item, &["spec", "attacher"])),
        s(text(item, &["spec", "source", "persistentVolumeName"])),
        s(text(item, &["spec", "nodeName"])),
        Value::Bool(item["status"]["attached"] == Value::Bool(true)),
        age(item),
    ]
}
