//! Paths to fields of a schema, as rules and selectable fields name them: `.spec.x['a.b']`.

use serde_json::Value;

/// The names of a path.
pub fn names(text: &str) -> Result<Vec<String>, String> {
    let mut rest = text;
    let mut names = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let name = &after[..end];
            let mut letters = name.chars();
            let good = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                && letters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            if !good {
                return Err(if name.is_empty() {
                    "unexpected end of JSON path".to_owned()
                } else {
                    format!("expected valid field name but got: {name}")
                });
            }
            names.push(name.to_owned());
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix("['") {
            let (name, after) = after.split_once("']").ok_or("expected ' but got end of path")?;
            names.push(name.replace("\\'", "'").replace("\\\\", "\\"));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            return Err(format!("expected ' but got: {after}"));
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            return Err(format!("expected [ or . but got: {}", &rest[..end]));
        }
    }
    Ok(names)
}

/// The names of a path, and the schema of the field that it leads to.
pub fn resolve<'a>(text: &str, schema: &'a Value) -> Result<(Vec<String>, &'a Value), String> {
    let names = names(text)?;
    let mut at = schema;
    for (i, name) in names.iter().enumerate() {
        let next = &at["properties"][name.as_str()];
        at = if next.is_object() {
            next
        } else if at["additionalProperties"].is_object() {
            &at["additionalProperties"]
        } else if i == 0 && name == "metadata" {
            // Implied by every schema.
            &Value::Null
        } else {
            return Err("does not refer to a valid field".to_owned());
        };
        if at.is_null() {
            return Ok((names, at));
        }
    }
    Ok((names, at))
}
