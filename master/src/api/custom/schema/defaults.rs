//! Defaulting: absent fields come, and a `null` that is no value goes.

use serde_json::Value;

use super::Schema;

/// Fills in absent fields that have a default.
pub fn apply(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            for (name, inner) in &schema.properties {
                let absent = match map.get(name) {
                    None => true,
                    Some(Value::Null) => !inner.nullable,
                    Some(_) => false,
                };
                if let Some(default) = &inner.default
                    && absent
                {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                let Some(inner) = schema.property(name) else { continue };
                // A null entry of a map is replaced like an absent field.
                if let Some(default) = &inner.default
                    && value.is_null()
                    && !inner.nullable
                {
                    *value = default.clone();
                }
                apply(value, inner);
            }
        }
        Value::Array(items) => {
            let Some(inner) = &schema.items else { return };
            for item in items {
                if let Some(default) = &inner.default
                    && item.is_null()
                    && !inner.nullable
                {
                    *item = default.clone();
                }
                apply(item, inner);
            }
        }
        _ => {}
    }
}

/// Takes out fields that are `null` where the schema allows no `null` and knows no default.
pub fn drop_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            map.retain(|name, value| {
                !value.is_null() || schema.property(name).is_none_or(|s| s.nullable || s.default.is_some())
            });
            for (name, value) in map.iter_mut() {
                if let Some(inner) = schema.property(name) {
                    drop_nulls(value, inner);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = &schema.items {
                items.iter_mut().for_each(|item| drop_nulls(item, inner));
            }
        }
        _ => {}
    }
}
