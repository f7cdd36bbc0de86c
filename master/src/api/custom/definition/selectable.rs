//! Fields that selectors may use.

use std::collections::HashSet;

use serde_json::Value;

use crate::api::custom::rules::field_path;
use crate::api::custom::schema::Schema;
use crate::api::invalid::{Errors, Path};
use crate::api::object::{list, text};

const FIELDS_MAX: usize = 8;

/// Checks the selectable fields of a version.
pub fn validate(version: &Value, path: &Path, errors: &mut Errors) {
    let schema = Schema::parse(&version["schema"]["openAPIV3Schema"]);
    let mut seen = HashSet::new();
    for (i, field) in list(version, &["selectableFields"]).iter().enumerate() {
        let at = path.index(i).child("jsonPath");
        let given = text(field, &["jsonPath"]);
        if given.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let found = match field_path::resolve(given, &schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.invalid(&at, given, format!("is an invalid path: {why}"));
                continue;
            }
        };
        if found.first == "metadata" {
            errors.invalid(&at, given, "must not point to fields in metadata");
        }
        if !["string", "boolean", "integer"].contains(&found.schema.ty.as_str()) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                       formats are allowed.";
            errors.invalid(&at, given, why);
        }
        if !seen.insert(found.path.to_string()) {
            errors.duplicate(&at, given);
        }
    }
    if seen.len() > FIELDS_MAX {
        errors.too_many(path, seen.len(), FIELDS_MAX);
    }
}
