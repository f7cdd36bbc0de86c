//! Connections to other API servers, and questions that this server asks them itself.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Service;
use protocol::{ApiError, Caller};
use rustls::pki_types::ServerName;

use super::Aggregation;
use super::identity::speak_for;
use super::services::Backend;
use crate::streams::proxy::carry::set;
use crate::streams::proxy::place::Named;
use crate::streams::proxy::reach::{Io, dialled, plain, secured, unreachable};
use crate::streams::proxy::service_place;

/// A question of this server's own.
pub struct Question<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// JSON that goes with it, or nothing.
    pub body: Bytes,
    /// On whose behalf.
    pub caller: &'a Caller,
    /// Media types that are understood.
    pub accept: &'a str,
    /// How long the answer may take.
    pub time: Duration,
    /// How long, in bytes, it may be.
    pub bytes_max: usize,
    /// Who answers must prove who it is.
    pub checked: bool,
}

/// What another server said.
pub struct Said {
    /// HTTP status code.
    pub code: u16,
    /// The body.
    pub body: Bytes,
}

impl Aggregation {
    /// Connects to a server.
    pub(super) async fn connect(&self, backend: &Backend, checked: bool) -> Result<Box<dyn Io>, ApiError> {
        let unavailable = || ApiError::new(503, "ServiceUnavailable", "service unavailable");
        let service =
            self.cache.get::<Service>(&backend.namespace, &backend.service).ok_or_else(unavailable)?;
        let external = service.spec.as_ref().filter(|s| s.type_.as_deref() == Some("ExternalName"));
        let io = match external {
            Some(spec) => {
                let host = spec.external_name.as_deref().ok_or_else(unavailable)?;
                dialled(host, backend.port).await?
            }
            None => {
                let port = backend.port.to_string();
                let asked = Named { scheme: "https", name: &backend.service, port: &port };
                let place = service_place(&self.cache, &service, asked).map_err(|_| unavailable())?;
                plain(&*self.nodes, &place).await?
            }
        };
        let config = if checked { self.identity.tls(backend) } else { self.identity.unchecked(backend) };
        let config = config.map_err(|why| ApiError::new(500, "", why))?;
        let name = ServerName::try_from(backend.host()).map_err(|e| unreachable(&e))?;
        Ok(secured(io, config, name).await?)
    }

    /// Asks a server something, in bounded time and with a bounded answer.
    pub async fn ask(&self, backend: &Backend, question: &Question<'_>) -> Result<Said, ApiError> {
        let asking = tokio::time::timeout(question.time, self.asked(backend, question));
        asking.await.unwrap_or_else(|_| Err(unreachable(&"context deadline exceeded")))
    }

    async fn asked(&self, backend: &Backend, question: &Question<'_>) -> Result<Said, ApiError> {
        let io = self.connect(backend, question.checked).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|e| unreachable(&e))?;
        actors::spawn(async move {
            // Its failure is the question's failure.
            let _ = connection.await;
        });
        let mut request = hyper::Request::builder()
            .method(question.method)
            .uri(question.path)
            .body(Full::new(question.body.clone()))
            .map_err(ApiError::internal)?;
        let headers = request.headers_mut();
        set(headers, "host", backend.host().as_bytes())?;
        set(headers, "accept", question.accept.as_bytes())?;
        if !question.body.is_empty() {
            set(headers, "content-type", b"application/json")?;
        }
        speak_for(question.caller, headers)?;
        let answer = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
        let code = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), question.bytes_max).collect().await.map_err(|e| {
            match e.downcast_ref::<LengthLimitError>() {
                Some(_) => unreachable(&format!("the answer is longer than {} bytes", question.bytes_max)),
                None => unreachable(&e),
            }
        })?;
        Ok(Said { code, body: body.to_bytes() })
    }
}
