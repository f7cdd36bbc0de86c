//! Reading objects of declared kinds, and bringing them from one version to another.

use protocol::{ApiError, schema};
use serde_json::Value;

use super::Version;
use crate::api::invalid::{Errors, Path, check};
use crate::api::object;
use crate::api::registry::body::{Sent, said_by, strict};

/// What Go says of text that is no JSON.
fn syntax(error: &serde_json::Error) -> String {
    if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() }
}

const NO_VERSION: &str = "Object 'apiVersion' is missing in 'object has no apiVersion field'";

/// The refusal of an object that says that it is of a kind and version, by who expects a kind.
fn cannot(given: &str, api_version: &str, kind: &str, why: &str) -> ApiError {
    let version = api_version.rsplit('/').next().unwrap_or(api_version);
    ApiError::bad_request(format!("{given} in version \"{version}\" cannot be handled as a {kind}: {why}"))
}

/// What strict validation says of fields that a schema does not have.
fn unknown(paths: Vec<String>) -> Vec<String> {
    paths.into_iter().map(|path| format!("unknown field \"{path}\"")).collect()
}

/// Takes the fields out of an object that not every object has, in order.
fn undeclared(value: &mut Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| {
            let common = matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
            if !common {
                found.push(name.clone());
            }
            common
        });
    }
    found.sort();
    found
}

/// What is wrong with an object that does not say its kind.
pub fn missing_kind(shown: &str) -> String {
    format!("Object 'Kind' is missing in '{shown}'")
}

/// Why an object of whatever declared kind cannot be read, before its fields are looked at: what it says that it is is
/// nothing, or its metadata is no object.
pub fn unreadable(object: &Value) -> Option<String> {
    if object.get("apiVersion").is_some_and(Value::is_null) {
        return Some(".apiVersion accessor error: <nil> is of the type <nil>, expected string".to_owned());
    }
    let metadata = object.get("metadata").filter(|metadata| !metadata.is_object() && !metadata.is_null());
    metadata.map(|other| protocol::go::cannot_unmarshal(other, "v1.ObjectMeta"))
}

