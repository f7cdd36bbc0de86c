//! Storage classes, CSI drivers and what they know about nodes, capacity and attachments.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::checks::{self, IMMUTABLE, named, qualified};
use super::volumes::protect;
use super::{Strategy, base, volume_notes};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{default, list, object_mut, text};

const PARAMETERS_MAX: usize = 512;
const PARAMETER_BYTES_MAX: usize = 256 * 1024;
const DRIVER_CHARS_MAX: usize = 63;
const NODE_ID_CHARS_MAX: usize = 192;
const ATTACHMENT_BYTES_MAX: usize = 256 * 1024;
const ERROR_BYTES_MAX: usize = 1024;

fn spec(name: &str) -> Path {
    Path::new("spec").child(name)
}

/// What a driver or provisioner is called: case does not matter.
fn provisioner(value: &str, path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    for error in protocol::selector::qualified_name_error(&value.to_lowercase()) {
        errors.invalid(path, value, error);
    }
}

fn parameters(parameters: &Value, needed: bool, errors: &mut Errors) {
    let path = Path::new("parameters");
    let map = parameters.as_object();
    let count = map.map_or(0, serde_json::Map::len);
    if count > PARAMETERS_MAX {
        errors.too_long(&path, PARAMETERS_MAX);
        return;
    }
    let mut size = 0;
    for (key, value) in map.into_iter().flatten() {
        if key.is_empty() {
            errors.invalid(&path, "", "field can not be empty.");
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > PARAMETER_BYTES_MAX {
        errors.too_long(&path, PARAMETER_BYTES_MAX);
    }
    if needed && count == 0 {
        errors.required(&path, "must contain at least one key/value pair");
    }
}

fn frozen(new: &Value, old: &Value, name: &str, errors: &mut Errors) {
    if new[name] != old[name] {
        errors.forbidden(&Path::new(name), format!("updates to {name} are forbidden."));
    }
}

pub(super) fn class() -> Strategy {
    Strategy {
        defaults: |object| {
            let fields = object_mut(object, &[]);
            default(fields, "reclaimPolicy", "Delete");
            default(fields, "volumeBindingMode", "Immediate");
        },
        validate: |object, errors| {
            provisioner(text(object, &["provisioner"]), &Path::new("provisioner"), errors);
            parameters(&object["parameters"], false, errors);
            let policy = &object["reclaimPolicy"];
            checks::choice(policy, &["Delete", "Retain"], &Path::new("reclaimPolicy"), errors);
            checks::required_choice(
                &object["volumeBindingMode"],
                &["Immediate", "WaitForFirstConsumer"],
                &Path::new("volumeBindingMode"),
                errors,
            );
            topologies(list(object, &["allowedTopologies"]), &Path::new("allowedTopologies"), errors);
        },
        validate_update: |new, old, errors| {
            frozen(new, old, "parameters", errors);
            checks::immutable(&new["provisioner"], &old["provisioner"], &Path::new("provisioner"), errors);
            frozen(new, old, "reclaimPolicy", errors);
            checks::immutable(
                &new["volumeBindingMode"],
                &old["volumeBindingMode"],
                &Path::new("volumeBindingMode"),
                errors,
            );
        },
        warnings: volume_notes::class,
        ..base()
    }
}

fn topologies(terms: &[Value], path: &Path, errors: &mut Errors) {
    for (i, term) in terms.iter().enumerate() {
        let path = path.index(i);
        let mut keys = HashSet::new();
        for (j, expression) in list(term, &["matchLabelExpressions"]).iter().enumerate() {
            let path = path.child("matchLabelExpressions").index(j);
            let values = list(expression, &["values"]);
            if values.is_empty() {
                errors.required(&path.child("values"), "");
            }
            for (k, value) in values.iter().enumerate() {
                if values[..k].contains(value) {
                    errors.duplicate(&path.child("values").index(k), value.clone());
                }
            }
            let key = text(expression, &["key"]);
            qualified(key, &path.child("key"), errors);
            if !keys.insert(key) {
                errors.duplicate(&path.child("key"), key);
            }
        }
        if terms[..i].contains(term) {
            errors.duplicate(&path.child("matchLabelExpressions"), "");
        }
    }
}

pub(super) fn attributes_class() -> Strategy {
    Strategy {
        prepare_create: |object| protect(object, "kubernetes.io/vac-protection"),
        validate: valid_attributes,
        validate_update: |new, old, errors| {
            frozen(new, old, "driverName", errors);
            frozen(new, old, "parameters", errors);
            // Upstream comes by here twice.
            valid_attributes(new, errors);
        },
        ..base()
    }
}

fn valid_attributes(object: &Value, errors: &mut Errors) {
    provisioner(text(object, &["driverName"]), &Path::new("driverName"), errors);
    parameters(&object["parameters"], true, errors);
}

/// The name of a CSI driver.
pub(super) fn driver_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
    }
    if name.len() > DRIVER_CHARS_MAX {
        errors.too_long(path, DRIVER_CHARS_MAX);
    }
    if !name.is_empty() {
        for error in name_errors(NameRule::Subdomain, &name.to_lowercase(), false) {
            errors.invalid(path, name, error);
        }
    }
}

