//! CSIDriver and CSINode: what drivers are called and can do, and where they are.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::spec;
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, IMMUTABLE, qualified};
use crate::api::kinds::{Strategy, base};
use crate::api::meta::{NameRule, name_errors};
use crate::api::object::{default, drop_unless_had, list, object_mut, text};

const DRIVER_CHARS_MAX: usize = 63;
const NODE_ID_CHARS_MAX: usize = 256;

pub(in crate::api::kinds) fn driver_name(name: &str, path: &Path, errors: &mut Errors) {
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

pub(in crate::api::kinds) fn csi_driver() -> Strategy {
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
        prepare_create: |object| without_scaling(object, &Value::Null),
        prepare_update: without_scaling,
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
            let in_secrets = &driver["serviceAccountTokenInSecrets"];
            if !in_secrets.is_null() && list(driver, &["tokenRequests"]).is_empty() {
                let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
                errors.invalid(&spec("serviceAccountTokenInSecrets"), in_secrets.clone(), why);
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
        warnings: |object, old, said| {
            let driver = &object["spec"];
            if old.is_none_or(|old| old["spec"]["tokenRequests"] != driver["tokenRequests"])
                && !list(driver, &["tokenRequests"]).is_empty()
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

/// Drops what is not switched on, but where the stored object has it already.
fn without_scaling(object: &mut Value, old: &Value) {
    drop_unless_had(object, old, &["spec"], "preventPodSchedulingIfMissing");
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
pub(in crate::api::kinds) fn token_lifetime(seconds: &Value, path: &Path, errors: &mut Errors) {
    let Some(given) = seconds.as_i64() else { return };
    if given < 600 {
        errors.invalid(path, given, "may not specify a duration less than 10 minutes");
    }
    if given > 1 << 32 {
        errors.invalid(path, given, "may not specify a duration larger than 2^32 seconds");
    }
}

pub(in crate::api::kinds) fn csi_node() -> Strategy {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::invalid::said;

    #[test]
    fn nodes_may_find_out_anew_how_many_volumes_they_take() {
        let node = |id: &str, count: i64| json!({"spec": {"drivers": [{"name": "d", "nodeID": id, "allocatable": {"count": count}}]}});
        let change = csi_node().validate_update;
        assert!(said(|errors| change(&node("a", 2), &node("a", 1), errors)).is_empty());
        let told = said(|errors| change(&node("b", 1), &node("a", 1), errors));
        assert!(told.len() == 1 && told[0].starts_with("spec.drivers: Invalid value: "), "{told:?}");
    }
}
