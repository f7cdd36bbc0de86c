//! Columns and the scale of a declared kind, as far as a definition may name paths.

use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::object::{list, text};

const TYPES: &str = "boolean,date,integer,number,string";
const FORMATS: &str = "byte,date,date-time,double,float,int32,int64,password";

fn one_of(list: &str, value: &str) -> bool {
    list.split(',').any(|known| known == value)
}

/// Checks the columns of a version.
pub fn validate_all(version: &Value, path: &Path, errors: &mut Errors) {
    for (i, column) in list(version, &["additionalPrinterColumns"]).iter().enumerate() {
        validate(column, &path.index(i), errors);
    }
}

fn validate(column: &Value, path: &Path, errors: &mut Errors) {
    let (name, ty, format) = (text(column, &["name"]), text(column, &["type"]), text(column, &["format"]));
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    if ty.is_empty() {
        errors.required(&path.child("type"), &format!("must be one of {TYPES}"));
    } else if !one_of(TYPES, ty) {
        errors.invalid(&path.child("type"), ty, format!("must be one of {TYPES}"));
    }
    if !format.is_empty() && !one_of(FORMATS, format) {
        errors.invalid(&path.child("format"), format, format!("must be one of {FORMATS}"));
    }
    let at = path.child("JSONPath");
    match text(column, &["jsonPath"]) {
        "" => errors.required(&at, ""),
        json_path => simple_path(json_path, &at, errors),
    }
}

/// Checks a path like `.spec.replicas`; returns nothing, as whoever asks has more to check.
fn simple_path(text: &str, path: &Path, errors: &mut Errors) {
    if text.is_empty() {
        errors.invalid(path, text, "must not be empty");
    } else if !text.starts_with('.') {
        errors.invalid(path, text, "must be a simple json path starting with .");
    }
}

/// Checks where a scale finds its numbers.
pub fn scale(scale: &Value, path: &Path, errors: &mut Errors) {
    if !scale.is_object() {
        return;
    }
    for (field, under) in [("specReplicasPath", "spec"), ("statusReplicasPath", "status")] {
        let (at, given) = (path.child(field), text(scale, &[field]));
        let before = errors.len();
        if given.is_empty() {
            errors.required(&at, "");
            continue;
        }
        simple_path(given, &at, errors);
        if errors.len() == before && !given.starts_with(&format!(".{under}.")) {
            errors.invalid(&at, given, format!("should be a json path under .{under}"));
        }
    }
    let (at, given) = (path.child("labelSelectorPath"), text(scale, &["labelSelectorPath"]));
    if !given.is_empty() {
        let before = errors.len();
        simple_path(given, &at, errors);
        if errors.len() == before && !given.starts_with(".spec.") && !given.starts_with(".status.") {
            errors.invalid(&at, given, "should be a json path under either .spec or .status");
        }
    }
}
