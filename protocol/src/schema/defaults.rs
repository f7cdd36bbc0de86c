//! Defaults that the field tables state; those that need thought live with the kinds.

use serde_json::Value;

use super::{Definition, Type};

/// Fills in absent (or, where Go could not tell, zero) fields of `value` that have a default in the table.
pub fn apply_defaults(definition: &'static Definition, value: &mut Value) {
    let Some(object) = value.as_object_mut() else { return };
    for field in &definition.fields {
        if let Some(default) = &field.default {
            let unset = match object.get(field.name) {
                None | Some(Value::Null) => true,
                Some(Value::String(s)) => s.is_empty() && !field.pointer,
                Some(Value::Number(n)) => n.as_i64() == Some(0) && !field.pointer,
                Some(_) => false,
            };
            // What Go reads as the default anyway stays out.
            let zero = !field.pointer && (default == "" || *default == 0);
            if unset && !zero {
                object.insert(field.name.to_owned(), default.clone());
            }
        }
        if let Some(inner) = object.get_mut(field.name) {
            descend(&field.ty, inner);
        }
    }
}

fn descend(ty: &'static Type, value: &mut Value) {
    match (ty, value) {
        (Type::Object(_), value) => {
            if let Some(definition) = ty.definition() {
                apply_defaults(definition, value);
            }
        }
        (Type::List(element), Value::Array(items)) => items.iter_mut().for_each(|i| descend(element, i)),
        (Type::Map(element), Value::Object(entries)) => {
            entries.values_mut().for_each(|i| descend(element, i))
        }
        _ => {}
    }
}
