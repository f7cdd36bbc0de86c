//! The schemas of the field tables' types.

use protocol::schema::{self, Definition, Field, ListKind, Type};
use serde_json::{Map, Value, json};

use super::described;
use super::form::Form;
use super::operation::camel;

const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// What a field that holds any JSON is called.
fn any_name(definition: &Definition, field: &Field) -> String {
    let of_schemas = |name: &str| format!("{EXTENSIONS}.{name}");
    match (definition.name, field.name) {
        ("m.ManagedFieldsEntry", _) => FIELDS.to_owned(),
        ("x.JSONSchemaProps", "items") => of_schemas("JSONSchemaPropsOrArray"),
        ("x.JSONSchemaProps", "additionalItems" | "additionalProperties") => {
            of_schemas("JSONSchemaPropsOrBool")
        }
        ("x.JSONSchemaProps", "dependencies") => of_schemas("JSONSchemaPropsOrStringArray"),
        ("x.JSONSchemaProps", _) => of_schemas("JSON"),
        _ => RAW.to_owned(),
    }
}

/// The schemas of what is no object of a table: types that are written in a way of their own.
pub fn scalars(form: Form) -> [(String, Value); 10] {
    let text = |format: &str| json!({"type": "string", "format": format});
    let object = || json!({"type": "object"});
    let of = |full: String, short: &str, schema: Value| match described::of_named(short) {
        Some(said) => (full, form.described(schema, said)),
        None => (full, schema),
    };
    let of_schemas = |name: &str| of(format!("{EXTENSIONS}.{name}"), &format!("x.{name}"), json!({}));
    [
        of(FIELDS.to_owned(), "m.FieldsV1", object()),
        of_schemas("JSON"),
        of_schemas("JSONSchemaPropsOrArray"),
        of_schemas("JSONSchemaPropsOrBool"),
        of_schemas("JSONSchemaPropsOrStringArray"),
        of(TIME.to_owned(), "m.Time", text("date-time")),
        of(MICRO_TIME.to_owned(), "m.MicroTime", text("date-time")),
        of(QUANTITY.to_owned(), "p.api.resource.Quantity", form.either(["string", "number"], json!({}))),
        of(
            INT_OR_STRING.to_owned(),
            "p.util.intstr.IntOrString",
            form.either(["integer", "string"], json!({"format": "int-or-string"})),
        ),
        of(RAW.to_owned(), "p.runtime.RawExtension", object()),
    ]
}

/// The schema of a type.
pub fn definition(definition: &'static Definition, form: Form) -> Value {
    let properties: Map<String, Value> =
        definition.fields.iter().map(|f| (f.name.to_owned(), property(definition, f, form))).collect();
    let mut made = json!({"type": "object"});
    if let Some(said) = described::of_type(definition) {
        made["description"] = said.into();
    }
    if !properties.is_empty() {
        made["properties"] = Value::Object(properties);
    }
    let declared = schema::internal::in_order(definition).into_iter();
    let required: Vec<&str> = declared.filter(|field| field.required).map(|field| field.name).collect();
    if !required.is_empty() {
        made["required"] = json!(required);
    }
    if definition.atomic {
        made["x-kubernetes-map-type"] = "atomic".into();
    }
    if let Some((group, version, kind)) = definition.gvk {
        made["x-kubernetes-group-version-kind"] = json!([{"group": group, "version": version, "kind": kind}]);
    }
    if let Some(union) = &definition.union {
        let of = |name: &&str| ((*name).to_owned(), Value::from(camel(name, true)));
        let mut told =
            json!({"fields-to-discriminateBy": union.fields.iter().map(of).collect::<Map<_, _>>()});
        if !union.discriminator.is_empty() {
            told["discriminator"] = union.discriminator.into();
        }
        made["x-kubernetes-unions"] = json!([told]);
    }
    made
}

fn property(definition: &Definition, field: &Field, form: Form) -> Value {
    let mut made = type_of(&field.ty, &any_name(definition, field), form);
    let reference = made.get("$ref").is_some();
    if says_more(definition, field) && (form == Form::V3 || field.retain_keys || field.merge) {
        made = form.roomy(made);
    }
    if let Some(said) =
        described::of(definition, field).filter(|_| form == Form::V2 || says_more(definition, field))
    {
        made = form.described(made, said);
    }
    // Version 2 does not tell what an absent field stands for.
    if form == Form::V3 {
        let default = match &field.default {
            Some(default) if !reference => Some(default.clone()),
            Some(_) => None,
            None => zero(field),
        };
        if let Some(default) = default {
            made["default"] = default;
        }
    }
    if !field.values.is_empty() {
        let values = json!(field.values);
        match field.ty {
            Type::List(_) => made["items"]["enum"] = values,
            Type::Map(_) => made["additionalProperties"]["enum"] = values,
            _ => made["enum"] = values,
        }
    }
    if let Some(kind) = list_type(definition, field) {
        made["x-kubernetes-list-type"] = kind.into();
    }
    if field.list == ListKind::Map {
        made["x-kubernetes-list-map-keys"] = json!(field.keys);
    }
    if field.atomic || field.granular {
        made["x-kubernetes-map-type"] = if field.atomic { "atomic" } else { "granular" }.into();
    }
    let strategy: Vec<&str> =
        [(field.replace, "replace"), (field.merge, "merge"), (field.retain_keys, "retainKeys")]
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, s)| *s)
            .collect();
    if !strategy.is_empty() {
        made["x-kubernetes-patch-strategy"] = strategy.join(",").into();
    }
    if !field.merge_key.is_empty() {
        made["x-kubernetes-patch-merge-key"] = field.merge_key.into();
    }
    made
}

