//! The schemas of declared kinds: what fields objects have, and what is done with objects by them.
//!
//! - [`prune`]: unknown fields go. - [`defaults`]: absent fields come. - [`validate`]: what is left must fit.
//! - [`formats`], [`pattern`]: forms of texts. - [`structural`]: which schemas are accepted at all.
//!
//! Every recursion here is bounded: a schema is parsed from JSON, whose parser bounds its depth, and objects are
//! walked no deeper than that.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use self::pattern::compile;
use crate::api::object::{list, text};

pub mod defaults;
pub mod embedded;
pub mod formats;
pub mod openapi;
pub mod pattern;
pub mod prune;
pub mod structural;
pub mod validate;

/// What may stand beside the listed properties.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// Nothing is said.
    #[default]
    Unsaid,
    /// Anything, or nothing.
    Any(bool),
    /// Values of this schema.
    Schema(Box<Schema>),
}

/// One rule in the Common Expression Language.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// The expression.
    pub rule: String,
    /// What to say when it is false.
    pub message: String,
    /// An expression that makes what to say.
    pub message_expression: String,
    /// The kind of error; empty for an invalid value.
    pub reason: Option<String>,
    /// The field that the error is about, relative to where the rule stands.
    pub field_path: String,
    /// The former value is optional, so that the rule also holds for what is new.
    pub optional_old_self: Option<bool>,
}

/// A schema, as far as it has a meaning for the server.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// Type; empty where none is given.
    pub ty: String,
    /// Format.
    pub format: String,
    /// `null` is a value.
    pub nullable: bool,
    /// Value of an absent field.
    pub default: Option<Value>,
    /// Allowed values.
    pub values: Vec<Value>,
    /// Bounds of numbers; the flag excludes the bound itself.
    pub minimum: Option<(f64, bool)>,
    /// Upper bound.
    pub maximum: Option<(f64, bool)>,
    /// Numbers are multiples of this.
    pub multiple_of: Option<f64>,
    /// Least and most characters of texts.
    pub length: (Option<i64>, Option<i64>),
    /// Least and most entries of lists.
    pub items_count: (Option<i64>, Option<i64>),
    /// Least and most properties of objects.
    pub properties_count: (Option<i64>, Option<i64>),
    /// Pattern of texts.
    pub pattern: Option<(String, Option<Regex>)>,
    /// Entries of lists are different from each other.
    pub unique_items: bool,
    /// Properties that must be there.
    pub required: Vec<String>,
    /// Properties.
    pub properties: BTreeMap<String, Schema>,
    /// Other properties.
    pub additional: Additional,
    /// Entries of a list.
    pub items: Option<Box<Schema>>,
    /// All of these hold.
    pub all_of: Vec<Schema>,
    /// One or more of these hold.
    pub any_of: Vec<Schema>,
    /// Exactly one of these holds.
    pub one_of: Vec<Schema>,
    /// This does not hold.
    pub not: Option<Box<Schema>>,
    /// Unknown fields stay.
    pub preserve: bool,
    /// The object has apiVersion, kind and metadata of its own.
    pub embedded: bool,
    /// An integer or a text.
    pub int_or_string: bool,
    /// `atomic`, `set` or `map`.
    pub list_type: String,
    /// Keys of a `map` list.
    pub list_keys: Vec<String>,
    /// `atomic` or `granular`.
    pub map_type: String,
    /// Rules.
    pub rules: Vec<Rule>,
}

impl Schema {
    /// Reads a `JSONSchemaProps`, which has passed the typed decoder.
    pub fn parse(value: &Value) -> Schema {
        let flag = |name: &str| value[name] == true;
        let number = |name: &str| value[name].as_f64();
        let count = |name: &str| value[name].as_i64();
        let all = |name: &str| list(value, &[name]).iter().map(Schema::parse).collect::<Vec<_>>();
        let one = |value: &Value| value.is_object().then(|| Box::new(Schema::parse(value)));
        let texts = |name: &str| -> Vec<String> {
            list(value, &[name]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let pattern = text(value, &["pattern"]);
        let pattern = (!pattern.is_empty()).then(|| (pattern.to_owned(), compile(pattern).ok()));
        Schema {
            ty: text(value, &["type"]).to_owned(),
            format: text(value, &["format"]).to_owned(),
            nullable: flag("nullable"),
            default: value.get("default").filter(|d| !d.is_null()).cloned(),
            values: list(value, &["enum"]).to_vec(),
            minimum: number("minimum").map(|n| (n, flag("exclusiveMinimum"))),
            maximum: number("maximum").map(|n| (n, flag("exclusiveMaximum"))),
            multiple_of: number("multipleOf"),
            length: (count("minLength"), count("maxLength")),
            items_count: (count("minItems"), count("maxItems")),
            properties_count: (count("minProperties"), count("maxProperties")),
            pattern,
            unique_items: flag("uniqueItems"),
            required: texts("required"),
            properties: value["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), Schema::parse(schema)))
                .collect(),
            additional: match &value["additionalProperties"] {
                Value::Bool(any) => Additional::Any(*any),
                schema @ Value::Object(_) => Additional::Schema(Box::new(Schema::parse(schema))),
                _ => Additional::Unsaid,
            },
            items: one(&value["items"]),
            all_of: all("allOf"),
            any_of: all("anyOf"),
            one_of: all("oneOf"),
            not: one(&value["not"]),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list_type: text(value, &["x-kubernetes-list-type"]).to_owned(),
            list_keys: texts("x-kubernetes-list-map-keys"),
            map_type: text(value, &["x-kubernetes-map-type"]).to_owned(),
            rules: list(value, &["x-kubernetes-validations"]).iter().map(Rule::parse).collect(),
        }
    }

    /// The schema of a property, whether it is listed or not.
    pub fn property(&self, name: &str) -> Option<&Schema> {
        match (self.properties.get(name), &self.additional) {
            (Some(listed), _) => Some(listed),
            (None, Additional::Schema(schema)) => Some(schema),
            _ => None,
        }
    }
}

impl Rule {
    fn parse(value: &Value) -> Rule {
        let own = |name: &str| text(value, &[name]).to_owned();
        Rule {
            rule: own("rule"),
            message: own("message"),
            message_expression: own("messageExpression"),
            reason: value["reason"].as_str().map(str::to_owned),
            field_path: own("fieldPath"),
            optional_old_self: value["optionalOldSelf"].as_bool(),
        }
    }
}

#[cfg(test)]
mod tests;
