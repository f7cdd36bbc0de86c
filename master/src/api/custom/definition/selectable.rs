//! Fields that selectors may use.

use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::object::{list, text};

const FIELDS_MAX: usize = 8;

/// Checks the selectable fields of a version.
pub fn validate(version: &Value, path: &Path, errors: &mut Errors) {
    let fields = list(version, &["selectableFields"]);
    if fields.len() > FIELDS_MAX {
        errors.too_many(path, fields.len(), FIELDS_MAX);
    }
    let schema = &version["schema"]["openAPIV3Schema"];
    for (i, field) in fields.iter().enumerate() {
        let at = path.index(i).child("jsonPath");
        let given = text(field, &["jsonPath"]);
        if given.is_empty() {
            errors.required(&at, "");
            continue;
        }
        match super::super::rules::field_path::resolve(given, schema) {
            Err(why) => errors.invalid(&at, given, format!("is an invalid path: {why}")),
            Ok((names, _)) if names.first().is_some_and(|n| n == "metadata") => {
                errors.invalid(&at, given, "must not point to fields in metadata");
            }
            Ok((_, found)) if !["string", "boolean", "integer"].contains(&text(found, &["type"])) => {
                let why = "must point to a field of type string, boolean or integer. Enum string fields and strings \
                           with formats are allowed.";
                errors.invalid(&at, given, why);
            }
            Ok(_) if fields[..i].iter().any(|f| f["jsonPath"] == field["jsonPath"]) => {
                errors.duplicate(&at, given);
            }
            Ok(_) => {}
        }
    }
}
