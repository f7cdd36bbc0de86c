//! What a claim's status may say: what was allocated for it, and who may use it.

use std::collections::HashSet;

use serde_json::Value;

use super::slices::pool_name;
use super::{configuration, driver, limited, names_of, object_of, request_name, request_names, unique};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, named};
use crate::api::meta::NameRule;
use crate::api::object::{is_deleting, list, text};

const RESERVED_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
/// A class's configurations and the claim's.
const CONFIGS_MAX: usize = 64;
const CONDITIONS_MAX: usize = 8;

pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let (status, before, path) = (&new["status"], &old["status"], Path::new("status"));
    let (reserved, at) =
        (limited(status, "reservedFor", RESERVED_MAX, &path, errors), path.child("reservedFor"));
    for (i, user) in reserved.iter().enumerate() {
        for field in ["resource", "name", "uid"] {
            checks::required(user, field, &at.index(i), errors);
        }
    }
    unique(reserved.iter().map(|user| text(user, &["uid"])), &at, errors);
    let allocation = &status["allocation"];
    devices(status, &path, errors);
    if !reserved.is_empty() {
        let known = list(before, &["reservedFor"]);
        if allocation.is_null() {
            errors.forbidden(&at, "may not be specified when `allocated` is not set");
        } else if is_deleting(new) && reserved.iter().any(|user| !known.contains(user)) {
            let detail =
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.forbidden(&at, detail);
        }
    }
    let at = path.child("allocation");
    match (before["allocation"].is_null(), allocation.is_null()) {
        (false, false) => checks::immutable_struct(
            "a.resource.v1.AllocationResult",
            allocation,
            &before["allocation"],
            &at,
            errors,
        ),
        (true, false) => allocated(allocation, &names_of(&new["spec"]["devices"]), &at, errors),
        _ => {}
    }
}

fn allocated(allocation: &Value, names: &HashSet<String>, path: &Path, errors: &mut Errors) {
    let (devices, at) = (&allocation["devices"], path.child("devices"));
    for (i, result) in limited(devices, "results", RESULTS_MAX, &at, errors).iter().enumerate() {
        let at = at.child("results").index(i);
        request_name(text(result, &["request"]), names, &at.child("request"), errors);
        driver(text(result, &["driver"]), &at.child("driver"), errors);
        pool_name(text(result, &["pool"]), &at.child("pool"), errors);
        named(NameRule::Label, text(result, &["device"]), &at.child("device"), errors);
    }
    for (i, config) in limited(devices, "config", CONFIGS_MAX, &at, errors).iter().enumerate() {
        let at = at.child("config").index(i);
        let sources = ["FromClaim", "FromClass"];
        checks::required_choice(&config["source"], &sources, &at.child("source"), errors);
        request_names(config, names, &at, errors);
        configuration(config, &at, errors);
    }
    if allocation["nodeSelector"].is_object() {
        checks::node_selector(&allocation["nodeSelector"], &path.child("nodeSelector"), errors);
    }
}

/// Which device something is about.
fn device_of(value: &Value) -> [&str; 3] {
    ["driver", "pool", "device"].map(|field| text(value, &[field]))
}

/// What drivers say about the devices of the claim.
fn devices(status: &Value, path: &Path, errors: &mut Errors) {
    let results = list(status, &["allocation", "devices", "results"]);
    let (told, path) = (list(status, &["devices"]), path.child("devices"));
    for (i, device) in told.iter().enumerate() {
        let path = path.index(i);
        let [of, pool, name] = device_of(device);
        driver(of, &path.child("driver"), errors);
        pool_name(pool, &path.child("pool"), errors);
        named(NameRule::Label, name, &path.child("device"), errors);
        let same =
            |result: &Value| device_of(result) == [of, pool, name] && result["shareID"] == device["shareID"];
        if !results.iter().any(same) {
            let shown = [of, pool, name].join("/");
            errors.invalid(&path, shown, "must be an allocated device in the claim");
        }
        let conditions = list(device, &["conditions"]);
        if conditions.len() > CONDITIONS_MAX {
            errors.too_many(&path.child("conditions"), conditions.len(), CONDITIONS_MAX);
        }
        checks::conditions(conditions, &path.child("conditions"), errors);
        if !device["data"].is_null() {
            object_of(&device["data"], &path.child("data"), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_speaks_of_what_was_allocated() {
        let result = json!({"request": "r", "driver": "d", "pool": "p", "device": "x"});
        let allocation = json!({"devices": {"results": [result]}});
        let user = json!({"resource": "pods", "name": "a", "uid": "1"});
        let claim =
            |status: Value| json!({"spec": {"devices": {"requests": [{"name": "r"}]}}, "status": status});
        let cases = [
            (json!({"allocation": allocation, "reservedFor": [user]}), json!({}), vec![]),
            (
                json!({"reservedFor": [user, {"resource": "pods", "name": "b", "uid": "1"}, {}]}),
                json!({}),
                vec![
                    "status.reservedFor[2].resource: Required value",
                    "status.reservedFor[2].name: Required value",
                    "status.reservedFor[2].uid: Required value",
                    "status.reservedFor[1]: Duplicate value: \"1\"",
                    "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
                ],
            ),
            (
                json!({"devices": [{"driver": "d", "pool": "p", "device": "x"}]}),
                json!({}),
                vec!["status.devices[0]: Invalid value: \"d/p/x\": must be an allocated device in the claim"],
            ),
        ];
        for (status, before, expected) in cases {
            let mut errors = Errors::default();
            validate(&claim(status.clone()), &claim(before), &mut errors);
            assert_eq!(errors.messages(), expected, "{status}");
        }
        let mut errors = Errors::default();
        let other = json!({"devices": {"results": []}});
        validate(
            &claim(json!({"allocation": other})),
            &claim(json!({"allocation": allocation})),
            &mut errors,
        );
        let told = errors.messages();
        assert!(
            told[0].starts_with("status.allocation: Invalid value: {")
                && told[0].ends_with("field is immutable")
        );
    }
}
