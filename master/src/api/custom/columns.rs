//! The Table of a declared kind.

use protocol::resources::{AGE_COLUMN, NAME_COLUMN};
use serde_json::{Value, json};

use super::jsonpath::JsonPath;
use crate::api::object::{list, name, text};
use crate::api::tables;

/// One column.
#[derive(Clone, Debug)]
pub struct PrinterColumn {
    name: String,
    ty: String,
    format: String,
    description: String,
    priority: i64,
    path: JsonPath,
}

/// The columns that a version declares, or the one that every kind has.
pub fn declared(version: &Value) -> Vec<PrinterColumn> {
    let own = |column: &Value| -> Option<PrinterColumn> {
        let field = |name: &str| text(column, &[name]).to_owned();
        Some(PrinterColumn {
            name: field("name"),
            ty: field("type"),
            format: field("format"),
            description: field("description"),
            priority: column["priority"].as_i64().unwrap_or(0),
            path: JsonPath::parse(text(column, &["jsonPath"])).ok()?,
        })
    };
    // Where one cannot be read the kind is shown as if it declared none.
    let declared = list(version, &["additionalPrinterColumns"]);
    let columns: Vec<PrinterColumn> = declared.iter().map_while(own).collect();
    if !columns.is_empty() && columns.len() == declared.len() {
        return columns;
    }
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
        "description": AGE_COLUMN});
    own(&age).into_iter().collect()
}

/// The headers.
pub fn headers(columns: &[PrinterColumn]) -> Vec<Value> {
    let first = json!({"name": "Name", "type": "string", "format": "name", "priority": 0,
        "description": NAME_COLUMN});
    let rest = columns.iter().map(|c| {
        let description = if c.description.is_empty() {
            format!("Custom resource definition column (in JSONPath format): {}", c.name)
        } else {
            c.description.clone()
        };
        json!({"name": c.name, "type": c.ty, "format": c.format, "priority": c.priority, "description": description})
    });
    std::iter::once(first).chain(rest).collect()
}

/// The cells of an object.
pub fn cells(columns: &[PrinterColumn], item: &Value) -> Vec<Value> {
    std::iter::once(name(item).into()).chain(columns.iter().map(|c| cell(c, item))).collect()
}

fn cell(column: &PrinterColumn, item: &Value) -> Value {
    let found = column.path.find(item);
    let Some(value) = found.first() else { return Value::Null };
    match column.ty.as_str() {
        "string" => match value {
            Value::Null => Value::Null,
            Value::String(text) => text.as_str().into(),
            other => other.to_string().into(),
        },
        "integer" => match (value.as_i64(), value.as_f64()) {
            (Some(n), _) => n.into(),
            (None, Some(n)) => (n as i64).into(),
            _ => Value::Null,
        },
        "number" if value.is_number() => (*value).clone(),
        "boolean" if value.is_boolean() => (*value).clone(),
        "date" => match value.as_str() {
            Some(time) if tables::is_time(time) => tables::since(time),
            Some(_) => "<invalid>".into(),
            None => Value::Null,
        },
        _ => Value::Null,
    }
}