/// Whether version 3 says anything of a field besides what it holds.
fn says_more(definition: &Definition, field: &Field) -> bool {
    match definition.name {
        "x.JSONSchemaProps" => field.name == "default",
        "a.networking.v1.IngressRule" => field.name != "http",
        _ => true,
    }
}

/// How the entries of a list belong together, where that is told.
fn list_type(definition: &Definition, field: &Field) -> Option<&'static str> {
    match (&field.ty, field.list) {
        // The one has a type of its own, which says nothing; the other is no list to anybody but the generator.
        _ if (definition.name, field.name) == ("m.APIResource", "verbs") => None,
        _ if (definition.name, field.name) == ("g.APIServiceSpec", "caBundle") => Some("atomic"),
        (Type::List(_), ListKind::Map) => Some("map"),
        (Type::List(_), ListKind::Set) => Some("set"),
        (Type::List(_), ListKind::Atomic) if !(field.name == "items" && is_list(definition)) => {
            Some("atomic")
        }
        _ => None,
    }
}

/// Whether objects of the type are collections.
pub fn is_list(definition: &Definition) -> bool {
    let metadata = definition.field("metadata").and_then(|metadata| metadata.ty.definition());
    metadata.is_some_and(|metadata| metadata.name == "m.ListMeta")
}

/// What an absent field stands for where Go knows no absence: nothing, in the field's own type.
fn zero(field: &Field) -> Option<Value> {
    match &field.ty {
        _ if field.pointer => None,
        Type::Object(_) => Some(json!({})),
        _ if field.omitempty => None,
        Type::String => Some("".into()),
        Type::Bool => Some(false.into()),
        Type::Int32 | Type::Int64 => Some(0.into()),
        _ => None,
    }
}

/// A type; `any` is what any JSON is called here.
fn type_of(ty: &Type, any: &str, form: Form) -> Value {
    let reference = |name: &str| form.reference(name);
    match ty {
        Type::String => json!({"type": "string"}),
        Type::Bool => json!({"type": "boolean"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Number => json!({"type": "number", "format": "double"}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::Time => reference(TIME),
        Type::MicroTime => reference(MICRO_TIME),
        Type::Quantity => reference(QUANTITY),
        Type::IntOrString => reference(INT_OR_STRING),
        Type::Any | Type::Alternative(_) => reference(any),
        Type::Object(_) => reference(&ty.definition().map(Definition::full_name).unwrap_or_default()),
        Type::List(element) => json!({"type": "array", "items": type_of(element, any, form)}),
        Type::Map(element) => {
            json!({"type": "object", "additionalProperties": type_of(element, any, form)})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, form: Form) -> Value {
        definition(schema::definition(name).expect("a type"), form)
    }

    #[test]
    fn what_elements_may_be_is_told_of_them() {
        let made = told("a.core.v1.ServiceSpec", Form::V2);
        assert_eq!(made["properties"]["ipFamilies"]["items"]["enum"], json!(["", "IPv4", "IPv6"]));
        assert_eq!(made["properties"]["ipFamilies"].get("enum"), None);
        let made = told("a.core.v1.PersistentVolumeClaimStatus", Form::V3);
        let statuses = &made["properties"]["allocatedResourceStatuses"];
        assert_eq!(statuses["additionalProperties"]["enum"][4], "NodeResizePending");
        assert_eq!(statuses["x-kubernetes-map-type"], "granular");
        let usages =
            &told("a.certificates.v1.CertificateSigningRequestSpec", Form::V2)["properties"]["usages"];
        assert_eq!(usages["items"]["enum"][1], "cert sign");
    }

    #[test]
    fn of_some_fields_there_is_one_at_a_time() {
        for (name, expected) in [
            (
                "a.core.v1.SeccompProfile",
                json!([{"discriminator": "type", "fields-to-discriminateBy": {"localhostProfile": "LocalhostProfile"}}]),
            ),
            (
                "a.core.v1.PodSchedulingGroup",
                json!([{"fields-to-discriminateBy": {"podGroupName": "PodGroupName"}}]),
            ),
            ("a.core.v1.Pod", Value::Null),
        ] {
            assert_eq!(told(name, Form::V2)["x-kubernetes-unions"], expected, "{name}");
        }
    }

    #[test]
    fn only_version_3_tells_what_an_absent_field_stands_for() {
        for (name, field, expected) in [
            ("a.core.v1.LocalObjectReference", "name", json!("")),
            ("a.core.v1.ReplicationControllerSpec", "minReadySeconds", json!(0)),
            ("a.apps.v1.DeploymentSpec", "minReadySeconds", Value::Null),
            ("a.core.v1.GRPCAction", "service", json!("")),
        ] {
            assert_eq!(told(name, Form::V3)["properties"][field]["default"], expected, "{name} {field}");
            assert_eq!(told(name, Form::V2)["properties"][field].get("default"), None);
        }
    }

    #[test]
    fn a_reference_stands_alone_where_nothing_else_is_said() {
        let made = told("x.JSONSchemaProps", Form::V3);
        assert!(made["properties"]["not"]["$ref"].is_string());
        assert!(made["properties"]["default"]["allOf"].is_array());
    }

    #[test]
    fn what_must_be_given_comes_in_the_order_of_declaration() {
        assert_eq!(told("m.WatchEvent", Form::V3)["required"], json!(["type", "object"]));
        let version = &told("p.version.Info", Form::V2)["required"];
        assert_eq!((&version[0], &version[7]), (&json!("major"), &json!("compiler")));
    }
}
