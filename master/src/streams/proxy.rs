//! HTTP to pods, Services and nodes through the API server (`…/proxy/…`).
//!
//! The connection is made by the node where the other end is, over its link: so nodes behind a firewall can
//! be proxied to as well. One connection serves one request.

pub(crate) mod carry;
pub(crate) mod place;
pub(crate) mod reach;

use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, web};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use protocol::streams::NodeStreams;
use protocol::{ApiError, ApiRequest};

use crate::cache::Cache;
use crate::controllers::endpoints::slices_of;
use carry::Back;
use place::Place;
pub(super) use reach::Tls;

/// Whom a request is for.
pub(super) fn place(cache: &Cache, request: &ApiRequest) -> Result<Place, ApiError> {
    let target = &request.target;
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let id = target.name.as_deref().unwrap_or_default();
    let missing = |name: &str| ApiError::not_found("", &target.resource, name);
    match target.resource.as_str() {
        "pods" => {
            let asked = place::named(id, "pod")?;
            let pod = cache.get::<Pod>(namespace, asked.name).ok_or_else(|| missing(asked.name))?;
            place::of_pod(&pod, asked)
        }
        "services" => {
            let asked = place::named(id, "service")?;
            let service = cache.get::<Service>(namespace, asked.name).ok_or_else(|| missing(asked.name))?;
            service_place(cache, &service, asked)
        }
        _ => {
            let asked = place::named(id, "node")?;
            let node = cache.get::<Node>("", asked.name).ok_or_else(|| missing(asked.name))?;
            place::of_node(&node, asked)
        }
    }
}

/// One of the endpoints of a Service.
pub(crate) fn service_place(
    cache: &Cache,
    service: &Service,
    asked: place::Named<'_>,
) -> Result<Place, ApiError> {
    let slices = slices_of(cache, service.metadata.namespace.as_deref().unwrap_or_default(), asked.name);
    place::of_service(service, slices.iter().map(AsRef::as_ref), asked, actors::random::bits())
}

/// The request's own path up to and including `proxy`, and what follows it, both as they were written.
fn split_path<'a>(path: &'a str, request: &ApiRequest) -> (&'a str, &'a str) {
    // /api/v1/namespaces/NS/RESOURCE/NAME/proxy, or /api/v1/RESOURCE/NAME/proxy.
    let segments = if request.target.namespace.is_some() { 8 } else { 6 };
    match path.match_indices('/').nth(segments - 1) {
        Some((at, _)) => path.split_at(at),
        None => (path, ""),
    }
}

/// Serves one request.
pub(super) async fn serve(
    nodes: &dyn NodeStreams,
    tls: &Tls,
    place: &Place,
    http: HttpRequest,
    payload: web::Payload,
    request: &ApiRequest,
) -> Result<HttpResponse, ApiError> {
    let (prefix, rest) = split_path(http.uri().path(), request);
    let query = http.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    let upgrades = http.headers().contains_key(header::UPGRADE);
    if rest.is_empty() && !upgrades && matches!(*http.method(), Method::GET | Method::HEAD) {
        // Relative links of what is served need the slash.
        return Ok(HttpResponse::MovedPermanently()
            .insert_header((header::LOCATION, format!("{prefix}/{query}")))
            .finish());
    }
    let io = reach::connect(nodes, tls, place).await?;
    let asked = outgoing(&http, place, prefix, &format!("{rest}{query}"))?;
    carry::carry(io, asked, &http, payload, Back { prefix, time: None }).await
}

/// The request as the other end gets it, still without its body.
fn outgoing(
    http: &HttpRequest,
    place: &Place,
    prefix: &str,
    path: &str,
) -> Result<hyper::Request<()>, ApiError> {
    let malformed = |e: &dyn std::fmt::Display| ApiError::bad_request(e.to_string());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut asked = hyper::Request::builder()
        .method(http.method().as_str())
        .uri(path)
        .body(())
        .map_err(|e| malformed(&e))?;
    carry::copy_headers(http, &mut asked, carry::is_private)?;
    let headers = asked.headers_mut();
    let at = std::net::SocketAddr::new(place.address, place.port);
    carry::set(headers, "host", at.to_string().as_bytes())?;
    let scheme: &[u8] = if place.tls { b"https" } else { b"http" };
    let uri = format!("{prefix}{}", http.uri().path().get(prefix.len()..).unwrap_or_default());
    carry::set_forwarded(http, headers, scheme, &uri)?;
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use protocol::{Target, Verb};

    use super::*;

    #[test]
    fn paths_are_split_where_they_were_written() {
        for (namespace, path, expected) in [
            (Some("a"), "/api/v1/namespaces/a/pods/b/proxy", ("/api/v1/namespaces/a/pods/b/proxy", "")),
            (Some("a"), "/api/v1/namespaces/a/pods/b/proxy/", ("/api/v1/namespaces/a/pods/b/proxy", "/")),
            (
                Some("a"),
                "/api/v1/namespaces/a/services/https:b:c/proxy/d%2Fe/proxy/",
                ("/api/v1/namespaces/a/services/https:b:c/proxy", "/d%2Fe/proxy/"),
            ),
            (None, "/api/v1/nodes/n1/proxy/metrics", ("/api/v1/nodes/n1/proxy", "/metrics")),
            (None, "/api/v1/nodes/n1/proxy", ("/api/v1/nodes/n1/proxy", "")),
        ] {
            let target = Target { namespace: namespace.map(str::to_owned), ..Target::default() };
            assert_eq!(split_path(path, &ApiRequest::new(Verb::Get, target)), expected);
        }
    }
}
