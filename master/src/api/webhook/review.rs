//! What webhooks are asked and answer: AdmissionReviews, of the version that a webhook knows.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::ApiError;
use protocol::patch::JsonPatch;
use serde_json::{Value, json};

use crate::api::object::text;

/// Warnings that a webhook may give.
const WARNINGS_MAX: usize = 16;

/// A version of reviews.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// `v1`.
    #[default]
    V1,
    /// `v1beta1`, whose answers are looked at less closely.
    V1Beta1,
}

impl Version {
    /// The first of the versions a webhook names that there is.
    pub fn preferred<'a>(named: impl IntoIterator<Item = &'a str>) -> Version {
        let known = |name| match name {
            "v1" => Some(Version::V1),
            "v1beta1" => Some(Version::V1Beta1),
            _ => None,
        };
        named.into_iter().find_map(known).unwrap_or_default()
    }

    fn api_version(self) -> &'static str {
        match self {
            Version::V1 => "admission.k8s.io/v1",
            Version::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }

    /// A question.
    pub fn question(self, request: Value) -> Value {
        json!({"kind": "AdmissionReview", "apiVersion": self.api_version(), "request": request})
    }
}

/// What a webhook answered.
#[derive(Debug, Default)]
pub struct Answer {
    /// Whether the request may pass.
    pub allowed: bool,
    /// Why not.
    pub status: Value,
    /// What it wants in the audit log.
    pub annotations: Vec<(String, String)>,
    /// What the client should be told.
    pub warnings: Vec<String>,
    /// How the object is to be changed.
    pub patch: Option<Patch>,
}

/// A change of the object.
#[derive(Debug)]
pub struct Patch {
    /// As it was sent.
    pub sent: Vec<u8>,
    /// As it is understood.
    pub operations: JsonPatch,
}

/// Reads an answer to the question `uid`; only webhooks that are there to change objects may.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub fn read(version: Version, review: &Value, uid: &Value, mutating: bool) -> Result<Answer, String> {
    let invalid = |why: String| format!("received invalid webhook response: {why}");
    let response = &review["response"];
    if !response.is_object() {
        return Err(invalid("webhook response was absent".to_owned()));
    }
    if version == Version::V1 {
        if response["uid"] != *uid {
            let got = text(response, &["uid"]);
            return Err(invalid(format!("expected response.uid={uid}, got {got:?}")));
        }
        let (api_version, kind) = (text(review, &["apiVersion"]), text(review, &["kind"]));
        if (api_version, kind) != (version.api_version(), "AdmissionReview") {
            let wanted = version.api_version();
            return Err(invalid(format!(
                "expected webhook response of {wanted}, Kind=AdmissionReview, got {api_version}, Kind={kind}"
            )));
        }
        patch_fields(response, mutating).map_err(invalid)?;
    }
    let allowed = response["allowed"] == true;
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    let warnings = response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(Answer {
        allowed,
        status: response["status"].clone(),
        annotations: annotations
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect(),
        warnings: warnings.take(WARNINGS_MAX).map(str::to_owned).collect(),
        patch: if allowed && mutating { patch(response)? } else { None },
    })
}

