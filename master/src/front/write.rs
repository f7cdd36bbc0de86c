//! Answers.

use std::collections::HashSet;
use std::io::Write as _;

use actix_http::encoding::Encoder;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, ContentEncoding, HeaderName, HeaderValue, WARNING};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use protocol::schema::{protobuf, written};
use protocol::{ApiError, ApiResponse, Resource};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::negotiate::{self, Chosen, Form, Offer, Syntax};
use super::{Documents, metadata, pretty};

/// Answers longer than this are compressed for clients that can read that.
const COMPRESS_BYTES_MIN: usize = 128 << 10;

/// What caches are told of most answers.
pub(super) const NOT_KEPT: &str = "no-cache, private";

fn builder(code: u16) -> HttpResponseBuilder {
    let mut builder =
        HttpResponse::build(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    builder.insert_header((CACHE_CONTROL, HeaderValue::from_static(NOT_KEPT)));
    builder
}

/// JSON in the syntax asked for. Upstream ends it with a line break, unless it is there to be looked at.
fn encoded(json: Bytes, syntax: Syntax, indented: bool) -> Result<Bytes, ApiError> {
    let value = || serde_json::from_slice::<Value>(&json).map_err(ApiError::internal);
    match syntax {
        Syntax::Json if indented => Ok(pretty::indented(&json)),
        Syntax::Json => Ok([&json[..], b"\n"].concat().into()),
        Syntax::Yaml => Ok(crate::yaml::to_answer(&value()?).into()),
        Syntax::Protobuf => match protobuf::envelope(&versioned(value()?)) {
            Some(bytes) => Ok(bytes.into()),
            None => Err(negotiate::not_acceptable(Offer::PLAIN)),
        },
    }
}

/// Discovery documents of the core group say no version in JSON, and are `v1`.
fn versioned(mut value: Value) -> Value {
    if value["apiVersion"].is_null() {
        value["apiVersion"] = "v1".into();
    }
    value
}

fn body(mut builder: HttpResponseBuilder, json: Bytes, syntax: Syntax, indented: bool) -> HttpResponse {
    match encoded(json, syntax, indented) {
        Ok(bytes) => builder.content_type(HeaderValue::from_static(syntax.media_type())).body(bytes),
        Err(failure) => error(&failure, Syntax::Json),
    }
}

/// Characters of all warnings of an answer; where there are more, each is cut, and what is still too much is left out.
const WARNINGS_CHARS_MAX: usize = 4 << 10;
/// Characters of a warning that is cut.
const WARNING_CHARS_MAX: usize = 256;

/// The warnings that an answer has room for, each once.
fn told(warnings: &[String]) -> Vec<&str> {
    if warnings.is_empty() {
        return Vec::new();
    }
    let mut texts: Vec<&str> = Vec::new();
    let mut seen = HashSet::new();
    texts.extend(warnings.iter().map(String::as_str).filter(|text| !text.is_empty() && seen.insert(*text)));
    let mut room = WARNINGS_CHARS_MAX;
    if texts.iter().map(|text| text.chars().count()).sum::<usize>() > room {
        for text in &mut texts {
            let end = text.char_indices().nth(WARNING_CHARS_MAX).map_or(text.len(), |(at, _)| at);
            *text = text.get(..end).unwrap_or_default();
        }
    }
    texts.retain(|text| match room.checked_sub(text.chars().count()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    });
    texts
}

/// The value of a `Warning` header.
fn quoted(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

pub(super) fn with_warnings(code: u16, warnings: &[String]) -> HttpResponseBuilder {
    let mut builder = builder(code);
    for text in told(warnings) {
        builder.append_header(("Warning", quoted(text)));
    }
    builder
}

/// Adds warnings to an answer that somebody else made.
pub(super) fn warn(response: &mut HttpResponse, warnings: &[String]) {
    for text in told(warnings) {
        if let Ok(value) = HeaderValue::from_str(&quoted(text)) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// What the pipeline answered, in the form that the client chose.
pub(super) fn object(
    response: &ApiResponse,
    chosen: Chosen,
    resource: &Resource,
    documents: &dyn Documents,
    include: &str,
) -> Result<HttpResponse, ApiError> {
    let mut builder = with_warnings(response.code, &response.warnings);
    if response.code >= 400 {
        retry_after(&mut builder, &response.body);
        return Ok(body(builder, response.body.clone(), chosen.syntax, chosen.pretty));
    }
    if matches!(chosen.form, Form::Object | Form::Aggregated) {
        return Ok(body(builder, response.body.clone(), chosen.syntax, chosen.pretty));
    }
    let object: Value = serde_json::from_slice(&response.body).map_err(ApiError::internal)?;
    if object["kind"] == "Status" && object["apiVersion"] == "v1" {
        return Ok(body(builder, response.body.clone(), chosen.syntax, chosen.pretty));
    }
    let mut converted = match chosen.form {
        Form::Table => documents.table(resource, &object, include).unwrap_or(object),
        form => partial(form, resource, object)?,
    };
    if chosen.beta {
        make_beta(&mut converted);
    }
    Ok(body(builder, Bytes::from(written::own(&converted)), chosen.syntax, chosen.pretty))
}

/// Turns `meta.k8s.io/v1` into the older version, which looks the same.
pub(super) fn make_beta(object: &mut Value) {
    if object["apiVersion"] == "meta.k8s.io/v1" {
        object["apiVersion"] = "meta.k8s.io/v1beta1".into();
    }
    for list in ["rows", "items"] {
        for entry in object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let inner = if list == "rows" { entry.get_mut("object") } else { Some(entry) };
            if let Some(inner) = inner.filter(|inner| inner["apiVersion"] == "meta.k8s.io/v1") {
                inner["apiVersion"] = "meta.k8s.io/v1beta1".into();
            }
        }
    }
}

/// Sets the header that a Status asks for.
fn retry_after(builder: &mut HttpResponseBuilder, status: &Bytes) {
    let status: Value = serde_json::from_slice(status).unwrap_or(Value::Null);
    if let Some(seconds) = status["details"]["retryAfterSeconds"].as_u64().filter(|s| *s > 0) {
        builder.insert_header(("Retry-After", seconds.to_string()));
    }
}

/// A failure.
pub(super) fn error(error: &ApiError, syntax: Syntax) -> HttpResponse {
    let status = error.to_body();
    let code = error.code();
    let mut builder = builder(code);
    retry_after(&mut builder, &status);
    if code == 401 {
        builder.insert_header(("WWW-Authenticate", "Bearer"));
    }
    body(builder, status, syntax, false)
}

/// The answer to a request that found no seat: plain text, as upstream's.
pub(super) fn too_many() -> HttpResponse {
    builder(429)
        .insert_header(("Retry-After", "1"))
        .content_type("text/plain; charset=utf-8")
        .body("Too many requests, please try again later.\n")
}

/// A page that is no object: it is indented for everybody.
pub(super) fn page(json: &Bytes) -> HttpResponse {
    builder(200).content_type(Syntax::Json.media_type()).body(pretty::indented(json))
}

/// A discovery document.
pub(super) fn document(json: Bytes, chosen: Chosen) -> Result<HttpResponse, ApiError> {
    let bytes = encoded(json, chosen.syntax, chosen.pretty)?;
    Ok(builder(200).content_type(chosen.syntax.media_type()).body(bytes))
}

/// The aggregated discovery document with a tag that changes with it, unless the client knows the tag.
pub(super) fn aggregated(json: Bytes, chosen: Chosen, known: &str) -> Result<HttpResponse, ApiError> {
    let tag: String = Sha256::digest(&json).iter().map(|b| format!("{b:02X}")).collect();
    let mut builder = match unchanged_or(&tag, known, "public") {
        Ok(answer) => return Ok(answer),
        Err(builder) => builder,
    };
    let media = chosen.syntax.media_type();
    let bytes = encoded(json, chosen.syntax, chosen.pretty)?;
    Ok(builder
        .content_type(format!("{media};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"))
        .body(bytes))
}

/// The answer to a client that knows the tag; else what others' answers begin with.
pub(super) fn unchanged_or(
    tag: &str,
    known: &str,
    control: &'static str,
) -> Result<HttpResponse, HttpResponseBuilder> {
    let tag = format!("\"{tag}\"");
    let unchanged = known.split(',').any(|t| t.trim().trim_start_matches("W/") == tag);
    let mut builder = HttpResponse::build(if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    builder.insert_header(("ETag", tag)).insert_header(("Vary", "Accept"));
    builder.insert_header((CACHE_CONTROL, control));
    if unchanged { Ok(builder.finish()) } else { Err(builder) }
}

/// A document that clients may keep.
pub(super) fn cached(bytes: Bytes, media: &'static str, control: &'static str) -> HttpResponse {
    HttpResponse::Ok().insert_header(("Cache-Control", control)).content_type(media).body(bytes)
}

/// An object or a list reduced to its metadata. Asking for the one where the other is, is refused.
pub(super) fn partial(form: Form, resource: &Resource, mut object: Value) -> Result<Value, ApiError> {
    let reduce = |mut object: Value| {
        let whole = object.get_mut("metadata").map_or(Value::Null, Value::take);
        json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata::own(resource, whole),
        })
    };
    let go_type = |kind: &str| format!("*{}.{kind}", internal_package(resource.storage.0));
    match (form, object.get_mut("items").map(Value::take)) {
        (Form::PartialList, Some(Value::Array(items))) => {
            let mut metadata = object["metadata"].take();
            // Lists of declared kinds say it even when it is empty.
            if metadata["continue"] == "" {
                metadata.as_object_mut().and_then(|m| m.remove("continue"));
            }
            // Upstream begins such a list with its first item.
            let items = (!items.is_empty()).then(|| items.into_iter().map(reduce).collect::<Vec<_>>());
            Ok(json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata, "items": items,
            }))
        }
        (Form::PartialList, _) => {
            // What a subresource answers may be of another kind than what it belongs to.
            let (kind, version) = (object["kind"].as_str(), object["apiVersion"].as_str());
            let own = match (kind, version.and_then(|v| v.split_once('/'))) {
                (Some(kind), Some((group, _))) if kind != resource.kind => {
                    format!("*{}.{kind}", internal_package(group))
                }
                _ => go_type(resource.kind),
            };
            Err(ApiError::new(
                406,
                "NotAcceptable",
                format!(
                    "you requested PartialObjectMetadataList, but the requested object is not a list ({own})"
                ),
            ))
        }
        (_, Some(Value::Array(_))) => Err(ApiError::new(
            406,
            "NotAcceptable",
            format!(
                "you requested PartialObjectMetadata, but the requested object is a list ({})",
                go_type(resource.list_kind)
            ),
        )),
        _ => Ok(reduce(object)),
    }
}

