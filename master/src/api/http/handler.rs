//! One HTTP request, from its head to its answer.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use protocol::{ApiError, ApiRequest, Caller, PatchKind, Resource, Target, Verb, resources};
use serde_json::{Value, json};

use super::answer::{self, Include};
use super::negotiate::{self, Form, Syntax};
use super::path::{self, Place};
use super::{ClientCertificate, Shared, discovery, health, openapi, streams};
use crate::api::pipeline::method_not_allowed;
use crate::api::registry::not_served;
use crate::auth::{Attributes, Authorizer, Impersonation};

/// The largest request body.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// The most bytes of a User-Agent that are kept.
const USER_AGENT_BYTES_MAX: usize = 256;

/// Answers every request.
pub async fn handle(request: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> HttpResponse {
    let cause = text(request.headers(), "traceparent").and_then(actors::TraceContext::from_traceparent);
    let key: Arc<str> = request.path().into();
    let failed =
        |response: &HttpResponse| response.status().is_client_error() || response.status().is_server_error();
    let method = format!("HttpRequest {}", request.method());
    let work = answer_request(request, payload, &shared);
    actors::trace::step_caused_by(cause.unwrap_or_default(), "master/http", &method, Some(key), failed, work)
        .await
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

async fn answer_request(request: HttpRequest, payload: web::Payload, shared: &Shared) -> HttpResponse {
    let caller = match authenticate(&request, shared).await {
        Ok(caller) => caller,
        Err(error) => return answer::error(&error, Syntax::Json),
    };
    let place = path::place(request.uri().path());
    let query = path::query(request.query_string());
    let outcome = match place {
        Place::Resource { target, rest, watch } => {
            let wanted = Wanted { caller, target, rest, watch, query };
            resource(request.clone(), payload, shared, wanted).await
        }
        Place::Other => other(&request, shared, &caller, &query).await,
        place => documents(&request, shared, &caller, place).await,
    };
    outcome.unwrap_or_else(|error| {
        let form = negotiate::form(accept(&request), false).unwrap_or_default();
        answer::error(&error, form.syntax)
    })
}

fn accept(request: &HttpRequest) -> &str {
    text(request.headers(), "accept").unwrap_or_default()
}

/// Who asks, and whom they ask to be taken for.
async fn authenticate(request: &HttpRequest, shared: &Shared) -> Result<Caller, ApiError> {
    let certificate = request.conn_data::<ClientCertificate>();
    let authorization = text(request.headers(), "authorization");
    let authenticator = shared.pipeline.authenticator();
    let caller = authenticator.authenticate(certificate.map(|c| c.0.as_slice()), authorization)?;
    let headers = request.headers().iter().filter_map(|(k, v)| Some((k.as_str(), v.to_str().ok()?)));
    let Some(wanted) = Impersonation::from_headers(headers)? else { return Ok(caller) };
    for attributes in wanted.permissions(&caller) {
        shared.pipeline.authorizer().require(&attributes).await?;
    }
    Ok(wanted.caller())
}

/// Paths that belong to no resource.
async fn other(
    request: &HttpRequest,
    shared: &Shared,
    caller: &Caller,
    query: &[(String, String)],
) -> Result<HttpResponse, ApiError> {
    let path = request.uri().path();
    let method = request.method().as_str();
    let verb = rbac_method(method);
    shared.pipeline.authorizer().require(&Attributes::path(caller.clone(), verb, path)).await?;
    let plain = |code: u16, text: String| answer::raw(code, "text/plain; charset=utf-8", Bytes::from(text));
    let missing = || plain(404, "404 page not found\n".to_owned());
    let first = path.trim_matches('/').split('/').next().unwrap_or_default();
    Ok(match first {
        "" => answer::value(200, &json!({"paths": discovery::paths()}), Syntax::Json),
        "healthz" | "livez" | "readyz" => match health::page(path, query, shared.pipeline.cache()) {
            Some((code, page)) => plain(code, page),
            None => missing(),
        },
        "version" => answer::value(200, &discovery::version(), Syntax::Json),
        "metrics" => match &shared.mounts.metrics {
            Some(render) => {
                answer::raw(200, "text/plain; version=0.0.4; charset=utf-8", Bytes::from(render()))
            }
            None => missing(),
        },
        "openapi" => openapi::answer(path, accept(request)).unwrap_or_else(missing),
        ".well-known" => {
            let keys = shared.pipeline.authenticator().keys();
            let uri = format!("https://{}/openid/v1/jwks", shared.advertise);
            answer::value(200, &keys.openid_configuration(&uri), Syntax::Json)
        }
        "openid" => {
            let keys = shared.pipeline.authenticator().keys().jwks();
            answer::raw(200, "application/jwk-set+json", Bytes::from(keys.to_string()))
        }
        _ => missing(),
    })
}

fn rbac_method(method: &str) -> &'static str {
    match method {
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "HEAD" => "head",
        "OPTIONS" => "options",
        _ => "get",
    }
}

/// Discovery.
async fn documents(
    request: &HttpRequest,
    shared: &Shared,
    caller: &Caller,
    place: Place,
) -> Result<HttpResponse, ApiError> {
    let attributes =
        Attributes::path(caller.clone(), rbac_method(request.method().as_str()), request.uri().path());
    shared.pipeline.authorizer().require(&attributes).await?;
    let core = place == Place::CoreVersions;
    let top = core || place == Place::Groups;
    if !top
        && request.method() != actix_web::http::Method::GET
        && request.method() != actix_web::http::Method::HEAD
    {
        return Err(method_not_allowed());
    }
    let form = negotiate::form(accept(request), true).ok_or_else(not_acceptable)?;
    let document = match (&place, form.shape) {
        (_, negotiate::Shape::Discovery(version)) if top => {
            let body = discovery::aggregated(core, version);
            let media =
                format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
            return Ok(answer::raw(200, &media, Bytes::from(body.to_string())));
        }
        (Place::CoreVersions, _) => Some(discovery::core_versions(&shared.advertise)),
        (Place::Groups, _) => Some(discovery::groups()),
        (Place::Group(group), _) => discovery::group(group),
        (Place::Resources(group, version), _) => discovery::resources(group, version),
        _ => None,
    };
    let document = document.ok_or_else(not_served)?;
    Ok(answer::value(200, &document, form.syntax))
}

fn not_acceptable() -> ApiError {
    ApiError::new(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
    )
}

struct Wanted {
    caller: Caller,
    target: Target,
    rest: String,
    watch: bool,
    query: Vec<(String, String)>,
}

/// Subresources that are streams to, or through, a node.
fn is_stream(target: &Target) -> bool {
    matches!(target.subresource.as_deref(), Some("log" | "exec" | "attach" | "portforward" | "proxy"))
}

/// A request about a resource.
async fn resource(
    http: HttpRequest,
    payload: web::Payload,
    shared: &Shared,
    wanted: Wanted,
) -> Result<HttpResponse, ApiError> {
    let Wanted { caller, target, rest, watch, mut query } = wanted;
    let watch = watch || query.iter().find(|(k, _)| k == "watch").is_some_and(|(_, v)| path::boolean(v));
    let found = resources::find(&target.group, &target.version, &target.resource);
    let method = http.method().as_str();
    let verb = path::verb(method, &target, watch);
    let mut request = ApiRequest::new(verb.unwrap_or(Verb::Get), target);
    request.caller = caller;
    request.user_agent = user_agent(&http);
    let Some(found) = found else {
        shared.pipeline.authorize(&request).await?;
        return Err(not_served());
    };
    if is_stream(&request.target) && request.target.name.is_some() {
        return stream(http, payload, shared, request, found, rest, &mut query).await;
    }
    let Some(verb) = verb else {
        if method == "HEAD" {
            return Ok(answer::raw(405, "application/json", Bytes::new()));
        }
        return Err(method_not_allowed());
    };
    shared.pipeline.authorize(&request).await?;
    offered(&request, found, verb)?;
    let form = negotiate::form(accept(&http), false).ok_or_else(not_acceptable)?;
    let include = Include::of(&query);
    request.options = path::options(&query, Some(verb))?;
    if verb == Verb::Watch {
        let events = shared.pipeline.open_watch(&request).await?;
        return Ok(streams::watch(found, events, form, include));
    }
    if verb.is_write() {
        let body = read_body(payload).await?;
        fill_body(&mut request, &http, body)?;
    }
    let response = shared.pipeline.perform(&request).await;
    Ok(respond(&http, found, response, form, include, &request.target))
}

/// Whether the resource offers the verb; subresources are checked by the pipeline too.
fn offered(request: &ApiRequest, found: &Resource, verb: Verb) -> Result<(), ApiError> {
    let verbs = match request.target.subresource.as_deref() {
        None => found.verbs,
        Some(name) => found.subresource(name).ok_or_else(not_served)?.verbs,
    };
    let across =
        found.namespaced && request.target.namespace.is_none() && !matches!(verb, Verb::List | Verb::Watch);
    // A kind that is only ever created may be posted anywhere.
    let create_only = !found.is_stored();
    if !verbs.contains(&verb) || (across && !create_only) {
        return Err(method_not_allowed());
    }
    if request.target.subresource.is_none() {
        let collection = matches!(verb, Verb::Create | Verb::List | Verb::DeleteCollection);
        if collection && request.target.name.is_some() {
            return Err(method_not_allowed());
        }
    }
    Ok(())
}

fn respond(
    http: &HttpRequest,
    resource: &Resource,
    response: protocol::ApiResponse,
    form: Form,
    include: Include,
    target: &Target,
) -> HttpResponse {
    // A subresource of another kind has no columns here.
    let form = match target.subresource.as_deref() {
        Some(name) if resource.subresource(name).is_some_and(|s| s.kind != resource.kind) => {
            Form { shape: negotiate::Shape::Object, ..form }
        }
        _ => form,
    };
    let body = match answer::shaped(resource, &response.body, form, include) {
        Ok(body) => body,
        Err(error) => return answer::error(&error, form.syntax),
    };
    let encodings = text(http.headers(), "accept-encoding").unwrap_or_default();
    let (body, packed) = answer::compressed(encodings, body);
    let mut answer = answer::raw(response.code, form.syntax.media_type(), body);
    if packed {
        answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    let name = HeaderName::from_static("warning");
    for warning in &response.warnings {
        if let Ok(value) = HeaderValue::from_str(&answer::warning(warning)) {
            answer.headers_mut().append(name.clone(), value);
        }
    }
    if response.code >= 400 {
        let status: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        if let Some(seconds) = status["details"]["retryAfterSeconds"].as_u64() {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
    answer
}

async fn stream(
    http: HttpRequest,
    payload: web::Payload,
    shared: &Shared,
    mut request: ApiRequest,
    found: &Resource,
    rest: String,
    query: &mut Vec<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let name = request.target.subresource.clone().unwrap_or_default();
    let offered = found.subresource(&name).ok_or_else(not_served)?;
    // Streams are opened by GET too (WebSocket), but that is not a read.
    request.verb = match (http.method().as_str(), name.as_str()) {
        (_, "exec" | "attach" | "portforward") => Verb::Create,
        ("GET" | "HEAD", _) => Verb::Get,
        ("PUT", _) => Verb::Update,
        ("PATCH", _) => Verb::Patch,
        ("DELETE", _) => Verb::Delete,
        _ => Verb::Create,
    };
    shared.pipeline.authorize(&request).await?;
    if !offered.verbs.contains(&request.verb) {
        return Err(method_not_allowed());
    }
    let Some(router) = &shared.mounts.streams else {
        return Err(ApiError::new(503, "ServiceUnavailable", "this server has no way to nodes"));
    };
    if name == "proxy" {
        query.push(("path".to_owned(), rest));
    }
    Ok(router.handle(http, payload, request.caller, request.target, std::mem::take(query)).await)
}

fn user_agent(http: &HttpRequest) -> String {
    let agent = text(http.headers(), "user-agent").unwrap_or_default();
    agent.chars().take(USER_AGENT_BYTES_MAX).collect()
}

async fn read_body(mut payload: web::Payload) -> Result<Bytes, ApiError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|e| ApiError::bad_request(e.to_string()))?;
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(ApiError::about(
                413,
                "RequestEntityTooLarge",
                format!("Request entity too large: limit is {BODY_BYTES_MAX}"),
                json!({}),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Puts the body into the request, as JSON.
fn fill_body(request: &mut ApiRequest, http: &HttpRequest, body: Bytes) -> Result<(), ApiError> {
    let content_type = text(http.headers(), "content-type").unwrap_or_default();
    if request.verb == Verb::Patch {
        let kind = negotiate::patch_kind(content_type)
            .ok_or_else(crate::api::registry::update::unsupported_media)?;
        request.patch = Some(kind);
        request.body = if kind == PatchKind::Apply { yaml(&body)? } else { body };
        return Ok(());
    }
    let syntax = negotiate::body_syntax(content_type).ok_or_else(|| {
        ApiError::new(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf",
        )
    })?;
    request.body = match syntax {
        Syntax::Yaml => yaml(&body)?,
        Syntax::Json => body,
    };
    if matches!(request.verb, Verb::Delete | Verb::DeleteCollection) {
        delete_options(request)?;
    }
    Ok(())
}

fn yaml(body: &Bytes) -> Result<Bytes, ApiError> {
    if body.first().is_some_and(|b| *b == b'{') {
        return Ok(body.clone());
    }
    let value: Value = serde_saphyr::from_slice(body)
        .map_err(|e| ApiError::bad_request(format!("error converting YAML to JSON: yaml: {e}")))?;
    Ok(Bytes::from(value.to_string()))
}

/// The body of a DELETE holds its options.
fn delete_options(request: &mut ApiRequest) -> Result<(), ApiError> {
    let body = std::mem::take(&mut request.body);
    if body.is_empty() {
        return Ok(());
    }
    let definition = protocol::schema::definition("m.DeleteOptions")
        .ok_or_else(|| ApiError::internal("no DeleteOptions"))?;
    let decoded = protocol::schema::decode(definition, &body).map_err(ApiError::bad_request)?;
    let given = decoded.value;
    let options = &mut request.options;
    let text = |v: &Value| v.as_str().map(str::to_owned);
    options.grace_period_seconds = given["gracePeriodSeconds"].as_i64().or(options.grace_period_seconds);
    options.propagation_policy = text(&given["propagationPolicy"]).or(options.propagation_policy.take());
    options.orphan_dependents = given["orphanDependents"].as_bool().or(options.orphan_dependents);
    options.precondition_uid = text(&given["preconditions"]["uid"]);
    options.precondition_resource_version = text(&given["preconditions"]["resourceVersion"]);
    let dry: Vec<String> = given["dryRun"].as_array().into_iter().flatten().filter_map(text).collect();
    if dry.iter().any(|d| d != "All") {
        return Err(crate::api::pipeline::bad_dry_run("DeleteOptions", &dry));
    }
    options.dry_run |= !dry.is_empty();
    Ok(())
}
