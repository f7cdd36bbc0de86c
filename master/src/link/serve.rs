//! What the master does for a node over its link.

use std::sync::Arc;

use actors::AskError;
use actors::link::{LinkStream, Serve};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use protocol::link::{JoinQuestion, JoinRequest, RenewRequest, decode, encode, tag};
use protocol::{Api, ApiError, ApiRequest, Caller};
use serde::Serialize;

use super::join::Joining;

/// Who is at the other end.
pub(super) enum Service {
    /// A node, proven by its certificate.
    Node {
        /// Whom its requests are from: set here, whatever the node writes.
        caller: Arc<Caller>,
        /// The door to the pipeline.
        api: Arc<dyn Api>,
        /// The node's name.
        node: String,
        /// Who signs its certificates.
        joining: Arc<dyn Joining>,
    },
    /// Somebody without a certificate, who may only join.
    Newcomer {
        /// Who decides.
        joining: Arc<dyn Joining>,
    },
}

fn answer<T: Serialize>(value: &T) -> Result<Bytes, AskError> {
    encode(value).map_err(|e| {
        tracing::error!(error = %e, "an answer to a node could not be encoded");
        AskError::Closed
    })
}

fn malformed(e: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("malformed message on the link: {e}"))
}

#[async_trait]
impl Serve for Service {
    async fn ask(&self, asked: u16, payload: Bytes) -> Result<Bytes, AskError> {
        match (self, asked) {
            (Service::Node { caller, api, .. }, tag::CALL) => {
                let called = match decode::<ApiRequest>(&payload) {
                    Ok(request) => api.call(ApiRequest { caller: caller.clone(), ..request }).await,
                    Err(e) => Err(malformed(e)),
                };
                answer(&called)
            }
            (Service::Node { node, joining, .. }, tag::RENEW) => {
                let renewed = match decode::<RenewRequest>(&payload) {
                    Ok(request) => joining.renew(node, &request).await,
                    Err(e) => Err(malformed(e)),
                };
                answer(&renewed)
            }
            (Service::Newcomer { joining }, tag::JOIN_INFO) => {
                let told = match decode::<JoinQuestion>(&payload) {
                    Ok(question) => joining.prove(&question).await,
                    Err(e) => Err(malformed(e)),
                };
                answer(&told)
            }
            (Service::Newcomer { joining }, tag::JOIN) => {
                let granted = match decode::<JoinRequest>(&payload) {
                    Ok(request) => joining.grant(&request).await,
                    Err(e) => Err(malformed(e)),
                };
                answer(&granted)
            }
            _ => Err(AskError::Closed),
        }
    }

    async fn stream(&self, asked: u16, payload: Bytes, mut stream: LinkStream) {
        let Service::Node { caller, api, .. } = self else { return };
        if asked != tag::WATCH {
            return;
        }
        let opened = match decode::<ApiRequest>(&payload) {
            Ok(request) => api.watch(ApiRequest { caller: caller.clone(), ..request }).await,
            Err(e) => Err(malformed(e)),
        };
        let verdict = opened.as_ref().map(|_| ()).map_err(Clone::clone);
        let Ok(first) = answer(&verdict) else { return };
        if stream.send(first).await.is_err() {
            return;
        }
        let Ok(mut events) = opened else { return };
        loop {
            tokio::select! {
                event = events.next() => {
                    let Some(event) = event else { break };
                    let Ok(item) = answer(&event) else { break };
                    // A hop of the chain that the change belongs to: the link hands it to the node.
                    if stream.send(item).await.is_err() {
                        return;
                    }
                }
                // The node sends nothing on a watch: the end means that it has dropped it.
                _ = stream.receive() => return,
            }
        }
        stream.finish().await;
    }

    fn tag_name(&self, asked: u16) -> &'static str {
        tag::name(asked)
    }
}
