//! A patched object as text, for those whom its refusal shows it.

use protocol::PatchKind;
use protocol::schema::{self, Definition, Type};
use serde_json::{Value, json};

/// A patched object as upstream writes it before it reads it: what the patch went through has its names sorted, what it
/// left alone is as Go writes the struct.
pub fn as_patched(definition: &'static Definition, kind: PatchKind, object: &Value, text: &[u8]) -> String {
    // Objects of declared kinds are no structs.
    if std::ptr::eq(definition, schema::custom()) {
        return object.to_string();
    }
    let patch = serde_json::from_slice(text).unwrap_or_default();
    let touched = if kind == PatchKind::Json { touched(&patch) } else { patch };
    let mut out = String::new();
    write(&mut out, object, Some(definition), None, Some(&touched));
    out
}

/// Where the operations of a JSON patch went, as the merge patch that goes there.
fn touched(patch: &Value) -> Value {
    let mut all = json!({});
    for operation in patch.as_array().into_iter().flatten() {
        for end in ["path", "from"] {
            let Some(path) = operation[end].as_str() else { continue };
            let names: Vec<String> =
                path.split('/').skip(1).map(|n| n.replace("~1", "/").replace("~0", "~")).collect();
            let mut at = &mut all;
            for (i, name) in names.iter().enumerate() {
                if !at.is_object() {
                    *at = json!({});
                }
                let value = operation.get("value").filter(|_| i + 1 == names.len() && end == "path");
                let Some(map) = at.as_object_mut() else { break };
                let below = map.entry(name.as_str()).or_insert_with(|| json!({}));
                if let Some(value) = value {
                    *below = value.clone();
                }
                at = below;
            }
        }
    }
    all
}

fn write(
    out: &mut String,
    value: &Value,
    definition: Option<&'static Definition>,
    element: Option<&'static Type>,
    touched: Option<&Value>,
) {
    let below = |name: &str| touched.and_then(|t| t.get(name));
    match value {
        Value::Object(map) => {
            let declared = definition.filter(|_| touched.is_none()).map(schema::internal::in_order);
            let first: Vec<&str> = declared.iter().flatten().map(|field| field.name).collect();
            let first = first.into_iter().filter_map(|name| map.get_key_value(name));
            let rest = map.iter().filter(|(name, _)| {
                declared.as_ref().is_none_or(|all| all.iter().all(|field| field.name != name.as_str()))
            });
            out.push('{');
            for (i, (name, value)) in first.chain(rest).enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                let ty = definition.and_then(|d| d.field(name)).map(|field| &field.ty).or(element);
                write(
                    out,
                    value,
                    ty.and_then(Type::definition),
                    ty.and_then(Type::element),
                    below(name.as_str()),
                );
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                let touched = touched.and_then(|t| t.get(i)).or_else(|| below(&i.to_string()));
                let inner = element.and_then(Type::element);
                write(out, item, element.and_then(Type::definition), inner, touched);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_patch_went_through_is_sorted_and_the_rest_is_in_the_order_of_its_struct() {
        let kind = schema::kind("apps", "v1", "Deployment").expect("deployments");
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"creationTimestamp": "t", "name": "a", "namespace": "b", "uid": "c"},
            "spec": {"replicas": "x", "paused": true, "template": {"spec": {"containers": [{"image": "i", "name": "n"}]}}},
        });
        let merged = as_patched(kind, PatchKind::Merge, &object, br#"{"spec":{"replicas":"x"}}"#);
        let left = r#""metadata":{"name":"a","namespace":"b","uid":"c","creationTimestamp":"t"}"#;
        let pod = r#""template":{"spec":{"containers":[{"name":"n","image":"i"}]}}"#;
        let head = r#"{"apiVersion":"apps/v1","kind":"Deployment","#;
        assert_eq!(merged, format!(r#"{head}{left},"spec":{{"paused":true,"replicas":"x",{pod}}}}}"#));
        let path = br#"[{"op":"add","path":"/spec/template/spec/containers/0/image","value":"i"},
            {"op":"test","path":"/metadata/name","value":"a"}]"#;
        let meta = r#""metadata":{"creationTimestamp":"t","name":"a","namespace":"b","uid":"c"}"#;
        let pod = r#""template":{"spec":{"containers":[{"image":"i","name":"n"}]}}"#;
        let patched = as_patched(kind, PatchKind::Json, &object, path);
        assert_eq!(patched, format!(r#"{head}{meta},"spec":{{"paused":true,"replicas":"x",{pod}}}}}"#));
    }
}
