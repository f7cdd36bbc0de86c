//! JSON patch (RFC 6902), with the liberties that Kubernetes' implementation takes: indexes may be negative, a
//! field may be replaced that is not there, and the whole document too.

use serde_json::{Map, Value};

use crate::go::{cannot_unmarshal, json_type};
use crate::schema::decode::STRICT_ERRORS_MAX;
use crate::schema::untyped::{self, Seen};

/// How many operations one patch may have.
pub const OPERATIONS_MAX: usize = 10_000;
/// How much copies may add up to, so that a small patch does not make a huge object.
const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// How deep a document may become: as deep as the parser would read one.
const DEPTH_MAX: usize = 128;
/// How often a document is looked through to find out how deep it is.
const MEASURED_MAX: usize = 100;

/// How many lists and objects are around what an operation says: one list.
const OPERATIONS_DEPTH: usize = 1;
/// Fields that operations have.
const FIELDS: [&str; 4] = ["op", "path", "from", "value"];

/// One operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Operation {
    op: String,
    path: Option<String>,
    from: Option<String>,
    value: Option<Value>,
}

/// A patch as read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonPatch {
    operations: Vec<Operation>,
    /// Fields that operations do not have, or have twice, in the order in which they stand there; the first of many.
    pub strict: Vec<String>,
}

/// Why a patch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPatchError {
    /// It is no patch; the words are Go's.
    #[error("{0}")]
    Malformed(String),
    /// It is too long.
    #[error("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {0}")]
    TooMany(usize),
    /// It does not fit the object.
    #[error("the patch cannot be applied")]
    Inapplicable,
}

impl JsonPatch {
    /// Reads a patch.
    pub fn parse(text: &[u8]) -> Result<JsonPatch, JsonPatchError> {
        let malformed = |why: String| JsonPatchError::Malformed(why);
        let mut patch = JsonPatch::default();
        let mut reader = serde_json::Deserializer::from_slice(text);
        let mut see = |seen: &Seen<'_>| {
            let what = match seen.repeated {
                true => "duplicate",
                false if seen.depth() == OPERATIONS_DEPTH && !FIELDS.contains(&seen.name) => "unknown",
                false => return,
            };
            if patch.strict.len() < STRICT_ERRORS_MAX {
                patch.strict.push(format!("json patch {what} field \"{seen}\""));
            }
        };
        let given = untyped::read(&mut reader, &mut see)
            .and_then(|given| reader.end().map(|()| given))
            .map_err(|e| malformed(e.to_string()))?;
        let items = match given {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            other => return Err(malformed(cannot_unmarshal(&other, "[]handlers.jsonPatchOp"))),
        };
        if items.len() > OPERATIONS_MAX {
            return Err(JsonPatchError::TooMany(items.len()));
        }
        for item in items {
            let fields = match item {
                Value::Object(fields) => fields,
                Value::Null => Map::new(),
                other => return Err(malformed(cannot_unmarshal(&other, "handlers.jsonPatchOp"))),
            };
            let mut operation = Operation::default();
            for (name, value) in fields {
                let text = |value: Value| match value {
                    Value::String(text) => Ok(Some(text)),
                    Value::Null => Ok(None),
                    other => Err(malformed(format!(
                        "json: cannot unmarshal {} into Go struct field jsonPatchOp.{name} of type string",
                        json_type(&other)
                    ))),
                };
                match name.as_str() {
                    "op" => operation.op = text(value)?.unwrap_or_default(),
                    "path" => operation.path = text(value)?,
                    "from" => operation.from = text(value)?,
                    "value" => operation.value = Some(value),
                    _ => {}
                }
            }
            patch.operations.push(operation);
        }
        Ok(patch)
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Applies the patch. After a failure the document is in between.
    pub fn apply(self, document: &mut Value) -> Result<(), JsonPatchError> {
        let mut limits = Limits { copied: 0, depth: depth(document), measured: 0 };
        self.operations
            .into_iter()
            .try_for_each(|o| one(o, document, &mut limits))
            .ok_or(JsonPatchError::Inapplicable)
    }
}

/// What keeps a patch from making an object that is huge, or so deep that nobody can walk through it.
struct Limits {
    /// Bytes that copies made so far.
    copied: usize,
    /// How deep the document is at most.
    depth: usize,
    /// How often that was found out by looking.
    measured: usize,
}

