//! The framework of validation: field paths, kinds of errors, and the `Invalid` answer made of them.

use std::collections::HashSet;
use std::fmt;

use protocol::ApiError;
pub use protocol::go::quote as go_quote;
use protocol::schema::internal::{self, go_json};
use protocol::schema::{self, Empties};
use serde_json::{Value, json};
use smallvec::SmallVec;

/// Bytes of a path that lie in the path itself; longer ones are rare.
const PATH_BYTES: usize = 96;

/// Where a field lies, as upstream prints it: `spec.containers[0].image`.
///
/// Looking at an object makes hundreds of these, and hardly ever is one shown: so mostly nothing is allocated for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(SmallVec<[u8; PATH_BYTES]>);

impl Path {
    /// A path of one or more names joined by dots.
    pub fn new(text: &str) -> Self {
        Path(SmallVec::from_slice(text.as_bytes()))
    }

    /// A field of this one.
    pub fn child(&self, name: &str) -> Path {
        if self.0.is_empty() { Path::new(name) } else { self.followed_by(&[".", name]) }
    }

    /// An entry of a list.
    pub fn index(&self, index: usize) -> Path {
        // Most lists are short.
        const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        match DIGITS.get(index) {
            Some(digit) => self.key(digit),
            None => self.key(&index.to_string()),
        }
    }

    /// An entry of a map.
    pub fn key(&self, key: &str) -> Path {
        self.followed_by(&["[", key, "]"])
    }

    fn followed_by(&self, parts: &[&str]) -> Path {
        // Copied at once; a clone goes byte by byte.
        let mut text = SmallVec::from_slice(&self.0);
        parts.iter().for_each(|part| text.extend_from_slice(part.as_bytes()));
        Path(text)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It was put together of texts.
        let text = std::str::from_utf8(&self.0).map_err(|_| fmt::Error)?;
        f.write_str(if text.is_empty() { "<nil>" } else { text })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    field: String,
    reason: &'static str,
    message: String,
}

/// Everything that is wrong with an object, in the order found.
#[derive(Clone, Debug, Default)]
pub struct Errors {
    list: Vec<FieldError>,
    /// What the object was given as empty, and what is shown of it has so.
    empties: Empties,
}

/// A value as the server's internal struct, on one line.
pub fn internal(definition: &str, value: &Value) -> String {
    match schema::definition(definition) {
        Some(definition) => internal::internal(definition, value).compact(),
        None => value.to_string(),
    }
}

/// A value as upstream shows it in messages.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => go_quote(text),
        Value::Number(n) if n.is_f64() => protocol::go::float(n.as_f64().unwrap_or_default()),
        other => go_json(&other.to_string()),
    }
}

impl Errors {
    fn push(&mut self, path: &Path, reason: &'static str, message: String) {
        self.list.push(FieldError { field: path.to_string(), reason, message });
    }

    /// A field that must be there.
    pub fn required(&mut self, path: &Path, detail: &str) {
        let message =
            if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        self.push(path, "FieldValueRequired", message);
    }

    /// What is wrong with an object that was given some of its fields as empty.
    pub fn of(empties: Empties) -> Self {
        Errors { list: Vec::new(), empties }
    }

    /// A field of the object as it was sent: with lists and maps that were given as empty.
    pub fn as_sent(&self, path: &Path, value: &Value) -> Value {
        if self.empties.is_empty() {
            return value.clone();
        }
        self.empties.restored(&path.to_string(), value)
    }

    /// Whether a list or map was given as empty.
    pub fn is_given_empty(&self, path: &Path) -> bool {
        !self.empties.is_empty() && self.empties.has(&path.to_string())
    }

