//! A request as a step of a causal chain: its cause, and the object that it is about.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use actors::{TraceContext, trace};
use protocol::{ApiError, ApiRequest, ApiResponse};

use super::handle::header;
use crate::cache::member;

/// Calls the pipeline; a write is the root (or, with a `traceparent`, a link) of a causal chain.
pub(super) async fn call(
    http: &HttpRequest,
    door: Arc<dyn protocol::Api>,
    request: ApiRequest,
) -> Result<ApiResponse, ApiError> {
    if !request.verb.is_write() {
        return door.call(request).await;
    }
    let kind = format!("{} {}", http.method(), request.target.resource);
    let key = key_of(&request);
    let failed = |r: &Result<ApiResponse, ApiError>| r.as_ref().map_or(true, |r| r.code >= 400);
    trace::step_caused_by(cause_of(http.headers()), "master/front", &kind, key, failed, door.call(request))
        .await
}

pub(super) fn cause_of(headers: &HeaderMap) -> TraceContext {
    TraceContext::from_traceparent(header(headers, "traceparent")).unwrap_or_default()
}

/// The object a request is about, as traces name it. A new object's name stands in its body.
pub(super) fn key_of(request: &ApiRequest) -> Option<Arc<str>> {
    let target = &request.target;
    let name = target.name.clone().or_else(|| name_in(&request.body)).unwrap_or_default();
    let key = match &target.namespace {
        Some(namespace) => format!("{}/{namespace}/{name}", target.resource),
        None => format!("{}/{name}", target.resource),
    };
    Some(key.into())
}

/// The name of the object in a body; the rest of it is passed over.
fn name_in(body: &[u8]) -> Option<String> {
    let (metadata, _) = member(body, 0, b"\"metadata\"")?;
    let (from, to) = member(body, metadata, b"\"name\"")?;
    serde_json::from_slice(body.get(from..to)?).ok()
}

#[cfg(test)]
mod tests {
    use super::name_in;

    #[test]
    fn a_new_objects_name_is_found_in_its_body() {
        for (body, name) in [
            (
                r#"{"kind":"Pod","spec":{"name":"no"},"metadata":{"labels":{"name":"no"},"name":"a\u0062"}}"#,
                Some("ab"),
            ),
            (r#" { "metadata" : { "name" : "a" } } "#, Some("a")),
            (r#"{"metadata":{"generateName":"a-"}}"#, None),
            (r#"{"metadata":{"name":null}}"#, None),
            (r#"{"metadata":{"name":7}}"#, None),
            (r#"{"metadata":[{"name":"a"}]}"#, None),
            (r#"{"metadata":{"name":"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(name_in(body.as_bytes()).as_deref(), name, "{body}");
        }
    }
}