/// The Go package of the internal types of a group, which upstream's messages name.
fn internal_package(group: &str) -> &str {
    match group.split('.').next().unwrap_or_default() {
        "" => "core",
        first => first,
    }
}

pub(super) fn takes_gzip(encodings: &str) -> bool {
    encodings.split(',').any(|e| e.split(';').next().is_some_and(|e| e.trim() == "gzip"))
}

/// A long answer in fewer bytes, where the client reads those.
pub(super) async fn compressed(response: HttpResponse, encodings: &str) -> HttpResponse {
    // What says how long it is was made by somebody else, and is passed on as it came.
    let made = |name| response.headers().contains_key(name);
    if !takes_gzip(encodings) || made("content-encoding") || made("content-length") {
        return response;
    }
    let (response, body) = response.into_parts();
    let bytes = match body.try_into_bytes() {
        Ok(bytes) if bytes.len() > COMPRESS_BYTES_MIN => bytes,
        Ok(bytes) => return response.set_body(bytes).map_into_boxed_body(),
        // A long list, which is compressed as it is put together.
        Err(body) if matches!(body.size(), BodySize::Sized(n) if n > COMPRESS_BYTES_MIN as u64) => {
            let encoded = |head: &mut _, body| Encoder::response(ContentEncoding::Gzip, head, body);
            return response.set_body(body).map_body(encoded).map_into_boxed_body();
        }
        Err(stream) => return response.set_body(stream),
    };
    let plain = bytes.clone();
    let work = tokio::task::spawn_blocking(move || {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain)?;
        encoder.finish()
    });
    let Ok(Ok(smaller)) = work.await else { return response.set_body(bytes).map_into_boxed_body() };
    let mut response = response.set_body(smaller).map_into_boxed_body();
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("content-encoding"), HeaderValue::from_static("gzip"));
    headers.append(HeaderName::from_static("vary"), HeaderValue::from_static("Accept-Encoding"));
    response
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;

    use super::*;

    #[actix_web::test]
    async fn long_answers_are_compressed_but_for_those_that_others_made() {
        let long = Bytes::from(vec![b'a'; COMPRESS_BYTES_MIN + 1]);
        for (header, takes, compressed_to_less) in [
            (None, "gzip", true),
            (None, "identity", false),
            (Some(("content-length", long.len().to_string())), "deflate, gzip;q=1", false),
            (Some(("content-encoding", "br".to_owned())), "gzip", false),
        ] {
            let mut builder = builder(200);
            if let Some(header) = &header {
                builder.insert_header((header.0, header.1.as_str()));
            }
            let response = compressed(builder.body(long.clone()), takes).await;
            let encoding = response.headers().get("content-encoding").cloned();
            let body = to_bytes(response.into_body()).await.expect("a body");
            assert_eq!(body.len() < long.len(), compressed_to_less, "{header:?} {takes}");
            assert_eq!(encoding.is_some_and(|e| e == "gzip"), compressed_to_less);
        }
    }
}
