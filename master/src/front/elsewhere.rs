//! Paths that are no resource here: discovery, OpenAPI, health, keys, metrics, and what other servers serve.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse, web};
use protocol::{ApiError, Caller};

use super::asked::Asked;
use super::counted::seated;
use super::handle::{header, plain};
use super::negotiate::{Chosen, Form, Offer, Syntax};
use super::route::{method_not_allowed, not_found};
use super::{Documents, Shared, body, health, negotiate, openapi, pages, write};
use crate::aggregation::services::Backend;

pub(super) async fn answer(
    http: HttpRequest,
    payload: &mut Payload,
    shared: &web::Data<Shared>,
    caller: Arc<Caller>,
) -> Result<HttpResponse, ApiError> {
    let config = &shared.config;
    let (path, method) = (http.path(), http.method().as_str());
    config.gate.may_visit(&caller, method, path)?;
    let accept = header(http.headers(), "accept");
    if path == "/openapi/v2" || path == "/openapi/v3" || path.starts_with("/openapi/v3/") {
        return Ok(openapi::answer(&http, &*config.documents).await);
    }
    if ["/healthz", "/livez", "/readyz"]
        .iter()
        .any(|p| path.strip_prefix(p).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    {
        return Ok(health::answer(path, http.query_string(), &config.checks).await);
    }
    if path.starts_with("/debug/troupe/") {
        let body = body::read_all(payload).await?;
        return config.debug.handle(method, path, http.query_string(), &body).await;
    }
    let root = if path == "/index.html" { "" } else { path.trim_end_matches('/') };
    match path {
        "/metrics" => return Ok(config.debug.metrics(accept).await),
        "/metrics/slis" => return Ok(pages::health(&config.checks).await),
        "/statusz" | "/flagz" if !negotiate::reads_text(accept) => {
            return Ok(write::error(&negotiate::no_page(), Syntax::Json));
        }
        "/statusz" => return Ok(pages::status(&config.documents.paths())),
        "/flagz" => return Ok(pages::flags(std::env::args().skip(1))),
        _ if matches!(root, "/openid/v1/jwks" | "/.well-known/openid-configuration") => {
            if let Some((body, media)) = config.documents.identity(root) {
                if method != "GET" {
                    return Err(method_not_allowed());
                }
                negotiate::produces_only(accept, media)?;
                return Ok(write::cached(body, media, "public, max-age=3600"));
            }
        }
        _ if path.ends_with("//") => return Ok(page_not_found()),
        _ => {}
    }
    let path = if root.is_empty() { "/" } else { path };
    let aggregates = matches!(root, "/api" | "/apis");
    if config.documents.discovery(path, false).is_none() && root != "/api" {
        let mut segments = path.split('/').skip(1);
        let inside = match (segments.next(), segments.next()) {
            (Some("api"), _) | (Some("version"), Some(_)) => true,
            (Some("apis"), Some(group)) => !group.is_empty() && knows_group(&*config.documents, group),
            _ => false,
        };
        return if inside { Err(not_found()) } else { Ok(page_not_found()) };
    }
    // `/apis`, what is above it and the groups below are handlers that look at no method; the rest are routes, and so is
    // the group of the server that knows of all the others.
    let group = root.strip_prefix("/apis/").filter(|below| !below.contains('/'));
    let handler = root.is_empty() || root == "/apis" || group.is_some_and(|g| g != "apiregistration.k8s.io");
    if !handler && method != "GET" {
        return Err(method_not_allowed());
    }
    if !handler && root != "/version" {
        negotiate::consumes_document(header(http.headers(), "content-type"))?;
    }
    let offer = Offer { aggregates, ..Offer::PLAIN };
    // Whoever takes the aggregated form gets it, wherever among the choices it stands.
    let aggregate = aggregates.then(|| negotiate::aggregated(accept)).flatten();
    let mut chosen = match (aggregate, root) {
        (Some(chosen), _) => chosen,
        // These two are no objects: clients that prefer protobuf get JSON.
        (None, "") => Chosen::PLAIN,
        (None, "/version") => negotiate::produces_json(accept).map(|()| Chosen::PLAIN)?,
        _ if handler => negotiate::choose(accept, offer).ok_or_else(|| negotiate::not_acceptable(offer))?,
        _ => plain(accept, offer)?,
    };
    let query = super::path::query(http.query_string());
    let asked = query.iter().find(|(n, _)| n == "pretty").map(|(_, v)| v.as_str());
    chosen.pretty |= negotiate::wants_pretty(asked, header(http.headers(), "user-agent"));
    let aggregated = chosen.form == Form::Aggregated;
    let document = if root == "/api" && !aggregated {
        Some(shared.api_versions.clone())
    } else {
        config.documents.discovery(path, aggregated)
    };
    let document = document.ok_or_else(not_found)?;
    if aggregated {
        return write::aggregated(document, chosen, header(http.headers(), "if-none-match"));
    }
    if matches!(root, "" | "/version") {
        return Ok(write::page(&document));
    }
    write::document(document, chosen)
}

/// Has another server answer, in the request's seat.
pub(super) async fn aggregated(
    http: HttpRequest,
    payload: &mut Payload,
    shared: &web::Data<Shared>,
    asked: Asked,
    backend: &Backend,
    lasts: bool,
) -> Result<HttpResponse, ApiError> {
    let config = &shared.config;
    let caller = &asked.request.caller;
    match &asked.way {
        Some(_) => config.gate.may(&asked.request)?,
        None => config.gate.may_visit(caller, http.method().as_str(), http.path())?,
    }
    let permit = config.fairness.admit(&asked.attributes, 1).await;
    let payload = body::taken(&http, payload).await?;
    let serve = async || Ok(config.aggregation.serve(backend, http, payload, caller, lasts).await);
    seated(permit, serve).await
}

/// Whether a group is served, in whatever version.
pub(super) fn knows_group(documents: &dyn Documents, group: &str) -> bool {
    group.is_empty() || documents.discovery(&format!("/apis/{group}"), false).is_some()
}

/// What is nowhere.
pub(super) fn page_not_found() -> HttpResponse {
    HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body("404 page not found\n")
}
