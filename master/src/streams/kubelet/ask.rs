//! A request to a kubelet, over a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::ApiError;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::address::Address;
use crate::streams::proxy::{carry, reach};
use crate::streams::spdy::{Session, WRITES_WAITING_MAX};
use crate::streams::upgrade::STREAM_PROTOCOL;

/// How long a kubelet may take to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The most of a refusal's text that is read.
const TEXT_BYTES_MAX: usize = 4096;

/// A client's end of a connection to a kubelet.
pub(super) type KubeletSession = Session<BoxStream<'static, Bytes>>;

/// A path and its parameters, escaped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path(String);

impl Path {
    pub fn new(first: &str) -> Self {
        Path(format!("/{first}"))
    }

    pub fn segment(self, text: &str) -> Self {
        Path(format!("{}/{}", self.0, escaped(text)))
    }

    pub fn parameter(self, name: &str, value: &str) -> Self {
        let mark = if self.0.contains('?') { '&' } else { '?' };
        Path(format!("{}{mark}{name}={}", self.0, escaped(value)))
    }

    /// Says that something is wanted, which kubelets read as a number at some places and as a word at others.
    pub fn flag(self, name: &str, yes: &str, wanted: bool) -> Self {
        if wanted { self.parameter(name, yes) } else { self }
    }

    #[cfg(test)]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Everything but what RFC 3986 leaves alone, in hexadecimal.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Sends a request without a body; `headers` are further ones.
pub(super) async fn send(
    at: &Address,
    tls: &Arc<ClientConfig>,
    method: Method,
    path: &Path,
    headers: &[(&str, &str)],
) -> Result<Response<Incoming>, ApiError> {
    let asking = async {
        // Upgrades are tunnels, of which clients are told no address.
        let what = match method == Method::GET {
            true => format!("Get \"https://{at}{}\"", path.0),
            false => "error dialing backend".to_owned(),
        };
        let failed = |why: &dyn std::fmt::Display| ApiError::new(500, "", format!("{what}: {why}"));
        let io = reach::dialled(&at.host, at.port).await.map_err(|e| failed(&e))?;
        let name = ServerName::try_from(at.host.clone()).map_err(|e| failed(&e))?;
        let io = reach::secured(io, tls.clone(), name).await.map_err(|e| failed(&e))?;
        let mut request = Request::builder().method(method).uri(&path.0).header(HOST, at.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| failed(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|e| failed(&e))?;
        // Its failure is the request's failure, or of no interest any more.
        tokio::spawn(async move { connection.with_upgrades().await });
        sender.send_request(request).await.map_err(|e| failed(&e))
    };
    let late = || ApiError::new(500, "", format!("the kubelet at {at} did not answer"));
    tokio::time::timeout(ANSWER_TIMEOUT, asking).await.map_err(|_| late())?
}

/// Asks for SPDY, and for the first of `protocols` over it that the kubelet knows.
pub(super) async fn upgrade(
    at: &Address,
    tls: &Arc<ClientConfig>,
    path: &Path,
    protocols: &[&str],
) -> Result<KubeletSession, ApiError> {
    let mut headers = vec![(CONNECTION.as_str(), "Upgrade"), (UPGRADE.as_str(), "SPDY/3.1")];
    headers.extend(protocols.iter().map(|protocol| (STREAM_PROTOCOL, *protocol)));
    let mut answer = send(at, tls, Method::POST, path, &headers).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        // Clients say themselves that it was an upgrade that failed.
        let code = answer.status().as_u16();
        return Err(ApiError::new(if code < 400 { 502 } else { code }, "", text(answer).await.trim_end()));
    }
    let chosen = answer.headers().get(STREAM_PROTOCOL).map(HeaderValue::as_bytes);
    if !protocols.iter().any(|known| Some(known.as_bytes()) == chosen) {
        return Err(ApiError::new(502, "", "no protocol in common with the kubelet"));
    }
    let upgraded = hyper::upgrade::on(&mut answer).await.map_err(ApiError::internal)?;
    let (read, mut write) = tokio::io::split(TokioIo::new(upgraded));
    let (outbound, mut written) = mpsc::channel::<Bytes>(WRITES_WAITING_MAX);
    tokio::spawn(async move {
        while let Some(bytes) = written.recv().await {
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    });
    let inbound = carry::pieces(read)
        .take_while(|piece| std::future::ready(piece.is_ok()))
        .filter_map(|piece| std::future::ready(piece.ok()));
    Ok(Session::client(inbound.boxed(), outbound))
}

/// The text of an answer, cut where it is long.
pub(super) async fn text(answer: Response<Incoming>) -> String {
    let body = Limited::new(answer.into_body(), TEXT_BYTES_MAX).collect();
    match tokio::time::timeout(ANSWER_TIMEOUT, body).await {
        Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Ok(Err(_)) | Err(_) => "the kubelet's answer could not be read".to_owned(),
    }
}
