//! Failures of API calls, in the shape of upstream's `Status`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::go::quote;
use crate::schema::written;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum ApiError {
    /// The server refused; the `Status` says why.
    #[error("{}", .0.message)]
    Status(Box<Status>),
    /// The server could not be reached, or did not answer in time; whether a write happened is unknown.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// The answer was not what the API promises.
    #[error("the API server's answer is not understood: {0}")]
    Malformed(String),
}

/// The parts of a failure `Status` (`metav1.Status`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, such as `NotFound`.
    pub reason: String,
    /// Text for people.
    pub message: String,
    /// `details` as JSON text (JSON inside, because this crosses bincode); empty for none.
    pub details: String,
}

impl ApiError {
    /// A failure with no details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        ApiError::Status(Box::new(Status {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            details: String::new(),
        }))
    }

    /// A failure about one object; `resource` is qualified by its group when it has one.
    pub fn about(code: u16, reason: &str, message: impl Into<String>, details: Value) -> Self {
        ApiError::Status(Box::new(Status {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            details: details.to_string(),
        }))
    }

    /// The named object does not exist. `resource` is the plural name.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::about(
            404,
            "NotFound",
            format!("{} {} not found", qualified(group, resource), quote(name)),
            named(group, resource, name),
        )
    }

    /// An object of that name exists already.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::about(
            409,
            "AlreadyExists",
            format!("{} {} already exists", qualified(group, resource), quote(name)),
            named(group, resource, name),
        )
    }

    /// The write lost against another one, or against a precondition.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        Self::about(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {} {}: {why}", qualified(group, resource), quote(name)),
            named(group, resource, name),
        )
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The request's body is no object of the kind that is expected.
    pub fn unrecognized(kind: &str, why: &str, body: &[u8]) -> Self {
        let message = format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({})",
            summary(body)
        );
        Self::bad_request(message)
    }

    /// The caller may not do this.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let subject = qualified(group, resource);
        let message = if name.is_empty() {
            format!("{subject} is forbidden: {why}")
        } else {
            format!("{subject} {} is forbidden: {why}", quote(name))
        };
        Self::about(403, "Forbidden", message, named(group, resource, name))
    }

    /// The server failed; not the caller's fault.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {why}");
        Self::about(500, "InternalError", message, json!({"causes": [{"message": why.to_string()}]}))
    }

    /// The HTTP status code; 503 where the server was not reached.
    pub fn code(&self) -> u16 {
        match self {
            ApiError::Status(s) => s.code,
            ApiError::Unreachable(_) => 503,
            ApiError::Malformed(_) => 500,
        }
    }

    /// The machine-readable reason, empty where the server was not reached.
    pub fn reason(&self) -> &str {
        match self {
            ApiError::Status(s) => &s.reason,
            _ => "",
        }
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.reason() == "NotFound"
    }

    /// The write lost against another one: read again and retry.
    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    /// An object of that name exists already.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    /// The `Status` object to answer with.
    pub fn to_status(&self) -> Value {
        let (code, reason, message, details) = match self {
            ApiError::Status(s) => (
                s.code,
                s.reason.as_str(),
                s.message.clone(),
                serde_json::from_str(&s.details).unwrap_or(Value::Null),
            ),
            other => (other.code(), "InternalError", other.to_string(), Value::Null),
        };
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "code": code,
        });
        if !reason.is_empty() {
            status["reason"] = reason.into();
        }
        if !details.is_null() {
            status["details"] = details;
        }
        status
    }

    /// The failure as a `Status` in JSON.
    pub fn to_body(&self) -> Bytes {
        Bytes::from(written::own(&self.to_status()))
    }

    /// Reads a failure `Status` body back.
    pub fn from_status(code: u16, body: &Bytes) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let details = match &value["details"] {
            Value::Null => String::new(),
            details => details.to_string(),
        };
        ApiError::Status(Box::new(Status { code, reason: text("reason"), message: text("message"), details }))
    }
}

/// `deployments.apps`, or `pods` for the core group.
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn named(group: &str, resource: &str, name: &str) -> Value {
    let mut details = json!({"kind": resource});
    if !name.is_empty() {
        details["name"] = name.into();
    }
    if !group.is_empty() {
        details["group"] = group.into();
    }
    details
}

/// The beginning of a body: as text where it looks like JSON, else in hexadecimal.
fn summary(body: &[u8]) -> String {
    const BYTES_MAX: usize = 30;
    let shown = &body[..body.len().min(BYTES_MAX)];
    let more = if body.len() > BYTES_MAX { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => shown.iter().map(|b| format!("{b:02x}")).collect::<String>() + more,
    }
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn bodies_are_summed_up_as_upstream_does() {
        assert_eq!(summary(b""), "<empty>");
        assert_eq!(summary(b"<xml/>"), "3c786d6c2f3e");
        assert_eq!(summary(b"{\"a\":1}"), "{\"a\":1}");
        assert_eq!(summary(&[b"{".as_slice(), &[b'x'; 40]].concat()), format!("{{{} ...", "x".repeat(29)));
    }
}
