//! The form of an answer: JSON, YAML, Table, metadata only; compressed where that pays.

use std::io::Write;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use protocol::{ApiError, Resource};
use serde_json::{Value, json};

use super::negotiate::{Form, Shape, Syntax};
use crate::api::tables;

/// Smaller answers are not worth compressing.
const GZIP_BYTES_MIN: usize = 128 * 1024;

/// A body of one syntax.
pub fn encode(value: &Value, syntax: Syntax) -> Bytes {
    match syntax {
        Syntax::Json => Bytes::from(value.to_string()),
        Syntax::Yaml => Bytes::from(serde_saphyr::to_string(value).unwrap_or_default()),
    }
}

/// An answer of some bytes.
pub fn raw(code: u16, media_type: &str, body: Bytes) -> HttpResponse {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(code).content_type(media_type).body(body)
}

/// An answer of some JSON value.
pub fn value(code: u16, value: &Value, syntax: Syntax) -> HttpResponse {
    raw(code, syntax.media_type(), encode(value, syntax))
}

/// A refusal.
pub fn error(error: &ApiError, syntax: Syntax) -> HttpResponse {
    let status = error.to_status();
    let mut response = value(error.code(), &status, syntax);
    if let Some(seconds) = status["details"]["retryAfterSeconds"].as_u64() {
        let header = actix_web::http::header::HeaderValue::from(seconds);
        response.headers_mut().insert(actix_web::http::header::RETRY_AFTER, header);
    }
    response
}

/// Turns an answer's JSON into the form that was asked for.
pub fn shaped(resource: &Resource, body: &Bytes, form: Form, include: Include) -> Result<Bytes, ApiError> {
    if form == Form::default() {
        return Ok(body.clone());
    }
    let value: Value = serde_json::from_slice(body).map_err(ApiError::internal)?;
    if value["kind"] == "Status" {
        return Ok(encode(&value, form.syntax));
    }
    let shaped = match form.shape {
        Shape::Table(version) => table(resource, &value, version, include),
        Shape::Partial(version) => partial(&value, version),
        _ => value,
    };
    Ok(encode(&shaped, form.syntax))
}

/// What a Table's rows carry of their objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Their metadata.
    #[default]
    Metadata,
    /// All.
    Object,
    /// Nothing.
    Nothing,
}

impl Include {
    /// Reads `includeObject`.
    pub fn of(query: &[(String, String)]) -> Include {
        match query.iter().find(|(k, _)| k == "includeObject").map(|(_, v)| v.as_str()) {
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        }
    }
}

/// A Table of an object or a list.
pub fn table(resource: &Resource, value: &Value, version: &str, include: Include) -> Value {
    let single;
    let (items, meta) = match value["items"].as_array() {
        Some(items) if resource.list_kind == value["kind"] => (items.as_slice(), value["metadata"].clone()),
        _ => {
            single = [value.clone()];
            (&single[..], json!({"resourceVersion": value["metadata"]["resourceVersion"]}))
        }
    };
    let rows: Vec<Value> = items.iter().map(|item| row(resource, item, version, include)).collect();
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": meta,
        "columnDefinitions": columns(resource), "rows": rows,
    })
}

/// A Table's headers.
pub fn columns(resource: &Resource) -> Vec<Value> {
    let columns = tables::columns(resource);
    columns
        .iter()
        .map(|c| json!({"name": c.name, "type": c.kind, "format": c.format, "description": "", "priority": c.priority}))
        .collect()
}

fn row(resource: &Resource, item: &Value, version: &str, include: Include) -> Value {
    let mut row = json!({"cells": tables::cells(resource, item)});
    if let Some(conditions) = tables::conditions(resource, item) {
        row["conditions"] = conditions;
    }
    match include {
        Include::Nothing => {}
        Include::Metadata => row["object"] = partial_object(item, version),
        Include::Object => {
            let mut object = item.clone();
            object["kind"] = resource.kind.into();
            object["apiVersion"] = resource.api_version().into();
            row["object"] = object;
        }
    }
    row
}

fn partial_object(item: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": item["metadata"],
    })
}

/// The metadata of an object or a list.
pub fn partial(value: &Value, version: &str) -> Value {
    match value["items"].as_array() {
        Some(items) => {
            let items: Vec<Value> = items.iter().map(|i| partial_object(i, version)).collect();
            json!({
                "kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": value["metadata"], "items": items,
            })
        }
        None => partial_object(value, version),
    }
}

/// Compresses a big body for a client that can read that.
pub fn compressed(accept_encoding: &str, body: Bytes) -> (Bytes, bool) {
    if body.len() < GZIP_BYTES_MIN || !accept_encoding.split(',').any(|e| e.trim().starts_with("gzip")) {
        return (body, false);
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing to memory does not fail.
    match encoder.write_all(&body).and_then(|()| encoder.finish()) {
        Ok(packed) => (Bytes::from(packed), true),
        Err(_) => (body, false),
    }
}

/// The text of a `Warning` header.
pub fn warning(text: &str) -> String {
    format!("299 - {text:?}")
}
