//! Paths to fields of a schema, as rules and selectable fields name them: `.spec.x['a.b']`.

use super::super::schema::{Additional, Schema};
use crate::api::invalid::Path;

/// Where a path leads.
pub struct Found<'s> {
    /// The path as errors show it.
    pub path: Path,
    /// Its first name.
    pub first: String,
    /// The schema of the field.
    pub schema: &'s Schema,
}

/// Cuts the next part off: a delimiter, a quoted text, or what comes before one.
fn next<'t>(rest: &mut &'t str) -> Option<&'t str> {
    let quoted = rest.starts_with('\'');
    let mut escaped = false;
    let mut end = rest.len();
    for (i, c) in rest.char_indices() {
        if quoted {
            if i > 0 && c == '\'' && !escaped {
                end = i + 1;
                break;
            }
            escaped = c == '\\';
        } else if matches!(c, '.' | '[' | ']') {
            end = i.max(1);
            break;
        }
    }
    let (token, after) = rest.split_at(end);
    *rest = after;
    (!token.is_empty()).then_some(token)
}

/// The field that a path leads to.
pub fn resolve<'s>(text: &str, schema: &'s Schema, brackets: bool) -> Result<Found<'s>, String> {
    let ends = || "unexpected end of JSON path".to_owned();
    let mut rest = text;
    let mut found = Found { path: Path::default(), first: String::new(), schema };
    while let Some(token) = next(&mut rest) {
        match token {
            "." => step(&mut found, next(&mut rest).ok_or_else(ends)?)?,
            "[" if !brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let token = next(&mut rest).ok_or_else(ends)?;
                let inner = token.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {token}"))?;
                step(&mut found, &inner.replace("\\'", "'").replace("\\\\", "\\"))?;
                let token = next(&mut rest).ok_or_else(ends)?;
                if token != "]" {
                    return Err(format!("expected ] but got {token}"));
                }
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(found)
}

fn step(found: &mut Found<'_>, name: &str) -> Result<(), String> {
    let nowhere = || "does not refer to a valid field".to_owned();
    if found.first.is_empty() {
        name.clone_into(&mut found.first);
    }
    if !found.schema.properties.is_empty() {
        found.path = found.path.child(name);
        found.schema = found.schema.properties.get(name).ok_or_else(nowhere)?;
    } else if let Additional::Schema(of) = &found.schema.additional {
        found.path = found.path.key(name);
        found.schema = of;
    } else {
        return Err(nowhere());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_leads_to_a_field_or_says_why_not() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "a": {"type": "object", "properties": {"b.c": {"type": "string"}}},
            "m": {"type": "object", "additionalProperties": {"type": "integer"}}}}));
        for (text, wanted) in [
            (".a", Ok("a")),
            (".a['b.c']", Ok("a.b.c")),
            (".m.x", Ok("m[x]")),
            (".a.", Err("unexpected end of JSON path")),
            (".x", Err("does not refer to a valid field")),
            ("a", Err("expected [ or . but got: a")),
            (".a[0]", Err("expected single quoted string but got 0")),
            (".a['b.c'", Err("unexpected end of JSON path")),
        ] {
            let found = resolve(text, &schema, true).map(|f| f.path.to_string());
            assert_eq!(found.as_deref(), wanted.map_err(str::to_owned).as_ref().map(|s| *s), "{text}");
        }
        let refused = resolve(".a['b.c']", &schema, false).err();
        assert_eq!(refused.as_deref(), Some("array notation is not allowed"));
    }
}
