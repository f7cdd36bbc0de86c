//! The columns of storage.

use serde_json::Value;

use super::{age, joined, n, or, s};
use crate::api::object::{is_deleting, list, text};

/// Access modes, in this order, and what they are called for short.
const MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

fn modes(value: &[Value]) -> String {
    let given = MODES.iter().filter(|(mode, _)| value.iter().any(|v| v == mode));
    given.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// An amount; one that is not there is none.
fn amount(value: &Value) -> Value {
    or(value.as_str().unwrap_or_default(), "0")
}

/// A text, even an empty one, if it is there.
fn set(value: &Value, unset: &str) -> Value {
    value.as_str().unwrap_or(unset).into()
}

/// The class of a volume or claim, which old clients name by an annotation.
fn class_name(item: &Value) -> Value {
    match item["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str() {
        Some(class) => class.into(),
        None => s(text(item, &["spec", "storageClassName"])),
    }
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
        amount(&spec["capacity"]["storage"]),
        modes(list(spec, &["accessModes"])).into(),
        s(text(spec, &["persistentVolumeReclaimPolicy"])),
        phase(item),
        claim.into(),
        class_name(item),
        set(&spec["volumeAttributesClassName"], "<unset>"),
        s(text(item, &["status", "reason"])),
        age(item),
        set(&spec["volumeMode"], "<unset>"),
    ]
}

pub(super) fn claim(item: &Value) -> Vec<Value> {
    let spec = &item["spec"];
    let bound = !text(spec, &["volumeName"]).is_empty();
    let capacity = if bound { amount(&item["status"]["capacity"]["storage"]) } else { "".into() };
    let access = if bound { modes(list(item, &["status", "accessModes"])) } else { String::new() };
    vec![
        n(item),
        phase(item),
        s(text(spec, &["volumeName"])),
        capacity,
        access.into(),
        class_name(item),
        set(&spec["volumeAttributesClassName"], "<unset>"),
        age(item),
        set(&spec["volumeMode"], "<unset>"),
    ]
}

pub(super) fn class(item: &Value) -> Vec<Value> {
    let default = ["storageclass.kubernetes.io", "storageclass.beta.kubernetes.io"]
        .iter()
        .any(|domain| item["metadata"]["annotations"][format!("{domain}/is-default-class")] == "true");
    let name = if default { format!("{} (default)", crate::api::object::name(item)).into() } else { n(item) };
    let expands = item["allowVolumeExpansion"] == Value::Bool(true);
    vec![
        name,
        s(text(item, &["provisioner"])),
        set(&item["reclaimPolicy"], "Delete"),
        set(&item["volumeBindingMode"], "Immediate"),
        expands.into(),
        age(item),
    ]
}

pub(super) fn driver(item: &Value) -> Vec<Value> {
    let spec = &item["spec"];
    let audiences: Option<Vec<&str>> =
        spec["tokenRequests"].as_array().map(|all| all.iter().map(|t| text(t, &["audience"])).collect());
    let yes = |name: &str, unset: bool| Value::Bool(spec[name].as_bool().unwrap_or(unset));
    vec![
        n(item),
        yes("attachRequired", true),
        yes("podInfoOnMount", false),
        yes("storageCapacity", false),
        audiences.map_or("<unset>".into(), |all| all.join(",").into()),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn modes_are_told_once_and_in_order() {
        let given = json!(["ReadWriteMany", "ReadWriteOnce", "ReadWriteMany"]);
        assert_eq!(modes(given.as_array().map_or(&[], Vec::as_slice)), "RWO,RWX");
    }

    #[test]
    fn claims_say_nothing_of_amounts_before_they_are_bound() {
        let claim = |volume: &str| {
            let spec = json!({"volumeName": volume, "volumeAttributesClassName": ""});
            claim(&json!({"spec": spec, "status": {"accessModes": ["ReadWriteOnce"]}}))
        };
        assert_eq!(claim("")[3..5], [json!(""), json!("")]);
        assert_eq!(claim("v")[3..7], [json!("0"), json!("RWO"), json!(""), json!("")]);
    }

    #[test]
    fn older_annotations_count_too() {
        let of = |key: &str, value: &str| json!({"metadata": {"name": "x", "annotations": {key: value}}});
        let class = class(&of("storageclass.beta.kubernetes.io/is-default-class", "true"));
        assert_eq!(class[..4], [json!("x (default)"), json!(""), json!("Delete"), json!("Immediate")]);
        assert_eq!(volume(&of("volume.beta.kubernetes.io/storage-class", "old"))[6], "old");
    }
}