impl Version {
    /// Reads the object of a create or replace: pruned and with its defaults, in this version. Whether it is of this
    /// kind is for [`check_type`](Self::check_type) to tell.
    pub fn decode(
        &self,
        text: &[u8],
        validation: Option<&str>,
        warnings: &mut Vec<String>,
    ) -> Result<Sent, ApiError> {
        let kind = self.resource.kind;
        let unrecognized = |why: String| ApiError::unrecognized(kind, &why, text);
        let given: Value = serde_json::from_slice(text).map_err(|e| {
            unrecognized(format!("couldn't get version/kind; json parse error: {}", syntax(&e)))
        })?;
        let said = said_by(&given).map_err(unrecognized)?;
        let expected = self.resource.api_version();
        // Whoever does not look strictly asks another reader, which says it in other words.
        let ignores = validation == Some("Ignore");
        let Some(given_kind) = said.kind else {
            let why = missing_kind(&String::from_utf8_lossy(text));
            let version = said.api_version.unwrap_or(expected);
            return Err(if ignores { cannot(kind, &version, kind, &why) } else { unrecognized(why) });
        };
        let api_version = object::text(&given, &["apiVersion"]);
        // What is wrong with its metadata is told before whether it is of this kind at all.
        if let Some(why) = unreadable(&given) {
            return Err(cannot(&given_kind, api_version, kind, &why));
        }
        let decoded = schema::decode(schema::custom(), text).map_err(|why| {
            // Metadata is read on its own, by the order of its names.
            let sorted = serde_json::to_vec(&given).ok();
            let why = sorted.and_then(|text| schema::decode(schema::custom(), &text).err()).unwrap_or(why);
            cannot(&given_kind, api_version, kind, &why)
        })?;
        let mut value = decoded.value;
        let mut found = decoded.strict;
        match api_version.split_once('/').filter(|_| given_kind == kind) {
            Some(_) if api_version == expected => {
                found.extend(self.admit(&mut value).map_err(|why| cannot(kind, &expected, kind, &why))?);
            }
            // Of another version of the kind it is looked at as one of that.
            Some((group, version)) if group == self.resource.group => {
                let pruned = self.siblings.get(version).map(|fields| fields.prune(&mut value));
                found.extend(unknown(pruned.unwrap_or_default()));
            }
            _ => {}
        }
        if api_version.is_empty() && validation == Some("Strict") && !found.is_empty() {
            return Err(ApiError::bad_request(NO_VERSION));
        }
        // What is there twice is found before what is known of metadata.
        found.sort_by_key(|found| !found.starts_with("duplicate field"));
        strict(found, validation, warnings)
            .map_err(|why| cannot(&given_kind, api_version, &given_kind, &why))?;
        if api_version != expected {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({expected})"
            )));
        }
        // An empty list of managers is none here: metadata is read on its own, and says nothing of what is empty.
        Ok(Sent { value, empties: decoded.empties })
    }

    /// What strict validation finds in the object of a create or replace; `None` where it cannot be read as one.
    pub fn undeclared(&self, text: &[u8]) -> Option<Vec<String>> {
        let decoded = schema::decode(schema::custom(), text).ok()?;
        let mut value = decoded.value;
        if unreadable(&value).is_some() || self.check_type(&value).is_err() {
            return None;
        }
        let mut found = decoded.strict;
        found.extend(self.admit(&mut value).ok()?);
        Some(found)
    }

    /// Checks that an object that was changed still says that it is of this kind and version.
    pub fn check_type(&self, value: &Value) -> Result<(), ApiError> {
        let (kind, expected) = (self.resource.kind, self.resource.api_version());
        let (given_kind, api_version) =
            (object::text(value, &["kind"]), object::text(value, &["apiVersion"]));
        if api_version.is_empty() {
            return Err(ApiError::internal(NO_VERSION));
        }
        let mut errors = Errors::default();
        if given_kind != kind {
            errors.invalid(&Path::new("kind"), given_kind, format!("must be {kind}"));
        }
        if api_version != expected {
            errors.invalid(&Path::new("apiVersion"), api_version, format!("must be {expected}"));
        }
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        check(errors, group, given_kind, object::name(value))
    }

    /// Whether an object says that it is of this kind, in whatever version.
    pub fn is_of_kind(&self, value: &Value) -> bool {
        let group = object::text(value, &["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
        group == self.resource.group && object::text(value, &["kind"]) == self.resource.kind
    }

    /// Prunes an object and gives it its defaults; returns what strict validation refuses. Objects within it that say
    /// of themselves what no object can are an error.
    ///
    /// One that says to be of another version is looked at as one of that, and where there is none, nothing is known
    /// of it: it will be refused.
    pub fn admit(&self, value: &mut Value) -> Result<Vec<String>, String> {
        let version = object::text(value, &["apiVersion"]).split_once('/').map_or("", |(_, version)| version);
        if version != self.resource.version {
            let pruned = match self.siblings.get(version).cloned() {
                Some(fields) => fields.prune(value),
                None => undeclared(value),
            };
            return Ok(unknown(pruned));
        }
        let pruned = self.fields.prune(value);
        self.fields.read_embedded(value)?;
        self.fields.default(value);
        Ok(unknown(pruned))
    }

    /// [`admit`](Self::admit) for what apply merged: what is `null` there stays to be refused.
    pub fn admit_merged(&self, value: &mut Value) -> Result<(), String> {
        self.fields.prune(value);
        self.fields.read_embedded(value)?;
        self.fields.fill(value);
        Ok(())
    }

    /// An object of this version as it is stored. Those that a webhook converts come here converted.
    pub fn to_storage(&self, mut value: Value) -> Value {
        if self.webhook.is_some() {
            return value;
        }
        if self.resource.version != self.stored.version {
            self.stored_fields.prune(&mut value);
        }
        value["apiVersion"] = self.stored.api_version().into();
        value
    }

    /// A stored object in this version. Those that a webhook converts come here converted.
    pub fn from_storage(&self, mut value: Value) -> Value {
        if self.webhook.is_some() && self.resource.version != self.stored.version {
            return value;
        }
        self.stored_fields.prune(&mut value);
        self.stored_fields.default(&mut value);
        if self.resource.version != self.stored.version {
            self.fields.prune(&mut value);
        }
        value["apiVersion"] = self.resource.api_version().into();
        value
    }

    /// An object as it lies in the store, in whichever version that is, with that version's defaults.
    pub fn from_store(&self, mut value: Value) -> Value {
        let version = object::text(&value, &["apiVersion"]).rsplit('/').next().unwrap_or_default();
        if let Some(fields) = self.siblings.get(version).cloned() {
            fields.prune(&mut value);
            fields.default(&mut value);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::custom::CustomKind;

    fn things() -> std::sync::Arc<CustomKind> {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object"}}});
        let version = |name: &str| json!({"name": name, "served": true, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}});
        let definition = json!({
            "spec": {"group": "g.example.com", "scope": "Namespaced", "versions": [version("v1"), version("v2")]},
            "status": {
                "acceptedNames": {"kind": "Thing", "listKind": "ThingList", "plural": "things", "singular": "thing"},
                "conditions": [{"type": "Established", "status": "True"}],
            },
        });
        CustomKind::of(&definition, "u", 1).expect("is established")
    }

    #[test]
    fn what_a_kind_does_not_have_is_found_in_what_can_be_read() {
        let kind = things();
        let version = kind.version("v1").expect("is declared");
        let found = |metadata: Value, api_version: &str| {
            let body =
                json!({"apiVersion": api_version, "kind": "Thing", "metadata": metadata, "spec": {"b": 1}});
            version.undeclared(body.to_string().as_bytes())
        };
        let unknown = ["metadata.a", "spec.b"].map(|path| format!("unknown field \"{path}\""));
        assert_eq!(found(json!({"a": 1}), "g.example.com/v1").as_deref(), Some(&unknown[..]));
        assert_eq!(found(json!({"name": 1}), "g.example.com/v1"), None);
        assert_eq!(found(json!({}), "g.example.com/v2"), None);
    }

    #[test]
    fn what_is_wrong_with_metadata_comes_before_what_an_object_says_that_it_is() {
        let kind = things();
        let version = kind.version("v1").expect("is declared");
        let (own, other) = ("g.example.com/v1", "g.example.com/v2");
        for (api_version, kind, metadata, validation, wanted) in [
            (json!(own), json!("Thing"), json!({"name": "a"}), "Strict", ""),
            (
                json!(other),
                json!("Thing"),
                json!(5),
                "Strict",
                "Thing in version \"v2\" cannot be handled as a Thing: json: cannot unmarshal number into Go value of type \
                 v1.ObjectMeta",
            ),
            (
                json!(other),
                json!("Other"),
                json!({"x": 1}),
                "Strict",
                "Other in version \"v2\" cannot be handled as a Other: strict decoding error: unknown field \"metadata.x\"",
            ),
            (
                json!(other),
                json!("Other"),
                json!({"x": 1}),
                "Warn",
                "the API version in the data (g.example.com/v2) does not match the expected API version \
                 (g.example.com/v1)",
            ),
            (json!(""), json!("Thing"), json!({"x": 1}), "Strict", NO_VERSION),
            (
                json!(null),
                json!("Thing"),
                json!(5),
                "Strict",
                "Thing in version \"\" cannot be handled as a Thing: .apiVersion accessor error: <nil> is of the type \
                 <nil>, expected string",
            ),
            (
                json!(""),
                json!(null),
                json!(5),
                "Ignore",
                "Thing in version \"v1\" cannot be handled as a Thing: Object 'Kind' is missing in '",
            ),
            (
                json!(""),
                json!(""),
                json!(5),
                "Warn",
                "the object provided is unrecognized (must be of type Thing): Object 'Kind' is missing in '",
            ),
        ] {
            let body = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata}).to_string();
            let said = version.decode(body.as_bytes(), Some(validation), &mut Vec::new());
            let said = said.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(
                said.starts_with(wanted) && said.is_empty() == wanted.is_empty(),
                "{body} {validation}: {said}"
            );
        }
    }
}
