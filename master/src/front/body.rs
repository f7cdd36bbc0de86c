//! Bodies of requests, whatever they are written in, to JSON.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::Version;
use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use protocol::schema::{self, protobuf, syntax};
use protocol::{ApiError, ApiRequest, Resource, Verb};
use serde_json::Value;

use super::handle::header;
use super::negotiate::{self, BodyType};
use super::{BODY_BYTES_MAX, Documents, path};
use crate::api::registry;

/// Reads a body within the limit.
pub(super) async fn read_all(payload: &mut Payload) -> Result<Bytes, ApiError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk =
            chunk.map_err(|e| ApiError::bad_request(format!("the request's body could not be read: {e}")))?;
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(ApiError::new(
                413,
                "RequestEntityTooLarge",
                format!("Request entity too large: limit is {BODY_BYTES_MAX}"),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The body, for whoever passes it on as it comes: nothing is left of it here.
pub(super) async fn taken(http: &HttpRequest, payload: &mut Payload) -> Result<web::Payload, ApiError> {
    let taken = web::Payload::from_request(http, payload).await;
    taken.map_err(|e| ApiError::internal(format!("the request's body could not be taken: {e}")))
}

/// Reads what is left of a body that nobody looked at. Over HTTP/2 a body that is dropped while it comes is taken back, and
/// with it the answer, if the client has not seen that yet. What is long, or slow, is dropped all the same.
pub(super) async fn pass_over(version: Version, mut payload: Payload) {
    const BYTES_MAX: usize = 1 << 20;
    const PATIENCE: Duration = Duration::from_secs(1);
    if version != Version::HTTP_2 {
        return;
    }
    let all = async {
        let mut left = BYTES_MAX;
        while let Some(Ok(chunk)) = payload.next().await {
            let Some(less) = left.checked_sub(chunk.len()) else { break };
            left = less;
        }
    };
    let _in_time = tokio::time::timeout(PATIENCE, all).await;
}

/// Reads the body of a write into the request. Returns warnings about how it is written.
pub(super) async fn read(
    headers: &HeaderMap,
    payload: &mut Payload,
    resource: &Resource,
    documents: &dyn Documents,
    request: &mut ApiRequest,
) -> Result<Vec<String>, ApiError> {
    if !request.verb.is_write() {
        return Ok(Vec::new());
    }
    let said = header(headers, "content-type");
    if request.verb == Verb::Patch {
        let kind = negotiate::consumes_patch(said)?;
        request.patch = Some(kind);
        // Patches are read with the object at hand.
        request.body = read_all(payload).await?;
        return Ok(Vec::new());
    }
    let deletes = matches!(request.verb, Verb::Delete | Verb::DeleteCollection);
    // What a delete's options are written in matters only where there are any.
    let mut kind = negotiate::content_type(said);
    if !deletes {
        kind = Ok(kind?);
    }
    let body = read_all(payload).await?;
    if deletes && body.is_empty() {
        return Ok(Vec::new());
    }
    let kind = kind?;
    // What is asked for is looked at before what it is asked for with.
    if !deletes {
        registry::options::check_write(request)?;
    }
    let expected = expected_kind(resource, request);
    // Of the options of a delete it is not told what they should have been.
    let unrecognized = |why: String| match deletes {
        true => ApiError::bad_request(why),
        false => ApiError::unrecognized(expected, &why, &body),
    };
    let (json, strict) = match kind {
        BodyType::Json => (syntax::tolerated(body.clone()), Vec::new()),
        BodyType::Yaml => {
            let (json, strict) = yaml(&body).map_err(unrecognized)?;
            // What is no object is shown as it was sent.
            registry::body::said(&json).map_err(unrecognized)?;
            (json, strict)
        }
        BodyType::Protobuf => {
            (protobuf::to_json(&body).map_err(|e| unrecognized(e.to_string()))?.into(), Vec::new())
        }
    };
    if kind == BodyType::Json
        && let Some(why) = syntax::error(&json)
    {
        return Err(unrecognized(format!("couldn't get version/kind; json parse error: {why}")));
    }
    if deletes {
        let value: Value = serde_json::from_slice(&json).map_err(|e| unrecognized(e.to_string()))?;
        path::delete_options(&mut request.options, &value);
    }
    // Some DELETEs take no options but an object (a collection of a subresource): it passes on.
    request.body = json;
    match request.options.field_validation.as_deref() {
        Some("Ignore") => Ok(Vec::new()),
        Some("Strict") if !strict.is_empty() => {
            let definition = schema::kind(resource.group, resource.version, expected);
            let unknown = match definition {
                Some(definition) => schema::decode(definition, &request.body).ok().map(|read| read.strict),
                None if resource.custom && expected == resource.kind => {
                    documents.undeclared(resource, &request.body)
                }
                None => Some(Vec::new()),
            };
            // What cannot be read at all is told by whoever reads it.
            let Some(unknown) = unknown else { return Ok(strict) };
            let repeated = format!("yaml: unmarshal errors:\n  {}", strict.join("\n  "));
            let all: Vec<String> = std::iter::once(repeated).chain(unknown).collect();
            Err(ApiError::bad_request(format!(
                "{expected} in version \"{}\" cannot be handled as a {expected}: strict decoding error: {}",
                resource.version,
                all.join(", ")
            )))
        }
        _ => Ok(strict),
    }
}

/// The kind that a body is expected to be of.
fn expected_kind<'a>(resource: &'a Resource, request: &ApiRequest) -> &'a str {
    match request.verb {
        Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
        _ => match &request.target.subresource {
            Some(name) => resource.subresource(name).map_or(resource.kind, |sub| sub.kind),
            None => resource.kind,
        },
    }
}

fn yaml(body: &Bytes) -> Result<(Bytes, Vec<String>), String> {
    let text = String::from_utf8_lossy(body);
    let read = crate::yaml::read(&text)?;
    Ok((Bytes::from(read.value.to_string()), read.strict))
}
