//! One HTTP request.

use std::sync::Arc;

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use actors::{TraceContext, trace};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use protocol::{ApiError, ApiRequest, ApiResponse, Caller, Verb};
use serde_json::Value;

use super::negotiate::{self, BodyType, Form, Syntax};
use super::path::{self, Named};
use super::{BODY_BYTES_MAX, ClientCertificate, Shared, watch, write};

/// Subresources that are streams, not objects.
const STREAMS: &[&str] = &["log", "exec", "attach", "portforward", "proxy"];

pub(super) async fn handle(
    http: HttpRequest,
    payload: web::Payload,
    shared: web::Data<Shared>,
) -> HttpResponse {
    let accepted = negotiate::accept(header(http.headers(), "accept"));
    // An error is always an answer the client can read.
    let (form, syntax) = accepted.unwrap_or((Form::Object, Syntax::Json));
    match answer(http, payload, &shared, accepted).await {
        Ok(response) => response,
        Err(e) => write::error(&e, if form == Form::Aggregated { Syntax::Json } else { syntax }),
    }
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

async fn answer(
    http: HttpRequest,
    payload: web::Payload,
    shared: &web::Data<Shared>,
    accepted: Option<(Form, Syntax)>,
) -> Result<HttpResponse, ApiError> {
    let config = &shared.config;
    let certificate = http.conn_data::<ClientCertificate>().map(|c| c.0.as_slice());
    let caller = config.gate.caller(certificate, http.headers()).await?;
    let Some(named) = path::parse(http.path()) else {
        config.gate.may_visit(&caller, http.method().as_str(), http.path())?;
        return elsewhere(&http, payload, shared, accepted, &caller).await;
    };
    let Some(resource) = config.documents.kind(&named.target) else {
        config.gate.may_visit(&caller, http.method().as_str(), http.path())?;
        return Err(ApiError::about(
            404,
            "NotFound",
            "the server could not find the requested resource",
            serde_json::json!({}),
        ));
    };
    let (options, watching) =
        path::options(path::query(http.query_string())).map_err(ApiError::bad_request)?;
    let verb =
        path::verb(http.method().as_str(), &named, watching).ok_or_else(|| method_not_allowed(&named))?;
    let mut request = ApiRequest::new(verb, named.target.clone());
    request.caller = caller.clone();
    request.options = options;
    request.user_agent = header(http.headers(), "user-agent").to_owned();

    if named.target.subresource.as_deref().is_some_and(|s| STREAMS.contains(&s)) {
        // kubectl opens an exec with GET or POST alike; RBAC knows both as upstream does.
        config.gate.may(&request)?;
        let (streams, rest) = (config.streams.clone(), named.rest.clone());
        let key = key_of(&request);
        let cause = cause_of(http.headers());
        let kind = format!("{} {}", verb, named.target.subresource.as_deref().unwrap_or_default());
        let work = streams.serve(http, payload, request, rest);
        return Ok(trace::step_caused_by(
            cause,
            "master/front",
            &kind,
            key,
            |r| !r.status().is_success(),
            work,
        )
        .await);
    }
    let Some((form, syntax)) = accepted else { return Err(not_acceptable()) };
    let door = (config.door)(caller);
    if verb == Verb::Watch {
        let columns = (form == Form::Table).then(|| (config.documents.clone(), include_object(&request)));
        let events = door.watch(request).await?;
        return Ok(watch::respond(events, resource, form, syntax, columns));
    }
    read_body(&http, payload, &mut request).await?;
    let include = include_object(&request);
    let response = call(&http, door, request).await?;
    if response.code >= 400 {
        return Ok(write::response(response, syntax));
    }
    match form {
        Form::Object | Form::Aggregated => Ok(write::response(response, syntax)),
        Form::Table => {
            let object: Value = serde_json::from_slice(&response.body).map_err(ApiError::internal)?;
            match config.documents.table(resource, &object, &include) {
                Some(table) => Ok(write::value(&response, &table, syntax)),
                None => Ok(write::response(response, syntax)),
            }
        }
        Form::Partial => {
            let object: Value = serde_json::from_slice(&response.body).map_err(ApiError::internal)?;
            Ok(write::value(&response, &write::partial(object), syntax))
        }
    }
}

/// Calls the pipeline; a write is the root (or, with a `traceparent`, a link) of a causal chain.
async fn call(
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

fn cause_of(headers: &HeaderMap) -> TraceContext {
    TraceContext::from_traceparent(header(headers, "traceparent")).unwrap_or_default()
}

/// The object a request is about, as traces name it. A new object's name stands in its body.
fn key_of(request: &ApiRequest) -> Option<Arc<str>> {
    #[derive(serde::Deserialize)]
    struct Body {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        name: Option<String>,
    }
    let target = &request.target;
    let from_body = || serde_json::from_slice::<Body>(&request.body).ok().and_then(|b| b.metadata.name);
    let name = target.name.clone().or_else(from_body).unwrap_or_default();
    let key = match &target.namespace {
        Some(namespace) => format!("{}/{namespace}/{name}", target.resource),
        None => format!("{}/{name}", target.resource),
    };
    Some(key.into())
}

fn include_object(request: &ApiRequest) -> String {
    let found = request.options.extra.iter().find(|(name, _)| name == "includeObject");
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

fn method_not_allowed(named: &Named) -> ApiError {
    ApiError::about(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        serde_json::json!({"kind": named.target.resource}),
    )
}

fn not_acceptable() -> ApiError {
    ApiError::new(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
    )
}

/// Reads the body within the limit.
async fn read_all(mut payload: web::Payload) -> Result<Bytes, ApiError> {
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

async fn read_body(
    http: &HttpRequest,
    payload: web::Payload,
    request: &mut ApiRequest,
) -> Result<(), ApiError> {
    if matches!(request.verb, Verb::Get | Verb::List | Verb::Watch) {
        return Ok(());
    }
    let body = read_all(payload).await?;
    let said = header(http.headers(), "content-type");
    let kind = negotiate::content_type(said).ok_or_else(|| unsupported(request.verb))?;
    let (body, kind) = match kind {
        BodyType::Protobuf if body.is_empty() => (body, BodyType::Json),
        BodyType::Protobuf => {
            let json = protocol::schema::protobuf::to_json(&body)
                .map_err(|e| ApiError::bad_request(e.to_string()))?;
            (Bytes::from(json), BodyType::Json)
        }
        kind => (body, kind),
    };
    match (request.verb, kind) {
        (Verb::Patch, BodyType::Patch(kind)) => {
            request.patch = Some(kind);
            request.body = body;
        }
        (Verb::Patch, _) | (_, BodyType::Patch(_)) => return Err(unsupported(request.verb)),
        (Verb::Delete | Verb::DeleteCollection, kind) => {
            if !body.is_empty() {
                let json = if kind == BodyType::Yaml { yaml_to_json(&body)? } else { body };
                let value: Value = serde_json::from_slice(&json).map_err(|e| {
                    ApiError::bad_request(format!("couldn't get version/kind; json parse error: {e}"))
                })?;
                path::delete_options(&mut request.options, &value).map_err(ApiError::bad_request)?;
                // Some DELETEs take no options but an object (a collection of a subresource): it passes on.
                request.body = json;
            }
        }
        (_, BodyType::Yaml) => request.body = yaml_to_json(&body)?,
        (_, BodyType::Json | BodyType::Protobuf) => request.body = body,
    }
    Ok(())
}

fn unsupported(verb: Verb) -> ApiError {
    let accepted = if verb == Verb::Patch {
        "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
         application/apply-patch+yaml"
    } else {
        "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    };
    ApiError::new(
        415,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        ),
    )
}

fn yaml_to_json(body: &Bytes) -> Result<Bytes, ApiError> {
    let text = std::str::from_utf8(body)
        .map_err(|e| ApiError::bad_request(format!("error converting YAML to JSON: {e}")))?;
    let value: Value = serde_saphyr::from_str(text)
        .map_err(|e| ApiError::bad_request(format!("error converting YAML to JSON: yaml: {e}")))?;
    Ok(Bytes::from(value.to_string()))
}

/// Paths that are no resource.
async fn elsewhere(
    http: &HttpRequest,
    payload: web::Payload,
    shared: &web::Data<Shared>,
    accepted: Option<(Form, Syntax)>,
    _caller: &Caller,
) -> Result<HttpResponse, ApiError> {
    let config = &shared.config;
    let path = http.path();
    if path.starts_with("/openapi/") {
        let accept = header(http.headers(), "accept");
        let (body, media) = config.documents.openapi(path, accept).ok_or_else(not_found)?;
        return Ok(HttpResponse::Ok().content_type(media).body(body));
    }
    match path {
        "/healthz" | "/livez" | "/readyz" => {
            return Ok(write::health(path, http.query_string(), &config.checks));
        }
        "/metrics" => return Ok(config.debug.metrics()),
        _ => {}
    }
    if path.starts_with("/healthz/") || path.starts_with("/livez/") || path.starts_with("/readyz/") {
        return Ok(write::health(path, http.query_string(), &config.checks));
    }
    if path.starts_with("/debug/troupe/") {
        let body = read_all(payload).await?;
        return config.debug.handle(http.method().as_str(), path, http.query_string(), &body).await;
    }
    let (form, syntax) = accepted.ok_or_else(not_acceptable)?;
    let plain_api = path.trim_end_matches('/') == "/api" && form != Form::Aggregated;
    let document = if plain_api {
        Some(shared.api_versions.clone())
    } else {
        config.documents.discovery(path, form == Form::Aggregated)
    };
    match document {
        Some(body) => Ok(write::document(body, form == Form::Aggregated && is_root(path), syntax)),
        None if path.starts_with("/api/") || path.starts_with("/apis/") => Err(not_found()),
        None => Ok(HttpResponse::NotFound()
            .content_type("text/plain; charset=utf-8")
            .body("404 page not found\n")),
    }
}

fn is_root(path: &str) -> bool {
    matches!(path.trim_end_matches('/'), "/api" | "/apis")
}

fn not_found() -> ApiError {
    ApiError::about(
        404,
        "NotFound",
        "the server could not find the requested resource",
        serde_json::json!({}),
    )
}
