//! The fields of a declared kind's objects in one version: pruning, defaulting and validation together.

use serde_json::Value;

use super::rules::Compiled;
use super::schema::{Schema, defaults, embedded, prune, validate};
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
        let rules = Compiled::of(&schema, true);
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

    /// Reads the heads of the objects within an object.
    pub fn read_embedded(&self, value: &mut Value) -> Result<(), String> {
        embedded::read(value, &self.schema, &Path::default())
    }

    /// Fills in absent fields.
    pub fn fill(&self, value: &mut Value) {
        defaults::apply(value, &self.schema);
    }

    /// Fills in absent fields, and takes out `null` where it is no value.
    pub fn default(&self, value: &mut Value) {
        self.fill(value);
        // What every object has is not the schema's affair.
        if let Some(map) = value.as_object_mut() {
            let kept = ["apiVersion", "kind", "metadata"].map(|name| (name, map.remove(name)));
            defaults::drop_nulls(value, &self.schema);
            if let Some(map) = value.as_object_mut() {
                map.extend(kept.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
            }
        }
    }

    /// Checks an object; `old` is what stood there before an update. What is wrong with parts that the update
    /// leaves alone is returned, to be warned of. `scaled` is what is wrong with its scale.
    pub fn validate(
        &self,
        value: &Value,
        old: Option<&Value>,
        scaled: Errors,
        errors: &mut Errors,
    ) -> Vec<String> {
        let root = Path::default();
        validate::validate(value, old, &self.schema, &root, errors);
        errors.append(scaled);
        embedded::validate(value, &self.schema, &root, errors);
        self.rest(value, old, errors)
    }

    /// Checks an object of which only the status is written.
    pub fn validate_status(
        &self,
        value: &Value,
        old: Option<&Value>,
        scaled: Errors,
        errors: &mut Errors,
    ) -> Vec<String> {
        if let (Some(status), Some(schema)) = (value.get("status"), self.schema.properties.get("status")) {
            let old = old.and_then(|old| old.get("status"));
            // It is looked at by itself, and so are its fields named.
            let mut inside = Errors::default();
            validate::validate(status, old, schema, &Path::default(), &mut inside);
            errors.append(inside.within(&Path::new("status")));
        }
        errors.append(scaled);
        self.rest(value, old, errors)
    }

    fn rest(&self, value: &Value, old: Option<&Value>, errors: &mut Errors) -> Vec<String> {
        let root = Path::default();
        let twice = |value: &Value| {
            let mut found = Errors::default();
            validate::uniqueness(value, &self.schema, &root, &mut found);
            found
        };
        // What was there twice before is not held against an update.
        if old.is_none_or(|old| twice(old).is_empty()) {
            errors.append(twice(value));
        }
        if self.rules.is_empty() {
            return Vec::new();
        }
        if errors.is_blocking() {
            let why = "some validation rules were not checked because the object was invalid; correct the existing \
                       errors to complete validation";
            errors.invalid(&root, Value::Null, why);
            return Vec::new();
        }
        self.rules.check(value, old, &self.schema, &root, errors)
    }
}
