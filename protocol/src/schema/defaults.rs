//! Defaults that the field tables state; those that need thought live with the kinds.

use serde_json::Value;

use super::{Definition, Type};
use crate::quantity::Quantity;

/// The types whose amounts of resources are rounded.
const CORE: &str = "a.core.v1.";

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
            if unset {
                object.insert(field.name.to_owned(), default.clone());
            }
        }
        if let Some(inner) = object.get_mut(field.name) {
            if matches!(field.ty, Type::Map(Type::Quantity)) && definition.name.starts_with(CORE) {
                rounded(inner);
            }
            descend(&field.ty, inner);
        }
    }
}

/// Amounts of resources are kept in thousandths, what is finer is rounded up.
fn rounded(amounts: &mut Value) {
    for amount in amounts.as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
        // Only these spellings are finer than thousandths.
        let finer = |text: &&str| text.ends_with(['n', 'u']) || text.contains("e-");
        let Some(text) = amount.as_str().filter(finer) else { continue };
        if let Ok(quantity) = text.parse::<Quantity>() {
            *amount = quantity.rounded_to_milli().to_string().into();
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
