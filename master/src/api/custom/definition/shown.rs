//! Parts of a definition the way upstream's messages show them: as its internal types, which have no JSON names.

use protocol::schema::internal::{Shape, go_json};
use serde_json::{Map, Value};

use crate::api::object::{list, text};

/// How a field of a schema is kept internally.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Flag,
    /// A number, a flag or a value that may be absent.
    Maybe,
    One,
    List,
    Map,
    /// One schema or several.
    Items,
    /// A flag or a schema.
    Additional,
    Rules,
    /// Where more is written about it.
    Docs,
    /// By name, what else must be there: a schema or names.
    Dependencies,
}

/// The fields of a schema: name in JSON, name in messages, form.
const FIELDS: [(&str, &str, Form); 43] = [
    ("id", "ID", Form::Text),
    ("$schema", "Schema", Form::Text),
    ("$ref", "Ref", Form::Maybe),
    ("description", "Description", Form::Text),
    ("type", "Type", Form::Text),
    ("nullable", "Nullable", Form::Flag),
    ("format", "Format", Form::Text),
    ("title", "Title", Form::Text),
    ("default", "Default", Form::Maybe),
    ("maximum", "Maximum", Form::Maybe),
    ("exclusiveMaximum", "ExclusiveMaximum", Form::Flag),
    ("minimum", "Minimum", Form::Maybe),
    ("exclusiveMinimum", "ExclusiveMinimum", Form::Flag),
    ("maxLength", "MaxLength", Form::Maybe),
    ("minLength", "MinLength", Form::Maybe),
    ("pattern", "Pattern", Form::Text),
    ("maxItems", "MaxItems", Form::Maybe),
    ("minItems", "MinItems", Form::Maybe),
    ("uniqueItems", "UniqueItems", Form::Flag),
    ("multipleOf", "MultipleOf", Form::Maybe),
    ("enum", "Enum", Form::Maybe),
    ("maxProperties", "MaxProperties", Form::Maybe),
    ("minProperties", "MinProperties", Form::Maybe),
    ("required", "Required", Form::Maybe),
    ("items", "Items", Form::Items),
    ("allOf", "AllOf", Form::List),
    ("oneOf", "OneOf", Form::List),
    ("anyOf", "AnyOf", Form::List),
    ("not", "Not", Form::One),
    ("properties", "Properties", Form::Map),
    ("additionalProperties", "AdditionalProperties", Form::Additional),
    ("patternProperties", "PatternProperties", Form::Map),
    ("dependencies", "Dependencies", Form::Dependencies),
    ("additionalItems", "AdditionalItems", Form::Additional),
    ("definitions", "Definitions", Form::Map),
    ("externalDocs", "ExternalDocs", Form::Docs),
    ("example", "Example", Form::Maybe),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields", Form::Maybe),
    ("x-kubernetes-embedded-resource", "XEmbeddedResource", Form::Flag),
    ("x-kubernetes-int-or-string", "XIntOrString", Form::Flag),
    ("x-kubernetes-list-map-keys", "XListMapKeys", Form::Maybe),
    ("x-kubernetes-list-type", "XListType", Form::Maybe),
    ("x-kubernetes-map-type", "XMapType", Form::Maybe),
];
const RULES: (&str, &str, Form) = ("x-kubernetes-validations", "XValidations", Form::Rules);

/// The fields of a rule, and whether each may be absent.
const RULE: [(&str, &str, bool); 6] = [
    ("rule", "Rule", false),
    ("message", "Message", false),
    ("messageExpression", "MessageExpression", false),
    ("reason", "Reason", true),
    ("fieldPath", "FieldPath", false),
    ("optionalOldSelf", "OptionalOldSelf", true),
];

fn leaf(value: &Value) -> Shape {
    Shape::Leaf(go_json(&value.to_string()))
}

fn fields(of: Vec<(&str, Shape)>) -> Shape {
    Shape::Fields(of.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect())
}

fn text_or_empty(value: &Value) -> Shape {
    if value.is_null() { Shape::Leaf("\"\"".to_owned()) } else { leaf(value) }
}

fn all(items: &[Value], one: fn(&Value) -> Shape) -> Shape {
    Shape::List(items.iter().map(one).collect())
}

fn by_name(map: &Map<String, Value>, one: impl Fn(&Value) -> Shape) -> Shape {
    let mut entries: Vec<_> = map.iter().map(|(name, value)| (name.clone(), one(value))).collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Shape::Fields(entries)
}

