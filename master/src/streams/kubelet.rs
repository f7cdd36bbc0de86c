//! Kubelets of nodes that have made no link, upstream's own say: HTTPS to their port.
//!
//! - `address`: where that is; `ask`: a request over a connection of its own, upgraded or not.
//! - `carry`: exec, attach and port-forward, as SPDY streams on one side and frames on the other.

mod address;
mod ask;
mod carry;

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::Method;
use k8s_openapi::api::core::v1::Node;
use protocol::ApiError;
use protocol::streams::{
    AttachRequest, ContainerTarget, DialRequest, ExecRequest, FrameStream, LogBytes, LogRequest, LogStream,
    NodeStreams, PortForwardRequest, Stdio,
};
use rustls::ClientConfig;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cache::Cache;
pub(super) use address::is_linked;
use address::{Address, PREFERRED};
use ask::Path;

/// The ways to kubelets by their own ports. Cheap to clone.
#[derive(Clone)]
pub struct Kubelets {
    cache: Cache,
    tls: Arc<ClientConfig>,
    /// Types of node addresses, the best first.
    preferred: Arc<[String]>,
}

impl Kubelets {
    /// Finds nodes in `cache`, takes their first address of the types `preferred` (usual ones if it is empty), and
    /// speaks TLS as `tls` says.
    pub fn new(cache: Cache, tls: Arc<ClientConfig>, preferred: &[String]) -> Self {
        let preferred = match preferred {
            [] => PREFERRED.map(str::to_owned).into(),
            types => types.into(),
        };
        Kubelets { cache, tls, preferred }
    }

    fn address(&self, node: &str) -> Result<Address, ApiError> {
        let found = self.cache.get::<Node>("", node).ok_or_else(|| ApiError::not_found("", "nodes", node))?;
        address::of(&found, &self.preferred)
    }

    /// Starts a process's streams.
    async fn process(&self, node: &str, path: Path, stdio: Stdio) -> Result<FrameStream, ApiError> {
        let path = path
            .flag("input", "1", stdio.stdin)
            .flag("output", "1", stdio.stdout)
            .flag("error", "1", stdio.stderr)
            .flag("tty", "1", stdio.tty);
        let session = ask::upgrade(&self.address(node)?, &self.tls, &path, carry::PROCESS_PROTOCOLS).await?;
        carry::process(session, stdio).await
    }
}

fn in_pod(what: &str, target: &ContainerTarget) -> Path {
    Path::new(what).segment(&target.namespace).segment(&target.pod)
}

fn in_container(what: &str, target: &ContainerTarget) -> Path {
    in_pod(what, target).segment(&target.container)
}

#[async_trait]
impl NodeStreams for Kubelets {
    async fn exec(&self, node: &str, request: ExecRequest) -> Result<FrameStream, ApiError> {
        let mut path = in_container("exec", &request.target);
        for argument in &request.command {
            path = path.parameter("command", argument);
        }
        self.process(node, path, request.stdio).await
    }

    async fn attach(&self, node: &str, request: AttachRequest) -> Result<FrameStream, ApiError> {
        self.process(node, in_container("attach", &request.target), request.stdio).await
    }

    async fn port_forward(&self, node: &str, request: PortForwardRequest) -> Result<FrameStream, ApiError> {
        let path = in_pod("portForward", &request.target);
        let session = ask::upgrade(&self.address(node)?, &self.tls, &path, carry::PORT_PROTOCOLS).await?;
        carry::port(session, request.port).await
    }

    async fn dial(&self, node: &str, _: DialRequest) -> Result<FrameStream, ApiError> {
        Err(ApiError::internal(format!("node \"{node}\" makes no connections for this master")))
    }

    fn dials(&self, _: &str) -> bool {
        false
    }

    async fn logs(&self, node: &str, request: LogRequest) -> Result<LogBytes, ApiError> {
        let answer =
            ask::send(&self.address(node)?, &self.tls, Method::GET, &log_path(&request), &[]).await?;
        if answer.status() != hyper::StatusCode::OK {
            return Err(log_refusal(answer.status().as_u16(), ask::text(answer).await, &request.target.pod));
        }
        let pieces = answer.into_body().into_data_stream();
        Ok(pieces.map(|piece| piece.map_err(ApiError::internal)).boxed())
    }
}

fn log_path(request: &LogRequest) -> Path {
    let mut path = in_container("containerLogs", &request.target)
        .flag("follow", "true", request.follow)
        .flag("previous", "true", request.previous)
        .flag("timestamps", "true", request.timestamps);
    let since = request.since_unix_nanos.map(i128::from);
    let since = since.and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok());
    if let Some(text) = since.and_then(|time| time.format(&Rfc3339).ok()) {
        path = path.parameter("sinceTime", &text);
    }
    for (name, number) in [("tailLines", request.tail_lines), ("limitBytes", request.limit_bytes)] {
        if let Some(number) = number {
            path = path.parameter(name, &number.to_string());
        }
    }
    match request.stream {
        LogStream::All => path,
        LogStream::Stdout => path.parameter("stream", "Stdout"),
        LogStream::Stderr => path.parameter("stream", "Stderr"),
    }
}

/// What a client is told of a log that a kubelet does not give.
fn log_refusal(code: u16, text: String, pod: &str) -> ApiError {
    match code {
        400 => ApiError::bad_request(text),
        404 => ApiError::new(
            404,
            "NotFound",
            format!("the server could not find the requested resource ( pods/log {pod})"),
        ),
        _ => ApiError::internal(text),
    }
}

#[cfg(test)]
mod tests;