/// Whether a patch and its type stand together, where they may.
fn patch_fields(response: &Value, mutating: bool) -> Result<(), String> {
    let patched = !text(response, &["patch"]).is_empty();
    let typed = response["patchType"].as_str();
    let why = match (mutating, patched, typed) {
        (true, true, None) => "webhook returned response.patch but not response.patchType",
        (true, false, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, true, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (false, true, _) => "validating webhook may not return response.patch",
        (false, false, Some(_)) => "validating webhook may not return response.patchType",
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

/// The change that an answer asks for, unless it is none.
fn patch(response: &Value) -> Result<Option<Patch>, String> {
    let encoded = text(response, &["patch"]);
    if encoded.is_empty() {
        return Ok(None);
    }
    let sent = STANDARD.decode(encoded).map_err(|e| format!("failed to call webhook: {e}"))?;
    let operations = JsonPatch::parse(&sent)
        .map_err(|e| format!("received undecodable patch in webhook response: {e}"))?;
    if operations.is_empty() {
        return Ok(None);
    }
    match response["patchType"].as_str() {
        // Of the older version the type is not looked at.
        None | Some("JSONPatch") => Ok(Some(Patch { sent, operations })),
        Some(other) => Err(format!("unsupported patch type {other:?}")),
    }
}

/// The code of a refusal.
pub fn denial_code(status: &Value) -> u16 {
    status["code"].as_u64().and_then(|c| u16::try_from(c).ok()).filter(|c| *c >= 400).unwrap_or(400)
}

/// The answer to what a webhook of this name refuses.
pub fn denied(name: &str, status: &Value) -> ApiError {
    let by = format!("admission webhook {name:?} denied the request");
    let (message, reason) = (text(status, &["message"]), text(status, &["reason"]));
    let message = match (message, reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = denial_code(status);
    let details = if status["details"].is_object() { status["details"].clone() } else { json!({}) };
    ApiError::about(code, reason, message, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(patch: &str) -> Value {
        json!({"patch": STANDARD.encode(patch), "patchType": "JSONPatch"})
    }

    #[test]
    fn answers_are_checked() {
        let change = r#"[{"op": "add", "path": "/a", "value": 1}]"#;
        let mut untyped = patched(change);
        untyped["patchType"] = Value::Null;
        let mut other = patched(change);
        other["patchType"] = "Merge".into();
        for (mutating, more, expected) in [
            (true, json!({}), Ok(false)),
            (true, patched(change), Ok(true)),
            (true, patched("[]"), Ok(false)),
            (
                true,
                untyped.clone(),
                Err(
                    "received invalid webhook response: webhook returned response.patch but not response.patchType",
                ),
            ),
            (
                true,
                json!({"patchType": "JSONPatch"}),
                Err(
                    "received invalid webhook response: webhook returned response.patchType but not response.patch",
                ),
            ),
            (true, other, Err("unsupported patch type \"Merge\"")),
            (
                false,
                patched(change),
                Err("received invalid webhook response: validating webhook may not return response.patch"),
            ),
            (
                false,
                json!({"patchType": "JSONPatch"}),
                Err(
                    "received invalid webhook response: validating webhook may not return response.patchType",
                ),
            ),
            (
                true,
                json!({"uid": "other"}),
                Err("received invalid webhook response: expected response.uid=\"u\", got \"other\""),
            ),
        ] {
            let mut response = json!({"uid": "u", "allowed": true});
            for (key, value) in more.as_object().into_iter().flatten() {
                response[key] = value.clone();
            }
            let review =
                json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
            let read = read(Version::V1, &review, &"u".into(), mutating).map(|answer| answer.patch.is_some());
            assert_eq!(read, expected.map_err(str::to_owned), "{review}");
        }
        let broken = read(Version::V1, &json!({"response": {"uid": "u"}}), &"u".into(), true);
        assert!(broken.is_err_and(|why| why.contains("expected webhook response of admission.k8s.io/v1")));
        assert!(
            read(Version::V1, &json!({}), &"u".into(), true).is_err_and(|why| why.contains("was absent"))
        );
    }

    #[test]
    fn the_older_version_is_looked_at_less_closely() {
        let change = STANDARD.encode(r#"[{"op": "add", "path": "/a", "value": 1}]"#);
        let review = json!({"response": {"allowed": true, "patch": change}});
        let read = read(Version::V1Beta1, &review, &"u".into(), true);
        assert!(read.is_ok_and(|answer| answer.patch.is_some()));
        assert_eq!(Version::preferred(["v2", "v1beta1", "v1"]), Version::V1Beta1);
        assert_eq!(Version::preferred([]), Version::V1);
    }
}