pub(super) fn csi_driver() -> Strategy {
    Strategy {
        defaults: |object| {
            let spec = object_mut(object, &["spec"]);
            default(spec, "attachRequired", true);
            for name in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
                default(spec, name, false);
            }
            default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            if spec.get("volumeLifecycleModes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
                spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
            }
        },
        validate: |object, errors| {
            let driver = &object["spec"];
            checks::choice(
                &driver["fsGroupPolicy"],
                &["File", "None", "ReadWriteOnceWithFSType"],
                &spec("fsGroupPolicy"),
                errors,
            );
            token_requests(list(driver, &["tokenRequests"]), &spec("tokenRequests"), errors);
            for mode in list(driver, &["volumeLifecycleModes"]) {
                checks::choice(mode, &["Persistent", "Ephemeral"], &spec("volumeLifecycleModes"), errors);
            }
            if let Some(period) = driver["nodeAllocatableUpdatePeriodSeconds"].as_i64()
                && period < 10
            {
                let path = spec("nodeAllocatableUpdatePeriodSeconds");
                errors.invalid(&path, period, "must be greater than or equal to 10 seconds");
            }
        },
        validate_update: |new, old, errors| {
            let (new, old) = (&new["spec"], &old["spec"]);
            checks::immutable(
                &new["attachRequired"],
                &old["attachRequired"],
                &spec("attachedRequired"),
                errors,
            );
            checks::immutable(
                &new["volumeLifecycleModes"],
                &old["volumeLifecycleModes"],
                &spec("volumeLifecycleModes"),
                errors,
            );
        },
        warnings: |object, _, said| {
            let driver = &object["spec"];
            if !list(driver, &["tokenRequests"]).is_empty()
                && driver["serviceAccountTokenInSecrets"].is_null()
            {
                said.push(
                    "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to \
                     prevent possible logging of tokens in volume attributes"
                        .to_owned(),
                );
            }
        },
        ..base()
    }
}

fn token_requests(requests: &[Value], path: &Path, errors: &mut Errors) {
    let mut audiences = HashSet::new();
    for (i, request) in requests.iter().enumerate() {
        let path = path.index(i);
        let audience = text(request, &["audience"]);
        if !audiences.insert(audience) {
            errors.duplicate(&path.child("audience"), audience);
            continue;
        }
        token_lifetime(&request["expirationSeconds"], &path.child("expirationSeconds"), errors);
    }
}

/// How long a service account's token may be good for.
pub(super) fn token_lifetime(seconds: &Value, path: &Path, errors: &mut Errors) {
    let Some(given) = seconds.as_i64() else { return };
    if given < 600 {
        errors.invalid(path, given, "may not specify a duration less than 10 minutes");
    }
    if given > 1 << 32 {
        errors.invalid(path, given, "may not specify a duration larger than 2^32 seconds");
    }
}