/// A schema.
pub fn schema(value: &Value) -> Shape {
    let one = |(name, go, form): (&str, &'static str, Form)| {
        let given = &value[name];
        let shape = match (form, given) {
            (Form::Text, _) => text_or_empty(given),
            (Form::Flag, _) => leaf(&Value::Bool(*given == true)),
            (_, Value::Null) => Shape::Leaf("null".to_owned()),
            (Form::One, _) => schema(given),
            (Form::List, Value::Array(items)) => all(items, schema),
            (Form::Rules, Value::Array(items)) => all(items, rule),
            (Form::Map, Value::Object(map)) => by_name(map, schema),
            (Form::Dependencies, Value::Object(map)) => by_name(map, |needed| match needed {
                Value::Object(_) => {
                    fields(vec![("Schema", schema(needed)), ("Property", leaf(&Value::Null))])
                }
                _ => fields(vec![("Schema", leaf(&Value::Null)), ("Property", leaf(needed))]),
            }),
            (Form::Docs, Value::Object(_)) => fields(vec![
                ("Description", text_or_empty(&given["description"])),
                ("URL", text_or_empty(&given["url"])),
            ]),
            (Form::Items, Value::Array(items)) => {
                fields(vec![("Schema", leaf(&Value::Null)), ("JSONSchemas", all(items, schema))])
            }
            (Form::Items, _) => fields(vec![("Schema", schema(given)), ("JSONSchemas", leaf(&Value::Null))]),
            (Form::Additional, Value::Bool(_)) => {
                fields(vec![("Allows", leaf(given)), ("Schema", leaf(&Value::Null))])
            }
            (Form::Additional, _) => {
                fields(vec![("Allows", leaf(&Value::Bool(true))), ("Schema", schema(given))])
            }
            _ => leaf(given),
        };
        (go, shape)
    };
    fields(FIELDS.into_iter().chain([RULES]).map(one).collect())
}

/// The internal names of the fields that a schema sets, in order.
pub fn set_fields(value: &Value) -> Vec<&'static str> {
    let is_set = |(name, _, form): &(&str, &str, Form)| match (form, &value[*name]) {
        (_, Value::Null) => false,
        (Form::Text, given) => given.as_str().is_some_and(|text| !text.is_empty()),
        (Form::Flag, given) => *given == true,
        _ => true,
    };
    FIELDS.iter().chain([&RULES]).filter(|field| is_set(field)).map(|(_, go, _)| *go).collect()
}

fn rule(value: &Value) -> Shape {
    let one = |(name, go, maybe): (&str, &'static str, bool)| {
        (go, if maybe { leaf(&value[name]) } else { text_or_empty(&value[name]) })
    };
    fields(RULE.into_iter().map(one).collect())
}

fn column(value: &Value) -> Shape {
    let own = |name: &str| text_or_empty(&value[name]);
    fields(vec![
        ("Name", own("name")),
        ("Type", own("type")),
        ("Format", own("format")),
        ("Description", own("description")),
        ("Priority", leaf(&value["priority"].as_i64().unwrap_or(0).into())),
        ("JSONPath", own("jsonPath")),
    ])
}

fn subresources(value: &Value) -> Shape {
    let status = if value["status"].is_object() { "{}" } else { "null" };
    let scale = &value["scale"];
    let scale = if scale.is_object() {
        fields(vec![
            ("SpecReplicasPath", text_or_empty(&scale["specReplicasPath"])),
            ("StatusReplicasPath", text_or_empty(&scale["statusReplicasPath"])),
            ("LabelSelectorPath", leaf(&scale["labelSelectorPath"])),
        ])
    } else {
        leaf(&Value::Null)
    };
    fields(vec![("Status", Shape::Leaf(status.to_owned())), ("Scale", scale)])
}

/// The versions of a definition. What all of them have alike is not kept with them.
pub fn versions(spec: &Value) -> String {
    let versions = list(spec, &["versions"]);
    let hoisted = |field: &str| versions.iter().all(|v| v[field] == versions[0][field]);
    let part = |v: &Value, field: &str, shape: fn(&Value) -> Shape| {
        if hoisted(field) || v[field].is_null() { leaf(&Value::Null) } else { shape(&v[field]) }
    };
    let validation = |v: &Value| fields(vec![("OpenAPIV3Schema", schema(&v["openAPIV3Schema"]))]);
    let columns = |v: &Value| v.as_array().map_or_else(|| leaf(v), |items| all(items, column));
    let selectable = |v: &Value| {
        let one = |field: &Value| fields(vec![("JSONPath", text_or_empty(&field["jsonPath"]))]);
        v.as_array().map_or_else(|| leaf(v), |items| all(items, one))
    };
    let one = |v: &Value| {
        fields(vec![
            ("Name", leaf(&text(v, &["name"]).into())),
            ("Served", leaf(&Value::Bool(v["served"] == true))),
            ("Storage", leaf(&Value::Bool(v["storage"] == true))),
            ("Deprecated", leaf(&Value::Bool(v["deprecated"] == true))),
            ("DeprecationWarning", leaf(&v["deprecationWarning"])),
            ("Schema", part(v, "schema", validation)),
            ("Subresources", part(v, "subresources", subresources)),
            ("AdditionalPrinterColumns", part(v, "additionalPrinterColumns", columns)),
            ("SelectableFields", part(v, "selectableFields", selectable)),
        ])
    };
    Shape::List(versions.iter().map(one).collect()).compact()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_shows_all_its_fields() {
        let value = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}},
            "x-kubernetes-validations": [{"rule": "1 < 2"}]});
        let shown = schema(&value).compact();
        assert!(shown.starts_with("{\"ID\":\"\",\"Schema\":\"\",\"Ref\":null,"), "{shown}");
        assert!(shown.contains("\"Items\":{\"Schema\":{\"ID\""), "{shown}");
        assert!(shown.contains("\"XValidations\":[{\"Rule\":\"1 \\u003c 2\",\"Message\":\"\""), "{shown}");
        assert_eq!(set_fields(&value), ["Type", "Properties", "XValidations"]);
    }
}