    /// A value that makes no sense.
    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl fmt::Display) {
        let mut value = value.into();
        if matches!(value, Value::Null | Value::Array(_) | Value::Object(_)) {
            value = self.as_sent(path, &value);
        }
        self.invalid_shown(path, &shown(&value), detail);
    }

    /// A struct that makes no sense, shown as the server holds it.
    pub fn invalid_struct(
        &mut self,
        path: &Path,
        definition: &str,
        value: &Value,
        detail: impl fmt::Display,
    ) {
        let shown = self.shown_struct(path, definition, value);
        self.invalid_shown(path, &shown, detail);
    }

    /// A struct as the server holds it, with what it was given as empty.
    pub fn shown_struct(&self, path: &Path, definition: &str, value: &Value) -> String {
        internal(definition, &self.as_sent(path, value))
    }

    /// A value that makes no sense, shown in a form of its own; the detail may be empty.
    pub fn invalid_shown(&mut self, path: &Path, shown: &str, detail: impl fmt::Display) {
        let detail = detail.to_string();
        let colon = if detail.is_empty() { "" } else { ": " };
        self.push(path, "FieldValueInvalid", format!("Invalid value: {shown}{colon}{detail}"));
    }

    /// A value that is not one of a set.
    pub fn unsupported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|s| go_quote(s)).collect();
        let message = format!(
            "Unsupported value: {}: supported values: {}",
            shown(&value.into()),
            supported.join(", ")
        );
        self.push(path, "FieldValueNotSupported", message);
    }

    /// A value that is not one of a set, shown in a form of its own.
    pub fn unsupported_shown(&mut self, path: &Path, shown: &str, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|s| go_quote(s)).collect();
        let message = format!("Unsupported value: {shown}: supported values: {}", supported.join(", "));
        self.push(path, "FieldValueNotSupported", message);
    }

    /// A value that must be unique and is not, shown in a form of its own.
    pub fn duplicate_shown(&mut self, path: &Path, shown: &str) {
        self.push(path, "FieldValueDuplicate", format!("Duplicate value: {shown}"));
    }

    /// A list with too many entries.
    pub fn too_many(&mut self, path: &Path, actual: usize, max: usize) {
        let items = if max == 1 { "item" } else { "items" };
        let message = format!("Too many: {actual}: must have at most {max} {items}");
        self.push(path, "FieldValueTooMany", message);
    }

    /// A value of the wrong type.
    pub fn wrong_type(&mut self, path: &Path, value: impl Into<Value>, detail: &str) {
        let message = format!("Invalid value: {}: {detail}", shown(&value.into()));
        self.push(path, "FieldValueTypeInvalid", message);
    }

    /// Something that should not have happened.
    pub fn internal(&mut self, path: &Path, detail: &str) {
        self.push(path, "InternalError", format!("Internal error: {detail}"));
    }

    /// A value that must be unique and is not.
    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(path, "FieldValueDuplicate", format!("Duplicate value: {}", shown(&value.into())));
    }

    /// A value that must be unique and is not, and in which sense.
    pub fn duplicate_because(&mut self, path: &Path, shown: &str, detail: &str) {
        self.push(path, "FieldValueDuplicate", format!("Duplicate value: {shown}: {detail}"));
    }

    /// A reference that leads nowhere, and where it could lead.
    pub fn not_found_among(&mut self, path: &Path, value: &str, detail: &str) {
        self.push(path, "FieldValueNotFound", format!("Not found: {}: {detail}", go_quote(value)));
    }

    /// A reference that leads nowhere.
    pub fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(path, "FieldValueNotFound", format!("Not found: {}", shown(&value.into())));
    }

    /// Something that may not be set (now).
    pub fn forbidden(&mut self, path: &Path, detail: impl fmt::Display) {
        self.push(path, "FieldValueForbidden", format!("Forbidden: {detail}"));
    }

    /// Something that may not be done at all, whatever else is wrong.
    pub fn forbidden_only(&mut self, path: &Path, detail: impl fmt::Display) {
        self.list.clear();
        self.forbidden(path, detail);
    }

    /// A value that is too long.
    pub fn too_long(&mut self, path: &Path, max: usize) {
        let bytes = if max == 1 { "byte" } else { "bytes" };
        self.push(path, "FieldValueTooLong", format!("Too long: may not be more than {max} {bytes}"));
    }

    /// A value that makes no sense and is too big to show.
    pub fn invalid_unshown(&mut self, path: &Path, detail: impl fmt::Display) {
        self.push(path, "FieldValueInvalid", format!("Invalid value: {detail}"));
    }

    /// A value that must be unique and is not, and is too big to show.
    pub fn duplicate_unshown(&mut self, path: &Path) {
        self.push(path, "FieldValueDuplicate", "Duplicate value".to_owned());
    }

    /// Puts the errors in the order of their texts.
    pub fn sort(&mut self) {
        self.list.sort_by_cached_key(|e| format!("{}: {}", e.field, e.message));
    }

    /// Whether something is so wrong that rules about the object cannot be asked.
    pub fn is_blocking(&self) -> bool {
        const BLOCKING: [&str; 5] = [
            "FieldValueNotSupported",
            "FieldValueRequired",
            "FieldValueTooLong",
            "FieldValueTooMany",
            "FieldValueTypeInvalid",
        ];
        self.list.iter().any(|e| BLOCKING.contains(&e.reason))
    }

    /// What was found in a value of which nobody knew where it stands, with where that is.
    pub fn within(mut self, path: &Path) -> Errors {
        for error in &mut self.list {
            let own = std::mem::take(&mut error.field);
            let own = own.strip_prefix('.').unwrap_or(&own);
            error.field = if own == "<nil>" { path.to_string() } else { path.child(own).to_string() };
        }
        self
    }

    /// Adds what else was found.
    pub fn append(&mut self, other: Errors) {
        self.list.extend(other.list);
    }

    /// How many errors there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The messages, as tests read them.
    pub fn messages(&self) -> Vec<String> {
        self.list.iter().map(|e| format!("{}: {}", e.field, e.message)).collect()
    }

    /// What is wrong, each once, in one text; `None` when nothing is.
    pub fn text(&self) -> Option<String> {
        if self.list.is_empty() {
            return None;
        }
        let mut seen = HashSet::new();
        let messages: Vec<String> = self.messages().into_iter().filter(|m| seen.insert(m.clone())).collect();
        Some(match messages.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        })
    }

    /// The answer to a request whose object has these errors; `None` when there are none.
    pub fn into_error(self, group: &str, kind: &str, name: &str) -> Option<ApiError> {
        let text = self.text()?;
        let causes: Vec<Value> = self
            .list
            .into_iter()
            .map(|e| json!({"reason": e.reason, "message": e.message, "field": e.field}))
            .collect();
        let mut details = json!({"causes": causes});
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                details[key] = value.into();
            }
        }
        let qualified = protocol::error::qualified(group, kind);
        Some(ApiError::about(
            422,
            "Invalid",
            format!("{qualified} {} is invalid: {text}", go_quote(name)),
            details,
        ))
    }
}

