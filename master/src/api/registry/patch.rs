//! Patches: from a request's body and an object to the object that the client wants.

use protocol::go::cannot_unmarshal;
use protocol::patch::{self, JsonPatch, JsonPatchError, StrategicError};
use protocol::schema::{self, Definition, syntax};
use protocol::{ApiError, PatchKind};
use serde_json::{Value, json};

use super::body::{self, Sent};
use crate::api::invalid::go_quote;
use crate::api::kinds;

mod written;

/// What a patch that does not fit the object is answered with.
fn rejected() -> ApiError {
    let message = "the server rejected our request due to an error in our request";
    ApiError::about(422, "Invalid", message, json!({}))
}

/// The answer to a patch that makes no object of the kind; `display` is what it makes, or says.
pub fn invalid_patch(display: &str, why: &str) -> ApiError {
    let message = format!("Invalid value: {}: {why}", go_quote(display));
    let causes = json!([{"reason": "FieldValueInvalid", "message": message, "field": "patch"}]);
    ApiError::about(422, "Invalid", format!(" \"\" is invalid: patch: {message}"), json!({"causes": causes}))
}

/// The answer to a patch in a language that is not spoken here.
pub fn unsupported_media() -> ApiError {
    ApiError::about(415, "UnsupportedMediaType", "415: Unsupported Media Type", json!({}))
}

/// Reads a merge patch: an object, or nothing.
fn object(text: &[u8]) -> Result<Option<Value>, String> {
    match serde_json::from_slice::<Value>(text) {
        Ok(Value::Null) => Ok(None),
        Ok(given @ Value::Object(_)) => Ok(Some(given)),
        Ok(other) => Err(cannot_unmarshal(&other, "map[string]interface {}")),
        Err(error) => Err(syntax::error(text).unwrap_or_else(|| error.to_string())),
    }
}

/// The answer to a JSON patch that is none, where nobody looked at it strictly before it was read: another reader with
/// other types, which finds out about the fields of an operation only when it performs it.
fn unread(text: &[u8]) -> ApiError {
    let of = |value: &Value, ty: &str| {
        (!value.is_null()).then(|| ApiError::bad_request(cannot_unmarshal(value, &format!("jsonpatch.{ty}"))))
    };
    match serde_json::from_slice(text) {
        Err(error) => ApiError::bad_request(syntax::error(text).unwrap_or_else(|| error.to_string())),
        Ok(Value::Array(items)) => {
            let wrong = items.iter().filter(|item| !item.is_object()).find_map(|item| of(item, "Operation"));
            wrong.unwrap_or_else(rejected)
        }
        Ok(other) => of(&other, "Patch").unwrap_or_else(rejected),
    }
}

/// Fields that a merge patch has twice.
fn repeated(text: &[u8]) -> Vec<String> {
    let read = schema::decode(schema::custom(), text);
    read.map(|d| d.strict).unwrap_or_default().into_iter().filter(|s| s.starts_with("duplicate")).collect()
}

/// What a patch made of an object, before anybody looked at its types.
struct Patched {
    value: Value,
    /// What strict validation finds in the patch itself.
    strict: Vec<String>,
    /// What is shown of it in a refusal, where that is not the object.
    display: Option<String>,
}

fn patched(
    definition: &'static Definition,
    kind: PatchKind,
    target: Value,
    text: &[u8],
    validation: Option<&str>,
) -> Result<Patched, ApiError> {
    let mut value = target;
    let undecoded = |why: String| ApiError::bad_request(format!("error decoding patch: {why}"));
    let mut display = None;
    let strict = match kind {
        PatchKind::Json => {
            let mut patch = JsonPatch::parse(text).map_err(|error| match error {
                JsonPatchError::TooMany(_) => {
                    ApiError::new(413, "RequestEntityTooLarge", format!("Request entity too large: {error}"))
                }
                _ if validation == Some("Ignore") => unread(text),
                _ => undecoded(syntax::error(text).unwrap_or_else(|| error.to_string())),
            })?;
            let strict = std::mem::take(&mut patch.strict);
            patch.apply(&mut value).map_err(|_| rejected())?;
            strict
        }
        PatchKind::Merge => {
            let given = object(text).map_err(undecoded)?;
            patch::merge(&mut value, given.ok_or_else(|| ApiError::bad_request("Invalid JSON Patch"))?);
            repeated(text)
        }
        PatchKind::Strategic => {
            let given = object(text).map_err(ApiError::bad_request)?.unwrap_or_else(|| json!({}));
            display = given.as_object().map(protocol::go::map);
            patch::strategic(definition, &mut value, given).map_err(|error| match error {
                StrategicError::Format(_) => ApiError::bad_request(error.to_string()),
                StrategicError::ListOfLists => rejected(),
                StrategicError::Other(why) => ApiError::new(500, "", why),
            })?;
            repeated(text)
        }
        // Not a change of an object but a rule of its own.
        PatchKind::Apply => return Err(unsupported_media()),
    };
    Ok(Patched { value, strict, display })
}

