//! Logs: plain text.

use actix_web::HttpResponse;
use actors::time;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use protocol::ApiError;
use protocol::streams::NodeStreams;

use super::options::{self, Query};
use super::target;

pub(super) async fn serve(
    nodes: &dyn NodeStreams,
    pod: &Pod,
    query: &Query<'_>,
) -> Result<HttpResponse, ApiError> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut request = options::log(query, name, time::now().into())?;
    let Some((node, target)) = target::logged(pod, query.first("container"), request.previous)? else {
        return Ok(HttpResponse::NoContent().insert_header(("Cache-Control", "no-cache, private")).finish());
    };
    let mut response = HttpResponse::Ok();
    response.insert_header(("Cache-Control", "no-cache, private")).content_type("text/plain");
    request.target = target;
    let pieces = nodes.logs(&node, request).await?;
    // An error that comes once text has been sent can only break the connection off.
    Ok(response.streaming(pieces.map(|piece| piece.map_err(actix_web::error::ErrorBadGateway))))
}