pub(super) fn csi_node() -> Strategy {
    Strategy {
        validate: |object, errors| {
            let mut names = HashSet::new();
            for (i, driver) in list(object, &["spec", "drivers"]).iter().enumerate() {
                node_driver(driver, &mut names, &spec("drivers").index(i), errors);
            }
        },
        validate_update: |new, old, errors| {
            for before in list(old, &["spec", "drivers"]) {
                for after in list(new, &["spec", "drivers"]) {
                    // How many volumes a node takes is found out again and again.
                    let fixed = |driver: &Value| {
                        let mut driver = driver.clone();
                        object_mut(&mut driver, &[]).remove("allocatable");
                        driver
                    };
                    let (before, after) = (fixed(before), fixed(after));
                    if before["name"] == after["name"] && before != after {
                        let shown = checks::internal("a.storage.v1.CSINodeDriver", &after);
                        errors.invalid_shown(&spec("drivers"), &shown, IMMUTABLE);
                    }
                }
            }
        },
        ..base()
    }
}

fn node_driver<'a>(driver: &'a Value, names: &mut HashSet<&'a str>, path: &Path, errors: &mut Errors) {
    let name = text(driver, &["name"]);
    driver_name(name, &path.child("name"), errors);
    let id = text(driver, &["nodeID"]);
    if id.is_empty() {
        errors.required(&path.child("nodeID"), "");
    } else if id.len() > NODE_ID_CHARS_MAX {
        let detail = format!("must be {NODE_ID_CHARS_MAX} characters or less");
        errors.invalid(&path.child("nodeID"), id, detail);
    }
    let count = path.child("allocatable").child("count");
    checks::non_negative(&driver["allocatable"]["count"], &count, errors);
    if !names.insert(name) {
        errors.duplicate(&path.child("name"), name);
    }
    let mut keys = HashSet::new();
    // Upstream tells these of the driver as a whole.
    for key in list(driver, &["topologyKeys"]).iter().filter_map(Value::as_str) {
        if key.is_empty() {
            errors.required(path, "");
        }
        if !keys.insert(key) {
            errors.duplicate(path, key);
        }
        qualified(key, path, errors);
    }
}

pub(super) fn storage_capacity() -> Strategy {
    Strategy {
        validate: |object, errors| {
            checks::label_selector(&object["nodeTopology"], &Path::new("nodeTopology"), errors);
            let class = text(object, &["storageClassName"]);
            named(NameRule::Subdomain, class, &Path::new("storageClassName"), errors);
            checks::quantity(&object["capacity"], &Path::new("capacity"), errors);
        },
        validate_update: |new, old, errors| {
            checks::immutable_struct(
                "m.LabelSelector",
                &new["nodeTopology"],
                &old["nodeTopology"],
                &Path::new("nodeTopology"),
                errors,
            );
            let path = Path::new("storageClassName");
            checks::immutable(&new["storageClassName"], &old["storageClassName"], &path, errors);
        },
        ..base()
    }
}

pub(super) fn attachment() -> Strategy {
    Strategy {
        prepare_create: |object| object["status"] = json!({"attached": false}),
        prepare_status: super::keep_metadata,
        validate: valid_attachment,
        // What only the newest version of the kind demands comes last, and of new objects only.
        validate_create: |object, errors| {
            driver_name(text(object, &["spec", "attacher"]), &spec("attacher"), errors);
            if let Some(name) = object["spec"]["source"]["persistentVolumeName"].as_str() {
                named(NameRule::Subdomain, name, &spec("source").child("persistentVolumeName"), errors);
            }
        },
        validate_update: |new, old, errors| {
            // Upstream comes by here twice.
            valid_attachment(new, errors);
            checks::immutable_struct(
                "a.storage.v1.VolumeAttachmentSpec",
                &new["spec"],
                &old["spec"],
                &Path::new("spec"),
                errors,
            );
        },
        validate_status: |new, _, errors| {
            for _ in 0..2 {
                valid_attachment(new, errors);
                attachment_status(&new["status"], &Path::new("status"), errors);
            }
        },
        ..base()
    }
}

