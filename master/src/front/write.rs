//! Answers.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use protocol::{ApiError, ApiResponse};
use serde_json::{Value, json};

use super::Check;
use super::negotiate::Syntax;

fn builder(code: u16) -> HttpResponseBuilder {
    let mut builder =
        HttpResponse::build(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    builder.insert_header(("Cache-Control", "no-cache, private"));
    builder
}

fn body(mut builder: HttpResponseBuilder, json: Bytes, syntax: Syntax) -> HttpResponse {
    match syntax {
        Syntax::Json => builder.content_type("application/json").body(json),
        Syntax::Yaml => {
            let value: Value = serde_json::from_slice(&json).unwrap_or(Value::Null);
            match crate::yaml::to_text(&value) {
                Ok(text) => builder.content_type("application/yaml").body(text),
                Err(e) => error(&ApiError::internal(e), Syntax::Json),
            }
        }
    }
}

fn with_warnings(code: u16, warnings: &[String]) -> HttpResponseBuilder {
    let mut builder = builder(code);
    for text in warnings {
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        builder.append_header(("Warning", format!("299 - \"{quoted}\"")));
    }
    builder
}

/// What the pipeline answered, as it is.
pub(super) fn response(response: ApiResponse, syntax: Syntax) -> HttpResponse {
    let mut builder = with_warnings(response.code, &response.warnings);
    if response.code == 429 {
        builder.insert_header(("Retry-After", retry_after(&response.body)));
    }
    body(builder, response.body, syntax)
}

fn retry_after(status: &Bytes) -> String {
    let status: Value = serde_json::from_slice(status).unwrap_or(Value::Null);
    status["details"]["retryAfterSeconds"].as_u64().unwrap_or(1).to_string()
}

/// What the pipeline answered, in another form.
pub(super) fn value(response: &ApiResponse, value: &Value, syntax: Syntax) -> HttpResponse {
    body(with_warnings(response.code, &response.warnings), Bytes::from(value.to_string()), syntax)
}

/// A failure.
pub(super) fn error(error: &ApiError, syntax: Syntax) -> HttpResponse {
    let status = Bytes::from(error.to_status().to_string());
    let warnings = Vec::new();
    let code = error.code();
    let mut builder = with_warnings(code, &warnings);
    if code == 429 || code == 503 {
        builder.insert_header(("Retry-After", retry_after(&status)));
    }
    if code == 401 {
        builder.insert_header(("WWW-Authenticate", "Bearer"));
    }
    body(builder, status, syntax)
}

/// A discovery document.
pub(super) fn document(json: Bytes, aggregated: bool, syntax: Syntax) -> HttpResponse {
    let mut builder = builder(200);
    if aggregated {
        let media = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        return builder.content_type(media).insert_header(("Vary", "Accept")).body(json);
    }
    body(builder, json, syntax)
}

/// Objects reduced to their metadata.
pub(super) fn partial(mut object: Value) -> Value {
    let reduce = |mut object: Value| {
        json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": object.get_mut("metadata").map_or(Value::Null, Value::take),
        })
    };
    match object.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
            "metadata": object["metadata"].take(),
            "items": items.into_iter().map(reduce).collect::<Vec<_>>(),
        }),
        _ => reduce(object),
    }
}

/// `/livez`, `/readyz` and `/healthz`, in upstream's form.
pub(super) fn health(path: &str, query: &str, checks: &[Check]) -> HttpResponse {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (name, only) = (parts.next().unwrap_or_default(), parts.next());
    let query = super::path::query(query);
    let excluded = |check: &str| query.iter().any(|(n, v)| n == "exclude" && v == check);
    let mut lines = String::new();
    let mut failed = false;
    let mut found = only.is_none_or(|only| only == "ping");
    let mut ping = vec![("ping", Ok(()))];
    ping.extend(checks.iter().map(|(name, check)| (*name, check())));
    for (check, result) in ping {
        if only.is_some_and(|only| only != check) {
            continue;
        }
        found = true;
        match result {
            _ if excluded(check) => lines.push_str(&format!("[+]{check} excluded: ok\n")),
            Ok(()) => lines.push_str(&format!("[+]{check} ok\n")),
            Err(why) => {
                failed = true;
                tracing::warn!(check, why, "health check failed");
                lines.push_str(&format!("[-]{check} failed: reason withheld\n"));
            }
        }
    }
    let mut response = builder(match (found, failed) {
        (false, _) => 404,
        (_, true) => 500,
        _ => 200,
    });
    let response = response.content_type("text/plain; charset=utf-8");
    if !found {
        return response.body("404 page not found\n");
    }
    let verbose = query.iter().any(|(name, _)| name == "verbose");
    match (failed, verbose) {
        (false, false) => response.body("ok"),
        (false, true) => response.body(format!("{lines}{name} check passed\n")),
        (true, _) => response.body(format!("{lines}{name} check failed\n")),
    }
}
