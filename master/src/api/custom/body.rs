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

impl Version {
    /// Reads the object of a create or replace: pruned and with its defaults, in this version.
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
        said_by(&given).map_err(unrecognized)?;
        let given_kind = object::text(&given, &["kind"]);
        if given_kind.is_empty() {
            let shown = String::from_utf8_lossy(text);
            return Err(unrecognized(format!("Object 'Kind' is missing in '{shown}'")));
        }
        let (api_version, expected) = (object::text(&given, &["apiVersion"]), self.resource.api_version());
        if api_version != expected {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({expected})"
            )));
        }
        if given_kind != kind {
            let mut errors = Errors::default();
            errors.invalid(&Path::new("kind"), given_kind, format!("must be {kind}"));
            check(errors, self.resource.group, given_kind, object::name(&given))?;
        }
        let cannot = |why: String| {
            let version = self.resource.version;
            ApiError::bad_request(format!(
                "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
            ))
        };
        // Metadata is read by itself.
        let metadata = given.get("metadata").filter(|metadata| !metadata.is_object() && !metadata.is_null());
        if let Some(other) = metadata {
            return Err(cannot(protocol::go::cannot_unmarshal(other, "v1.ObjectMeta")));
        }
        let decoded = schema::decode(schema::custom(), text).map_err(cannot)?;
        let mut value = decoded.value;
        let mut found = decoded.strict;
        found.extend(self.admit(&mut value).map_err(cannot)?);
        strict(found, validation, warnings).map_err(cannot)?;
        Ok(Sent::new(value, decoded.empties))
    }

    /// Checks that an object that was changed still says that it is of this kind and version.
    pub fn check_type(&self, value: &Value) -> Result<(), ApiError> {
        let (kind, expected) = (self.resource.kind, self.resource.api_version());
        let (given_kind, api_version) =
            (object::text(value, &["kind"]), object::text(value, &["apiVersion"]));
        if api_version.is_empty() {
            return Err(ApiError::internal(
                "Object 'apiVersion' is missing in 'object has no apiVersion field'",
            ));
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

    /// Prunes an object and gives it its defaults; returns what strict validation refuses. Objects within it that say
    /// of themselves what no object can are an error.
    pub fn admit(&self, value: &mut Value) -> Result<Vec<String>, String> {
        let pruned = self.fields.prune(value);
        self.fields.read_embedded(value)?;
        self.fields.default(value);
        Ok(pruned.into_iter().map(|path| format!("unknown field \"{path}\"")).collect())
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