/// Applies a patch to an object in the version asked for, which `target` makes. What strict validation finds goes to
/// `warnings`, or is the reason of the refusal; of declared kinds it is given back, since whoever knows their schema
/// finds more.
pub fn apply_patch(
    definition: &'static Definition,
    kind: PatchKind,
    target: impl Fn() -> Value,
    text: &[u8],
    validation: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<(Sent, Vec<String>), ApiError> {
    let declared = std::ptr::eq(definition, schema::custom());
    let Patched { mut value, mut strict, display } = patched(definition, kind, target(), text, validation)?;
    // Only refusals show the object: for them it is made again, since reading changes it.
    let invalid = |why: &str| match &display {
        Some(display) => invalid_patch(display, why),
        None => match patched(definition, kind, target(), text, validation) {
            Ok(again) => invalid_patch(&written::as_patched(definition, kind, &again.value, text), why),
            Err(error) => error,
        },
    };
    let problem = match kind {
        PatchKind::Strategic => patch::typed::problem(definition, &value),
        _ if declared => body::untyped(&value),
        _ => body::of_another_kind(definition, &value),
    };
    if let Some(why) = problem {
        return Err(invalid(&why));
    }
    if kind == PatchKind::Strategic {
        patch::typed::fit(definition, &mut value);
    } else {
        body::without_version(definition, &mut value, &mut strict);
    }
    let (more, empties) = schema::decode_in(definition, &mut value).map_err(|e| invalid(&e))?;
    strict.extend(more);
    if declared {
        return Ok((Sent { value, empties }, strict));
    }
    let unconvertible = definition.gvk.and_then(|(group, _, kind)| kinds::unconvertible(group, kind, &value));
    // What a strategic patch made is converted only when all else was done.
    if let Some(why) = unconvertible.as_ref().filter(|_| kind != PatchKind::Strategic) {
        return Err(invalid(why));
    }
    body::strict(strict, validation, warnings).map_err(|e| invalid(&e))?;
    if let Some(why) = unconvertible {
        return Err(ApiError::new(500, "", why));
    }
    Ok((Sent::new(value, empties), Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_patch_that_is_none_is_told_by_whoever_reads_it_first() {
        let definition = schema::kind("", "v1", "ConfigMap").expect("a kind");
        let said = |text: &str, validation: Option<&str>| {
            let target = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
            let patched = apply_patch(
                definition,
                PatchKind::Json,
                || target.clone(),
                text.as_bytes(),
                validation,
                &mut Vec::new(),
            );
            let error = patched.expect_err(text);
            (error.code(), error.to_string())
        };
        for (text, validation, code, expected) in [
            (
                "{}",
                None,
                400,
                "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
            ),
            (
                "{}",
                Some("Ignore"),
                400,
                "json: cannot unmarshal object into Go value of type jsonpatch.Patch",
            ),
            (
                r#"["a"]"#,
                Some("Ignore"),
                400,
                "json: cannot unmarshal string into Go value of type jsonpatch.Operation",
            ),
            ("[", Some("Ignore"), 400, "unexpected end of JSON input"),
            (
                r#"[{"op": 1}]"#,
                Some("Ignore"),
                422,
                "the server rejected our request due to an error in our request",
            ),
        ] {
            assert_eq!(said(text, validation), (code, expected.to_owned()), "{text} {validation:?}");
        }
    }
}
