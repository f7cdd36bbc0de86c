//! Rules about declared kinds in the Common Expression Language: their acceptance and their evaluation.

use serde_json::Value;

use super::schema::{Schema, structural};
use crate::api::invalid::{Errors, Path};

pub mod field_path;

/// The compiled rules of a schema.
pub struct Compiled {}

impl Compiled {
    /// Compiles the rules of a schema that was accepted.
    pub fn new(_: &Schema) -> Self {
        Compiled {}
    }

    /// Checks an object by its rules.
    pub fn check(&self, _: &Value, _: Option<&Value>, _: &Schema, _: &mut Errors) {}
}

/// Checks a schema and its rules.
pub fn validate_schema(schema: &Value, status: bool, path: &Path, errors: &mut Errors) {
    structural::validate_root(schema, status, path, errors);
}