impl Limits {
    /// Puts something of a depth to a path.
    fn put(&mut self, document: &Value, path: &str, inner: usize) -> Option<()> {
        self.depth = self.depth.max(path.matches('/').count() + inner);
        if self.depth > 2 * DEPTH_MAX {
            // That is a bound; moving to and fro raises it without making anything deeper.
            self.measured += 1;
            self.depth = depth(document);
        }
        (self.measured <= MEASURED_MAX && self.depth <= 2 * DEPTH_MAX).then_some(())
    }

    fn moved(&mut self, document: &Value, from: &str, to: &str) -> Option<()> {
        let inner = self.depth.saturating_sub(from.matches('/').count());
        self.put(document, to, inner)
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn one(operation: Operation, document: &mut Value, limits: &mut Limits) -> Option<()> {
    let path = operation.path?;
    let value = operation.value;
    if matches!(operation.op.as_str(), "add" | "replace") {
        limits.put(document, &path, value.as_ref().map_or(0, depth))?;
    }
    match operation.op.as_str() {
        "add" => add(document, &path, value.unwrap_or(Value::Null)),
        "remove" => remove(document, &path).map(drop),
        "replace" => replace(document, &path, value.unwrap_or(Value::Null)),
        "test" => test(document, &path, value.as_ref().unwrap_or(&Value::Null)),
        "move" => {
            let from = operation.from.as_deref()?;
            limits.moved(document, from, &path)?;
            let value = remove(document, from)?;
            add(document, &path, value)
        }
        "copy" => {
            let from = operation.from.as_deref()?;
            limits.moved(document, from, &path)?;
            let (place, key) = place(document, from)?;
            let value = get(place, &key)?.clone();
            limits.copied += size(&value);
            if limits.copied > COPIED_BYTES_MAX {
                return None;
            }
            add(document, &path, value)
        }
        _ => None,
    }
}

/// Roughly how long a value is when written.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|i| size(i) + 1).sum::<usize>() + 2,
        Value::Object(fields) => fields.iter().map(|(k, v)| k.len() + size(v) + 4).sum::<usize>() + 2,
        _ => 5,
    }
}

/// The object or list that a path's last step is in, and that step.
fn place<'v>(document: &'v mut Value, path: &str) -> Option<(&'v mut Value, String)> {
    let mut steps: Vec<String> =
        path.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    let key = steps.pop()?;
    let mut at = document;
    for step in &steps {
        at = match at {
            Value::Object(fields) => fields.get_mut(step)?,
            Value::Array(items) => {
                let index = index(step, items.len())?;
                items.get_mut(index)?
            }
            _ => return None,
        };
    }
    matches!(at, Value::Object(_) | Value::Array(_)).then_some((at, key))
}

/// An index into a list; negative ones count from its end.
fn index(text: &str, len: usize) -> Option<usize> {
    let index: i64 = text.parse().ok()?;
    let from_end = || len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
    if index < 0 { from_end() } else { usize::try_from(index).ok().filter(|i| *i < len) }
}

/// What is at a step; an absent field is as good as null.
fn get<'v>(place: &'v Value, key: &str) -> Option<&'v Value> {
    match place {
        Value::Object(fields) => Some(fields.get(key).unwrap_or(&Value::Null)),
        Value::Array(items) => items.get(index(key, items.len())?),
        _ => None,
    }
}

fn add(document: &mut Value, path: &str, value: Value) -> Option<()> {
    let (place, key) = place(document, path)?;
    match place {
        Value::Object(fields) => drop(fields.insert(key, value)),
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            // One more place than there are entries: a new one may come last.
            let index = index(&key, items.len() + 1)?;
            items.insert(index, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(document: &mut Value, path: &str) -> Option<Value> {
    let (place, key) = place(document, path)?;
    match place {
        Value::Object(fields) => fields.remove(&key),
        Value::Array(items) => {
            let index = index(&key, items.len())?;
            Some(items.remove(index))
        }
        _ => None,
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *document = value;
        return (document.is_object() || document.is_array()).then_some(());
    }
    let (place, key) = place(document, path)?;
    match place {
        Value::Object(fields) => drop(fields.insert(key, value)),
        Value::Array(items) => {
            let index = index(&key, items.len())?;
            *items.get_mut(index)? = value;
        }
        _ => return None,
    }
    Some(())
}

fn test(document: &mut Value, path: &str, value: &Value) -> Option<()> {
    if path.is_empty() {
        return (document == value).then_some(());
    }
    let (place, key) = place(document, path)?;
    (get(place, &key)? == value).then_some(())
}

#[cfg(test)]
mod tests;
