//! Reading the object of a request.

use protocol::go::{self, cannot_unmarshal, json_type};
use protocol::schema::{self, Definition, Empties};
use protocol::{ApiError, Resource, resources};
use serde_json::Value;

use super::Subject;
use super::former::is_read;
use crate::api::managed::entries;
use crate::api::{convert, custom, kinds};

/// What a kind's scheme is called in upstream's messages.
fn scheme(group: &str) -> &'static str {
    match group {
        "apiextensions.k8s.io" => "pkg/apiserver/apiserver.go:55",
        "apiregistration.k8s.io" => "pkg/apiserver/scheme/scheme.go:28",
        _ => "pkg/api/legacyscheme/scheme.go:30",
    }
}

/// An object as a client sent it, or as a patch made it.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// The object, in its form.
    pub value: Value,
    /// What was given as empty, of which that form knows nothing.
    pub empties: Empties,
}

impl Sent {
    /// An object that was read. That it is given no managers is to say that they are forgotten, and so the one thing
    /// given as empty that stays in it; whoever keeps up with its managers takes it out.
    pub fn new(mut value: Value, empties: Empties) -> Self {
        if empties.has("metadata.managedFields") {
            entries::set(&mut value, Value::Array(Vec::new()));
        }
        Sent { value, empties }
    }
}

impl From<Value> for Sent {
    fn from(value: Value) -> Self {
        Sent { value, empties: Empties::default() }
    }
}

