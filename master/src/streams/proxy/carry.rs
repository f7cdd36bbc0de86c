//! One HTTP request over one connection to somebody else's server, and its answer back.
//!
//! Nothing is held: bodies are passed on as they come, in both directions, as fast as the slower side takes them. A
//! request that upgrades (to a WebSocket, say) keeps the connection as a plain pipe.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, Either, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use protocol::ApiError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::reach::{self, Io};

/// The most that one read of an upgraded connection takes.
const PIECE_BYTES_MAX: usize = 16 * 1024;

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

/// How an answer is given back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Back<'a> {
    /// What redirects within the other server are put below.
    pub prefix: &'a str,
    /// How long its body may take; `None` for streams.
    pub time: Option<Duration>,
}

/// Serves a request by a connection: sends `asked` with the client's body, and gives back the answer.
pub(crate) async fn carry(
    io: Box<dyn Io>,
    mut asked: hyper::Request<()>,
    http: &HttpRequest,
    payload: web::Payload,
    back: Back<'_>,
) -> Result<HttpResponse, ApiError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|e| reach::unreachable(&e))?;
    actors::spawn(async move {
        // Its failure is the request's failure, or of no interest any more.
        let _ = connection.with_upgrades().await;
    });
    if let Some(protocol) = http.headers().get(header::UPGRADE) {
        set(asked.headers_mut(), "connection", b"Upgrade")?;
        set(asked.headers_mut(), "upgrade", protocol.as_bytes())?;
        let answer = sender.send_request(asked.map(|()| empty())).await;
        return upgraded(answer.map_err(|e| reach::unreachable(&e))?, payload, back).await;
    }
    let has_body = http.headers().contains_key(header::CONTENT_LENGTH)
        || http.headers().contains_key(header::TRANSFER_ENCODING);
    let body = if has_body || http.version() == actix_web::http::Version::HTTP_2 {
        passed_on(payload)
    } else {
        empty()
    };
    let answer = sender.send_request(asked.map(|()| body)).await.map_err(|e| reach::unreachable(&e))?;
    Ok(answered(answer, back))
}

/// The client's headers as the other server gets them: without those of the connection and those that `private`
/// names.
pub(crate) fn copy_headers(
    http: &HttpRequest,
    asked: &mut hyper::Request<()>,
    private: impl Fn(&HeaderName) -> bool,
) -> Result<(), ApiError> {
    let malformed = |e: &dyn std::fmt::Display| ApiError::bad_request(e.to_string());
    for (name, value) in http.headers() {
        if HOP_BY_HOP.contains(name) || private(name) || *name == header::HOST {
            continue;
        }
        let name =
            hyper::header::HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|e| malformed(&e))?;
        let value = hyper::header::HeaderValue::from_bytes(value.as_bytes()).map_err(|e| malformed(&e))?;
        asked.headers_mut().append(name, value);
    }
    Ok(())
}

/// Whom the request came from, and where to: what proxies tell.
pub(crate) fn set_forwarded(
    http: &HttpRequest,
    headers: &mut hyper::HeaderMap,
    scheme: &[u8],
    uri: &str,
) -> Result<(), ApiError> {
    // HTTP/2 has it in the request's own address.
    let host = http.headers().get(header::HOST).map(HeaderValue::as_bytes);
    let host = host.or_else(|| http.uri().authority().map(|authority| authority.as_str().as_bytes()));
    set(headers, "x-forwarded-host", host.unwrap_or_default())?;
    set(headers, "x-forwarded-proto", scheme)?;
    set(headers, "x-forwarded-uri", uri.as_bytes())?;
    if let Some(peer) = http.peer_addr() {
        set(headers, "x-forwarded-for", peer.ip().to_string().as_bytes())?;
    }
    Ok(())
}

/// Who the client is to the API server is nobody else's business.
pub(crate) fn is_private(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION || name.as_str().starts_with("impersonate-")
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

/// Sets a header.
pub(crate) fn set(headers: &mut hyper::HeaderMap, name: &str, value: &[u8]) -> Result<(), ApiError> {
    let name = hyper::header::HeaderName::from_bytes(name.as_bytes())
        .map_err(|e| ApiError::bad_request(e.to_string()))?;
    let value =
        hyper::header::HeaderValue::from_bytes(value).map_err(|e| ApiError::bad_request(e.to_string()))?;
    headers.insert(name, value);
    Ok(())
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

fn answered(answer: hyper::Response<Incoming>, back: Back<'_>) -> HttpResponse {
    let (parts, body) = answer.into_parts();
    let length = parts.headers.get(hyper::header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok());
    let mut response = head(&parts, back.prefix);
    if let Some(length) = length {
        response.no_chunking(length);
    }
    let pieces = body.into_data_stream().map(|piece| piece.map_err(std::io::Error::other));
    match back.time {
        Some(time) => response.streaming(pieces.take_until(Box::pin(tokio::time::sleep(time)))),
        None => response.streaming(pieces),
    }
}

/// The answer to a request that wanted to upgrade: from then on both sides' bytes are passed on, or, where
/// the other end did not want to, an answer like any other.
async fn upgraded(
    mut answer: hyper::Response<Incoming>,
    mut payload: web::Payload,
    back: Back<'_>,
) -> Result<HttpResponse, ApiError> {
    if answer.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answered(answer, back));
    }
    let upgrading = hyper::upgrade::on(&mut answer);
    let (parts, _) = answer.into_parts();
    let protocol =
        parts.headers.get(hyper::header::UPGRADE).and_then(|p| p.to_str().ok()).unwrap_or_default();
    let mut response = head(&parts, back.prefix);
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
    Ok(response.streaming(pieces(read)))
}

/// What is read, as it comes.
pub(crate) fn pieces(read: impl AsyncRead + Unpin) -> impl Stream<Item = std::io::Result<Bytes>> {
    futures::stream::unfold(read, |mut read| async move {
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        match read.read(&mut buffer).await {
            Ok(0) => None,
            Ok(n) => {
                buffer.truncate(n);
                Some((Ok(Bytes::from(buffer)), read))
            }
            Err(e) => Some((Err(e), read)),
        }
    })
}