fn valid_attachment(object: &Value, errors: &mut Errors) {
    let (attachment, source) = (&object["spec"], &object["spec"]["source"]);
    if text(attachment, &["attacher"]).is_empty() {
        errors.required(&spec("attacher"), "");
    }
    let both = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source["inlineVolumeSpec"].is_object(), source["persistentVolumeName"].as_str()) {
        (false, None) => errors.required(&spec("source"), both),
        (true, Some(_)) => errors.forbidden(&spec("source"), both),
        (false, Some("")) => {
            let path = spec("source").child("persistentVolumeName");
            errors.required(&path, "must specify non empty persistentVolumeName");
        }
        (false, Some(_)) => {}
        (true, None) => super::volumes::volume_spec(
            &source["inlineVolumeSpec"],
            "",
            true,
            &spec("source").child("inlineVolumeSpec"),
            errors,
        ),
    }
    named(NameRule::Subdomain, text(attachment, &["nodeName"]), &spec("nodeName"), errors);
}

fn attachment_status(status: &Value, path: &Path, errors: &mut Errors) {
    let entries = status["attachmentMetadata"].as_object().into_iter().flatten();
    let bytes: usize = entries.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > ATTACHMENT_BYTES_MAX {
        errors.too_long(&path.child("attachmentMetadata"), ATTACHMENT_BYTES_MAX);
    }
    for field in ["attachError", "detachError"] {
        let (error, path) = (&status[field], path.child(field));
        if text(error, &["message"]).len() > ERROR_BYTES_MAX {
            // The limit that is told is the other one.
            errors.too_long(&path.child("message"), ATTACHMENT_BYTES_MAX);
        }
        if let Some(code) = error["errorCode"].as_i64().filter(|code| *code < 0) {
            let detail = "must be between 0 and 2147483647, inclusive";
            errors.invalid(&path.child("errorCode"), code, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(check: impl Fn(&mut Errors)) -> Vec<String> {
        let mut errors = Errors::default();
        check(&mut errors);
        errors.messages()
    }

    #[test]
    fn attachments_name_a_driver_and_a_volume() {
        let strategy = attachment();
        let check = |source: Value, attacher: &str| {
            let object = json!({"spec": {"attacher": attacher, "nodeName": "n", "source": source}});
            said(|errors| {
                (strategy.validate)(&object, errors);
                (strategy.validate_create)(&object, errors);
            })
        };
        assert!(check(json!({"persistentVolumeName": "v"}), "d").is_empty());
        assert_eq!(
            check(json!({"persistentVolumeName": "v"}), ""),
            ["spec.attacher: Required value", "spec.attacher: Required value"]
        );
        let unnamed = check(json!({"persistentVolumeName": ""}), "d");
        let first =
            "spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName";
        assert_eq!((unnamed.len(), unnamed[0].as_str()), (2, first));
    }

    #[test]
    fn what_became_of_an_attachment_has_limits() {
        let check = |status: Value| said(|errors| attachment_status(&status, &Path::new("status"), errors));
        assert!(check(json!({"attachError": {"message": "x", "errorCode": 0}})).is_empty());
        assert_eq!(
            check(json!({"detachError": {"message": "x".repeat(1025), "errorCode": -1}})),
            [
                "status.detachError.message: Too long: may not be more than 262144 bytes",
                "status.detachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ]
        );
    }

    #[test]
    fn nodes_may_find_out_anew_how_many_volumes_they_take() {
        let node = |id: &str, count: i64| json!({"spec": {"drivers": [{"name": "d", "nodeID": id, "allocatable": {"count": count}}]}});
        let change = csi_node().validate_update;
        assert!(said(|errors| change(&node("a", 2), &node("a", 1), errors)).is_empty());
        let told = said(|errors| change(&node("b", 1), &node("a", 1), errors));
        assert!(told.len() == 1 && told[0].starts_with("spec.drivers: Invalid value: "), "{told:?}");
    }

    #[test]
    fn parameters_are_few_and_small() {
        let check = |given: Value| said(|errors| parameters(&given, true, errors));
        assert_eq!(
            check(json!({})),
            ["parameters: Required value: must contain at least one key/value pair"]
        );
        assert_eq!(check(json!({"": "x"})), ["parameters: Invalid value: \"\": field can not be empty."]);
        let many: serde_json::Map<String, Value> = (0..513).map(|i| (i.to_string(), "".into())).collect();
        assert_eq!(check(many.into()), ["parameters: Too long: may not be more than 512 bytes"]);
    }
}