/// Checks that a body is of the kind that its path promises, and reads it.
pub fn decode(
    group: &str,
    version: &str,
    kind: &str,
    text: &[u8],
    validation: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<Sent, ApiError> {
    let definition = schema::kind(group, version, kind)
        .ok_or_else(|| ApiError::internal(format!("no field table for {kind}")))?;
    let expected = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let says = |value: &Value, name: &str, wanted: &str| {
        value.get(name).and_then(Value::as_str).is_none_or(|said| said.is_empty() || said == wanted)
    };
    let of_version = |value: &Value| {
        says(value, "apiVersion", &expected) || says(value, "apiVersion", &format!("/{expected}"))
    };
    let decoded = match schema::decode(definition, text) {
        Ok(decoded) if says(&decoded.value, "kind", kind) && of_version(&decoded.value) => decoded,
        // Something is wrong with it: what it says that it is comes first.
        decoded => {
            check_kind(group, kind, text, &expected)?;
            decoded.map_err(|e| cannot(kind, version, kind, &e))?
        }
    };
    if let Some(why) = kinds::unconvertible(group, kind, &decoded.value) {
        return Err(cannot(kind, version, kind, &why));
    }
    strict(decoded.strict, validation, warnings).map_err(|e| cannot(kind, version, kind, &e))?;
    let mut value = decoded.value;
    value["kind"] = kind.into();
    value["apiVersion"] = expected.into();
    Ok(Sent::new(value, decoded.empties))
}

/// What a body says that it is; what it says as an empty text counts as not said.
pub struct Said {
    /// Its kind.
    pub kind: Option<String>,
    /// Its version, as one without a group may be written with the slash.
    pub api_version: Option<String>,
}

/// Reads what a body says that it is, before anybody looks at the rest.
///
/// # Errors
/// In Go's words, where it is no JSON object, or says it in another type.
pub fn said(text: &[u8]) -> Result<Said, String> {
    said_by(&serde_json::from_slice(text).map_err(|e| unread(&e.to_string()))?)
}

/// The same, of a body that is JSON.
pub fn said_by(given: &Value) -> Result<Said, String> {
    if let Some(why) = no_object(given) {
        return Err(why);
    }
    // Go takes a name in other cases for want of the name itself.
    let folded = |name: &str| {
        let mut fields = given.as_object().into_iter().flatten();
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let field = |name: &str| match given.get(name).or_else(|| folded(name)).unwrap_or(&Value::Null) {
        Value::Null => Ok(None),
        Value::String(said) => Ok(Some(said.clone()).filter(|said| !said.is_empty())),
        other => Err(unread(&format!(
            "json: cannot unmarshal {} into Go struct field .{name} of type string",
            json_type(other)
        ))),
    };
    let (api_version, kind) = (field("apiVersion")?, field("kind")?);
    let version = api_version.as_deref().unwrap_or_default();
    if version.matches('/').count() > 1 {
        return Err(format!("unexpected GroupVersion string: {version}"));
    }
    let version = version.strip_prefix('/').unwrap_or(version);
    Ok(Said { kind, api_version: Some(version.to_owned()).filter(|v| !v.is_empty()) })
}

fn unread(why: &str) -> String {
    format!("couldn't get version/kind; json parse error: {why}")
}

/// What is wrong with a body that is no object, in Go's words.
fn no_object(given: &Value) -> Option<String> {
    if matches!(given, Value::Object(_) | Value::Null) {
        return None;
    }
    const TYPE_META: &str = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \
                             \"json:\\\"kind,omitempty\\\"\" }";
    Some(unread(&cannot_unmarshal(given, TYPE_META)))
}

/// Checks that a body is JSON, and what it says that it is.
fn check_kind(group: &str, kind: &str, text: &[u8], expected: &str) -> Result<(), ApiError> {
    let said = said(text).map_err(|why| ApiError::unrecognized(kind, &why, text))?;
    let given_kind = said.kind.as_deref().unwrap_or(kind);
    let given_version = said.api_version.as_deref().unwrap_or(expected);
    if given_kind != kind || given_version != expected {
        // It is read as what it says that it is, before that is held against it.
        if let Some(definition) = known_as(given_kind, given_version)
            && let Err(why) = schema::decode(definition, text)
        {
            let version = given_version.rsplit('/').next().unwrap_or(given_version);
            return Err(cannot(given_kind, version, kind, &why));
        }
        return Err(wrong_kind(group, kind, given_kind, given_version, expected));
    }
    Ok(())
}

/// The fields of a kind in a version such as `apps/v1`.
fn known_as(kind: &str, api_version: &str) -> Option<&'static Definition> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    schema::kind(group, version, kind)
}

/// What strict validation makes of unknown and repeated fields.
pub fn strict(
    found: Vec<String>,
    validation: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    match validation {
        Some("Ignore") => Ok(()),
        Some("Strict") if !found.is_empty() => Err(format!("strict decoding error: {}", found.join(", "))),
        _ => {
            warnings.extend(found);
            Ok(())
        }
    }
}

fn cannot(given: &str, version: &str, kind: &str, why: &str) -> ApiError {
    ApiError::bad_request(format!("{given} in version \"{version}\" cannot be handled as a {kind}: {why}"))
}

/// What is wrong with a patched object of a declared kind that does not say of which kind it is, or has no metadata that
/// can be read.
pub fn untyped(value: &Value) -> Option<String> {
    let said = match said_by(value) {
        Ok(said) => said,
        Err(why) => return Some(why),
    };
    match said.kind {
        None => Some(custom::body::missing_kind(&value.to_string())),
        Some(_) => custom::body::unreadable(value),
    }
}

/// Why a patched object is not of the kind that it was, if it says that it is of another.
pub fn of_another_kind(definition: &Definition, value: &Value) -> Option<String> {
    let (group, version, kind) = definition.gvk?;
    let own = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let said = match said_by(value) {
        Ok(said) => said,
        Err(why) => return Some(why),
    };
    let given = said.kind.as_deref().unwrap_or(kind);
    let Some(given_version) = said.api_version else {
        return (given != kind).then(|| misfit_internally(group, kind, given));
    };
    if given == kind && (given_version == own || is_read(given, &given_version)) {
        return None;
    }
    // It is read as what it says that it is, before that is held against it.
    let read = known_as(given, &given_version).map(|d| schema::decode_in(d, &mut value.clone()));
    read.and_then(Result::err).or_else(|| Some(misfit(group, kind, given, &given_version)))
}

/// Makes an object that does not say of which version it is what is left of it: no version's fields are the internal
/// one's, so that each of its own is unknown.
pub fn without_version(definition: &Definition, value: &mut Value, strict: &mut Vec<String>) {
    if definition.gvk.is_none() || !said_by(value).is_ok_and(|said| said.api_version.is_none()) {
        return;
    }
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| {
            let is_type = name == "kind" || name == "apiVersion";
            if !is_type {
                strict.push(format!("unknown field {}", go::quote(name)));
            }
            is_type
        });
    }
}

