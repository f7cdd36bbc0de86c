//! Streams between HTTP clients and containers: exec, attach, port-forward and logs.
//!
//! A request arrives here authenticated and authorized. This module finds the pod in the cache, opens a
//! stream to its node through [`NodeStreams`], and carries [`Frame`](protocol::streams::Frame)s between the
//! two in whichever language the client speaks. It never looks inside what it carries.
//!
//! - `options`: query parameters; `target`: which container of which pod, and whether it can be reached.
//! - `proxy`: HTTP to pods, Services and nodes.
//! - [`ways`]: to a node by its link, or to its kubelet's port (`kubelet`).
//! - `log`: text; `websocket`, `ports`: exec, attach and port-forward over WebSocket channels.
//! - [`door`]: makes actix give us the bytes of a connection upgraded to SPDY.
//! - [`spdy`]: many streams over one connection; `upgrade`: what it runs over; `terminal`, `forward`: exec,
//!   attach and port-forward over it.

pub mod door;
mod forward;
pub(crate) mod kubelet;
mod log;
mod options;
mod ports;
pub(crate) mod proxy;
pub mod spdy;
mod target;
mod terminal;
mod upgrade;
pub mod ways;
mod websocket;

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, UPGRADE};
use actix_web::{HttpRequest, HttpResponse, web};
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::Pod;
use protocol::streams::{AttachRequest, ExecRequest, FrameStream, NodeStreams, Stdio};
use protocol::{ApiError, ApiRequest};

use crate::cache::Cache;
use crate::front::StreamRouter;

use forward::Ports;
use options::Query;
use spdy::Session;

/// Serves streams into pods, and proxies: finds objects in `cache`, reaches nodes through `nodes`, speaks TLS
/// to kubelets as `kubelet` says.
pub fn router(
    cache: Cache,
    nodes: Arc<dyn NodeStreams>,
    kubelet: Arc<rustls::ClientConfig>,
) -> Arc<dyn StreamRouter> {
    Arc::new(Router { cache, nodes, tls: proxy::Tls::new(kubelet) })
}

#[derive(Clone)]
struct Router {
    cache: Cache,
    nodes: Arc<dyn NodeStreams>,
    tls: proxy::Tls,
}

impl StreamRouter for Router {
    fn serve(
        &self,
        http: HttpRequest,
        payload: web::Payload,
        request: ApiRequest,
        _rest: String,
    ) -> LocalBoxFuture<'static, HttpResponse> {
        let router = self.clone();
        Box::pin(async move {
            match router.route(http, payload, &request).await {
                Ok(response) => response,
                Err(e) => refusal(&e),
            }
        })
    }
}

/// What the client wants to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    WebSocket,
    Spdy,
}

impl Language {
    fn of(headers: &HeaderMap) -> Result<Language, ApiError> {
        let said = headers.get(UPGRADE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if said.eq_ignore_ascii_case("websocket") {
            return Ok(Language::WebSocket);
        }
        if said.eq_ignore_ascii_case("SPDY/3.1") {
            return Ok(Language::Spdy);
        }
        Err(ApiError::bad_request("Upgrade request required"))
    }
}

impl Router {
    async fn route(
        &self,
        http: HttpRequest,
        payload: web::Payload,
        request: &ApiRequest,
    ) -> Result<HttpResponse, ApiError> {
        let target = &request.target;
        let query = Query(&request.options.extra);
        let subresource = target.subresource.as_deref().unwrap_or_default();
        match (target.resource.as_str(), subresource) {
            ("pods", "log") => log::serve(&*self.nodes, &*self.pod(request)?, &query).await,
            ("pods", "exec" | "attach") => {
                let pod = self.pod(request)?;
                let (node, target) = target::running(&pod, query.first("container"))?;
                let language = Language::of(http.headers())?;
                let stdio = options::stdio(&query)?;
                let frames = if subresource == "exec" {
                    let command = query.all("command");
                    if command.is_empty() {
                        return Err(ApiError::bad_request(
                            "you must specify at least 1 command for the container",
                        ));
                    }
                    self.nodes.exec(&node, ExecRequest { target, command, stdio }).await?
                } else {
                    self.nodes.attach(&node, AttachRequest { target, stdio }).await?
                };
                self.carry(language, http, payload, stdio, frames)
            }
            ("pods", "portforward") => {
                let pod = self.pod(request)?;
                self.forward(http, payload, &pod, &query)
            }
            ("pods" | "services" | "nodes", "proxy") => {
                let place = proxy::place(&self.cache, request)?;
                proxy::serve(&*self.nodes, &self.tls, &place, http, payload, request).await
            }
            _ => Err(unsupported(request)),
        }
    }

    fn carry(
        &self,
        language: Language,
        http: HttpRequest,
        payload: web::Payload,
        stdio: Stdio,
        frames: FrameStream,
    ) -> Result<HttpResponse, ApiError> {
        match language {
            Language::WebSocket => websocket::serve(&http, payload, stdio, frames),
            Language::Spdy => {
                let protocol = upgrade::choose(&http, terminal::PROTOCOLS)?;
                let (response, inbound, outbound) = upgrade::raw(payload, protocol);
                actors::spawn(terminal::carry(Session::new(inbound, outbound), protocol, stdio, frames));
                Ok(response)
            }
        }
    }

    fn forward(
        &self,
        http: HttpRequest,
        payload: web::Payload,
        pod: &Pod,
        query: &Query<'_>,
    ) -> Result<HttpResponse, ApiError> {
        let (node, target) = target::whole_pod(pod)?;
        let language = Language::of(http.headers())?;
        let ports = Ports { nodes: self.nodes.clone(), node, target };
        match language {
            Language::Spdy => {
                let protocol = upgrade::choose(&http, forward::PROTOCOLS)?;
                let (response, inbound, outbound) = upgrade::raw(payload, protocol);
                actors::spawn(forward::carry(Session::new(inbound, outbound), ports));
                Ok(response)
            }
            Language::WebSocket if websocket::offered(&http).iter().any(|p| p == forward::TUNNEL) => {
                let (response, session, messages) = websocket::open(&http, payload, forward::TUNNEL)?;
                let (inbound, outbound) = upgrade::tunnel(session, messages);
                actors::spawn(forward::carry(Session::new(inbound, outbound), ports));
                Ok(response)
            }
            Language::WebSocket => ports::serve(&http, payload, ports, &query.all("ports")),
        }
    }

    fn pod(&self, request: &ApiRequest) -> Result<Arc<Pod>, ApiError> {
        let namespace = request.target.namespace.as_deref().unwrap_or_default();
        let name = request.target.name.as_deref().unwrap_or_default();
        self.cache.get::<Pod>(namespace, name).ok_or_else(|| ApiError::not_found("", "pods", name))
    }
}

fn unsupported(request: &ApiRequest) -> ApiError {
    let target = &request.target;
    let subresource = target.subresource.as_deref().unwrap_or_default();
    ApiError::new(
        501,
        "NotImplemented",
        format!("{}/{subresource} is not served by this server", target.resource),
    )
}

fn refusal(error: &ApiError) -> HttpResponse {
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(code)
        .insert_header(("Cache-Control", "no-cache, private"))
        .content_type("application/json")
        .body(error.to_body())
}

#[cfg(test)]
mod tests;
