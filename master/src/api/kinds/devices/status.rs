//! What a claim's status may say: what was allocated for it, and who may use it.

use std::collections::HashSet;

use protocol::schema::internal::go_json;
use serde_json::Value;

use super::slices::pool_name;
use super::{
    binding_conditions, configuration, driver, limited, names_of, object_of, request_name, request_names,
    unique,
};
use crate::api::invalid::{Errors, Path, go_quote};
use crate::api::kinds::checks::{self, named};
use crate::api::meta::NameRule;
use crate::api::object::{is_deleting, list, text};

const RESERVED_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
/// A class's configurations and the claim's.
const CONFIGS_MAX: usize = 64;
const CONDITIONS_MAX: usize = 8;
/// The length of a UUID in its usual form.
const UUID_CHARS: usize = 36;

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
        binding_conditions(result, &at, errors);
        share(result, &at, errors);
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

/// Which device, or which share of one, something is about.
fn device_of(value: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| text(value, &[field]))
}

/// Which device something is about, as messages show it.
fn shown(value: &Value) -> String {
    let parts = ["Driver", "Pool", "Device", "ShareID"].into_iter().zip(device_of(value));
    let parts: Vec<String> =
        parts.map(|(name, value)| format!("\"{name}\":{}", Value::from(value))).collect();
    go_json(&format!("{{{}}}", parts.join(",")))
}

/// The share of a device that may be used by several: a UUID in its usual form.
fn share(value: &Value, path: &Path, errors: &mut Errors) {
    let Some(given) = value["shareID"].as_str() else { return };
    let path = path.child("shareID");
    if let Some(why) = uuid_error(given) {
        errors.invalid(&path, given, format!("error validating uid: {why}"));
    } else if given.len() != UUID_CHARS || given.chars().any(|c| c.is_ascii_uppercase()) {
        let detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase \
                      hexadecimal characters";
        errors.invalid(&path, given, detail);
    }
}

/// Why a text is no UUID in any form: plain, with dashes, in braces, or as a URN.
fn uuid_error(text: &str) -> Option<String> {
    const URN: &str = "urn:uuid:";
    let dashed = match text.len() {
        n if n == UUID_CHARS - 4 => {
            let fine = text.bytes().all(|b| b.is_ascii_hexdigit());
            return (!fine).then(|| "invalid UUID format".to_owned());
        }
        UUID_CHARS => text,
        n if n == UUID_CHARS + 2 => match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            Some(inner) => inner,
            None => return Some("invalid bracketed UUID format".to_owned()),
        },
        n if n == UUID_CHARS + URN.len() => match text.get(..URN.len()) {
            Some(start) if start.eq_ignore_ascii_case(URN) => text.get(URN.len()..).unwrap_or_default(),
            start => return Some(format!("invalid urn prefix: {}", go_quote(start.unwrap_or_default()))),
        },
        n => return Some(format!("invalid UUID length: {n}")),
    };
    let dash = |i: usize| [8, 13, 18, 23].contains(&i);
    let fine =
        dashed.bytes().enumerate().all(|(i, b)| if dash(i) { b == b'-' } else { b.is_ascii_hexdigit() });
    (!fine).then(|| "invalid UUID format".to_owned())
}

/// What drivers say about the devices of the claim.
fn devices(status: &Value, path: &Path, errors: &mut Errors) {
    let results = list(status, &["allocation", "devices", "results"]);
    let (told, path) = (list(status, &["devices"]), path.child("devices"));
    for (i, device) in told.iter().enumerate() {
        let path = path.index(i);
        let [of, pool, name, _] = device_of(device);
        driver(of, &path.child("driver"), errors);
        pool_name(pool, &path.child("pool"), errors);
        named(NameRule::Label, name, &path.child("device"), errors);
        share(device, &path, errors);
        if !results.iter().any(|result| device_of(result) == device_of(device)) {
            errors.invalid_shown(&path, &shown(device), "must be an allocated device in the claim");
        }
        let conditions = list(device, &["conditions"]);
        if conditions.len() > CONDITIONS_MAX {
            errors.too_many(&path.child("conditions"), conditions.len(), CONDITIONS_MAX);
        }
        checks::conditions(conditions, &path.child("conditions"), errors);
        if !device["data"].is_null() {
            object_of(&device["data"], &path.child("data"), errors);
        }
        network(&device["networkData"], &path.child("networkData"), errors);
    }
    for (i, device) in told.iter().enumerate() {
        if told[..i].iter().any(|other| device_of(other) == device_of(device)) {
            errors.duplicate_shown(&path.index(i), &shown(device));
        }
    }
}

/// Where in a network a device is.
fn network(data: &Value, path: &Path, errors: &mut Errors) {
    const IPS_MAX: usize = 16;
    for (field, max) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        if text(data, &[field]).len() > max {
            errors.too_long(&path.child(field), max);
        }
    }
    let (given, path) = (limited(data, "ips", IPS_MAX, path, errors), path.child("ips"));
    for (i, address) in given.iter().filter_map(Value::as_str).enumerate() {
        interface_address(address, &path.index(i), errors);
    }
    unique(given.iter().filter_map(Value::as_str), &path, errors);
}

/// An address with the length of its network's prefix, in its canonical form.
fn interface_address(given: &str, path: &Path, errors: &mut Errors) {
    let Some(network) = checks::parse_cidr(given) else {
        let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        return errors.invalid(path, given, detail);
    };
    if network.to_string() != given {
        errors.invalid(path, given, format!("must be in canonical form (\"{network}\")"));
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
                vec![
                    "status.devices[0]: Invalid value: {\"Driver\":\"d\",\"Pool\":\"p\",\"Device\":\"x\",\"ShareID\":\"\"}: \
                     must be an allocated device in the claim",
                ],
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

    #[test]
    fn shares_and_addresses_have_one_form() {
        use crate::api::invalid::said;
        const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";
        for (given, why) in [
            (UUID.to_owned(), ""),
            (UUID.to_uppercase(), "uid must be in RFC 4122 normalized form"),
            (format!("{{{UUID}}}"), "uid must be in RFC 4122 normalized form"),
            (UUID.replace('-', ""), "uid must be in RFC 4122 normalized form"),
            (format!("urn:uuid:{UUID}"), "uid must be in RFC 4122 normalized form"),
            (format!("urx:uuid:{UUID}"), "error validating uid: invalid urn prefix: \"urx:uuid:\""),
            (format!("({UUID})"), "error validating uid: invalid bracketed UUID format"),
            ("x".to_owned(), "error validating uid: invalid UUID length: 1"),
            (UUID.replace('a', "x"), "error validating uid: invalid UUID format"),
        ] {
            let told = said(|errors| share(&json!({"shareID": given}), &Path::new("p"), errors)).join("");
            assert!(told.contains(why) && told.is_empty() == why.is_empty(), "{given}: {told}");
        }
        for (given, wrong) in [("10.0.0.1/24", 0), ("10.0.0.1", 1), ("FD00::1/64", 1), ("fd00::1/64", 0)] {
            let told = said(|errors| interface_address(given, &Path::new("p"), errors));
            assert_eq!(told.len(), wrong, "{told:?}");
        }
    }
}