/// Kinds that every version reads and none serves, and those of the version that belongs to no group.
const OPTIONS: &[&str] = &[
    "CreateOptions",
    "DeleteOptions",
    "GetOptions",
    "ListOptions",
    "PatchOptions",
    "UpdateOptions",
    "WatchEvent",
];
const UNVERSIONED: &[&str] = &["APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "Status"];

/// Whether a kind is of the machinery, not of any API.
pub fn is_meta(kind: &str, version: &str) -> bool {
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let known = resources::groups().iter().any(|(known, _)| *known == group);
    (OPTIONS.contains(&kind) && known) || (version == "v1" && UNVERSIONED.contains(&kind))
}

fn wrong_kind(group: &str, kind: &str, given: &str, given_version: &str, expected: &str) -> ApiError {
    if given == kind && is_read(given, given_version) {
        return ApiError::bad_request(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({expected})"
        ));
    }
    let version = given_version.rsplit('/').next().unwrap_or(given_version);
    cannot(given, version, kind, &misfit(group, kind, given, given_version))
}

/// Why what a body says that it is cannot become what it should be.
fn misfit(group: &str, kind: &str, given: &str, given_version: &str) -> String {
    let version = given_version.rsplit('/').next().unwrap_or(given_version);
    let known = is_read(given, given_version)
        || is_meta(given, given_version)
        || (given_version, given) == ("v1", "List")
        || known_as(given, given_version).is_some();
    let own_scheme = |g: &str| matches!(g, "apiextensions.k8s.io" | "apiregistration.k8s.io");
    let given_group = given_version.split_once('/').map_or("", |(g, _)| g);
    // Some groups have schemes of their own, which know no others, nor the others them.
    if !known || (given_group != group && (own_scheme(group) || own_scheme(given_group))) {
        let of = format!("version {}", go::quote(given_version));
        return unregistered(group, given, &of);
    }
    unknown_conversion(version, given, group, kind)
}

/// The same of a body that names no version, and so means the internal one of the kind's own group.
fn misfit_internally(group: &str, kind: &str, given: &str) -> String {
    let of_group = |d: &Definition| d.gvk.is_some_and(|(g, _, k)| g == group && k == given);
    if UNVERSIONED.contains(&given) {
        unknown_conversion("v1", given, group, kind)
    } else if schema::all().iter().any(of_group) {
        unknown_conversion(package(group), given, group, kind)
    } else {
        unregistered(group, given, &format!("the internal version of group {}", go::quote(group)))
    }
}

/// Go's package of a group's types.
fn package(group: &str) -> &str {
    match group.split('.').next().unwrap_or_default() {
        "" | "events" => "core",
        first => first,
    }
}

fn unknown_conversion(from: &str, given: &str, group: &str, kind: &str) -> String {
    format!("converting ({from}.{given}) to ({}.{kind}): unknown conversion", package(group))
}

fn unregistered(group: &str, given: &str, of: &str) -> String {
    format!("no kind {} is registered for {of} in scheme \"{}\"", go::quote(given), scheme(group))
}

