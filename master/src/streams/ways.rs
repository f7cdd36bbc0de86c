//! The way to a node: the link that it has made, or its kubelet's own port.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;
use protocol::ApiError;
use protocol::streams::{
    AttachRequest, DialRequest, ExecRequest, FrameStream, LogBytes, LogRequest, NodeStreams,
    PortForwardRequest,
};

use super::kubelet::{Kubelets, is_linked};
use crate::cache::Cache;
use crate::link::Nodes;

/// Both ways. Cheap to clone.
#[derive(Clone)]
pub struct Ways {
    cache: Cache,
    links: Nodes,
    kubelets: Kubelets,
}

impl Ways {
    /// Which of the two it is, a node's object in `cache` says.
    pub fn new(cache: Cache, links: Nodes, kubelets: Kubelets) -> Self {
        Ways { cache, links, kubelets }
    }

    /// A node of ours that has no link now cannot be reached at all: its own port serves no streams.
    fn to(&self, node: &str) -> &dyn NodeStreams {
        let is_ours = || self.cache.get::<Node>("", node).is_some_and(|node| is_linked(&node));
        if self.links.is_connected(node) || is_ours() { &self.links } else { &self.kubelets }
    }
}

#[async_trait]
impl NodeStreams for Ways {
    async fn exec(&self, node: &str, request: ExecRequest) -> Result<FrameStream, ApiError> {
        self.to(node).exec(node, request).await
    }

    async fn attach(&self, node: &str, request: AttachRequest) -> Result<FrameStream, ApiError> {
        self.to(node).attach(node, request).await
    }

    async fn port_forward(&self, node: &str, request: PortForwardRequest) -> Result<FrameStream, ApiError> {
        self.to(node).port_forward(node, request).await
    }

    async fn dial(&self, node: &str, request: DialRequest) -> Result<FrameStream, ApiError> {
        self.to(node).dial(node, request).await
    }

    fn dials(&self, node: &str) -> bool {
        self.to(node).dials(node)
    }

    async fn logs(&self, node: &str, request: LogRequest) -> Result<LogBytes, ApiError> {
        self.to(node).logs(node, request).await
    }
}
