//! Storage classes, CSI drivers and what they know about nodes, capacity and attachments.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use super::checks::{self, named, qualified};
use super::volumes::protect;
use super::{Strategy, base, volume_notes};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::NameRule;
use crate::api::object::{default, list, object_mut, text};

const PARAMETERS_MAX: usize = 512;
const PARAMETER_BYTES_MAX: usize = 256 * 1024;

mod attachments;
mod drivers;

pub(super) use attachments::attachment;
pub(super) use drivers::{csi_driver, csi_node, driver_name, token_lifetime};

fn spec(name: &str) -> Path {
    Path::new("spec").child(name)
}

/// What a driver or provisioner is called: case does not matter.
fn provisioner(value: &str, path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    qualified(&value.to_lowercase(), path, errors);
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
            if policy != "" {
                checks::choice(policy, &["Delete", "Retain"], &Path::new("reclaimPolicy"), errors);
            }
            let (mode, at) = (&object["volumeBindingMode"], Path::new("volumeBindingMode"));
            if mode.is_null() {
                errors.required(&at, "");
            }
            checks::choice(mode, &["Immediate", "WaitForFirstConsumer"], &at, errors);
            topologies(list(object, &["allowedTopologies"]), &Path::new("allowedTopologies"), errors);
        },
        validate_update: |new, old, errors| {
            for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                // Of these only the provisioner is a plain text, which is never absent.
                let [is, was] = [new, old].map(|class| match field {
                    "provisioner" => text(class, &[field]).into(),
                    _ => class[field].clone(),
                });
                checks::immutable(&is, &was, &Path::new(field), errors);
            }
        },
        warnings: volume_notes::class,
        ..base()
    }
}

fn topologies(terms: &[Value], path: &Path, errors: &mut Errors) {
    for (i, term) in terms.iter().enumerate() {
        let path = path.index(i);
        let mut keys = HashSet::new();
        let expressions = list(term, &["matchLabelExpressions"]);
        for (j, expression) in expressions.iter().enumerate() {
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
        // Upstream begins its list of known terms with as many empty ones as there are terms.
        let empty = if expressions.is_empty() { terms.len() } else { 0 };
        let same = terms[..i].iter().filter(|other| chosen(other) == chosen(term)).count();
        (0..empty + same).for_each(|_| errors.duplicate(&path.child("matchLabelExpressions"), ""));
    }
}

/// What a term chooses, in whatever order it says so.
fn chosen(term: &Value) -> BTreeMap<&str, BTreeSet<&str>> {
    let values = |e| list(e, &["values"]).iter().filter_map(Value::as_str).collect();
    list(term, &["matchLabelExpressions"]).iter().map(|e| (text(e, &["key"]), values(e))).collect()
}

pub(super) fn attributes_class() -> Strategy {
    Strategy {
        prepare_create: |object| protect(object, "kubernetes.io/vac-protection"),
        validate: valid_attributes,
        validate_update: |new, old, errors| {
            frozen(new, old, "driverName", errors);
            frozen(new, old, "parameters", errors);
        },
        change_first: true,
        ..base()
    }
}

fn valid_attributes(object: &Value, errors: &mut Errors) {
    provisioner(text(object, &["driverName"]), &Path::new("driverName"), errors);
    parameters(&object["parameters"], true, errors);
}

/// The name of a CSI driver.
pub(super) fn storage_capacity() -> Strategy {
    Strategy {
        validate: |object, errors| {
            checks::label_selector(&object["nodeTopology"], &Path::new("nodeTopology"), errors);
            let class = text(object, &["storageClassName"]);
            named(NameRule::Subdomain, class, &Path::new("storageClassName"), errors);
            checks::quantity(&object["capacity"], &Path::new("capacity"), errors);
        },
        warnings: volume_notes::capacity,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::invalid::said;
    use crate::api::registry::part::Part;

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

    #[test]
    fn topologies_are_not_repeated() {
        let zone = |values: &[&str]| json!({"matchLabelExpressions": [{"key": "zone", "values": values}]});
        for (terms, repeated) in [
            (json!([zone(&["a"]), zone(&["b"])]), 0),
            (json!([zone(&["a", "b"]), zone(&["b", "a"])]), 1),
            (json!([{}]), 1),
            (json!([{}, {}]), 5),
        ] {
            let given = terms.as_array().map(Vec::as_slice).unwrap_or_default();
            let told = said(|errors| topologies(given, &Path::new("t"), errors));
            assert_eq!(told.len(), repeated, "{terms}");
        }
    }

    #[test]
    fn a_class_stays_what_it_is() {
        let given = |policy: &str, mode: &str| json!({"provisioner": "a.io/B", "reclaimPolicy": policy, "volumeBindingMode": mode});
        let change = |new: &Value| {
            said(|errors| {
                class().check_object(Part::Main, new, errors);
                class().check_change(Part::Main, new, &given("Delete", "Immediate"), errors);
            })
        };
        assert!(change(&given("Delete", "Immediate")).is_empty());
        assert_eq!(
            change(&given("", "")),
            [
                "volumeBindingMode: Unsupported value: \"\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
                "reclaimPolicy: Invalid value: \"\": field is immutable",
                "volumeBindingMode: Invalid value: \"\": field is immutable",
            ]
        );
    }
}