/// What a check finds, as tests read it.
#[cfg(test)]
pub fn said(check: impl FnOnce(&mut Errors)) -> Vec<String> {
    let mut errors = Errors::default();
    check(&mut errors);
    errors.messages()
}

/// Fails with the `Invalid` answer where anything is wrong.
pub fn check(errors: Errors, group: &str, kind: &str, name: &str) -> Result<(), ApiError> {
    errors.into_error(group, kind, name).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_as_empty_is_shown_so() {
        let sent = json!({"spec": {"selector": {"matchLabels": {}}, "successPolicy": {"rules": []},
            "template": {"spec": {"containers": []}}}});
        let job = schema::definition("a.batch.v1.Job").expect("a kind");
        let mut errors = Errors::of(Empties::of(job, &sent));
        let at = |name: &str| Path::new("spec").child(name);
        let containers = at("template").child("spec").child("containers");
        errors.invalid(&containers, Value::Null, "x");
        errors.invalid(&at("other"), Value::Null, "x");
        errors.invalid_struct(&at("successPolicy"), "a.batch.v1.SuccessPolicy", &json!({}), "x");
        // Its own form leaves out what is empty.
        errors.invalid_struct(&at("selector"), "m.LabelSelector", &json!({}), "x");
        let wanted = [
            "spec.template.spec.containers: Invalid value: []: x",
            "spec.other: Invalid value: null: x",
            "spec.successPolicy: Invalid value: {\"Rules\":[]}: x",
            "spec.selector: Invalid value: {}: x",
        ];
        assert_eq!(errors.messages(), wanted);
        assert!(errors.is_given_empty(&containers) && !errors.is_given_empty(&at("other")));
    }
}
