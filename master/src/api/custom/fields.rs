//! The fields of a declared kind's objects in one version: pruning, defaulting and validation together.

use serde_json::Value;

use super::rules::Compiled;
use super::schema::{Schema, defaults, prune, validate};
use crate::api::invalid::{Errors, Path};

/// The fields, and the rules about them.
pub struct Fields {
    schema: Schema,
    /// Nothing is pruned.
    preserve: bool,
    rules: Compiled,
    /// The schema as it was declared, for documents.
    declared: Value,
}

impl Fields {
    /// The fields that a schema declares.
    pub fn new(declared: &Value, preserve: bool) -> Self {
        let schema = Schema::parse(declared);
        let rules = Compiled::new(&schema);
        Fields { schema, preserve, rules, declared: declared.clone() }
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The schema as it was declared.
    pub fn declared(&self) -> &Value {
        &self.declared
    }

    /// Takes out unknown fields and returns their paths.
    pub fn prune(&self, value: &mut Value) -> Vec<String> {
        let mut found = if self.preserve { Vec::new() } else { prune::prune(value, &self.schema, true) };
        found.extend(prune::embedded_metadata(value, &self.schema));
        found.sort();
        found
    }

    /// Fills in absent fields, and takes out `null` where it is no value.
    pub fn default(&self, value: &mut Value) {
        defaults::apply(value, &self.schema);
        // What every object has is not the schema's affair.
        if let Some(map) = value.as_object_mut() {
            let kept = ["apiVersion", "kind", "metadata"].map(|name| (name, map.remove(name)));
            defaults::drop_nulls(value, &self.schema);
            if let Some(map) = value.as_object_mut() {
                map.extend(kept.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
            }
        }
    }

    /// Checks an object; `old` is what stood there before an update.
    pub fn validate(&self, value: &Value, old: Option<&Value>, errors: &mut Errors) {
        let root = Path::default();
        let before = errors.len();
        validate::embedded(value, &self.schema, &root, errors);
        validate::validate(value, old, &self.schema, &root, errors);
        validate::uniqueness(value, &self.schema, &root, errors);
        // Rules may rely on the types of what they look at.
        if errors.len() == before {
            self.rules.check(value, old, &self.schema, errors);
        }
    }
}