/// Reads the object of a create or replace, in the stored version, defaulted.
pub fn object(
    subject: &Subject<'_>,
    text: &[u8],
    validation: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<Sent, ApiError> {
    if let Some(custom) = subject.custom {
        return custom.decode(text, validation, warnings);
    }
    let r = subject.resource;
    Ok(as_stored(subject, decode(r.group, r.version, r.kind, text, validation, warnings)?))
}

/// A sent object in the stored version, defaulted.
pub fn as_stored(subject: &Subject<'_>, sent: Sent) -> Sent {
    // Of another version the places are others.
    let empties = if subject.resource.is_view() { Empties::default() } else { sent.empties };
    Sent { value: defaulted(subject.resource, subject.stored, subject.definition, sent.value), empties }
}

/// Brings an object of the version asked for into the stored one, with its defaults.
pub fn defaulted(
    resource: &Resource,
    stored: &Resource,
    definition: &'static Definition,
    value: Value,
) -> Value {
    let mut value = if resource.is_view() { convert::to_storage(resource, value) } else { value };
    schema::apply_defaults(definition, &mut value);
    (kinds::strategy(stored).defaults)(&mut value);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patched_object_stays_of_its_kind() {
        let config = schema::kind("", "v1", "ConfigMap").expect("a kind");
        let scheme = "in scheme \"pkg/api/legacyscheme/scheme.go:30\"";
        for (patched, why) in [
            (serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1"}), None),
            (serde_json::json!({"apiVersion": "v1", "kind": ""}), None),
            (serde_json::json!({"kind": "ConfigMap"}), None),
            (
                serde_json::json!({"kind": "Secret", "apiVersion": "v1"}),
                Some("converting (v1.Secret) to (core.ConfigMap): unknown conversion".to_owned()),
            ),
            (
                serde_json::json!({"kind": "Secret", "apiVersion": "v1", "data": {"a": "1"}}),
                Some("illegal base64 data at input byte 0".to_owned()),
            ),
            (
                serde_json::json!({"kind": "Secret"}),
                Some("converting (core.Secret) to (core.ConfigMap): unknown conversion".to_owned()),
            ),
            (
                serde_json::json!({"kind": "Nope"}),
                Some(format!(
                    "no kind \"Nope\" is registered for the internal version of group \"\" {scheme}"
                )),
            ),
            (
                serde_json::json!({"kind": "Nope", "apiVersion": "v1"}),
                Some(format!("no kind \"Nope\" is registered for version \"v1\" {scheme}")),
            ),
        ] {
            assert_eq!(of_another_kind(config, &patched), why, "{patched}");
        }
        let mut value = serde_json::json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {}});
        let mut strict = Vec::new();
        without_version(config, &mut value, &mut strict);
        assert_eq!(strict, ["unknown field \"data\"", "unknown field \"metadata\""]);
        assert_eq!(value, serde_json::json!({"kind": "ConfigMap"}));
    }

    #[test]
    fn what_a_body_is_may_be_said_in_any_case() {
        for (text, kind, version) in [
            (r#"{"apiVersion":"v1","kind":"Pod"}"#, Some("Pod"), Some("v1")),
            (r#"{"ApiVersion":"v1","KIND":"Pod"}"#, Some("Pod"), Some("v1")),
            (r#"{"kind":"Pod","Kind":"Other"}"#, Some("Pod"), None),
            (r#"{"other":"Pod"}"#, None, None),
        ] {
            let said = said(text.as_bytes()).expect("an object");
            assert_eq!((said.kind.as_deref(), said.api_version.as_deref()), (kind, version), "{text}");
        }
    }

    #[test]
    fn versions_that_are_not_served_are_known() {
        for (version, kind, wanted) in [
            ("storage.k8s.io/v1beta1", "StorageClass", "does not match the expected API version"),
            ("storage.k8s.io/v1beta1", "CSINode", "unknown conversion"),
            ("storage.k8s.io/v1beta9", "StorageClass", "is registered for version"),
        ] {
            let error = wrong_kind("storage.k8s.io", "StorageClass", kind, version, "storage.k8s.io/v1");
            assert!(format!("{error:?}").contains(wanted), "{error:?}");
        }
    }

    #[test]
    fn an_empty_list_of_managers_is_told_from_none() {
        for (given, kept) in [("[]", true), ("null", false)] {
            let text = format!(r#"{{"kind":"ConfigMap","metadata":{{"name":"a","managedFields":{given}}}}}"#);
            let sent =
                decode("", "v1", "ConfigMap", text.as_bytes(), None, &mut Vec::new()).expect("is good");
            assert_eq!(sent.value["metadata"].get("managedFields").is_some(), kept, "{given}");
        }
    }
}
