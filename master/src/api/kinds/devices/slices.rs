//! ResourceSlice: the devices of a pool, or some of them.

use serde_json::{Map, Value};

use super::{binding_conditions, driver, limited, policies, qualified_attribute, unique};
use crate::api::invalid::{Errors, Path, go_quote};
use crate::api::kinds::checks::{self, named, qualified};
use crate::api::kinds::{Strategy, base};
use crate::api::meta::NameRule;
use crate::api::object::{default, list, list_mut, now, object_mut, text};

const DEVICES_MAX: usize = 128;
/// How many devices a slice may have where some are tainted or share counters.
const COMPLEX_DEVICES_MAX: usize = 64;
const ATTRIBUTES_MAX: usize = 32;
const VALUE_CHARS_MAX: usize = 64;
const POOL_CHARS_MAX: usize = 253;
const TAINTS_MAX: usize = 16;
const COUNTER_SETS_MAX: usize = 8;
const COUNTERS_MAX: usize = 32;
const CONSUMED_MAX: usize = 2;
const PER_DEVICE: &str = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set \
                          to true in the ResourceSlice spec";
const ONE_PLACE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                         `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

pub(in crate::api::kinds) fn slice() -> Strategy {
    Strategy {
        defaults: |object| {
            for device in list_mut(object, &["spec", "devices"]) {
                for taint in list_mut(device, &["taints"]) {
                    default(object_mut(taint, &[]), "timeAdded", now());
                }
            }
        },
        prepare_create: |object| without_disabled(object, &Value::Null),
        prepare_update: |new, old| {
            // To write what is not switched on is a change too.
            if new["spec"] != old["spec"] {
                let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                new["metadata"]["generation"] = generation.into();
            }
            without_disabled(new, old);
        },
        validate_create: |object, errors| slice_spec(&object["spec"], None, &Path::new("spec"), errors),
        validate_update: |new, old, errors| {
            slice_spec(&new["spec"], Some(&old["spec"]), &Path::new("spec"), errors);
        },
        warnings: |object, _, said| {
            let driver = text(object, &["spec", "driver"]);
            if driver != driver.to_lowercase() {
                said.push(format!(
                    "spec.driver: driver names should be lowercase; {} contains uppercase characters",
                    go_quote(driver)
                ));
            }
        },
        ..base()
    }
}

/// Checks a slice, and what may not change of the old one.
fn slice_spec(slice: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    driver(text(slice, &["driver"]), &path.child("driver"), errors);
    pool(&slice["pool"], &path.child("pool"), errors);
    if let Some(old) = old {
        let pool = path.child("pool").child("name");
        checks::immutable(&slice["pool"]["name"], &old["pool"]["name"], &pool, errors);
        for field in ["driver", "nodeName"] {
            checks::immutable(&slice[field], &old[field], &path.child(field), errors);
        }
    }
    placement(slice, path, errors);
    let given = |name: &str| !slice[name].is_null() || errors.is_given_empty(&path.child(name));
    if given("sharedCounters") && given("devices") {
        errors.invalid(path, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let complex = |device: &Value| {
        ["taints", "consumesCounters"].iter().any(|field| !list(device, &[field]).is_empty())
    };
    let max = match list(slice, &["devices"]).iter().any(complex) {
        true => COMPLEX_DEVICES_MAX,
        false => DEVICES_MAX,
    };
    let per_device = slice["perDeviceNodeSelection"] == Value::Bool(true);
    let (devices, at) = (limited(slice, "devices", max, path, errors), path.child("devices"));
    for (i, device) in devices.iter().enumerate() {
        self::device(device, per_device, &at.index(i), errors);
    }
    unique(devices.iter().map(|d| text(d, &["name"])), &at, errors);
    let (sets, at) =
        (limited(slice, "sharedCounters", COUNTER_SETS_MAX, path, errors), path.child("sharedCounters"));
    for (i, set) in sets.iter().enumerate() {
        checks::required_name(NameRule::Label, set, "name", &at.index(i), errors);
        counters(set, &at.index(i), errors);
    }
    unique(sets.iter().map(|s| text(s, &["name"])), &at, errors);
}

/// The ways to say where something is that are given, and what is wrong with them.
fn places(value: &Value, ways: &[&str], path: &Path, errors: &mut Errors) -> Vec<String> {
    let mut given = Vec::new();
    for way in ways {
        let at = path.child(way);
        match &value[*way] {
            Value::Null => continue,
            Value::Bool(false) => {
                errors.invalid(&at, false, "must be either unset or set to true");
                continue;
            }
            Value::String(name) if name.is_empty() => {
                errors.invalid(&at, "", "must be either unset or set to a non-empty string");
                continue;
            }
            Value::String(name) => named(NameRule::Subdomain, name, &at, errors),
            Value::Object(_) => checks::node_selector(&value[*way], &at, errors),
            _ => {}
        }
        given.push(format!("`{way}`"));
    }
    given
}

fn placement(slice: &Value, path: &Path, errors: &mut Errors) {
    const WAYS: [&str; 4] = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"];
    let mut given = places(slice, &WAYS[..2], path, errors);
    let terms = list(&slice["nodeSelector"], &["nodeSelectorTerms"]);
    if slice["nodeSelector"].is_object() && terms.len() != 1 {
        let at = path.child("nodeSelector").child("nodeSelectorTerms");
        let term = |t| checks::internal("a.core.v1.NodeSelectorTerm", t);
        let shown = match terms {
            [] => errors.as_sent(&at, &Value::Null).to_string(),
            many => format!("[{}]", many.iter().map(term).collect::<Vec<_>>().join(",")),
        };
        errors.invalid_shown(&at, &shown, "must have exactly one node selector term");
    }
    given.extend(places(slice, &WAYS[2..], path, errors));
    let all = WAYS.map(|way| format!("`{way}`")).join(", ");
    match given.len() {
        0 => errors.required(path, &format!("exactly one of {all} is required")),
        1 => {}
        _ => {
            let detail = format!("exactly one of {all} is required, but multiple fields are set");
            errors.invalid(path, format!("{{{}}}", given.join(", ")), detail);
        }
    }
}

/// The name of a pool: parts like domains, with slashes between.
pub(super) fn pool_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > POOL_CHARS_MAX {
        errors.too_long(path, POOL_CHARS_MAX);
    }
    name.split('/').for_each(|part| named(NameRule::Subdomain, part, path, errors));
}

fn pool(pool: &Value, path: &Path, errors: &mut Errors) {
    pool_name(text(pool, &["name"]), &path.child("name"), errors);
    let count = pool["resourceSliceCount"].as_i64().unwrap_or(0);
    if count <= 0 {
        errors.invalid(&path.child("resourceSliceCount"), count, checks::POSITIVE);
    }
    let generation = pool["generation"].as_i64().unwrap_or(0);
    if generation < 0 {
        errors.invalid(&path.child("generation"), generation, "must be greater than or equal to zero");
    }
}

fn device(device: &Value, per_device: bool, path: &Path, errors: &mut Errors) {
    named(NameRule::Label, text(device, &["name"]), &path.child("name"), errors);
    let count = |field: &str| device[field].as_object().map_or(0, Map::len);
    let total = count("attributes") + count("capacity");
    if total > ATTRIBUTES_MAX {
        let detail =
            format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}");
        errors.invalid(path, total, detail);
    }
    for (name, value) in device["attributes"].as_object().into_iter().flatten() {
        let path = path.child("attributes");
        qualified_attribute(name, false, &path, errors);
        attribute(value, &path.key(name), errors);
    }
    let shared = device["allowMultipleAllocations"] == Value::Bool(true);
    for (name, value) in device["capacity"].as_object().into_iter().flatten() {
        let path = path.child("capacity");
        qualified_attribute(name, false, &path, errors);
        let (policy, at) = (&value["requestPolicy"], path.key(name).child("requestPolicy"));
        if shared {
            policies::request_policy(&value["value"], policy, &at, errors);
        } else if !policy.is_null() {
            errors.forbidden(&at, "allowMultipleAllocations must be true");
        }
    }
    for (i, taint) in limited(device, "taints", TAINTS_MAX, path, errors).iter().enumerate() {
        self::taint(taint, &path.child("taints").index(i), errors);
    }
    let consumed = limited(device, "consumesCounters", CONSUMED_MAX, path, errors);
    let at = path.child("consumesCounters");
    for (i, set) in consumed.iter().enumerate() {
        checks::required_name(NameRule::Label, set, "counterSet", &at.index(i), errors);
        counters(set, &at.index(i), errors);
    }
    unique(consumed.iter().map(|c| text(c, &["counterSet"])), &at, errors);
    let ways = ["nodeName", "nodeSelector", "allNodes"];
    if !per_device {
        if ways.iter().any(|way| !device[*way].is_null()) {
            errors.invalid(path, Value::Null, PER_DEVICE);
        }
    } else {
        let given = places(device, &ways, path, errors);
        match given.len() {
            0 => errors.required(path, ONE_PLACE),
            1 => {}
            _ => errors.invalid(path, format!("{{{}}}", given.join(", ")), ONE_PLACE),
        }
    }
    binding_conditions(device, path, errors);
}

/// Drops what is not switched on, but where the stored object has it already: what of the node's own resources devices
/// stand for, and attributes of several values.
fn without_disabled(object: &mut Value, old: &Value) {
    const FIELD: &str = "nodeAllocatableResourceMappings";
    const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];
    let devices = list(old, &["spec", "devices"]);
    let maps = devices.iter().any(|device| !device[FIELD].is_null());
    let mut attributes = devices.iter().filter_map(|device| device["attributes"].as_object()).flatten();
    let lists = attributes.any(|(_, value)| LISTS.iter().any(|name| !value[*name].is_null()));
    for device in list_mut(object, &["spec", "devices"]) {
        if !maps {
            object_mut(device, &[]).remove(FIELD);
        }
        let attributes = device.get_mut("attributes").filter(|_| !lists).and_then(Value::as_object_mut);
        for fields in attributes.into_iter().flatten().filter_map(|(_, value)| value.as_object_mut()) {
            LISTS.iter().for_each(|name| drop(fields.remove(*name)));
        }
    }
}

fn counters(set: &Value, path: &Path, errors: &mut Errors) {
    let (counters, path) = (set["counters"].as_object(), path.child("counters"));
    match counters.map_or(0, Map::len) {
        0 => errors.required(&path, ""),
        many if many > COUNTERS_MAX => errors.too_many(&path, many, COUNTERS_MAX),
        _ => {
            for (name, _) in counters.into_iter().flatten() {
                named(NameRule::Label, name, &path, errors);
            }
        }
    }
}

fn taint(taint: &Value, path: &Path, errors: &mut Errors) {
    qualified(text(taint, &["key"]), &path.child("key"), errors);
    for error in protocol::selector::label_value_error(text(taint, &["value"])) {
        errors.invalid(&path.child("value"), taint["value"].clone(), error);
    }
    checks::required_choice(
        &taint["effect"],
        &["NoExecute", "NoSchedule", "None"],
        &path.child("effect"),
        errors,
    );
}

fn attribute(value: &Value, path: &Path, errors: &mut Errors) {
    for kind in ["string", "version"] {
        let (given, path) = (value[kind].as_str().unwrap_or_default(), path.child(kind));
        if kind == "version" && value[kind].is_string() && !is_version(given) {
            errors.invalid(&path, given, "must be a string compatible with semver.org spec 2.0.0");
        }
        if given.len() > VALUE_CHARS_MAX {
            errors.too_long(&path, VALUE_CHARS_MAX);
        }
    }
    let given = ["int", "bool", "string", "version"].iter().filter(|k| !value[**k].is_null()).count();
    if given == 0 {
        errors.invalid(path, "", "exactly one value must be specified");
    } else if given > 1 {
        let shown = checks::internal("a.resource.v1.DeviceAttribute", value);
        errors.invalid_shown(path, &shown, "exactly one value must be specified");
    }
}

/// Whether a text is a semantic version.
fn is_version(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, release) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let identifier = |part: &str| plain(part) && (!digits(part) || number(part));
    core.split('.').count() == 3
        && core.split('.').all(number)
        && release.is_none_or(|r| r.split('.').all(identifier))
        && build.is_none_or(|b| b.split('.').all(plain))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(spec: Value) -> Vec<String> {
        let mut errors = Errors::default();
        slice_spec(&spec, None, &Path::new("spec"), &mut errors);
        errors.messages()
    }

    fn with(field: &str, value: Value) -> Value {
        let mut spec =
            json!({"driver": "d", "pool": {"name": "p", "resourceSliceCount": 1}, "nodeName": "n"});
        spec[field] = value;
        spec
    }

    #[test]
    fn to_write_what_is_not_switched_on_is_a_change() {
        let with = |attribute: Value| json!({"spec": {"devices": [{"attributes": {"a": attribute}}]}});
        let (old, told) = (with(json!({"int": 1})), with(json!({"int": 1, "strings": ["a"]})));
        let mut new = told.clone();
        (slice().prepare_update)(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 1);
        assert_eq!(new["spec"], old["spec"]);
        let mut same = told.clone();
        (slice().prepare_update)(&mut same, &told);
        assert_eq!(same, told);
    }

    #[test]
    fn versions_are_semantic() {
        for (text, is) in [
            ("1.2.3", true),
            ("1.2.3-a.1+b.01", true),
            ("1.2", false),
            ("01.2.3", false),
            ("1.2.3-", false),
            ("1.2.3-01", false),
            ("1.2.3-0a", true),
        ] {
            assert_eq!(is_version(text), is, "{text}");
        }
    }

    #[test]
    fn a_slice_is_somewhere() {
        assert!(said(with("driver", json!("d"))).is_empty());
        assert_eq!(
            said(with("allNodes", json!(false))),
            ["spec.allNodes: Invalid value: false: must be either unset or set to true"]
        );
        let told = said(with("nodeName", json!("")));
        assert_eq!(
            told[0],
            "spec.nodeName: Invalid value: \"\": must be either unset or set to a non-empty string"
        );
        assert_eq!(
            said(with("devices", json!([{"name": "a", "nodeName": "n"}]))),
            [format!("spec.devices[0]: Invalid value: null: {PER_DEVICE}")]
        );
    }

    #[test]
    fn devices_have_one_value_for_an_attribute() {
        let devices =
            |attribute: Value| with("devices", json!([{"name": "a", "attributes": {"x": attribute}}]));
        assert_eq!(
            said(devices(json!({}))),
            ["spec.devices[0].attributes[x]: Invalid value: \"\": exactly one value must be specified"]
        );
        assert_eq!(
            said(devices(json!({"version": "1"}))),
            [
                "spec.devices[0].attributes[x].version: Invalid value: \"1\": must be a string compatible with semver.org spec 2.0.0"
            ]
        );
        let two = with("devices", json!([{"name": "a"}, {"name": "a"}]));
        assert_eq!(said(two), ["spec.devices[1]: Duplicate value: \"a\""]);
    }
}
