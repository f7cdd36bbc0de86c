//! HTTP to pods, Services and nodes through the API server (`…/proxy/…`).
//!
//! The connection is made by the node where the other end is, over its link: so nodes behind a firewall can
//! be proxied to as well. One connection serves one request; a request that upgrades (to a WebSocket, say)
//! keeps it as a plain pipe.

mod place;
mod reach;

use std::convert::Infallible;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Either, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use protocol::streams::NodeStreams;
use protocol::{ApiError, ApiRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cache::Cache;
use place::Place;
pub(super) use reach::Tls;

/// The most that one read of an upgraded connection takes.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// The label by which a slice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Headers that are about one connection, not about the request.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

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
            let slices = cache.list::<EndpointSlice>(namespace);
            let of = |s: &&EndpointSlice| {
                s.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME)).is_some_and(|n| n == asked.name)
            };
            let slices = slices.iter().map(AsRef::as_ref).filter(of);
            place::of_service(&service, slices, asked, actors::random::bits())
        }
        _ => {
            let asked = place::named(id, "node")?;
            let node = cache.get::<Node>("", asked.name).ok_or_else(|| missing(asked.name))?;
            place::of_node(&node, asked)
        }
    }
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
    let upgrade = http.headers().get(header::UPGRADE).cloned();
    if rest.is_empty() && upgrade.is_none() && matches!(*http.method(), Method::GET | Method::HEAD) {
        // Relative links of what is served need the slash.
        return Ok(HttpResponse::MovedPermanently()
            .insert_header((header::LOCATION, format!("{prefix}/{query}")))
            .finish());
    }
    let io = reach::connect(nodes, tls, place).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|e| reach::unreachable(&e))?;
    actors::spawn(async move {
        // Its failure is the request's failure, or of no interest any more.
        let _ = connection.with_upgrades().await;
    });
    let mut asked = outgoing(&http, place, prefix, &format!("{rest}{query}"))?;
    if let Some(protocol) = &upgrade {
        set(asked.headers_mut(), "connection", b"Upgrade")?;
        set(asked.headers_mut(), "upgrade", protocol.as_bytes())?;
        let answer = sender.send_request(asked.map(|()| empty())).await;
        return upgraded(answer.map_err(|e| reach::unreachable(&e))?, payload, prefix).await;
    }
    let has_body = http.headers().contains_key(header::CONTENT_LENGTH)
        || http.headers().contains_key(header::TRANSFER_ENCODING);
    let body = if has_body || http.version() == actix_web::http::Version::HTTP_2 {
        passed_on(payload)
    } else {
        empty()
    };
    let answer = sender.send_request(asked.map(|()| body)).await.map_err(|e| reach::unreachable(&e))?;
    Ok(answered(answer, prefix))
}

type Pieces = futures::stream::LocalBoxStream<'static, std::io::Result<Frame<Bytes>>>;
type Body = Either<
    StreamBody<Pieces>,
    http_body_util::combinators::MapErr<Empty<Bytes>, fn(Infallible) -> std::io::Error>,
>;

fn empty() -> Body {
    Either::Right(Empty::new().map_err(|never: Infallible| match never {}))
}

fn passed_on(payload: web::Payload) -> Body {
    let pieces = payload.map(|piece| piece.map(Frame::data).map_err(std::io::Error::other));
    Either::Left(StreamBody::new(pieces.boxed_local()))
}

fn set(headers: &mut hyper::HeaderMap, name: &str, value: &[u8]) -> Result<(), ApiError> {
    let name = hyper::header::HeaderName::from_bytes(name.as_bytes())
        .map_err(|e| ApiError::bad_request(e.to_string()))?;
    let value =
        hyper::header::HeaderValue::from_bytes(value).map_err(|e| ApiError::bad_request(e.to_string()))?;
    headers.insert(name, value);
    Ok(())
}

/// Who the client is to the API server is nobody else's business.
fn is_private(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION || name.as_str().starts_with("impersonate-")
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
    let headers = asked.headers_mut();
    for (name, value) in http.headers() {
        if HOP_BY_HOP.contains(name) || is_private(name) || *name == header::HOST {
            continue;
        }
        let name =
            hyper::header::HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|e| malformed(&e))?;
        let value = hyper::header::HeaderValue::from_bytes(value.as_bytes()).map_err(|e| malformed(&e))?;
        headers.append(name, value);
    }
    let at = std::net::SocketAddr::new(place.address, place.port);
    set(headers, "host", at.to_string().as_bytes())?;
    let host = http.headers().get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    set(headers, "x-forwarded-host", host)?;
    set(headers, "x-forwarded-proto", if place.tls { b"https" } else { b"http" })?;
    set(
        headers,
        "x-forwarded-uri",
        format!("{prefix}{}", http.uri().path().get(prefix.len()..).unwrap_or_default()).as_bytes(),
    )?;
    if let Some(peer) = http.peer_addr() {
        set(headers, "x-forwarded-for", peer.ip().to_string().as_bytes())?;
    }
    Ok(asked)
}

/// Status and headers of an answer. Where it redirects within the place, it does so below `prefix`.
fn head(answer: &hyper::http::response::Parts, prefix: &str) -> actix_web::HttpResponseBuilder {
    let status = StatusCode::from_u16(answer.status.as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = HttpResponse::build(status);
    for (name, value) in &answer.headers {
        let Ok(name) = HeaderName::from_bytes(name.as_str().as_bytes()) else { continue };
        if HOP_BY_HOP.contains(&name) {
            continue;
        }
        let value = match value.to_str() {
            Ok(path) if name == header::LOCATION && path.starts_with('/') => {
                format!("{prefix}{path}").into_bytes()
            }
            _ => value.as_bytes().to_vec(),
        };
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            response.append_header((name, value));
        }
    }
    response
}

fn answered(answer: hyper::Response<Incoming>, prefix: &str) -> HttpResponse {
    let (parts, body) = answer.into_parts();
    let length = parts.headers.get(hyper::header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok());
    let mut response = head(&parts, prefix);
    if let Some(length) = length {
        response.no_chunking(length);
    }
    let pieces = body.into_data_stream().map(|piece| piece.map_err(std::io::Error::other));
    response.streaming(pieces)
}

/// The answer to a request that wanted to upgrade: from then on both sides' bytes are passed on, or, where
/// the other end did not want to, an answer like any other.
async fn upgraded(
    mut answer: hyper::Response<Incoming>,
    mut payload: web::Payload,
    prefix: &str,
) -> Result<HttpResponse, ApiError> {
    if answer.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answered(answer, prefix));
    }
    let upgrading = hyper::upgrade::on(&mut answer);
    let (parts, _) = answer.into_parts();
    let protocol =
        parts.headers.get(hyper::header::UPGRADE).and_then(|p| p.to_str().ok()).unwrap_or_default();
    let mut response = head(&parts, prefix);
    response.upgrade(protocol);
    let io = upgrading.await.map_err(|e| reach::unreachable(&e))?;
    let (read, mut write) = tokio::io::split(TokioIo::new(io));
    actors::spawn(async move {
        while let Some(Ok(piece)) = payload.next().await {
            if write.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    });
    let pieces = futures::stream::unfold(read, |mut read| async move {
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        match read.read(&mut buffer).await {
            Ok(0) => None,
            Ok(n) => {
                buffer.truncate(n);
                Some((Ok(Bytes::from(buffer)), read))
            }
            Err(e) => Some((Err(e), read)),
        }
    });
    Ok(response.streaming(pieces))
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
